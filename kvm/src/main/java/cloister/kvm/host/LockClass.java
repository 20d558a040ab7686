package cloister.kvm.host;

/// What locks of one kind have in common for [Lockdep]: every VM's `kvm->lock` is of one class. Made by [Lockdep#sleeping] and
/// [Lockdep#spinning]. [LINUX Documentation/locking/lockdep-design.rst]
public final class LockClass {
    /// Subclasses of a class, for locks of one class that one thread holds at a time. [LINUX MAX_LOCKDEP_SUBCLASSES]
    public static final int SUBCLASSES = 8;

    final int id;
    final boolean spins;
    private final String name;

    LockClass(int id, String name, boolean spins) {
        this.id = id;
        this.name = name;
        this.spins = spins;
    }

    /// The name that Linux has for the lock.
    public String name() {
        return name;
    }

    @Override public String toString() {
        return name;
    }
}
