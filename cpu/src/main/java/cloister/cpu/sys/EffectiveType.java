package cloister.cpu.sys;

import static cloister.spec.x86.MemoryType.*;

import cloister.cpu.MemoryTypeParts;
import cloister.cpu.core.Cpu;
import cloister.cpu.core.Translation;
import cloister.memory.PhysicalMemory;
import cloister.spec.x86.MemoryType;
import cloister.spec.x86.Msr;

/// The memory type of an access, from what its translation found. A translation keeps its ingredients, which costs a walk nothing; they
/// are put together when somebody asks.
public final class EffectiveType {
    private static final long DEF_TYPE_ENABLE = 1 << 11;
    private static final long DEF_TYPE_FIXED_ENABLE = 1 << 10;
    private static final long MASK_VALID = 1 << 11;
    private static final long PAGES = 0x000f_ffff_ffff_f000L;
    private static final long FIXED_END = 0x10_0000;
    private static final int VARIABLE_MASK = 0xff;

    /// Rows: the type of the MTRRs or of EPT. Columns: the PAT's. [SDM Vol. 3 "Effective Page-Level Memory Types for Pentium III and More
    /// Recent Processor Families"]
    private static final MemoryType[][] COMBINED = {
        //        UC  UC- WC  WT  WB  WP
        /* UC */ {UC, UC, WC, UC, UC, UC},
        /* WC */ {UC, WC, WC, UC, WC, UC},
        /* WT */ {UC, UC, WC, WT, WT, WP},
        /* WP */ {UC, WC, WC, WT, WP, WP},
        /* WB */ {UC, UC, WC, WT, WB, WP}};

    private EffectiveType() {
    }

    /// What two types make. [SDM Vol. 3 "Selecting Memory Types for Pentium III and More Recent Processor Families"]
    ///
    /// @param first of the MTRRs or of EPT: not UC_MINUS
    /// @param pat   of the PAT
    public static MemoryType combine(MemoryType first, MemoryType pat) {
        int row = switch (first) {
            case UC, UC_MINUS -> 0;
            case WC -> 1;
            case WT -> 2;
            case WP -> 3;
            case WB -> 4;
        };
        int column = switch (pat) {
            case UC -> 0;
            case UC_MINUS -> 1;
            case WC -> 2;
            case WT -> 3;
            case WB -> 4;
            case WP -> 5;
        };
        return COMBINED[row][column];
    }

    /// The effective type for the ingredients of a [Translation], [Translation#typeIngredients].
    ///
    /// @param hpa the platform address that was found
    public static MemoryType of(Cpu cpu, int ingredients, long hpa) {
        var parts = parts(cpu, ingredients, hpa);
        if (parts.cacheDisabled()) {
            return UC;
        }
        if (parts.ept() == null) {
            return combine(parts.mtrr(), parts.pat());
        }
        return parts.ignorePat() ? parts.ept() : combine(parts.ept(), parts.pat());
    }

    /// What the effective type is made of.
    public static MemoryTypeParts parts(Cpu cpu, int ingredients, long hpa) {
        var ept = (ingredients & Translation.EPT) == 0 ? null
                : known((ingredients >> Translation.EPT_TYPE_SHIFT) & Translation.TYPE_MASK);
        return new MemoryTypeParts(ept, (ingredients & Translation.IGNORE_PAT) != 0, known(ingredients & Translation.TYPE_MASK),
                mtrr(cpu, PhysicalMemory.pa(hpa)), (ingredients & Translation.CACHE_DISABLED) != 0);
    }

    private static MemoryType known(int encoding) {
        var type = MemoryType.of(encoding);
        return type == null ? UC : type;
    }

    /// The type that the processor's MTRRs give to `pa`. [SDM Vol. 3 "Memory Type Range Registers (MTRRs)", "MTRR Precedences"]
    public static MemoryType mtrr(Cpu cpu, long pa) {
        long defType = cpu.msrs.read(Msr.IA32_MTRR_DEF_TYPE);
        if ((defType & DEF_TYPE_ENABLE) == 0) {
            return UC;
        }
        if (pa < FIXED_END && (defType & DEF_TYPE_FIXED_ENABLE) != 0) {
            return fixed(cpu, pa);
        }
        MemoryType found = null;
        int count = (int) cpu.msrs.read(Msr.IA32_MTRRCAP) & VARIABLE_MASK;
        for (int i = 0; i < count; i++) {
            long mask = cpu.msrs.read(Msr.IA32_MTRR_PHYSBASE0 + (2 * i) + 1);
            long base = cpu.msrs.read(Msr.IA32_MTRR_PHYSBASE0 + (2 * i));
            if ((mask & MASK_VALID) != 0 && ((pa ^ base) & mask & PAGES) == 0) {
                var type = known((int) base);
                found = found == null ? type : overlap(found, type);
            }
        }
        return found == null ? known((int) defType) : found;
    }

    private static MemoryType fixed(Cpu cpu, long pa) {
        int msr;
        long offset;
        int shift;
        if (pa < 0x8_0000) {
            msr = Msr.IA32_MTRR_FIX64K_00000;
            shift = 16;
            offset = pa;
        } else if (pa < 0xc_0000) {
            msr = pa < 0xa_0000 ? Msr.IA32_MTRR_FIX16K_80000 : Msr.IA32_MTRR_FIX16K_A0000;
            shift = 14;
            offset = pa & 0x1_ffff;
        } else {
            msr = Msr.IA32_MTRR_FIX4K_C0000 + (int) ((pa - 0xc_0000) >>> 15);
            shift = 12;
            offset = pa & 0x7fff;
        }
        return known((int) (cpu.msrs.read(msr) >>> (8 * (offset >>> shift))));
    }
}
