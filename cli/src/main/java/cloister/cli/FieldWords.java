package cloister.cli;

import cloister.spec.tdx.OpState;
import cloister.spec.vmx.ExitReason;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Rflags;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.LongFunction;

/// What the values of some metadata fields mean, for people. [TDX-ABI "Data Types"]
final class FieldWords {
    private static final List<String> LIFE_CYCLE = List.of("TD_HKID_ASSIGNED", "TD_KEYS_CONFIGURED", "TD_BLOCKED", "TD_TEARDOWN");
    private static final List<String> LAST_TD_EXIT = List.of("ASYNC_FAULT", "ASYNC_TRAP", "TDVMCALL");
    private static final Map<Integer, String> VCPU_STATES = Map.of(0, "VCPU_UNINITIALIZED", 2, "VCPU_READY", 4, "VCPU_ACTIVE", 8,
            "VCPU_DISABLED", 16, "VCPU_IMPORT");
    private static final Map<Integer, String> ATTRIBUTES = Map.of(0, "DEBUG", 16, "ICSSD", 27, "LASS", 28, "SEPT_VE_DISABLE", 29,
            "MIGRATABLE",
            30, "PKS", 31, "KL", 62, "TPA", 63, "PERFMON");
    private static final Map<Integer, String> CONFIG_FLAGS = Map.of(0, "GPAW", 1, "FLEXIBLE_PENDING_VE", 2, "NO_RBP_MOD", 3, "MAXPA_VIRT");
    private static final Map<Integer, String> TD_CTLS = Map.of(0, "PENDING_VE_DISABLE", 1, "ENUM_TOPOLOGY", 2, "VIRT_CPUID2");
    private static final String[] COMPONENTS = {"x87", "SSE", "AVX", "3", "4", "opmask", "ZMM_hi256", "hi16_ZMM", "PT", "PKRU", "PASID",
            "CET_U",
        "CET_S", "HDC", "UINTR", "LBR", "HWP", "TILECFG", "TILEDATA", "APX"};
    private static final long EPTP_LEVELS = 7 << 3;

    private static final Map<Integer, String> CR0 = bitsOf(Cr0.class);
    private static final Map<Integer, String> CR4 = bitsOf(Cr4.class);
    private static final Map<Integer, String> EFER = bitsOf(Efer.class);
    private static final Map<Integer, String> RFLAGS = bitsOf(Rflags.class);

    private static final Map<String, LongFunction<String>> WORDS = Map.ofEntries(
            Map.entry("LIFECYCLE_STATE", v -> of(LIFE_CYCLE, v)),
            Map.entry("OP_STATE", v -> v >= 0 && v < OpState.values().length ? OpState.of((int) v).name() : ""),
            Map.entry("VCPU_STATE", v -> VCPU_STATES.getOrDefault((int) v, "")),
            Map.entry("LAST_TD_EXIT", v -> of(LAST_TD_EXIT, v)),
            Map.entry("ATTRIBUTES", v -> bits(ATTRIBUTES, v)),
            Map.entry("CONFIG_FLAGS", v -> bits(CONFIG_FLAGS, v)),
            Map.entry("TD_CTLS", v -> bits(TD_CTLS, v)),
            Map.entry("XFAM", FieldWords::components),
            Map.entry("XCR0", FieldWords::components),
            Map.entry("GPAW", v -> v == 0 ? "48 bits" : "52 bits"),
            Map.entry("TSC_FREQUENCY", v -> v * 25 + " MHz"),
            Map.entry("EPTP", FieldWords::eptp),
            Map.entry("EXIT_REASON", v -> v == 0 ? "" : ExitReason.name((int) v)),
            Map.entry("Exit_reason", v -> ExitReason.name((int) v)),
            Map.entry("BUILD_DATE", Long::toString),
            Map.entry("ASSOC_LPID", v -> (int) v == -1 ? "none" : "LP " + v));

    private FieldWords() {
    }

    /// The meaning of a value; empty when it has none beyond its digits.
    static String of(String field, long value) {
        var words = WORDS.get(field);
        return words != null ? words.apply(value) : ofRegister(field.toUpperCase(Locale.ROOT), value);
    }

    /// Registers have their names in the VMCS and in TDVPS, with words before and behind: `Guest_CR0`, `SHADOW_CR4_READ_SHADOW`.
    private static String ofRegister(String field, long value) {
        if (value == 0) {
            return "";
        }
        if (field.contains("CR0")) {
            return named(CR0, value);
        } else if (field.contains("CR4")) {
            return named(CR4, value);
        } else if (field.endsWith("EFER") || field.contains("EFER_FULL")) {
            return named(EFER, value);
        }
        return field.endsWith("RFLAGS") ? named(RFLAGS, value) : "";
    }

    /// The bits that have names, and how many others there are: masks of registers set them all.
    private static String named(Map<Integer, String> names, long value) {
        long known = names.keySet().stream().mapToLong(bit -> 1L << bit).sum();
        String words = bits(names, value & known);
        int others = Long.bitCount(value & ~known);
        return others == 0 ? words : (words + " and " + others + " reserved").strip();
    }

    /// The names of the single bits that a class of constants defines.
    private static Map<Integer, String> bitsOf(Class<?> registers) {
        var names = new HashMap<Integer, String>();
        for (var field : registers.getFields()) {
            try {
                if (field.getType() == long.class && Long.bitCount(field.getLong(null)) == 1) {
                    names.put(Long.numberOfTrailingZeros(field.getLong(null)), field.getName());
                }
            } catch (IllegalAccessException e) {
                throw new AssertionError(e);
            }
        }
        return names;
    }

    private static String of(List<String> names, long value) {
        return value >= 0 && value < names.size() ? names.get((int) value) : "";
    }

    private static String bits(Map<Integer, String> names, long value) {
        var words = new ArrayList<String>();
        for (int bit = 0; bit < Long.SIZE; bit++) {
            if (((value >>> bit) & 1) != 0) {
                words.add(names.getOrDefault(bit, "bit " + bit));
            }
        }
        return String.join(" ", words);
    }

    private static String components(long value) {
        var words = new ArrayList<String>();
        for (int bit = 0; bit < Long.SIZE; bit++) {
            if (((value >>> bit) & 1) != 0) {
                words.add(bit < COMPONENTS.length ? COMPONENTS[bit] : "" + bit);
            }
        }
        return String.join(" ", words);
    }

    private static String eptp(long value) {
        return ((value & EPTP_LEVELS) >>> 3) + 1 + " levels";
    }
}
