package cloister.tdx.core;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable.Field;
import cloister.spec.tdx.TdxStatus;
import java.util.function.LongSupplier;

/// The fields of a TD: TDR and TDCS. [TDX-ABI "TDR and TDCS Metadata Fields"]
public final class TdMetadata extends Metadata {
    private static final int LAST_TDR_CLASS = 2;
    private static final int CPUID_RESERVED_SHIFT = 17;
    private static final long MIN_HP_LOCK_TIMEOUT = 10_000;
    private static final long MAX_HP_LOCK_TIMEOUT = 100_000_000;
    private static final int KEY_WORDS = 4;
    private static final long MIGRATION_VERSION = 0;
    private static final long USEC = 1_000_000;

    private final ModuleState module;
    private final Tdr tdr;
    private final Tdcs tdcs;
    private final LongSupplier entropy;

    public TdMetadata(ModuleState module, FieldAccess access, Tdr tdr, Tdcs tdcs) {
        this(module, access, tdr, tdcs, () -> {
            throw new ModuleHalt("only service TDs make keys");
        });
    }

    /// A TD's fields for its service TD.
    ///
    /// @param entropy makes the words of the migration keys
    public TdMetadata(ModuleState module, FieldAccess access, Tdr tdr, Tdcs tdcs, LongSupplier entropy) {
        super(FieldId.CONTEXT_TD, access, access.isHost() && tdcs.debug(), tdcs.numL2Vms());
        this.module = module;
        this.tdr = tdr;
        this.tdcs = tdcs;
        this.entropy = entropy;
    }

    private Structure structure(Field field) {
        return field.classCode() <= LAST_TDR_CLASS ? tdr : tdcs;
    }

    private int offset(Field field, long id) throws LeafFailure {
        int element = FieldId.code(id) - field.code();
        if (field.classCode() == FieldCursor.CPUID_CLASS) {
            if ((int) id >>> CPUID_RESERVED_SHIFT != 0) {
                throw new LeafFailure(TdxStatus.METADATA_FIELD_ID_INCORRECT);
            }
            int row = CpuidTable.find(FieldCursor.cpuidLeaf(id), FieldCursor.cpuidSubleaf(id));
            if (row < 0) {
                throw new LeafFailure(TdxStatus.METADATA_FIELD_ID_INCORRECT);
            }
            if (CpuidTable.rows().get(row).faulting() || !tdcs.flag(Tdcs.CPUID_VALID + row)) {
                throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_READABLE);
            }
            element = ((int) id & 1) + 2 * row;
        }
        return field.offset() + element * field.elementBytes();
    }

    @Override long get(Field field, long id) throws LeafFailure {
        long value = structure(field).read(offset(field, id), field.elementBytes());
        return switch (field.name()) {
            case "HP_LOCK_TIMEOUT" -> Math.multiplyExact(Math.min(value, Long.MAX_VALUE / USEC), USEC) / module.config.tscHz;
            case "NUM_CPUID_VALUES" -> CpuidTable.rows().size();
            case "MIG_ENC_KEY" -> access == FieldAccess.SERVICE_TD_READ && FieldId.code(id) == field.code() ? newExportKey() : value;
            default -> value;
        };
    }

    @Override long put(Field field, long id, long asked, long requestMask) throws LeafFailure {
        long current = get(field, id) & field.elementMask();
        long writeMask = access.writeMask(field, debug);
        long mask = writeMask & requestMask;
        if (mask == 0) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_WRITABLE);
        }
        requireUnchanged(current, asked, requestMask, writeMask);
        long value = (current & ~mask) | (asked & mask);
        switch (field.name()) {
            case "HP_LOCK_TIMEOUT" -> {
                if (mask != -1L) {
                    throw new LeafFailure(TdxStatus.METADATA_WR_MASK_NOT_VALID);
                }
                if (Long.compareUnsigned(value, MAX_HP_LOCK_TIMEOUT) > 0 || value < MIN_HP_LOCK_TIMEOUT) {
                    throw new LeafFailure(TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
                }
                value = (value * module.config.tscHz / USEC) & 0xffff_ffffL;
            }
            case "TD_CTLS" -> checkTdControls(current, value);
            case "MIG_DEC_KEY" -> tdcs.flag(Tdcs.MIG_DEC_KEY_SET, true);
            case "MIG_VERSION" -> {
                if (value != MIGRATION_VERSION) {
                    throw new LeafFailure(TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
                }
            }
            default -> {
            }
        }
        structure(field).write(offset(field, id), field.elementBytes(), value);
        return current & access.readMask(field, debug);
    }

    /// Each time that the migration TD reads the export key from its beginning there is a new one.
    private long newExportKey() {
        for (int i = 0; i < KEY_WORDS; i++) {
            tdcs.u64(Tdcs.MIG_ENC_KEY + 8 * i, entropy.getAsLong());
        }
        return tdcs.u64(Tdcs.MIG_ENC_KEY);
    }

    private void checkTdControls(long current, long value) throws LeafFailure {
        boolean fixedPendingVe = !tdcs.configFlag(Tdcs.FLEXIBLE_PENDING_VE)
                && ((current ^ value) & Tdcs.PENDING_VE_DISABLE) != 0;
        boolean noTopology = (value & Tdcs.ENUM_TOPOLOGY) != 0 && !tdcs.flag(Tdcs.TOPOLOGY_ENUM_CONFIGURED);
        if (fixedPendingVe || noTopology
                || (value & ~(Tdcs.PENDING_VE_DISABLE | Tdcs.ENUM_TOPOLOGY | Tdcs.VIRT_CPUID2)) != 0) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
        }
    }
}
