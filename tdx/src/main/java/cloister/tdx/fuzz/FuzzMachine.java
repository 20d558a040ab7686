package cloister.tdx.fuzz;

import cloister.memory.AccessObserver;
import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.NotModelled;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.TdParams;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdmr;
import cloister.tdx.dispatch.SeamCore;
import cloister.tdx.replay.RecordedProcessor;
import cloister.tdx.replay.VectorPlatform;
import java.util.Arrays;
import java.util.Locale;

/// The module on processors without a CPU, and the execution of fuzzed steps on it.
final class FuzzMachine implements AutoCloseable, AccessObserver {
    /// Told what happens.
    interface Watcher {
        /// A SEAMCALL, TDCALL or VM exit came to its end.
        void completed(FuzzStep step);
    }

    private static final long RFLAGS_IF = 1 << 9;
    private static final long LONG_MODE = 1 << 10;
    private static final long CODE_64 = 0xa09b;
    private static final long CODE_32 = 0xc09b;
    private static final long SECRET = 0x5ec2_e700_0000_0000L;
    private static final int NEVER = -1;
    private static final int[] CALL_ORDER = {SeamRegs.RAX, SeamRegs.RCX, SeamRegs.RDX, SeamRegs.R8, SeamRegs.R9, SeamRegs.R10,
        SeamRegs.R11, SeamRegs.R11 + 1, SeamRegs.R11 + 2};
    private static final int TDMR_BYTES_SHIFT = 22;

    final FuzzPlatform platform;
    final PhysicalMemory memory;
    SeamCore core;
    ModuleState module;
    final FuzzProcessor[] cpus = new FuzzProcessor[FuzzPlatform.LPS];
    final boolean[] inGuest = new boolean[FuzzPlatform.LPS];
    /// What each LP does: a step in progress, or null.
    final FuzzStep[] doing = new FuzzStep[FuzzPlatform.LPS];
    /// A leaf that the model lacks was called: the sequence ends.
    boolean ended;
    /// Whether the module was loaded and nothing was called yet.
    boolean fresh = true;
    /// Whether private memory was destroyed: invariants are off, the module may halt.
    boolean corrupted;
    /// Whether MSRs were changed since the module was loaded.
    private boolean strange;
    final FuzzCoverage coverage;
    private final HostileMemory hostile;
    final GuestContents contents;
    private final GuestSecrets secrets = new GuestSecrets(this);
    private final VectorPlatform silicon;
    private final RecordedProcessor.Clock clock = new RecordedProcessor.Clock();
    private final SeamRegs[] regs = new SeamRegs[FuzzPlatform.LPS];
    private final SeamRegs[] before = new SeamRegs[FuzzPlatform.LPS];
    private final Lane[] lanes = new Lane[FuzzPlatform.LPS];
    /// By LP, how many points its step still passes; [#NEVER]: all.
    private final int[] left = new int[FuzzPlatform.LPS];
    private final boolean[] fine = new boolean[FuzzPlatform.LPS];
    /// Whether each LP's step stopped at a write, so that it may have stopped after all that matters.
    final boolean[] stoppedAtWrites = new boolean[FuzzPlatform.LPS];
    /// The LP whose module code runs now, or -1.
    private int running = -1;
    private Watcher watcher = step -> { };

    FuzzMachine(FuzzPlatform platform, FuzzCoverage coverage) {
        this.platform = platform;
        this.coverage = coverage;
        silicon = FuzzPlatform.silicon();
        memory = new PhysicalMemory(FuzzPlatform.BYTES, FuzzPlatform.FIRST_PRIVATE_KEY);
        memory.observe(this);
        hostile = new HostileMemory(memory);
        contents = new GuestContents(this);
        clock.tsc = silicon.tscStart;
        clock.step = silicon.tscStep;
        powerOn();
    }

