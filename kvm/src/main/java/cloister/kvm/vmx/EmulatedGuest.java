package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.isa.CodeMode;
import cloister.kvm.emulate.EmulatedMachine;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ApicRegister;

/// A vCPU of an ordinary VM as the instruction emulator sees it.
final class EmulatedGuest implements EmulatedMachine {
    private static final int FS = 4;
    private static final int DEFAULT_SIZE_32 = 1 << 14;
    private static final long PAGE_ADDRESS = 0x000f_ffff_ffff_f000L;

    private final VmxVcpu vcpu;
    private final LoadedVmcs vmcs;

    EmulatedGuest(VmxVcpu vcpu) {
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
    }

    @Override public long gpr(int number) {
        return vcpu.gprs[number];
    }

    @Override public void gpr(int number, long value) {
        vcpu.gprs[number] = value;
        if (number == VmxVcpu.RSP) {
            vmcs.write(GUEST_RSP, value);
        }
    }

    @Override public long rip() {
        return vmcs.read(GUEST_RIP);
    }

    @Override public void advance(int length) {
        vcpu.advance(length);
    }

    @Override public long rflags() {
        return vmcs.read(GUEST_RFLAGS);
    }

    @Override public void rflags(long value) {
        vmcs.write(GUEST_RFLAGS, value);
    }

    @Override public CodeMode codeMode() {
        if (vcpu.is64Bit()) {
            return CodeMode.BITS64;
        }
        return (vmcs.readInt(GUEST_CS_ACCESS_RIGHTS) & DEFAULT_SIZE_32) != 0 ? CodeMode.BITS32 : CodeMode.BITS16;
    }

    @Override public long segmentBase(int number) {
        return vcpu.is64Bit() && number < FS ? 0 : vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, number));
    }

    @Override public long translate(long linear) {
        return vcpu.translate(linear);
    }

    @Override public boolean isMemory(long gpa) {
        return vcpu.vm.memory.isMemory(gpa);
    }

    @Override public boolean isWritable(long gpa) {
        return vcpu.vm.memory.isWritable(gpa);
    }

    @Override public long readMemory(long gpa, int bytes) {
        return vcpu.vm.memory.read(gpa, bytes);
    }

    @Override public void writeMemory(long gpa, int bytes, long value) {
        vcpu.vm.memory.write(vcpu.mmu, gpa, bytes, value);
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

    @Override public byte[] exitData() {
        return vcpu.run.data;
    }
}
