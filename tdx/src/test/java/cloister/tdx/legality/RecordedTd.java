package cloister.tdx.legality;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Sept;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.replay.RecordedMemory;
import cloister.tdx.replay.VectorMachine;
import cloister.tdx.replay.VectorPlatform;
import cloister.tdx.replay.VectorReplay;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// A TD that the recordings' setup steps built, whose state a test sets from below and which it then calls as any host or guest does.
final class RecordedTd implements AutoCloseable {
    static final long TDR = 0x1_0000_0000L;
    static final long TDVPR = 0x1_0000_7000L;
    private static final int TDCALL = 77;
    private static final int CPUID = 10;
    private static final Path VECTORS = Path.of("..", "vectors", "1.5.06");

    final VectorPlatform platform;
    private final RecordedMemory memory;
    private final Map<String, List<JsonObject>> read = new HashMap<>();
    VectorMachine machine;
    Tdr tdr;
    Tdcs tdcs;
    VectorReplay replay;

    /// @param setup lines of a scenario without its header
    RecordedTd(String setup) {
        platform = new VectorPlatform(JsonParser.parseString(text("platform-spr-1lp4.json")).getAsJsonObject());
        memory = new RecordedMemory(platform);
        read.put("made", lines("{}\n" + setup));
        powerOn();
    }

    private static String text(String name) {
        try {
            return Files.readString(VECTORS.resolve(name));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static List<JsonObject> lines(String text) {
        return text.lines().map(line -> JsonParser.parseString(line).getAsJsonObject()).toList();
    }

    /// Builds the TD anew.
    void powerOn() {
        replay = new VectorReplay(name -> read.computeIfAbsent(name, n -> lines(text(n))), platform, memory);
        try {
            replay.run("made");
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        machine = replay.machine();
        tdr = new Tdr(machine.memory, TDR, platform.firstPrivateKeyId);
        tdcs = new Tdcs(machine.memory, tdr);
    }

    /// A SEAMCALL of LP 0.
    SeamRegs seamcall(int leaf, long rcx, long rdx, long r8, long r9) {
        var regs = new SeamRegs();
        long[] r = regs.array();
        r[0] = leaf;
        r[1] = rcx;
        r[2] = rdx;
        r[8] = r8;
        r[9] = r9;
        machine.seamcall(0, regs);
        return regs;
    }

    /// A TDCALL of the vCPU on LP 0.
    ///
    /// @return whether the guest goes on
    boolean tdcall(int leaf, long rcx, long rdx, long r8) {
        var gpr = machine.cpus[0].registers();
        gpr[0] = leaf;
        gpr[1] = rcx;
        gpr[2] = rdx;
        gpr[8] = r8;
        var vmcs = machine.core.vmcs(machine.cpus[0]);
        vmcs.write(VmcsField.EXIT_REASON, TDCALL);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, 0);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, 4);
        return machine.vmExit(0);
    }

    /// CPUID as the vCPU on LP 0 sees it: EAX, EBX, ECX, EDX.
    int[] cpuid(int leaf, int subleaf) {
        var gpr = machine.cpus[0].registers();
        gpr[0] = leaf;
        gpr[1] = subleaf;
        var vmcs = machine.core.vmcs(machine.cpus[0]);
        vmcs.write(VmcsField.EXIT_REASON, CPUID);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, 0);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, 2);
        if (!machine.vmExit(0) || vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO) != 0) {
            throw new IllegalStateException("CPUID raised an exception");
        }
        return new int[] {(int) gpr[0], (int) gpr[3], (int) gpr[1], (int) gpr[2]};
    }

    long guest(int register) {
        return machine.cpus[0].registers()[register];
    }

    /// The Secure EPT entry of `gpa` at `level`.
    Sept.Slot entry(long gpa, int level) {
        var slot = new Sept(machine.memory, tdr.keyId()).walk(tdcs.eptp(), gpa, level);
        if (slot.level() != level) {
            throw new IllegalStateException("the setup has no Secure EPT down to level " + level);
        }
        return slot;
    }

    @Override public void close() {
        memory.close();
    }
}
