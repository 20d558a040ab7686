package cloister.tdx.legality;

import java.util.SortedMap;
import java.util.TreeMap;

/// What the specification says of every metadata field, grouped by who may do what, and knowing nothing of the module's own tables.
/// [TDX-ABI "Metadata (Non-Memory State) Fields"]
///
/// A line: bits that the host of a production TD reads and writes, the same for the host of a debug TD and for the guest ("-" none,
/// "all", or a mask; "?" behind it: the module looks at the value, so that not every value goes), then the elements
/// `class.bytes.codes`, all hexadecimal, "n" before the class for a field that is not architectural. Codes of VMCS fields are even.
final class MetadataRules {
    static final int SYS = 0;
    static final int TD = 1;
    static final int VP = 2;
    static final int PRODUCTION = 0;
    static final int DEBUG = 1;
    static final int GUEST = 2;
    static final int CPUID_CLASS = 0x14;
    static final int FIRST_L2_TD_CLASS = 0x25;
    static final int FIRST_L2_VP_CLASS = 0x24;

    private static final String SYS_LINES = """
            all - - - -   -   00.4.0-8 n08.4.1 n08.2.2 08.2.5-6 n09.2.0-1 n09.1.2 n09.2.3 n09.1.4 n09.2.5 n09.4.6
            all - - - -   -   n10.2.0 n10.8.80-9f n10.8.100-11f n11.2.8-9 n11.2.10-12 n18.2.0 n18.2.100-101 n18.2.200-201
            all - - - -   -   19.8.0-3 n19.2.4 n19.8.6-7 n19.2.8 n19.1.9 n19.8.400-41f n19.8.500-53f n19.8.600 n19.2.800-801
            all - - - -   -   n19.8.810-88f n20.2.10 n20.1.20-22 n21.2.0 n21.8.1-2 n22.8.1-6
            all - - - all -   08.4.0 08.2.3-4 0a.4.0 0a.1.1 0a.8.8 n20.8.0 20.2.1-4 n22.2.0
            """;
    private static final String TD_LINES = """
            all -    all -    -   -   n00.1.1 n00.4.2 n00.8.4 n00.4.5 n00.8.10-18 n01.2.1 n01.8.2 n02.2.0 n02.8.1 n10.4.2 n10.4.4
            all -    all -    -   -   11.8.4 11.8.a-b n11.2.e n11.4.f n11.1.18 n11.4.800-812 n12.8.0 n12.2.1-2
            all -    all -    -   -   n18.1.1 n18.4.2-4 n18.8.5-6 n18.2.20-21 n18.8.30-31 n18.2.32 n18.4.34 n1a.8.0-1ff n1c.4.0-23f
            all -    all -    all -   n00.8.20-23 n10.4.1 n10.2.5 11.8.0-1 11.4.2 11.1.3 11.2.c n11.8.16 n11.1.19
            all -    all -    all -   13.8.0-5 13.8.10-15 13.8.18-1d 13.8.20-25 n18.8.40-43 n19.8.0-5 n19.2.6 n19.8.80-8f
            -   -    all -    all -   13.8.40-57
            -   -    -   -    -   -   n02.8.2-5 11.8.d
            -   -    all 1    1   1   n11.8.10
            all all? all all? -   -   n11.8.11
            all 1    all 1    -   -   n11.8.12-15
            -   -    all -    all 7?  n11.8.17
            -   -    all -    -   -   n11.1.80-cf n16.8.10a n16.8.480 n16.8.485-489 n16.8.48b-493 n18.8.10-1f
            -   -    all -    -   -   20.8.0-1ff 21.8.0-1ff 25.8.0-1ff 29.8.0-1ff 2d.8.0-1ff
            """;
    /// CPUID_VALUES by leaf and sub-leaf in the order in which a walk names them; "!": always #VE, so there is no value.
    static final String CPUID = """
            1 4/0 4/1 4/2 4/3 7/0 7/1 a 1c 80000008 0 3 4/4 6! 7/2 8 d/0 d/1 d/2 d/3 d/4 d/5 d/6 d/7 d/8 d/9 d/a d/b d/c d/d d/e d/f
            d/10 d/11 d/12 e 11 12 13 14/0 14/1 15 19 1d/0 1d/1 1e 1f/0 1f/1 1f/2 1f/3 1f/4 1f/5 20 21/0 80000000 80000001 80000006!
            80000007 22 23/0 23/1 23/2 23/3 5 b/0 b/1 b/2 1a - - - - 2
            """;
    private static final String TDVPS_LINES = """
            -   -   all -                -   -   01.8.0-7f 02.4.0-1 02.8.2-4 02.2.5 n02.4.10-11 11.8.20 13.8.1c4-1c5 13.8.38e 13.8.da0
            -   -   all -                -   -   13.8.2081-2082 13.8.2084 13.8.2102 n20.1.0 n20.8.a n20.1.d-f n20.8.30 n20.1.31 n20.8.32
            -   -   all -                -   -   n20.1.40 n20.2.41 n20.1.42 n20.1.44-4f n20.8.5c-5f n20.8.84-93 n20.4.94-97 n20.8.98-9b
            -   -   all -                -   -   n20.4.9c-9f n20.4.a4-ab n20.2.ac-af n20.4.b0-b3 n20.8.b4-b7 n20.8.100-117 n22.8.200-21f
            -   -   all -                -   -   n26.8.0-1ff n2e.8.0-1ff n36.8.0-1ff 12.8.40-47
            -   -   all all              -   -   10.8.0-3 10.8.5-f 11.8.0-3 11.8.28 12.8.0-3f 12.8.48-5ff 13.8.e1 13.8.122
            -   -   all all?             -   -   13.8.48
            -   -   all all              -   -   13.8.186-18d 13.8.1a6-1a7 13.8.309-30f 13.8.329 13.8.38d 13.8.3f1-3f2 13.8.3f6-3f7
            -   -   all all              -   -   13.8.4c1-4c8 13.8.600 13.8.14cf 13.8.1b01 13.8.2103
            -   -   -   -                -   -   10.8.4
            -   -   all ffffffff         -   -   11.8.6
            all -   all -                -   -   n11.8.100 n20.1.3 n20.4.4 n20.8.6 n20.8.10-1e 20.8.c
            all -   all -                all -   n20.4.2
            all -   all -                all all n20.1.7-8
            all all all all              -   -   20.1.b
            -   -   all 3                all 3   n20.8.50-53
            -   -   all 7                -   -   n20.8.54-57
            -   -   all -                all all n20.8.58
            -   -   all -                all all? n20.8.59-5b
            -   -   all ffffffff9fffffdf -   -   n20.8.80-81 n20.8.83
            -   -   all ffffffffffff9fbf -   -   n20.8.82
            -   -   all -                all 3   n21.1.0-7f
            -   -   all all?             all all 25.8.0-1ff 2d.8.0-1ff 35.8.0-1ff
            """;
    private static final String TD_VMCS_LINES = """
            -   -    all -                 - - 00.2.0 00.2.4-6 00.8.2000-2002 00.8.2006-200a 00.8.2014 00.8.201c-2022 00.8.2026-202a
            -   -    all -                 - - 00.8.202e 00.8.2036-203a 00.8.203e-2040 00.8.204a-204c 00.8.2400 00.8.280a-2810
            -   -    all -                 - - 00.4.400c-401c 00.4.4400-440e 00.4.4826 00.8.6400-640a
            -   -    all all               - - 00.2.800-814 00.8.202c 00.8.2804-2808 00.8.2814-2818 00.4.4006-400a 00.4.4800-4824
            -   -    all all               - - 00.4.482a 00.4.482e 00.8.6008-600e 00.8.6806-682c
            -   -    all all?              - - 00.8.6800-6804
            all -    all -                 - - 00.8.2004 00.8.2018-201a 00.8.2024 00.4.4026
            -   -    -   -                 - - 00.8.200c 00.8.2012 00.8.2800 00.4.4828 00.8.6c08 00.8.6c14-6c16 00.8.6c1a
            all -    all all               - - 00.8.2010 00.8.2032 00.4.4020-4022
            all all  all all               - - 00.4.4024
            all all? all all?              - - 00.2.2
            all -    all fffffffffffff000? - - 00.8.200e
            all ffffffffffffffc0? all ffffffffffffffc0? - - 00.8.2016
            ffffffffff000 ffffffffff000? all ffffffffff000? - - 00.8.203c
            -   -    all 1                 - - 00.8.2034
            -   -    all ffc7?             - - 00.8.2802
            80  80?  all 80?               - - 00.4.4000
            -   -    all 69999a04          - - 00.4.4002
            -   -    all fffbffff          - - 00.4.4004
            c0000000 c0000000? all c0130c04? - - 00.4.401e
            -   -    all ffffffff9fffffde  - - 00.8.6000
            -   -    all ffffffffffff9fbf  - - 00.8.6002
            -   -    all ffffffffffffffde  - - 00.8.6004
            -   -    all ffffffffffffffbf  - - 00.8.6006
            """;
    private static final String L2_VMCS_LINES = """
            -   - all -                 -   -    00.2.0 00.2.4 00.8.2006-200a 00.8.2014 00.8.2026-2028 00.8.2038-203a 00.8.203e
            -   - all -                 -   -    00.8.204a-204c 00.4.400e-4010 00.4.4014
            all - all -                 all -    00.2.2 00.8.2016-2018
            -   - all all               all all  00.2.6 00.2.800-810 00.2.814 00.8.202c 00.8.2804 00.8.2808 00.8.2814-2818
            -   - all all               all all  00.4.4006-400a 00.4.4800-4824 00.4.482a 00.8.6008-600e 00.8.6806-682c
            -   - all all?              all all? 00.8.6802
            -   - all all               -   -    00.2.812 00.4.482e
            -   - all -                 all -    00.8.2000-2002 00.8.202a 00.8.202e 00.8.2036 00.4.4000 00.4.400c 00.4.4826
            all - all -                 -   -    00.8.2004 00.8.2024 00.4.4026
            -   - -   -                 -   -    00.8.200c 00.8.2800 00.4.4828 00.8.6c08 00.8.6c14-6c16 00.8.6c1a
            all - all fffffffffffff000? -   -    00.8.200e
            all - all all               -   -    00.8.2010 00.8.2032
            -   - all -                 all fffffffffffff000? 00.8.2012
            all - all 80?  fff0000000000fff 80?  00.8.201a
            -   - all -                 all all  00.8.201c-2022 00.8.2400 00.4.4016-401c 00.4.4400-440e 00.8.6000-6006 00.8.6400-640a
            -   - all -                 all all? 00.8.280a-2810
            -   - all 1?                all e?   00.8.2034
            all ffffffffff000? all ffffffffff000? - - 00.8.203c
            -   - all ffffffffff018?    all ffffffffff018? 00.8.2040
            -   - all ffc7?  ffffffffffffdfff ffc7? 00.8.2802
            -   - all all               all 501  00.8.2806
            -   - all 69999a04?         all 48d99a04? 00.4.4002
            -   - all fffbffff          all fffbffff 00.4.4004
            -   - all -                 all 200  00.4.4012
            c0000000 c0000000? all c0130c04? all c513e0c? 00.4.401e
            all - all all               all all? 00.4.4020-4022
            all all all all             all -    00.4.4024
            -   - all 8005001f?         all 8005001f? 00.8.6800
            -   - all 1bff1fbf?         all 1bff1fbf? 00.8.6804
            """;

