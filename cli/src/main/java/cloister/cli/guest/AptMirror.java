package cloister.cli.guest;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/// A private apt, without root: its own lists and cache under a folder of ours, the machine's own mirror and keys.
final class AptMirror {
    /// Overrides the mirror that the machine's apt is configured with.
    static final String MIRROR_VARIABLE = "CLOISTER_DEBIAN_MIRROR";
    private static final Path ETC_APT = Path.of("/etc/apt");
    private static final Path KEYRING = Path.of("/usr/share/keyrings/debian-archive-keyring.gpg");

    /// apt gives up earlier, on a server that does not answer; this is for what it does not notice.
    private static final long STALL_NS = TimeUnit.SECONDS.toNanos(90);
    private static final long POLL_MS = 200;
    /// Ctrl-C on a terminal ends apt and us; apt may be the first, so its failure is no news until this has passed.
    private static final long OUR_END_MS = 1_000;
    /// A process that a signal ended has this and the signal's number as its exit code.
    private static final int SIGNALLED = 128;

    private final Path home;
    private final String suite;
    private final FetchProgress progress;
    private final Path downloads;
    /// What runs now, so that the end of our process can end it.
    private volatile Process running;
    private final CountDownLatch ending = new CountDownLatch(1);

    AptMirror(Path home, String suite, FetchProgress progress) throws IOException, FetchFailure {
        this.home = home;
        this.suite = suite;
        this.progress = progress;
        this.downloads = Files.createDirectories(home.resolve("downloads"));
        Files.createDirectories(home.resolve("lists/partial"));
        Files.createDirectories(home.resolve("cache/archives/partial"));
        var signed = Files.exists(KEYRING) ? "[signed-by=" + KEYRING + "] " : "";
        Files.writeString(home.resolve("sources.list"), "deb " + signed + uri() + " " + suite + " main\n");
    }

    /// Updates the package lists.
    void update() throws IOException, FetchFailure {
        apt(() -> { }, "apt-get", "update");
    }

    /// Ends apt because our process ends; who waits for it never comes back, so that the exit code is the signal's.
    void end() {
        ending.countDown();
        stop();
    }

    private void stop() {
        var process = running;
        if (process != null) {
            process.descendants().forEach(ProcessHandle::destroy);
            process.destroy();
        }
    }

    /// The newest package that `name` depends on whose name starts with `prefix` (a meta-package's payload).
    String dependency(String name, String prefix) throws IOException, FetchFailure {
        return apt(() -> { }, "apt-cache", "depends", name).lines()
                .map(String::strip)
                .filter(line -> line.startsWith("Depends: " + prefix))
                .map(line -> line.substring("Depends: ".length()))
                .findFirst()
                .orElseThrow(() -> new FetchFailure("package " + name + " of suite " + suite + " names no " + prefix
                        + "*; the mirror may be broken: try again later, or give --kernel and --initrd"));
    }

    /// Downloads a package.
    Path download(String name) throws IOException, FetchFailure {
        long size = sizeOf(name);
        apt(() -> {
            if (size > 0) {
                progress.downloaded(name, Math.min(bytesIn(downloads), size), size);
            }
        }, "apt-get", "download", name);
        try (Stream<Path> files = Files.list(downloads)) {
            var file = files.filter(f -> f.getFileName().toString().startsWith(name + "_")).findFirst()
                    .orElseThrow(() -> new FetchFailure("apt did not download " + name + " and did not say why"));
            return Files.move(file, home.resolve(file.getFileName()));
        }
    }

    /// The size of a package in bytes, or 0 when apt does not say. Its line is `'URI' FILE SIZE HASH`.
    private long sizeOf(String name) throws IOException, FetchFailure {
        return apt(() -> { }, "apt-get", "download", "--print-uris", name).lines().filter(line -> line.startsWith("'"))
                .map(line -> line.split(" ")).filter(words -> words.length >= 3 && words[2].matches("\\d{1,12}"))
                .mapToLong(words -> Long.parseLong(words[2])).findFirst().orElse(0);
    }

