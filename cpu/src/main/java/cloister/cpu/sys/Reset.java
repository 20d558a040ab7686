package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import java.util.Arrays;

/// The state after power-up. [SDM Vol. 3 "Processor State After Reset"]
public final class Reset {
    private static final int REAL_CODE = 0x9b;
    private static final int REAL_DATA = 0x93;

    private Reset() {
    }

    /// Puts `cpu` into real-address mode at the reset vector F000:FFF0 with base FFFF0000H.
    public static void powerUp(Cpu cpu) {
        Arrays.fill(cpu.r, 0, 16, 0);
        cpu.r[Cpu.RDX] = Cpuid.FAMILY_MODEL_STEPPING;
        cpu.cr0 = 0x6000_0010L;
        cpu.cr2 = cpu.cr3 = cpu.cr4 = cpu.cr8 = cpu.efer = 0;
        cpu.xcr0 = 1;
        cpu.xss = 0;
        cpu.pkru = cpu.pkrs = 0;
        cpu.cet.uCet = cpu.cet.sCet = cpu.cet.ssp = cpu.cet.interruptSspTable = 0;
        Arrays.fill(cpu.cet.plSsp, 0);
        cpu.dr0 = cpu.dr1 = cpu.dr2 = cpu.dr3 = 0;
        cpu.dr6 = DebugRegisters.DR6_RESET;
        cpu.dr7 = DebugRegisters.DR7_RESET;
        for (int seg = 0; seg < 8; seg++) {
            cpu.segSelector[seg] = 0;
            cpu.segBase[seg] = 0;
            cpu.segLimit[seg] = 0xffff;
            cpu.segAr[seg] = REAL_DATA;
        }
        cpu.segAr[Cpu.CS] = REAL_CODE;
        cpu.segSelector[Cpu.CS] = 0xf000;
        cpu.segBase[Cpu.CS] = 0xffff_0000L;
        cpu.segAr[Cpu.LDTR] = 0x82;
        cpu.segAr[Cpu.TR] = 0x8b;
        cpu.gdtrBase = cpu.idtrBase = 0;
        cpu.gdtrLimit = cpu.idtrLimit = 0xffff;
        cpu.cpl = 0;
        cpu.rip = cpu.nextRip = 0xfff0;
        cpu.rflags(2);
        cpu.events.clear();
        MsrTable.reset(cpu);
        cpu.updateMode();
        cpu.tlb.flushAll();
    }
}
