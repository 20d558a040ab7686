package cloister.kvm.mmu;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.x86.MemoryType;
import cloister.spec.x86.Msr;

/// The memory-type range registers of one vCPU: storage that checks what is written, and the types that the registers say.
/// [SDM Vol. 3 "Memory Type Range Registers (MTRRs)"; LINUX arch/x86/kvm/mtrr.c]
public final class GuestMtrrs implements Persistent {
    /// How many pairs of variable-range registers there are.
    public static final int VARIABLE_COUNT = 8;
    private static final long CAP_FIXED = 1 << 8;
    private static final long CAP_WC = 1 << 10;
    private static final long DEF_TYPE_DEFINED = 0xcff;
    private static final long DEF_TYPE_FIXED_ENABLE = 1 << 10;
    private static final long DEF_TYPE_ENABLE = 1 << 11;
    private static final long BASE_RESERVED = 0xf00;
    private static final long MASK_RESERVED = 0x7ff;
    private static final long MASK_VALID = 1 << 11;
    private static final long PAGE_MASK = -1L << 12;
    private static final long FIXED_END = 1L << 20;
    private static final int FIXED_COUNT = 11;

    private static final long WRITE_BACK_ONLY = DEF_TYPE_ENABLE | 6;

    private final long[] variable = new long[2 * VARIABLE_COUNT];
    private final long[] fixed = new long[FIXED_COUNT];
    private boolean writeBackOnly;
    private long defType;

    /// From now on there is nothing but the default type, which is write-back: what was proposed for TDs in 2023, whose private memory
    /// has no other type. IA32_MTRRCAP is 0, IA32_MTRR_DEF_TYPE takes its one value, the ranges do not exist.
    public void writeBackOnly() {
        writeBackOnly = true;
        defType = WRITE_BACK_ONLY;
    }

    /// Whether `msr` is one of these registers.
    public static boolean handles(int msr) {
        return msr == Msr.IA32_MTRRCAP || msr == Msr.IA32_MTRR_DEF_TYPE || isVariable(msr) || fixedIndex(msr) >= 0;
    }

    /// Whether a register that [#handles] knows exists.
    public boolean has(int msr) {
        return !writeBackOnly || msr == Msr.IA32_MTRRCAP || msr == Msr.IA32_MTRR_DEF_TYPE;
    }

    /// RDMSR of a register that exists.
    public long read(int msr) {
        if (msr == Msr.IA32_MTRRCAP) {
            return writeBackOnly ? 0 : CAP_WC | CAP_FIXED | VARIABLE_COUNT;
        }
        if (msr == Msr.IA32_MTRR_DEF_TYPE) {
            return defType;
        }
        return isVariable(msr) ? variable[msr - Msr.IA32_MTRR_PHYSBASE0] : fixed[fixedIndex(msr)];
    }

    /// WRMSR of a register that [#handles] knows.
    ///
    /// @param physicalAddressBits the vCPU's MAXPHYADDR
    /// @return false when the value is refused (#GP); nothing has changed then
    public boolean write(int msr, long value, int physicalAddressBits) {
        if (writeBackOnly) {
            return msr == Msr.IA32_MTRR_DEF_TYPE && value == WRITE_BACK_ONLY;
        }
        if (msr == Msr.IA32_MTRR_DEF_TYPE) {
            if ((value & ~DEF_TYPE_DEFINED) != 0 || !MemoryType.isOfMtrr((int) value & 0xff)) {
                return false;
            }
            defType = value;
            return true;
        }
        if (isVariable(msr)) {
            boolean isBase = (msr & 1) == 0;
            long reserved = (-1L << physicalAddressBits) | (isBase ? BASE_RESERVED : MASK_RESERVED);
            if ((value & reserved) != 0 || (isBase && !MemoryType.isOfMtrr((int) value & 0xff))) {
                return false;
            }
            variable[msr - Msr.IA32_MTRR_PHYSBASE0] = value;
            return true;
        }
        int index = fixedIndex(msr);
        if (index < 0 || !allTypes(value)) {
            return false;
        }
        fixed[index] = value;
        return true;
    }

    /// The first address of which register `msr` speaks, as it is now; 0 when [#endOf] is -1.
    ///
    /// @param physicalAddressBits the vCPU's MAXPHYADDR
    public long firstOf(int msr, int physicalAddressBits) {
        int index = fixedIndex(msr);
        if (isVariable(msr)) {
            int i = (msr - Msr.IA32_MTRR_PHYSBASE0) >> 1;
            return endOf(msr, physicalAddressBits) == -1 ? 0 : variable[2 * i] & variable[2 * i + 1] & PAGE_MASK;
        }
        return index < 0 ? 0 : firstOfFixed(index);
    }

    /// The address behind the last one of which register `msr` speaks, as it is now; -1, the end of all addresses, for
    /// IA32_MTRR_DEF_TYPE and for a mask with holes, which has many ranges.
    ///
    /// @param physicalAddressBits the vCPU's MAXPHYADDR
    public long endOf(int msr, int physicalAddressBits) {
        int index = fixedIndex(msr);
        if (isVariable(msr)) {
            long mask = variable[2 * ((msr - Msr.IA32_MTRR_PHYSBASE0) >> 1) + 1] & PAGE_MASK;
            long size = Long.lowestOneBit(mask);
            boolean oneRange = mask != 0 && (mask | (size - 1)) == (1L << physicalAddressBits) - 1;
            return oneRange ? (variable[(msr - Msr.IA32_MTRR_PHYSBASE0) & ~1] & mask) + size : -1;
        }
        return index < 0 ? -1 : firstOfFixed(index + 1);
    }

