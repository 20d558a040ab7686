package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.silicon.Opcode.Coding;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/// What the processor must do in the cases of [OpcodeSweep]: what silicon did, except where the recorded silicon (AMD, Zen 4) is another
/// part than ours by design. The exceptions are the table [#RULES]; each says what ours does instead, so no case that silicon answers goes
/// unchecked.
final class OpcodeRules {
    private static final int LOCK = 0xF0, OPERAND_SIZE = 0x66, REPNE = 0xF2, REP = 0xF3;
    private static final int PF = 14;

    /// What the processor does where a rule applies.
    private interface Answer {
        OpcodeOutcome of(OpcodeRules rules, Opcode o, OpcodeOutcome silicon);
    }

    private interface Condition {
        boolean holds(Opcode o, OpcodeOutcome silicon);
    }

    /// @param why the difference with its source
    private record Rule(String why, Condition when, Answer then) {
    }

    private static final Answer UD = (rules, o, silicon) -> OpcodeOutcome.ud();
    private static final Answer UNKNOWN_HERE = (rules, o, silicon) -> new OpcodeOutcome(Outcome.LOST, 0, 0);

    private static final List<Rule> RULES = List.of(
        // What enters the kernel is answered by it, not by the processor.
        new Rule("SYSCALL and SYSRET outside 64-bit code are AMD's alone [SDM Vol. 2 SYSCALL, SYSRET]",
            (o, s) -> (o.is(1, 0x05) || o.is(1, 0x07)) && o.mode() != CodeMode.BITS64, UD),
        new Rule("LOCK SYSCALL and LOCK SYSENTER: LOCK is for read-modify-write instructions [SDM Vol. 2 LOCK]",
            (o, s) -> (o.is(1, 0x05) || o.is(1, 0x34)) && o.has(LOCK), UD),
        new Rule("INT3, INT1, INTO, INT n of a user gate, SYSCALL and SYSENTER reach the system, whose answer depends on it",
            (o, s) -> entersSystem(o), UNKNOWN_HERE),
        new Rule("VMCALL outside VMX operation; a hypervisor patches AMD's #UD [SDM Vol. 3 VMCALL]",
            (o, s) -> o.is(1, 0x01) && o.modRm() == 0xC1, UD),
        new Rule("with CR4.UMIP: #GP(0), which Linux emulates, badly for SLDT and STR [SDM Vol. 3 \"Control Registers\" UMIP]",
            (o, s) -> userModeInstructionPrevention(o) && (s.vector() == PF || s.vector() == Outcome.COMPLETED),
            (rules, o, silicon) -> OpcodeOutcome.gp()),

        // Instructions that only AMD has.
        new Rule("SVM, CLZERO, MONITORX, MWAITX, RDPRU, INVLPGB, TLBSYNC are AMD's [APM Vol. 3]; blank in [SDM Vol. 2 \"Opcode Map\"]",
            (o, s) -> o.is(1, 0x01) && ((o.modRm() >= 0xD8 && o.modRm() < 0xE0) || o.modRm() >= 0xFA), UD),
        new Rule("SSE4A is AMD's: MOVNTSS, MOVNTSD, EXTRQ, INSERTQ [APM Vol. 4]",
            (o, s) -> (o.is(1, 0x2B) && (o.has(REP) || o.has(REPNE))) || ((o.is(1, 0x78) || o.is(1, 0x79)) && mandatory(o)), UD),
        new Rule("LOCK MOV of CR0 is AMD's name of CR8 [APM Vol. 3 \"MOV CRn\"]; LOCK is not allowed [SDM Vol. 2 LOCK]",
            (o, s) -> (o.is(1, 0x20) || o.is(1, 0x22)) && o.has(LOCK), UD),
        new Rule("LOCK VERW of memory executes on AMD; LOCK is not allowed [SDM Vol. 2 LOCK]",
            (o, s) -> o.is(1, 0x00) && o.reg() == 5 && o.has(LOCK), UD),
        new Rule("a prefetch of a register is a NOP on Intel, #UD on AMD [SDM Vol. 2 \"Opcode Map\" 0F 0D, reserved NOP]",
            (o, s) -> o.is(1, 0x0D) && o.register() && !o.has(LOCK), OpcodeRules::completes),

        // Prefixes.
        new Rule("66 with a near branch in 64-bit code: AMD takes 16 bits, Intel ignores it [SDM Vol. 2 JMP, CALL, Jcc: N.S.]",
            (o, s) -> o.mode() == CodeMode.BITS64 && o.has(OPERAND_SIZE) && nearBranch(o), OpcodeRules::ignoresPrefix),
        new Rule("F2 and F3 with LOOPE and LOOPNE are reserved; AMD lets them choose the condition [SDM Vol. 2 \"Instruction Prefixes\"]",
            (o, s) -> (o.is(0, 0xE0) || o.is(0, 0xE1)) && (o.has(REP) || o.has(REPNE)), OpcodeRules::ignoresPrefix),

        // Features of one of the two, by CPUID.
        new Rule("AVX, AVX2, FMA, AVX-512 and VEX-coded VAES, GFNI: not shown by our CPUID (07H, 01H:ECX[28])",
            (o, s) -> o.coding() == Coding.EVEX || (o.coding() == Coding.VEX && !generalVex(o)), UD),
        new Rule("GFNI: not shown by our CPUID (07H:ECX[8])",
            (o, s) -> o.has(OPERAND_SIZE) && (o.is(2, 0xCF) || o.is(3, 0xCE) || o.is(3, 0xCF)), UD),
        new Rule("SERIALIZE: shown by our CPUID (07H:EDX[14]), Zen 4 has none [SDM Vol. 2 SERIALIZE]",
            (o, s) -> o.is(1, 0x01) && o.modRm() == 0xE8 && !mandatory(o) && !o.has(LOCK), OpcodeRules::completes),
        new Rule("WAITPKG: shown by our CPUID (07H:ECX[5]), Zen 4 has none [SDM Vol. 2 TPAUSE, UMWAIT, UMONITOR]",
            (o, s) -> o.is(1, 0xAE) && o.reg() == 6 && o.register() && mandatory(o) && !o.has(LOCK), OpcodeRules::userWait),
        new Rule("RTM: shown by our CPUID (07H:EBX[11]), Zen 4 has none; transactions abort at once [SDM Vol. 2 XBEGIN, XEND, XTEST]",
            (o, s) -> transaction(o) && !o.has(LOCK) && !(o.map() == 1 && mandatory(o)), OpcodeRules::transactional),
        new Rule("MOVDIRI: shown by our CPUID (07H:ECX[27]), Zen 4 has none [SDM Vol. 2 MOVDIRI]",
            (o, s) -> o.is(2, 0xF9) && !o.register() && !mandatory(o) && !o.has(LOCK), OpcodeRules::completes),
        new Rule("MOVDIR64B: shown by our CPUID (07H:ECX[28]), Zen 4 has none [SDM Vol. 2 MOVDIR64B]",
            (o, s) -> o.is(2, 0xF8) && !o.register() && o.has(OPERAND_SIZE) && !o.has(REP) && !o.has(REPNE) && !o.has(LOCK),
            OpcodeRules::movdir64b));

