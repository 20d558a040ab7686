package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.Defect;
import cloister.kvm.GpaRange;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmPolicy;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.Msr;
import cloister.vmm.mmu.ContendedTd;
import cloister.vmm.mmu.Gate;
import cloister.vmm.observe.Livelock;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// KVM meets locks of the TDX module that vCPUs hold, and the other way round: real guests on real vCPUs, which the scheduler stops in the
/// middle of a SEAMCALL or TDCALL. [LINUX tdh_do_no_vcpus, tdx_handle_ept_violation]
@Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
final class ContentionTest {
    // Which lock it is in the order in which functions take them. The PAMT entry of a page has three, two of them for what is around it.
    // TDH.VP.ENTER: TDVPR's, TDR, operation state, TLB epoch, Secure EPT tree.
    private static final int ENTER_EPOCH = 6;
    private static final int ENTER_TREE = 7;
    // Functions on memory: TDR's, operation state, then epoch or tree and entry.
    private static final int TRACK_EPOCH = 5;
    private static final int HOST_TREE = 5;
    private static final int HOST_ENTRY = 6;
    private static final int GUEST_ENTRY = 1;
    private static final int PAGE = 3;
    private static final String[] ZAP = {"MEM_RANGE_BLOCK", "MEM_TRACK", "MEM_PAGE_REMOVE", "PHYMEM_PAGE_WBINVD"};

    private final Gate gate = new Gate();
    private ContendedTd td;
    /// vCPU 0 shall come to an end, and is where it harms nobody.
    private boolean spun;
    private boolean resting;
    private boolean zapped;
    private boolean over;

    private void boot(int cpus, String zap) {
        td = new ContendedTd(MmuFuzz.START, cpus, gate, 1).boot(KvmPolicy.ZAP_CONTENTION, zap);
    }

    @AfterEach void close() {
        td.close();
    }

    // --- who is where

    /// vCPU 0 reads page 0, which is shared, until the TDX module takes it for a victim of single-stepping by EPT violations: from then on
    /// TDH.VP.ENTER looks for the page itself, with the Secure EPT locked. [TDX-BASE "Zero-Step Attack Mitigation"]
    private void spinOnMissingPage() {
        td.spawn("vcpu0", () -> {
            toShared(0);
            td.prepareRead(0, 0);
            while (!over && !td.runOnce(0)) {
                resting = spun;
                td.await(() -> !spun || td.accepted(0));
                td.scheduler().switchPoint(SwitchPoint.YIELD);
            }
        });
    }

