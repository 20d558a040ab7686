package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzFinding.check;

import cloister.sim.Entropy;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleVersion;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Tdmr;
import cloister.tdx.core.TdmrInfo;
import cloister.tdx.fuzz.FuzzStep.Kind;
import java.util.ArrayList;
import java.util.List;

/// Invents the bring-up of the module, step by step, right and wrong; and what any bring-up must keep to.
final class Bringup {
    private static final int WORDS = 8;
    private static final long GIB = 1L << 30;
    private static final int[] SAMPLED_MSRS = {0x3b, 0x1a0, 0x981, 0x982, 0x87, 0x10a, 0xcf, 0xbc, 0xbd, 0x345, 0xfe, 0x480, 0x1f2,
        0x1f3};

    private final FuzzMachine machine;
    private final Entropy random;

    Bringup(FuzzMachine machine, Entropy random) {
        this.machine = machine;
        this.random = random;
    }

    /// TDMR_INFO of a usual bring-up, TDMR 0 with a reserved area and TDMR 1 without.
    static long[] tdmrInfo(int index) {
        long reserved = index == 0 ? FuzzPlatform.RESERVED : 0;
        long reservedBytes = index == 0 ? FuzzPlatform.TDMR_BYTES - FuzzPlatform.RESERVED : 0;
        return new long[] {FuzzPlatform.TDMR + index * FuzzPlatform.TDMR_BYTES, FuzzPlatform.TDMR_BYTES,
            FuzzPlatform.pamt(index, 2), 0x1000, FuzzPlatform.pamt(index, 1), 0x2000, FuzzPlatform.pamt(index, 0), 0x40_0000, reserved,
            reservedBytes, 0, 0, 0, 0, 0, 0};
    }

    private boolean oneIn(int n) {
        return random.nextInt(n) == 0;
    }

    private static FuzzStep call(int lp, SeamcallLeaf leaf, long... operands) {
        var all = new long[1 + operands.length];
        all[0] = leaf.number();
        System.arraycopy(operands, 0, all, 1, operands.length);
        return new FuzzStep(lp, Kind.CALL, all);
    }

    /// The next step towards a ready module, mostly.
    FuzzStep next(int lp) {
        if (oneIn(14)) {
            return disturb(lp);
        }
        return switch (machine.module.sysState) {
            case INIT_PENDING -> call(lp, SeamcallLeaf.SYS_INIT, oneIn(20) ? random.nextLong() : 0);
            case INIT_DONE -> initialized(lp);
            case CONFIG_DONE -> call(lp, SeamcallLeaf.SYS_KEY_CONFIG);
            case READY -> tdmrInit(lp);
            case SHUTDOWN -> new FuzzStep(lp, Kind.RESTART);
        };
    }

    private FuzzStep initialized(int lp) {
        for (int i = 0; i < machine.cpus.length; i++) {
            if (!machine.lp(i).initialized) {
                return call(oneIn(6) ? lp : i, SeamcallLeaf.SYS_LP_INIT);
            }
        }
        return oneIn(2) ? write(lp) : call(lp, SeamcallLeaf.SYS_CONFIG, array(), oneIn(12) ? random.nextInt(70) : 1 + random.nextInt(2),
                oneIn(10) ? random.nextLong() >>> random.nextInt(64) : FuzzPlatform.FIRST_PRIVATE_KEY + random.nextInt(3));
    }

    /// The array of TDMR_INFO addresses.
    private long array() {
        return oneIn(20) ? random.nextLong() : FuzzPlatform.HOST;
    }

    /// Writes the array of addresses or half of an entry.
    private FuzzStep write(int lp) {
        var o = new long[1 + WORDS];
        int what = random.nextInt(5);
        if (what == 4) {
            o[0] = FuzzPlatform.HOST;
            for (int i = 0; i < WORDS; i++) {
                o[1 + i] = i < 2 || oneIn(4) ? FuzzPlatform.HOST + 512 * (i + 1) : 0;
            }
        } else {
            int entry = what >> 1;
            int half = what & 1;
            o[0] = FuzzPlatform.HOST + 512 * (entry + 1) + 64 * half;
            System.arraycopy(tdmrInfo(entry), WORDS * half, o, 1, WORDS);
        }
        if (oneIn(8)) {
            int word = 1 + random.nextInt(WORDS);
            o[word] = switch (random.nextInt(5)) {
                case 0 -> o[word] ^ (1L << random.nextInt(64));
                case 1 -> o[word] + ((random.nextInt(5) - 2L) << 12);
                case 2 -> o[word] + (random.nextInt(5) - 2L) * GIB;
                case 3 -> 0;
                default -> o[1 + random.nextInt(WORDS)];
            };
        }
        return new FuzzStep(lp, Kind.WRITE, o);
    }

    private FuzzStep tdmrInit(int lp) {
        for (var tdmr : machine.module.tdmrs) {
            if (tdmr.lastInitialized < tdmr.info.base() + tdmr.info.size()) {
                return call(lp, SeamcallLeaf.SYS_TDMR_INIT, oneIn(30) ? random.nextLong() : tdmr.info.base());
            }
        }
        return oneIn(2) ? call(lp, SeamcallLeaf.SYS_TDMR_INIT, machine.module.tdmrs.getFirst().info.base())
                : call(lp, SeamcallLeaf.SYS_SHUTDOWN, oneIn(3) ? 1 - ModuleVersion.HANDOFF : ModuleVersion.HANDOFF);
    }

