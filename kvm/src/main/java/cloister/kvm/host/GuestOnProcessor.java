package cloister.kvm.host;

/// A guest that a processor runs, as another processor's interrupt sees it.
public interface GuestOnProcessor {
    /// Makes it leave guest mode soon.
    void kickOutOfGuest();
}
