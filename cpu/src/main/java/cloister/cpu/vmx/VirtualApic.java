package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.PostedInterrupts;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;

/// APIC virtualisation: the virtual-APIC page, virtual-interrupt delivery and posted interrupts. [SDM Vol. 3 "APIC
/// Virtualization and Virtual Interrupts"]
final class VirtualApic {
    static final int TPR = 0x80;
    static final int PPR = 0xa0;
    static final int EOI = 0xb0;
    static final int ISR = 0x100;
    static final int IRR = 0x200;
    static final int ICR_LOW = 0x300;
    static final int ICR_HIGH = 0x310;
    static final int SELF_IPI = 0x3f0;
    private static final int FIRST_LEGAL_VECTOR = 16;

    private final Vmx vmx;
    private final Cpu cpu;
    /// A virtual interrupt is recognised and waits until the guest can take it.
    boolean recognised;

    VirtualApic(Vmx vmx) {
        this.vmx = vmx;
        this.cpu = vmx.cpu;
    }

    // --- the virtual-APIC page

    int read(int offset) {
        return (int) cpu.readPhysical(vmx.structure(VIRTUAL_APIC_ADDRESS) + offset, 4);
    }

    void write(int offset, int value) {
        cpu.writePhysical(vmx.structure(VIRTUAL_APIC_ADDRESS) + offset, 4, value);
    }

    private void setBit(int base, int vector, boolean value) {
        int offset = base + (vector >>> 5 << 4);
        int bit = 1 << vector;
        int old = read(offset);
        write(offset, value ? old | bit : old & ~bit);
    }

    private int highest(int base) {
        for (int i = 7; i >= 0; i--) {
            int word = read(base + (i << 4));
            if (word != 0) {
                return i * 32 + 31 - Integer.numberOfLeadingZeros(word);
            }
        }
        return 0;
    }

    int tpr() {
        return read(TPR) & 0xff;
    }

    private int rvi() {
        return vmx.vmcs.readInt(GUEST_INTERRUPT_STATUS) & 0xff;
    }

    private int svi() {
        return (vmx.vmcs.readInt(GUEST_INTERRUPT_STATUS) >>> 8) & 0xff;
    }

    private void status(int rvi, int svi) {
        vmx.vmcs.write(GUEST_INTERRUPT_STATUS, rvi | (svi << 8));
    }

