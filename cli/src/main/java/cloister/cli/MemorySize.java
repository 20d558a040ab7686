package cloister.cli;

import java.util.regex.Pattern;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/// Reads sizes such as `512M`, `4G` or `1048576K`; a bare number counts MiB.
final class MemorySize implements ITypeConverter<Long> {
    private static final Pattern SIZE = Pattern.compile("(\\d{1,12})([KMGkmg]?)(i?[Bb])?");

    @Override public Long convert(String text) {
        var match = SIZE.matcher(text);
        if (!match.matches()) {
            throw new TypeConversionException("'" + text + "' is not a size: write for example 512M or 4G");
        }
        int shift = switch (match.group(2)) {
            case "K", "k" -> 10;
            case "G", "g" -> 30;
            default -> 20;
        };
        long number = Long.parseLong(match.group(1));
        if (number > Long.MAX_VALUE >> shift) {
            throw new TypeConversionException("'" + text + "' is more memory than any machine has");
        }
        return number << shift;
    }
}