    private void powerOn() {
        core = new SeamCore(memory, platform.info());
        module = core.module;
        fresh = true;
        strange = false;
        secrets.clear();
        contents.clear();
        running = -1;
        for (int i = 0; i < cpus.length; i++) {
            int lp = i;
            if (lanes[i] != null) {
                lanes[i].close();
            }
            lanes[i] = new Lane();
            cpus[i] = new FuzzProcessor(i, clock, platform, silicon, memory, () -> point(lp));
            cpus[i].seamVmcs().write(VmcsField.HOST_CR0, 0x8005_0033L);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR3, 0x1000);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR4, 0x37_26e0L);
            cpus[i].seamVmcs().write(VmcsField.GUEST_RFLAGS, RFLAGS_IF);
            regs[i] = new SeamRegs();
            before[i] = new SeamRegs();
            inGuest[i] = false;
            doing[i] = null;
        }
    }

    void watch(Watcher added) {
        watcher = added;
    }

    LpState lp(int lp) {
        return core.lp(cpus[lp]);
    }

    /// The value that an MSR has in the platform's silicon.
    long usualMsr(int msr) {
        return silicon.msrs.getOrDefault(msr, 0L);
    }

    /// RAX to R15 of the VMM on an LP.
    SeamRegs registers(int lp) {
        return regs[lp];
    }

    /// Whether no LP is in the middle of a call.
    boolean quiet() {
        for (var step : doing) {
            if (step != null) {
                return false;
            }
        }
        return true;
    }

    // Pages

    /// The initialised TDMR that covers `pa`, or null.
    Tdmr tdmr(long pa) {
        for (var tdmr : module.tdmrs) {
            long base = tdmr.info.base();
            if (pa >= base && pa < base + tdmr.info.size() && pa < (tdmr.lastInitialized & -FuzzPlatform.TDMR_BYTES)) {
                return tdmr;
            }
        }
        return null;
    }

    PamtEntry pamt(long pa, int size) {
        var tdmr = tdmr(pa);
        return new PamtEntry(memory, PhysicalMemory.hpa(tdmr.info.pamtBase()[size]
                + ((pa - tdmr.info.base()) >>> (12 + 9 * size)) * PamtEntry.BYTES, module.globalKeyId));
    }

    /// The page that covers `pa`, whatever its size. Entries below a large page are free.
    PamtEntry leafEntry(long pa) {
        var small = pamt(pa, Pamt.SIZE_4K);
        int largest = FuzzPlatform.inLarge(pa) ? Pamt.SIZE_1G : Pamt.SIZE_2M;
        for (int size = Pamt.SIZE_2M; small.type() == PageType.NDA && size <= largest; size++) {
            var entry = pamt(pa, size);
            if (entry.type() == PageType.REG) {
                return entry;
            }
        }
        return small;
    }

    boolean isFree(long pa) {
        return tdmr(pa) != null && leafEntry(pa).type() == PageType.NDA;
    }

    // Steps

    /// Executes a step, or as much of it as it says. A step that the LP's state does not allow does nothing.
    void execute(FuzzStep step) {
        int lp = step.lp;
        if (ended || lp < 0 || lp >= cpus.length) {
            return;
        }
        if (step.kind == FuzzStep.Kind.RUN) {
            if (doing[lp] != null) {
                stoppedAtWrites[lp] |= step.fine;
                go(step, lp, lanes[lp]::resume);
            }
            return;
        }
        boolean guest = step.kind == FuzzStep.Kind.EXIT || step.kind == FuzzStep.Kind.ACCESS;
        if (doing[lp] != null || (step.kind == FuzzStep.Kind.CALL && inGuest[lp]) || (guest && !inGuest[lp])) {
            return;
        }
        switch (step.kind) {
            case CALL -> begin(step, () -> call(step));
            case EXIT -> {
                if (GuestExits.possible(this, step)) {
                    begin(step, () -> exit(step));
                }
            }
            case ACCESS -> new GuestAccess(this).touch(lp, step.operands[0], (int) step.operands[1]);
            case BOOT -> boot((int) step.operands[0]);
            case RESTART -> powerOn();
            default -> outside(step, lp);
        }
    }

    private void begin(FuzzStep step, Runnable body) {
        int lp = step.lp;
        doing[lp] = step;
        stoppedAtWrites[lp] = step.fine;
        fresh = false;
        Runnable whole = () -> {
            guarded(body);
            doing[lp] = null;
        };
        if (step.toTheEnd()) {
            left[lp] = NEVER;
            running = lp;
            try {
                whole.run();
            } finally {
                running = -1;
            }
        } else {
            go(step, lp, () -> lanes[lp].start(whole));
        }
    }

    private void go(FuzzStep step, int lp, Runnable flow) {
        left[lp] = step.toTheEnd() ? NEVER : step.points;
        fine[lp] = step.fine;
        running = lp;
        try {
            flow.run();
        } finally {
            running = -1;
        }
    }

    /// A place where the LP's step may stop.
    private void point(int lp) {
        if (running == lp && left[lp] != NEVER && left[lp]-- == 0) {
            lanes[lp].suspend();
        }
    }

    @Override public void beforeRead(long pa, long bytes) {
        if (running >= 0) {
            hostile.beforeRead(pa, bytes);
        }
    }

    @Override public void afterWrite(long pa, long bytes) {
        if (running >= 0 && fine[running]) {
            point(running);
        }
    }

    private void guarded(Runnable body) {
        try {
            body.run();
        } catch (NotModelled limit) {
            ended = true;
        } catch (ModuleHalt halt) {
            boolean strangePlatform = corrupted || (strange && module.sysState != ModuleState.SysState.READY);
            if (!strangePlatform) {
                throw new FuzzFinding(halt.getMessage(), halt);
            }
            ended = true; // the module stops on broken memory or a strange processor
        } catch (FuzzFinding finding) {
            throw finding;
        } catch (RuntimeException | StackOverflowError e) {
            throw new FuzzFinding("an exception escapes: " + e, e);
        }
    }

    private void outside(FuzzStep step, int lp) {
        long[] o = step.operands;
        switch (step.kind) {
            case PARAMS -> params(o);
            case WRITE -> {
                if (isVmmMemory(o[0], 64)) {
                    for (int i = 1; i < o.length; i++) {
                        memory.write(o[0] + 8L * (i - 1), 8, o[i]);
                    }
                }
            }
            case FILL -> fill(o[0], o[1]);
            case HOSTILE -> {
                if (isVmmMemory(o[0], 4096)) {
                    hostile.page(o[0], o[1]);
                }
            }
            case MSR -> {
                strange = true;
                cpus[lp].msr((int) o[0], o[1]);
            }
            case CLOCK -> clock.tsc += o[0];
            case PCONFIG -> cpus[lp].failNextPconfig((int) o[0]);
            case ENTROPY -> cpus[lp].failNextRandom();
            case FAULT -> cpus[lp].failNextLoad(o[0] != 0);
            case CORRUPT -> {
                if (FuzzPlatform.inPool(o[0]) && tdmr(o[0]) != null) {
                    corrupted = true;
                    memory.write(o[0], 8, o[0]);
                }
            }
            default -> {
            }
        }
    }

    private static boolean isVmmMemory(long pa, int bytes) {
        return pa >= FuzzPlatform.HOST && pa + bytes <= FuzzPlatform.HOST + FuzzPlatform.HOST_PAGES * 4096L;
    }

    private void interrupt(int lp, long pending) {
        cpus[lp].msr(Msr.IA32_INTR_PENDING, pending);
    }

    /// Whether a result goes to memory that is not the VMM's: as if the VMM itself destroyed a TD.
    private static boolean destroys(FuzzStep step) {
        long[] o = step.operands;
        return switch (step.leaf()) {
            case SYS_INFO -> isTdMemory(o[1]) || isTdMemory(o[3]);
            case SYS_RDALL -> isTdMemory(o[2]);
            case null, default -> false;
        };
    }

    private static boolean isTdMemory(long hpa) {
        long pa = PhysicalMemory.pa(hpa);
        return pa >= FuzzPlatform.PAMTS && pa < FuzzPlatform.BYTES;
    }

    private void call(FuzzStep step) {
        if (destroys(step)) {
            return;
        }
        int lp = step.lp;
        var r = regs[lp];
        for (int i = 0; i < SeamRegs.COUNT; i++) {
            r.set(i, SECRET ^ i);
        }
        for (int i = 0; i < CALL_ORDER.length; i++) {
            r.set(CALL_ORDER[i], step.operands[i]);
        }
        for (int i = 0; i < SeamRegs.COUNT; i++) {
            before[lp].set(i, r.get(i));
        }
        interrupt(lp, step.operands[FuzzStep.CALL_INTERRUPT]);
        new GuestAccess(this).speculate(step);
        secrets.beforeCall(lp);
        inGuest[lp] = core.call(cpus[lp], r);
        secrets.afterCall(step, lp);
        contents.completed(step);
        var status = inGuest[lp] ? TdxStatus.SUCCESS : status(lp);
        coverage.host(step.operands[0], status);
        if (status == TdxStatus.SUCCESS && step.leaf() != null && FuzzCoverage.hasLevels(step.leaf())) {
            coverage.level(step.leaf(), (int) step.operands[1] & 7);
        }
        if (!inGuest[lp]) {
            OutputRules.afterCall(step, before[lp], r);
        }
        watcher.completed(step);
    }

    private TdxStatus status(int lp) {
        long rax = regs[lp].get(SeamRegs.RAX);
        var status = TdxStatus.of(rax);
        if (status == null) {
            throw new FuzzFinding(String.format(Locale.ROOT, "unknown completion status 0x%x", rax));
        }
        return status;
    }

    private void exit(FuzzStep step) {
        int lp = step.lp;
        long[] o = step.operands;
        var vmcs = core.vmcs(cpus[lp]);
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
        vmcs.write(VmcsField.EXIT_REASON, o[0]);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, o[FuzzStep.QUALIFICATION]);
        vmcs.write(VmcsField.GUEST_PHYSICAL_ADDRESS, o[FuzzStep.GPA]);
        vmcs.write(VmcsField.GUEST_LINEAR_ADDRESS, o[FuzzStep.GLA]);
        vmcs.write(VmcsField.EXIT_INTERRUPTION_INFO, o[FuzzStep.INFO]);
        vmcs.write(VmcsField.EXIT_INTERRUPTION_ERROR_CODE, o[FuzzStep.ERROR]);
        vmcs.write(VmcsField.IDT_VECTORING_INFO, o[FuzzStep.VECTORING]);
        vmcs.write(VmcsField.IDT_VECTORING_ERROR_CODE, o[FuzzStep.VECTORING_ERROR]);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, o[FuzzStep.LENGTH]);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_INFO, o[FuzzStep.INSTRUCTION]);
        vmcs.write(VmcsField.GUEST_RIP, vmcs.read(VmcsField.GUEST_RIP) + o[FuzzStep.RIP]);
        boolean long64 = o[FuzzStep.MODE] == 0;
        vmcs.write(VmcsField.GUEST_EFER, (vmcs.read(VmcsField.GUEST_EFER) & ~LONG_MODE) | (long64 ? LONG_MODE : 0));
        vmcs.write(VmcsField.GUEST_CS_ACCESS_RIGHTS, long64 ? CODE_64 : CODE_32);
        long[] r = cpus[lp].registers();
        for (int i = 0; i < SeamRegs.COUNT; i++) {
            long value = o[FuzzStep.REGISTERS + i];
            r[i] = value == 0 && (i == SeamRegs.RBX || (i > 4 && i < 8) || i > SeamRegs.R11) ? SECRET ^ 256 ^ i : value;
        }
        interrupt(lp, o[FuzzStep.EXIT_INTERRUPT]);
        cpus[lp].msr(TdMsr.FIXED_CTR0, o[FuzzStep.RETIRED]);
        secrets.beforeExit(lp);
        long tdrPa = lp(lp).tdr.pa;
        cpus[lp].endFaults();
        boolean keepRbp = lp(lp).tdcs.configFlag(Tdcs.NO_RBP_MOD);
        long mask = r[SeamRegs.RCX];
        inGuest[lp] = core.vmExit(cpus[lp]);
        contents.completed(step, tdrPa);
        if (!inGuest[lp]) {
            var status = status(lp);
            if (status != TdxStatus.SUCCESS) {
                coverage.host(SeamcallLeaf.VP_ENTER.number(), status);
            }
            OutputRules.afterTdExit(step, before[lp], regs[lp], mask, keepRbp, cpus[lp]);
            secrets.afterExit(lp, status);
        }
        if (o[0] == ExitReason.TDCALL && o[FuzzStep.MODE] == 0) {
            guestStatus(step, lp, inGuest[lp] ? r[SeamRegs.RAX] : regs[lp].get(SeamRegs.RAX));
        }
        watcher.completed(step);
    }

    private void guestStatus(FuzzStep step, int lp, long rax) {
        long code = step.operands[FuzzStep.REGISTERS];
        boolean other = rax >>> 62 == 1 || TdxStatus.HOST_PRIORITY_BUSY_TIMEOUT.matches(rax)
                || (rax >>> 32 == 0 && (rax & 0xffff) != ExitReason.TDCALL);
        if (inGuest[lp] ? rax == code && rax != 0 : other) {
            return; // a #VE or a TD exit instead of an end, or an interrupted function
        }
        var status = TdxStatus.of(rax);
        if (status == null) {
            throw new FuzzFinding(String.format(Locale.ROOT, "unknown completion status 0x%x of a TDCALL", rax));
        }
        coverage.guest(code, status);
    }

    private void params(long[] o) {
        long pa = o[0];
        if (!isVmmMemory(pa, TdParams.BYTES)) {
            return;
        }
        memory.fill(pa, TdParams.BYTES, (byte) 0);
        for (int i = 0; i < 6; i++) {
            memory.write(pa + 8 * i, 8, o[i + 1]);
        }
        if (o[7] != 0) {
            memory.write(pa + 256 + 4 * ((o[7] >>> 32) & 0xff), 4, o[7]);
        }
    }

    private void fill(long pa, long value) {
        if ((pa & 0xfff) != 0 || (!isVmmMemory(pa, 4096) && !(FuzzPlatform.inPool(pa) && isFree(pa) && quiet()))) {
            return; // not the VMM's, or perhaps just being given to a TD
        }
        if (value == 0) {
            memory.fill(pa, 4096, (byte) 0);
        }
        for (int i = 0; i < 4096 && value != 0; i += 64) {
            memory.write(pa + i, 8, value + i);
        }
    }

    // Bring-up

    private void boot(int tdmrs) {
        if (!fresh) {
            return;
        }
        hostile.clear();
        memory.fill(FuzzPlatform.HOST, 4096, (byte) 0);
        for (int i = 0; i < tdmrs; i++) {
            long at = FuzzPlatform.HOST + 512 * (i + 1);
            memory.write(FuzzPlatform.HOST + 8 * i, 8, at);
            long[] info = Bringup.tdmrInfo(i);
            for (int j = 0; j < info.length; j++) {
                memory.write(at + 8 * j, 8, info[j]);
            }
        }
        require(0, SeamcallLeaf.SYS_INIT);
        for (int lp = 0; lp < cpus.length; lp++) {
            require(lp, SeamcallLeaf.SYS_LP_INIT);
        }
        require(0, SeamcallLeaf.SYS_CONFIG, FuzzPlatform.HOST, tdmrs, FuzzPlatform.FIRST_PRIVATE_KEY);
        for (int i = 0; i < platform.packages(); i++) {
            require(i * FuzzPlatform.LPS / platform.packages(), SeamcallLeaf.SYS_KEY_CONFIG);
        }
        for (int i = 0; i < tdmrs; i++) {
            for (int n = 0; n < FuzzPlatform.TDMR_BYTES >> TDMR_BYTES_SHIFT; n++) {
                require(0, SeamcallLeaf.SYS_TDMR_INIT, FuzzPlatform.TDMR + i * FuzzPlatform.TDMR_BYTES);
            }
        }
    }

    private void require(int lp, SeamcallLeaf leaf, long... operands) {
        var all = new long[1 + operands.length];
        all[0] = leaf.number();
        System.arraycopy(operands, 0, all, 1, operands.length);
        begin(new FuzzStep(lp, FuzzStep.Kind.CALL, all), () -> call(doing[lp]));
        if (platform.cmrs() == 0 && regs[lp].get(SeamRegs.RAX) != 0) {
            throw new FuzzFinding(String.format(Locale.ROOT, "bring-up: %s gives 0x%x", leaf, regs[lp].get(SeamRegs.RAX)));
        }
    }

    @Override public void close() {
        ended = true;
        running = -1;
        Arrays.stream(lanes).forEach(Lane::close);
        memory.close();
    }
}
