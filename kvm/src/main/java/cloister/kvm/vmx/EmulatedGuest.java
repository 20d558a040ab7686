package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.emulation.EmulatedProcessor;
import cloister.cpu.emulation.MemoryAndPorts.Access;
import cloister.cpu.emulation.MemoryAndPorts.Right;
import cloister.kvm.KvmRun;
import cloister.kvm.emulate.EmulatedMachine;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.mmu.GuestWalk;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;
import cloister.spec.x86.Rflags;
import java.util.OptionalLong;

/// A vCPU of an ordinary VM as the instruction emulator sees it.
final class EmulatedGuest implements EmulatedMachine {
    private static final long PAGE_ADDRESS = 0x000f_ffff_ffff_f000L;
    private static final long LOCAL_BREAKPOINTS = 0x155;
    /// In DR6.
    private static final long TASK_TRAP = 1 << 15;
    private static final int NO_INTERRUPTS = GuestActivity.BLOCKING_BY_STI | GuestActivity.BLOCKING_BY_MOV_SS;

    private final VmxVcpu vcpu;
    private final LoadedVmcs vmcs;

    EmulatedGuest(VmxVcpu vcpu) {
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
    }

    // --- registers

    @Override public void load(EmulatedProcessor p) {
        p.loadGeneral(vcpu.gprs);
        p.load(vmcs.read(GUEST_RIP), vmcs.read(GUEST_RFLAGS));
        for (int i = 0; i < EmulatedProcessor.SEGMENTS; i++) {
            p.segment(i, vmcs.readInt(VmcsField.ofSegment(GUEST_ES_SELECTOR, i)), vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, i)),
                    vmcs.readInt(VmcsField.ofSegment(GUEST_ES_LIMIT, i)), vmcs.readInt(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, i)));
        }
        p.descriptorTables(vmcs.read(GUEST_GDTR_BASE), vmcs.readInt(GUEST_GDTR_LIMIT), vmcs.read(GUEST_IDTR_BASE),
                vmcs.readInt(GUEST_IDTR_LIMIT));
        p.fastCalls(msr(Msr.IA32_STAR), msr(Msr.IA32_LSTAR), msr(Msr.IA32_FMASK), vmcs.read(GUEST_SYSENTER_CS),
                vmcs.read(GUEST_SYSENTER_ESP), vmcs.read(GUEST_SYSENTER_EIP));
        p.extendedControl(vcpu.xcr0(), vcpu.xss());
        long cr0 = vcpu.cr.cr0();
        p.control(cr0, vcpu.cr2(), vcpu.cr.cr3(), vcpu.cr.cr4(), vcpu.apic.tpr() >> 4, vcpu.cr.efer(),
                (cr0 & Cr0.PE) == 0 ? 0 : vcpu.cpl());
    }

    private long msr(int index) {
        return vcpu.readHardware(index);
    }

    @Override public void store(EmulatedProcessor p) {
        p.storeGeneral(vcpu.gprs);
        vmcs.write(GUEST_RSP, vcpu.gprs[VmxVcpu.RSP]);
        vmcs.write(GUEST_RIP, p.rip());
        long flags = vmcs.read(GUEST_RFLAGS);
        vmcs.write(GUEST_RFLAGS, p.rflags());
        if ((p.rflags() & ~flags & Rflags.IF) != 0) {
            vcpu.mayTakeEvents();
        }
        for (int i = 0; i < EmulatedProcessor.SEGMENTS; i++) {
            if (p.changed(i)) {
                vcpu.segment(i, p.selector(i), p.base(i), p.limit(i), p.rights(i));
            }
        }
        vmcs.write(GUEST_GDTR_BASE, p.gdtBase());
        vmcs.write(GUEST_GDTR_LIMIT, p.gdtLimit());
        vmcs.write(GUEST_IDTR_BASE, p.idtBase());
        vmcs.write(GUEST_IDTR_LIMIT, p.idtLimit());
        vcpu.cr2(p.cr2());
    }

    @Override public void retired(EmulatedProcessor p, boolean traps) {
        int blocking = vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE);
        if ((blocking & NO_INTERRUPTS) != 0 || p.shadow() != 0) {
            vmcs.write(GUEST_INTERRUPTIBILITY_STATE, (blocking & ~NO_INTERRUPTS) | p.shadow());
        }
        if (traps) {
            vcpu.trapped(GuestActivity.PENDING_BS);
        }
    }

    @Override public void taskSwitched(EmulatedProcessor p) {
        if (p.changedCr3()) {
            vcpu.writeControl(3, p.cr3());
        }
        vcpu.writeControl(0, vcpu.cr.cr0() | Cr0.TS);
        vmcs.write(GUEST_DR7, vmcs.read(GUEST_DR7) & ~LOCAL_BREAKPOINTS);
        if (p.takeTaskTrap()) {
            vcpu.queueDebug(TASK_TRAP);
        }
    }

    @Override public void loadFpu(EmulatedProcessor p) {
        p.fpu().copyFrom(vcpu.fpu());
    }

    @Override public void storeFpu(EmulatedProcessor p) {
        vcpu.fpu().copyFrom(p.fpu());
    }

    @Override public long controlFlow(boolean user) {
        return vcpu.readHardware(user ? Msr.IA32_U_CET : Msr.IA32_S_CET);
    }

    // --- memory

    @Override public long translate(EmulatedProcessor p, long linear, Access access, Right right) {
        int kind = (right == Right.USER ? GuestWalk.USER : 0) | switch (access) {
            case READ -> 0;
            case WRITE -> GuestWalk.WRITE;
            case FETCH -> GuestWalk.FETCH;
        };
        long flags = right == Right.SUPERVISOR_WITH_AC ? Rflags.AC : 0;
        long result = GuestWalk.translate(vcpu.vm.memory, vcpu.mmu, linear, kind,
                new GuestWalk.Registers(p.cr0(), p.cr3(), p.cr4(), p.efer(), flags));
        return GuestWalk.isFault(result) ? Long.MIN_VALUE | GuestWalk.errorCode(result) : result;
    }

    @Override public boolean isMemory(long gpa) {
        return vcpu.vm.memory.isMemory(gpa);
    }

    @Override public boolean isWritable(long gpa) {
        return vcpu.vm.memory.isWritable(gpa);
    }

    @Override public long readMemory(long gpa, int bytes) {
        if (Integer.bitCount(bytes) == 1) {
            return vcpu.vm.memory.read(gpa, bytes);
        }
        long value = 0;
        for (int i = 0; i < bytes; i++) { // a part of an operand that crosses pages
            value |= vcpu.vm.memory.read(gpa + i, 1) << (8 * i);
        }
        return value;
    }

    @Override public void writeMemory(long gpa, int bytes, long value) {
        if (Integer.bitCount(bytes) == 1) {
            vcpu.vm.memory.write(vcpu.mmu, gpa, bytes, value);
        } else {
            for (int i = 0; i < bytes; i++) {
                vcpu.vm.memory.write(vcpu.mmu, gpa + i, 1, value >>> (8 * i));
            }
        }
        vcpu.mmu.trackWrite(gpa, bytes);
    }

    @Override public boolean isApic(long gpa) {
        long base = vcpu.apic.baseMsr() & PAGE_ADDRESS;
        return vcpu.apic.isEnabled() && !vcpu.apic.isX2apic() && (gpa & PAGE_ADDRESS) == base
                && base == ApicRegister.DEFAULT_BASE;
    }

    @Override public int readApic(int offset) {
        return vcpu.apic.readMmio(offset);
    }

    @Override public void writeApic(int offset, int value) {
        vcpu.apic.writeMmio(offset, value);
    }

    @Override public KvmRun run() {
        return vcpu.run;
    }

    // --- what KVM does for the instruction

    @Override public boolean writeControl(int register, long value) {
        return vcpu.writeControl(register, value);
    }

    @Override public boolean writeExtendedControl(int register, long value) {
        return vcpu.writeXcr(register, value);
    }

    @Override public OptionalLong readMsr(int index) {
        try {
            return OptionalLong.of(vcpu.msrs.read(index));
        } catch (GuestGp refused) {
            return OptionalLong.empty();
        }
    }

    @Override public boolean writeMsr(int index, long value) {
        try {
            vcpu.msrs.write(index, value, false);
            return true;
        } catch (GuestGp refused) {
            return false;
        }
    }

    @Override public long debugRegister(int number) {
        return vcpu.debugRegister(number);
    }

    @Override public void debugRegister(int number, long value) {
        vcpu.debugRegister(number, value);
    }

    @Override public void cpuid(int leaf, int subleaf, int[] out) {
        vcpu.queryCpuid(leaf, subleaf, out);
    }

    @Override public long tsc() {
        return vcpu.tsc();
    }

    @Override public void halt() {
        vcpu.halt();
    }

    @Override public void unmaskNmis() {
        vcpu.injection.maskNmis(false);
    }

    @Override public void invalidatePage(long linear) {
        vcpu.flushAddress(linear);
    }

    @Override public void raise(int vector, int errorCode, long address) {
        switch (vector) {
            case ExceptionVector.PF -> vcpu.queuePageFault(errorCode, address);
            case ExceptionVector.DB -> vcpu.queueDebug(address);
            default -> vcpu.queueException(vector, errorCode);
        }
    }

    @Override public long[] failureData(byte[] code) {
        return FailureData.emulation(vmcs, code);
    }
}
