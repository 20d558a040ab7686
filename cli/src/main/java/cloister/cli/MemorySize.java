package cloister.cli;

import java.math.BigDecimal;
import java.util.Locale;
import java.util.regex.Pattern;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/// Reads sizes such as `512M`, `2.5G` or `1048576K`; a bare number counts MiB, as QEMU's does. A size is a whole number of MiB.
final class MemorySize implements ITypeConverter<Long> {
    private static final Pattern SIZE = Pattern.compile("(\\d{1,12}(?:\\.\\d{1,12})?)([KMGTP]?)(?:I?B)?");
    private static final BigDecimal MIB = BigDecimal.valueOf(1L << 20);

    @Override public Long convert(String text) {
        var match = SIZE.matcher(text.strip().toUpperCase(Locale.ROOT));
        if (!match.matches()) {
            throw new TypeConversionException("'" + text + "' is not a size: write for example 512M or 2.5G");
        }
        int shift = switch (match.group(2)) {
            case "K" -> 10;
            case "G" -> 30;
            case "T" -> 40;
            case "P" -> 50;
            default -> 20;
        };
        var bytes = new BigDecimal(match.group(1)).multiply(BigDecimal.valueOf(1L << shift));
        if (bytes.compareTo(BigDecimal.valueOf(Long.MAX_VALUE)) > 0) {
            throw new TypeConversionException("'" + text + "' is more memory than any machine has");
        }
        if (bytes.remainder(MIB).signum() != 0) {
            throw new TypeConversionException("'" + text + "' is not a whole number of MiB");
        }
        return bytes.longValueExact();
    }
}
