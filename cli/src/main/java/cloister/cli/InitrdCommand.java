package cloister.cli;

import cloister.cli.guest.FetchFailure;
import cloister.cli.guest.GuestCache;
import cloister.vmm.Initramfs;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/// `cloister initrd`: writes the initial RAM file system that `cloister run` would use, for other machines.
@Command(name = "initrd", mixinStandardHelpOptions = true,
        description = "Write the busybox initramfs to a file, to boot the same guest elsewhere.")
final class InitrdCommand implements Callable<Integer> {
    @Option(names = "--exec", paramLabel = "COMMAND", description = "A shell command that the guest runs, then powers off.")
    private String exec;

    @Option(names = "--out", paramLabel = "FILE", required = true, description = "The file to write.")
    private Path out;

    @Option(names = "--offline", description = "Fetch nothing: busybox has to be in the cache.")
    private boolean offline;

    @Override public Integer call() throws FetchFailure {
        var guest = GuestCache.ofUser().guest(offline, new Progress());
        try {
            var packed = new Initramfs(Files.readAllBytes(guest.busybox()));
            Files.write(out, (exec == null ? packed : packed.command(exec)).pack());
            return ExitCode.SUCCESS.code();
        } catch (IOException e) {
            System.err.println("cloister: cannot write " + out + " (" + e.getMessage() + "): choose another --out.");
            return ExitCode.USAGE.code();
        }
    }
}