    private String apt(Runnable tick, String tool, String... arguments) throws IOException, FetchFailure {
        var command = new ArrayList<>(List.of(tool, "-q",
                "-o", "Dir::Etc::sourcelist=" + home.resolve("sources.list"),
                "-o", "Dir::Etc::sourceparts=/dev/null",
                "-o", "Dir::State::lists=" + home.resolve("lists"),
                "-o", "Dir::State::status=/dev/null",
                "-o", "Dir::Cache=" + home.resolve("cache"),
                "-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64",
                "-o", "APT::Sandbox::User=" + System.getProperty("user.name"),
                "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10",
                "-o", "Acquire::Languages=none"));
        command.addAll(List.of(arguments));
        var log = home.resolve("apt.log");
        var builder = new ProcessBuilder(command).directory(downloads.toFile())
                .redirectErrorStream(true).redirectOutput(log.toFile());
        builder.environment().put("LC_ALL", "C");
        try {
            var process = builder.start();
            running = process;
            process.getOutputStream().close();
            waitFor(process, tick);
            if (ending.await(process.exitValue() == 0 ? 0 : OUR_END_MS, TimeUnit.MILLISECONDS)) {
                new CountDownLatch(1).await();
            }
            String output = Files.readString(log);
            output.lines().forEach(progress::detail);
            if (process.exitValue() > SIGNALLED) {
                throw new FetchFailure("signal " + (process.exitValue() - SIGNALLED) + " ended " + tool + "; try again");
            }
            if (process.exitValue() != 0 || output.contains("Failed to fetch")) {
                var failure = AptFailure.of(output);
                throw new FetchFailure("cannot get Debian packages (" + failure.reason() + "); " + failure.advice());
            }
            return output;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new FetchFailure("interrupted while fetching the guest");
        } finally {
            stop();
            running = null;
        }
    }

    private void waitFor(Process process, Runnable tick) throws InterruptedException, FetchFailure {
        long bytes = bytesIn(home);
        long since = System.nanoTime();
        while (!process.waitFor(POLL_MS, TimeUnit.MILLISECONDS)) {
            tick.run();
            long now = bytesIn(home);
            if (now != bytes) {
                bytes = now;
                since = System.nanoTime();
            } else if (System.nanoTime() - since > STALL_NS) {
                throw new FetchFailure("nothing came from the Debian mirror for " + TimeUnit.NANOSECONDS.toSeconds(STALL_NS)
                        + " seconds; check the network, or give --kernel and --initrd");
            }
        }
        tick.run();
    }

    /// The size of all files below a folder; files that go meanwhile do not count.
    private static long bytesIn(Path folder) {
        try (var files = Files.walk(folder)) {
            return files.mapToLong(file -> file.toFile().isFile() ? file.toFile().length() : 0).sum();
        } catch (IOException | UncheckedIOException e) {
            return 0;
        }
    }

    private static String uri() throws IOException, FetchFailure {
        String override = System.getenv(MIRROR_VARIABLE);
        if (override != null && !override.isBlank()) {
            return override.strip();
        }
        for (var file : sourceFiles()) {
            for (String line : Files.readAllLines(file)) {
                var uri = uriOf(line.strip());
                if (uri != null) {
                    return uri;
                }
            }
        }
        throw new FetchFailure("no Debian mirror: this machine's apt has none; set " + MIRROR_VARIABLE
                + " to a Debian mirror's URI, or give --kernel and --initrd");
    }

    private static List<Path> sourceFiles() throws IOException {
        var files = new ArrayList<Path>();
        if (Files.isReadable(ETC_APT.resolve("sources.list"))) {
            files.add(ETC_APT.resolve("sources.list"));
        }
        if (Files.isDirectory(ETC_APT.resolve("sources.list.d"))) {
            try (var parts = Files.list(ETC_APT.resolve("sources.list.d"))) {
                parts.sorted().filter(Files::isReadable).forEach(files::add);
            }
        }
        return files;
    }

    /// The mirror that a line of sources.list or of a deb822 file names, or null. Only Debian's main archive counts.
    static String uriOf(String line) {
        String rest;
        if (line.startsWith("URIs:")) {
            rest = line.substring("URIs:".length());
        } else if (line.startsWith("deb ")) {
            rest = line.substring("deb ".length()).replaceFirst("^\\s*\\[[^]]*]", "");
        } else {
            return null;
        }
        String uri = rest.strip().split("\\s+")[0].replaceFirst("/+$", "");
        return uri.endsWith("/debian") ? uri : null;
    }
}
