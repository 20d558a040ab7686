package cloister.tdx.inspect;

import java.util.List;
import java.util.stream.Stream;

/// One page of a Secure EPT. [TDX-BASE "Secure EPT"]
///
/// @param level   PT, PD, PDPT, PML4 or PML5
/// @param gpa     the first guest-physical address that it translates
/// @param page    its physical address; the root is a page of TDCS, the others have type PT_EPT
/// @param entries its 512 entries, those in a row that are alike as one
public record SeptTable(String level, long gpa, long page, List<SeptRange> entries) {
    /// Names of the levels, from that of the smallest pages.
    public static final List<String> LEVELS = List.of("PT", "PD", "PDPT", "PML4", "PML5");

    /// Entries in a row that are alike, and map pages in a row, rising or falling, if they map any.
    ///
    /// @param gpa    first guest-physical address
    /// @param end    guest-physical address after the last
    /// @param state  state as the specification names it: FREE, MAPPED, PENDING, NL_MAPPED, ...; L2_MAPPED, ... in the tree of an L2 VM
    /// @param hpa    physical address of the first page mapped, or of the table below; 0 in states FREE and REMOVED
    /// @param step   where the next entry's page is: 1 behind this one's, -1 before it; 0 when there is one entry or no page
    /// @param access `rwx`, a dash for each right that the entry does not give; `rwxu` in the tree of an L2 VM, x in supervisor mode and u
    ///               in user mode
    /// @param lock   state of each entry's lock, as in [Lock]
    /// @param table  the table below, or null
    public record SeptRange(long gpa, long end, String state, long hpa, int step, String access, String lock,
            SeptTable table) {
        /// The page that `at`, an address in the range, is mapped to; only where the entries map pages.
        public long hpaOf(long at) {
            return step < 0 ? hpa - (at - gpa) : hpa + (at - gpa);
        }
    }

    /// This table and all below it, depth first.
    public Stream<SeptTable> tables() {
        return Stream.concat(Stream.of(this), entries.stream().map(SeptRange::table).filter(t -> t != null)
                .flatMap(SeptTable::tables));
    }

    /// Bytes that one entry translates.
    public long entryBytes() {
        return 1L << (12 + 9 * LEVELS.indexOf(level));
    }
}
