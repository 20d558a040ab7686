package cloister.kvm.vmx;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.DX;
import static cloister.isa.Operands.EAX;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmSegment;
import cloister.kvm.ProtectedGuest;
import cloister.spec.x86.Cr0;
import org.junit.jupiter.api.Test;

/// Task switches of an ordinary VM's guest, which the processor leaves to KVM. [SDM Vol. 3 "Task Switching"; LINUX kvm_task_switch]
final class TaskSwitchGuestTest {
    private static final int GDT = 0x9800;
    private static final int OLD_TSS = 0xa000;
    private static final int NEW_TSS = 0xb000;
    private static final int NEW_CODE = 0xc000;
    private static final int NEW_STACK = 0xd000;
    private static final int OLD = 0x18;
    private static final int NEW = 0x20;
    private static final int GATE_VECTOR = 13;
    private static final long TASK_GATE = 0x0000_8500_0020_0000L;

    private static ProtectedGuest guest(int newDs, Assembler task, Assembler main) {
        var guest = new ProtectedGuest();
        guest.load(GDT, new Assembler(CodeMode.BITS32, GDT).dq(0, 0x00cf_9b00_0000_ffffL, 0x00cf_9300_0000_ffffL, 0x0000_8b00_a000_0067L,
                0x0000_8900_b000_0067L).assemble());
        var tss = new Assembler(CodeMode.BITS32, NEW_TSS);
        tss.dd(0, 0, 0, 0, 0, 0, 0, 0, NEW_CODE, 2, 0x77, 0, ProtectedGuest.PORT, 0, NEW_STACK, 0, 0, 0); // up to EDI
        tss.dd(0x10, 8, 0x10, newDs, 0, 0, 0, 0);
        guest.load(NEW_TSS, tss.assemble());
        guest.load(NEW_CODE, task.assemble());
        guest.load(ProtectedGuest.CODE, main.assemble());
        var sregs = guest.vcpu.getSregs();
        sregs.gdtBase = GDT;
        sregs.gdtLimit = 39;
        sregs.tr = new KvmSegment(OLD_TSS, 0x67, OLD, 11, true, 0, false, false, false, false, false, false);
        guest.vcpu.setSregs(sregs);
        return guest;
    }

    private static Assembler task() {
        return new Assembler(CodeMode.BITS32, NEW_CODE);
    }

    private static Assembler call(Assembler a) {
        return a.db(0x9a).dd(0).dw(NEW);
    }

    /// CALL of a TSS and the IRET that comes back: registers of both tasks, NT, busy bits, the link, CR0.TS.
    @Test void callAndReturn() {
        var main = ProtectedGuest.end(call(ProtectedGuest.code().mov(EAX, 'M')).out(DX, AL));
        try (var guest = guest(0x10, task().out(DX, AL).iret(4), main)) {
            assertThat(guest.play()).isNull();
            assertThat(guest.written).containsExactly(0x77, (int) 'M');
            assertThat(guest.vcpu.getSregs().cr0 & Cr0.TS).isNotZero();
            assertThat(guest.vcpu.getSregs().tr.selector()).isEqualTo(OLD);
            assertThat(read(guest, NEW_TSS, 2)).as("the link").isEqualTo(OLD);
            assertThat(read(guest, GDT + NEW + 5, 1)).as("free again").isEqualTo(0x89);
            assertThat(read(guest, GDT + OLD + 5, 1)).as("busy").isEqualTo(0x8b);
        }
    }

    /// #GP through a task gate: the new task finds the error code on its stack, the old one is left at the instruction.
    @Test void faultThroughATaskGate() {
        var main = ProtectedGuest.code().mov(EAX, 0x1230).db(0x8e, 0xd8); // MOV DS, AX
        int faultingRip = ProtectedGuest.CODE + 5;
        try (var guest = guest(0x10, ProtectedGuest.end(task().pop(EAX).shr(EAX, 8).out(DX, AL)), main)) {
            guest.load(0x2000 + (8 * GATE_VECTOR), new Assembler(CodeMode.BITS32, 0).dq(TASK_GATE).assemble());
            assertThat(guest.play()).isNull();
            assertThat(guest.written).containsExactly(0x12);
            assertThat(read(guest, OLD_TSS + 0x20, 4)).isEqualTo(faultingRip);
        }
    }

    /// A segment of the new task that cannot be loaded is #TS within that task.
    @Test void segmentsOfTheNewTaskFaultThere() {
        try (var guest = guest(0x48, task(), call(ProtectedGuest.code()))) {
            guest.handler(10, new Assembler(CodeMode.BITS32, ProtectedGuest.handler(10)).pop(EAX).out(DX, AL).pop(EAX).shr(EAX, 8)
                    .out(DX, AL).mov(AL, 0xff).out(DX, AL).hlt());
            assertThat(guest.play()).isNull();
            assertThat(guest.written).as("the selector, and the new task's EIP").containsExactly(0x48, NEW_CODE >> 8);
            assertThat(guest.vcpu.getSregs().tr.selector()).isEqualTo(NEW);
        }
    }

    /// JMP to a TSS that is not there faults in the old task, of which nothing has changed.
    @Test void noSuchTask() {
        var main = ProtectedGuest.end(ProtectedGuest.code().db(0xea).dd(0).dw(0x38));
        try (var guest = guest(0x10, task(), main)) {
            guest.handler(GATE_VECTOR, ProtectedGuest.end(new Assembler(CodeMode.BITS32, ProtectedGuest.handler(GATE_VECTOR)).pop(EAX)
                    .out(DX, AL)));
            KvmExit exit = guest.play();
            assertThat(exit).isNull();
            assertThat(guest.written).containsExactly(0x38);
            assertThat(guest.vcpu.getSregs().tr.selector()).isEqualTo(OLD);
        }
    }

    private static long read(ProtectedGuest guest, long gpa, int bytes) {
        return ((VmxVcpu) guest.vcpu).vm.memory.read(gpa, bytes);
    }
}
