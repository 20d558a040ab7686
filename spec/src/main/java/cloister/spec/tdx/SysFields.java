package cloister.spec.tdx;

/// Module-scope fields, one row per field. [TDX-ABI "Metadata (Non-Memory State)
/// Fields"] Columns: [FieldTable].
final class SysFields {
    static final String ROWS = """
            NUM_PKGS                           0000000200000000 1  1 0 * - - - - - -
            PKG_FMS                            0000000200000001 8  1 0 * - - - - - -
            VENDOR_ID                          0800000200000000 1  1 0 * - - - * - -
            BUILD_DATE                         8800000200000001 1  1 0 * - - - - - -
            BUILD_NUM                          8800000100000002 1  1 0 * - - - - - -
            MINOR_VERSION                      0800000100000003 1  1 0 * - - - * - -
            MAJOR_VERSION                      0800000100000004 1  1 0 * - - - * - -
            UPDATE_VERSION                     0800000100000005 1  1 0 * - - - - - -
            INTERNAL_VERSION                   0800000100000006 1  1 0 * - - - - - -
            MODULE_HV                          8900000100000000 1  1 0 * - - - - - -
            MIN_UPDATE_HV                      8900000100000001 1  1 0 * - - - - - -
            NO_DOWNGRADE                       8900000000000002 1  1 0 * - - - - - -
            NUM_HANDOFF_PAGES                  8900000100000003 1  1 0 * - - - - - -
            HANDOFF_DATA_VALID                 8900000000000004 1  1 0 * - - - - - -
            HANDOFF_DATA_HV                    8900000100000005 1  1 0 * - - - - - -
            HANDOFF_DATA_SIZE                  8900000200000006 1  1 0 * - - - - - -
            SYS_ATTRIBUTES                     0a00000200000000 1  1 0 * - - - * - -
            NUM_TDX_FEATURES                   0a00000000000001 1  1 0 * - - - * - -
            TDX_FEATURES0                      0a00000300000008 1  1 0 * - - - * - R
            NUM_CMRS                           9000000100000000 1  1 0 * - - - - - -
            CMR_BASE                           9000000300000080 32 1 0 * - - - - - -
            CMR_SIZE                           9000000300000100 32 1 0 * - - - - - -
            MAX_TDMRS                          9100000100000008 1  1 0 * - - - - - -
            MAX_RESERVED_PER_TDMR              9100000100000009 1  1 0 * - - - - - -
            PAMT_4K_ENTRY_SIZE                 9100000100000010 1  1 0 * - - - - - -
            PAMT_2M_ENTRY_SIZE                 9100000100000011 1  1 0 * - - - - - -
            PAMT_1G_ENTRY_SIZE                 9100000100000012 1  1 0 * - - - - - -
            TDR_BASE_SIZE                      9800000100000000 1  1 0 * - - - - - -
            TDCS_BASE_SIZE                     9800000100000100 1  1 0 * - - - - - -
            TDCS_SIZE_PER_L2_VM                9800000100000101 1  1 0 * - - - - - -
            TDVPS_BASE_SIZE                    9800000100000200 1  1 0 * - - - - - -
            TDVPS_SIZE_PER_L2_VM               9800000100000201 1  1 0 * - - - - - -
            ATTRIBUTES_FIXED0                  1900000300000000 1  1 0 * - - - - - -
            ATTRIBUTES_FIXED1                  1900000300000001 1  1 0 * - - - - - -
            XFAM_FIXED0                        1900000300000002 1  1 0 * - - - - - -
            XFAM_FIXED1                        1900000300000003 1  1 0 * - - - - - -
            NUM_CPUID_CONFIG                   9900000100000004 1  1 0 * - - - - - -
            CONFIG_FLAGS_FIXED0                9900000300000006 1  1 0 * - - - - - -
            CONFIG_FLAGS_FIXED1                9900000300000007 1  1 0 * - - - - - -
            MAX_VCPUS_PER_TD                   9900000100000008 1  1 0 * - - - - - -
            MIN_VIRT_MAXPA                     9900000000000009 1  1 0 * - - - - - -
            CPUID_CONFIG_LEAVES                9900000300000400 32 1 0 * - - - - - R
            CPUID_CONFIG_VALUES                9900000300000500 32 2 0 * - - - - - R
            IA32_ARCH_CAPABILITIES_CONFIG_MASK 9900000300000600 1  1 0 * - - - - - -
            NUM_ALLOWED_FMS                    9900000100000800 1  1 0 * - - - - - R
            NUM_DISALLOWED_FMS                 9900000100000801 1  1 0 * - - - - - R
            ALLOWED_FMS                        9900000300000810 64 1 0 * - - - - - R
            DISALLOWED_FMS                     9900000300000850 64 1 0 * - - - - - R
            MIG_ATTRIBUTES                     a000000300000000 1  1 0 * - - - * - -
            MIN_EXPORT_VERSION                 2000000100000001 1  1 0 * - - - * - -
            MAX_EXPORT_VERSION                 2000000100000002 1  1 0 * - - - * - -
            MIN_IMPORT_VERSION                 2000000100000003 1  1 0 * - - - * - -
            MAX_IMPORT_VERSION                 2000000100000004 1  1 0 * - - - * - -
            MAX_MIGS                           a000000100000010 1  1 0 * - - - - - -
            NUM_IMMUTABLE_STATE_PAGES          a000000000000020 1  1 0 * - - - - - -
            NUM_TD_STATE_PAGES                 a000000000000021 1  1 0 * - - - - - -
            NUM_VP_STATE_PAGES                 a000000000000022 1  1 0 * - - - - - -
            MAX_SERV_TDS                       a100000100000000 1  1 0 * - - - - - -
            SERVTD_ATTR_FIXED0                 a100000300000001 1  1 0 * - - - - - -
            SERVTD_ATTR_FIXED1                 a100000300000002 1  1 0 * - - - - - -
            GUEST_L2_GPA_ATTR_MASK             a200000100000000 1  1 0 * - - - * - -
            VM_CTLS_FIXED0                     a200000300000001 1  1 0 * - - - - - -
            VM_CTLS_FIXED1                     a200000300000002 1  1 0 * - - - - - -
            VPCU_L2_CTLS_FIXED0                a200000300000003 1  1 0 * - - - - - -
            VCPU_L2_CTLS_FIXED1                a200000300000004 1  1 0 * - - - - - -
            VPCU_L2_DEBUG_CTLS_FIXED0          a200000300000005 1  1 0 * - - - - - -
            VCPU_L2_DEBUG_CTLS_FIXED1          a200000300000006 1  1 0 * - - - - - -
            """;

    private SysFields() {
    }
}
