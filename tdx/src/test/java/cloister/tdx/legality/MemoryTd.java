package cloister.tdx.legality;

import cloister.memory.PhysicalMemory;
import cloister.memory.WriteListener;
import cloister.memory.plain.PlainAccess;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamRegs;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Sept;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;

/// A debug TD with three L2 VMs and a Secure EPT down to 4 KiB in each tree, whose entries and PAMT a test sets from below. It knows
/// which words of memory changed and can take the changes back.
final class MemoryTd implements AutoCloseable {
    static final long TDR = RecordedTd.TDR;
    static final long TDVPR = 0x1_0000_a000L;
    /// Tables of the trees at levels 3, 2 and 1, for VM 0 to 3.
    static final long FIRST_TABLE = 0x1_0002_0000L;
    /// A page that the TD has, at [#ADDED_GPA].
    static final long ADDED = 0x1_0003_0000L;
    static final long ADDED_GPA = 0x1000;
    static final long SOURCE = 0x22_0000L;
    static final int L2_VMS = 3;

    private static final int TDCX_PAGES = 9;
    private static final int TDVPX_PAGES = 14;
    private static final int ENTRIES = 512;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;
    private static final ValueLayout.OfLong WORD = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    /// ATTRIBUTES DEBUG and SEPT_VE_DISABLE, XFAM, 4 VCPUs, 3 L2 VMs, EPTP, TSC frequency.
    private static final String TD_PARAMS = "0100001000000000e700000000000000040003000000000"
            + "01e0000000000000000000000000000006400000000000000";
    private static final String RUN = """
            {"op":"seamcall","leaf":17,"in":{"rcx":"0x100000000"},"out":{"rax":"0x0"}}
            {"op":"seamcall","leaf":0,"in":{"rcx":"0x10000a000"},\
            "guest":{"gpr":{"rcx":"0x1234","rdx":"0x806f8","rbx":"0x30","r8":"0x1234"}}}
            {"op":"guest_state","set":{"cs_ar":"0xa09b","efer":"0xd01","cr0":"0x80000031"}}
            """;

    final RecordedTd td;
    private final Map<Long, Long> before = new HashMap<>();
    private final Map<Long, Long> beforeCall = new HashMap<>();
    private boolean recording;

    /// @param running whether the measurement is finalised and the VCPU of LP 0 is in the guest
    MemoryTd(boolean running) {
        td = new RecordedTd(setup() + (running ? RUN : ""));
        td.machine.memory.addWriteListener(new WriteListener() {
            @Override public void written(long pa, long length) {
                for (long at = pa & -8; recording && at < pa + length; at += 8) {
                    long old = td.machine.memory.readPlain(PlainAccess.SILICON, at, 8);
                    before.putIfAbsent(at, old);
                    beforeCall.putIfAbsent(at, old);
                }
            }

            @Override public void watchStarted(long frame) {
            }
        });
    }

    private static String setup() {
        var lines = new StringBuilder("""
                {"op":"include","file":"setup/boot.jsonl"}
                {"op":"seamcall","leaf":9,"in":{"rcx":"0x100000000","rdx":"0x21"},"out":{"rax":"0x0"}}
                {"op":"seamcall","leaf":8,"in":{"rcx":"0x100000000"},"out":{"rax":"0x0"}}
                """);
        for (int i = 1; i <= TDCX_PAGES; i++) {
            lines.append(call(1, 0, TDR + PAGE * i, TDR, 0, 0));
        }
        lines.append("{\"op\":\"host_write\",\"pa\":\"0x210000\",\"fill\":\"00\",\"len\":1024}\n");
        lines.append("{\"op\":\"host_write\",\"pa\":\"0x210000\",\"hex\":\"" + TD_PARAMS + "\"}\n");
        lines.append(call(21, 0, TDR, 0x21_0000, 0, 0));
        lines.append(call(10, 0, TDVPR, TDR, 0, 0));
        for (int i = 1; i <= TDVPX_PAGES; i++) {
            lines.append(call(4, 0, TDVPR + PAGE * i, TDVPR, 0, 0));
        }
        lines.append(call(22, 0, TDVPR, 0x1234, 0, 0));
        for (int level = 3; level > 0; level--) {
            lines.append(call(3, 1, level, TDR, table(level, 0), table(level, 1)));
        }
        return lines + call(2, 0, ADDED_GPA, TDR, ADDED, SOURCE);
    }

