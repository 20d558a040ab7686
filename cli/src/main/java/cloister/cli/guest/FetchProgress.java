package cloister.cli.guest;

/// Hears how far a fetch is.
public interface FetchProgress {
    /// A new step begins.
    ///
    /// @param what one line
    void step(String what);

    /// A download goes on; comes several times a second.
    ///
    /// @param what  what is downloaded
    /// @param bytes how much of it is here
    /// @param of    how much there is, above 0
    void downloaded(String what, long bytes, long of);

    /// What apt said, for those who want to see everything.
    void detail(String line);
}
