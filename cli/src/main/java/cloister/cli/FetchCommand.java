package cloister.cli;

import cloister.cli.guest.FetchFailure;
import cloister.cli.guest.GuestCache;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/// `cloister fetch`: gets the default guest into the cache, so that later runs need no network.
@Command(name = "fetch", description = "Fetch Debian's cloud kernel and busybox into the cache.",
        mixinStandardHelpOptions = true, footer = {"", "Prints the paths of the kernel and of busybox."})
final class FetchCommand implements Callable<Integer> {
    @Option(names = "--force", description = "Fetch even what is already there, to have the newest.")
    private boolean force;

    @Option(names = "--offline", description = "Only check what is there.")
    private boolean offline;

    @Override public Integer call() throws FetchFailure {
        if (force && offline) {
            System.err.println("cloister: --force fetches and --offline forbids to: choose one.");
            return ExitCode.USAGE.code();
        }
        var cache = GuestCache.ofUser();
        var guest = force ? cache.fetchAgain(new Progress()) : cache.guest(offline, new Progress());
        System.out.println(guest.kernel());
        System.out.println(guest.busybox());
        return ExitCode.SUCCESS.code();
    }
}
