package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.kvm.KvmExit;
import cloister.kvm.emulate.InstructionEmulator;
import cloister.kvm.mmu.FaultResult;
import cloister.kvm.mmu.VcpuMmu;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.PageFaultCode;
import cloister.spec.x86.Rflags;

/// The exits of a guest whose own tables are shadowed: page faults, most of which only the shadow has, and INVPCID. [LINUX
/// vmx_handle_page_fault, kvm_mmu_page_fault, kvm_handle_invpcid]
final class PagingExits {
    private static final int HARDWARE_ERROR = PageFaultCode.P | PageFaultCode.W | PageFaultCode.U | PageFaultCode.I;
    private static final int INVALIDATE_ADDRESS = 0;
    private static final int INVALIDATE_PCID = 1;
    private static final int INVALIDATE_ALL_BUT_GLOBAL = 3;
    private static final int USER_LEVEL = 3;
    // VM-exit instruction information of INVPCID [SDM Vol. 3 "VM-Exit Instruction-Information Field"]
    private static final int NO_INDEX = 1 << 22;
    private static final int NO_BASE = 1 << 27;

    private final VmxVcpu vcpu;
    private final LoadedVmcs vmcs;
    private final VmxExits exits;
    private final InstructionEmulator emulator;

    PagingExits(VmxVcpu vcpu, VmxExits exits, InstructionEmulator emulator) {
        this.emulator = emulator;
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
        this.exits = exits;
    }

    KvmExit pageFault() {
        long linear = vmcs.read(EXIT_QUALIFICATION);
        int code = vmcs.readInt(EXIT_INTERRUPTION_ERROR_CODE);
        if ((code & PageFaultCode.RSVD) != 0) {
            return after(vcpu.mmu.misconfiguration(linear), linear);
        }
        // At CPL 3 a supervisor access is one that the processor makes by itself: RFLAGS.AC does not count for it.
        boolean explicit = (code & PageFaultCode.U) == 0 && vcpu.cpl() != USER_LEVEL;
        boolean allowsUser = explicit && (vmcs.read(GUEST_RFLAGS) & Rflags.AC) != 0;
        return after(vcpu.mmu.fault(linear, (code & HARDWARE_ERROR) | (allowsUser ? VcpuMmu.ERROR_ALLOWS_USER : 0)), linear);
    }

    private KvmExit after(FaultResult result, long linear) {
        if (result == FaultResult.REFLECT) {
            vcpu.queuePageFault(vcpu.mmu.guestError(), linear);
            return null;
        }
        long gpa = vcpu.mmu.faultGpa();
        return result == FaultResult.WRITE_PROTECTED ? writeToTable(gpa) : exits.afterFault(result, gpa);
    }

    /// A write to a table: it is emulated, or, where that cannot be, the table is not shadowed for a while and the processor tries again.
    /// [LINUX kvm_mmu_write_protect_fault]
    private KvmExit writeToTable(long gpa) {
        boolean emulates = !vcpu.events.needsReinjection() && emulator.atPageTableWrite();
        return !emulates && !vcpu.mmu.wroteOwnTable() && vcpu.mmu.unprotect(gpa) ? null : exits.emulate(gpa);
    }

    // --- INVPCID

    KvmExit invpcid() {
        int info = vmcs.readInt(EXIT_INSTRUCTION_INFO);
        long type = vcpu.gprs[info >>> 28];
        var operand = emulator.readOperand((info >>> 15) & 7, offset(info));
        if (operand.words() == null) {
            return operand.exit();
        }
        long pcid = operand.words()[0];
        long address = operand.words()[1];
        boolean pcids = (vcpu.cr.cr4() & Cr4.PCIDE) != 0;
        int shift = vcpu.cr.linearShift();
        boolean bad = pcid >>> 12 != 0 || Long.compareUnsigned(type, INVALIDATE_ALL_BUT_GLOBAL) > 0
                || (type <= INVALIDATE_PCID && !pcids && pcid != 0)
                || (type == INVALIDATE_ADDRESS && address << shift >> shift != address);
        if (bad) {
            vcpu.queueGp();
            return null;
        }
        switch ((int) type) {
            case INVALIDATE_ADDRESS -> vcpu.flushAddress(address, pcid);
            case INVALIDATE_PCID -> vcpu.flushPcid(pcid, pcids);
            default -> vcpu.flushGuestTlb();
        }
        return exits.skip();
    }

    /// The offset of the memory operand.
    private long offset(int info) {
        long base = (info & NO_BASE) != 0 ? 0 : register((info >>> 23) & 15);
        long index = (info & NO_INDEX) != 0 ? 0 : register((info >>> 18) & 15) << (info & 3);
        long offset = vmcs.read(EXIT_QUALIFICATION) + base + index;
        return ((info >>> 7) & 7) == 1 ? offset & 0xffff_ffffL : offset;
    }

    private long register(int number) {
        return number == VmxVcpu.RSP ? vmcs.read(GUEST_RSP) : vcpu.gprs[number];
    }
}