    private MetadataRules() {
    }

    /// One element.
    ///
    /// @param id      as the module names it, with context, size, increment
    /// @param read    bits that PRODUCTION, DEBUG, GUEST read
    /// @param write   bits that they write
    /// @param checked whether the module looks at the value that they write
    record Element(long id, long[] read, long[] write, boolean[] checked) {
        int bytes() {
            return 1 << ((id >>> 32) & 3);
        }

        int classCode() {
            return (int) (id >>> 56) & 0x3f;
        }
    }

    /// All elements of a context of a TD with that many L2 VMs, by class and code, which is the order of a walk but for CPUID.
    static SortedMap<Integer, Element> elements(int context, int l2Vms) {
        var elements = new TreeMap<Integer, Element>();
        switch (context) {
            case SYS -> add(elements, SYS_LINES, context, 0, 1);
            case TD -> {
                add(elements, TD_LINES, context, 0, 1);
                elements.tailMap((FIRST_L2_TD_CLASS + 4 * l2Vms) << 24).clear();
                addCpuid(elements);
            }
            default -> {
                add(elements, TDVPS_LINES, context, 0, 1);
                elements.tailMap((FIRST_L2_VP_CLASS + 8 * l2Vms) << 24).clear();
                add(elements, TD_VMCS_LINES, context, 0, 2);
                for (int vm = 0; vm < l2Vms; vm++) {
                    add(elements, L2_VMCS_LINES, context, FIRST_L2_VP_CLASS + 8 * vm, 2);
                }
            }
        }
        return elements;
    }

