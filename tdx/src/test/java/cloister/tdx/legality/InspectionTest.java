package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.FieldTable;
import cloister.spec.tdx.FieldTable.Field;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeptState;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.LpSnapshot;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.SeptTable.SeptRange;
import java.util.List;
import java.util.function.Predicate;
import org.assertj.core.groups.Tuple;
import org.junit.jupiter.api.Test;

/// The module seen from outside, on processors without a CPU: states that no guest of ours brings about.
class InspectionTest {
    private static final long GPA = 0x5000;
    private static final long PAGE = 0x1_0001_3000L;
    private static final long L2_PAGES = 0x1_0001_1000L;
    private static final int VP_ENTER = 0;
    private static final int PAGE_ADD = 2;
    private static final int SEPT_ADD_VERSION_1 = 3 | (1 << 16);
    private static final int MR_FINALIZE = 17;
    private static final int PAGE_ATTR_WR = 24;
    private static final int PAGE_AUG = 6;
    private static final int RANGE_BLOCK = 7;
    private static final int TRACK = 38;

    private static RecordedTd made(String setup) {
        return new RecordedTd("{\"op\":\"include\",\"file\":\"setup/" + setup + ".jsonl\"}");
    }

    private static ModuleSnapshot look(RecordedTd td) {
        return td.machine.core.inspect();
    }

    private static SeptRange entry(ModuleSnapshot module, long gpa) {
        return module.tds().getFirst().secureEpt().tables().filter(t -> t.level().equals("PT")).flatMap(t -> t.entries().stream())
                .filter(r -> r.gpa() <= gpa && gpa < r.end()).findFirst().orElseThrow();
    }

    private static List<String> names(FieldTable table, Predicate<Field> of) {
        return table.fields().stream().filter(of).map(Field::name).toList();
    }

    private static List<String> names(Fields fields) {
        return fields.fields().stream().map(cloister.tdx.inspect.Field::name).toList();
    }

    @Test void everyFieldOfEveryStructureIsThere() {
        try (var td = made("run-l2-2")) {
            var module = look(td);
            var seen = module.tds().getFirst();
            int l2Vms = (int) seen.tdcs().value("NUM_L2_VMS");
            assertThat(l2Vms).isPositive();
            assertThat(names(seen.tdr())).isEqualTo(names(FieldTable.TD, f -> f.classCode() <= 2));
            assertThat(names(seen.tdcs())).isEqualTo(names(FieldTable.TD, f -> f.classCode() > 2 && !f.name().equals("VIRTUAL_TSC")
                    && f.offset() < 4096 * (int) seen.tdr().value("NUM_TDCX")));
            var vp = seen.vps().getFirst();
            assertThat(names(vp.tdvps())).isEqualTo(names(FieldTable.VP, f -> !f.name().startsWith("L2_VMCS_")
                    && f.offset() < 4096 * (6 + 3 * l2Vms)));
            assertThat(names(vp.tdVmcs())).isEqualTo(names(FieldTable.TD_VMCS, f -> true));
            assertThat(vp.l2Vmcs()).hasSize(l2Vms).allSatisfy(l2 -> assertThat(names(l2)).isEqualTo(names(FieldTable.L2_VMCS, f -> true)));
            assertThat(names(module.fields())).isEqualTo(names(FieldTable.SYS, f -> true));
        }
    }

    @Test void treesOfL2VmsShowTheirPages() {
        try (var td = made("vp-l2")) {
            assertThat(look(td).tds().getFirst().l2SecureEpts()).hasSize(1).allSatisfy(root ->
                    assertThat(root.entries()).singleElement().matches(r -> r.state().equals("L2_FREE") && r.hpa() == 0));
            for (int level = 3; level > 0; level--) { // a page for the TD's tree and one for that of VM 1
                addTables(td, level, L2_PAGES + (6 - 2 * level) * 4096L, L2_PAGES + (7 - 2 * level) * 4096L);
            }
            td.seamcall(PAGE_ADD, 0x1000, RecordedTd.TDR, 0x1_0001_a000L, 0x22_0000);
            td.seamcall(MR_FINALIZE, RecordedTd.TDR, 0, 0, 0);
            td.seamcall(VP_ENTER, 0x1_0000_8000L, 0, 0, 0);
            td.machine.core.vmcs(td.machine.cpus[0]).write(VmcsField.GUEST_CS_ACCESS_RIGHTS, 0xa09b);
            td.machine.core.vmcs(td.machine.cpus[0]).write(VmcsField.GUEST_EFER, 0xd01);
            td.machine.core.vmcs(td.machine.cpus[0]).write(VmcsField.GUEST_CR0, 0x8000_0031L);
            assertThat(td.tdcall(PAGE_ATTR_WR, 0x1000, 0x8003_0000L, 0x0003_0000L)).isTrue();
            assertThat(td.guest(0)).isZero();
            var root = look(td).tds().getFirst().l2SecureEpts().getFirst();
            assertThat(root.tables().skip(1)).extracting(SeptTable::level).containsExactly("PDPT", "PD", "PT");
            assertThat(root.tables().skip(1)).extracting(SeptTable::page).containsExactly(L2_PAGES + 4096, L2_PAGES + 3 * 4096,
                    L2_PAGES + 5 * 4096);
            assertThat(root.tables().limit(3)).allMatch(t -> t.entries().getFirst().state().equals("L2_NL_MAPPED"));
            assertThat(root.tables().skip(3).flatMap(t -> t.entries().stream()).filter(r -> r.hpa() != 0)).singleElement()
                    .isEqualTo(new SeptRange(0x1000, 0x2000, "L2_MAPPED", 0x1_0001_a000L, 0, "rw--", Lock.FREE, null));
        }
    }

