package cloister.tdx.replay;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.VmcsInit;
import com.google.gson.JsonElement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/// What a guest does without leaving the module's sight, and the compact forms of what makes it exit. [VECTORS "Guest side",
/// "Compact guest steps"]
final class GuestSteps {
    private static final Set<String> STATE = Set.of("op", "lp", "set");
    private static final Set<String> CPUID = Set.of("op", "lp", "leaf", "sub", "hi", "res");
    private static final Set<String> MSR_SWEEP = Set.of("op", "lp", "acc", "stride", "ranges");
    private static final Set<String> WRMSR = Set.of("op", "lp", "msr", "value", "res", "readback");
    private static final Set<String> MOV_CR = Set.of("op", "lp", "cr", "value", "res", "seen", "real", "out");
    private static final Set<String> XSETBV = Set.of("op", "lp", "value", "res", "xcr0");
    private static final Set<String> MTF = Set.of("op", "lp", "max");
    private static final int MAX_ACCESSES = 1_000_000;
    private static final int MAX_STEPS = 1_000_000;
    private static final int FIXED_CTR0 = 0x309;
    private static final int CR_ACCESS_FROM_RBX = 3 << 8;
    private static final int NOTHING = 0;
    private static final int LEFT = -1;
    private static final int GP = 13;
    private static final int VE = 20;
    private static final long VALID = 1L << 31;
    /// Registers in the order of CPUID's output.
    private static final int[] CPUID_OUTPUT = {Registers.RAX, Registers.RBX, Registers.RCX, Registers.RDX};
    /// Registers that TDG.VP.VEINFO.GET changes.
    private static final int[] VE_INFO = {Registers.RAX, Registers.RCX, Registers.RDX, 8, 9, 10};
    private static final long CPUID_RBX = 0x1111111111111111L;
    private static final long CPUID_RDX = 0x2222222222222222L;
    private static final long LOW = 0xffff_ffffL;

    private static final Map<String, VmcsField> STATE_FIELDS = stateFields();

    private GuestSteps() {
    }

    /// Fields of the guest-state area by the vectors' names: `rip`, `cr0`, `cs_ar`, `fs_base` ...
    private static Map<String, VmcsField> stateFields() {
        var fields = new HashMap<String, VmcsField>();
        for (var field : VmcsField.values()) {
            var name = field.name();
            if (name.startsWith("GUEST_") && field.type() == VmcsField.Type.GUEST_STATE) {
                fields.put(name.substring("GUEST_".length()).toLowerCase(Locale.ROOT).replace("access_rights", "ar"), field);
            }
        }
        return fields;
    }

    static void state(VectorMachine machine, Step step) {
        step.allow(STATE);
        int lp = machine.guestLp(step);
        var set = step.object("set");
        for (var name : set.json().keySet()) {
            long value = set.required(name);
            int register = Registers.NAMES.indexOf(name);
            if (register >= 0 && register != Registers.RSP) {
                assign(machine, lp, register, value);
            } else if (STATE_FIELDS.containsKey(name)) {
                machine.vmcs(lp).write(STATE_FIELDS.get(name), value);
            } else {
                live(machine, lp, name, value);
            }
        }
    }

    /// State that VMX does not switch.
    private static void live(VectorMachine machine, int lp, String name, long value) {
        var cpu = machine.cpus[lp];
        switch (name) {
            case "cr2" -> cpu.cr2(value);
            case "xcr0" -> cpu.xcr0(value);
            case "dr0", "dr1", "dr2", "dr3", "dr6" -> cpu.debugRegister(name.charAt(2) - '0', value);
            default -> throw new Step.Malformed("\"set." + name + "\" is no processor state that can be replayed");
        }
    }

    private static void assign(VectorMachine machine, int lp, int register, long value) {
        machine.guest(lp)[register] = value;
        machine.unknown(lp)[register] = false;
    }

