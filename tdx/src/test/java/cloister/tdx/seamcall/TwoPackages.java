package cloister.tdx.seamcall;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.dispatch.SeamCore;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.port.PlatformInfo.Cmr;
import cloister.tdx.port.Processor;
import cloister.tdx.replay.RecordedProcessor;
import cloister.tdx.replay.VectorPlatform;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/// A platform of two packages with eight LPs each, the module just loaded. The processors are those of the recordings, which have
/// one package; what they do to the platform as a whole is written down, and a test may make PCONFIG fail.
final class TwoPackages implements AutoCloseable {
    static final int LPS = 16;
    /// As many x2APIC IDs as the recorded CPUID leaves 4 and 1FH give to a package.
    static final int LPS_PER_PACKAGE = 8;
    static final long GIB = 1L << 30;
    static final long TDMR = 4 * GIB;
    static final long SECOND_TDMR = 7 * GIB;
    static final int GLOBAL_KEY = 32;
    static final long HOST = 0x20_0000;
    static final List<Cmr> CMRS = List.of(new Cmr(0x10_0000, 0x6ff0_0000L), new Cmr(4 * GIB, 4 * GIB));
    private static final long PAMT = 6 * GIB;
    private static final long RFLAGS_IF = 1 << 9;
    private static final int WBNOINVDP = 0x99;
    private static final int FIRST_PRIVATE_KEY = 32;
    private static final VectorPlatform RECORDED = recorded();

    final PhysicalMemory memory = new PhysicalMemory(8 * GIB, FIRST_PRIVATE_KEY);
    final SeamCore core;
    final RecordedProcessor[] recorded = new RecordedProcessor[LPS];
    /// The x2APIC ID of each LP.
    final int[] x2apicIds = new int[LPS];
    /// What PCONFIG gives.
    int pconfigResult;
    /// Words that CPUID registers are exclusive-ored with: leaf, sub-leaf, register, word.
    final List<int[]> cpuidFlips = new ArrayList<>();
    /// "lp 3 programs key 32", "lp 3 writes back block 1"
    final List<String> platformEvents = new ArrayList<>();
    private final Processor[] cpus = new Processor[LPS];

    TwoPackages() {
        this(new PlatformInfo(LPS, 2, CMRS, List.of(0x806f8, 0x806f6)));
    }

    TwoPackages(PlatformInfo info) {
        core = new SeamCore(memory, info);
        var clock = new RecordedProcessor.Clock();
        for (int i = 0; i < LPS; i++) {
            x2apicIds[i] = i;
            recorded[i] = new RecordedProcessor(i, clock, this::cpuid, RECORDED.report, RECORDED.msrs);
            recorded[i].seamVmcs().write(VmcsField.GUEST_RFLAGS, RFLAGS_IF);
            cpus[i] = watched(recorded[i], i);
        }
    }

