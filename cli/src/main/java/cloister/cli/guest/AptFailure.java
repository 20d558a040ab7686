package cloister.cli.guest;

import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/// Why apt failed, and what a person can do about it. apt says several things at once; the reason is the one that explains
/// the others.
///
/// @param reason apt's own words
/// @param advice what to do
record AptFailure(String reason, String advice) {
    private static final Pattern MARK = Pattern.compile("^(?:E|W|Err):\\s*(?:\\d+ )?");
    private static final Pattern COMPLAINT = Pattern.compile("^(?:E|W|Err)(?::|:\\d+ ).*|^  \\S.*");
    private static final String OWN_GUEST = ", or give --kernel and --initrd";

    private record Kind(Pattern words, String advice) {
        Kind(String words, String advice) {
            this(Pattern.compile(words), advice);
        }
    }

    /// What explains most stands first.
    private static final List<Kind> KINDS = List.of(
            new Kind("No space left on device|don't have enough free space", "make room on that disk, or let CLOISTER_CACHE name a folder "
                    + "on another"),
            new Kind("Read-only file system|Permission denied", "let CLOISTER_CACHE name a folder that you can write to"),
            new Kind("Temporary failure resolving|Could not resolve|Name or service not known|Something wicked happened resolving",
                    "check the network and its name server" + OWN_GUEST),
            new Kind("Network is unreachable|No route to host", "check the network" + OWN_GUEST),
            new Kind("Connection refused", "check the network, and whether the mirror is right (" + AptMirror.MIRROR_VARIABLE
                    + " chooses another)" + OWN_GUEST),
            new Kind("[Tt]imed out|[Tt]imeout|Connection failed", "the mirror does not answer: try again later, choose another with "
                    + AptMirror.MIRROR_VARIABLE + OWN_GUEST),
            new Kind("404 +Not Found|does not have a Release file", "this mirror does not have it: choose another with "
                    + AptMirror.MIRROR_VARIABLE + OWN_GUEST),
            new Kind("40[137] |Proxy", "the mirror or a proxy refuses: check apt's proxy settings" + OWN_GUEST),
            new Kind("NO_PUBKEY|not signed|signatures? (?:were|was|couldn't|could not)|Hash Sum mismatch|not valid yet|expired",
                    "the mirror's answer cannot be trusted: check the clock and the package debian-archive-keyring, or choose another "
                            + "mirror with " + AptMirror.MIRROR_VARIABLE));

    /// @param output all that apt wrote, in English
    static AptFailure of(String output) {
        var complaints = output.lines().filter(line -> COMPLAINT.matcher(line).matches()).map(AptFailure::bare).toList();
        for (var kind : KINDS) {
            for (String line : complaints) {
                if (kind.words.matcher(line).find()) {
                    return new AptFailure(line, kind.advice);
                }
            }
        }
        // An indented line is the reason of the one above, which only says where.
        String first = Stream.of("E:", "  ", "W:", "").flatMap(mark -> output.lines().filter(line -> line.startsWith(mark)))
                .filter(line -> COMPLAINT.matcher(line).matches()).map(AptFailure::bare).findFirst()
                .orElse("apt failed and does not say why");
        return new AptFailure(first, "check the network" + OWN_GUEST);
    }

    private static String bare(String line) {
        return MARK.matcher(line).replaceFirst("").strip().replaceFirst("[.;:]+$", "");
    }
}
