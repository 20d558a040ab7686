package cloister.spec.tdx;

/// TD-scope fields (TDR and TDCS), one row per field. [TDX-ABI "Metadata (Non-Memory State)
/// Fields"] Columns: [FieldTable].
final class TdFields {
    static final String ROWS = """
            FATAL                                8010000000000001 1   1  0    * - * - - - -
            NUM_TDCX                             8010000200000002 1   1  4    * - * - - - -
            CHLDCNT                              8010000300000004 1   1  8    * - * - - - -
            LIFECYCLE_STATE                      8010000200000005 1   1  10   * - * - - - -
            TDCX_PA                              8010000300000010 9   1  18   * - * - - - -
            TD_UUID                              8010000300000020 1   4  60   * - * - * - W
            HKID                                 8110000100000001 1   1  100  * - * - - - -
            PKG_CONFIG_BITMAP                    8110000300000002 1   1  108  * - * - - - -
            HANDOFF_VERSION                      8210000100000000 1   1  140  * - * - - - -
            SEAMDB_INDEX                         8210000300000001 1   1  148  * - * - - - -
            SEAMDB_NONCE                         8210000300000002 1   4  150  - - - - - - -
            NUM_VCPUS                            9010000200000001 1   1  0    * - * - * - W
            NUM_ASSOC_VCPUS                      9010000200000002 1   1  4    * - * - - - -
            OP_STATE                             9010000200000004 1   1  8    * - * - - - -
            NUM_L2_VMS                           9010000100000005 1   1  10   * - * - * - W
            ATTRIBUTES                           1110000300000000 1   1  80   * - * - * - W
            XFAM                                 1110000300000001 1   1  88   * - * - * - W
            MAX_VCPUS                            1110000200000002 1   1  90   * - * - * - -
            GPAW                                 1110000000000003 1   1  94   * - * - * - -
            EPTP                                 1110000300000004 1   1  98   * - * - - - W
            TSC_OFFSET                           111000030000000a 1   1  a8   * - * - - - -
            TSC_MULTIPLIER                       111000030000000b 1   1  b0   * - * - - - -
            TSC_FREQUENCY                        111000010000000c 1   1  b8   * - * - * - W
            VIRTUAL_TSC                          111000030000000d 1   1  ba   - - - - - - RW
            NUM_CPUID_VALUES                     911000010000000e 1   1  ba   * - * - - - RW
            XBUFF_SIZE                           911000020000000f 1   1  dc   * - * - - - -
            NOTIFY_ENABLES                       9110000300000010 1   1  e0   - - * 1 1 1 -
            HP_LOCK_TIMEOUT                      9110000300000011 1   1  e8   * * * * - - RW
            VM_CTLS                              9110000300000012 4   1  f0   * 1 * 1 - - -
            CONFIG_FLAGS                         9110000300000016 1   1  118  * - * - * - W
            TD_CTLS                              9110000300000017 1   1  120  - - * - * 7 W
            VIRT_MAXPA                           9110000000000018 1   1  128  * - * - - - -
            TOPOLOGY_ENUM_CONFIGURED             9110000000000019 1   1  12c  * - * - * - -
            CPUID_VALID                          9110000000000080 80  1  134  - - * - - - -
            XBUFF_OFFSETS                        9110000200000800 19  1  190  * - * - - - -
            TD_EPOCH                             9210000300000000 1   1  200  * - * - - - -
            REFCOUNT                             9210000100000001 2   1  208  * - * - - - -
            MRTD                                 1310000300000000 1   6  240  * - * - * - -
            MRCONFIGID                           1310000300000010 1   6  270  * - * - * - -
            MROWNER                              1310000300000018 1   6  2a0  * - * - * - -
            MROWNERCONFIG                        1310000300000020 1   6  2d0  * - * - * - -
            RTMR                                 1310000300000040 4   6  300  - - * - * - -
            CPUID_VALUES                         9410000300000000 80  2  800  * - * - - - RW
            VIRTUAL_IA32_ARCH_CAPABILITIES       961000030000010a 1   1  778  - - * - - - W
            VIRTUAL_IA32_VMX_BASIC               9610000300000480 1   1  700  - - * - - - -
            VIRTUAL_IA32_VMX_MISC                9610000300000485 1   1  708  - - * - - - -
            VIRTUAL_IA32_VMX_CR0_FIXED0          9610000300000486 1   1  710  - - * - - - -
            VIRTUAL_IA32_VMX_CR0_FIXED1          9610000300000487 1   1  718  - - * - - - -
            VIRTUAL_IA32_VMX_CR4_FIXED0          9610000300000488 1   1  720  - - * - - - -
            VIRTUAL_IA32_VMX_CR4_FIXED1          9610000300000489 1   1  728  - - * - - - -
            VIRTUAL_IA32_VMX_PROCBASED_CTLS2     961000030000048b 1   1  730  - - * - - - -
            VIRTUAL_IA32_VMX_EPT_VPID_CAP        961000030000048c 1   1  738  - - * - - - -
            VIRTUAL_IA32_VMX_TRUE_PINBASED_CTLS  961000030000048d 1   1  740  - - * - - - -
            VIRTUAL_IA32_VMX_TRUE_PROCBASED_CTLS 961000030000048e 1   1  748  - - * - - - -
            VIRTUAL_IA32_VMX_TRUE_EXIT_CTLS      961000030000048f 1   1  750  - - * - - - -
            VIRTUAL_IA32_VMX_TRUE_ENTRY_CTLS     9610000300000490 1   1  758  - - * - - - -
            VIRTUAL_IA32_VMX_VMFUNC              9610000300000491 1   1  760  - - * - - - -
            VIRTUAL_IA32_VMX_PROCBASED_CTLS3     9610000300000492 1   1  768  - - * - - - -
            VIRTUAL_IA32_VMX_EXIT_CTLS2          9610000300000493 1   1  770  - - * - - - -
            MIG_DEC_KEY_SET                      9810000000000001 1   1  580  * - * - - - -
            EXPORT_COUNT                         9810000200000002 1   1  584  * - * - - - -
            IMPORT_COUNT                         9810000200000003 1   1  588  * - * - - - -
            MIG_EPOCH                            9810000200000004 1   1  58c  * - * - - - -
            BW_EPOCH                             9810000300000005 1   1  590  * - * - - - -
            TOTAL_MB_COUNT                       9810000300000006 1   1  598  * - * - - - -
            MIG_DEC_KEY                          9810000300000010 1   4  5a0  - - * - - - W
            MIG_DEC_WORKING_KEY                  9810000300000014 1   4  5c0  - - * - - - -
            MIG_ENC_KEY                          9810000300000018 1   4  5e0  - - * - - - R
            MIG_ENC_WORKING_KEY                  981000030000001c 1   4  600  - - * - - - -
            MIG_VERSION                          9810000100000020 1   1  620  * - * - - - W
            MIG_WORKING_VERSION                  9810000100000021 1   1  622  * - * - - - -
            DIRTY_COUNT                          9810000300000030 1   1  628  * - * - - - -
            MIG_COUNT                            9810000300000031 1   1  630  * - * - - - -
            NUM_MIGS                             9810000100000032 1   1  638  * - * - - - -
            NUM_MIGRATED_VCPUS                   9810000200000034 1   1  63c  * - * - - - -
            PRE_IMPORT_UUID                      9810000300000040 1   4  640  * - * - * - -
            SERVTD_HASH                          9910000300000000 1   6  d00  * - * - * - -
            SERVTD_NUM                           9910000100000006 1   1  d30  * - * - * - W
            SERVTD_BINDINGS_TABLE                9910000300000080 1   16 d90  * - * - * - -
            MIGSC_LINKS                          9a10000300000000 512 1  5000 * - * - - - -
            X2APIC_IDS                           9c10000200000000 576 1  1100 * - * - - - -
            MSR_BITMAPS                          2010000300000000 512 1  2000 - - * - - - -
            SEPT_ROOT                            2110000300000000 512 1  3000 - - * - - - -
            L2_SEPT_ROOT_1                       2510000300000000 512 1  6000 - - * - - - -
            L2_SEPT_ROOT_2                       2910000300000000 512 1  7000 - - * - - - -
            L2_SEPT_ROOT_3                       2d10000300000000 512 1  8000 - - * - - - -
            """;

    private TdFields() {
    }
}
