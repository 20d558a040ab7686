package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Predicate;

/// The files of the tree.
final class Sources {
    private Sources() {
    }

    /// Every Java source below `root`, in order.
    static List<Path> java(Path root) {
        return walk(root, path -> path.toString().endsWith(".java") && !path.toString().contains("/target/"));
    }

    /// The files below `root` that `wanted` accepts, in order; the history is not among them.
    static List<Path> walk(Path root, Predicate<Path> wanted) {
        try (var all = Files.walk(root)) {
            var files = all.filter(Files::isRegularFile).filter(f -> !f.startsWith(root.resolve(".git")))
                    .filter(wanted).sorted().toList();
            assertThat(files).as("files under " + root).isNotEmpty();
            return files;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /// The content of `file`.
    static String text(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
