package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.isa.CodeMode;
import cloister.kvm.emulate.EmulatedMachine;
import cloister.kvm.emulate.GuestException;
import cloister.kvm.mmu.GuestWalk;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;

/// A vCPU of an ordinary VM as the instruction emulator sees it.
final class EmulatedGuest implements EmulatedMachine {
    private static final long LOW = 0xffff_ffffL;
    private static final int SS = 2;
    private static final int FS = 4;
    private static final int READ_WRITE = 1 << 1;
    private static final int EXPAND_DOWN = 1 << 2;
    private static final int CODE = 1 << 3;
    private static final int UNUSABLE = 1 << 16;
    private static final int DEFAULT_SIZE_32 = 1 << 14;
    private static final long PAGE_ADDRESS = 0x000f_ffff_ffff_f000L;

    private final GuestException exception = new GuestException();
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

    @Override public int cpl() {
        return vcpu.cpl();
    }

    @Override public long linear(int number, long offset, int bytes, Access access) {
        if (vcpu.is64Bit()) {
            long linear = offset + (number < FS ? 0 : vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, number)));
            if (!canonical(linear) || !canonical(linear + bytes - 1)) {
                throw refused(number);
            }
            return linear;
        }
        if (!allows(number, offset & LOW, bytes, access)) {
            throw refused(number);
        }
        return (offset + vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, number))) & LOW;
    }

    private boolean canonical(long linear) {
        int unused = (vcpu.cr.cr4() & Cr4.LA57) != 0 ? 64 - 57 : 64 - 48;
        return linear << unused >> unused == linear;
    }

    private GuestException refused(int number) {
        return exception.of(number == SS ? ExceptionVector.SS : ExceptionVector.GP, 0);
    }

    /// [SDM Vol. 3 "Limit Checking", "Type Checking"]
    private boolean allows(int number, long offset, int bytes, Access access) {
        int rights = vmcs.readInt(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, number));
        boolean code = (rights & CODE) != 0;
        if ((rights & UNUSABLE) != 0 || (access == Access.WRITE && (code || (rights & READ_WRITE) == 0))
                || (access == Access.READ && code && (rights & READ_WRITE) == 0)) {
            return false;
        }
        long limit = vmcs.read(VmcsField.ofSegment(GUEST_ES_LIMIT, number)) & LOW;
        long last = offset + bytes - 1;
        if (!code && (rights & EXPAND_DOWN) != 0) {
            return offset > limit && last <= ((rights & DEFAULT_SIZE_32) != 0 ? LOW : 0xffff);
        }
        return last <= limit;
    }

    @Override public long translate(long linear, Access access) {
        int kind = (vcpu.cpl() == 3 ? GuestWalk.USER : 0) | switch (access) {
            case READ -> 0;
            case WRITE -> GuestWalk.WRITE;
            case FETCH -> GuestWalk.FETCH;
        };
        long result = GuestWalk.translate(vcpu.vm.memory, vcpu.mmu, linear, kind, new GuestWalk.Registers(vcpu.cr.cr0(), vcpu.cr.cr3(),
                vcpu.cr.cr4(), vcpu.cr.efer(), rflags()));
        if (GuestWalk.isFault(result)) {
            throw exception.pageFault(GuestWalk.errorCode(result), linear);
        }
        return result;
    }

    @Override public void raise(GuestException raised) {
        if (raised.vector() == ExceptionVector.PF) {
            vcpu.queuePageFault(raised.errorCode(), raised.address());
        } else {
            vcpu.queueException(raised.vector(), raised.errorCode());
        }
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
        vcpu.mmu.trackWrite(gpa, bytes);
            return;
        }
        for (int i = 0; i < bytes; i++) {
            vcpu.vm.memory.write(vcpu.mmu, gpa + i, 1, value >>> (8 * i));
        }
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
