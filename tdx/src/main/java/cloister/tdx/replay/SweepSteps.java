package cloister.tdx.replay;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/// One call for each bit of something, each from a fresh start. [VECTORS "Platform and parameter sweeps"]
final class SweepSteps {
    private static final Set<String> FLIP = Set.of("op", "phase", "msr", "leaf", "sub", "reg", "results");
    private static final Set<String> INIT = Set.of("op", "what", "entry", "reg", "pa", "tdr", "params", "results");
    private static final List<String> CPUID_OUTPUT = List.of("eax", "ebx", "ecx", "edx");
    private static final int DWORD = 4;

    private SweepSteps() {
    }

    /// Results by bit.
    private static Map<Integer, String> byBit(Step step, int bits) {
        var results = step.object("results");
        var byBit = new TreeMap<Integer, String>();
        for (var key : results.json().keySet()) {
            for (var bit : results.array(key)) {
                if (!bit.isJsonPrimitive() || !bit.getAsJsonPrimitive().isNumber() || bit.getAsInt() < 0 || bit.getAsInt() >= bits
                        || byBit.put(bit.getAsInt(), key) != null) {
                    throw new Step.Malformed("\"results." + key + "\" must hold bits from 0 to " + (bits - 1)
                            + ", each once in all, and holds " + bit);
                }
            }
        }
        return byBit;
    }

    private static SeamRegs call(VectorMachine machine, int lp, SeamcallLeaf leaf, long rcx, long rdx) {
        var regs = new SeamRegs();
        regs.set(SeamRegs.RAX, leaf.number());
        regs.set(SeamRegs.RCX, rcx);
        regs.set(SeamRegs.RDX, rdx);
        machine.seamcall(lp, regs);
        return regs;
    }

    static void flip(VectorReplay replay, Step step) {
        step.allow(FLIP);
        boolean lpInit = step.oneOf("phase", List.of("sysinit", "lpinit")).equals("lpinit");
        if (step.has("msr") == step.has("leaf")) {
            throw new Step.Malformed("there must be either \"msr\" or \"leaf\"");
        }
        int lp = lpInit ? 1 : 0;
        for (var e : byBit(step, step.has("msr") ? Long.SIZE : Integer.SIZE).entrySet()) {
            replay.powerOn();
            var machine = replay.machine();
            if (machine.cpus.length <= lp) {
                throw new Step.Malformed("the platform has no LP 1");
            }
            if (lpInit) {
                call(machine, 0, SeamcallLeaf.SYS_INIT, 0, 0);
                call(machine, 0, SeamcallLeaf.SYS_LP_INIT, 0, 0);
            }
            invert(machine, step, lp, e.getKey());
            var regs = call(machine, lp, lpInit ? SeamcallLeaf.SYS_LP_INIT : SeamcallLeaf.SYS_INIT, 0, 0);
            compare("rax with bit " + e.getKey() + " inverted", e.getValue(), regs.get(SeamRegs.RAX));
        }
    }

    private static void invert(VectorMachine machine, Step step, int lp, int bit) {
        if (step.has("msr")) {
            int msr = (int) step.required("msr");
            machine.cpus[lp].msr(msr, machine.cpus[lp].rdmsr(msr) ^ (1L << bit));
        } else {
            int subleaf = step.has("sub") && step.text("sub").equals("any") ? -1 : (int) step.word("sub");
            machine.cpuidFlip = new VectorPlatform.CpuidFlip((int) step.required("leaf"), subleaf,
                    CPUID_OUTPUT.indexOf(step.oneOf("reg", CPUID_OUTPUT)), 1 << bit);
        }
    }

    private static void compare(String subject, String wanted, long rax) {
        if (!Step.accepts(wanted, VectorWords.hex(rax))) {
            long expected = Step.number(wanted);
            throw new VectorMismatch(subject, wanted, VectorWords.hex(rax),
                    "expected " + VectorWords.status(expected) + ", got " + VectorWords.status(rax));
        }
    }

    static void init(VectorReplay replay, Step step) {
        step.allow(INIT);
        step.oneOf("what", List.of("cpuid_config"));
        boolean first = true;
        for (var e : byBit(step, Integer.SIZE).entrySet()) {
            if (!first) {
                replay.again();
            }
            first = false;
            var machine = replay.machine();
            machine.memory.write(step.required("pa"), DWORD, 1L << e.getKey());
            var regs = call(machine, 0, SeamcallLeaf.MNG_INIT, step.required("tdr"), step.required("params"));
            var subject = " with bit " + e.getKey() + " set";
            var wanted = e.getValue().split(",", -1);
            compare("rax" + subject, wanted[0], regs.get(SeamRegs.RAX));
            if (wanted.length > 1) {
                compareRcx("rcx" + subject, wanted[1], regs.get(SeamRegs.RCX));
            }
        }
    }

    private static void compareRcx(String subject, String wanted, long rcx) {
        if (!Step.accepts(wanted, VectorWords.hex(rcx))) {
            throw new VectorMismatch(subject, wanted, VectorWords.hex(rcx), VectorWords.bits(Step.number(wanted), rcx));
        }
    }
}
