package cloister.tdx.port;

/// A logical processor (LP) as the TDX module sees it from SEAM root mode. One object per LP, used only by the host
/// thread that executes SEAMCALL on it.
///
/// MSRs that [#rdmsr] and [#wrmsr] must serve in SEAM mode beyond the ordinary ones: IA32_MKTME_KEYID_PARTITIONING (87H),
/// IA32_WBINVDP (98H) and IA32_WBNOINVDP (99H) - reads give the number of cache sub-blocks, a write of handle n writes
/// sub-block n back (and invalidates it) -, IA32_INTR_PENDING (9AH: bit 0 an external interrupt waits for the
/// host, 1 an NMI, 2 an SMI, others something else),
/// IA32_MISC_PACKAGE_CTLS (BCH), IA32_XAPIC_DISABLE_STATUS (BDH), IA32_TME_CAPABILITY (981H), IA32_TME_ACTIVATE (982H),
/// IA32_SEAMRR_BASE/MASK (1400H/1401H), IA32_SMRR (1F2H/1F3H), IA32_VMX_* (480H..492H), IA32_FIXED_CTR0 (309H:
/// instructions retired by the guest since it was last written), IA32_FIXED_CTR_CTRL (38DH), IA32_PERF_GLOBAL_STATUS and its
/// reset and set commands (38EH, 390H, 391H), IA32_X2APIC_* (802H.., for IPIs to itself), IA32_X2APIC_TPR (808H), whose bits 7:4 are CR8.
/// An MSR that an LP does not have reads 0 and ignores writes here.
public interface Processor {
    /// The index of this LP, 0..n-1, stable.
    int lp();

    /// Creates the VMCS that lives in the page at `pa` (a TDVPS page), all fields zero, launch state clear.
    Vmcs newVmcs(long pa);

    /// The SEAM transfer VMCS of this LP. Its guest area is the VMM's state that SEAMRET loads (DR7, IA32_DEBUGCTL ...),
    /// its host area the module's own.
    Vmcs seamVmcs();

    /// Loads guest state from `vmcs` and runs the guest until its next VM exit; exit information and guest state are then
    /// in `vmcs`. The general registers of [#registers] are the guest's before and after; CR2, DR0-3, DR6, XCR0, the
    /// extended state and MSRs that VMX does not switch are simply live on the LP. The first entry since [#clear] is a
    /// VMLAUNCH. The guest's memory accesses carry the KeyID in the field GUEST_TD_HKID; a GPA with the SHARED bit is
    /// walked from SHARED_EPTP, a private one from EPTP.
    void enter(Vmcs vmcs);

    /// VMCLEAR: the LP writes back what it caches of `vmcs`.
    void clear(Vmcs vmcs);

    /// The live general registers of the LP in encoding order, the guest's around [#enter]. At least 16 elements; element
    /// 4 (RSP) is not the module's business (it is a VMCS field).
    long[] registers();

    /// CR2.
    long cr2();

    /// Loads CR2.
    void cr2(long value);

    /// Debug register `index` (0-3 or 6).
    long debugRegister(int index);

    /// Loads debug register `index`.
    void debugRegister(int index, long value);

    /// XCR0.
    long xcr0();

    /// XSETBV of register 0.
    void xcr0(long value);

    /// XSAVES64 of the components in `mask` (XCR0 | IA32_XSS are at least that) from the LP into `state`.
    void saveExtendedState(ExtendedState state, long mask);

    /// XRSTORS64 of the components in `mask` from `state` to the LP.
    ///
    /// @return false when it faulted
    boolean loadExtendedState(ExtendedState state, long mask);

    /// Brings the LP's own components in `mask` to INIT state.
    void resetExtendedState(long mask);

    /// The low 64 bits of the LP's XMM `index`.
    long xmmLow(int index);

    /// The high 64 bits of the LP's XMM `index`.
    long xmmHigh(int index);

    /// Sets the LP's XMM `index`.
    void xmm(int index, long low, long high);

    /// RDMSR.
    long rdmsr(int msr);

    /// WRMSR.
    ///
    /// @return false when it raised #GP
    boolean wrmsr(int msr, long value);

    /// CPUID of the silicon.
    ///
    /// @param out EAX, EBX, ECX, EDX
    void cpuid(int leaf, int subleaf, int[] out);

    /// PCONFIG MKTME_KEY_PROGRAM on this LP's package: gives `keyId` a fresh random key with integrity. Content written
    /// with the old key becomes unreadable through it.
    ///
    /// @return 0, or the PCONFIG failure code (2 ENTROPY_ERROR, 5 DEVICE_BUSY ...) [SDM Vol. 2 PCONFIG]
    int programKey(int keyId);

    /// RDTSC, native.
    long tsc();

    /// 64 random bits of RDRAND.
    long rdrand();

    /// 64 random bits of RDSEED.
    long rdseed();

    /// Single-context INVEPT for `eptp` (bits 51:12 identify the root).
    void invept(long eptp);

    /// Global INVEPT.
    void inveptGlobal();

    /// Whether an external interrupt or NMI waits on this LP, so that an interruptible leaf should return.
    boolean interruptPending();

    /// SEAMOPS.SEAMREPORT: the 256-byte REPORTMACSTRUCT followed by the 256 bytes that start with TEE_TCB_INFO.
    ///
    /// @param type       REPORTTYPE, 4 bytes
    /// @param reportData 64 bytes
    /// @param teeInfoHash 48 bytes
    byte[] seamReport(byte[] type, byte[] reportData, byte[] teeInfoHash);

    /// SEAMOPS.SEAMVERIFYREPORT of a 256-byte REPORTMACSTRUCT: 0, or the failure code.
    int seamVerifyReport(byte[] reportMacStruct);

    /// A point at which another LP may run: before every try-lock.
    ///
    /// @param owner what holds the lock word; two points are about the same lock when `owner` and `where` are equal
    /// @param where the lock word's address or offset in `owner`
    void switchPoint(Object owner, long where);

    /// A point at which another LP may run: after every try-lock that succeeded, with the lock held. `owner` and `where` are those of
    /// [#switchPoint].
    void locked(Object owner, long where);
}
