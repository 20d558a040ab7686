package cloister.cpu;

import cloister.cpu.fpu.FpuState;
import cloister.cpu.vmx.Vmcs;
import cloister.cpu.vmx.VmxStatus;
import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;

/// A logical processor (LP) as host software uses it: the privileged instructions, as Java calls. One host thread at a time
/// drives it, the one that is pinned to it; only [#sendInterrupt] and [#sendNmi] are for others.
///
/// Registers that VMX does not switch (general registers but RSP, CR2, DR0-3, DR6, XCR0, XSS, PKRU, FPU, most MSRs) are real:
/// what the host leaves in them is what the guest finds, and the other way round.
public final class LogicalProcessor {
    // --- identity

    /// The index, 0..n-1; also the (x2)APIC id.
    public int index() {
        throw new UnsupportedOperationException();
    }

    /// The memory that this LP sees.
    public PhysicalMemory memory() {
        throw new UnsupportedOperationException();
    }

    // --- VMX instructions [SDM Vol. 3 "VMX Instruction Reference"]

    /// VMXON with the region at `hpa`, whose first word holds the revision identifier (IA32_VMX_BASIC bits 30:0). CR4.VMXE and
    /// IA32_FEATURE_CONTROL are as the host left them.
    public VmxStatus vmxon(long hpa) {
        throw new UnsupportedOperationException();
    }

    public VmxStatus vmxoff() {
        throw new UnsupportedOperationException();
    }

    /// VMCLEAR of the region at `hpa`: inactive, not current, launch state clear. Its fields survive.
    public VmxStatus vmclear(long hpa) {
        throw new UnsupportedOperationException();
    }

    /// VMPTRLD of the region at `hpa`, whose first word holds the revision identifier.
    public VmxStatus vmptrld(long hpa) {
        throw new UnsupportedOperationException();
    }

    /// VMPTRST: the current VMCS pointer, -1 when there is none.
    public long vmptrst() {
        throw new UnsupportedOperationException();
    }

    /// The current VMCS or null: typed access without the field checks of VMREAD and VMWRITE, for the host's hot paths.
    public Vmcs currentVmcs() {
        throw new UnsupportedOperationException();
    }

    /// VMREAD of the current VMCS.
    ///
    /// @throws IllegalStateException when there is none
    public long vmread(VmcsField field) {
        throw new UnsupportedOperationException();
    }

    /// VMWRITE to the current VMCS. Read-only data fields are writable (IA32_VMX_MISC bit 29).
    ///
    /// @throws IllegalStateException when there is none
    public void vmwrite(VmcsField field, long value) {
        throw new UnsupportedOperationException();
    }

    /// VMLAUNCH: runs the guest until a VM exit, then returns. SUCCEED: look at EXIT_REASON (bit 31: the entry failed late).
    public VmxStatus vmlaunch() {
        throw new UnsupportedOperationException();
    }

    /// VMRESUME, likewise.
    public VmxStatus vmresume() {
        throw new UnsupportedOperationException();
    }

    /// INVEPT of type [cloister.spec.vmx.Ept#INVEPT_SINGLE_CONTEXT] or `INVEPT_ALL_CONTEXTS`.
    public VmxStatus invept(int type, long eptp) {
        throw new UnsupportedOperationException();
    }

    /// INVVPID of type `Ept.INVVPID_*`.
    public VmxStatus invvpid(int type, int vpid, long linear) {
        throw new UnsupportedOperationException();
    }

    // --- registers

    /// The sixteen general registers in encoding order, live; elements beyond 15 are not the host's. RSP of a guest is a VMCS field.
    public long[] gprs() {
        throw new UnsupportedOperationException();
    }

    public long cr2() {
        throw new UnsupportedOperationException();
    }

    public void cr2(long value) {
        throw new UnsupportedOperationException();
    }

    /// CR8 of the host: the LP's own TPR, not a guest's.
    public long cr8() {
        throw new UnsupportedOperationException();
    }

