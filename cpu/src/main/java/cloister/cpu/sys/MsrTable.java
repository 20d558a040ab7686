package cloister.cpu.sys;

import static cloister.spec.x86.Msr.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;
import cloister.memory.PhysicalMemory;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import java.util.ArrayList;
import java.util.List;

/// The MSRs, one row each. [SDM Vol. 4 "Model-Specific Registers"]
final class MsrTable {
    /// Reads the register.
    interface Reader {
        long read(Cpu cpu);
    }

    /// Writes a value that has passed the mask.
    interface Writer {
        void write(Cpu cpu, long value);
    }

    /// A row. With `reader` null the register is a word of storage that starts as `initial`.
    ///
    /// @param writable the bits that may be 1; 0 together with `writer` null makes the register read-only
    record Row(int msr, long initial, long writable, boolean canonical, Reader reader, Writer writer) {
    }

    private static final long ALL = -1L;
    /// The counters have 48 bits. IA32_PMCx are the same ones, written by the sign-extended lower half.
    private static final long COUNTER = 0xffff_ffff_ffffL;
    private static final long LOW_32 = 0xffff_ffffL;
    private static final int VARIABLE_MTRRS = 10;
    private static final int MC_BANKS = 4;
    private static final int GENERAL_COUNTERS = 8;
    private static final int LBR_DEPTH = 8;
    private static final long MTRR_CAP = VARIABLE_MTRRS | (1 << 8) | (1 << 10) | (1 << 11) | (1 << 14) | (1 << 15);
    private static final long ARCH_CAPABILITIES = bits(0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 17, 20, 21, 24, 26, 27, 62);
    private static final long SPEC_CTRL = bits(0, 1, 2, 3, 4, 5, 6, 7, 10);
    private static final long DEBUGCTL = bits(1, 2, 11, 12, 14);
    private static final long MISC_ENABLE = bits(0, 7, 12, 18);
    private static final long MISC_ENABLE_WRITABLE = bits(0, 18);
    private static final long ALL_WB = 0x0606_0606_0606_0606L;

    private MsrTable() {
    }

    /// All rows, in no order.
    static List<Row> rows() {
        var rows = new ArrayList<Row>();
        identity(rows);
        time(rows);
        speculation(rows);
        systemCalls(rows);
        controlFlow(rows);
        memoryTypes(rows);
        machineCheck(rows);
        debug(rows);
        localApic(rows);
        performance(rows);
        encryption(rows);
        return rows;
    }

    private static void identity(List<Row> t) {
        t.add(constant(IA32_PLATFORM_ID, 0));
        t.add(new Row(IA32_APIC_BASE, 0, 0x000f_ffff_ffff_fd00L, false, c -> c.apicBase, MsrTable::writeApicBase));
        t.add(constant(IA32_FEATURE_CONTROL, 5)); // locked; VMX outside SMX
        t.add(new Row(IA32_BIOS_UPDT_TRIG, 0, ALL, false, MsrTable::writeOnly, (c, v) -> { }));
        t.add(new Row(IA32_BIOS_SIGN_ID, 0, ALL, false, c -> 1L << 32, (c, v) -> { }));
        t.add(constant(IA32_SMM_MONITOR_CTL, 0));
        t.add(storage(IA32_MISC_PACKAGE_CTLS, 1, 1));
        t.add(constant(IA32_XAPIC_DISABLE_STATUS, 1));
        t.add(constant(MSR_PLATFORM_INFO, (8L << 40) | (10 << 8)));
        t.add(constant(IA32_CORE_CAPABILITIES, 0));
        t.add(constant(IA32_PERF_STATUS, 10 << 8));
        t.add(storage(MISC_FEATURE_ENABLES, 0, 0));
        t.add(new Row(IA32_MISC_ENABLE, 0, MISC_ENABLE, false, c -> c.miscEnable, MsrTable::writeMiscEnable));
        t.add(new Row(IA32_XSS, 0, Cpuid.XSS_SUPPORTED, false, c -> c.xss, (c, v) -> c.xss = v));
        t.add(new Row(IA32_EFER, 0, Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE, false, c -> c.efer, MsrTable::writeEfer));
        t.add(constant(IA32_INTR_PENDING, c -> (c.events.highestExternal() >= 0 ? 1 : 0) | (c.events.nmiPending ? 2 : 0)));
    }

