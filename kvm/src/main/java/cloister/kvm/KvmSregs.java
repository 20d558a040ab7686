package cloister.kvm;

/// `struct kvm_sregs`.
public final class KvmSregs {
    public KvmSegment cs, ds, es, fs, gs, ss, tr, ldt;
    public long gdtBase, idtBase;
    public int gdtLimit, idtLimit;
    public long cr0, cr2, cr3, cr4, cr8, efer, apicBase;
}
