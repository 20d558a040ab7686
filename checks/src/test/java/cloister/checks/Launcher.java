package cloister.checks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/// Runs `./cloister` as a user does.
final class Launcher {
    static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();

    /// The host's registers are compared behind every vCPU. [ADR 35]
    private static final String CHECKED = "-ea:cloister.kvm.host.HostCpu";

    private Launcher() {
    }

    /// What a run left behind.
    record Result(int exitCode, String out, String err) {
        /// Standard error without the lines that report progress.
        List<String> complaints() {
            return err.lines().filter(line -> !line.endsWith("...") && !line.equals("cloister: making the platform")).toList();
        }
    }

    static Result cloister(String... arguments) {
        return cloister(Map.of(), arguments);
    }

    /// With `input` as standard input.
    static Result cloister(Path input, String... arguments) {
        return cloister(input, Map.of(), arguments);
    }

    static Result cloister(Map<String, String> environment, String... arguments) {
        return cloister(Path.of("/dev/null"), environment, arguments);
    }

    private static Result cloister(Path input, Map<String, String> environment, String... arguments) {
        var command = new ArrayList<String>();
        command.add(ROOT.resolve("cloister").toString());
        command.addAll(List.of(arguments));
        try {
            var out = Files.createTempFile("cloister", ".out");
            var err = Files.createTempFile("cloister", ".err");
            try {
                var builder = new ProcessBuilder(command).redirectInput(input.toFile())
                        .redirectOutput(out.toFile()).redirectError(err.toFile());
                builder.environment().put("CLOISTER_JAVA_OPTIONS", CHECKED);
                builder.environment().putAll(environment);
                var process = builder.start();
                if (!process.waitFor(10, TimeUnit.MINUTES)) {
                    process.destroyForcibly();
                    throw new AssertionError("still running after 10 minutes: " + command + "\n" + Files.readString(err));
                }
                return new Result(process.exitValue(), Files.readString(out), Files.readString(err));
            } finally {
                Files.delete(out);
                Files.delete(err);
            }
        } catch (IOException e) {
            throw new AssertionError("cannot run " + command, e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new AssertionError(e);
        }
    }
}
