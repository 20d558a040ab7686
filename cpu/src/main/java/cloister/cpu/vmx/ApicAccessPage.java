package cloister.cpu.vmx;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.FrameHook;

/// Accesses that reach the APIC-access page. [SDM Vol. 3 "Virtualizing Memory-Mapped APIC Accesses"]
final class ApicAccessPage implements FrameHook {
    private final Vmx vmx;

    ApicAccessPage(Vmx vmx) {
        this.vmx = vmx;
    }

    @Override public long read(Cpu cpu, long linear, long hpa, int bytes) {
        return vmx.apic.readPage(linear, (int) hpa & 0xfff, bytes);
    }

    @Override public void write(Cpu cpu, long linear, long hpa, int bytes, long value) {
        vmx.apic.writePage(linear, (int) hpa & 0xfff, bytes, value);
    }
}
