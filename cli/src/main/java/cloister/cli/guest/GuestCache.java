package cloister.cli.guest;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/// The guests kept on this machine: Debian's cloud kernel and its static busybox, fetched once, by one process at a time, and
/// fetched again when they are not what their checksums say.
public final class GuestCache {
    /// The Debian release that guests come from.
    public static final String SUITE = "trixie";
    private static final String KERNEL_META = "linux-image-cloud-amd64";
    private static final String BUSYBOX = "busybox-static";
    private static final List<String> CONTENT = List.of("vmlinuz", "busybox");
    /// The order in which a finished fetch comes into place: the checksums last, so that they never speak for other files.
    private static final List<String> ARRIVAL = List.of("packages", "busybox", "vmlinuz", Checksums.FILE);
    private static final String WORK = "fetch-";

    private final Path folder;

    /// A cache in `folder`, which need not exist.
    public GuestCache(Path folder) {
        this.folder = folder;
    }

    /// The user's cache.
    public static GuestCache ofUser() {
        return new GuestCache(folder(System.getenv(), System.getProperty("user.home")));
    }

    /// The user's cache folder: `$CLOISTER_CACHE`, else `$XDG_CACHE_HOME/cloister`, else `$HOME/.cache/cloister`.
    ///
    /// @param home stands for `$HOME` where that is not set
    static Path folder(Map<String, String> environment, String home) {
        String own = environment.getOrDefault("CLOISTER_CACHE", "");
        if (!own.isBlank()) {
            return Path.of(own);
        }
        String xdg = environment.getOrDefault("XDG_CACHE_HOME", "");
        if (!xdg.isBlank()) {
            return Path.of(xdg, "cloister");
        }
        String named = environment.getOrDefault("HOME", "");
        return Path.of(named.isBlank() ? home : named, ".cache", "cloister");
    }

    /// A fetched guest.
    ///
    /// @param kernel  a bzImage
    /// @param busybox a static x86-64 executable
    public record Guest(Path kernel, Path busybox) {
    }

    /// The guest, fetched first if it is not here yet or not whole.
    ///
    /// @param offline forbids to fetch
    public Guest guest(boolean offline, FetchProgress progress) throws FetchFailure {
        if (isWhole()) {
            return here();
        }
        boolean damaged = Files.exists(place().resolve(Checksums.FILE));
        String state = damaged ? "the guest in " + place() + " is damaged (its checksums do not hold)"
                : "no guest is in " + folder;
        if (offline) {
            throw new FetchFailure(state + ", and --offline forbids to fetch it; leave out --offline, or give --kernel and --initrd");
        }
        if (damaged) {
            progress.step(state + "; fetching it again ...");
        }
        return fetch(false, progress);
    }

    /// The guest, fetched even if it is here.
    public Guest fetchAgain(FetchProgress progress) throws FetchFailure {
        return fetch(true, progress);
    }

    private Path place() {
        return folder.resolve(SUITE);
    }

    private Guest here() {
        return new Guest(place().resolve("vmlinuz"), place().resolve("busybox"));
    }

    private boolean isWhole() {
        return new Checksums(place()).hold(CONTENT);
    }