    /// The element that an identifier names, or null. A leaf of CPUID without sub-leaves goes by any sub-leaf.
    static Element find(SortedMap<Integer, Element> elements, long id) {
        int classCode = (int) (id >>> 56) & 0x3f;
        int key = (classCode << 24) | ((int) id & 0xff_ffff);
        var element = elements.get(key);
        boolean cpuid = element == null && classCode == CPUID_CLASS && elements.containsKey((CPUID_CLASS << 24) | cpuidCode("0", 0));
        return cpuid ? elements.get(key | (0xff << 1)) : element;
    }

    private static void add(SortedMap<Integer, Element> elements, String lines, int context, int classBase, int stride) {
        lines.lines().forEach(line -> {
            var c = line.strip().split(" +");
            for (int i = 6; i < c.length; i++) {
                boolean other = c[i].startsWith("n");
                var parts = (other ? c[i].substring(1) : c[i]).split("\\.");
                int classCode = Integer.parseInt(parts[0], 16) + classBase;
                int bytes = Integer.parseInt(parts[1]);
                var codes = parts[2].split("-");
                int last = Integer.parseInt(codes[codes.length - 1], 16);
                for (int code = Integer.parseInt(codes[0], 16); code <= last; code += stride) {
                    long id = (other ? 1L << 63 : 0) | ((long) classCode << 56) | ((long) context << 52) | ((stride - 1L) << 50)
                            | ((long) Integer.numberOfTrailingZeros(bytes) << 32) | code;
                    var old = elements.put((classCode << 24) | code, new Element(id, masks(c, 0, bytes), masks(c, 1, bytes),
                            new boolean[] {c[1].endsWith("?"), c[3].endsWith("?"), c[5].endsWith("?")}));
                    if (old != null) {
                        throw new IllegalStateException("two rules for " + Long.toHexString(id));
                    }
                }
            }
        });
    }