    private static void time(List<Row> t) {
        t.add(new Row(IA32_TIME_STAMP_COUNTER, 0, ALL, false, Msrs::hostTsc, (c, v) -> c.tscAdjust += v - Msrs.hostTsc(c)));
        t.add(field(IA32_TSC_ADJUST, ALL, c -> c.tscAdjust, (c, v) -> c.tscAdjust = v));
        t.add(field(IA32_TSC_DEADLINE, ALL, c -> c.tscDeadline, (c, v) -> c.tscDeadline = v));
        t.add(field(IA32_UMWAIT_CONTROL, LOW_32 & ~2L, c -> c.umwaitControl, (c, v) -> c.umwaitControl = v));
        t.add(storage(IA32_MONITOR_FILTER_SIZE, 0, LOW_32));
    }

    private static void speculation(List<Row> t) {
        t.add(field(IA32_SPEC_CTRL, SPEC_CTRL, c -> c.specCtrl, (c, v) -> c.specCtrl = v));
        t.add(new Row(IA32_PRED_CMD, 0, 1, false, MsrTable::writeOnly, (c, v) -> { }));
        t.add(new Row(IA32_FLUSH_CMD, 0, 1, false, MsrTable::writeOnly, (c, v) -> { }));
        t.add(constant(IA32_ARCH_CAPABILITIES, ARCH_CAPABILITIES));
        t.add(field(IA32_TSX_CTRL, 3, c -> c.tsxCtrl, (c, v) -> c.tsxCtrl = v)); // RTM_DISABLE, TSX_CPUID_CLEAR
        t.add(storage(IA32_UARCH_MISC_CTL, 0, 1)); // DOITM
    }

    private static void systemCalls(List<Row> t) {
        t.add(field(IA32_SYSENTER_CS, LOW_32, c -> c.sysenterCs, (c, v) -> c.sysenterCs = v));
        t.add(address(IA32_SYSENTER_ESP, c -> c.sysenterEsp, (c, v) -> c.sysenterEsp = v));
        t.add(address(IA32_SYSENTER_EIP, c -> c.sysenterEip, (c, v) -> c.sysenterEip = v));
        t.add(field(IA32_STAR, ALL, c -> c.star, (c, v) -> c.star = v));
        t.add(address(IA32_LSTAR, c -> c.lstar, (c, v) -> c.lstar = v));
        t.add(address(IA32_CSTAR, c -> c.cstar, (c, v) -> c.cstar = v));
        t.add(field(IA32_FMASK, LOW_32, c -> c.fmask, (c, v) -> c.fmask = v));
        t.add(address(IA32_FS_BASE, c -> c.segBase[Cpu.FS], (c, v) -> writeBase(c, Cpu.FS, v)));
        t.add(address(IA32_GS_BASE, c -> c.segBase[Cpu.GS], (c, v) -> writeBase(c, Cpu.GS, v)));
        t.add(address(IA32_KERNEL_GS_BASE, c -> c.kernelGsBase, (c, v) -> c.kernelGsBase = v));
        t.add(field(IA32_TSC_AUX, LOW_32, c -> c.tscAux, (c, v) -> c.tscAux = v));
        t.add(field(IA32_PKRS, LOW_32, c -> c.pkrs & LOW_32, MsrTable::writePkrs));
    }

