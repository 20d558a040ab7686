package cloister.vmm;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.PlatformObserver;
import cloister.cpu.vmx.Vmcs;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.vmm.MachineObserver.Kind;
import java.util.EnumSet;
import java.util.Locale;

/// Hashes all VM exits and SEAMCALLs of a run, so that two runs can be compared by one number (FNV-1a over words), and
/// writes the trace that the observer asked for.
final class RunRecorder implements PlatformObserver {
    private static final long PRIME = 0x100000001b3L;
    private static final int LEAF_MASK = 0xffff;

    private final MachineObserver observer;
    private final EnumSet<Kind> wanted = EnumSet.noneOf(Kind.class);
    private long hash = 0xcbf29ce484222325L;

    RunRecorder(MachineObserver observer) {
        this.observer = observer;
        for (var kind : Kind.values()) {
            if (observer.wants(kind)) {
                wanted.add(kind);
            }
        }
    }

    @Override public void vmExit(LogicalProcessor lp, Vmcs vmcs) {
        int reason = vmcs.readInt(VmcsField.EXIT_REASON);
        add(lp.index());
        add(lp.retired());
        add(reason);
        add(vmcs.read(VmcsField.EXIT_QUALIFICATION));
        add(vmcs.read(VmcsField.GUEST_RIP));
        if (wanted.contains(Kind.VM_EXIT)) {
            observer.event(Kind.VM_EXIT, lp.index(), now(lp), String.format(Locale.ROOT, "%s rip %x qualification %x%s",
                    ExitReason.name(reason), vmcs.read(VmcsField.GUEST_RIP), vmcs.read(VmcsField.EXIT_QUALIFICATION),
                    ExitReason.basic(reason) == ExitReason.EPT_VIOLATION
                            ? String.format(Locale.ROOT, " gpa %x", vmcs.read(VmcsField.GUEST_PHYSICAL_ADDRESS)) : ""));
        }
        if (ExitReason.basic(reason) == ExitReason.TDCALL && wanted.contains(Kind.TDCALL)) {
            tdcall(lp);
        }
    }

    private void tdcall(LogicalProcessor lp) {
        long[] r = lp.gprs();
        int number = (int) r[SeamRegs.RAX] & LEAF_MASK;
        var leaf = TdcallLeaf.of(number);
        String text = (leaf == null ? "TDCALL " + number : leaf.specificationName())
                + String.format(Locale.ROOT, " rcx %x rdx %x r8 %x", r[SeamRegs.RCX], r[SeamRegs.RDX], r[SeamRegs.R8]);
        if (leaf == TdcallLeaf.VP_VMCALL) {
            text = String.format(Locale.ROOT, "TDG.VP.VMCALL r10 %x r11 %x r12 %x r13 %x r14 %x r15 %x", r[SeamRegs.R10], r[SeamRegs.R11],
                    r[SeamRegs.R12], r[SeamRegs.R13], r[SeamRegs.R14], r[SeamRegs.R15]);
        }
        observer.event(Kind.TDCALL, lp.index(), now(lp), text);
    }

    @Override public void seamcallEntry(LogicalProcessor lp, SeamRegs regs) {
        addAll(regs);
        if (wanted.contains(Kind.SEAMCALL)) {
            observer.event(Kind.SEAMCALL, lp.index(), now(lp), name(regs.get(SeamRegs.RAX))
                    + String.format(Locale.ROOT, " rcx %x rdx %x r8 %x r9 %x",
                    regs.get(SeamRegs.RCX), regs.get(SeamRegs.RDX), regs.get(SeamRegs.R8), regs.get(SeamRegs.R9)));
        }
    }

    @Override public void seamcallExit(LogicalProcessor lp, long leaf, SeamRegs regs) {
        addAll(regs);
        var known = SeamcallLeaf.of((int) leaf & LEAF_MASK);
        var kind = known != null && known.name().startsWith("MEM_") && !wanted.contains(Kind.SEAMCALL) ? Kind.SEPT
                : Kind.SEAMCALL;
        if (wanted.contains(kind)) {
            long raw = regs.get(SeamRegs.RAX);
            var status = TdxStatus.of(raw);
            observer.event(kind, lp.index(), now(lp), String.format(Locale.ROOT, "%s = %x%s rcx %x rdx %x r8 %x", name(leaf), raw,
                    status == null ? "" : " " + status, regs.get(SeamRegs.RCX), regs.get(SeamRegs.RDX), regs.get(SeamRegs.R8)));
        }
    }

    long hash() {
        return hash;
    }

    private static String name(long rax) {
        var leaf = SeamcallLeaf.of((int) rax & LEAF_MASK);
        return leaf == null ? "SEAMCALL " + (rax & LEAF_MASK) : leaf.specificationName();
    }

    private static long now(LogicalProcessor lp) {
        return lp.scheduler().clock().now();
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
