package cloister.tdx.replay;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.port.Vmcs;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// SEAMCALL, TDCALL and other VM exits, and the comparison of what they return. [VECTORS "SEAMCALL", "Guest side"]
final class CallSteps {
    private static final Set<String> SEAMCALL = Set.of("op", "lp", "leaf", "ver", "rax", "in", "out", "guest", "td_exit", "repeat", "step");
    private static final Set<String> TDCALL = Set.of("op", "lp", "leaf", "ver", "rax", "in", "out", "guest", "repeat", "step");
    private static final Set<String> TD_EXIT = Set.of("op", "lp", "reason", "qual", "gpa", "gla", "intr", "ierr", "info", "idtv", "idte",
            "ilen", "rip", "in", "insts", "out", "guest");
    private static final Set<String> GUEST = Set.of("gpr", "event", "rip_adv");
    private static final Set<String> EVENT = Set.of("vec", "type", "err", "cr2");
    private static final Set<String> OUT = with(Registers.NAMES, "td_exit");
    private static final int MAX_REPEAT = 1_000_000;
    private static final int TDCALL_REASON = 77;
    private static final int TDCALL_BYTES = 4;
    private static final int FIXED_CTR0 = 0x309;
    /// Exits at which the counter of retired instructions matters: exception or NMI, interrupt, INIT, other SMI, MTF.
    private static final List<Integer> COUNTING_EXITS = List.of(0, 1, 3, 6, 37);
    private static final long VALID = 1L << 31;
    private static final long ERROR_CODE = 1L << 11;
    private static final VmcsField[] EXIT_INFORMATION = {VmcsField.EXIT_REASON, VmcsField.EXIT_QUALIFICATION,
        VmcsField.GUEST_PHYSICAL_ADDRESS, VmcsField.GUEST_LINEAR_ADDRESS, VmcsField.EXIT_INTERRUPTION_INFO,
        VmcsField.EXIT_INTERRUPTION_ERROR_CODE, VmcsField.EXIT_INSTRUCTION_INFO, VmcsField.IDT_VECTORING_INFO,
        VmcsField.IDT_VECTORING_ERROR_CODE, VmcsField.EXIT_INSTRUCTION_LENGTH};
    private static final long[] ZEROS = new long[Registers.COUNT];

    private CallSteps() {
    }

    private static Set<String> with(List<String> names, String more) {
        var all = new HashSet<>(names);
        all.add(more);
        return all;
    }

    private static long rax(Step step) {
        if (step.has("rax")) {
            return step.required("rax");
        }
        return step.required("leaf") | (step.word("ver") << 16);
    }

    private static void oneResult(Step step) {
        if (step.has("out") == step.has("guest")) {
            throw new Step.Malformed("there must be either \"out\" or \"guest\"");
        }
        step.object("out").allow(OUT);
        var guest = step.object("guest");
        guest.allow(GUEST);
        guest.object("event").allow(EVENT);
    }

    // SEAMCALL

    static void seamcall(VectorMachine machine, Step step) {
        step.allow(SEAMCALL);
        oneResult(step);
        int lp = machine.lp(step);
        int count = step.count("repeat", 1, 1, MAX_REPEAT);
        var base = new long[Registers.COUNT];
        Registers.into(step.object("in"), base);
        base[Registers.RAX] = rax(step);
        var delta = new long[Registers.COUNT];
        Registers.into(step.object("step"), delta);
        for (int i = 0; i < count; i++) {
            if (machine.inGuest(lp)) {
                throw new Step.Malformed("LP " + lp + " runs a guest and cannot execute SEAMCALL");
            }
            var in = advanced(base, delta, i);
            seamcall(machine, step, lp, in, i == count - 1);
        }
    }

    private static long[] advanced(long[] base, long[] delta, int times) {
        var in = base.clone();
        for (int r = 0; r < in.length; r++) {
            in[r] += delta[r] * times;
        }
        return in;
    }