    /// [SDM Vol. 4 "Architectural MSRs" 6A0H-6A8H]
    private static void controlFlow(List<Row> t) {
        t.add(controlRow(IA32_U_CET, c -> c.cet.uCet, (c, v) -> c.cet.uCet = v));
        t.add(controlRow(IA32_S_CET, c -> c.cet.sCet, (c, v) -> c.cet.sCet = v));
        for (int i = 0; i < 4; i++) {
            int level = i;
            t.add(new Row(IA32_PL0_SSP + i, 0, ~3L, true, c -> c.cet.plSsp[level], (c, v) -> c.cet.plSsp[level] = v));
        }
        t.add(address(IA32_INTERRUPT_SSP_TABLE_ADDR, c -> c.cet.interruptSspTable, (c, v) -> c.cet.interruptSspTable = v));
    }

    private static Row controlRow(int msr, Reader reader, Writer writer) {
        return new Row(msr, 0, ~Cet.RESERVED, true, reader, (c, v) -> {
            if (!Cet.legalControl(v)) {
                throw c.gp(0);
            }
            if (v != reader.read(c)) {
                writer.write(c, v);
                c.updateMode();
            }
        });
    }

    private static void memoryTypes(List<Row> t) {
        t.add(constant(IA32_MTRRCAP, MTRR_CAP));
        t.add(constant(IA32_SMRR_BASE, 6));
        t.add(constant(IA32_SMRR_MASK, 1 << 10)); // locked, not valid
        for (int i = 0; i < VARIABLE_MTRRS; i++) {
            t.add(checked(IA32_MTRR_PHYSBASE0 + 2 * i, 0, 0x000f_ffff_ffff_f0ffL, v -> memoryType(v & 0xff, false)));
            t.add(storage(IA32_MTRR_PHYSBASE0 + 2 * i + 1, 0, 0x000f_ffff_ffff_f800L));
        }
        t.add(fixedMtrr(IA32_MTRR_FIX64K_00000));
        t.add(fixedMtrr(IA32_MTRR_FIX16K_80000));
        t.add(fixedMtrr(IA32_MTRR_FIX16K_A0000));
        for (int i = 0; i < 8; i++) {
            t.add(fixedMtrr(IA32_MTRR_FIX4K_C0000 + i));
        }
        t.add(checked(IA32_MTRR_DEF_TYPE, 0xc06, 0xcff, v -> memoryType(v & 0xff, false)));
        t.add(new Row(IA32_PAT, 0, ALL, false, c -> c.pat, (c, v) -> {
            if (!legalPat(v)) {
                throw c.gp(0);
            }
            c.pat = v;
        }));
    }

    private static void machineCheck(List<Row> t) {
        t.add(storage(IA32_P5_MC_ADDR, 0, ALL));
        t.add(storage(IA32_P5_MC_TYPE, 0, ALL));
        t.add(constant(IA32_MCG_CAP, MC_BANKS | (1 << 8)));
        t.add(storage(IA32_MCG_STATUS, 0, 7));
        t.add(storage(IA32_MCG_CTL, ALL, ALL));
        for (int bank = 0; bank < MC_BANKS; bank++) {
            t.add(storage(IA32_MC0_CTL + 4 * bank, 0, ALL));
            for (int i = 1; i < 4; i++) {
                t.add(new Row(IA32_MC0_CTL + 4 * bank + i, 0, 0, false, c -> 0, (c, v) -> { })); // only 0 may be written
            }
        }
    }

    /// Of the processor's own local APIC in x2APIC mode: what SEAM software touches to postpone interrupts.
    private static void localApic(List<Row> t) {
        t.add(constant(0x802, c -> c.index));
        t.add(new Row(0x808, 0, 0xff, false, c -> c.cr8 << 4, (c, v) -> {
            c.cr8 = v >>> 4;
            c.events.raise();
        }));
        t.add(new Row(0x80b, 0, 0, false, MsrTable::writeOnly, (c, v) -> { })); // EOI: vectors are not kept in service
        t.add(new Row(0x830, 0, ALL, false, c -> 0, (c, v) -> {
            boolean fixedToSelf = ((v & 0xc_0700) == 0 && v >>> 32 == c.index) || (v & 0xc_0700) == 0x4_0000;
            if (!fixedToSelf) {
                throw new ModelLimit("inter-processor interrupt through IA32_X2APIC_ICR 0x" + Long.toHexString(v));
            }
            c.events.raiseExternal((int) v & 0xff);
        }));
    }

