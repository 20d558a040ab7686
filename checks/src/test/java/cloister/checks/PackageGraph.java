package cloister.checks;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;

/// Which package imports which, over the product's sources.
final class PackageGraph {
    private static final Pattern PACKAGE = Pattern.compile("(?m)^package ([\\w.]+);");
    private static final Pattern IMPORT = Pattern.compile("(?m)^import (?:static )?(cloister(?:\\.[a-z]\\w*)+)\\.[A-Z]");

    private final TreeMap<String, Set<String>> imports = new TreeMap<>();

    PackageGraph(List<Path> files) {
        for (var file : files) {
            String text = read(file);
            var name = PACKAGE.matcher(text);
            if (name.find()) {
                var targets = imports.computeIfAbsent(name.group(1), n -> new TreeSet<>());
                IMPORT.matcher(text).results().map(found -> found.group(1))
                        .filter(to -> !to.equals(name.group(1))).forEach(targets::add);
            }
        }
    }

    Set<String> packages() {
        return imports.keySet();
    }

    /// The packages that reach themselves.
    Set<String> circular() {
        var result = new TreeSet<String>();
        for (var from : imports.keySet()) {
            if (reachable(from).contains(from)) {
                result.add(from);
            }
        }
        return result;
    }

    /// What `from` imports, and what that imports.
    Set<String> reachable(String from) {
        var seen = new TreeSet<String>();
        collect(from, seen);
        return seen;
    }

    private void collect(String from, Set<String> seen) {
        for (var to : imports.getOrDefault(from, Set.of())) {
            if (seen.add(to)) {
                collect(to, seen);
            }
        }
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
