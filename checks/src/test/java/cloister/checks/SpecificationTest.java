package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/// SPECIFICATION.md names the test that keeps each promise: every name there is a test that exists.
class SpecificationTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();
    private static final Pattern QUOTED = Pattern.compile("`([^`]+)`");
    /// `module/Class`, `module/package/Class` or either with `.method`.
    private static final Pattern TEST_CLASS = Pattern.compile("(\\w+)/(?:\\w+/)*([A-Z]\\w*)(?:\\.(\\w+))?");
    private static final Pattern TEST_METHOD = Pattern.compile("@(?:Test|ParameterizedTest|Property)\\b[^;]*?\\bvoid (\\w+)\\(");
    private static final int FEWEST_PROMISES = 60;

    @Test void everyTestThatKeepsAPromiseExists() throws IOException {
        var tests = tests();
        var missing = new ArrayList<String>();
        var rows = Files.readAllLines(ROOT.resolve("SPECIFICATION.md")).stream()
                .filter(line -> line.startsWith("| ") && !line.endsWith(" test |")).toList();
        for (String row : rows) {
            missing.addAll(missing(row, tests));
        }
        assertThat(rows).hasSizeGreaterThan(FEWEST_PROMISES);
        assertThat(missing).as("named in SPECIFICATION.md, but no test").isEmpty();
    }

    /// What the last column of `row` names and is not there. A name without a class is a method of the class before it.
    private static List<String> missing(String row, Map<String, Set<String>> tests) {
        var columns = row.split(" \\| ");
        var missing = new ArrayList<String>();
        String testClass = null;
        for (var quoted : QUOTED.matcher(columns[columns.length - 1]).results().toList()) {
            var named = TEST_CLASS.matcher(quoted.group(1));
            boolean namesClass = named.matches();
            if (namesClass) {
                testClass = named.group(1) + "/" + named.group(2);
            }
            String method = namesClass ? named.group(3) : quoted.group(1);
            var methods = tests.get(testClass);
            if (methods == null || (method != null && !methods.contains(method))) {
                missing.add(quoted.group(1));
            }
        }
        if (testClass == null) {
            missing.add("any test in: " + row);
        }
        return missing;
    }

    /// The test methods of every test class, by `module/Class`.
    private static Map<String, Set<String>> tests() throws IOException {
        var tests = new HashMap<String, Set<String>>();
        try (var all = Files.walk(ROOT)) {
            for (var file : all.filter(path -> path.toString().contains("/src/test/java/") && path.toString().endsWith(".java"))
                    .toList()) {
                var methods = new HashSet<String>();
                TEST_METHOD.matcher(Files.readString(file)).results().forEach(found -> methods.add(found.group(1)));
                String name = file.getFileName().toString().replace(".java", "");
                tests.put(ROOT.relativize(file).getName(0) + "/" + name, methods);
            }
        }
        return tests;
    }
}