    private static void seamcall(VectorMachine machine, Step step, int lp, long[] in, boolean last) {
        var regs = new SeamRegs();
        System.arraycopy(in, 0, regs.array(), 0, in.length);
        boolean entered = machine.seamcall(lp, regs);
        if (step.has("guest")) {
            if (!entered) {
                throw new VectorMismatch("the result", "the guest runs", "a return to the VMM",
                        VectorWords.result(step, regs.array()));
            }
            guest(machine, step, lp, ZEROS, last);
            return;
        }
        if (entered) {
            throw new VectorMismatch("the result", "a return to the VMM", "the guest runs",
                    "its registers: " + Registers.describe(machine.guest(lp)));
        }
        var out = step.object("out");
        boolean tdExit = step.flag("td_exit") || out.flag("td_exit");
        if (!tdExit && !out.has("rax")) {
            throw new Step.Malformed("\"out.rax\" is missing");
        }
        compare(step, out, regs.array(), tdExit ? ZEROS : in, null, last);
    }

    // Guest side

    static void tdcall(VectorMachine machine, Step step) {
        step.allow(TDCALL);
        oneResult(step);
        int count = step.count("repeat", 1, 1, MAX_REPEAT);
        int lp = machine.guestLp(step);
        var base = machine.guest(lp).clone();
        var in = step.object("in");
        Registers.into(in, base);
        var delta = new long[Registers.COUNT];
        Registers.into(step.object("step"), delta);
        for (int i = 0; i < count; i++) {
            machine.guestLp(step);
            var values = advanced(base, delta, i);
            in.eachRegister(r -> enter(machine, lp, r, values[r]));
            step.object("step").eachRegister(r -> enter(machine, lp, r, values[r]));
            enter(machine, lp, Registers.RAX, rax(step));
            exitInformation(machine.vmcs(lp), TDCALL_REASON, TDCALL_BYTES);
            exitAndCompare(machine, step, lp, i == count - 1);
        }
    }

    /// The guest changes a register itself.
    private static void enter(VectorMachine machine, int lp, int register, long value) {
        machine.guest(lp)[register] = value;
        machine.unknown(lp)[register] = false;
    }

    static void tdExit(VectorMachine machine, Step step) {
        step.allow(TD_EXIT);
        oneResult(step);
        int lp = machine.guestLp(step);
        var values = machine.guest(lp).clone();
        Registers.into(step.object("in"), values);
        step.object("in").eachRegister(r -> enter(machine, lp, r, values[r]));
        var vmcs = machine.vmcs(lp);
        exitInformation(vmcs, step.required("reason"), step.count("ilen", 4, 0, 15));
        vmcs.write(VmcsField.EXIT_QUALIFICATION, step.word("qual"));
        vmcs.write(VmcsField.GUEST_PHYSICAL_ADDRESS, step.word("gpa"));
        vmcs.write(VmcsField.GUEST_LINEAR_ADDRESS, step.word("gla"));
        vmcs.write(VmcsField.EXIT_INTERRUPTION_INFO, step.word("intr"));
        vmcs.write(VmcsField.EXIT_INTERRUPTION_ERROR_CODE, step.word("ierr"));
        vmcs.write(VmcsField.EXIT_INSTRUCTION_INFO, step.word("info"));
        vmcs.write(VmcsField.IDT_VECTORING_INFO, step.word("idtv"));
        vmcs.write(VmcsField.IDT_VECTORING_ERROR_CODE, step.word("idte"));
        if (step.has("rip")) {
            vmcs.write(VmcsField.GUEST_RIP, step.required("rip"));
        }
        if (COUNTING_EXITS.contains((int) step.required("reason") & 0xffff)) {
            machine.cpus[lp].msr(FIXED_CTR0, step.has("insts") ? step.required("insts") : 1000);
        }
        exitAndCompare(machine, step, lp, true);
    }

