package cloister.tdx.core;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable.Field;
import cloister.spec.tdx.TdxStatus;

/// The module's own fields. [TDX-ABI "Global Metadata Fields"]
public final class SysMetadata extends Metadata {
    private static final long FEATURES0 = 0x2e1f_0fbfL;
    private static final int CMRS = 32;
    private static final long ARCH_CAPABILITIES_CONFIG = (1 << 4) | (1 << 19) | (1 << 20) | (1 << 24);
    private static final long SERVTD_ATTR_FIXED0 = 0x7ff_0000_0001L;
    private static final long L2_GPA_ATTR_MASK = 0x7f | (1 << 15);
    private static final int MAX_MIGS = 512;

    private final ModuleState module;

    public SysMetadata(ModuleState module, FieldAccess access) {
        super(FieldId.CONTEXT_SYS, access, false, 0);
        this.module = module;
    }

    @Override long get(Field field, long id) throws LeafFailure {
        if (access.readMask(field, false) == 0) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_READABLE);
        }
        int distance = FieldId.code(id) - field.code();
        int index = distance / field.elements();
        var config = module.config;
        return switch (field.name()) {
            case "NUM_PKGS" -> module.platform.packages();
            case "PKG_FMS" -> index < module.platform.socketFms().size() ? module.platform.socketFms().get(index) : 0;
            case "VENDOR_ID" -> 0x8086;
            case "BUILD_DATE" -> ModuleVersion.BUILD_DATE;
            case "BUILD_NUM" -> ModuleVersion.BUILD_NUM;
            case "MINOR_VERSION" -> ModuleVersion.MINOR;
            case "MAJOR_VERSION" -> ModuleVersion.MAJOR;
            case "UPDATE_VERSION" -> ModuleVersion.UPDATE;
            case "NUM_HANDOFF_PAGES" -> ModuleVersion.HANDOFF_PAGES;
            case "NUM_TDX_FEATURES" -> 1;
            case "TDX_FEATURES0" -> FEATURES0;
            case "NUM_CMRS" -> CMRS;
            case "CMR_BASE" -> index < module.platform.cmrs().size() ? module.platform.cmrs().get(index).base() : 0;
            case "CMR_SIZE" -> index < module.platform.cmrs().size() ? module.platform.cmrs().get(index).size() : 0;
            case "MAX_TDMRS" -> TdmrInfo.MAX_TDMRS;
            case "MAX_RESERVED_PER_TDMR" -> TdmrInfo.MAX_RESERVED;
            case "PAMT_4K_ENTRY_SIZE", "PAMT_2M_ENTRY_SIZE", "PAMT_1G_ENTRY_SIZE" -> PamtEntry.BYTES;
            case "TDR_BASE_SIZE", "TDCS_SIZE_PER_L2_VM" -> 4096;
            case "TDCS_BASE_SIZE" -> 4096 * Tdcs.MIN_PAGES;
            case "TDVPS_BASE_SIZE" -> 4096 * Tdvps.MIN_PAGES;
            case "TDVPS_SIZE_PER_L2_VM" -> 4096 * Tdvps.PAGES_PER_L2_VM;
            case "ATTRIBUTES_FIXED0" -> config.attributesFixed0;
            case "XFAM_FIXED0" -> config.xfamFixed0();
            case "XFAM_FIXED1" -> PlatformConfig.XFAM_FIXED1;
            case "NUM_CPUID_CONFIG" -> CpuidTable.CONFIGURABLE;
            case "CONFIG_FLAGS_FIXED0" -> config.configFlagsFixed0;
            case "CONFIG_FLAGS_FIXED1" -> config.maxPa <= 48 ? 0 : PlatformConfig.CONFIG_FLAGS_FIXED1;
            case "MAX_VCPUS_PER_TD" -> Tdcs.MAX_VCPUS_PER_TD;
            case "MIN_VIRT_MAXPA" -> TdCpuid.MIN_VIRT_MAXPA;
            case "CPUID_CONFIG_LEAVES" -> index < CpuidTable.CONFIGURABLE ? CpuidTable.configurable(index).leafSubleaf() : -1L;
            case "CPUID_CONFIG_VALUES" -> index < CpuidTable.CONFIGURABLE ? (config.configurable(index, 2 * (distance & 1))
                    & 0xffff_ffffL) | ((long) config.configurable(index, 2 * (distance & 1) + 1) << 32) : 0;
            case "IA32_ARCH_CAPABILITIES_CONFIG_MASK" -> ARCH_CAPABILITIES_CONFIG;
            case "NUM_ALLOWED_FMS" -> TdCpuid.allowedModels(config).length;
            case "ALLOWED_FMS" -> allowedModel(index);
            case "MAX_MIGS" -> MAX_MIGS;
            case "NUM_IMMUTABLE_STATE_PAGES" -> 4;
            case "NUM_TD_STATE_PAGES" -> 2;
            case "NUM_VP_STATE_PAGES" -> 5;
            case "MAX_SERV_TDS" -> 1;
            case "SERVTD_ATTR_FIXED0" -> SERVTD_ATTR_FIXED0;
            case "GUEST_L2_GPA_ATTR_MASK" -> L2_GPA_ATTR_MASK;
            case "VM_CTLS_FIXED0" -> 1;
            case "VPCU_L2_CTLS_FIXED0" -> 3;
            case "VPCU_L2_DEBUG_CTLS_FIXED0" -> 7;
            default -> 0;
        };
    }

    /// The CPUID configuration values beyond the last row have only their first element written.
    @Override boolean isListed(Field field, long id) {
        int distance = FieldId.code(id) - field.code();
        return !field.name().equals("CPUID_CONFIG_VALUES") || (distance & 1) == 0
                || distance / field.elements() < CpuidTable.CONFIGURABLE;
    }

    private long allowedModel(int index) {
        int[] models = TdCpuid.allowedModels(module.config);
        return index < models.length ? models[index] : 0;
    }

    @Override long put(Field field, long id, long value, long requestMask) throws LeafFailure {
        throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_WRITABLE);
    }
}