    private final Decoder decoder = new Decoder();
    /// Silicon's outcomes of branches without the prefixes that rules ignore.
    private final Map<String, OpcodeOutcome> plain = new HashMap<>();
    private final int[] applied = new int[RULES.size()];

    /// What the processor must do with `o`, of which silicon made `silicon`. Called in the order of the sweep.
    OpcodeOutcome expected(Opcode o, OpcodeOutcome silicon) {
        if (nearBranch(o) && ignored(o) == 0) {
            plain.put(plainKey(o), silicon);
        }
        for (int n = 0; n < applied.length; n++) {
            Rule rule = RULES.get(n);
            if (rule.when.holds(o, silicon)) {
                applied[n]++;
                return rule.then.of(this, o, silicon);
            }
        }
        return silicon;
    }

    /// The rules that no case has needed, in words.
    List<String> unused() {
        return IntStream.range(0, applied.length).filter(n -> applied[n] == 0).mapToObj(n -> RULES.get(n).why).toList();
    }

    /// Whether the opcode enters the operating system, which then answers instead of the processor, or kills the tester.
    static boolean entersSystem(Opcode o) {
        return o.is(0, 0xCC) || o.is(0, 0xF1) || o.is(0, 0xCE) || o.is(1, 0x05) || o.is(1, 0x34)
            || (o.is(0, 0xCD) && (o.modRm() == 3 || o.modRm() == 4 || o.modRm() == 0x80));
    }

    /// Whether a hypervisor answers, of which some kill or change the program.
    static boolean entersHypervisor(Opcode o) {
        return o.is(1, 0x01) && (o.modRm() == 0xC1 || o.modRm() == 0xD9);
    }

    private static boolean userModeInstructionPrevention(Opcode o) {
        boolean tables = o.is(1, 0x01) && (o.reg() < 2 ? !o.register() : o.reg() == 4);
        return tables || (o.is(1, 0x00) && o.reg() < 2);
    }

    private static boolean mandatory(Opcode o) {
        return o.has(OPERAND_SIZE) || o.has(REP) || o.has(REPNE);
    }

    private static boolean nearBranch(Opcode o) {
        return o.coding() == Coding.LEGACY && switch (o.map()) {
            case 0 -> (o.opcode() & 0xF0) == 0x70 || (o.opcode() >= 0xE0 && o.opcode() <= 0xE3) || o.opcode() == 0xE8
                || o.opcode() == 0xE9 || o.opcode() == 0xEB || o.opcode() == 0xC2 || o.opcode() == 0xC3
                || (o.opcode() == 0xFF && (o.reg() == 2 || o.reg() == 4));
            case 1 -> (o.opcode() & 0xF0) == 0x80;
            default -> false;
        };
    }

