package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Msr;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RegisterLegalityTest {
    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    @BeforeEach
    void reset() {
        Reset.powerUp(cpu);
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void longMode() {
        cpu.cr4 = Cr4.PAE;
        cpu.efer = Efer.LME | Efer.LMA;
        cpu.cr0 = Cr0.PE | Cr0.PG | Cr0.ET;
        cpu.segAr[Cpu.CS] = 0xa09b;
        cpu.updateMode();
    }

    private static void isGp(ThrowingCallable call) {
        var fault = catchThrowableOfType(GuestFault.class, call);
        assertThat(fault).isNotNull();
        assertThat(fault.vector).isEqualTo(13);
        assertThat(fault.errorCode).isZero();
    }

    @Test
    void cr0() {
        isGp(() -> ControlRegisters.writeCr0(cpu, Cr0.PG)); // PG without PE
        isGp(() -> ControlRegisters.writeCr0(cpu, Cr0.NW)); // NW without CD
        isGp(() -> ControlRegisters.writeCr0(cpu, 1L << 32));
        ControlRegisters.writeCr0(cpu, Cr0.PE | (1L << 20));
        assertThat(cpu.cr0).as("reserved bits are ignored, ET is fixed").isEqualTo(Cr0.PE | Cr0.ET);
        cpu.efer = Efer.LME;
        isGp(() -> ControlRegisters.writeCr0(cpu, Cr0.PE | Cr0.PG)); // long mode without PAE
        cpu.cr4 = Cr4.PAE;
        ControlRegisters.writeCr0(cpu, Cr0.PE | Cr0.PG);
        assertThat(cpu.efer).isEqualTo(Efer.LME | Efer.LMA);
        ControlRegisters.writeCr0(cpu, Cr0.PE);
        assertThat(cpu.efer).isEqualTo(Efer.LME);
        longMode();
        isGp(() -> ControlRegisters.writeCr0(cpu, Cr0.PE)); // PG off in 64-bit mode
    }

    @Test
    void cr3() {
        longMode();
        isGp(() -> ControlRegisters.writeCr3(cpu, 1L << 52));
        isGp(() -> ControlRegisters.writeCr3(cpu, 1L << 63)); // no-flush without PCIDE
        cpu.cr4 |= Cr4.PCIDE;
        ControlRegisters.writeCr3(cpu, (1L << 63) | 0x1005);
        assertThat(cpu.cr3).isEqualTo(0x1005);
    }

    @Test
    void cr4() {
        isGp(() -> ControlRegisters.writeCr4(cpu, Cr4.CET));
        isGp(() -> ControlRegisters.writeCr4(cpu, Cr4.PCIDE)); // outside long mode
        ControlRegisters.writeCr4(cpu, Cr4.LA57 | Cr4.PAE);
        longMode();
        isGp(() -> ControlRegisters.writeCr4(cpu, 0));
        isGp(() -> ControlRegisters.writeCr4(cpu, Cr4.PAE | Cr4.LA57));
        cpu.cr3 = 5;
        isGp(() -> ControlRegisters.writeCr4(cpu, Cr4.PAE | Cr4.PCIDE));
        cpu.cr3 = 0x1000;
        ControlRegisters.writeCr4(cpu, Cr4.PAE | Cr4.PCIDE);
    }

    /// MSR, value, whether WRMSR accepts it.
    @ParameterizedTest
    @CsvSource({
        "0xc0000080, 0x901, true", "0xc0000080, 0x2, false", "0xc0000080, 0x8000, false",
        "0xc0000082, 0xffffffff80000000, true", "0xc0000082, 0x8000000000000000, false",
        "0xc0000082, 0x00ffffffffffffff, true", "0xc0000084, 0x100000000, false",
        "0xc0000100, 0x0200000000000000, false", "0x277, 0x0007040600070406, true", "0x277, 0x02, false",
        "0x277, 0x03, false", "0x277, 0x08, false", "0x2ff, 0xc06, true", "0x2ff, 0x1006, false", "0x2ff, 0x2, false",
        "0x200, 0x100006, true", "0x200, 0x100002, false", "0x201, 0xffffff00800, true", "0x201, 0x400, false",
        "0x250, 0x0606060606060606, true", "0x250, 0x0606060606060607, false", "0xfe, 0, false", "0x10a, 0, false",
        "0x48, 0x1, true", "0x48, 0x100, false", "0x49, 1, true", "0x49, 2, false", "0x1a0, 0x0, false",
        "0x1d9, 0x1, false", "0x1d9, 0x4002, true", "0xda0, 0x1800, true", "0xda0, 0x100, false", "0x3a, 5, false",
        "0x1b, 0xfee00c00, true", "0x1b, 0xfee00800, false", "0x4000_0000, 0, false", "0x981, 0, false",
        "0x401, 0, true", "0x401, 1, false", "0x174, 0x10, true", "0x174, 0x100000000, false", "0x3b, -5, true"})
    void msrWrites(String msr, String value, boolean legal) {
        int number = Long.decode(msr.replace("_", "")).intValue();
        boolean hexadecimal = value.startsWith("0x");
        long bits = hexadecimal ? Long.parseUnsignedLong(value.substring(2), 16) : Long.parseLong(value);
        if (legal) {
            cpu.msrs.write(number, bits);
            if (number != Msr.IA32_PRED_CMD && number != Msr.IA32_EFER) {
                assertThat(cpu.msrs.read(number)).isEqualTo(bits);
            }
        } else {
            isGp(() -> cpu.msrs.write(number, bits));
        }
    }

    /// The values that TDH.SYS.INIT of the TDX module checks.
    @Test
    void msrsSatisfyTheTdxModule() {
        long arch = cpu.msrs.read(Msr.IA32_ARCH_CAPABILITIES);
        for (int bit : new int[] {0, 1, 3, 5, 6, 8, 10, 11, 12, 13, 14, 15, 21}) {
            assertThat((arch >>> bit) & 1).as("bit %d", bit).isEqualTo(1);
        }
        assertThat(arch & ((1 << 2) | (1 << 18))).isZero();
        assertThat(cpu.msrs.read(Msr.IA32_XAPIC_DISABLE_STATUS)).isEqualTo(1);
        assertThat(cpu.msrs.read(Msr.IA32_MISC_PACKAGE_CTLS) & 1).isEqualTo(1);
        assertThat(cpu.msrs.read(Msr.IA32_PERF_CAPABILITIES) & 0x3000).isEqualTo(0x3000);
        assertThat(cpu.msrs.read(Msr.IA32_MTRRCAP) & ((1 << 11) | (1 << 14))).isEqualTo((1 << 11) | (1 << 14));
        assertThat(cpu.msrs.read(Msr.IA32_SMRR_MASK) & 0x400).isEqualTo(0x400);
        assertThat(cpu.msrs.read(Msr.IA32_TME_ACTIVATE) & 3).isEqualTo(3);
        assertThat(cpu.msrs.read(Msr.IA32_MKTME_KEYID_PARTITIONING)).isEqualTo((32L << 32) | 31);
        assertThat(cpu.msrs.read(Msr.IA32_WBINVDP)).isEqualTo(cpu.msrs.read(Msr.IA32_WBNOINVDP));
        assertThat(cpu.msrs.read(Msr.IA32_MISC_ENABLE) & (1 << 22)).isZero();
    }

    @Test
    void writingTheTscMovesTscAdjust() {
        cpu.msrs.write(Msr.IA32_TIME_STAMP_COUNTER, 1000);
        assertThat(cpu.msrs.read(Msr.IA32_TIME_STAMP_COUNTER)).isEqualTo(1000);
        assertThat(cpu.msrs.read(Msr.IA32_TSC_ADJUST)).isEqualTo(1000 - cpu.ticks());
    }

    /// The TDX module's single-step defence counts the guest's instructions with fixed counter 0.
    @Test
    void fixedCounterCountsRetiredInstructionsWhileEnabled() {
        cpu.msrs.write(0x38d, 3);
        cpu.msrs.write(0x309, 0);
        cpu.retired += 10;
        assertThat(cpu.msrs.read(0x309)).as("not enabled globally").isZero();
        cpu.msrs.perfGlobalControl(1L << 32);
        cpu.retired += 7;
        assertThat(cpu.msrs.read(0x309)).isEqualTo(7);
        cpu.msrs.perfGlobalControl(0);
        cpu.retired += 7;
        assertThat(cpu.msrs.read(0x309)).isEqualTo(7);
    }
}
