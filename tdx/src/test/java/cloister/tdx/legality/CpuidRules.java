package cloister.tdx.legality;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/// What the specification says of each CPUID bit that a TD sees, written bit by bit and not as the product's masks.
/// [TDX-ABI "CPUID Virtualization"]
///
/// Classes: "0" and "1" fixed; "native" the platform's; "host" what TD_PARAMS says; "allow" native, if TD_PARAMS says so; "lass" and
/// "pks" from ATTRIBUTES; "own" computed, see [ExpectedCpuid]. "x+feature" is x only if XFAM has the feature. Bits that a row does not
/// name have its last class if that has no bits, else they are 0; registers without a row are 0.
final class CpuidRules {
    static final int ANY = -1;

    private static final String ROWS = """
            0        any   eax     1 5 1 0
            0        any   ebx-edx native
            1        any   eax     host 27-16 13-0
            1        any   ebx     own 31-24; host 23-16; native 15-8
            1        any   ecx     1 31; own 27; allow 24 18 14 11 10 8 7 3; allow+avx 29 28; native+avx 12; 0 16 6 5; native
            1        any   edx     1 9; allow 31 29-27 22 18; 0 30 20 17 10; native
            2        any   eax     1 23-17 15-8 0
            4        0-2   eax     host 31-14 9-0
            4        0-2   ebx     host 31-12; native
            4        0-2   ecx     host
            4        0-2   edx     host 31-3 1 0
            4        3     eax     host 31-14 9-0
            4        3     ebx     host 31-12; native
            4        3     ecx     host
            4        3     edx     host 2-0
            5        any   eax-ebx native 15-0
            5        any   ecx     native 1 0
            5        any   edx     native
            7        0     eax     native
            7        0     ebx     allow 19 15 12 11 9 8 4 3; allow+avx512 31 30 28-26 21 17 16
            7        0     ebx     native 29 24 23 20 18 13 10 7 6 0; native+avx 5; native+pt 25
            7        0     ecx     allow 25 22 16 13 8 5 2 0; native 28 27 24; allow+avx512 14 12 11 6; native+avx512 1; allow+avx 10 9
            7        0     ecx     pks 31; native+cet 7; native+pku 3; own 4
            7        0     edx     allow 18 16 14 4; native 31-26 13 10 9; allow+avx512 8 3 2; native+avx512 23; native+uli 5
            7        0     edx     native+lbr 19; native+cet 20; native+amx 25 24 22
            7        1     eax     allow 26 19 12-10 8 7; allow+avx 23 4; allow+avx512 5; lass 6
            7        1     edx     allow+avx 10 5 4; allow 17
            7        2     edx     native 4 2-0; allow 5 3
            a        any   eax-ecx native
            a        any   edx     native 15 12-0
            b        0-2   eax-edx own
            d        0     eax     native 1 0; native+avx 2; native+avx512 7-5; native+pku 9; native+amx 18 17
            d        0     ebx-ecx own
            d        1     eax     native 3-0; own 4
            d        1     ebx     own
            d        1     ecx     native+pt 8; native+cet 12 11; native+uli 14; native+lbr 15
            d        2-12  eax-ecx native
            14       0     eax     native
            14       0     ebx     native 8-0
            14       0     ecx     native 31 3-0
            14       1     eax     native 31-16 2-0
            14       1     ebx     native
            15       any   eax     1 0
            15       any   ebx     own
            15       any   ecx     1 24 22-18 16 14-11 6
            1a       any   eax     native
            1c       any   eax     allow 7-0; native
            1c       any   ebx-edx native
            1d       0-1   eax-edx native
            1e       any   eax-edx native
            1f       0-5   eax     host 4-0
            1f       0-5   ebx-ecx host 15-0
            1f       0-5   edx     own
            21       0     ebx     1 30 29 26 24 22-20 18 14 13 11-9 6 3 0
            21       0     ecx     1 29 21 13 5
            21       0     edx     1 30 28 27 22 18 14 12 10 6 5 3 2
            23       0     eax     allow 3-0
            23       0     ebx     native
            23       1     eax-ebx native
            23       3     eax     native
            80000000 any   eax     1 31 3
            80000001 any   ecx     native 8 5 0
            80000001 any   edx     native 29 27 26 20; own 11
            80000007 any   edx     native 8
            80000008 any   eax     host 7-0; own 15-8
            80000008 any   ebx     allow 9
            """;
    /// Leaves that are 0 in all registers, and sub-leaves of such, beside the rows above.
    private static final String NULL = "3:any 4:4 8:any e:any 11:any 12:any 13:any 14:0 19:any 20:any 21:0 22:any 23:2";
    /// Whole leaves that a TD sees only with something; else they are 0.
    private static final String WITH = "5:monitor a:perfmon 14:pt 1a:fixed-model 1c:lbr 1d:amx 23:perfmon-leaf";
    /// The configurable ones, in the order of TD_PARAMS.
    private static final String CONFIGURED =
            "1:any 4:0 4:1 4:2 4:3 7:0 7:1 a:any 1c:any 80000008:any 7:2 23:0 1f:0 1f:1 1f:2 1f:3 1f:4 1f:5";
    private static final Map<String, Integer> XFAM = Map.of("avx", 4, "avx512", 0xe0, "pt", 0x100, "pku", 0x200, "cet", 0x1800, "uli",
            0x4000, "lbr", 0x8000, "amx", 0x6_0000);

