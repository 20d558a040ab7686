package cloister.cpu.core;

/// Translates linear addresses; implemented by `sys.PageWalker`. The one place where the engine leaves the [Tlb].
public interface Walker {
    int READ = 0;
    int WRITE = 1;
    int FETCH = 2;
    /// Accesses to shadow stacks, with the right [#USER] or [#SUPERVISOR].
    int SHADOW_READ = 3;
    int SHADOW_WRITE = 4;

    /// An ordinary access at CPL 3.
    int USER = 0;
    /// An access at CPL below 3 with RFLAGS.AC clear, and every implicit supervisor access (descriptor tables, TSS).
    /// CR4.SMAP denies it user pages.
    int SUPERVISOR = 1;
    /// An explicit access at CPL below 3 with RFLAGS.AC set: CR4.SMAP does not apply.
    int SUPERVISOR_AC = 2;

    /// Translates `linear` through the paging structures that CR0, CR3, CR4, EFER, PKRU and the current EPT select, and
    /// sets accessed flags, for [#WRITE] dirty flags too.
    ///
    /// Throws [GuestFault] for #PF (made by [Cpu#pageFault]) and [VmExitSignal] for EPT violations and the like; nothing is
    /// then written to `out`. With paging off, linear is guest-physical. The address is canonical.
    ///
    /// @param access [#READ], [#WRITE], [#FETCH], [#SHADOW_READ] or [#SHADOW_WRITE]
    /// @param right  [#USER], [#SUPERVISOR] or [#SUPERVISOR_AC]
    /// @param out    every field is set
    void walk(Cpu cpu, long linear, int access, int right, Translation out);
}