    private boolean virtualInterrupts() {
        return vmx.proc2(Controls.PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    }

    // --- TPR, PPR, EOI and self-IPI virtualisation

    void writeTpr(int value) {
        write(TPR, value & 0xff);
        tprVirtualization();
    }

    /// [SDM Vol. 3 "TPR Virtualization"]
    void tprVirtualization() {
        if (virtualInterrupts()) {
            pprVirtualization();
            evaluate();
        } else if ((tpr() >>> 4) < (vmx.vmcs.readInt(TPR_THRESHOLD) & 15)) {
            vmx.boundary.trap(ExitReason.TPR_BELOW_THRESHOLD, 0);
        }
    }

    /// [SDM Vol. 3 "PPR Virtualization"]
    void pprVirtualization() {
        int tpr = tpr();
        int svi = svi();
        write(PPR, (tpr >>> 4) >= (svi >>> 4) ? tpr : svi & 0xf0);
    }

    /// [SDM Vol. 3 "Evaluation of Pending Virtual Interrupts"]
    void evaluate() {
        recognised = !vmx.proc(Controls.PROC_INTERRUPT_WINDOW) && (rvi() >>> 4) > ((read(PPR) >>> 4) & 15);
        if (recognised) {
            vmx.boundary.lookAtBoundary();
        }
    }

    /// [SDM Vol. 3 "EOI Virtualization"]
    void eoiVirtualization() {
        int vector = svi();
        setBit(ISR, vector, false);
        status(rvi(), highest(ISR));
        pprVirtualization();
        VmcsField bitmap = switch (vector >>> 6) {
            case 0 -> EOI_EXIT_BITMAP_0;
            case 1 -> EOI_EXIT_BITMAP_1;
            case 2 -> EOI_EXIT_BITMAP_2;
            default -> EOI_EXIT_BITMAP_3;
        };
        if (((vmx.vmcs.read(bitmap) >>> (vector & 63)) & 1) != 0) {
            vmx.boundary.trap(ExitReason.VIRTUALIZED_EOI, vector);
        } else {
            evaluate();
        }
    }

    /// [SDM Vol. 3 "Self-IPI Virtualization"]
    void selfIpiVirtualization(int vector) {
        setBit(IRR, vector, true);
        status(Math.max(rvi(), vector), svi());
        evaluate();
    }

    /// Takes the recognised interrupt for delivery through the IDT and returns its vector. [SDM Vol. 3 "Virtual-Interrupt Delivery"]
    int takeInterrupt() {
        int vector = rvi();
        setBit(ISR, vector, true);
        write(PPR, vector & 0xf0);
        setBit(IRR, vector, false);
        status(highest(IRR), vector);
        recognised = false;
        return vector;
    }

    /// VM entry: the state that the page and the guest interrupt status imply.
    void load() {
        recognised = false;
        if (!vmx.proc(Controls.PROC_TPR_SHADOW)) {
            return;
        }
        if (virtualInterrupts()) {
            pprVirtualization();
            evaluate();
        } else if (!vmx.proc2(Controls.PROC2_VIRTUALIZE_APIC_ACCESSES)
                && (tpr() >>> 4) < (vmx.vmcs.readInt(TPR_THRESHOLD) & 15)) {
            vmx.boundary.trap(ExitReason.TPR_BELOW_THRESHOLD, 0);
        }
    }

    // --- posted interrupts

    /// Whether `vector` is the notification of posted interrupts of the running guest.
    boolean isNotification(int vector) {
        return vmx.pin(Controls.PIN_POSTED_INTERRUPTS)
                && vector == (vmx.vmcs.readInt(POSTED_INTERRUPT_NOTIFICATION_VECTOR) & 0xff);
    }

    /// [SDM Vol. 3 "Posted-Interrupt Processing"]
    void processPosted() {
        long descriptor = vmx.vmcs.read(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS);
        cpu.fetchAndPhysical(descriptor + PostedInterrupts.CONTROL, 8, ~PostedInterrupts.OUTSTANDING);
        int best = rvi();
        for (int i = 0; i < 8; i++) {
            int word = (int) cpu.readPhysical(descriptor + 4 * i, 4);
            if (word != 0) {
                word = (int) cpu.fetchAndPhysical(descriptor + 4 * i, 4, 0);
                write(IRR + (i << 4), read(IRR + (i << 4)) | word);
                best = Math.max(best, i * 32 + 31 - Integer.numberOfLeadingZeros(word));
            }
        }
        status(best, svi());
        evaluate();
    }

    // --- MSRs [SDM Vol. 3 "Virtualizing MSR-Based APIC Accesses"]

    boolean virtualisesRead(int index) {
        return x2apic(index)
                && ((index & 0xff) << 4 == TPR || vmx.proc2(Controls.PROC2_APIC_REGISTER_VIRTUALIZATION));
    }

    long readMsr(int index) {
        return cpu.readPhysical(vmx.structure(VIRTUAL_APIC_ADDRESS) + ((index & 0xff) << 4), 8);
    }

    boolean wrmsr(int index, long value) {
        if (!x2apic(index)) {
            return false;
        }
        switch ((index & 0xff) << 4) {
            case TPR -> {
                requireByte(value);
                write(TPR, (int) value);
                tprVirtualization();
                return true;
            }
            case EOI -> {
                if (!virtualInterrupts()) {
                    return false;
                }
                if (value != 0) {
                    throw cpu.gp(0);
                }
                write(EOI, 0);
                eoiVirtualization();
                return true;
            }
            case SELF_IPI -> {
                if (!virtualInterrupts()) {
                    return false;
                }
                requireByte(value);
                if (value < FIRST_LEGAL_VECTOR) {
                    throw cpu.gp(0);
                }
                selfIpiVirtualization((int) value);
                return true;
            }
            default -> {
                return false;
            }
        }
    }

    private void requireByte(long value) {
        if ((value & ~0xffL) != 0) {
            throw cpu.gp(0);
        }
    }

    private boolean x2apic(int index) {
        return index >= Msr.IA32_X2APIC_FIRST && index <= Msr.IA32_X2APIC_LAST
                && vmx.proc2(Controls.PROC2_VIRTUALIZE_X2APIC_MODE);
    }

    // --- the APIC-access page [SDM Vol. 3 "Virtualizing Memory-Mapped APIC Accesses"]

    /// Whether a page that translates to the frame at `hpa` is the APIC-access page.
    boolean isAccessPage(long hpa) {
        return vmx.proc2(Controls.PROC2_VIRTUALIZE_APIC_ACCESSES)
                && (hpa & -PhysicalMemory.FRAME_SIZE) == vmx.vmcs.read(APIC_ACCESS_ADDRESS);
    }

    /// A read of `bytes` at `offset` of the APIC-access page: from the virtual-APIC page, or an APIC-access exit.
    long readPage(long linear, int offset, int bytes) {
        if (!virtualizedRead(offset, bytes)) {
            throw vmx.apicAccess(linear, offset, false);
        }
        return cpu.readPhysical(vmx.structure(VIRTUAL_APIC_ADDRESS) + offset, bytes);
    }

    private boolean virtualizedRead(int offset, int bytes) {
        if ((offset & 15) + bytes > 4 || vmx.delivering()) {
            return false;
        }
        if (!vmx.proc2(Controls.PROC2_APIC_REGISTER_VIRTUALIZATION)) {
            return vmx.proc(Controls.PROC_TPR_SHADOW) && (offset & ~15) == TPR;
        }
        return switch (offset & ~15) {
            case 0x20, 0x30, TPR, EOI, 0xd0, 0xe0, 0xf0, 0x280, ICR_LOW, ICR_HIGH, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370,
                    0x380, 0x3e0 -> true;
            default -> (offset & ~15) >= ISR && (offset & ~15) < 0x280;
        };
    }

    /// A write of `bytes` at `offset` of the APIC-access page: virtualised, trapped after the write, or an APIC-access exit.
    void writePage(long linear, int offset, int bytes, long value) {
        if (!virtualizedWrite(offset, bytes)) {
            throw vmx.apicAccess(linear, offset, true);
        }
        if (vmx.stepAt != cpu.retired) {
            throw StepAgain.INSTANCE;
        }
        cpu.writePhysical(vmx.structure(VIRTUAL_APIC_ADDRESS) + offset, bytes, value);
        afterWrite(offset & 0xff0);
    }

    private boolean virtualizedWrite(int offset, int bytes) {
        if ((offset & 15) + bytes > 4 || vmx.delivering()) {
            return false;
        }
        boolean register = vmx.proc2(Controls.PROC2_APIC_REGISTER_VIRTUALIZATION);
        return switch (offset & ~15) {
            case TPR -> vmx.proc(Controls.PROC_TPR_SHADOW);
            case EOI, ICR_LOW -> register || virtualInterrupts();
            case 0x20, 0xd0, 0xe0, 0xf0, 0x280, ICR_HIGH, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0 -> register;
            default -> false;
        };
    }

    /// [SDM Vol. 3 "APIC-Write Emulation"]
    private void afterWrite(int offset) {
        switch (offset) {
            case TPR -> {
                write(TPR, read(TPR) & 0xff);
                tprVirtualization();
            }
            case EOI -> {
                write(EOI, 0);
                if (virtualInterrupts()) {
                    eoiVirtualization();
                } else {
                    vmx.boundary.trap(ExitReason.APIC_WRITE, EOI);
                }
            }
            case ICR_LOW -> writeIcr();
            case ICR_HIGH -> write(ICR_HIGH, read(ICR_HIGH) & 0xff00_0000);
            default -> vmx.boundary.trap(ExitReason.APIC_WRITE, offset);
        }
    }

    private void writeIcr() {
        int icr = read(ICR_LOW);
        int vector = icr & 0xff;
        // Self-IPI: shorthand 01, fixed, edge, no reserved bits. Everything else is the host's.
        boolean self = (icr & 0xfff3_f700) == 0x0004_0000 && vector >= FIRST_LEGAL_VECTOR;
        if (self && virtualInterrupts()) {
            selfIpiVirtualization(vector);
        } else {
            vmx.boundary.trap(ExitReason.APIC_WRITE, ICR_LOW);
        }
    }
}
