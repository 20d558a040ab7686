package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.TdParams;
import cloister.tdx.core.Tdcs;
import cloister.tdx.dispatch.SeamCore;
import cloister.tdx.replay.RecordedProcessor;
import cloister.tdx.replay.VectorPlatform;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;

/// The module, brought up on processors without a CPU, and the execution of fuzzed steps on it.
final class FuzzMachine implements AutoCloseable {
    static final int FIRST_PRIVATE_KEY = 32;
    static final int KEYS = 64;
    static final int GLOBAL_KEY = 32;
    /// The one TDMR; its upper quarter is reserved.
    static final long TDMR = 0x4000_0000L;
    static final long TDMR_BYTES = 0x4000_0000L;
    static final long RESERVED = 0x3000_0000L;
    /// What the fuzzer lets the module have: 2 MiB pages, then as many bytes in small pages.
    static final long POOL = TDMR;
    static final int LARGE_PAGES = 3;
    static final long SMALL = POOL + LARGE_PAGES * 0x20_0000L;
    static final int POOL_FRAMES = (LARGE_PAGES + 1) * 512;
    /// Pages of the VMM.
    static final long HOST = 0x20_0000L;
    static final int HOST_PAGES = 8;
    private static final long PAMT_1G = 0x1000_0000L;
    private static final long PAMT_2M = 0x1000_1000L;
    private static final long PAMT_4K = 0x1001_0000L;
    private static final int INTR_PENDING = 0x9a;
    private static final long RFLAGS_IF = 1 << 9;
    private static final long LONG_MODE = 1 << 10;
    private static final long CODE_64 = 0xa09b;

    final PhysicalMemory memory;
    final SeamCore core;
    final ModuleState module;
    final FuzzProcessor[] cpus;
    final boolean[] inGuest;
    /// LPs with a step in progress.
    final boolean[] busy;
    /// A leaf that the model lacks was called: the sequence ends.
    boolean ended;
    private final SeamRegs[] regs;

    final FuzzCoverage coverage;