    private static VectorPlatform recorded() {
        try {
            var text = Files.readString(Path.of("..", "vectors", "1.5.06", "platform-spr-1lp4.json"));
            return new VectorPlatform(JsonParser.parseString(text).getAsJsonObject());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void cpuid(int lp, int leaf, int subleaf, int[] out) {
        RECORDED.cpuid(x2apicIds[lp], leaf, subleaf, out);
        for (var flip : cpuidFlips) {
            if (flip[0] == leaf && flip[1] == subleaf) {
                out[flip[2]] ^= flip[3];
            }
        }
    }

    private Processor watched(RecordedProcessor processor, int lp) {
        return (Processor) Proxy.newProxyInstance(Processor.class.getClassLoader(), new Class<?>[] {Processor.class},
                (_, method, args) -> {
                    if (method.getName().equals("programKey")) {
                        platformEvents.add("lp " + lp + " programs key " + args[0]);
                        return pconfigResult;
                    }
                    if (method.getName().equals("wrmsr") && (int) args[0] == WBNOINVDP) {
                        platformEvents.add("lp " + lp + " writes back block " + args[1]);
                    }
                    try {
                        return method.invoke(processor, args);
                    } catch (InvocationTargetException e) {
                        throw e.getCause();
                    }
                });
    }

    ModuleState module() {
        return core.module;
    }

    LpState lp(int lp) {
        return core.lp(cpus[lp]);
    }

    /// A SEAMCALL with the operands in RCX, RDX, R8 and R9.
    SeamRegs call(int lp, SeamcallLeaf leaf, long... operands) {
        return call(lp, (long) leaf.number(), operands);
    }

    SeamRegs call(int lp, long rax, long... operands) {
        int[] order = {SeamRegs.RCX, SeamRegs.RDX, SeamRegs.R8, SeamRegs.R9};
        var regs = new SeamRegs();
        regs.set(SeamRegs.RAX, rax);
        for (int i = 0; i < operands.length; i++) {
            regs.set(order[i], operands[i]);
        }
        core.call(cpus[lp], regs);
        return regs;
    }

    /// The status of [#call].
    long status(int lp, SeamcallLeaf leaf, long... operands) {
        return call(lp, leaf, operands).get(SeamRegs.RAX);
    }

    /// A SEAMCALL that must succeed.
    void succeed(int lp, SeamcallLeaf leaf, long... operands) {
        long status = status(lp, leaf, operands);
        if (status != 0) {
            throw new IllegalStateException(String.format("%s gives %016x", leaf.specificationName(), status));
        }
    }

    /// Writes a TDMR_INFO and its place in the array at [#HOST].
    void tdmrInfo(int index, long base, long size, long pamt, long... reserved) {
        long at = HOST + 0x1000 + 512L * index;
        memory.write(HOST + 8L * index, 8, at);
        long entries4k = size >> 12;
        long[] fields = {base, size, pamt, 0x1000, pamt + 0x1000, ((entries4k * 16) >> 9) | 0x1000, pamt + 0x10_0000, entries4k * 16};
        for (int i = 0; i < fields.length; i++) {
            memory.write(at + 8L * i, 8, fields[i]);
        }
        for (int i = 0; i < reserved.length; i++) {
            memory.write(at + 64 + 8L * i, 8, reserved[i]);
        }
    }

    /// Up to where the TDMRs can be configured.
    void initializeLps() {
        succeed(0, SeamcallLeaf.SYS_INIT);
        for (int i = 0; i < LPS; i++) {
            succeed(i, SeamcallLeaf.SYS_LP_INIT);
        }
    }

    /// Two TDMRs: 2 GiB of which the last 4 MiB but one page are reserved, and 1 GiB.
    void configure() {
        initializeLps();
        tdmrInfo(0, TDMR, 2 * GIB, PAMT, 2 * GIB - 0x40_0000, 0x3f_f000);
        tdmrInfo(1, SECOND_TDMR, GIB, PAMT + 0x100_0000);
        succeed(0, SeamcallLeaf.SYS_CONFIG, HOST, 2, GLOBAL_KEY);
    }

    /// Up to the state in which TDs can be created, but without memory for them.
    void makeReady() {
        configure();
        succeed(0, SeamcallLeaf.SYS_KEY_CONFIG);
        succeed(LPS_PER_PACKAGE, SeamcallLeaf.SYS_KEY_CONFIG);
        platformEvents.clear();
    }

    /// Makes the first GiB of the first TDMR usable.
    void initializeGib() {
        for (int i = 0; i < 256; i++) {
            succeed(0, SeamcallLeaf.SYS_TDMR_INIT, TDMR);
        }
    }

    /// The interrupts, NMIs and others that wait on an LP.
    void pending(int lp, long events) {
        recorded[lp].msr(0x9a, events);
    }

    void interruptsEnabled(int lp, boolean enabled) {
        recorded[lp].seamVmcs().write(VmcsField.GUEST_RFLAGS, enabled ? RFLAGS_IF : 0);
    }

    @Override public void close() {
        memory.close();
    }
}