    private static void addTables(RecordedTd td, int level, long page, long l2Page) {
        var regs = new SeamRegs();
        long[] values = {SEPT_ADD_VERSION_1, level, RecordedTd.TDR, 0, 0, 0, 0, 0, page, l2Page, -1, -1};
        System.arraycopy(values, 0, regs.array(), 0, values.length);
        td.machine.seamcall(0, regs);
        assertThat(regs.get(SeamRegs.RAX)).isZero();
    }

    @Test void blockedPagesShowTheEpochOfTheirBlocking() {
        try (var td = made("run-basic-3")) {
            td.seamcall(PAGE_AUG, GPA, RecordedTd.TDR, PAGE, 0);
            assertThat(entry(look(td), GPA).state()).isEqualTo(SeptState.PENDING.name());
            td.seamcall(RANGE_BLOCK, GPA, RecordedTd.TDR, 0, 0);
            var module = look(td);
            long epoch = module.tds().getFirst().tdcs().value("TD_EPOCH");
            assertThat(entry(module, GPA).state()).isEqualTo(SeptState.PENDING_BLOCKED.name());
            assertThat(module.pamt()).filteredOn(r -> r.contains(PAGE)).singleElement()
                    .satisfies(r -> assertThat(r.bepoch()).isEqualTo(epoch).isPositive());
            td.seamcall(TRACK, RecordedTd.TDR, 0, 0, 0);
            assertThat(look(td).tds().getFirst().tdcs().value("TD_EPOCH")).isEqualTo(epoch + 1);
            assertThat(look(td).tds().getFirst().tdcs().field("REFCOUNT").values()).containsExactlyInAnyOrder(1L, 0L);
        }
    }

    @Test void whoRunsAGuestHoldsItsPages() {
        try (var td = made("run-basic-3")) {
            var module = look(td);
            assertThat(module.busyLps()).isOne();
            assertThat(module.processors()).extracting(LpSnapshot::lp, LpSnapshot::function, LpSnapshot::tdvpr).contains(
                    Tuple.tuple(0, "TDH.VP.ENTER", RecordedTd.TDVPR));
            assertThat(module.processors()).filteredOn(p -> p.lp() > 0).allMatch(p -> p.function().isEmpty() && p.tdvpr() == 0);
            var seen = module.tds().getFirst();
            assertThat(seen.locks().getFirst()).isEqualTo(new Lock("TDR", "shared 1", List.of(0)));
            assertThat(seen.locks()).extracting(Lock::name).contains("OP_STATE_LOCK", "SECURE_EPT_LOCK", "EPOCH_LOCK", "RTMR_LOCK",
                    "MIG_LOCK");
            assertThat(seen.locks().subList(1, seen.locks().size())).allMatch(Lock::isFree);
            assertThat(seen.vps().getFirst().lock()).isEqualTo(new Lock("TDVPR", "shared 1", List.of(0)));
            assertThat(module.locks()).filteredOn(l -> l.name().startsWith("PAMT_")).isNotEmpty()
                    .allMatch(l -> l.state().equals("shared 1"));
        }
    }

    @Test void aReaderOfTheRtmrLockIsNotTheHostsPriority() {
        try (var td = made("run-basic-3")) {
            td.tdcs.lock(Tdcs.RTMR_LOCK).set(4);
            assertThat(look(td).tds().getFirst().locks()).filteredOn(l -> l.name().equals("RTMR_LOCK")).extracting(Lock::state)
                    .containsExactly("shared 1");
        }
    }

    @Test void theModuleAloneIsSeenAtEveryStage() {
        try (var td = new RecordedTd("{\"op\":\"note\"}")) {
            assertThat(look(td).sysState()).isEqualTo("INIT_PENDING");
            assertThat(look(td).keyOwnershipTable()).isEmpty();
            assertThat(look(td).processors()).isEmpty();
            td.seamcall(33, 0, 0, 0, 0);
            td.seamcall(35, 0, 0, 0, 0);
            var module = look(td);
            assertThat(module.sysState()).isEqualTo("INIT_DONE");
            assertThat(module.initializedLps()).isOne();
            assertThat(module.packages()).singleElement().matches(p -> !p.globalKey() && p.lock().isFree());
            assertThat(module.processors()).singleElement().matches(p -> p.initialized() && p.function().isEmpty());
            assertThat(module.tds()).isEmpty();
        }
    }
}