    /// Lets the guest execute an instruction that exits, and consume the #VE that it raises.
    ///
    /// @return NOTHING, the vector of the exception that was raised, or LEFT when the TD exited
    private static int execute(VectorMachine machine, int lp, int reason, int length, long qualification) {
        var vmcs = machine.vmcs(lp);
        CallSteps.exitInformation(vmcs, reason, length);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, qualification);
        if (!machine.vmExit(lp)) {
            return LEFT;
        }
        long info = vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
        CallSteps.deliverEvent(machine, lp);
        if ((info & VALID) == 0) {
            return NOTHING;
        }
        int vector = (int) info & 0xff;
        if (vector == VE) {
            machine.guest(lp)[Registers.RAX] = TdcallLeaf.VP_VEINFO_GET.number();
            CallSteps.exitInformation(vmcs, ExitReason.TDCALL, 4);
            machine.vmExit(lp);
            CallSteps.deliverEvent(machine, lp);
            for (int register : VE_INFO) {
                machine.unknown(lp)[register] = false;
            }
        }
        return vector;
    }

    private static String word(int outcome) {
        return switch (outcome) {
            case NOTHING -> "ok";
            case GP -> "gp";
            case VE -> "ve";
            case LEFT -> "td_exit";
            default -> "vec" + outcome;
        };
    }

    private static void same(String subject, String expected, String got, String reading) {
        if (!Step.accepts(expected, got)) {
            throw new VectorMismatch(subject, expected, got, reading);
        }
    }

    private static void same(String subject, Step.Expected expected, long got) {
        if (!expected.accepts(got)) {
            throw new VectorMismatch(subject, expected.toString(), VectorWords.hex(got), VectorWords.bits(expected.value(), got));
        }
    }

    static void cpuid(VectorMachine machine, Step step) {
        step.allow(CPUID);
        int lp = machine.guestLp(step);
        long high = step.word("hi");
        high = high >>> 32 == 0 ? high << 32 : high;
        assign(machine, lp, Registers.RAX, step.required("leaf") | high);
        assign(machine, lp, Registers.RCX, step.word("sub") | high);
        assign(machine, lp, Registers.RBX, CPUID_RBX);
        assign(machine, lp, Registers.RDX, CPUID_RDX);
        int outcome = execute(machine, lp, ExitReason.CPUID, 2, 0);
        long[] r = machine.guest(lp);
        if (!step.has("res") || !step.json().get("res").isJsonArray()) {
            same("result", step.text("res"), outcome == NOTHING ? "values" : word(outcome), Registers.describe(r));
            return;
        }
        var wanted = step.array("res");
        if (wanted.size() != CPUID_OUTPUT.length) {
            throw new Step.Malformed("\"res\" must have four values, EAX to EDX");
        }
        same("result", "values", outcome == NOTHING ? "values" : word(outcome), Registers.describe(r));
        var items = new ArrayList<VectorMismatch.Item>();
        for (int i = 0; i < CPUID_OUTPUT.length; i++) {
            int register = CPUID_OUTPUT[i];
            if (!wanted.get(i).isJsonPrimitive()) {
                throw new Step.Malformed("\"res\" must have four values, EAX to EDX");
            }
            var text = wanted.get(i).getAsString();
            machine.unknown(lp)[register] = text.equals("*");
            if (!Step.accepts(text, VectorWords.hex(r[register]))) {
                items.add(new VectorMismatch.Item(Registers.NAMES.get(register), text, VectorWords.hex(r[register]),
                        VectorWords.bits(Step.number(text), r[register])));
            }
        }
        if (!items.isEmpty()) {
            throw new VectorMismatch(items);
        }
    }

    /// Whether an access leaves the guest, as the MSR bitmaps say. [SDM Vol. 3 "MSR-Bitmap Address"]
    private static boolean exits(VectorMachine machine, int lp, int msr, boolean write) {
        if (!((msr >= 0 && msr < 0x2000) || (msr >= 0xc000_0000 && msr < 0xc000_2000))) {
            return true;
        }
        long bitmap = machine.vmcs(lp).read(VmcsField.MSR_BITMAP);
        long at = bitmap + (msr < 0 ? 1024 : 0) + (write ? 2048 : 0) + (msr & 0x1fff) / 8;
        return ((machine.memory.read(at, 1) >>> (msr & 7)) & 1) != 0;
    }

    /// What RDMSR or WRMSR does: pass, gp, ve, td_exit, the value read or ok.
    static String access(VectorMachine machine, int lp, int msr, boolean write, long value) {
        if (!exits(machine, lp, msr, write)) {
            return "pass";
        }
        assign(machine, lp, Registers.RCX, msr & LOW);
        assign(machine, lp, Registers.RAX, write ? value & LOW : 0);
        assign(machine, lp, Registers.RDX, write ? value >>> 32 : 0);
        int outcome = execute(machine, lp, write ? ExitReason.WRMSR : ExitReason.RDMSR, 2, 0);
        if (outcome != NOTHING || write) {
            return word(outcome);
        }
        long[] r = machine.guest(lp);
        return VectorWords.hex((r[Registers.RAX] & LOW) | (r[Registers.RDX] << 32));
    }

    private static void read(VectorMachine machine, int lp, String subject, String wanted, String got) {
        same(subject, wanted, got, "");
        if (wanted.equals("*")) {
            Arrays.fill(machine.unknown(lp), Registers.RAX, Registers.RAX + 1, true);
            Arrays.fill(machine.unknown(lp), Registers.RDX, Registers.RDX + 1, true);
        }
    }

    /// MSRs with the same result.
    private record MsrRange(long first, long last, String result) {
        static MsrRange of(JsonElement json) {
            if (json.isJsonArray() && json.getAsJsonArray().size() == 3
                    && json.getAsJsonArray().asList().stream().allMatch(JsonElement::isJsonPrimitive)) {
                var range = json.getAsJsonArray();
                long first = Step.number(range.get(0).getAsString());
                long last = Step.number(range.get(1).getAsString());
                if (first >= 0 && last <= LOW) {
                    return new MsrRange(first, last, range.get(2).getAsString());
                }
            }
            throw new Step.Malformed("\"ranges\" must hold ranges of a first index, a last one and a result, and holds " + json);
        }

        long accesses(int stride) {
            return Math.max(0, (last - first) / stride + 1);
        }
    }

    static void msrSweep(VectorMachine machine, Step step) {
        step.allow(MSR_SWEEP);
        boolean write = step.oneOf("acc", List.of("rd", "wr")).equals("wr");
        int stride = step.count("stride", 1, 1, Integer.MAX_VALUE);
        int lp = machine.guestLp(step);
        var ranges = step.array("ranges").asList().stream().map(MsrRange::of).toList();
        if (ranges.stream().mapToLong(r -> r.accesses(stride)).sum() > MAX_ACCESSES) {
            throw new Step.Malformed("\"ranges\" holds more than " + MAX_ACCESSES + " indexes");
        }
        for (var range : ranges) {
            for (long msr = range.first; msr <= range.last; msr += stride) {
                machine.guestLp(step);
                read(machine, lp, (write ? "WRMSR " : "RDMSR ") + VectorWords.hex(msr), range.result,
                        access(machine, lp, (int) msr, write, 0));
            }
        }
    }

    static void wrmsr(VectorMachine machine, Step step) {
        step.allow(WRMSR);
        int lp = machine.guestLp(step);
        int msr = (int) step.required("msr");
        same("WRMSR", step.text("res"), access(machine, lp, msr, true, step.required("value")), "");
        if (step.has("readback")) {
            machine.guestLp(step);
            read(machine, lp, "RDMSR after it", step.text("readback"), access(machine, lp, msr, false, 0));
        }
    }

    static void movCr(VectorMachine machine, Step step) {
        step.allow(MOV_CR);
        int lp = machine.guestLp(step);
        int cr = step.count("cr", 0, 4);
        if (cr != 0 && cr != 4) {
            throw new Step.Malformed("\"cr\" must be 0 or 4, and is " + cr);
        }
        long value = step.required("value");
        var vmcs = machine.vmcs(lp);
        long mask = vmcs.read(cr == 0 ? VmcsField.CR0_GUEST_HOST_MASK : VmcsField.CR4_GUEST_HOST_MASK);
        var readShadow = cr == 0 ? VmcsField.CR0_READ_SHADOW : VmcsField.CR4_READ_SHADOW;
        var got = "native";
        if (((value ^ vmcs.read(readShadow)) & mask) != 0) {
            assign(machine, lp, Registers.RBX, value);
            got = word(execute(machine, lp, ExitReason.CR_ACCESS, 3, cr | CR_ACCESS_FROM_RBX));
        }
        same("result", step.text("res"), got, "");
        if (got.equals("ok")) {
            long real = vmcs.read(cr == 0 ? VmcsField.GUEST_CR0 : VmcsField.GUEST_CR4);
            long seen = (real & ~mask) | (vmcs.read(readShadow) & mask);
            if (step.has("real")) {
                same("the register", step.expected("real"), real);
            }
            if (step.has("seen")) {
                same("what the guest reads", step.expected("seen"), seen);
            }
        } else if (got.equals("td_exit")) {
            CallSteps.exited(machine, step, lp);
            enterAgain(machine, lp);
        }
    }

    private static void enterAgain(VectorMachine machine, int lp) {
        var regs = new SeamRegs();
        regs.set(SeamRegs.RCX, machine.lastEnter[lp]);
        if (!machine.seamcall(lp, regs)) {
            throw new VectorMismatch("entry after the TD exit", "the guest runs", "no entry", Registers.describe(regs.array()));
        }
        CallSteps.deliverEvent(machine, lp);
    }

    static void xsetbv(VectorMachine machine, Step step) {
        step.allow(XSETBV);
        int lp = machine.guestLp(step);
        long value = step.required("value");
        assign(machine, lp, Registers.RAX, value & LOW);
        assign(machine, lp, Registers.RDX, value >>> 32);
        assign(machine, lp, Registers.RCX, 0);
        int outcome = execute(machine, lp, ExitReason.XSETBV, 3, 0);
        same("result", step.text("res"), word(outcome), "");
        if (step.has("xcr0")) {
            same("XCR0", step.expected("xcr0"), machine.cpus[lp].xcr0());
        }
    }

    static void mtfUntilDone(VectorMachine machine, Step step) {
        step.allow(MTF);
        int lp = machine.guestLp(step);
        int max = step.count("max", 0, MAX_STEPS);
        var vmcs = machine.vmcs(lp);
        int stepped = 0;
        while ((vmcs.read(VmcsField.PROC_BASED_CONTROLS) & VmcsInit.PROC_MONITOR_TRAP_FLAG) != 0) {
            if (stepped++ == max) {
                throw new VectorMismatch("stepping", "an end after at most " + max + " instructions", "none", "");
            }
            CallSteps.exitInformation(vmcs, ExitReason.MONITOR_TRAP_FLAG, 0);
            vmcs.write(VmcsField.GUEST_RIP, vmcs.read(VmcsField.GUEST_RIP) + 3);
            machine.cpus[lp].msr(FIXED_CTR0, 1);
            if (!machine.vmExit(lp)) {
                throw new VectorMismatch("stepping", "the guest resumes", "a TD exit after " + stepped + " instructions",
                        Registers.describe(machine.hostRegisters(lp).array()));
            }
            CallSteps.deliverEvent(machine, lp);
        }
    }
}
