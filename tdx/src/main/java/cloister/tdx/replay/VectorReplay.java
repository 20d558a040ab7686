package cloister.tdx.replay;

import static cloister.tdx.replay.VectorPlatform.number;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.TdxReturn;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LockWord;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.VmcsInit;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/// Replays one scenario of the module's behaviour vectors and compares every result.
public final class VectorReplay {
    /// The files of the vectors, by their names in "include".
    public interface Files {
        /// The lines of a file, each one object.
        List<JsonObject> lines(String name) throws IOException;
    }

    private static final List<String> NAMES = List.of("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10",
            "r11", "r12", "r13", "r14", "r15");
    private static final int RSP = 4;
    private static final Map<String, VmcsField> GUEST_STATE = Map.of("rip", VmcsField.GUEST_RIP, "rflags",
            VmcsField.GUEST_RFLAGS, "cr0", VmcsField.GUEST_CR0, "cr3", VmcsField.GUEST_CR3, "cr4", VmcsField.GUEST_CR4, "efer",
            VmcsField.GUEST_EFER, "dr7", VmcsField.GUEST_DR7, "cs_ar", VmcsField.GUEST_CS_ACCESS_RIGHTS, "ss_ar",
            VmcsField.GUEST_SS_ACCESS_RIGHTS);
    private static final VmcsField[] EXIT_INFORMATION = {VmcsField.EXIT_REASON, VmcsField.EXIT_QUALIFICATION,
        VmcsField.GUEST_PHYSICAL_ADDRESS, VmcsField.GUEST_LINEAR_ADDRESS, VmcsField.EXIT_INTERRUPTION_INFO,
        VmcsField.EXIT_INTERRUPTION_ERROR_CODE, VmcsField.EXIT_INSTRUCTION_INFO, VmcsField.IDT_VECTORING_INFO,
        VmcsField.IDT_VECTORING_ERROR_CODE, VmcsField.EXIT_INSTRUCTION_LENGTH};
    private static final int FIXED_CTR0 = 0x309;
    /// Exits at which the counter of retired instructions matters: exception or NMI, interrupt, INIT, SMI, MTF.
    private static final List<Integer> COUNTING_EXITS = List.of(0, 1, 3, 6, 37);

    private final Files files;
    private final VectorPlatform platform;
    private final RecordedMemory memory;
    private final long[] lastEnter;
    private VectorMachine machine;
    /// The step being replayed, for what is said of a difference.
    private JsonObject current;
    private int depth;
    private int steps;
    private long lastTdr;
    private long lastTdvpr;

    /// @param memory of the platform's size; it is powered on here, and no other replay may use it meanwhile
    public VectorReplay(Files files, VectorPlatform platform, RecordedMemory memory) {
        this.files = files;
        this.platform = platform;
        this.memory = memory;
        this.lastEnter = new long[platform.logicalProcessors];
        powerOn();
    }

    private void powerOn() {
        machine = new VectorMachine(platform, memory);
    }

    /// The machine as the steps so far left it.
    public VectorMachine machine() {
        return machine;
    }

    /// Steps of the scenario that were replayed without a difference: without its resets and includes, as the manifest counts.
    public int steps() {
        return steps;
    }

    /// Replays all steps of a file.
    ///
    /// @throws VectorMismatch at the first difference
    public void run(String name) throws IOException {
        var lines = files.lines(name);
        for (int i = 1; i < lines.size(); i++) {
            var step = lines.get(i);
            current = step;
            try {
                step(step);
            } catch (VectorMismatch mismatch) {
                throw mismatch.at(name, i + 1, VectorWords.step(step));
            } catch (RuntimeException | AssertionError e) {
                throw new VectorMismatch("the step", "a result", e.toString(), origin(e)).at(name, i + 1, step.toString());
            }
            if (depth == 0 && counts(step)) {
                steps++;
            }
        }
    }

    /// Whether the manifest counts this line of a scenario as a step.
    public static boolean counts(JsonObject step) {
        var op = step.get("op").getAsString();
        return !op.equals("reset") && !op.equals("include");
    }

    private static String origin(Throwable e) {
        var trace = e.getStackTrace();
        return "at " + Arrays.stream(trace).limit(6).map(StackTraceElement::toString).collect(Collectors.joining(", "));
    }