    /// A call that succeeds. Of TDH.MEM.SEPT.ADD the tables of VMs 2 and 3 come from that of VM 1.
    private static String call(int leaf, int version, long rcx, long rdx, long r8, long r9) {
        boolean clears = leaf == 2 || leaf == 3;
        var more = version == 0 ? "" : String.format(",\"r10\":\"0x%x\",\"r11\":\"0x%x\"", r9 + PAGE, r9 + 2 * PAGE);
        var used = version == 0 ? "" : ",\"r8\":\"*\",\"r9\":\"*\",\"r10\":\"*\",\"r11\":\"*\"";
        return String.format("{\"op\":\"seamcall\",\"leaf\":%d,\"ver\":%d,\"in\":{\"rcx\":\"0x%x\",\"rdx\":\"0x%x\",\"r8\":\"0x%x\","
                + "\"r9\":\"0x%x\"%s},\"out\":{\"rax\":\"0x0\"%s%s}}%n", leaf, version, rcx, rdx, r8, r9, more,
                clears || leaf == 21 ? ",\"rcx\":\"0x0\"" + (clears ? ",\"rdx\":\"0x0\"" : "") : "", used);
    }

    /// The table that the level-`level` entry for GPA 0 points to in the tree of VM `vm`.
    static long table(int level, int vm) {
        return FIRST_TABLE + PAGE * (4 * (3 - level) + vm);
    }

    // What the TD consists of

    PhysicalMemory memory() {
        return td.machine.memory;
    }

    ModuleState module() {
        return td.machine.core.module;
    }

    Tdcs tdcs() {
        return td.tdcs;
    }

    /// The entry for `gpa` at `level` in the tree of VM `vm`.
    Sept.Slot entry(int vm, long gpa, int level) {
        var slot = new Sept(memory(), td.tdr.keyId()).walk(tdcs().septp(td.tdr, vm), gpa, level);
        if (slot.level() != level) {
            throw new IllegalStateException(String.format("no tables down to level %d of GPA 0x%x, VM %d", level, gpa, vm));
        }
        return slot;
    }

    /// The PAMT entry of a page of 4 KiB, 2 MiB or 1 GiB.
    PamtEntry pamt(long pa, int size) {
        var info = module().tdmrs.getFirst().info;
        return new PamtEntry(memory(), PhysicalMemory.hpa(info.pamtBase()[size], module().globalKeyId)
                + PamtEntry.BYTES * ((pa - info.base()) >>> (12 + 9 * size)));
    }

    /// Gives a page to the TD.
    void own(long pa, int size, int type) {
        pamt(pa, size).assign(type, TDR);
    }

    /// Makes a page a table of the TD, all entries `entry`.
    void makeTable(long pa, long entry) {
        own(pa, 0, PageType.EPT);
        module().fillPage(td.tdr.withKey(pa), entry);
    }

    /// Makes a page a table of the TD that maps 512 pages behind `pagePa`, of 4 KiB (`level` 0) or 2 MiB.
    void makeFullTable(long pa, long entry, long pagePa, int level) {
        makeTable(pa, 0);
        for (int i = 0; i < ENTRIES; i++) {
            long partPa = pagePa + ((long) i << (12 + 9 * level));
            memory().write(td.tdr.withKey(pa) + 8L * i, 8, entry | partPa);
            own(partPa, level, PageType.REG);
        }
    }

    long privateWord(long pa) {
        return memory().read(td.tdr.withKey(pa), 8);
    }

    void opState(OpState state) {
        tdcs().opState(state);
    }

    long children() {
        return td.tdr.u64(Tdr.CHLDCNT);
    }

    // Calls

    static SeamRegs regs(int leaf, int version, long... operands) {
        var regs = new SeamRegs();
        int[] order = {SeamRegs.RCX, SeamRegs.RDX, SeamRegs.R8, SeamRegs.R9, SeamRegs.R10, SeamRegs.R11};
        regs.set(SeamRegs.RAX, leaf | (version << 16));
        for (int i = 0; i < operands.length; i++) {
            regs.set(order[i], operands[i]);
        }
        return regs;
    }

    /// A SEAMCALL of LP 0 or, while that runs the guest, of LP 1.
    SeamRegs call(SeamRegs regs) {
        td.machine.seamcall(td.machine.inGuest(0) ? 1 : 0, regs);
        return regs;
    }

    // Changes

    /// From here on changes are remembered, and can be taken back.
    void record() {
        before.clear();
        beforeCall.clear();
        recording = true;
    }

    /// [#changes] begin here.
    void mark() {
        beforeCall.clear();
    }

    /// The words that changed since [#mark], by physical address, and what they are now.
    Map<Long, Long> changes() {
        var result = new TreeMap<Long, Long>();
        beforeCall.forEach((pa, old) -> {
            long now = memory().readPlain(PlainAccess.SILICON, pa, 8);
            if (now != old) {
                result.put(pa, now);
            }
        });
        return result;
    }

    /// Makes the contents of memory what they were at [#record].
    void takeBack() {
        recording = false;
        before.forEach((pa, old) -> memory().window(PlainAccess.SILICON).set(WORD, pa, old));
    }

    /// Builds the TD anew.
    void powerOn() {
        recording = false;
        td.powerOn();
    }

    @Override public void close() {
        td.close();
    }
}
