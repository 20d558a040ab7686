package cloister.cpu.emulation;

/// Where the accesses of an [EmulatedProcessor] go. Methods may throw the implementer's own unchecked exceptions: they pass through
/// [EmulatedProcessor#execute], which then has changed nothing.
public interface MemoryAndPorts {
    /// What an access does.
    enum Access {
        READ, WRITE, FETCH
    }

    /// With which rights an access is made.
    enum Right {
        /// At CPL 3.
        USER,
        /// Below, or by the processor itself: CR4.SMAP denies it the pages of users.
        SUPERVISOR,
        /// Below, with RFLAGS.AC set: CR4.SMAP does not count.
        SUPERVISOR_WITH_AC
    }

    /// The guest-physical address of `linear`, by the guest's paging structures, whose accessed and dirty flags this sets.
    ///
    /// @return a negative number when a page fault comes of it: its low 32 bits are the error code
    long translate(long linear, Access access, Right right);

    /// Reads `bytes` (1 to 8, within one page) at guest-physical `gpa`, zero-extended.
    long read(long gpa, int bytes);

    /// Writes `bytes` (1 to 8, within one page). The instruction may still fault behind it, so the write must wait until it is done.
    void write(long gpa, int bytes, long value);

    /// Reads code: `count` bytes at `gpa`, within one page, to `to[at]` and behind.
    ///
    /// @return whether memory is there
    boolean readCode(long gpa, byte[] to, int at, int count);

    /// IN and INS of `bytes` bytes, with the permission for it.
    ///
    /// @param repeats how many such reads follow each other at the most, this one included
    int readPort(int port, int bytes, int repeats);

    /// OUT and OUTS; waits as [#write] does.
    void writePort(int port, int bytes, int value);
}