    private void include(String name) throws IOException {
        depth++;
        run(name);
        depth--;
    }

    private static int lp(JsonObject step) {
        return step.has("lp") ? step.get("lp").getAsInt() : 0;
    }

    private static long n(JsonObject o, String name) {
        return o.has(name) ? number(o.get(name).getAsString()) : 0;
    }

    private void step(JsonObject s) throws IOException {
        switch (s.get("op").getAsString()) {
            case "include" -> include(s.get("file").getAsString());
            case "reset" -> powerOn();
            case "note" -> {
            }
            case "host_write" -> hostWrite(s);
            case "expect_mem" -> expectMemory(s, n(s, "pa"));
            case "host_msr" -> machine.cpus[lp(s)].msr((int) n(s, "msr"), n(s, "value"));
            case "tsc" -> machine.clock.tsc = n(s, "value");
            case "seamcall" -> repeated(s, this::seamcall);
            case "tdcall" -> repeated(s, this::tdcall);
            case "td_exit" -> tdExit(s);
            case "guest_state" -> guestState(s);
            case "guest_write" -> {
                byte[] data = HexFormat.of().parseHex(s.get("hex").getAsString());
                // The recordings wrote to the start of the page, whatever the offset: RTMR values tell.
                machine.memory.write(guestHpa(n(s, "gpa") & -PhysicalMemory.FRAME_SIZE), data, 0, data.length);
            }
            case "expect_guest_mem" -> expectMemory(s, guestHpa(n(s, "gpa")));
            case "cpuid" -> cpuid(s);
            case "msr_sweep" -> msrSweep(s);
            case "wrmsr" -> wrmsr(s);
            case "mov_cr" -> movCr(s);
            case "xsetbv" -> xsetbv(s);
            case "mtf_until_done" -> mtfUntilDone(s);
            case "flip_sweep" -> flipSweep(s);
            case "init_sweep" -> initSweep(s);
            case "hold_lock" -> lock(s, true);
            case "release_lock" -> lock(s, false);
            default -> throw new VectorMismatch("the step", "a kind that we know", s.get("op").getAsString(), "");
        }
    }

    // Memory

    private void hostWrite(JsonObject s) {
        long pa = n(s, "pa");
        byte[] data;
        if (s.has("hex")) {
            data = HexFormat.of().parseHex(s.get("hex").getAsString());
        } else {
            data = new byte[s.get("len").getAsInt()];
            if (s.has("fill")) {
                Arrays.fill(data, (byte) Integer.parseInt(s.get("fill").getAsString(), 16));
            } else {
                long p = n(s, "pattern");
                for (int i = 0; i < data.length; i++) {
                    long word = p * 0x9E3779B97F4A7C15L + (i / 8) * 0xD1B54A32D192ED03L;
                    data[i] = (byte) (word >>> 8 * (i % 8));
                }
            }
        }
        machine.memory.write(pa, data, 0, data.length);
    }

    private void expectMemory(JsonObject s, long hpa) {
        if (s.has("zero")) {
            byte[] data = new byte[s.get("len").getAsInt()];
            machine.memory.read(hpa, data, 0, data.length);
            for (int i = 0; i < data.length; i++) {
                same("memory at " + VectorWords.hex(hpa + i), 0, data[i] & 0xff);
            }
            return;
        }
        var hex = s.get("hex").getAsString();
        byte[] data = new byte[hex.length() / 2];
        machine.memory.read(hpa, data, 0, data.length);
        for (int i = 0; i < data.length; i++) {
            var wanted = hex.substring(2 * i, 2 * i + 2);
            if (!wanted.equals("**")) {
                same("memory at " + VectorWords.hex(hpa + i), Integer.parseInt(wanted, 16), data[i] & 0xff);
            }
        }
    }

    private long guestHpa(long gpa) {
        var tdr = new Tdr(machine.memory, lastTdr, RecordedMemory.FIRST_PRIVATE_KEY);
        var tdcs = new Tdcs(machine.memory, tdr);
        var slot = new Sept(machine.memory, tdr.keyId()).walk(tdcs.eptp(), gpa, 0);
        return tdr.withKey(SeptEntry.leafPa(slot.value(), gpa, slot.level()));
    }

    private static void check(boolean ok, String subject, String expected, String got) {
        if (!ok) {
            throw new VectorMismatch(subject, expected, got, "");
        }
    }

