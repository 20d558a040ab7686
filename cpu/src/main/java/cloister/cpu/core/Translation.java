package cloister.cpu.core;

/// What a [Walker] finds for one linear address. One instance per [Tlb], refilled by every walk.
public final class Translation {
    /// Ingredients of the memory type: an encoding of [cloister.spec.x86.MemoryType],
    public static final int TYPE_MASK = 7;
    /// the lowest bit of the type that EPT gives, if [#EPT],
    public static final int EPT_TYPE_SHIFT = 3;
    /// the EPT entry says that the PAT does not count,
    public static final int IGNORE_PAT = 1 << 6;
    /// EPT gave the address,
    public static final int EPT = 1 << 7;
    /// CR0.CD was set.
    public static final int CACHE_DISABLED = 1 << 8;

    /// The platform address of the byte at the linear address, KeyID in bits 51:46. For what is no memory (nothing
    /// in this model answers there) any address at or above the size of physical memory.
    public long hpa;
    /// log2 of the size of the guest's page (12, 21, 22, 30): INVLPG of any address in it must drop this translation.
    public int pageShift;
    /// Whether this access right (supervisor or user, AC as it was) may also write, and every dirty flag that a write
    /// would set (guest and EPT) is already set. False makes the first write walk again with [Walker#WRITE].
    public boolean writable;
    /// Whether the page is global, in an address space where CR4.PGE counts.
    public boolean global;
    /// False when the page must not be touched without asking: every access then goes through [#hook], or, when that is
    /// null, through [cloister.memory.PhysicalMemory].
    public boolean direct;
    /// What makes the memory type: the PAT's type in the low bits (set by the walk of the guest's tables), then what EPT says (set by
    /// [cloister.cpu.sys.NonRoot#secondLevel]). [cloister.cpu.sys.EffectiveType] puts it together.
    public int typeIngredients;
    /// Answers accesses to this page (APIC-access page and the like), or null for memory.
    public FrameHook hook;
}
