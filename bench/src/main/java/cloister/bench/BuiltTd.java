package cloister.bench;

import cloister.kvm.HostEnvironment;
import cloister.kvm.host.Host;
import cloister.kvm.tdx.KvmSeam;
import cloister.kvm.vcpu.SeamCounters;
import cloister.kvm.tdx.TdxSystem;
import cloister.memory.PhysicalMemory;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.TdParams;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import java.util.Locale;
import java.util.Random;

/// A trust domain on a platform of its own, built by the SEAMCALLs that KVM makes, in KVM's order. Every SEAMCALL goes through a
/// logical processor into the real module; one that does not succeed ends the benchmark.
final class BuiltTd implements AutoCloseable {
    static final long PAGE = PhysicalMemory.FRAME_SIZE;
    private static final long PLATFORM_MEMORY = 512L << 20;
    private static final long EXTEND_CHUNK = 256;
    private static final long LARGE = 2L << 20;
    private static final long HUGE = 1L << 30;

    final KvmSeam seam;
    private final Platform platform;
    private final Host host;
    private final TdxSystem system;
    private final SeamRegs out = new SeamRegs();
    private long tdr;
    private long tdvpr;

    /// The platform with its module up; no TD yet.
    BuiltTd() {
        platform = new Platform(new PlatformOptions(1, PLATFORM_MEMORY, 1, new RoundRobin(), Scheduler.IdlePace.SKIP));
        host = new Host(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(),
                platform.freeStartPa(), platform.freeEndPa()));
        host.enableVirtualization();
        system = new TdxSystem(host);
        seam = new KvmSeam(host, new SeamCounters());
    }

    private static void check(String leaf, long status) {
        if (status != 0) {
            throw new IllegalStateException(String.format(Locale.ROOT, "%s: 0x%x", leaf, status));
        }
    }

    long frame() {
        return host.frames().allocate();
    }

    /// Host frames with random content.
    long[] sources(int pages) {
        var frames = frames(pages);
        var random = new Random(1);
        byte[] content = new byte[(int) PAGE];
        for (long pa : frames) {
            random.nextBytes(content);
            platform.memory().write(pa, content, 0, content.length);
        }
        return frames;
    }

    long[] frames(int count) {
        long[] frames = new long[count];
        for (int i = 0; i < count; i++) {
            frames[i] = frame();
        }
        return frames;
    }

    /// TDH.MNG.CREATE to TDH.VP.INIT: one vCPU, no memory.
    void create() {
        tdr = frame();
        int keyId = system.allocateKeyId();
        check("TDH.MNG.CREATE", seam.mngCreate(tdr, keyId));
        check("TDH.MNG.KEY.CONFIG", seam.mngKeyConfig(host.cpus().get(0), tdr));
        for (int i = 0; i < system.tdcsPages(); i++) {
            check("TDH.MNG.ADDCX", seam.mngAddcx(tdr, frame()));
        }
        long params = frame();
        var memory = platform.memory();
        memory.write(params + TdParams.ATTRIBUTES, 8, system.attributesFixed1());
        memory.write(params + TdParams.XFAM, 8, 3 | system.xfamFixed1());
        memory.write(params + TdParams.MAX_VCPUS, 2, 1);
        memory.write(params + TdParams.EPTP_CONTROLS, 8, Ept.TYPE_WB | (3 << 3));
        memory.write(params + TdParams.CONFIG_FLAGS, 8, TdParams.FLAG_NO_RBP_MOD);
        memory.write(params + TdParams.TSC_FREQUENCY, 2, Platform.TSC_HZ / TdParams.TSC_UNIT_HZ);
        check("TDH.MNG.INIT", seam.mngInit(tdr, params, out));
        tdvpr = frame();
        check("TDH.VP.CREATE", seam.vpCreate(tdvpr, tdr));
        for (int i = 0; i < system.tdcxPages(); i++) {
            check("TDH.VP.ADDCX", seam.vpAddcx(tdvpr, frame()));
        }
        check("TDH.VP.INIT", seam.vpInit(tdvpr, 0, 0));
        check("TDH.VP.WR", seam.vpWr(tdvpr, VmcsField.SHARED_EPTP.encoding(), frame(), -1));
    }

    /// The Secure EPT for `bytes` of guest memory from address 0.
    void tables(long bytes) {
        check("TDH.MEM.SEPT.ADD", seam.memSeptAdd(tdr, 0, 4, frame(), out));
        tablesBelow(0, bytes);
    }

    /// The same from `start`, below the first 512 GiB's table.
    void tablesBelow(long start, long bytes) {
        for (long gpa = start & -HUGE; gpa < start + bytes; gpa += HUGE) {
            check("TDH.MEM.SEPT.ADD", seam.memSeptAdd(tdr, gpa, 3, frame(), out));
        }
        for (long gpa = start & -LARGE; gpa < start + bytes; gpa += LARGE) {
            check("TDH.MEM.SEPT.ADD", seam.memSeptAdd(tdr, gpa, 2, frame(), out));
        }
    }

    /// TDH.MEM.PAGE.ADD, then TDH.MR.EXTEND of its sixteen chunks.
    void addMeasured(long gpa, long pa, long source) {
        check("TDH.MEM.PAGE.ADD", seam.memPageAdd(tdr, gpa, pa, source, out));
        for (long at = gpa; at < gpa + PAGE; at += EXTEND_CHUNK) {
            check("TDH.MR.EXTEND", seam.mrExtend(tdr, at, out));
        }
    }

    void finish() {
        check("TDH.MR.FINALIZE", seam.mrFinalize(tdr));
    }

    void augment(long gpa, long pa) {
        check("TDH.MEM.PAGE.AUG", seam.memPageAug(tdr, gpa, 1, pa, out));
    }

    /// TDH.MEM.RANGE.BLOCK, TDH.MEM.TRACK, TDH.MEM.PAGE.REMOVE.
    void remove(long gpa) {
        check("TDH.MEM.RANGE.BLOCK", seam.memRangeBlock(tdr, gpa, 1, out));
        check("TDH.MEM.TRACK", seam.memTrack(tdr));
        check("TDH.MEM.PAGE.REMOVE", seam.memPageRemove(tdr, gpa, 1, out));
    }

    /// Runs the TD until its first TDG.VP.VMCALL.
    ///
    /// @return the sub-function that it asks for
    long enter() {
        out.clear();
        long status = KvmSeam.vpEnter(host.cpus().get(0), tdvpr, out);
        if ((int) status != ExitReason.TDCALL) {
            throw new IllegalStateException(String.format(Locale.ROOT, "TDH.VP.ENTER: 0x%x, qualification 0x%x, GPA 0x%x", status,
                    out.get(SeamRegs.RCX), out.get(SeamRegs.R8)));
        }
        return out.get(SeamRegs.R11);
    }

    void write(long pa, byte[] content) {
        platform.memory().write(pa, content, 0, content.length);
    }

    @Override public void close() {
        platform.close();
    }
}