    /// Prepares a VM exit without any information but these.
    static void exitInformation(Vmcs vmcs, long reason, int length) {
        for (var field : EXIT_INFORMATION) {
            vmcs.write(field, 0);
        }
        vmcs.write(VmcsField.EXIT_REASON, reason & 0xffff_ffffL);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, length);
    }

    private static void exitAndCompare(VectorMachine machine, Step step, int lp, boolean last) {
        var vmcs = machine.vmcs(lp);
        long[] before = machine.guest(lp).clone();
        long rip = vmcs.read(VmcsField.GUEST_RIP);
        var host = machine.hostRegisters(lp);
        boolean resumed = machine.vmExit(lp);
        if (step.has("guest")) {
            if (!resumed) {
                throw new VectorMismatch("the result", "the guest resumes", "a TD exit", VectorWords.result(step, host.array()));
            }
            var advance = step.object("guest").expected("rip_adv");
            long moved = vmcs.read(VmcsField.GUEST_RIP) - rip;
            if (!advance.accepts(moved)) {
                throw new VectorMismatch("advance of RIP", "" + advance.value(), "" + moved,
                        VectorWords.event(vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)) + "; " + Registers.describe(machine.guest(lp)));
            }
            guest(machine, step, lp, before, last);
        } else {
            if (resumed) {
                throw new VectorMismatch("the result", "a TD exit", "the guest resumes",
                        VectorWords.event(vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)) + "; "
                        + Registers.describe(machine.guest(lp)));
            }
            exited(machine, step, lp);
        }
    }

    /// Compares what a TD exit gave to the VMM.
    static void exited(VectorMachine machine, Step step, int lp) {
        var out = step.object("out");
        out.allow(OUT);
        compare(step, out, machine.hostRegisters(lp).array(), ZEROS, machine.unknown(lp).clone(), true);
    }

    /// The event of the last entry is considered delivered.
    static void deliverEvent(VectorMachine machine, int lp) {
        var vmcs = machine.vmcs(lp);
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
        vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, 0);
    }

    private static void guest(VectorMachine machine, Step step, int lp, long[] before, boolean last) {
        var guest = step.object("guest");
        compare(step, guest.object("gpr"), machine.guest(lp), before, machine.unknown(lp), last);
        var info = machine.vmcs(lp).read(VmcsField.ENTRY_INTERRUPTION_INFO);
        if (guest.has("event")) {
            event(machine, guest.object("event"), lp, info);
        } else if ((info & VALID) != 0) {
            throw new VectorMismatch("event", "none", VectorWords.event(info), "");
        }
        deliverEvent(machine, lp);
    }

    private static void event(VectorMachine machine, Step event, int lp, long info) {
        if ((info & VALID) == 0) {
            throw new VectorMismatch("event", "vector " + event.word("vec") + ", type " + event.word("type"), "none", "");
        }
        var vmcs = machine.vmcs(lp);
        var items = new ArrayList<VectorMismatch.Item>();
        item(items, "vector of the event", event.expected("vec"), info & 0xff);
        item(items, "type of the event", event.expected("type"), (info >>> 8) & 7);
        if (event.has("err")) {
            item(items, "error code of the event", event.expected("err"), vmcs.read(VmcsField.ENTRY_EXCEPTION_ERROR_CODE));
        } else if ((info & ERROR_CODE) != 0) {
            items.add(new VectorMismatch.Item("error code of the event", "none",
                    VectorWords.hex(vmcs.read(VmcsField.ENTRY_EXCEPTION_ERROR_CODE)), ""));
        }
        if (event.has("cr2")) {
            item(items, "CR2 of the event", event.expected("cr2"), machine.cpus[lp].cr2());
        }
        if (!items.isEmpty()) {
            throw new VectorMismatch(items);
        }
    }

    private static void item(List<VectorMismatch.Item> items, String subject, Step.Expected expected, long got) {
        if (!expected.accepts(got)) {
            items.add(new VectorMismatch.Item(subject, expected.toString(), VectorWords.hex(got), ""));
        }
    }

    /// Compares registers.
    ///
    /// @param implied the values of registers that are not listed
    /// @param unknown registers whose recorded value is not known, kept up to date; null when all are known
    /// @param all     whether registers other than RAX are compared
    private static void compare(Step step, Step listed, long[] got, long[] implied, boolean[] unknown, boolean all) {
        var items = new ArrayList<VectorMismatch.Item>();
        for (int i = 0; i < Registers.COUNT; i++) {
            var name = Registers.NAMES.get(i);
            if (i == Registers.RSP || (!all && i != Registers.RAX)) {
                continue;
            }
            var expected = listed.has(name) ? listed.expected(name) : Step.Expected.implied(implied[i]);
            if (unknown != null) {
                if (expected.implied() && unknown[i]) {
                    continue;
                }
                unknown[i] = expected.any();
            }
            if (!expected.accepts(got[i])) {
                items.add(VectorWords.register(step, i, expected, got[i]));
            }
        }
        if (!items.isEmpty()) {
            throw new VectorMismatch(items);
        }
    }
}
