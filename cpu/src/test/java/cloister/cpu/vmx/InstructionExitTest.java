package cloister.cpu.vmx;

import static cloister.isa.Operands.*;
import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Assembler;
import cloister.isa.Op;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ExceptionVector;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class InstructionExitTest {
    private static final VmcsField PROC = PROC_BASED_CONTROLS;
    private static final VmcsField PROC2 = SECONDARY_PROC_BASED_CONTROLS;

    private static Arguments row(String name, int reason, VmcsField field, long control, Consumer<Assembler> code) {
        return Arguments.of(name, reason, field, control, code);
    }

    /// One instruction, the control that makes it exit (null: always), and the reason. [SDM Vol. 3 "Instructions That Cause VM
    /// Exits"]
    static Stream<Arguments> rows() {
        return Stream.of(
                row("CPUID", ExitReason.CPUID, null, 0, a -> a.op(Op.CPUID)),
                row("INVD", ExitReason.INVD, null, 0, a -> a.op(Op.INVD)),
                row("XSETBV", ExitReason.XSETBV, null, 0, a -> a.op(Op.XSETBV)),
                row("VMCALL", ExitReason.VMCALL, null, 0, a -> a.op(Op.VMCALL)),
                row("VMLAUNCH", ExitReason.VMLAUNCH, null, 0, a -> a.op(Op.VMLAUNCH)),
                row("VMXOFF", ExitReason.VMXOFF, null, 0, a -> a.op(Op.VMXOFF)),
                row("TDCALL", ExitReason.TDCALL, null, 0, a -> a.op(Op.TDCALL)),
                row("HLT", ExitReason.HLT, PROC, Controls.PROC_HLT_EXITING, a -> a.op(Op.HLT)),
                row("RDTSC", ExitReason.RDTSC, PROC, Controls.PROC_RDTSC_EXITING, a -> a.op(Op.RDTSC)),
                row("RDTSCP", ExitReason.RDTSCP, PROC, Controls.PROC_RDTSC_EXITING, a -> a.op(Op.RDTSCP)),
                row("RDPMC", ExitReason.RDPMC, PROC, Controls.PROC_RDPMC_EXITING, a -> a.op(Op.RDPMC)),
                row("MONITOR", ExitReason.MONITOR, PROC, Controls.PROC_MONITOR_EXITING, a -> a.op(Op.MONITOR)),
                row("MWAIT", ExitReason.MWAIT, PROC, Controls.PROC_MWAIT_EXITING, a -> a.op(Op.MWAIT)),
                row("PAUSE", ExitReason.PAUSE, PROC, Controls.PROC_PAUSE_EXITING, a -> a.op(Op.PAUSE)),
                row("INVLPG", ExitReason.INVLPG, PROC, Controls.PROC_INVLPG_EXITING, a -> a.op(Op.INVLPG, byteAt(mem(RBX)))),
                row("WBINVD", ExitReason.WBINVD, PROC2, Controls.PROC2_WBINVD_EXITING, a -> a.op(Op.WBINVD)),
                row("RDRAND", ExitReason.RDRAND, PROC2, Controls.PROC2_RDRAND_EXITING, a -> a.op(Op.RDRAND, RAX)),
                row("RDSEED", ExitReason.RDSEED, PROC2, Controls.PROC2_RDSEED_EXITING, a -> a.op(Op.RDSEED, RAX)),
                row("SGDT", ExitReason.GDTR_IDTR_ACCESS, PROC2, Controls.PROC2_DESCRIPTOR_TABLE_EXITING,
                        a -> a.db(0x0f, 0x01, 0x03)),
                row("STR", ExitReason.LDTR_TR_ACCESS, PROC2, Controls.PROC2_DESCRIPTOR_TABLE_EXITING,
                        a -> a.db(0x0f, 0x00, 0xc8)),
                row("MOV DR", ExitReason.MOV_DR, PROC, Controls.PROC_MOV_DR_EXITING, a -> a.db(0x0f, 0x21, 0xf8)),
                row("MOV from CR3", ExitReason.CR_ACCESS, PROC, Controls.PROC_CR3_STORE_EXITING, a -> a.db(0x0f, 0x20, 0xd8)),
                row("MOV from CR8", ExitReason.CR_ACCESS, PROC, Controls.PROC_CR8_STORE_EXITING,
                        a -> a.db(0x44, 0x0f, 0x20, 0xc0)));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("rows")
    void exitsWithTheControlAndNotWithout(String name, int reason, VmcsField field, long control, Consumer<Assembler> code) {
        var guest = new VmxGuest().code(code);
        guest.lp.gprs()[3] = VmxGuest.DATA;
        if (field != null) {
            guest.set(field, control);
        }
        assertThat(guest.run()).isEqualTo(reason);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.CODE);
        assertThat(guest.read(EXIT_INSTRUCTION_LENGTH)).isBetween(1L, 7L);
        if (field == null || reason == ExitReason.HLT || reason == ExitReason.MWAIT) {
            return;
        }
        guest.clear(field, control);
        long end = VmxGuest.CODE + guest.read(EXIT_INSTRUCTION_LENGTH);
        guest.write(end, 1, 0xf4);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
    }

    /// RSM exits in SMM only, GETSEC with CR4.SMXE only; else they are invalid opcodes. [SDM Vol. 2 RSM, GETSEC]
    @Test void whatIsSwitchedOffIsInvalidBeforeItExits() {
        for (int[] code : new int[][] {{0x0f, 0xaa}, {0x0f, 0x37}}) {
            var guest = new VmxGuest().code(a -> a.db(code));
            guest.set(EXCEPTION_BITMAP, 1L << ExceptionVector.UD);
            assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
            assertThat(guest.read(EXIT_INTERRUPTION_INFO) & 0xff).isEqualTo(ExceptionVector.UD);
        }
    }

    @Test void reportsPortSizeAndDirection() {
        var guest = new VmxGuest().code(a -> a.out(0x70, AL).in(EAX, 0x71));
        assertThat(guest.run()).isEqualTo(ExitReason.IO_INSTRUCTION);
        long out = guest.read(EXIT_QUALIFICATION);
        assertThat(ExitQualification.ioPort(out)).isEqualTo(0x70);
        assertThat(ExitQualification.ioSize(out)).isEqualTo(1);
        assertThat(out & ExitQualification.IO_IN).isZero();
        assertThat(out & ExitQualification.IO_IMMEDIATE).isNotZero();
        guest.skip();
        assertThat(guest.run()).isEqualTo(ExitReason.IO_INSTRUCTION);
        long in = guest.read(EXIT_QUALIFICATION);
        assertThat(ExitQualification.ioPort(in)).isEqualTo(0x71);
        assertThat(ExitQualification.ioSize(in)).isEqualTo(4);
        assertThat(in & ExitQualification.IO_IN).isNotZero();
    }

    @Test void reportsStringIo() {
        var guest = new VmxGuest().code(a -> a.rep().string(Op.OUTS, 1));
        guest.lp.gprs()[1] = 5;
        guest.lp.gprs()[2] = 0x3f8;
        guest.lp.gprs()[6] = VmxGuest.DATA;
        assertThat(guest.run()).isEqualTo(ExitReason.IO_INSTRUCTION);
        long q = guest.read(EXIT_QUALIFICATION);
        assertThat(q & (ExitQualification.IO_STRING | ExitQualification.IO_REP)).isEqualTo(0x30);
        assertThat(ExitQualification.ioPort(q)).isEqualTo(0x3f8);
        assertThat(guest.read(GUEST_LINEAR_ADDRESS)).isEqualTo(VmxGuest.DATA);
        assertThat(guest.read(EXIT_INSTRUCTION_INFO)).isEqualTo((2 << 7) | (3 << 15));
    }

    @Test void ioBitmapDecidesPortByPort() {
        var guest = new VmxGuest().set(PROC, Controls.PROC_IO_BITMAPS).code(a -> a.out(0x70, AL).out(0x80, AL).hlt());
        guest.memory.write(VmxGuest.IO_BITMAPS_PA + 0x80 / 8, 1, 1);
        assertThat(guest.run()).isEqualTo(ExitReason.IO_INSTRUCTION);
        assertThat(ExitQualification.ioPort(guest.read(EXIT_QUALIFICATION))).isEqualTo(0x80);
    }

    @Test void msrBitmapDecidesMsrByMsr() {
        var guest = new VmxGuest().code(a -> a.mov(ECX, imm(0xc000_0081)).op(Op.RDMSR).op(Op.WRMSR).hlt());
        guest.memory.write(VmxGuest.MSR_BITMAP_PA + 3072 + 0x81 / 8, 1, 1 << 1);
        guest.lp.wrmsr(0xc000_0081, 0x1122_3344_5566_7788L);
        assertThat(guest.run()).isEqualTo(ExitReason.WRMSR);
        assertThat(guest.lp.gprs()[0]).isEqualTo(0x5566_7788L);
        assertThat(guest.lp.gprs()[2]).isEqualTo(0x1122_3344L);
        guest.clear(PROC, Controls.PROC_MSR_BITMAPS);
        guest.vmcs.write(GUEST_RIP, VmxGuest.CODE);
        assertThat(guest.run()).isEqualTo(ExitReason.RDMSR);
    }

    @Test void cr0MaskShowsTheShadowAndExitsOnDifference() {
        // MOV RAX, CR0; MOV CR0, RAX; XOR RAX, 0x10000 (WP: guest-owned); MOV CR0, RAX; XOR RAX, 8 (TS: owned by the host); MOV CR0, RAX
        var guest = new VmxGuest().code(a -> a.db(0x0f, 0x20, 0xc0).db(0x0f, 0x22, 0xc0).db(0x48, 0x35, 0, 0, 1, 0)
                .db(0x0f, 0x22, 0xc0).db(0x48, 0x83, 0xf0, 8).db(0x0f, 0x22, 0xc0));
        guest.vmcs.write(CR0_GUEST_HOST_MASK, 0x8);
        guest.vmcs.write(CR0_READ_SHADOW, 0x8);
        assertThat(guest.run()).isEqualTo(ExitReason.CR_ACCESS);
        assertThat(guest.lp.gprs()[0]).isEqualTo(0x8001_0031L);
        assertThat(guest.read(GUEST_CR0) & 0xffff_ffffL).isEqualTo(0x8001_0031L);
        long q = guest.read(EXIT_QUALIFICATION);
        assertThat(ExitQualification.controlRegister(q)).isZero();
        assertThat(ExitQualification.controlRegisterAccess(q)).isEqualTo(ExitQualification.CR_MOV_TO);
        assertThat(guest.read(EXIT_INSTRUCTION_LENGTH)).isEqualTo(3);
    }

    @Test void clearingVmxeOrNeFaults() {
        var guest = new VmxGuest().code(a -> a.db(0x0f, 0x20, 0xe0).db(0x48, 0x25, 0xff, 0xdf, 0xff, 0x7f).db(0x0f, 0x22, 0xe0));
        guest.run();
        assertThat(guest.inHandler(ExceptionVector.GP)).isTrue();
    }

    @Test void tscOffsetIsAdded() {
        var guest = new VmxGuest().set(PROC, Controls.PROC_TSC_OFFSETTING).code(a -> a.op(Op.RDTSC).hlt());
        guest.vmcs.write(TSC_OFFSET, 1L << 40);
        guest.run();
        assertThat(guest.lp.gprs()[2]).isEqualTo(1 << 8);
        assertThat(guest.lp.gprs()[0]).isLessThan(100);
    }

    @Test void exceptionBitmapAndPageFaultMask() {
        var guest = new VmxGuest().code(a -> a.op(Op.UD2));
        guest.run();
        assertThat(guest.inHandler(ExceptionVector.UD)).isTrue();

        guest = new VmxGuest().code(a -> a.op(Op.UD2));
        guest.vmcs.write(EXCEPTION_BITMAP, 1 << ExceptionVector.UD);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat((int) guest.read(EXIT_INTERRUPTION_INFO)).isEqualTo(0x8000_0306);

        // #PF for a read (error code 0): exits when (code & mask) == match for bit 14 set.
        guest = new VmxGuest().code(a -> a.db(0x8b, 0x03));
        guest.lp.gprs()[3] = 0x40_0000;
        guest.vmcs.write(EXCEPTION_BITMAP, 1 << ExceptionVector.PF);
        guest.vmcs.write(PAGE_FAULT_ERROR_CODE_MASK, 2);
        guest.vmcs.write(PAGE_FAULT_ERROR_CODE_MATCH, 2);
        guest.run();
        assertThat(guest.inHandler(ExceptionVector.PF)).isTrue();
        assertThat(guest.lp.cr2()).isEqualTo(0x40_0000);

        guest.vmcs.write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
        guest.vmcs.write(GUEST_RIP, VmxGuest.CODE);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat((int) guest.read(EXIT_INTERRUPTION_INFO)).isEqualTo(0x8000_0b0e);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(0x40_0000);
    }

    @Test void tripleFault() {
        var guest = new VmxGuest().code(a -> a.op(Op.UD2));
        guest.vmcs.write(GUEST_IDTR_LIMIT, 0);
        assertThat(guest.run()).isEqualTo(ExitReason.TRIPLE_FAULT);
    }

    @Test void monitorTrapFlagExitsAfterOneInstruction() {
        var guest = new VmxGuest().set(PROC, Controls.PROC_MONITOR_TRAP_FLAG).code(a -> a.op(Op.NOP).op(Op.NOP).hlt());
        assertThat(guest.run()).isEqualTo(ExitReason.MONITOR_TRAP_FLAG);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.CODE + 1);
    }

    @Test void preemptionTimerCountsVirtualTime() {
        var guest = new VmxGuest().set(PIN_BASED_CONTROLS, Controls.PIN_PREEMPTION_TIMER).code(a -> a.db(0xeb, 0xfe));
        guest.vmcs.write(PREEMPTION_TIMER_VALUE, 1000);
        assertThat(guest.run()).isEqualTo(ExitReason.PREEMPTION_TIMER);
        assertThat(guest.lp.rdtsc()).isBetween(32_000L - 32, 32_000L + 1000);
    }
}
