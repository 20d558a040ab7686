package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.memory.Poison;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.KeyIdRange;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.PamtRange;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.TdSnapshot;
import cloister.tdx.inspect.TdSnapshot.Measurement;
import cloister.tdx.inspect.TdmrSnapshot;
import cloister.tdx.inspect.VpSnapshot;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/// Takes a snapshot of the module. Changes nothing, takes no lock, and survives what a leaf function would not.
public final class Inspection {
    private static final int RTMRS = 4;

    private final ModuleState module;
    /// Stands where the metadata code wants to know who asks; it runs on no processor.
    private final LpState observer;

    private Inspection(ModuleState module) {
        this.module = module;
        this.observer = new LpState(module, null);
    }

    public static ModuleSnapshot of(ModuleState module) {
        return new Inspection(module).snapshot();
    }

    private ModuleSnapshot snapshot() {
        var pamt = new PamtInspection(module).ranges();
        boolean sampled = module.sysState != SysState.INIT_PENDING;
        return new ModuleSnapshot(module.sysState.name(), module.initializedLps, module.busyLps, module.globalKeyId,
                List.of(new Lock("GLOBAL_LOCK", plainLock(module.globalLock.get())),
                        new Lock("KOT_LOCK", plainLock(module.keys.lock.get()))),
                sampled ? FieldInspection.system(module) : new Fields(List.of()),
                sampled ? keyIds() : List.of(), module.tdmrs.stream().map(Inspection::tdmr).toList(), pamt,
                pages(pamt, "PT_TDR", -1).mapToObj(pa -> td(pa, pamt)).toList());
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
        locks.add(new Lock("TDR", PamtInspection.lockOf(module, tdrPa)));
        var measurements = new ArrayList<Measurement>();
        var vps = new ArrayList<VpSnapshot>();
        var fields = new Fields(List.of());
        String opState = "none";
        SeptTable secureEpt = null;
        try {
            if (tdr.lifecycleState() != Tdr.TEARDOWN && tdr.numTdcx() >= Tdcs.MIN_PAGES) {
                var tdcs = new Tdcs(module.memory, tdr);
                opState = tdcs.opState().name();
                fields = FieldInspection.tdcs(module, tdr, tdcs);
                locks(tdcs, locks);
                measurements(tdcs, measurements);
                pages(pamt, "PT_TDVPR", tdrPa).forEach(pa -> vps.add(vp(pa, tdr, tdcs)));
                secureEpt = tdcs.opState().anyInitialized() ? new SeptInspection(module.memory).root(tdcs) : null;
            }
        } catch (Poison destroyed) {
            opState = "none"; // the host wrote to the TD's pages; what could be read stands
        }
        return new TdSnapshot(tdrPa, lifecycle(tdr), opState, List.copyOf(locks), List.copyOf(measurements),
                FieldInspection.tdr(tdr), fields, List.copyOf(vps), secureEpt);
    }

    private static void locks(Tdcs tdcs, List<Lock> locks) {
        locks.add(new Lock("OP_STATE_LOCK", hostPriorityLock(tdcs.u16(Tdcs.OP_STATE_LOCK))));
        locks.add(new Lock("SECURE_EPT_LOCK", plainLock(tdcs.u16(Tdcs.SECURE_EPT_LOCK))));
        locks.add(new Lock("EPOCH_LOCK", plainLock(tdcs.u16(Tdcs.EPOCH_LOCK))));
        locks.add(new Lock("RTMR_LOCK", plainLock(tdcs.u16(Tdcs.RTMR_LOCK))));
        locks.add(new Lock("SERVTD_BINDINGS_LOCK", plainLock(tdcs.u16(Tdcs.SERVTD_BINDINGS_LOCK))));
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
        return new VpSnapshot(tdvprPa, PamtInspection.lockOf(module, tdvprPa), vcpuState(vcpu),
                FieldInspection.tdvps(observer, tdr, tdcs, vcpu), FieldInspection.tdVmcs(observer, tdr, tdcs, vcpu));
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
    public static String plainLock(int word) {
        return held((word & 1) != 0, word >>> 1, false);
    }

    /// The state of a [SharexHp].
    public static String hostPriorityLock(int word) {
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