    private static void same(String subject, String expected, String got) {
        check(expected.equals("*") || expected.equals(got), subject, expected, got);
    }

    private static void same(String subject, long expected, long got) {
        if (expected != got) {
            throw new VectorMismatch(subject, VectorWords.hex(expected), VectorWords.hex(got), VectorWords.bits(expected, got));
        }
    }

    // Calls

    private interface Call {
        void run(JsonObject step, long[] in, boolean last);
    }

    private static long[] registers(JsonObject s) {
        var in = new long[16];
        if (s.has("in")) {
            for (var e : s.getAsJsonObject("in").entrySet()) {
                in[NAMES.indexOf(e.getKey())] = number(e.getValue().getAsString());
            }
        }
        return in;
    }

    private void repeated(JsonObject s, Call call) {
        int count = s.has("repeat") ? s.get("repeat").getAsInt() : 1;
        for (int i = 0; i < count; i++) {
            var in = registers(s);
            if (s.has("step")) {
                for (var e : s.getAsJsonObject("step").entrySet()) {
                    in[NAMES.indexOf(e.getKey())] += i * number(e.getValue().getAsString());
                }
            }
            call.run(s, in, i == count - 1);
        }
    }

    private static long rax(JsonObject s) {
        return s.has("rax") ? n(s, "rax") : n(s, "leaf") | n(s, "ver") << 16;
    }

    private void seamcall(JsonObject s, long[] in, boolean last) {
        int lp = lp(s);
        in[0] = rax(s);
        int leaf = (int) in[0] & 0xffff;
        if (leaf == 9) {
            lastTdr = in[1];
        } else if (leaf == 10) {
            lastTdvpr = in[1];
        }
        var regs = new SeamRegs();
        System.arraycopy(in, 0, regs.array(), 0, 16);
        if (leaf == 0) {
            lastEnter[lp] = in[1];
        }
        boolean otherKey = leaf == 45 && in[1] >>> PhysicalMemory.KEY_ID_SHIFT == 1;
        if (otherKey) {
            rewrite(PhysicalMemory.pa(in[1]), in[1]); // the recordings have no memory encryption between shared KeyIDs
        }
        boolean entered = machine.seamcall(lp, regs);
        if (otherKey) {
            rewrite(in[1], PhysicalMemory.pa(in[1]));
        }
        if (s.has("guest")) {
            check(entered, "the result", "the guest runs", "a return to the VMM with" + describe(regs.array()));
            compareGuest(s.getAsJsonObject("guest"), lp, new long[16]);
        } else {
            check(!entered, "the result", "a return to the VMM", "the guest runs");
            var out = s.getAsJsonObject("out");
            compare(out, regs.array(), s.has("td_exit") || out.has("td_exit") ? new long[16] : in, last);
        }
    }

    private void rewrite(long from, long to) {
        var line = new byte[PhysicalMemory.LINE_SIZE];
        machine.memory.read(from, line, 0, line.length);
        machine.memory.movdir64b(to, line, 0);
    }

    private static String describe(long[] regs) {
        var text = new StringBuilder();
        for (int i = 0; i < 16; i++) {
            if (regs[i] != 0) {
                text.append(' ').append(NAMES.get(i)).append('=').append(Long.toHexString(regs[i]));
            }
        }
        return text.toString();
    }

    private void compare(JsonObject expected, long[] actual, long[] otherwise, boolean all) {
        for (int i = 0; i < 16; i++) {
            if (i == RSP || !all && i != 0) {
                continue;
            }
            var name = NAMES.get(i);
            boolean listed = expected.has(name);
            var text = listed ? expected.get(name).getAsString() : "";
            if (text.equals("*")) {
                continue;
            }
            long wanted = listed ? number(text) : otherwise[i];
            if (wanted != actual[i]) {
                throw new VectorMismatch(name, VectorWords.hex(wanted) + (listed ? "" : " (no change)"), VectorWords.hex(actual[i]),
                        VectorWords.difference(current, i, wanted, actual[i]) + "; all registers:" + describe(actual));
            }
        }
    }

    // Guest