    private static void debug(List<Row> t) {
        t.add(field(IA32_DEBUGCTL, DEBUGCTL, c -> c.debugctl, (c, v) -> c.debugctl = v));
        t.add(new Row(IA32_DS_AREA, 0, ALL, true, null, null));
        t.add(new Row(IA32_LBR_CTL, 0, 0x7f_000fL, false, c -> 0, (c, v) -> {
            if ((v & 1) != 0) {
                throw new ModelLimit("architectural last-branch recording enabled (IA32_LBR_CTL.LBREn)");
            }
        }));
        t.add(storage(0x14cf, LBR_DEPTH, 0x8)); // IA32_LBR_DEPTH
        for (int i = 0; i < LBR_DEPTH; i++) {
            t.add(storage(0x1200 + i, 0, ALL)); // IA32_LBR_x_INFO, FROM_IP, TO_IP
            t.add(storage(0x1500 + i, 0, ALL));
            t.add(storage(0x1600 + i, 0, ALL));
        }
    }

    private static void performance(List<Row> t) {
        t.add(constant(IA32_PERF_CAPABILITIES, 0x303f));
        for (int i = 0; i < GENERAL_COUNTERS; i++) {
            int wide = IA32_A_PMC0 + i;
            t.add(storage(wide, 0, COUNTER));
            t.add(new Row(IA32_PMC0 + i, 0, ALL, false, c -> c.msrs.read(wide),
                    (c, v) -> c.msrs.store(wide, (int) v & COUNTER)));
            t.add(new Row(0x186 + i, 0, LOW_32, false, c -> 0, (c, v) -> PerformanceCounters.checkEventSelect(v)));
        }
        for (int i = 0; i < PerformanceCounters.FIXED; i++) {
            int counter = i;
            t.add(field(0x309 + i, 0xffff_ffff_ffffL, c -> c.msrs.counters.read(counter), (c, v) -> c.msrs.counters.write(counter, v)));
        }
        t.add(field(IA32_FIXED_CTR_CTRL, 0xbbb, c -> c.msrs.counters.fixedControl(), (c, v) -> c.msrs.counters.fixedControl(v)));
        t.add(constant(0x38e, 0));
        t.add(field(IA32_PERF_GLOBAL_CTRL, 0x7_0000_00ffL, c -> c.msrs.counters.globalControl(),
                (c, v) -> c.msrs.counters.globalControl(v)));
        t.add(storage(0x390, 0, ALL));
        t.add(storage(0x391, 0, ALL));
        t.add(constant(0x392, 0));
    }

    /// TME-MK and SEAM. [TDX-BASE "Memory Encryption Keys", "SEAMRR"]
    private static void encryption(List<Row> t) {
        t.add(constant(IA32_MKTME_KEYID_PARTITIONING,
                c -> ((long) (64 - c.memory.firstPrivateKeyId()) << 32) | (c.memory.firstPrivateKeyId() - 1)));
        t.add(new Row(IA32_WBINVDP, 0, ALL, false, c -> 4, (c, v) -> { }));
        t.add(new Row(IA32_WBNOINVDP, 0, ALL, false, c -> 4, (c, v) -> { }));
        t.add(constant(IA32_TME_CAPABILITY, (63L << 36) | ((long) PhysicalMemory.KEY_ID_BITS << 32) | 0xf));
        t.add(constant(IA32_TME_ACTIVATE, (0xfL << 48) | (5L << 36) | ((long) PhysicalMemory.KEY_ID_BITS << 32) | 3));
        t.add(storage(IA32_SEAMRR_BASE, 0, 0));
        t.add(storage(IA32_SEAMRR_MASK, 0, 0));
    }

