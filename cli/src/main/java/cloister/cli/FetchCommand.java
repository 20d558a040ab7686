package cloister.cli;

import cloister.cli.guest.FetchFailure;
import cloister.cli.guest.GuestCache;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;

/// `cloister fetch`: gets the default guest into the cache, so that later runs need no network.
@Command(name = "fetch", description = "Fetch Debian's cloud kernel and busybox into the cache.",
        mixinStandardHelpOptions = true)
final class FetchCommand implements Callable<Integer> {
    @Override public Integer call() throws FetchFailure {
        var guest = GuestCache.ofUser().guest(Progress::say);
        System.out.println(guest.kernel());
        System.out.println(guest.busybox());
        return ExitCode.SUCCESS.code();
    }
}
