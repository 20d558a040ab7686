package cloister.cli.guest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Comparator;
import java.util.function.Consumer;
import java.util.function.Predicate;

/// The guests kept on this machine: Debian's cloud kernel and its static busybox, fetched once.
public final class GuestCache {
    /// The Debian release that guests come from.
    public static final String SUITE = "trixie";
    private static final String KERNEL_META = "linux-image-cloud-amd64";
    private static final String BUSYBOX = "busybox-static";

    private final Path folder;

    /// A cache in `folder`, which need not exist.
    public GuestCache(Path folder) {
        this.folder = folder;
    }

    /// The user's cache: `$CLOISTER_CACHE`, else `$XDG_CACHE_HOME/cloister`, else `~/.cache/cloister`.
    public static GuestCache ofUser() {
        String own = System.getenv("CLOISTER_CACHE");
        if (own != null && !own.isBlank()) {
            return new GuestCache(Path.of(own));
        }
        String xdg = System.getenv("XDG_CACHE_HOME");
        var caches = xdg != null && !xdg.isBlank() ? Path.of(xdg) : Path.of(System.getProperty("user.home"), ".cache");
        return new GuestCache(caches.resolve("cloister"));
    }

    /// A fetched guest.
    ///
    /// @param kernel  a bzImage
    /// @param busybox a static x86-64 executable
    public record Guest(Path kernel, Path busybox) {
    }

    /// The guest, fetched first if it is not here yet.
    ///
    /// @param progress gets one line per step
    public Guest guest(Consumer<String> progress) throws FetchFailure {
        var complete = new Guest(folder.resolve(SUITE).resolve("vmlinuz"), folder.resolve(SUITE).resolve("busybox"));
        if (Files.exists(complete.kernel()) && Files.exists(complete.busybox())) {
            return complete;
        }
        try {
            fetch(progress);
            return complete;
        } catch (IOException e) {
            throw new FetchFailure("cannot fetch the guest into " + folder + " (" + describe(e)
                    + "); apt-get must be installed and the folder writable, or give --kernel and --initrd", e);
        }
    }

    private void fetch(Consumer<String> progress) throws IOException, FetchFailure {
        Files.createDirectories(folder);
        var work = Files.createTempDirectory(folder, "fetch-");
        try {
            progress.accept("reading the package lists of Debian " + SUITE + " ...");
            var apt = new AptMirror(work, SUITE);
            apt.update();
            String kernelName = apt.dependency(KERNEL_META, "linux-image-");
            progress.accept("downloading " + kernelName + " ...");
            var kernel = new DebPackage(apt.download(kernelName));
            progress.accept("downloading " + BUSYBOX + " ...");
            var busybox = new DebPackage(apt.download(BUSYBOX));
            progress.accept("unpacking ...");
            var ready = Files.createDirectory(work.resolve("ready"));
            unpack(kernel, name -> name.startsWith("boot/vmlinuz-"), ready.resolve("vmlinuz"));
            unpack(busybox, name -> name.equals("bin/busybox") || name.equals("usr/bin/busybox"),
                    ready.resolve("busybox"));
            Files.writeString(ready.resolve("packages"), kernel.file().getFileName() + "\n"
                    + busybox.file().getFileName() + "\n");
            var target = Files.createDirectories(folder.resolve(SUITE));
            for (String name : new String[] {"packages", "busybox", "vmlinuz"}) {
                Files.move(ready.resolve(name), target.resolve(name), StandardCopyOption.REPLACE_EXISTING);
            }
            progress.accept("the guest is in " + target);
        } finally {
            deleteTree(work);
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
        return e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    }

    private static void deleteTree(Path root) throws IOException {
        try (var all = Files.walk(root)) {
            for (var path : all.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(path);
            }
        }
    }
}