    private static long firstOfFixed(int index) {
        if (index == 0) {
            return 0;
        }
        return index < 3 ? 0x80000 + ((index - 1) * 0x20000L) : 0xc0000 + ((index - 3) * 0x8000L);
    }

    /// Whether the guest has enabled them.
    public boolean isEnabled() {
        return (defType & DEF_TYPE_ENABLE) != 0;
    }

    /// The memory type of guest-physical address `gpa`.
    public MemoryType typeOf(long gpa) {
        if (!isEnabled()) {
            return MemoryType.UC;
        }
        if (isFixed(gpa)) {
            return fixedType(gpa);
        }
        MemoryType type = null;
        for (int i = 0; i < VARIABLE_COUNT; i++) {
            long mask = variable[2 * i + 1];
            if ((mask & MASK_VALID) != 0 && ((gpa ^ variable[2 * i]) & mask & PAGE_MASK) == 0) {
                type = type == null ? variableType(i) : MemoryType.overlap(type, variableType(i));
            }
        }
        return type == null ? defaultType() : type;
    }

    /// Whether all of the naturally aligned block of `size` bytes at `gpa` has the type of its first byte, so that one large page
    /// may map it. Says no as well when registers overlap in a way that would take long to follow.
    ///
    /// @param size a power of two, at least 4096
    public boolean isUniform(long gpa, long size) {
        if (!isEnabled()) {
            return true;
        }
        if (isFixed(gpa)) {
            return isFixedUniform(gpa, size);
        }
        // Registers that cover all of the block give its type; each that covers a part of it must not change that.
        MemoryType whole = null;
        for (int i = 0; i < VARIABLE_COUNT; i++) {
            if (touches(i, gpa, size) && covers(i, size)) {
                whole = whole == null ? variableType(i) : MemoryType.overlap(whole, variableType(i));
            }
        }
        for (int i = 0; i < VARIABLE_COUNT; i++) {
            if (touches(i, gpa, size) && !covers(i, size)) {
                var part = variableType(i);
                boolean same = whole == null ? part == defaultType() : MemoryType.overlap(whole, part) == whole;
                if (!same) {
                    return false;
                }
            }
        }
        return true;
    }

    /// Whether the variable range `i` has an address in common with the block.
    private boolean touches(int i, long gpa, long size) {
        long mask = variable[2 * i + 1];
        return (mask & MASK_VALID) != 0 && ((gpa ^ variable[2 * i]) & mask & PAGE_MASK & -size) == 0;
    }

    /// Whether the variable range `i`, which touches a block of `size` bytes, has all of it.
    private boolean covers(int i, long size) {
        return (variable[2 * i + 1] & PAGE_MASK & (size - 1)) == 0;
    }

    private boolean isFixed(long gpa) {
        return (defType & DEF_TYPE_FIXED_ENABLE) != 0 && gpa >= 0 && gpa < FIXED_END;
    }

    private boolean isFixedUniform(long gpa, long size) {
        var type = fixedType(gpa);
        for (long at = gpa; at < gpa + size; at += 4096) {
            if (typeOf(at) != type) {
                return false;
            }
        }
        return true;
    }

    /// Eight ranges of 64 KiB, then sixteen of 16 KiB, then sixty-four of 4 KiB, eight to a register.
    private MemoryType fixedType(long gpa) {
        int range;
        if (gpa < 0x80000) {
            range = (int) (gpa >>> 16);
        } else if (gpa < 0xc0000) {
            range = 8 + (int) ((gpa - 0x80000) >>> 14);
        } else {
            range = 24 + (int) ((gpa - 0xc0000) >>> 12);
        }
        return MemoryType.of((int) (fixed[range >>> 3] >>> (8 * (range & 7))) & 7);
    }

    private MemoryType variableType(int i) {
        return MemoryType.of((int) variable[2 * i] & 7);
    }

    private MemoryType defaultType() {
        return MemoryType.of((int) defType & 7);
    }

    private static boolean isVariable(int msr) {
        return msr >= Msr.IA32_MTRR_PHYSBASE0 && msr < Msr.IA32_MTRR_PHYSBASE0 + (2 * VARIABLE_COUNT);
    }

    private static int fixedIndex(int msr) {
        if (msr == Msr.IA32_MTRR_FIX64K_00000) {
            return 0;
        }
        if (msr == Msr.IA32_MTRR_FIX16K_80000 || msr == Msr.IA32_MTRR_FIX16K_A0000) {
            return 1 + msr - Msr.IA32_MTRR_FIX16K_80000;
        }
        return msr >= Msr.IA32_MTRR_FIX4K_C0000 && msr < Msr.IA32_MTRR_FIX4K_C0000 + 8
                ? 3 + msr - Msr.IA32_MTRR_FIX4K_C0000 : -1;
    }

    private static boolean allTypes(long value) {
        for (int i = 0; i < 8; i++) {
            if (!MemoryType.isOfMtrr((int) (value >>> (8 * i)) & 0xff)) {
                return false;
            }
        }
        return true;
    }

    @Override public String stateName() {
        return "mtrrs";
    }

    @Override public void describe(StateSink to) {
        to.words("variable", variable);
        to.words("fixed", fixed);
        to.flag("writeBackOnly", writeBackOnly);
        to.field("defType", defType);
    }
}