    private Guest fetch(boolean again, FetchProgress progress) throws FetchFailure {
        try {
            Files.createDirectories(folder);
            try (var channel = FileChannel.open(folder.resolve("fetch.lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
                    var lock = lock(channel, progress)) {
                // Another process may have fetched it while this one waited.
                if (again || !isWhole()) {
                    removeLeftOvers();
                    fetchLocked(progress);
                }
                assert lock.isValid();
            }
            return here();
        } catch (IOException e) {
            throw new FetchFailure("cannot fetch the guest into " + folder + " (" + describe(e) + "); " + advice(e), e);
        }
    }

    private static FileLock lock(FileChannel channel, FetchProgress progress) throws IOException {
        var free = channel.tryLock();
        if (free != null) {
            return free;
        }
        progress.step("waiting for another cloister that fetches the guest ...");
        return channel.lock();
    }

    /// What a process that was killed left behind. We hold the lock, so nobody uses it.
    private void removeLeftOvers() throws IOException {
        try (var all = Files.newDirectoryStream(folder, WORK + "*")) {
            for (var path : all) {
                if (Files.isDirectory(path)) {
                    deleteTree(path);
                }
            }
        }
    }

    private void fetchLocked(FetchProgress progress) throws IOException, FetchFailure {
        var work = Files.createTempDirectory(folder, WORK);
        var apt = new AptMirror(work, SUITE, progress);
        // A signal ends the virtual machine without coming back to this method.
        var atExit = new Thread(() -> {
            apt.end();
            deleteQuietly(work);
        }, "remove-unfinished-fetch");
        Runtime.getRuntime().addShutdownHook(atExit);
        try {
            progress.step("reading the package lists of Debian " + SUITE + " ...");
            apt.update();
            String kernelName = apt.dependency(KERNEL_META, "linux-image-");
            progress.step("downloading " + kernelName + " ...");
            var kernel = new DebPackage(apt.download(kernelName));
            progress.step("downloading " + BUSYBOX + " ...");
            var busybox = new DebPackage(apt.download(BUSYBOX));
            progress.step("unpacking ...");
            var ready = Files.createDirectory(work.resolve("ready"));
            unpack(kernel, name -> name.startsWith("boot/vmlinuz-"), ready.resolve("vmlinuz"));
            unpack(busybox, name -> name.equals("bin/busybox") || name.equals("usr/bin/busybox"),
                    ready.resolve("busybox"));
            Files.writeString(ready.resolve("packages"), kernel.file().getFileName() + "\n"
                    + busybox.file().getFileName() + "\n");
            new Checksums(ready).write(CONTENT);
            var target = Files.createDirectories(place());
            Files.deleteIfExists(target.resolve(Checksums.FILE));
            for (String name : ARRIVAL) {
                Files.move(ready.resolve(name), target.resolve(name), StandardCopyOption.REPLACE_EXISTING);
            }
            progress.step("the guest is in " + target);
        } finally {
            deleteTree(work);
            removeHook(atExit);
        }
    }

    private static void removeHook(Thread hook) {
        try {
            Runtime.getRuntime().removeShutdownHook(hook);
        } catch (IllegalStateException e) {
            // The virtual machine is ending: the hook does its work.
        }
    }

    private static void unpack(DebPackage source, Predicate<String> wanted, Path target)
            throws IOException, FetchFailure {
        if (!source.extract(wanted, target)) {
            throw new FetchFailure("package " + source.file().getFileName() + " lacks the file that should be in it; "
                    + "give --kernel and --initrd instead");
        }
    }

    private static String describe(IOException e) {
        return switch (e) {
            case AccessDeniedException denied -> denied.getFile() + ": permission denied";
            case FileAlreadyExistsException there -> there.getFile() + " is no folder";
            case FileSystemException broken when broken.getReason() != null ->
                    broken.getFile() + ": " + broken.getReason();
            default -> e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        };
    }

    private static String advice(IOException e) {
        String text = String.valueOf(e.getMessage());
        if (text.contains("Cannot run program")) {
            return "apt-get fetches it, which only Debian and its relatives have: give --kernel and --initrd";
        }
        return text.contains("No space left") ? "make room on that disk, or let CLOISTER_CACHE name a folder on another"
                : "let CLOISTER_CACHE name a folder that you can write to, or give --kernel and --initrd";
    }

    private static void deleteQuietly(Path root) {
        try {
            deleteTree(root);
        } catch (IOException | UncheckedIOException e) {
            // The next fetch removes what is left.
        }
    }

    private static void deleteTree(Path root) throws IOException {
        if (!Files.exists(root)) {
            return;
        }
        try (var all = Files.walk(root)) {
            for (var path : all.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(path);
            }
        }
    }
}
