package cloister.kvm.host;

import cloister.spec.kvm.HostRegister;

/// Registers of the host that KVM was told not to bring back behind a guest, to see that it is noticed: a seeded fault by row. Empty
/// unless somebody asks.
public final class LostRegisters {
    private long rows;

    /// Adds `register`.
    public void add(HostRegister register) {
        rows |= 1L << register.ordinal();
    }

    /// Whether `register` is to be lost.
    public boolean has(HostRegister register) {
        return ((rows >>> register.ordinal()) & 1) != 0;
    }
}
