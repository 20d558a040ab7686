package cloister.tdx.legality;

import java.util.List;
import java.util.function.Predicate;

/// The result of TDH.MNG.INIT by TD_PARAMS: one rule for each check, in the order in which the module checks. [TDX-ABI "TD_PARAMS"]
final class ExpectedInit {
    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final int RDX = 2;
    private static final int DEBUG = 0;
    private static final int ICSSD = 16;
    private static final int LASS = 27;
    private static final int MIGRATABLE = 29;
    private static final int PERFMON = 63;
    private static final List<Integer> ATTRIBUTES = List.of(DEBUG, ICSSD, LASS, 28, MIGRATABLE, 30, PERFMON);
    private static final List<Integer> XFAM = List.of(0, 1, 2, 5, 6, 7, 8, 9, 11, 12, 14, 15, 17, 18);
    private static final int MAX_VCPUS = 576;
    private static final int WRITE_BACK = 6;
    private static final List<Integer> ARCH_CAPABILITIES = List.of(4, 19, 20, 24);

    /// TD_PARAMS and what else matters.
    interface Input {
        long field(int offset, int bytes);

        int tdcsPages();

        /// XFAM bits that the processor supports.
        long supportedXfam();

        boolean hasLass();

        boolean hasFiveLevelEpt();

        boolean tscWasAdjusted();

        ExpectedCpuid cpuid();

        default boolean bit(int offset, int bit) {
            return ((field(offset + bit / 8, 1) >>> (bit % 8)) & 1) != 0;
        }

        default boolean onlyBits(int offset, List<Integer> allowed) {
            for (int bit = 0; bit < 64; bit++) {
                if (bit(offset, bit) && !allowed.contains(bit)) {
                    return false;
                }
            }
            return true;
        }

        default boolean anything(int offset, int bytes) {
            for (int i = 0; i < bytes; i++) {
                if (field(offset + i, 1) != 0) {
                    return true;
                }
            }
            return false;
        }
    }

    /// One check: what it is about, the status when it fails, and when it does.
    record Check(String name, long status, Predicate<Input> fails) {
        private static Check operand(String name, int operand, Predicate<Input> fails) {
            return new Check(name, OPERAND_INVALID | operand, fails);
        }
    }

    private static final List<Check> BEFORE_CPUID = List.of(
            Check.operand("ATTRIBUTES", 64, ExpectedInit::wrongAttributes),
            Check.operand("XFAM", 65, ExpectedInit::wrongXfam),
            Check.operand("MAX_VCPUS", 68, p -> p.field(16, 2) == 0 || p.field(16, 2) > MAX_VCPUS),
            Check.operand("NUM_L2_VMS", 71, p -> p.field(18, 1) > 3),
            new Check("TDCS pages", 0xC000_0606_0000_0000L, p -> p.tdcsPages() < 6 + p.field(18, 1)),
            Check.operand("bytes 20-23", RDX, p -> p.anything(20, 4)),
            Check.operand("CONFIG_FLAGS", 66, p -> !p.onlyBits(32, List.of(0, 1, 2, 3))),
            Check.operand("EPTP_CONTROLS", 67, ExpectedInit::wrongEpt),
            Check.operand("TSC_FREQUENCY", 70, p -> p.field(40, 2) < 4 || p.field(40, 2) > 400),
            new Check("IA32_TSC_ADJUST", 0xC000_0920_0000_003BL, Input::tscWasAdjusted),
            Check.operand("bytes 42-79", RDX, p -> p.anything(42, 38)),
            Check.operand("MSR_CONFIG_CTLS", RDX, p -> p.field(19, 1) > 1),
            Check.operand("bytes 232-255", RDX, p -> p.anything(232, 24)));
    private static final List<Check> AFTER_CPUID = List.of(
            Check.operand("bytes 544-1023", RDX, p -> p.anything(544, 480)),
            Check.operand("IA32_ARCH_CAPABILITIES_CONFIG", 72,
                    p -> !p.onlyBits(224, ARCH_CAPABILITIES) || (!p.bit(19, 0) && p.anything(224, 8))),
            Check.operand("a migratable TD with L2 VMs", RDX, p -> p.bit(0, MIGRATABLE) && p.field(18, 1) != 0));

    private ExpectedInit() {
    }

    /// RAX and RCX.
    static long[] result(Input input) {
        for (var check : BEFORE_CPUID) {
            if (check.fails.test(input)) {
                return new long[] {check.status, 0};
            }
        }
        long[] cpuid = input.cpuid().init();
        if (cpuid[0] != 0) {
            return cpuid;
        }
        for (var check : AFTER_CPUID) {
            if (check.fails.test(input)) {
                return new long[] {check.status, 0};
            }
        }
        return new long[2];
    }

    private static boolean wrongAttributes(Input p) {
        boolean partner = (p.bit(0, MIGRATABLE) && (p.bit(0, DEBUG) || p.bit(0, PERFMON))) || (p.bit(0, PERFMON) && p.bit(0, ICSSD));
        return !p.onlyBits(0, ATTRIBUTES) || (p.bit(0, LASS) && !p.hasLass()) || partner;
    }

    private static boolean wrongXfam(Input p) {
        boolean avx512 = p.bit(8, 5) || p.bit(8, 6) || p.bit(8, 7);
        boolean wholeAvx512 = p.bit(8, 2) && p.bit(8, 5) && p.bit(8, 6) && p.bit(8, 7);
        return !p.onlyBits(8, XFAM) || (p.field(8, 8) & ~p.supportedXfam()) != 0 || !p.bit(8, 0) || !p.bit(8, 1)
                || (avx512 && !wholeAvx512) || p.bit(8, 11) != p.bit(8, 12) || p.bit(8, 17) != p.bit(8, 18);
    }

    private static boolean wrongEpt(Input p) {
        long eptp = p.field(24, 8);
        long levels = ((eptp >>> 3) & 7) + 1;
        boolean wide = p.bit(32, 0);
        return (eptp & 7) != WRITE_BACK || eptp >>> 6 != 0 || levels < 4 || levels > (p.hasFiveLevelEpt() ? 5 : 4) || (wide && levels < 5);
    }

    /// IA32_ARCH_CAPABILITIES of a TD that was accepted, on a processor with `own` in its MSR.
    static long archCapabilities(Input p, long own, boolean tsx) {
        long seen = 0;
        for (int bit = 0; bit < 64; bit++) {
            boolean asked = p.bit(224, bit);
            boolean has = ((own >>> bit) & 1) != 0;
            boolean one = switch (bit) {
                case 4, 20, 24 -> has && asked;
                case 7 -> has && tsx;
                case 19 -> has || asked;
                case 21 -> true;
                case 0, 1, 2, 3, 5, 6, 8, 12, 13, 14, 15 -> has;
                default -> false;
            };
            seen |= one ? 1L << bit : 0;
        }
        return seen;
    }
}