    private void exitInformation(int lp, int reason, int length) {
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        for (var field : EXIT_INFORMATION) {
            vmcs.write(field, 0);
        }
        vmcs.write(VmcsField.EXIT_REASON, reason & 0xffff_ffffL);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, length);
    }

    private void requireGuest(int lp) {
        check(machine.inGuest(lp), "LP " + lp, "runs a guest", "runs none");
    }

    private void tdcall(JsonObject s, long[] in, boolean last) {
        int lp = lp(s);
        requireGuest(lp);
        setGuest(s, lp, in);
        machine.cpus[lp].registers()[0] = rax(s);
        exitInformation(lp, 77, 4);
        exitAndCompare(s, lp, last);
    }

    /// Registers mentioned in the step take the values of `in`.
    private void setGuest(JsonObject s, int lp, long[] in) {
        if (s.has("in")) {
            for (var name : s.getAsJsonObject("in").keySet()) {
                int index = NAMES.indexOf(name);
                machine.cpus[lp].registers()[index] = in[index];
            }
        }
    }

    private void exitAndCompare(JsonObject s, int lp, boolean last) {
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        long[] before = machine.cpus[lp].registers().clone();
        long rip = vmcs.read(VmcsField.GUEST_RIP);
        var host = machine.hostRegisters(lp);
        boolean resumed = machine.vmExit(lp);
        if (s.has("guest")) {
            check(resumed, "the result", "the guest resumes", "TD exit with" + describe(host.array()));
            var guest = s.getAsJsonObject("guest");
            if (last) {
                same("advance of RIP", n(guest, "rip_adv"), vmcs.read(VmcsField.GUEST_RIP) - rip);
                compareGuest(guest, lp, before);
            } else {
                compare(guest.getAsJsonObject("gpr"), machine.cpus[lp].registers(), before, false);
                deliverEvent(lp);
            }
        } else {
            check(!resumed, "the result", "a TD exit", "the guest resumes with" + describe(machine.cpus[lp].registers()) + ", event "
                    + VectorWords.hex(vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)));
            compare(s.getAsJsonObject("out"), host.array(), new long[16], last);
        }
    }

    private void deliverEvent(int lp) {
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
        vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, 0);
    }

    private void compareGuest(JsonObject guest, int lp, long[] before) {
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        var gpr = guest.has("gpr") ? guest.getAsJsonObject("gpr") : new JsonObject();
        compare(gpr, machine.cpus[lp].registers(), before, true);
        long info = vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
        if (guest.has("event")) {
            var event = guest.getAsJsonObject("event");
            check((info & 1L << 31) != 0, "event", "an injected event", "none");
            same("vector of the event", n(event, "vec"), info & 0xff);
            same("type of the event", n(event, "type"), info >>> 8 & 7);
            if (event.has("err")) {
                same("error code of the event", n(event, "err"), vmcs.read(VmcsField.ENTRY_EXCEPTION_ERROR_CODE));
            }
            if (event.has("cr2")) {
                same("CR2 of the event", n(event, "cr2"), machine.cpus[lp].cr2());
            }
        } else {
            check((info & 1L << 31) == 0, "event", "none", "interruption information " + VectorWords.hex(info));
        }
        deliverEvent(lp);
    }

    private void tdExit(JsonObject s) {
        int lp = lp(s);
        requireGuest(lp);
        setGuest(s, lp, registers(s));
        exitInformation(lp, (int) n(s, "reason"), s.has("ilen") ? (int) n(s, "ilen") : 4);
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, n(s, "qual"));
        vmcs.write(VmcsField.GUEST_PHYSICAL_ADDRESS, n(s, "gpa"));
        vmcs.write(VmcsField.GUEST_LINEAR_ADDRESS, n(s, "gla"));
        vmcs.write(VmcsField.EXIT_INTERRUPTION_INFO, n(s, "intr"));
        vmcs.write(VmcsField.EXIT_INTERRUPTION_ERROR_CODE, n(s, "ierr"));
        vmcs.write(VmcsField.EXIT_INSTRUCTION_INFO, n(s, "info"));
        vmcs.write(VmcsField.IDT_VECTORING_INFO, n(s, "idtv"));
        vmcs.write(VmcsField.IDT_VECTORING_ERROR_CODE, n(s, "idte"));
        if (s.has("rip")) {
            vmcs.write(VmcsField.GUEST_RIP, n(s, "rip"));
        }
        if (COUNTING_EXITS.contains((int) n(s, "reason") & 0xffff)) {
            machine.cpus[lp].msr(FIXED_CTR0, s.has("insts") ? n(s, "insts") : 1000);
        }
        exitAndCompare(s, lp, true);
    }

    private void guestState(JsonObject s) {
        var vmcs = machine.core.vmcs(machine.cpus[lp(s)]);
        for (var e : s.getAsJsonObject("set").entrySet()) {
            vmcs.write(GUEST_STATE.get(e.getKey()), number(e.getValue().getAsString()));
        }
    }

    // Compact steps

    /// Lets the guest execute an exiting instruction; true when it raised an exception, whose vector is then `raised`.
    private int raised;

    private boolean emulate(int lp, int reason, int length, long qualification) {
        requireGuest(lp);
        exitInformation(lp, reason, length);
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, qualification);
        if (!machine.vmExit(lp)) {
            raised = -1;
            return true;
        }
        long info = vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
        deliverEvent(lp);
        raised = (info & 1L << 31) != 0 ? (int) info & 0xff : 0;
        if (raised == 20) {
            machine.cpus[lp].registers()[0] = 3;
            exitInformation(lp, 77, 4);
            machine.vmExit(lp);
            deliverEvent(lp);
        }
        return raised != 0;
    }

    private static String result(int vector) {
        return switch (vector) {
            case 13 -> "gp";
            case 20 -> "ve";
            case -1 -> "td_exit";
            default -> "vec" + vector;
        };
    }

    private void cpuid(JsonObject s) {
        int lp = lp(s);
        requireGuest(lp);
        long[] r = machine.cpus[lp].registers();
        long hi = s.has("hi") ? n(s, "hi") << 32 : 0;
        if (s.has("hi") && n(s, "hi") >>> 32 != 0) {
            hi = n(s, "hi");
        }
        r[0] = n(s, "leaf") | hi;
        r[1] = n(s, "sub") | hi;
        r[3] = 0x1111111111111111L;
        r[2] = 0x2222222222222222L;
        boolean exception = emulate(lp, 10, 2, 0);
        if (!s.get("res").isJsonArray()) {
            same("result", s.get("res").getAsString(), exception ? result(raised) : "values" + describe(r));
            return;
        }
        check(!exception, "result", "values", result(raised));
        int[] order = {0, 3, 1, 2};
        for (int i = 0; i < 4; i++) {
            var wanted = s.getAsJsonArray("res").get(i).getAsString();
            if (!wanted.equals("*")) {
                same(NAMES.get(order[i]), number(wanted), r[order[i]]);
            }
        }
    }

    private boolean exits(int lp, int msr, boolean write) {
        if (!(msr >= 0 && msr < 0x2000 || msr >= 0xc000_0000 && msr < 0xc000_2000)) {
            return true;
        }
        long bitmap = machine.core.vmcs(machine.cpus[lp]).read(VmcsField.MSR_BITMAP);
        long at = bitmap + (msr < 0 ? 1024 : 0) + (write ? 2048 : 0) + (msr & 0x1fff) / 8;
        return (machine.memory.read(at, 1) >>> (msr & 7) & 1) != 0;
    }

    /// What RDMSR or WRMSR does: pass, gp, ve, the value read or ok.
    public String access(int lp, int msr, boolean write, long value) {
        requireGuest(lp);
        if (!exits(lp, msr, write)) {
            return "pass";
        }
        long[] r = machine.cpus[lp].registers();
        r[1] = msr & 0xffff_ffffL;
        r[0] = write ? value & 0xffff_ffffL : 0;
        r[2] = write ? value >>> 32 : 0;
        if (emulate(lp, write ? 32 : 31, 2, 0)) {
            return result(raised);
        }
        return write ? "ok" : "0x" + Long.toHexString(r[0] & 0xffff_ffffL | r[2] << 32);
    }

    private void msrSweep(JsonObject s) {
        boolean write = s.get("acc").getAsString().equals("wr");
        for (var e : s.getAsJsonArray("ranges")) {
            JsonArray range = e.getAsJsonArray();
            long last = number(range.get(1).getAsString());
            var wanted = range.get(2).getAsString();
            for (long msr = number(range.get(0).getAsString()); msr <= last; msr += s.get("stride").getAsInt()) {
                var got = access(lp(s), (int) msr, write, 0);
                same("MSR " + VectorWords.hex(msr), wanted, got);
            }
        }
    }

    private void wrmsr(JsonObject s) {
        int msr = (int) n(s, "msr");
        var got = access(lp(s), msr, true, n(s, "value"));
        same("write", s.get("res").getAsString(), got);
        got = access(lp(s), msr, false, 0);
        same("read back", s.get("readback").getAsString(), got);
    }

    private void movCr(JsonObject s) {
        int lp = lp(s);
        requireGuest(lp);
        int cr = s.get("cr").getAsInt();
        long value = n(s, "value");
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        long mask = vmcs.read(cr == 0 ? VmcsField.CR0_GUEST_HOST_MASK : VmcsField.CR4_GUEST_HOST_MASK);
        long shadow = vmcs.read(cr == 0 ? VmcsField.CR0_READ_SHADOW : VmcsField.CR4_READ_SHADOW);
        var wanted = s.get("res").getAsString();
        String got = "native";
        if (((value ^ shadow) & mask) != 0) {
            machine.cpus[lp].registers()[3] = value;
            got = emulate(lp, 28, 3, cr | 3 << 8) ? result(raised) : "ok";
        }
        same("result", wanted, got);
        if (got.equals("ok")) {
            long real = vmcs.read(cr == 0 ? VmcsField.GUEST_CR0 : VmcsField.GUEST_CR4);
            same("the register", n(s, "real"), real);
            long seen = real & ~mask | shadow & mask;
            same("the value that the guest reads", n(s, "seen"), seen);
        }
        if (raised == -1 && !machine.inGuest(lp)) {
            var regs = new SeamRegs();
            regs.set(SeamRegs.RCX, lastEnter[lp]);
            check(machine.seamcall(lp, regs), "entry after the TD exit", "the guest runs", "no entry:" + describe(regs.array()));
            deliverEvent(lp);
        }
    }

    private void xsetbv(JsonObject s) {
        int lp = lp(s);
        requireGuest(lp);
        long value = n(s, "value");
        long[] r = machine.cpus[lp].registers();
        r[0] = value & 0xffff_ffffL;
        r[2] = value >>> 32;
        r[1] = 0;
        var got = emulate(lp, 55, 3, 0) ? result(raised) : "ok";
        same("result", s.get("res").getAsString(), got);
        same("XCR0", n(s, "xcr0"), machine.cpus[lp].xcr0());
    }

    private void mtfUntilDone(JsonObject s) {
        int lp = lp(s);
        requireGuest(lp);
        var vmcs = machine.core.vmcs(machine.cpus[lp]);
        int stepped = 0;
        while ((vmcs.read(VmcsField.PROC_BASED_CONTROLS) & VmcsInit.PROC_MONITOR_TRAP_FLAG) != 0) {
            check(stepped++ < s.get("max").getAsInt(), "stepping", "an end", "none after " + stepped);
            exitInformation(lp, 37, 0);
            vmcs.write(VmcsField.GUEST_RIP, vmcs.read(VmcsField.GUEST_RIP) + 3);
            machine.cpus[lp].msr(FIXED_CTR0, 1);
            check(machine.vmExit(lp), "stepping", "the guest resumes", "TD exit");
            deliverEvent(lp);
        }
    }

    // Sweeps

    private static Map<Integer, String> byBit(JsonObject s) {
        var result = new HashMap<Integer, String>();
        for (var e : s.getAsJsonObject("results").entrySet()) {
            for (var bit : e.getValue().getAsJsonArray()) {
                result.put(bit.getAsInt(), e.getKey());
            }
        }
        return result;
    }

    private long plainCall(int lp, long rax, long rcx, long rdx) {
        var regs = new SeamRegs();
        regs.set(SeamRegs.RAX, rax);
        regs.set(SeamRegs.RCX, rcx);
        regs.set(SeamRegs.RDX, rdx);
        machine.seamcall(lp, regs);
        lastTdvpr = regs.get(SeamRegs.RCX);
        return regs.get(SeamRegs.RAX);
    }

    private void flipSweep(JsonObject s) {
        boolean lpInit = s.get("phase").getAsString().equals("lpinit");
        for (var e : byBit(s).entrySet()) {
            powerOn();
            if (lpInit) {
                plainCall(0, 33, 0, 0);
                plainCall(0, 35, 0, 0);
            }
            int bit = e.getKey();
            if (s.has("msr")) {
                int msr = (int) n(s, "msr");
                var cpu = machine.cpus[lpInit ? 1 : 0];
                cpu.msr(msr, cpu.rdmsr(msr) ^ 1L << bit);
            } else {
                int reg = List.of("eax", "ebx", "ecx", "edx").indexOf(s.get("reg").getAsString());
                var sub = s.get("sub").getAsString();
                machine.cpuidFlip = new int[] {(int) n(s, "leaf"), sub.equals("any") ? -1 : (int) number(sub), reg, 1 << bit};
            }
            long rax = plainCall(lpInit ? 1 : 0, lpInit ? 35 : 33, 0, 0);
            long wanted = number(e.getValue());
            if (rax != wanted) {
                throw new VectorMismatch("rax with bit " + bit + " inverted", VectorWords.hex(wanted), VectorWords.hex(rax),
                        VectorWords.difference(new TdxReturn(wanted), new TdxReturn(rax)));
            }
        }
    }

    private void initSweep(JsonObject s) {
        long pa = n(s, "pa");
        long tdr = n(s, "tdr");
        long params = n(s, "params");
        long old = machine.memory.read(pa, 4);
        var t = new Tdr(machine.memory, tdr, RecordedMemory.FIRST_PRIVATE_KEY);
        for (var e : byBit(s).entrySet()) {
            machine.memory.write(pa, 4, 1L << e.getKey());
            long rax = plainCall(0, 21, tdr, params);
            var got = "0x" + Long.toHexString(rax) + (rax != 0 ? ",0x" + Long.toHexString(lastTdvpr) : "");
            same("result with bit " + e.getKey(), e.getValue(), got);
            machine.memory.write(pa, 4, old);
            uninitialize(t);
        }
    }

    /// Back to the point before TDH.MNG.INIT: the MSR bitmaps are all ones, the rest of TDCS zero but the Secure EPT root.
    private void uninitialize(Tdr tdr) {
        for (int i = 0; i < tdr.numTdcx(); i++) {
            long word = i == Tdcs.MSR_BITMAPS_PAGE ? -1L : i == Tdcs.SEPT_ROOT_PAGE ? SeptEntry.INIT : 0;
            for (int at = 0; at < PhysicalMemory.FRAME_SIZE; at += 8) {
                machine.memory.write(tdr.tdcxHpa(i) + at, 8, word);
            }
        }
    }

    // Locks

    private void lock(JsonObject s, boolean hold) {
        boolean exclusive = s.get("mode").getAsString().equals("exclusive");
        var tdr = new Tdr(machine.memory, lastTdr, RecordedMemory.FIRST_PRIVATE_KEY);
        var name = s.get("lock").getAsString();
        if (name.equals("sept_entry")) {
            var tdcs = new Tdcs(machine.memory, tdr);
            var slot = new Sept(machine.memory, tdr.keyId()).walk(tdcs.eptp(), n(s, "gpa"), 0);
            slot.write(hold ? slot.read() | SeptEntry.LOCK : slot.read() & ~SeptEntry.LOCK);
            return;
        }
        boolean hostPriority = !name.equals("sept_tree") && !name.equals("td_epoch");
        LockWord word = switch (name) {
            case "tdr" -> machine.core.pageLock(lastTdr);
            case "tdvpr" -> machine.core.pageLock(firstTdvpr(s));
            case "op_state" -> new Tdcs(machine.memory, tdr).lock(Tdcs.OP_STATE_LOCK);
            case "sept_tree" -> new Tdcs(machine.memory, tdr).lock(Tdcs.SECURE_EPT_LOCK);
            case "td_epoch" -> new Tdcs(machine.memory, tdr).lock(Tdcs.EPOCH_LOCK);
            default -> throw new IllegalStateException("unknown lock");
        };
        int reader = hostPriority ? 4 : 2;
        if (hold) {
            word.set(exclusive ? 1 : word.get() + reader);
        } else if (exclusive) {
            word.set(hostPriority ? word.get() & 2 : 0);
        } else {
            word.set(word.get() - reader);
        }
    }

    private long firstTdvpr(JsonObject s) {
        return s.has("pa") ? n(s, "pa") : lastTdvpr;
    }
}