    /// vCPU 1 accepts the page, so that vCPU 0 finds it: an access to a page that is not accepted yet would end the TD.
    private void endSpinning() {
        spun = true;
        td.await(() -> resting);
        td.vm.setMemoryAttributes(ContendedTd.gpa(0), ContendedTd.PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        assertThat(td.accept(1, 0)).isZero();
    }

    private void hold(String thread, long leaf, int lock) {
        gate.holdAt(thread, leaf, lock);
        td.await(gate::isHolding);
    }

    private void hold(String thread, SeamcallLeaf leaf, int lock) {
        hold(thread, leaf.number(), lock);
    }

    private void holdSpinnerWithTheTree() {
        td.await(() -> td.faults(0) > 8);
        hold("vcpu0", SeamcallLeaf.VP_ENTER, ENTER_TREE);
    }

    private void toShared(int page) {
        td.vm.setMemoryAttributes(ContendedTd.gpa(page), ContendedTd.PAGE, 0);
    }

    private static String busy(SeamcallLeaf leaf, int operand) {
        return leaf + " BUSY " + operand;
    }

    private void pageIsAccepted() {
        td.await(() -> td.accepted(PAGE));
    }

    private long call(int cpu, TdcallLeaf leaf) {
        return td.call(cpu, leaf, ContendedTd.gpa(PAGE), 0, 0);
    }

    private void expectZap(String... calls) {
        assertThat(td.callsOf("zapper")).containsExactly(calls);
        assertThat(td.death()).isNull();
        td.tearDown();
    }

    // --- zaps: whoever is in the way is kicked, and the second try must succeed

    @Test void aBlockThatMeetsAZeroSteppedEntryIsRetriedOnce() {
        boot(2, "kick-and-exclude");
        spinOnMissingPage();
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            td.await(() -> zapped);
            endSpinning();
        });
        td.spawn("zapper", () -> {
            pageIsAccepted();
            holdSpinnerWithTheTree();
            toShared(PAGE);
            zapped = true;
        });
        td.run();
        expectZap(busy(SeamcallLeaf.MEM_RANGE_BLOCK, OperandId.SEPT_TREE), ZAP[0], ZAP[1], ZAP[2], ZAP[3]);
    }

    /// The entry is the guest's for a moment: TDG.MEM.PAGE.ACCEPT of a page that is there, ATTR.RD and ATTR.WR of one that is accepted.
    @ParameterizedTest
    @EnumSource(value = TdcallLeaf.class, names = {"MEM_PAGE_ACCEPT", "MEM_PAGE_ATTR_RD", "MEM_PAGE_ATTR_WR"})
    void aBlockThatMeetsAGuestsLockOfTheEntryIsRetriedOnce(TdcallLeaf leaf) {
        boot(2, "kick-and-exclude");
        var status = new long[] {-1};
        td.spawn("vcpu1", () -> {
            if (leaf == TdcallLeaf.MEM_PAGE_ACCEPT) {
                td.vcpus.get(1).preFaultMemory(new GpaRange(ContendedTd.gpa(PAGE), ContendedTd.PAGE));
            } else {
                td.accept(1, PAGE);
            }
            gate.holdAt("vcpu1", Gate.GUEST, GUEST_ENTRY);
            status[0] = call(1, leaf);
        });
        td.spawn("zapper", () -> {
            td.await(gate::isHolding);
            toShared(PAGE);
        });
        td.run();
        assertThat(status[0]).as("what the guest began it completes").isZero();
        expectZap(busy(SeamcallLeaf.MEM_RANGE_BLOCK, OperandId.RCX), ZAP[0], ZAP[1], ZAP[2], ZAP[3]);
    }

    @Test void aTrackThatMeetsAnEntryIsRetriedOnce() {
        boot(2, "kick-and-exclude");
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            td.await(gate::isHolding);
            td.accept(1, PAGE + 1);
        });
        td.spawn("vcpu0", () -> {
            td.await(() -> td.accepted(PAGE));
            td.accept(0, PAGE + 2);
        });
        td.spawn("zapper", () -> {
            pageIsAccepted();
            hold("vcpu0", SeamcallLeaf.VP_ENTER, ENTER_EPOCH);
            toShared(PAGE);
        });
        td.run();
        expectZap(ZAP[0], busy(SeamcallLeaf.MEM_TRACK, OperandId.TD_EPOCH), ZAP[1], ZAP[2], ZAP[3]);
    }

    /// Between the last kick and TDH.MEM.PAGE.REMOVE the guests run: one may look at the page that is blocked.
    @Test void aRemovalThatMeetsAGuestsLockOfTheEntryIsRetriedOnce() {
        boot(2, "kick-and-exclude");
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            hold("zapper", SeamcallLeaf.MEM_PAGE_REMOVE, 1);
            gate.holdAt("vcpu1", Gate.GUEST, GUEST_ENTRY);
            assertThat(call(1, TdcallLeaf.MEM_PAGE_ATTR_RD)).isZero();
        });
        td.spawn("zapper", () -> {
            pageIsAccepted();
            toShared(PAGE);
            td.vm.setMemoryAttributes(ContendedTd.gpa(PAGE), ContendedTd.PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        });
        td.run();
        expectZap(ZAP[0], ZAP[1], busy(SeamcallLeaf.MEM_PAGE_REMOVE, OperandId.RCX), ZAP[2], ZAP[3]);
    }

    @Test void aRemovalThatMeetsAZeroSteppedEntryIsRetriedOnce() {
        boot(2, "kick-and-exclude");
        spinOnMissingPage();
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            td.await(() -> td.faults(0) > 8);
            hold("zapper", SeamcallLeaf.MEM_PAGE_REMOVE, 1);
            gate.holdAt("vcpu0", SeamcallLeaf.VP_ENTER.number(), ENTER_TREE);
            td.await(() -> zapped);
            endSpinning();
        });
        td.spawn("zapper", () -> {
            td.await(() -> td.accepted(PAGE) && td.faults(0) > 8);
            toShared(PAGE);
            zapped = true;
        });
        td.run();
        expectZap(ZAP[0], ZAP[1], busy(SeamcallLeaf.MEM_PAGE_REMOVE, OperandId.SEPT_TREE), ZAP[2], ZAP[3]);
    }

    /// From the kick to the end of the retry no vCPU enters the TD.
    @Test void vcpusStayOutDuringTheRetry() {
        boot(3, "kick-and-exclude");
        spinOnMissingPage();
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            td.await(() -> zapped);
            endSpinning();
        });
        td.spawn("vcpu2", () -> {
            td.await(() -> td.busy(SeamcallLeaf.MEM_RANGE_BLOCK) != 0);
            td.accept(2, PAGE + 1);
        });
        td.spawn("zapper", () -> {
            pageIsAccepted();
            holdSpinnerWithTheTree();
            toShared(PAGE);
            zapped = true;
        });
        td.run();
        var order = td.calls.stream().filter(c -> c.leaf() != SeamcallLeaf.VP_FLUSH).map(c -> c.thread() + " " + c).toList();
        int busy = order.indexOf("zapper " + busy(SeamcallLeaf.MEM_RANGE_BLOCK, OperandId.SEPT_TREE));
        int retried = order.indexOf("zapper MEM_RANGE_BLOCK");
        assertThat(order.subList(busy + 1, retried)).as("vCPU 0, which was in TDH.VP.ENTER, comes out; nobody else is in")
                .containsExactly("vcpu0 VP_ENTER");
        td.tearDown();
    }

    // --- entries and guests that meet the host's locks

    @Test void anEntryThatMeetsATrackIsTriedAgain() {
        boot(2, "kick-and-exclude");
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            hold("zapper", SeamcallLeaf.MEM_TRACK, TRACK_EPOCH);
            td.accept(1, PAGE + 1);
        });
        td.spawn("zapper", () -> {
            pageIsAccepted();
            toShared(PAGE);
        });
        td.spawn("director", () -> {
            td.await(() -> td.busy(SeamcallLeaf.VP_ENTER) > 3);
            gate.release();
        });
        td.run();
        assertThat(td.calls.stream().filter(c -> c.isBusy()).map(Object::toString).distinct())
                .containsExactly(busy(SeamcallLeaf.VP_ENTER, OperandId.TD_EPOCH));
        assertThat(td.accepted(PAGE + 1)).isTrue();
        expectZap(ZAP);
    }

    @Test void aZeroSteppedEntryThatMeetsAnAugIsTriedAgain() {
        boot(2, "kick-and-exclude");
        spinOnMissingPage();
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE + 1);
            td.await(() -> td.faults(0) > 8);
            gate.holdAt("vcpu1", SeamcallLeaf.MEM_PAGE_AUG.number(), HOST_TREE);
            td.accept(1, PAGE);
            endSpinning();
        });
        td.spawn("director", () -> {
            td.await(() -> td.busy(SeamcallLeaf.VP_ENTER) > 3);
            gate.release();
        });
        td.run();
        assertThat(td.calls.stream().filter(c -> c.isBusy()).map(Object::toString).distinct())
                .containsExactly(busy(SeamcallLeaf.VP_ENTER, OperandId.SEPT_TREE));
        assertThat(td.accepted(PAGE)).isTrue();
        td.tearDown();
    }

    /// A guest is told that the host has the entry.
    @Test void aGuestThatMeetsTheHostsLockOfAnEntryIsToldBusy() {
        boot(2, "kick-and-exclude");
        var status = new long[1];
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            hold("zapper", SeamcallLeaf.MEM_RANGE_BLOCK, HOST_ENTRY);
            status[0] = call(1, TdcallLeaf.MEM_PAGE_ATTR_RD);
            gate.release();
        });
        td.spawn("zapper", () -> {
            pageIsAccepted();
            toShared(PAGE);
        });
        td.run();
        assertThat(status[0]).isEqualTo(TdxStatus.OPERAND_BUSY.with(OperandId.RCX));
        expectZap(ZAP);
    }

    /// A host that was turned away has priority: until it has had the entry, no guest gets it, although nobody has it.
    @Test void aGuestGivesWayToAHostThatWasBusy() {
        boot(3, "retry-n");
        var status = new long[2];
        var done = new boolean[1];
        td.spawn("zapper", () -> {
            td.await(() -> gate.isHolding() && td.accepted(PAGE + 1));
            toShared(PAGE);
        });
        td.spawn("director", () -> {
            td.await(() -> td.busy(SeamcallLeaf.MEM_RANGE_BLOCK) > 0);
            gate.release();
        });
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE);
            gate.holdAt("vcpu1", Gate.GUEST, GUEST_ENTRY);
            status[0] = call(1, TdcallLeaf.MEM_PAGE_ATTR_RD);
            done[0] = true;
        });
        td.spawn("vcpu2", () -> {
            td.accept(2, PAGE + 1);
            td.await(() -> done[0]);
            status[1] = call(2, TdcallLeaf.MEM_PAGE_ATTR_RD);
        });
        td.run();
        assertThat(status).containsExactly(0, TdxStatus.OPERAND_BUSY.with(OperandId.RCX));
        expectZap(busy(SeamcallLeaf.MEM_RANGE_BLOCK, OperandId.RCX), ZAP[0], ZAP[1], ZAP[2], ZAP[3]);
    }

    // --- mapping: what is busy is left as it was and tried again, within one violation

    /// The mirror's entry is as before after each try, else there would be no next one: a frozen entry is waited for without a SEAMCALL.
    @ParameterizedTest
    @CsvSource({"MEM_PAGE_AUG, 3", "MEM_SEPT_ADD, 600"})
    void aViolationThatMeetsAZeroSteppedEntryIsRetriedInKvm(SeamcallLeaf leaf, int page) {
        boot(2, "kick-and-exclude");
        spinOnMissingPage();
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE + 1);
            holdSpinnerWithTheTree();
            td.accept(1, page);
            endSpinning();
        });
        td.spawn("director", () -> {
            td.await(() -> td.busy(leaf) > 3);
            gate.release();
        });
        td.run();
        expectBusyOnly(leaf, OperandId.SEPT_TREE);
        var own = td.calls.stream().filter(c -> c.thread().equals("vcpu1")).map(Object::toString).toList();
        int first = own.indexOf(busy(leaf, OperandId.SEPT_TREE));
        int done = first + own.subList(first, own.size()).indexOf(leaf.toString());
        assertThat(own.subList(first, done)).as("the guest is not entered before it is done").hasSizeGreaterThan(3)
                .containsOnly(busy(leaf, OperandId.SEPT_TREE));
        td.tearDown();
    }

    private void expectBusyOnly(SeamcallLeaf leaf, int operand) {
        var busy = td.calls.stream().filter(ContendedTd.Call::isBusy).map(Object::toString).distinct();
        assertThat(busy).containsExactly(busy(leaf, operand));
    }

    /// The guest on vCPU 2 has the entry: it is about to find that there is nothing to accept. With a large page it is the table's entry.
    @ParameterizedTest
    @CsvSource({"MEM_PAGE_AUG, 3, 0", "MEM_SEPT_ADD, 600, 1"})
    void whoeverPopulatesAndMeetsAGuestsLockTriesAgain(SeamcallLeaf leaf, int page, int level) {
        boot(3, "kick-and-exclude");
        var left = new GpaRange(ContendedTd.gpa(page), ContendedTd.PAGE);
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE + 1);
            td.await(gate::isHolding);
            td.vcpus.get(1).preFaultMemory(left);
        });
        td.spawn("vcpu2", () -> {
            td.accept(2, PAGE + 2);
            gate.holdAt("vcpu2", Gate.GUEST, GUEST_ENTRY);
            td.call(2, TdcallLeaf.MEM_PAGE_ACCEPT, (ContendedTd.gpa(page) & -(ContendedTd.PAGE << (9 * level))) | level, 0, 0);
        });
        td.spawn("director", () -> {
            td.await(() -> td.busy(leaf) > 3);
            gate.release();
        });
        td.run();
        expectBusyOnly(leaf, OperandId.RCX);
        assertThat(left.size).isZero();
        td.tearDown();
    }

    // --- what ends the retries

    /// vCPU 1 meets a TDH.VP.ENTER that does not end in its violation; then the director does something.
    private void whileVcpu1Retries(String zap, Runnable vcpu1, Runnable director, Defect... defects) {
        td = new ContendedTd(MmuFuzz.START, 2, gate, 1, defects).boot(KvmPolicy.ZAP_CONTENTION, zap);
        spinOnMissingPage();
        td.spawn("vcpu1", () -> {
            td.accept(1, PAGE + 1);
            td.wrmsr(1, Msr.IA32_X2APIC_FIRST + (ApicRegister.SPIV >>> 4), ApicRegister.SPIV_ENABLED | 0xff);
            holdSpinnerWithTheTree();
            td.prepareAccept(1, PAGE);
            vcpu1.run();
        });
        td.spawn("director", () -> {
            td.await(() -> td.busy(SeamcallLeaf.MEM_PAGE_AUG) > 3);
            director.run();
        });
        td.run();
    }

    private long entriesOfVcpu1() {
        return td.calls.stream().filter(c -> c.thread().equals("vcpu1") && c.leaf() == SeamcallLeaf.VP_ENTER).count();
    }

    @Test void aSignalEndsTheRetriesAndLaterTheyGoOn() {
        whileVcpu1Retries("kick-and-exclude", () -> {
            assertThat(td.vcpus.get(1).run()).isInstanceOf(KvmExit.Intr.class);
            assertThat(td.busy(SeamcallLeaf.MEM_PAGE_AUG)).isGreaterThan(3);
            assertThat(gate.isHolding()).isTrue();
            gate.release();
            td.runToRing(1);
            assertThat(td.result(1)).isZero();
            endSpinning();
        }, () -> td.vcpus.get(1).kick());
        td.tearDown();
    }

    @Test void anEventEndsTheRetriesAndTheGuestIsEntered() {
        whileVcpu1Retries("kick-and-exclude", () -> {
            td.runToRing(1);
            assertThat(td.result(1)).isZero();
            endSpinning();
        }, () -> {
            long before = entriesOfVcpu1();
            td.vm.signalMsi(0xfee01000L, 0x40);
            td.await(() -> entriesOfVcpu1() > before);
            assertThat(td.vm.stats().pagesAugmented()).as("the page is still not there").isEqualTo(1);
            gate.release();
        });
        td.tearDown();
    }

    /// A zap that gives up kills the TD.
    @Test void theEndOfTheTdEndsTheRetriesWithEio() {
        whileVcpu1Retries("retry-n", () -> {
            assertThatThrownBy(() -> td.vcpus.get(1).run()).isInstanceOfSatisfying(KvmException.class,
                    e -> assertThat(e.errno()).isEqualTo(Errno.EIO));
            over = true;
            gate.release();
        }, () -> toShared(PAGE + 1));
        assertThat(td.busy(SeamcallLeaf.MEM_RANGE_BLOCK)).isEqualTo(1 + KvmPolicy.RETRIES);
        assertThat(td.death()).contains("TDH.MEM.RANGE.BLOCK failed");
    }

    /// Whoever deletes a slot waits for those that use it, and they give up.
    @Test void aSlotThatGoesEndsTheRetries() {
        whileVcpu1Retries("kick-and-exclude", () -> {
            assertThat(td.vcpus.get(1).run()).isInstanceOf(KvmExit.MemoryFault.class);
            over = true;
        }, () -> td.deleteRegion());
        td.tearDown();
    }

    /// Past fault 2: they did not, and both waited for ever.
    @Test void aSlotThatGoesWaitsForEverUnderTheOldFault() {
        assertThatThrownBy(() -> whileVcpu1Retries("kick-and-exclude", () -> td.vcpus.get(1).run(), () -> td.deleteRegion(),
                Defect.TD_VIOLATION_WAITS_FOR_INVALID_SLOT)).isInstanceOf(Livelock.class).hasMessageContaining("vcpu1");
    }
}
