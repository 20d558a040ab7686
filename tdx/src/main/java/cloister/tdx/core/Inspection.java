package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.memory.Poison;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.KeyIdRange;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.LpSnapshot;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.PackageSnapshot;
import cloister.tdx.inspect.PamtRange;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.TdSnapshot;
import cloister.tdx.inspect.TdSnapshot.Measurement;
import cloister.tdx.inspect.TdmrSnapshot;
import cloister.tdx.inspect.VpSnapshot;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/// Takes a snapshot of the module. Changes nothing, takes no lock, and survives what a leaf function would not.
public final class Inspection {
    private static final int RTMRS = 4;

    private final ModuleState module;
    /// Stands where the metadata code wants to know who asks; it runs on no processor.
    private final LpState observer;
    private final Collection<LpState> lps;

    private Inspection(ModuleState module, Collection<LpState> lps) {
        this.module = module;
        this.lps = lps;
        this.observer = new LpState(module, null);
    }

    public static ModuleSnapshot of(ModuleState module, Collection<LpState> lps) {
        return new Inspection(module, lps).snapshot();
    }

    private ModuleSnapshot snapshot() {
        var inspection = new PamtInspection(module);
        var pamt = inspection.ranges();
        var locks = new ArrayList<Lock>();
        locks.add(lock("GLOBAL_LOCK", plainLock(module.globalLock.get())));
        locks.add(lock("KOT_LOCK", plainLock(module.keys.lock.get())));
        locks.addAll(inspection.upperLocks());
        boolean sampled = module.sysState != SysState.INIT_PENDING;
        return new ModuleSnapshot(module.sysState.name(), module.initializedLps, module.busyLps, module.globalKeyId, processors(),
                packages(),
                List.copyOf(locks), sampled ? FieldInspection.system(module) : new Fields(List.of()),
                sampled ? keyIds() : List.of(), module.tdmrs.stream().map(Inspection::tdmr).toList(), pamt,
                pages(pamt, "PT_TDR", -1).mapToObj(pa -> td(pa, pamt)).toList());
    }

    // Logical processors, packages, and who holds a lock

    private List<LpSnapshot> processors() {
        return lps.stream().map(Inspection::processor).sorted(Comparator.comparingInt(LpSnapshot::lp)).toList();
    }

    private static LpSnapshot processor(LpState lp) {
        boolean runs = lp.vcpu != null;
        return new LpSnapshot(lp.cpu.lp(), lp.initialized, lp.packageId, function(lp), runs ? lp.tdr.pa : 0, runs ? lp.vcpu.tdvprPa : 0,
                runs ? currentVm(lp) : 0, lp.lastTdvprPa);
    }

    private static String function(LpState lp) {
        if (lp.regs == null) {
            return "";
        }
        int number = (int) lp.reg(LpState.RAX) & 0xffff;
        var leaf = lp.vcpu != null ? SeamcallLeaf.VP_ENTER : SeamcallLeaf.of(number);
        return leaf == null ? "SEAMCALL leaf " + number : leaf.specificationName();
    }

    private static int currentVm(LpState lp) {
        try {
            return lp.vcpu.currentVm();
        } catch (Poison destroyed) {
            return 0;
        }
    }

    private List<PackageSnapshot> packages() {
        var packages = new ArrayList<PackageSnapshot>();
        for (int i = 0; i < module.platform.packages(); i++) {
            var cycle = module.writeBack[i];
            packages.add(new PackageSnapshot(i, ((module.packageConfigBitmap >>> i) & 1) != 0, lock("WBCACHE_LOCK",
                    plainLock(cycle.lock.get())),
                    cycle.interruptionPoint, cycle.flushedKeyIds.stream().boxed().toList()));
        }
        return List.copyOf(packages);
    }

    /// A lock that functions release before they return, or before a guest runs.
    private Lock lock(String name, String state) {
        return new Lock(name, state, state.equals(Lock.FREE) ? List.of() : holders(lp -> lp.regs != null && lp.vcpu == null));
    }