    /// BMI1 and BMI2, the VEX-coded instructions on general registers.
    private static boolean generalVex(Opcode o) {
        return o.map() == 2 ? o.opcode() == 0xF2 || o.opcode() == 0xF3 || (o.opcode() >= 0xF5 && o.opcode() <= 0xF7)
            : o.map() == 3 && o.opcode() == 0xF0;
    }

    /// What a branch and the prefixes that it does not ignore are.
    private static String plainKey(Opcode o) {
        StringBuilder key = new StringBuilder(o.mode().name());
        for (byte prefix : o.prefixes()) {
            if (!ignored(o, prefix & 0xFF)) {
                key.append(' ').append(prefix & 0xFF);
            }
        }
        return key.append(' ').append((o.map() << 16) | (o.opcode() << 8) | o.modRm()).toString();
    }

    private static boolean ignored(Opcode o, int prefix) {
        return prefix == REP || prefix == REPNE || (prefix == OPERAND_SIZE && o.mode() == CodeMode.BITS64);
    }

    /// How many prefixes of branch `o` are ignored.
    private static int ignored(Opcode o) {
        int count = 0;
        for (byte prefix : o.prefixes()) {
            count += ignored(o, prefix & 0xFF) ? 1 : 0;
        }
        return count;
    }

    private Instruction decode(Opcode o) {
        return decoder.decode(o.mode(), o.bytes(), 0, Decoder.MAX_LENGTH);
    }

    private static OpcodeOutcome completes(OpcodeRules rules, Opcode o, OpcodeOutcome silicon) {
        // Without immediates and displacement the instruction ends with ModRM.
        return OpcodeOutcome.completed(o.prefixes().length + o.map() + (o.map() == 3 ? 0 : 1) + 1L);
    }

    /// As without prefixes; what is relative to the next instruction moves on by the prefixes' length.
    private static OpcodeOutcome ignoresPrefix(OpcodeRules rules, Opcode o, OpcodeOutcome silicon) {
        if (o.has(LOCK)) {
            return OpcodeOutcome.ud();
        }
        OpcodeOutcome plain = rules.plain.get(plainKey(o));
        boolean absolute = o.opcode() == 0xFF || o.opcode() == 0xC2 || o.opcode() == 0xC3;
        return plain.vector() != Outcome.COMPLETED || absolute ? plain : OpcodeOutcome.completed(plain.advance() + ignored(o));
    }

    private static boolean transaction(Opcode o) {
        return o.coding() == Coding.LEGACY && (((o.is(0, 0xC6) || o.is(0, 0xC7)) && o.modRm() == 0xF8)
            || (o.is(1, 0x01) && (o.modRm() == 0xD5 || o.modRm() == 0xD6)));
    }

    /// XEND without a transaction faults; XBEGIN goes to its fallback address.
    private static OpcodeOutcome transactional(OpcodeRules rules, Opcode o, OpcodeOutcome silicon) {
        if (o.modRm() == 0xD5) {
            return OpcodeOutcome.gp();
        }
        Instruction insn = rules.decode(o);
        return OpcodeOutcome.completed(insn.length + (o.is(0, 0xC7) ? insn.imm : 0));
    }

    /// TPAUSE and UMWAIT with reserved bits in the register: #GP(0). UMONITOR reads a byte at the address.
    private static OpcodeOutcome userWait(OpcodeRules rules, Opcode o, OpcodeOutcome silicon) {
        long value = register(rules, o, rules.decode(o).reg0);
        boolean monitor = o.has(REP);
        if (monitor ? !inWindow(value, 1) : (value & 0xFFFF_FFFEL) != 0) {
            return monitor ? OpcodeOutcome.fault(PF, 4) : OpcodeOutcome.gp();
        }
        return completes(rules, o, silicon);
    }

    /// The destination must be aligned to 64 bytes.
    private static OpcodeOutcome movdir64b(OpcodeRules rules, Opcode o, OpcodeOutcome silicon) {
        long address = register(rules, o, o.reg() | (o.has(0x45) ? 8 : 0));
        return (address & 63) != 0 ? OpcodeOutcome.gp() : inWindow(address, 64) ? completes(rules, o, silicon) : OpcodeOutcome.fault(PF, 6);
    }

    private static long register(OpcodeRules rules, Opcode o, int number) {
        return OpcodeSweep.initial(o.mode(), 0).gpr[number];
    }

    private static boolean inWindow(long address, int size) {
        return address >= Layout.DATA_PAGE && address + size <= Layout.DATA_PAGE + 0x1000;
    }
}