    private static long[] masks(String[] columns, int first, int bytes) {
        var masks = new long[3];
        for (int i = 0; i < 3; i++) {
            var text = columns[2 * i + first].replace("?", "");
            masks[i] = text.equals("-") ? 0 : text.equals("all") ? all(bytes) : Long.parseUnsignedLong(text, 16);
        }
        return masks;
    }

    static long all(int bytes) {
        return bytes == 8 ? -1L : (1L << (8 * bytes)) - 1;
    }

    private static void addCpuid(SortedMap<Integer, Element> elements) {
        for (var name : CPUID.split("\\s+")) {
            if (name.equals("-")) {
                continue;
            }
            boolean faulting = name.endsWith("!");
            for (int element = 0; element < 2; element++) {
                int code = cpuidCode(name.replace("!", ""), element);
                long id = (1L << 63) | ((long) CPUID_CLASS << 56) | ((long) TD << 52) | (3L << 32) | code;
                long read = faulting ? 0 : -1L;
                elements.put((CPUID_CLASS << 24) | code, new Element(id, new long[] {read, read, 0}, new long[3], new boolean[3]));
            }
        }
    }

    /// Element 0, sub-leaf 7:1, "no sub-leaf" 8, leaf 15:9, bit 31 of the leaf 16.
    static int cpuidCode(String name, int element) {
        var parts = name.split("/");
        long leaf = Long.parseLong(parts[0], 16);
        int subleaf = parts.length == 1 ? 0xff : Integer.parseInt(parts[1], 16);
        return element | (subleaf << 1) | ((int) (leaf & 0x7f) << 9) | ((int) (leaf >>> 31) << 16);
    }
}
