package cloister.cli.guest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/// A private apt, without root: its own lists and cache under a folder of ours, the machine's own mirror and keys.
final class AptMirror {
    /// Overrides the mirror that the machine's apt is configured with.
    static final String MIRROR_VARIABLE = "CLOISTER_DEBIAN_MIRROR";
    private static final Path ETC_APT = Path.of("/etc/apt");
    private static final Path KEYRING = Path.of("/usr/share/keyrings/debian-archive-keyring.gpg");

    private final Path home;
    private final String suite;
    private final Path downloads;

    AptMirror(Path home, String suite) throws IOException, FetchFailure {
        this.home = home;
        this.suite = suite;
        this.downloads = Files.createDirectories(home.resolve("downloads"));
        Files.createDirectories(home.resolve("lists/partial"));
        Files.createDirectories(home.resolve("cache/archives/partial"));
        var signed = Files.exists(KEYRING) ? "[signed-by=" + KEYRING + "] " : "";
        Files.writeString(home.resolve("sources.list"), "deb " + signed + uri() + " " + suite + " main\n");
    }

    /// Updates the package lists.
    void update() throws IOException, FetchFailure {
        apt("apt-get", "update");
    }

    /// The newest package that `name` depends on whose name starts with `prefix` (a meta-package's payload).
    String dependency(String name, String prefix) throws IOException, FetchFailure {
        return apt("apt-cache", "depends", name).lines()
                .map(String::strip)
                .filter(line -> line.startsWith("Depends: " + prefix))
                .map(line -> line.substring("Depends: ".length()))
                .findFirst()
                .orElseThrow(() -> new FetchFailure("package " + name + " of suite " + suite + " names no " + prefix
                        + "*; the mirror may be broken: try again later, or give --kernel and --initrd"));
    }

    /// Downloads a package.
    Path download(String name) throws IOException, FetchFailure {
        apt("apt-get", "download", name);
        try (Stream<Path> files = Files.list(downloads)) {
            return files.filter(f -> f.getFileName().toString().startsWith(name + "_")).findFirst()
                    .orElseThrow(() -> new FetchFailure("apt did not download " + name + " and did not say why"));
        }
    }

    private String apt(String tool, String... arguments) throws IOException, FetchFailure {
        var command = new ArrayList<>(List.of(tool, "-q",
                "-o", "Dir::Etc::sourcelist=" + home.resolve("sources.list"),
                "-o", "Dir::Etc::sourceparts=/dev/null",
                "-o", "Dir::State::lists=" + home.resolve("lists"),
                "-o", "Dir::State::status=/dev/null",
                "-o", "Dir::Cache=" + home.resolve("cache"),
                "-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64",
                "-o", "APT::Sandbox::User=" + System.getProperty("user.name"),
                "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::Languages=none"));
        command.addAll(List.of(arguments));
        var log = home.resolve("apt.log");
        var builder = new ProcessBuilder(command).directory(downloads.toFile())
                .redirectErrorStream(true).redirectOutput(log.toFile());
        builder.environment().put("LC_ALL", "C");
        try {
            var process = builder.start();
            process.getOutputStream().close();
            if (!process.waitFor(10, TimeUnit.MINUTES)) {
                process.destroyForcibly();
                throw new FetchFailure("the Debian mirror did not answer within 10 minutes; check the network, "
                        + "or give --kernel and --initrd");
            }
            String output = Files.readString(log);
            if (process.exitValue() != 0 || output.contains("Failed to fetch")) {
                throw new FetchFailure("cannot get Debian packages (" + firstError(output)
                        + "); check the network, or give --kernel and --initrd");
            }
            return output;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new FetchFailure("interrupted while fetching the guest");
        }
    }

    private static String firstError(String output) {
        return output.lines().filter(l -> l.startsWith("E:") || l.startsWith("Err:") || l.startsWith("W: Failed"))
                .findFirst().orElse("apt failed").replaceFirst("^(E|W):\\s*", "").strip();
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