    /// DR0-DR3, DR6 or DR7.
    public long dr(int number) {
        throw new UnsupportedOperationException();
    }

    public void dr(int number, long value) {
        throw new UnsupportedOperationException();
    }

    public long xcr0() {
        throw new UnsupportedOperationException();
    }

    /// XSETBV.
    ///
    /// @throws HostFault #GP
    public void xcr0(long value) {
        throw new UnsupportedOperationException();
    }

    public int pkru() {
        throw new UnsupportedOperationException();
    }

    public void pkru(int value) {
        throw new UnsupportedOperationException();
    }

    /// The x87, MMX and SSE registers, live: copy with [FpuState#copyFrom], or save and restore with
    /// [cloister.cpu.fpu.XsaveArea].
    public FpuState fpu() {
        throw new UnsupportedOperationException();
    }

    /// RDMSR.
    ///
    /// @throws HostFault #GP
    public long rdmsr(int msr) {
        throw new UnsupportedOperationException();
    }

    /// WRMSR.
    ///
    /// @throws HostFault #GP
    public void wrmsr(int msr, long value) {
        throw new UnsupportedOperationException();
    }

    /// CPUID of the silicon into `out`: EAX, EBX, ECX, EDX.
    public void cpuid(int leaf, int subleaf, int[] out) {
        throw new UnsupportedOperationException();
    }

    /// RDTSC in VMX root operation.
    public long rdtsc() {
        throw new UnsupportedOperationException();
    }

    // --- memory

    /// MOVDIR64B of 64 bytes to the line at `hpa`: takes ownership for the KeyID in it and clears poison.
    public void movdir64b(long hpa, byte[] source, int offset) {
        throw new UnsupportedOperationException();
    }

    /// CLFLUSH of the line at `hpa`.
    public void clflush(long hpa) {
        throw new UnsupportedOperationException();
    }

    public void wbinvd() {
        throw new UnsupportedOperationException();
    }

    // --- SEAM

    /// Installs the module that SEAMCALL enters.
    public void installSeam(SeamFirmware firmware) {
        throw new UnsupportedOperationException();
    }

    /// SEAMCALL: `regs` hold the leaf in RAX and receive the results. While TDH.VP.ENTER runs its TD, the TD's registers are in
    /// the LP; [#gprs] are untouched for the caller otherwise.
    ///
    /// @return FAIL_INVALID when no module is installed (CF set, registers unchanged), else SUCCEED
    public VmxStatus seamcall(SeamRegs regs) {
        throw new UnsupportedOperationException();
    }

    // --- interrupts

    /// An interrupt with `vector` arrives at this LP, from wherever (another LP's ICR, a timer): a guest that runs here takes a VM
    /// exit, or, when `vector` is its posted-interrupt notification vector, evaluates its posted interrupts. In the host it stays
    /// pending. Wakes the LP's waker (see [#waker]).
    public void sendInterrupt(int vector) {
        throw new UnsupportedOperationException();
    }

    /// An NMI arrives at this LP.
    public void sendNmi() {
        throw new UnsupportedOperationException();
    }

    /// Takes the highest pending interrupt, as a host with interrupts enabled would.
    ///
    /// @return its vector, or -1 when none is pending
    public int takeInterrupt() {
        throw new UnsupportedOperationException();
    }

    /// Takes a pending NMI.
    public boolean takeNmi() {
        throw new UnsupportedOperationException();
    }

    /// Whether an interrupt or NMI waits.
    public boolean interruptPending() {
        throw new UnsupportedOperationException();
    }

    /// Runs `action` whenever an interrupt or NMI arrives, on the sender's host thread: the host unparks the thread that waits here.
    public void waker(Runnable action) {
        throw new UnsupportedOperationException();
    }

    // --- observation

    /// Sets the observer; null for none.
    public void observer(PlatformObserver observer) {
        throw new UnsupportedOperationException();
    }
}