    /// The lock of a control page, which the LPs that run a guest of it hold.
    private Lock pageLock(String name, long pa, Predicate<LpState> runs) {
        String state = PamtInspection.lockOf(module, pa);
        var running = holders(runs);
        return new Lock(name, state, state.equals(Lock.FREE) ? List.of() : running.isEmpty() ? lock(name, state).holders() : running);
    }

    private List<Integer> holders(Predicate<LpState> holds) {
        return lps.stream().filter(holds).map(lp -> lp.cpu.lp()).sorted().toList();
    }

    private static LongStream pages(List<PamtRange> pamt, String type, long owner) {
        return pamt.stream().filter(r -> r.type().equals(type) && (owner < 0 || r.owner() == owner))
                .flatMapToLong(r -> LongStream.iterate(r.start(), pa -> pa < r.end(), pa -> pa + PhysicalMemory.FRAME_SIZE));
    }

    private List<KeyIdRange> keyIds() {
        var ranges = new ArrayList<KeyIdRange>();
        for (int id = module.config.privateKeyIdMin; id <= module.config.privateKeyIdMax; id++) {
            String state = module.keys.state(id).name();
            int packages = module.keys.writeBackPackages(id);
            var last = ranges.isEmpty() ? null : ranges.getLast();
            if (last != null && last.state().equals(state) && last.writeBackPackages() == packages) {
                ranges.set(ranges.size() - 1, new KeyIdRange(last.first(), id, state, packages));
            } else {
                ranges.add(new KeyIdRange(id, id, state, packages));
            }
        }
        return List.copyOf(ranges);
    }

    private static TdmrSnapshot tdmr(Tdmr tdmr) {
        var info = tdmr.info;
        var reserved = IntStream.range(0, TdmrInfo.MAX_RESERVED).takeWhile(i -> info.rsvdSize()[i] != 0)
                .mapToObj(i -> new TdmrSnapshot.Area(info.base() + info.rsvdOffset()[i], info.rsvdSize()[i])).toList();
        return new TdmrSnapshot(info.base(), info.size(), tdmr.lastInitialized, LongStream.of(info.pamtBase()).boxed().toList(),
                LongStream.of(info.pamtSize()).boxed().toList(), reserved, plainLock(tdmr.lock.get()));
    }

    private TdSnapshot td(long tdrPa, List<PamtRange> pamt) {
        var tdr = module.tdr(tdrPa);
        var locks = new ArrayList<Lock>();
        locks.add(pageLock("TDR", tdrPa, lp -> lp.tdrPage != null && lp.tdrPage.pa() == tdrPa));
        var measurements = new ArrayList<Measurement>();
        var vps = new ArrayList<VpSnapshot>();
        var fields = new Fields(List.of());
        String opState = "none";
        SeptTable secureEpt = null;
        var l2 = new ArrayList<SeptTable>();
        try {
            if (tdr.lifecycleState() != Tdr.TEARDOWN && tdr.numTdcx() >= Tdcs.MIN_PAGES) {
                var tdcs = new Tdcs(module.memory, tdr);
                opState = tdcs.opState().name();
                fields = FieldInspection.tdcs(module, tdr, tdcs);
                locks(tdcs, locks);
                measurements(tdcs, measurements);
                pages(pamt, "PT_TDVPR", tdrPa).forEach(pa -> vps.add(vp(pa, tdr, tdcs)));
                vps.sort(Comparator.comparing((VpSnapshot vp) -> vp.tdVmcs().fields().isEmpty())
                        .thenComparing(vp -> vp.tdvps().value("VCPU_INDEX")));
                if (tdcs.opState().anyInitialized()) {
                    var sept = new SeptInspection(module.memory);
                    secureEpt = sept.root(tdcs);
                    for (int vm = 1; vm <= tdcs.numL2Vms(); vm++) {
                        l2.add(sept.root(tdr, tdcs, vm));
                    }
                }
            }
        } catch (Poison destroyed) {
            opState = "none"; // the host wrote to the TD's pages; what could be read stands
        }
        return new TdSnapshot(tdrPa, lifecycle(tdr), opState, List.copyOf(locks), List.copyOf(measurements),
                FieldInspection.tdr(tdr), fields, List.copyOf(vps), secureEpt, List.copyOf(l2));
    }

