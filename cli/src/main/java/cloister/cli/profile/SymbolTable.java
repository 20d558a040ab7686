package cloister.cli.profile;

import java.io.BufferedReader;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.OptionalLong;

/// Names of addresses: which function an address is in.
public final class SymbolTable {
    private static final int SHOWN = 40;
    /// A table that knows nothing.
    public static final SymbolTable EMPTY = new SymbolTable(List.of());

    private final long[] addresses;
    private final String[] names;

    /// A symbol as `nm` and kallsyms show it.
    ///
    /// @param address where it is
    /// @param type    its letter: t, T, w and W are code
    /// @param name    its name
    record Symbol(long address, char type, String name) {
        boolean isCode() {
            return "tTwW".indexOf(type) >= 0;
        }
    }

    SymbolTable(List<Symbol> symbols) {
        var code = symbols.stream().filter(Symbol::isCode).sorted((a, b) -> Long.compareUnsigned(a.address, b.address)).toList();
        addresses = code.stream().mapToLong(Symbol::address).toArray();
        names = code.stream().map(Symbol::name).toArray(String[]::new);
    }

    /// Reads a System.map, the output of `nm`, or /proc/kallsyms.
    ///
    /// @throws IOException when it cannot be read or a line is none of a symbol
    public static SymbolTable read(BufferedReader text) throws IOException {
        var symbols = new ArrayList<Symbol>();
        for (String line = text.readLine(); line != null; line = text.readLine()) {
            String[] words = line.strip().split("\\s+");
            if (words.length < 3 || words[1].length() != 1) {
                throw new IOException("'" + start(line) + "' is no line of a System.map or of kallsyms");
            }
            try {
                symbols.add(new Symbol(Long.parseUnsignedLong(words[0], 16), words[1].charAt(0), words[2]));
            } catch (NumberFormatException e) {
                throw new IOException("'" + start(line) + "' has no address", e);
            }
        }
        if (!symbols.isEmpty() && symbols.stream().allMatch(s -> s.address == 0)) {
            throw new IOException("every address is 0: read kallsyms as root");
        }
        return new SymbolTable(symbols);
    }

    /// What a message shows of a line, which may be anything.
    private static String start(String line) {
        String printable = line.replaceAll("\\P{Print}", "?");
        return printable.length() <= SHOWN ? printable : printable.substring(0, SHOWN) + "...";
    }

    /// Number of functions.
    public int size() {
        return names.length;
    }

    /// The address of a function.
    public OptionalLong address(String name) {
        for (int i = 0; i < names.length; i++) {
            if (names[i].equals(name)) {
                return OptionalLong.of(addresses[i]);
            }
        }
        return OptionalLong.empty();
    }

    /// The function that `address` is in: the last one that does not begin after it. Null below the first and far above the last.
    public String at(long address) {
        int low = 0;
        int high = addresses.length;
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (Long.compareUnsigned(addresses[middle], address) <= 0) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low == 0 || (low == addresses.length && address - addresses[low - 1] > 1 << 16) ? null : names[low - 1];
    }

    @Override public String toString() {
        return names.length + " functions " + Arrays.stream(names).min(Comparator.naturalOrder()).orElse("");
    }
}
