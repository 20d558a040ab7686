package cloister.kvm.mmu;

/// How fast tables are given up that are there only because something was executed. [LINUX Documentation/admin-guide/
/// kernel-parameters.txt "kvm.nx_huge_pages_recovery_ratio", "kvm.nx_huge_pages_recovery_period_ms"]
///
/// @param ratio    one of every `ratio` tables each time (nx_huge_pages_recovery_ratio); 0 for none
/// @param periodMs milliseconds between two times (nx_huge_pages_recovery_period_ms); 0 lets `ratio` say, so that half of them are gone
///                 after an hour or so
public record NxRecoveryPace(int ratio, int periodMs) {
    /// What Linux does unless it is told otherwise.
    public static final NxRecoveryPace DEFAULT = new NxRecoveryPace(60, 0);
    private static final int SECONDS_PER_HOUR = 3600;
    private static final long MILLIS_PER_HOUR = SECONDS_PER_HOUR * 1000L;

    /// Milliseconds between two times, at least a second when `ratio` says; 0 when nothing is ever given up. [LINUX
    /// calc_nx_huge_pages_recovery_period]
    long period() {
        if (ratio == 0) {
            return 0;
        }
        int least = Integer.compareUnsigned(ratio, SECONDS_PER_HOUR) < 0 ? ratio : SECONDS_PER_HOUR;
        return periodMs != 0 ? Integer.toUnsignedLong(periodMs) : MILLIS_PER_HOUR / least;
    }
}
