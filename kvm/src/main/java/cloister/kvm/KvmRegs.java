package cloister.kvm;

/// `struct kvm_regs`.
public final class KvmRegs {
    public long rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    public long r8, r9, r10, r11, r12, r13, r14, r15;
    public long rip;
    /// Bit 1 is always set.
    public long rflags = 2;
}
