package cloister.tdx.inspect;

/// Pages in a row whose PAMT entries are alike. [TDX-BASE "Physical Page Metadata"]
///
/// @param start    physical address of the first byte
/// @param end      physical address after the last
/// @param type     PT_NDA (free), PT_RSVD, PT_REG, PT_TDR, PT_TDCX, PT_TDVPR, PT_EPT
/// @param pageSize 4K, 2M or 1G
/// @param owner    physical address of the owner's TDR page; 0 where pages have no owner
/// @param bepoch   TD epoch at which the page, or what it maps, was blocked; bit 63: a migration epoch; 0 where pages have no owner
/// @param lock     state of each page's lock, as in [Lock]
public record PamtRange(long start, long end, String type, String pageSize, long owner, long bepoch, String lock) {
    /// Whether the page at `pa` is in the range.
    public boolean contains(long pa) {
        return pa >= start && pa < end;
    }
}
