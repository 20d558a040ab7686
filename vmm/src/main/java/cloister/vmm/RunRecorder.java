package cloister.vmm;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.PlatformObserver;
import cloister.cpu.vmx.Vmcs;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;

/// Hashes all VM exits and SEAMCALLs of a run, so that two runs can be compared by one number (FNV-1a over words).
final class RunRecorder implements PlatformObserver {
    private static final long PRIME = 0x100000001b3L;
    private long hash = 0xcbf29ce484222325L;

    @Override public void vmExit(LogicalProcessor lp, Vmcs vmcs) {
        add(lp.index());
        add(lp.retired());
        add(vmcs.read(VmcsField.EXIT_REASON));
        add(vmcs.read(VmcsField.EXIT_QUALIFICATION));
        add(vmcs.read(VmcsField.GUEST_RIP));
    }

    @Override public void seamcallEntry(LogicalProcessor lp, SeamRegs regs) {
        addAll(regs);
    }

    @Override public void seamcallExit(LogicalProcessor lp, long leaf, SeamRegs regs) {
        addAll(regs);
    }

    long hash() {
        return hash;
    }

    private void addAll(SeamRegs regs) {
        for (int i = 0; i < SeamRegs.COUNT; i++) {
            add(regs.get(i));
        }
    }

    private void add(long word) {
        hash = (hash ^ word) * PRIME;
        hash ^= hash >>> 29;
    }
}