    // Kinds of rows

    private static Row constant(int msr, long value) {
        return new Row(msr, value, 0, false, null, MsrTable::readOnly);
    }

    private static Row constant(int msr, Reader reader) {
        return new Row(msr, 0, ALL, false, reader, MsrTable::readOnly);
    }

    private static Row storage(int msr, long initial, long writable) {
        return new Row(msr, initial, writable, false, null, null);
    }

    private static Row field(int msr, long writable, Reader reader, Writer writer) {
        return new Row(msr, 0, writable, false, reader, writer);
    }

    private static Row address(int msr, Reader reader, Writer writer) {
        return new Row(msr, 0, ALL, true, reader, writer);
    }

    private interface Check {
        boolean legal(long value);
    }

    private static Row checked(int msr, long initial, long writable, Check check) {
        return new Row(msr, initial, writable, false, null, (c, v) -> {
            if (!check.legal(v)) {
                throw c.gp(0);
            }
            c.msrs.store(msr, v);
        });
    }

    private static Row fixedMtrr(int msr) {
        return checked(msr, ALL_WB, ALL, v -> everyByte(v, false));
    }

    // Rules

    private static void readOnly(Cpu cpu, long value) {
        throw cpu.gp(0);
    }

    private static long writeOnly(Cpu cpu) {
        throw cpu.gp(0);
    }

    private static boolean memoryType(long type, boolean pat) {
        return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
    }

    private static boolean everyByte(long value, boolean pat) {
        for (int i = 0; i < 64; i += 8) {
            if (!memoryType((value >>> i) & 0xff, pat)) {
                return false;
            }
        }
        return true;
    }

    static boolean legalPat(long value) {
        return everyByte(value, true);
    }

    /// The local APIC has no xAPIC mode: it stays in x2APIC mode.
    private static void writeApicBase(Cpu cpu, long value) {
        if ((value & 0xc00) != 0xc00) {
            throw cpu.gp(0);
        }
        cpu.apicBase = value;
    }

    private static void writeMiscEnable(Cpu cpu, long value) {
        if (((value ^ cpu.miscEnable) & ~MISC_ENABLE_WRITABLE) != 0) {
            throw cpu.gp(0);
        }
        cpu.miscEnable = value;
    }

    private static void writeEfer(Cpu cpu, long value) {
        long efer = (value & ~Efer.LMA) | (cpu.efer & Efer.LMA);
        if (((efer ^ cpu.efer) & Efer.LME) != 0 && (cpu.cr0 & Cr0.PG) != 0) {
            throw cpu.gp(0);
        }
        boolean rights = ((efer ^ cpu.efer) & Efer.NXE) != 0;
        cpu.efer = efer;
        cpu.updateMode();
        if (rights) {
            cpu.tlb.flushAll();
        }
    }

    private static void writePkrs(Cpu cpu, long value) {
        boolean changed = cpu.pkrs != (int) value;
        cpu.pkrs = (int) value;
        if (changed && (cpu.cr4 & Cr4.PKS) != 0) {
            cpu.tlb.flushAll();
        }
    }

    static void writeBase(Cpu cpu, int seg, long value) {
        cpu.segBase[seg] = value;
    }

    static void reset(Cpu cpu) {
        cpu.miscEnable = MISC_ENABLE;
        cpu.pat = 0x0007_0406_0007_0406L;
        cpu.apicBase = 0xfee0_0c00L | (cpu.index == 0 ? 0x100 : 0);
    }

    private static long bits(int... numbers) {
        long result = 0;
        for (int n : numbers) {
            result |= 1L << n;
        }
        return result;
    }
}