    private void locks(Tdcs tdcs, List<Lock> locks) {
        locks.add(lock("OP_STATE_LOCK", hostPriorityLock(tdcs.u16(Tdcs.OP_STATE_LOCK))));
        locks.add(lock("SECURE_EPT_LOCK", plainLock(tdcs.u16(Tdcs.SECURE_EPT_LOCK))));
        locks.add(lock("EPOCH_LOCK", plainLock(tdcs.u16(Tdcs.EPOCH_LOCK))));
        locks.add(lock("RTMR_LOCK", hostPriorityLock(tdcs.u16(Tdcs.RTMR_LOCK))));
        locks.add(lock("MIG_LOCK", plainLock(tdcs.u16(Tdcs.MIG_LOCK))));
        locks.add(lock("SERVTD_BINDINGS_LOCK", hostPriorityLock(tdcs.u16(Tdcs.SERVTD_BINDINGS_LOCK))));
    }

    private static void measurements(Tdcs tdcs, List<Measurement> measurements) {
        var hex = HexFormat.of();
        measurements.add(new Measurement("MRTD", hex.formatHex(tdcs.bytes(Tdcs.MRTD, cloister.tdx.core.Measurement.HASH_BYTES))));
        for (int i = 0; i < RTMRS; i++) {
            int bytes = cloister.tdx.core.Measurement.HASH_BYTES;
            measurements.add(new Measurement("RTMR" + i, hex.formatHex(tdcs.bytes(Tdcs.RTMR + i * bytes, bytes))));
        }
    }

    private VpSnapshot vp(long tdvprPa, Tdr tdr, Tdcs tdcs) {
        var whole = Tdvps.whole(module.memory, tdvprPa, tdr.keyId(), tdcs.numL2Vms());
        var vcpu = whole != null ? whole : Tdvps.rootOnly(module.memory, tdvprPa, tdr.keyId());
        var l2 = new ArrayList<Fields>();
        for (int vm = 1; vm <= tdcs.numL2Vms() && module.vcpu(tdvprPa) != null; vm++) {
            l2.add(FieldInspection.l2Vmcs(observer, tdr, tdcs, vcpu, vm));
        }
        return new VpSnapshot(tdvprPa, pageLock("TDVPR", tdvprPa, lp -> lp.vcpu != null && lp.vcpu.tdvprPa == tdvprPa), vcpuState(vcpu),
                FieldInspection.tdvps(observer, tdr, tdcs, vcpu), FieldInspection.tdVmcs(observer, tdr, tdcs, vcpu), List.copyOf(l2));
    }

    private static String lifecycle(Tdr tdr) {
        try {
            int state = tdr.lifecycleState();
            return switch (state) {
                case Tdr.HKID_ASSIGNED -> "TD_HKID_ASSIGNED";
                case Tdr.KEYS_CONFIGURED -> "TD_KEYS_CONFIGURED";
                case Tdr.BLOCKED -> "TD_BLOCKED";
                case Tdr.TEARDOWN -> "TD_TEARDOWN";
                default -> "invalid " + state;
            };
        } catch (Poison destroyed) {
            return "destroyed";
        }
    }

    private static String vcpuState(Tdvps vcpu) {
        return switch (vcpu.state()) {
            case Tdvps.UNINITIALIZED -> "VCPU_UNINITIALIZED";
            case Tdvps.READY -> "VCPU_READY";
            case Tdvps.ACTIVE -> "VCPU_ACTIVE";
            case Tdvps.DISABLED -> "VCPU_DISABLED";
            default -> "invalid " + vcpu.state();
        };
    }

    /// The state of a [Sharex].
    private static String plainLock(int word) {
        return held((word & 1) != 0, word >>> 1, false);
    }

    /// The state of a [SharexHp].
    static String hostPriorityLock(int word) {
        return held((word & 1) != 0, word >>> 2, (word & 2) != 0);
    }

    private static String held(boolean exclusive, int readers, boolean hostPriority) {
        var words = new ArrayList<String>();
        if (exclusive) {
            words.add("exclusive");
        }
        if (readers != 0) {
            words.add("shared " + readers);
        }
        if (hostPriority) {
            words.add("host priority");
        }
        return words.isEmpty() ? Lock.FREE : String.join(", ", words);
    }
}
