package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.SeptTable.SeptRange;
import cloister.tdx.inspect.TdSnapshot;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;

/// The TDX module seen from outside agrees with itself and with what the VMM built.
final class InspectTest {
    private static final long PAGE = 4096;
    private static final long TWO_MIB = 2 << 20;
    private static final int CPUS = 2;
    private static final long MEMORY = 32 << 20;

    private static MachineConfig config() {
        return new MachineConfig().vmType(VmType.TDX).program(TinyGuest.trustDomain()).memoryBytes(MEMORY).cpus(CPUS);
    }

    private static ModuleSnapshot afterRun() {
        try (var machine = new Machine(config())) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            return machine.inspect();
        }
    }

    @Test void moduleTrustDomainAndProcessorsShowByTheirNames() {
        var module = afterRun();
        assertThat(module.sysState()).isEqualTo("READY");
        assertThat(module.initializedLps()).isEqualTo(CPUS);
        assertThat(module.busyLps()).isZero();
        assertThat(module.fields().value("MINOR_VERSION")).isEqualTo(5);
        assertThat(module.fields().value("UPDATE_VERSION")).isEqualTo(6);
        assertThat(module.locks()).hasSize(2).allMatch(Lock::isFree);
        var td = module.tds().getFirst();
        assertThat(module.tds()).hasSize(1);
        assertThat(td.lifecycleState()).isEqualTo("TD_KEYS_CONFIGURED");
        assertThat(td.opState()).isEqualTo("RUNNABLE");
        assertThat(td.locks()).hasSize(7).allMatch(Lock::isFree);
        assertThat(td.tdcs().value("NUM_VCPUS")).isEqualTo(CPUS);
        assertThat(td.tdcs().value("ATTRIBUTES")).isEqualTo(1L << 28);
        long hkid = td.tdr().value("HKID");
        assertThat(module.keyOwnershipTable().stream().filter(r -> r.first() <= hkid && hkid <= r.last()))
                .singleElement().matches(r -> r.state().equals("ASSIGNED"));
        assertThat(td.vps()).hasSize(CPUS).extracting(vp -> vp.tdvps().value("VCPU_INDEX")).containsExactlyInAnyOrder(0L, 1L);
        assertThat(td.vps()).allMatch(vp -> vp.state().equals("VCPU_READY") && vp.lock().isFree());
        assertThat(td.vps()).allMatch(vp -> vp.tdVmcs().value("EPTP") == td.tdcs().value("EPTP")
                && vp.tdVmcs().value("TD_HKID") == hkid);
    }

    @Test void secureEptShowsTheConvertedRangeMappedAndTheRestFree() {
        var td = afterRun().tds().getFirst();
        var leaves = leaves(td.secureEpt());
        assertThat(leaves.stream().filter(r -> r.gpa() < TinyGuest.SHARED_GPA + TWO_MIB && r.end() > TinyGuest.SHARED_GPA))
                .isNotEmpty().allMatch(r -> r.state().equals("MAPPED") && r.access().equals("rwx"))
                .satisfies(range -> assertThat(range.stream().mapToLong(r -> Math.min(r.end(), TinyGuest.SHARED_GPA + TWO_MIB)
                        - Math.max(r.gpa(), TinyGuest.SHARED_GPA)).sum()).isEqualTo(TWO_MIB));
        assertThat(leaves).allMatch(r -> r.end() <= MEMORY || r.gpa() >= TdFirmware.BASE_GPA);
        assertThat(td.secureEpt().level()).isEqualTo("PML4");
        assertThat(td.secureEpt().tables()).allSatisfy(table -> {
            long next = table.gpa();
            for (var range : table.entries()) {
                assertThat(range.gpa()).isEqualTo(next);
                next = range.end();
            }
            assertThat(next).isEqualTo(table.gpa() + 512 * table.entryBytes());
        });
    }

    @Test void everyPageOfTheTreeIsInThePamtWithItsTypeAndOwnerAndNoneElse() {
        var module = afterRun();
        var td = module.tds().getFirst();
        var tables = td.secureEpt().tables().skip(1).toList();
        assertThat(tables).allSatisfy(t -> assertThat(typeOf(module, t.page(), td)).isEqualTo("PT_EPT"));
        assertThat(typeOf(module, td.secureEpt().page(), td)).isEqualTo("PT_TDCX");
        long mapped = 0;
        var pages = new HashSet<Long>();
        for (var leaf : leaves(td.secureEpt())) {
            for (long gpa = leaf.gpa(); gpa < leaf.end(); gpa += PAGE) {
                assertThat(pages.add(leaf.hpaOf(gpa))).as("page of GPA 0x%x is mapped once", gpa).isTrue();
                assertThat(typeOf(module, leaf.hpaOf(gpa), td)).as("page of GPA 0x%x", gpa).isEqualTo("PT_REG");
            }
            mapped += leaf.end() - leaf.gpa();
        }
        assertThat(bytes(module, "PT_EPT", td)).isEqualTo(tables.size() * PAGE);
        assertThat(bytes(module, "PT_REG", td)).isEqualTo(mapped);
        assertThat(bytes(module, "PT_TDVPR", td)).isEqualTo(CPUS * PAGE);
        long children = bytes(module, "PT_EPT", td) + bytes(module, "PT_REG", td) + bytes(module, "PT_TDVPR", td)
                + bytes(module, "PT_TDCX", td);
        assertThat(td.tdr().value("CHLDCNT")).isEqualTo(children / PAGE);
        assertThat(module.pamt()).allMatch(r -> r.lock().equals(Lock.FREE));
    }

    @Test void mrtdIsWhatTheImageMeasures() throws NoSuchAlgorithmException {
        var td = afterRun().tds().getFirst();
        var layout = new GuestLayout(MEMORY);
        var image = GuestImage.program(TinyGuest.trustDomain(), layout);
        TdFirmware.addTo(image, layout);
        var digest = MessageDigest.getInstance("SHA-384");
        for (var chunk : image.chunks()) {
            byte[] content = new byte[(int) chunk.bytes()];
            chunk.read(0, content, content.length);
            for (int page = 0; page < content.length; page += (int) PAGE) {
                digest.update(block("MEM.PAGE.ADD", chunk.gpa() + page));
                for (int at = page; at < page + PAGE; at += 256) {
                    digest.update(block("MR.EXTEND", chunk.gpa() + at));
                    digest.update(content, at, 256);
                }
            }
        }
        assertThat(td.measurements().getFirst()).isEqualTo(
                new TdSnapshot.Measurement("MRTD", HexFormat.of().formatHex(digest.digest())));
        assertThat(td.measurements()).hasSize(5);
    }

    private static byte[] block(String function, long gpa) {
        return ByteBuffer.allocate(128).order(ByteOrder.LITTLE_ENDIAN).put(function.getBytes(StandardCharsets.US_ASCII))
                .putLong(16, gpa).array();
    }

    @Test void aRunningGuestIsSeenOnItsProcessor() {
        var seen = new ArrayList<ModuleSnapshot>();
        try (var machine = new Machine(config())) {
            machine.inspectAt(machine.stats().virtualNanos() + 1000, seen::add);
            machine.run();
        }
        assertThat(seen).singleElement().satisfies(module -> {
            assertThat(module.busyLps()).isPositive();
            assertThat(module.tds().getFirst().vps()).anyMatch(vp -> vp.state().equals("VCPU_ACTIVE")
                    && vp.lock().holders().size() == 1);
            assertThat(module.processors()).filteredOn(lp -> lp.tdvpr() != 0).isNotEmpty().allMatch(lp
                    -> lp.function().equals("TDH.VP.ENTER")
                    && module.tds().getFirst().vps().stream().anyMatch(vp -> vp.tdvprPage() == lp.tdvpr()
                            && vp.lock().holders().equals(List.of(lp.lp()))));
        });
    }

    @Test void lookingDoesNotChangeTheRun() {
        long[] hashes = new long[2];
        for (int i = 0; i < 2; i++) {
            try (var machine = new Machine(config())) {
                if (i == 1) {
                    machine.inspectSoon(snapshot -> assertThat(snapshot.tds()).hasSize(1));
                }
                machine.run();
                hashes[i] = machine.stats().traceHash();
            }
        }
        assertThat(hashes[1]).isEqualTo(hashes[0]);
    }

    @Test void afterTearDownNothingIsLeft() {
        try (var machine = new Machine(config())) {
            machine.run();
            machine.tearDown();
            var module = machine.inspect();
            assertThat(module.tds()).isEmpty();
            assertThat(module.pamt()).allMatch(r -> r.type().equals("PT_NDA") || r.type().equals("PT_RSVD"));
            assertThat(module.keyOwnershipTable()).noneMatch(r -> r.state().equals("ASSIGNED") || r.state().equals("FLUSHED"));
        }
    }

    @Test void withoutTrustDomainsTheModuleIsSeenToo() {
        try (var machine = new Machine(config().vmType(VmType.DEFAULT).program(TinyGuest.ordinaryVm()))) {
            assertThat(machine.inspect().tds()).isEmpty();
        }
    }

    private static List<SeptRange> leaves(SeptTable root) {
        return root.tables().flatMap(t -> t.entries().stream()).filter(r -> r.table() == null && r.hpa() != 0).toList();
    }

    private static String typeOf(ModuleSnapshot module, long pa, TdSnapshot td) {
        var range = module.pamt().stream().filter(r -> r.contains(pa)).findFirst().orElseThrow();
        assertThat(range.owner()).as("owner of page 0x%x", pa).isEqualTo(td.tdrPage());
        return range.type();
    }

    private static long bytes(ModuleSnapshot module, String type, TdSnapshot td) {
        return module.pamt().stream().filter(r -> r.type().equals(type) && r.owner() == td.tdrPage())
                .mapToLong(r -> r.end() - r.start()).sum();
    }
}