    private static final Map<Leaf, Bit[][]> RULES = rules();

    private CpuidRules() {
    }

    /// A leaf and a sub-leaf, or [#ANY].
    record Leaf(int leaf, int subleaf) {
        static Leaf of(String text) {
            var parts = text.split(":");
            return new Leaf(Integer.parseUnsignedInt(parts[0], 16), parts[1].equals("any") ? ANY : Integer.parseInt(parts[1], 16));
        }

        /// As RCX of a failing TDH.MNG.INIT has it.
        long operand() {
            return (leaf & 0xffff_ffffL) | ((long) subleaf << 32);
        }

        @Override public String toString() {
            return Integer.toHexString(leaf) + (subleaf == ANY ? "" : ":" + Integer.toHexString(subleaf));
        }
    }

    /// The rule of one bit.
    ///
    /// @param kind its class
    /// @param xfam XFAM bits that it needs, all of them
    record Bit(String kind, int xfam) {
        static Bit of(String name) {
            int plus = name.indexOf('+');
            return plus < 0 ? new Bit(name, 0) : new Bit(name.substring(0, plus), XFAM.get(name.substring(plus + 1)));
        }

        /// Whether TD_PARAMS may ask for it.
        boolean configurable() {
            return kind.equals("host") || kind.equals("allow");
        }
    }

    /// The leaves that a TD gets values of, if nothing else forbids.
    static Set<Leaf> leaves() {
        return RULES.keySet();
    }

    /// The leaf to which TD_PARAMS.CPUID_CONFIG's entry belongs.
    static List<Leaf> configured() {
        return Arrays.stream(CONFIGURED.split(" ")).map(Leaf::of).toList();
    }

    /// By register and bit; null for a leaf that raises #VE.
    static Bit[][] of(Leaf leaf) {
        return RULES.get(leaf);
    }

    /// What a TD must have to see anything of the leaf, or "".
    static String needs(int leaf) {
        return Arrays.stream(WITH.split(" ")).map(w -> w.split(":")).filter(w -> Integer.parseInt(w[0], 16) == leaf).map(w -> w[1])
                .findAny().orElse("");
    }

    private static Map<Leaf, Bit[][]> rules() {
        var rules = new LinkedHashMap<Leaf, Bit[][]>();
        for (var leaf : NULL.split(" ")) {
            rules.put(Leaf.of(leaf), zeroes());
        }
        ROWS.lines().forEach(line -> {
            var c = line.split(" +", 4);
            for (var subleaf : range(c[1])) {
                var bits = rules.computeIfAbsent(new Leaf(Integer.parseUnsignedInt(c[0], 16), subleaf), _ -> zeroes());
                var registers = c[2].split("-");
                for (int r = register(registers[0]); r <= register(registers[registers.length - 1]); r++) {
                    fill(bits[r], c[3]);
                }
            }
        });
        return rules;
    }

    private static Bit[][] zeroes() {
        var bits = new Bit[4][32];
        for (var register : bits) {
            Arrays.fill(register, Bit.of("0"));
        }
        return bits;
    }

    private static int register(String name) {
        return List.of("eax", "ebx", "ecx", "edx").indexOf(name);
    }

    private static int[] range(String text) {
        if (text.equals("any")) {
            return new int[] {ANY};
        }
        var ends = text.split("-");
        return IntStream.rangeClosed(Integer.parseInt(ends[0], 16), Integer.parseInt(ends[ends.length - 1], 16)).toArray();
    }

    private static void fill(Bit[] bits, String classes) {
        boolean[] named = new boolean[32];
        for (var part : classes.split("; ")) {
            var words = part.split(" ");
            for (int i = 1; i < words.length; i++) {
                var ends = words[i].split("-");
                for (int bit = Integer.parseInt(ends[ends.length - 1]); bit <= Integer.parseInt(ends[0]); bit++) {
                    bits[bit] = Bit.of(words[0]);
                    named[bit] = true;
                }
            }
            for (int bit = 0; words.length == 1 && bit < 32; bit++) {
                bits[bit] = named[bit] ? bits[bit] : Bit.of(words[0]);
            }
        }
    }
}
