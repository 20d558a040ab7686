package cloister.tdx.fuzz;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.vmx.ExitReason;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// One step of a fuzzed sequence, with concrete operands, so that a sequence replays without its generator.
///
/// As text: `LP NAME OPERAND=HEX... [~N|~wN]`, operands that are zero left out. NAME is a kind, or for SEAMCALLs and TDCALLs the
/// function's name. With `~N` the step stops at its N-th lock acquisition, counted from 0, and goes on in a later `RUN` step of
/// that LP; with `~wN` writes to memory count as well.
final class FuzzStep {
    /// What a step does, with the names of its operands.
    enum Kind {
        /// SEAMCALL.
        CALL("rax rcx rdx r8 r9 r10 r11 r12 r13 intr"),
        /// A VM exit. Registers in encoding order from [#REGISTERS] on; rip is its advance, mode 1 is other than 64-bit.
        EXIT("reason qual gpa gla info err idtv idte ilen iinfo rip insts intr mode rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 "
                + "r13 r14 r15"),
        /// The guest touches a page of VM `vm`.
        ACCESS("gpa vm"),
        /// Goes on with what the LP does.
        RUN(""),
        /// The VMM writes TD_PARAMS.
        PARAMS("pa attributes xfam vcpus eptp flags tsc config"),
        /// The VMM writes eight words.
        WRITE("pa w0 w1 w2 w3 w4 w5 w6 w7"),
        /// The VMM fills a page that is its own or free.
        FILL("pa value"),
        /// From now on what the module reads of a page of the VMM may change between two reads; 0 ends it.
        HOSTILE("pa seed"),
        /// An MSR of the LP changes.
        MSR("msr value"),
        /// The time-stamp counter jumps.
        CLOCK("ticks"),
        /// The next key programming on the LP fails.
        PCONFIG("code"),
        /// The next random number of the LP is not there.
        ENTROPY("none"),
        /// The next XRSTORS (0) or WRMSR (1) that brings a VCPU's state to the LP faults.
        FAULT("wrmsr"),
        /// The VMM writes to a page that is not its own any more; anything but an end of the module may follow.
        CORRUPT("pa"),
        /// The whole bring-up of the module, as the VMM should do it.
        BOOT("tdmrs"),
        /// The module is loaded anew; memory stays as it is.
        RESTART(""),
        /// First in a sequence: the platform.
        PLATFORM("packages cmrs");

        final String[] names;

        Kind(String names) {
            this.names = names.isEmpty() ? new String[0] : names.split(" ");
        }
    }

    /// Operands of an EXIT.
    static final int QUALIFICATION = 1;
    static final int GPA = 2;
    static final int GLA = 3;
    static final int INFO = 4;
    static final int ERROR = 5;
    static final int VECTORING = 6;
    static final int VECTORING_ERROR = 7;
    static final int LENGTH = 8;
    static final int INSTRUCTION = 9;
    static final int RIP = 10;
    static final int RETIRED = 11;
    static final int EXIT_INTERRUPT = 12;
    static final int MODE = 13;
    static final int REGISTERS = 14;
    /// Of a CALL.
    static final int CALL_INTERRUPT = 9;

    private static final int TO_THE_END = -1;

    final int lp;
    final Kind kind;
    final long[] operands;
    /// At which point the step stops; [#TO_THE_END] at none.
    int points = TO_THE_END;
    /// Whether writes are points.
    boolean fine;

    FuzzStep(int lp, Kind kind, long... operands) {
        this.lp = lp;
        this.kind = kind;
        this.operands = Arrays.copyOf(operands, kind.names.length);
    }

    FuzzStep stopAt(int point, boolean atWrites) {
        points = point;
        fine = atWrites;
        return this;
    }

    boolean toTheEnd() {
        return points == TO_THE_END;
    }

    /// The same step without stop.
    FuzzStep whole() {
        return new FuzzStep(lp, kind, operands);
    }

    /// The SEAMCALL's function, or null.
    SeamcallLeaf leaf() {
        return kind == Kind.CALL ? SeamcallLeaf.of((int) operands[0] & 0xffff) : null;
    }

    /// The TDCALL's function, or null.
    TdcallLeaf guestLeaf() {
        return kind == Kind.EXIT && operands[0] == ExitReason.TDCALL ? TdcallLeaf.of((int) operands[REGISTERS] & 0xffff) : null;
    }

    @Override public String toString() {
        var text = new StringBuilder().append(lp).append(' ');
        long rax = kind == Kind.CALL ? operands[0] : kind == Kind.EXIT ? operands[REGISTERS] : 0;
        boolean plain = (rax & ~0xff_ffffL) == 0;
        int skipped = -1;
        int skippedToo = -1;
        if (plain && leaf() != null) {
            text.append(leaf().specificationName());
            skipped = 0;
        } else if (plain && guestLeaf() != null) {
            text.append(guestLeaf().specificationName());
            skipped = REGISTERS;
            skippedToo = 0;
        } else {
            text.append(kind);
        }
        if (skipped >= 0 && rax >>> 16 != 0) {
            text.append(" v=").append(Long.toHexString(rax >>> 16));
        }
        for (int i = 0; i < operands.length; i++) {
            if (operands[i] != 0 && i != skipped && i != skippedToo) {
                text.append(' ').append(kind.names[i]).append('=').append(Long.toHexString(operands[i]));
            }
        }
        if (!toTheEnd()) {
            text.append(fine ? " ~w" : " ~").append(points);
        }
        return text.toString();
    }

    /// Reads a sequence; lines that start with # and empty ones say nothing.
    ///
    /// @throws IllegalArgumentException for a line that is not a step
    static List<FuzzStep> parse(List<String> lines) {
        var steps = new ArrayList<FuzzStep>();
        for (var line : lines) {
            if (!line.isBlank() && !line.startsWith("#")) {
                steps.add(parse(line.trim()));
            }
        }
        return steps;
    }

    private static FuzzStep parse(String line) {
        var words = line.split(" +");
        if (words.length < 2) {
            throw new IllegalArgumentException("not a step: " + line);
        }
        var step = named(Integer.parseInt(words[0]), words[1]);
        for (int i = 2; i < words.length; i++) {
            if (words[i].startsWith("~")) {
                boolean atWrites = words[i].startsWith("~w");
                step.stopAt(Integer.parseInt(words[i].substring(atWrites ? 2 : 1)), atWrites);
            } else {
                step.operand(words[i]);
            }
        }
        return step;
    }

    private static FuzzStep named(int lp, String name) {
        for (var leaf : SeamcallLeaf.values()) {
            if (leaf.specificationName().equals(name)) {
                return new FuzzStep(lp, Kind.CALL, leaf.number());
            }
        }
        for (var leaf : TdcallLeaf.values()) {
            if (leaf.specificationName().equals(name)) {
                var step = new FuzzStep(lp, Kind.EXIT, ExitReason.TDCALL);
                step.operands[REGISTERS] = leaf.number();
                return step;
            }
        }
        return new FuzzStep(lp, Kind.valueOf(name));
    }

    private void operand(String word) {
        int equals = word.indexOf('=');
        if (equals < 0) {
            throw new IllegalArgumentException("not an operand: " + word);
        }
        long value = Long.parseUnsignedLong(word.substring(equals + 1), 16);
        var name = word.substring(0, equals);
        if (name.equals("v")) {
            operands[kind == Kind.CALL ? 0 : REGISTERS] |= value << 16;
            return;
        }
        int index = Arrays.asList(kind.names).indexOf(name);
        if (index < 0) {
            throw new IllegalArgumentException(kind + " has no operand " + name);
        }
        operands[index] = value;
    }
}