    /// Something else: a leaf out of order, a changed MSR, hostile memory, a failing instruction, a new start.
    private FuzzStep disturb(int lp) {
        return switch (random.nextInt(12)) {
            case 0 -> call(lp, SeamcallLeaf.SYS_INIT);
            case 1 -> call(lp, SeamcallLeaf.SYS_LP_INIT);
            case 2 -> call(lp, SeamcallLeaf.SYS_INFO, FuzzPlatform.HOST + 4096, 1024, FuzzPlatform.HOST + 8192, 32);
            case 3 -> call(lp, SeamcallLeaf.SYS_RD, 0, random.nextLong());
            case 4 -> call(lp, SeamcallLeaf.SYS_UPDATE);
            case 5 -> call(lp, SeamcallLeaf.SYS_SHUTDOWN, ModuleVersion.HANDOFF);
            case 6 -> new FuzzStep(lp, Kind.PCONFIG, oneIn(2) ? 2 : 5);
            case 7 -> new FuzzStep(lp, Kind.ENTROPY);
            case 8 -> new FuzzStep(lp, Kind.HOSTILE, FuzzPlatform.HOST, oneIn(2) ? 0 : random.nextLong());
            case 9 -> oneIn(4) ? new FuzzStep(lp, Kind.RESTART) : call(lp, SeamcallLeaf.SYS_KEY_CONFIG);
            case 10 -> oneIn(2) ? repaired(lp) : msr(lp);
            default -> call(lp, SeamcallLeaf.values()[random.nextInt(SeamcallLeaf.values().length)], random.nextLong());
        };
    }

    private FuzzStep repaired(int lp) {
        for (int msr : SAMPLED_MSRS) {
            if (machine.cpus[lp].rdmsr(msr) != machine.usualMsr(msr)) {
                return new FuzzStep(lp, Kind.MSR, msr, machine.usualMsr(msr));
            }
        }
        return msr(lp);
    }

    private FuzzStep msr(int lp) {
        int msr = SAMPLED_MSRS[random.nextInt(SAMPLED_MSRS.length)];
        long usual = machine.usualMsr(msr);
        return new FuzzStep(lp, Kind.MSR, msr, machine.cpus[lp].rdmsr(msr) != usual ? usual : usual ^ (1L << random.nextInt(24)));
    }

    /// Whether the module is ready for TDs, as far as it will ever be.
    static boolean done(FuzzMachine machine) {
        var module = machine.module;
        return module.sysState == SysState.READY && module.tdmrs.stream().allMatch(
                tdmr -> tdmr.lastInitialized >= tdmr.info.base() + tdmr.info.size());
    }

    // What the module accepted

    private record Range(String name, long base, long end) {
        boolean overlaps(Range other) {
            return base < other.end && other.base < end;
        }
    }

    /// TDMRs are whole GiB and ascend; PAMTs are large enough; what is not reserved, and the PAMTs, is convertible and disjoint.
    static void checkTdmrs(FuzzPlatform platform, List<Tdmr> tdmrs) {
        var used = new ArrayList<Range>();
        long last = 0;
        for (var tdmr : tdmrs) {
            var info = tdmr.info;
            check((info.base() & (GIB - 1)) == 0 && (info.size() & (GIB - 1)) == 0 && info.size() > 0 && info.base() >= last,
                    "a TDMR at 0x%x of 0x%x bytes", info.base(), info.size());
            last = info.base() + info.size();
            for (int size = 0; size < 3; size++) {
                check(info.pamtSize()[size] >= (info.size() >> (12 + 9 * size)) * PamtEntry.BYTES, "a PAMT of 0x%x bytes",
                        info.pamtSize()[size]);
                used.add(new Range("PAMT " + size, info.pamtBase()[size], info.pamtBase()[size] + info.pamtSize()[size]));
            }
            long from = info.base();
            for (int i = 0; i < TdmrInfo.MAX_RESERVED && info.rsvdSize()[i] != 0; i++) {
                long reserved = info.base() + info.rsvdOffset()[i];
                check(reserved >= from && reserved + info.rsvdSize()[i] <= last, "a reserved area at 0x%x", reserved);
                used.add(new Range("TDMR", from, reserved));
                from = reserved + info.rsvdSize()[i];
            }
            used.add(new Range("TDMR", from, last));
        }
        used.removeIf(range -> range.base == range.end);
        for (int i = 0; i < used.size(); i++) {
            var range = used.get(i);
            check(convertible(platform, range), "%s at 0x%x to 0x%x is not convertible", range.name, range.base, range.end);
            for (int j = 0; j < i; j++) {
                check(!range.overlaps(used.get(j)), "%s at 0x%x overlaps %s at 0x%x", range.name, range.base, used.get(j).name,
                        used.get(j).base);
            }
        }
    }

    private static boolean convertible(FuzzPlatform platform, Range range) {
        long at = range.base;
        for (var cmr : platform.info().cmrs()) {
            if (at >= cmr.base() && at < cmr.base() + cmr.size()) {
                at = cmr.base() + cmr.size();
            }
        }
        return at >= range.end;
    }
}