    FuzzMachine(FuzzCoverage coverage) {
        this.coverage = coverage;
        var platform = platform();
        memory = new PhysicalMemory(platform.memoryBytes, FIRST_PRIVATE_KEY);
        core = new SeamCore(memory, platform.info);
        module = core.module;
        cpus = new FuzzProcessor[platform.logicalProcessors];
        inGuest = new boolean[cpus.length];
        busy = new boolean[cpus.length];
        regs = new SeamRegs[cpus.length];
        var clock = new RecordedProcessor.Clock();
        clock.tsc = platform.tscStart;
        clock.step = platform.tscStep;
        for (int i = 0; i < cpus.length; i++) {
            cpus[i] = new FuzzProcessor(i, clock, platform, memory);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR0, 0x8005_0033L);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR3, 0x1000);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR4, 0x37_26e0L);
            cpus[i].seamVmcs().write(VmcsField.GUEST_RFLAGS, RFLAGS_IF);
            regs[i] = new SeamRegs();
        }
        bringUp();
    }

    private static VectorPlatform platform() {
        try (var in = new InputStreamReader(FuzzMachine.class.getResourceAsStream("fuzz-platform.json"),
                StandardCharsets.UTF_8)) {
            return new VectorPlatform(JsonParser.parseReader(in).getAsJsonObject());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void bringUp() {
        require(0, SeamcallLeaf.SYS_INIT);
        for (int lp = 0; lp < cpus.length; lp++) {
            require(lp, SeamcallLeaf.SYS_LP_INIT);
        }
        long[] info = {TDMR, TDMR_BYTES, PAMT_1G, 0x1000, PAMT_2M, 0x2000, PAMT_4K, 0x40_0000, RESERVED, TDMR_BYTES - RESERVED};
        memory.fill(HOST, 4096, (byte) 0);
        memory.write(HOST, 8, HOST + 512);
        for (int i = 0; i < info.length; i++) {
            memory.write(HOST + 512 + 8L * i, 8, info[i]);
        }
        require(0, SeamcallLeaf.SYS_CONFIG, HOST, 1, GLOBAL_KEY);
        require(0, SeamcallLeaf.SYS_KEY_CONFIG);
        for (int i = 0; i < TDMR_BYTES >> 22; i++) {
            require(0, SeamcallLeaf.SYS_TDMR_INIT, TDMR);
        }
    }

    private void require(int lp, SeamcallLeaf leaf, long... operands) {
        var r = new SeamRegs();
        int[] order = {SeamRegs.RCX, SeamRegs.RDX, SeamRegs.R8};
        r.set(SeamRegs.RAX, leaf.number());
        for (int i = 0; i < operands.length; i++) {
            r.set(order[i], operands[i]);
        }
        core.call(cpus[lp], r);
        if (r.get(SeamRegs.RAX) != 0) {
            throw new FuzzFinding(String.format("bring-up: %s gives 0x%x", leaf, r.get(SeamRegs.RAX)));
        }
    }

    LpState lp(int lp) {
        return core.lp(cpus[lp]);
    }

    /// RAX to R15 of the VMM on an LP.
    SeamRegs registers(int lp) {
        return regs[lp];
    }

    PamtEntry pamt(long pa, int size) {
        long base = size == Pamt.SIZE_4K ? PAMT_4K : size == Pamt.SIZE_2M ? PAMT_2M : PAMT_1G;
        return new PamtEntry(memory, PhysicalMemory.hpa(base + (pa - TDMR >>> 12 + 9 * size) * PamtEntry.BYTES, GLOBAL_KEY));
    }

    static boolean inPool(long pa) {
        return pa >= POOL && pa < POOL + POOL_FRAMES * 4096L;
    }

    /// The page that covers `pa`, whatever its size.
    PamtEntry leafEntry(long pa) {
        for (int size = Pamt.SIZE_1G; size > Pamt.SIZE_4K; size--) {
            var entry = pamt(pa, size);
            if (entry.type() == PageType.REG) {
                return entry;
            }
        }
        return pamt(pa, Pamt.SIZE_4K);
    }

    /// Executes a step, with those inside it. A step that the LP's state does not allow does nothing.
    void execute(FuzzStep step) {
        int lp = step.lp;
        boolean host = step.kind == FuzzStep.Kind.CALL;
        boolean guest = step.kind == FuzzStep.Kind.EXIT || step.kind == FuzzStep.Kind.ACCESS;
        if (busy[lp] || ended || host && inGuest[lp] || guest && !inGuest[lp]) {
            return;
        }
        busy[lp] = true;
        try {
            switch (step.kind) {
                case CALL -> call(step);
                case EXIT -> exit(step);
                case ACCESS -> access(lp, step.operands[0]);
                case PARAMS -> params(step.operands);
                case FILL -> fill(step.operands[0], step.operands[1]);
            }
        } catch (ModuleHalt halt) {
            if (!halt.getMessage().contains("is not modelled")) {
                throw new FuzzFinding(halt.getMessage(), halt);
            }
            ended = true;
        } catch (FuzzFinding finding) {
            throw finding;
        } catch (RuntimeException e) {
            throw new FuzzFinding("an exception escapes: " + e, e);
        } finally {
            busy[lp] = false;
        }
    }

    private void interrupt(int lp, long pending) {
        cpus[lp].msr(INTR_PENDING, pending);
    }

    /// Whether a shared operand names an address without memory behind it: there the model of memory has no answer.
    private boolean leadsNowhere(long[] o) {
        var leaf = SeamcallLeaf.of((int) o[0] & 0xffff);
        return switch (leaf) {
            case MEM_PAGE_ADD -> nowhere(o[4]);
            case MNG_INIT, SYS_RDALL -> nowhere(o[2]);
            case SYS_INFO, SYS_CONFIG -> nowhere(o[1]) || nowhere(o[3]);
            case null, default -> false;
        };
    }

    private boolean nowhere(long hpa) {
        return ModuleState.belowMaxPa(hpa) && !memory.contains(PhysicalMemory.pa(hpa), 4096);
    }

    private void call(FuzzStep step) {
        if (leadsNowhere(step.operands)) {
            return;
        }
        var r = regs[step.lp];
        r.clear();
        int[] order = {SeamRegs.RAX, SeamRegs.RCX, SeamRegs.RDX, SeamRegs.R8, SeamRegs.R9, SeamRegs.R10, SeamRegs.R11};
        for (int i = 0; i < order.length; i++) {
            r.set(order[i], step.operands[i]);
        }
        interrupt(step.lp, step.operands[7]);
        inGuest[step.lp] = core.call(cpus[step.lp], r);
        status(step.lp);
        coverage.host(step.operands[0], inGuest[step.lp] || r.get(SeamRegs.RAX) == 0);
    }

    private void status(int lp) {
        if (!inGuest[lp] && TdxStatus.of(regs[lp].get(SeamRegs.RAX)) == null) {
            throw new FuzzFinding(String.format("unknown completion status 0x%x", regs[lp].get(SeamRegs.RAX)));
        }
    }

    private void exit(FuzzStep step) {
        int lp = step.lp;
        long[] o = step.operands;
        var vmcs = core.vmcs(cpus[lp]);
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
        vmcs.write(VmcsField.IDT_VECTORING_INFO, 0);
        vmcs.write(VmcsField.EXIT_REASON, o[0]);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, o[1]);
        vmcs.write(VmcsField.GUEST_PHYSICAL_ADDRESS, o[2]);
        vmcs.write(VmcsField.EXIT_INTERRUPTION_INFO, o[3]);
        vmcs.write(VmcsField.GUEST_RIP, vmcs.read(VmcsField.GUEST_RIP) + o[4]);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, 3);
        vmcs.write(VmcsField.GUEST_EFER, vmcs.read(VmcsField.GUEST_EFER) | LONG_MODE);
        vmcs.write(VmcsField.GUEST_CS_ACCESS_RIGHTS, CODE_64);
        long[] r = cpus[lp].registers();
        int[] order = {SeamRegs.RAX, SeamRegs.RCX, SeamRegs.RDX, SeamRegs.R8, SeamRegs.R9, SeamRegs.R10};
        for (int i = 0; i < order.length; i++) {
            r[order[i]] = o[5 + i];
        }
        interrupt(lp, o[11]);
        cpus[lp].msr(TdMsr.FIXED_CTR0, o[12]);
        inGuest[lp] = core.vmExit(cpus[lp]);
        status(lp);
        if (o[0] == ExitReason.TDCALL) {
            coverage.guest(o[5], !inGuest[lp] || r[SeamRegs.RAX] == 0);
        }
    }

    /// The guest writes a word, by way of the TLB.
    private void access(int lp, long gpa) {
        var tdcs = lp(lp).tdcs;
        int key = lp(lp).tdr.keyId();
        var walk = cpus[lp].translate(tdcs.eptp(), gpa & SeptEntry.HPA, walk(tdcs, key, gpa));
        if (walk != null) {
            memory.write(PhysicalMemory.hpa(walk[walk.length - 1], key), 8, gpa);
        }
    }

    /// The pages of the walk for a private GPA, or null when it ends at an entry that is not present.
    long[] walk(Tdcs tdcs, int key, long gpa) {
        int level = tdcs.rootLevel();
        var pages = new long[level + 1];
        long table = PhysicalMemory.pa(tdcs.eptp() & SeptEntry.HPA);
        for (int i = 0;; i++, level--) {
            long entry = memory.read(PhysicalMemory.hpa(table, key) + 8 * (gpa >>> 12 + 9 * level & 0x1ff), 8);
            if (!SeptEntry.isPresent(entry)) {
                return null;
            }
            if (SeptEntry.isLeaf(entry) || level == 0) {
                pages[i] = SeptEntry.leafPa(entry, gpa, level) & SeptEntry.HPA;
                return java.util.Arrays.copyOf(pages, i + 1);
            }
            table = SeptEntry.pa(entry);
            pages[i] = table;
        }
    }

    private void params(long[] o) {
        long pa = o[0];
        memory.fill(pa, TdParams.BYTES, (byte) 0);
        memory.write(pa, 8, o[1]);
        memory.write(pa + 8, 8, o[2]);
        memory.write(pa + 16, 8, o[3]);
        memory.write(pa + 24, 8, o[4]);
        memory.write(pa + 32, 8, o[5]);
        memory.write(pa + 40, 8, o[6]);
    }

    private void fill(long pa, long value) {
        if (!inPool(pa) || leafEntry(pa).type() == PageType.NDA) {
            for (int i = 0; i < 4096; i += 64) {
                memory.write(pa + i, 8, value + i);
            }
        }
    }

    @Override public void close() {
        memory.close();
    }
}
