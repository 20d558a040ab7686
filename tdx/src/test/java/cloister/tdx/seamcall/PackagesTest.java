package cloister.tdx.seamcall;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.ModuleState.SysState;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// What each package of a platform does for itself: keys and caches; and what each LP does: its initialisation.
class PackagesTest {
    private static final int OTHER_PACKAGE = TwoPackages.LPS_PER_PACKAGE;
    private static final int KEY = 40;
    private static final int OTHER_KEY = 41;
    private static final int BLOCKS = 4;
    private static final long TDR = TwoPackages.TDMR;
    private static final long OTHER_TDR = TwoPackages.TDMR + 0x1000;

    private final TwoPackages platform = new TwoPackages();

    @AfterEach void close() {
        platform.close();
    }

    // TDH.SYS.LP.INIT

    @Test void everyLpIsInitialisedBeforeTheTdmrsCanBeConfigured() {
        platform.succeed(3, SeamcallLeaf.SYS_INIT); // on any LP
        for (int lp = 0; lp < TwoPackages.LPS; lp++) {
            assertThat(platform.status(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 1, TwoPackages.GLOBAL_KEY))
                    .isEqualTo(TdxStatus.SYS_CONFIG_NOT_PENDING.code());
            platform.succeed(lp, SeamcallLeaf.SYS_LP_INIT);
            assertThat(platform.status(lp, SeamcallLeaf.SYS_LP_INIT)).isEqualTo(TdxStatus.SYS_LP_INIT_DONE.code());
            assertThat(platform.lp(lp).packageId).isEqualTo(lp / TwoPackages.LPS_PER_PACKAGE);
        }
        assertThat(platform.status(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 0, TwoPackages.GLOBAL_KEY))
                .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RDX));
    }

    @Test void aPackageNumberOfEightOrMoreIsRefused() {
        platform.x2apicIds[5] = 7 * TwoPackages.LPS_PER_PACKAGE;
        platform.x2apicIds[6] = 8 * TwoPackages.LPS_PER_PACKAGE + 1;
        platform.succeed(0, SeamcallLeaf.SYS_INIT);

        platform.succeed(5, SeamcallLeaf.SYS_LP_INIT);
        assertThat(platform.status(6, SeamcallLeaf.SYS_LP_INIT)).isEqualTo(TdxStatus.INVALID_PKG_ID.with(8));

        platform.x2apicIds[6] = 6;
        platform.succeed(6, SeamcallLeaf.SYS_LP_INIT);
    }

    @Test void anLpThatDiffersIsRefusedUntilItIsLikeTheOthers() {
        platform.succeed(0, SeamcallLeaf.SYS_INIT);
        platform.recorded[9].msr(0xbc, 3);
        assertThat(platform.status(9, SeamcallLeaf.SYS_LP_INIT)).isEqualTo(TdxStatus.INCONSISTENT_MSR.with(0xbc));
        platform.recorded[9].msr(0xbc, 1);
        platform.succeed(9, SeamcallLeaf.SYS_LP_INIT);
    }

    @Test void theSteppingOfThePlatformIsTheLowestOfItsPackages() {
        platform.initializeLps();
        assertThat(platform.module().config.platformFms).isEqualTo(0x806f6);
    }

    // TDH.SYS.KEY.CONFIG

    @Test void theModuleIsReadyWhenEveryPackageHasTheGlobalKey() {
        platform.configure();
        assertThat(platform.status(2, SeamcallLeaf.SYS_KEY_CONFIG)).isZero();
        assertThat(platform.status(3, SeamcallLeaf.SYS_KEY_CONFIG)).isEqualTo(TdxStatus.KEY_CONFIGURED.code());
        assertThat(platform.status(3, SeamcallLeaf.MEM_TRACK)).isEqualTo(TdxStatus.SYS_NOT_READY.code());

        assertThat(platform.status(OTHER_PACKAGE + 1, SeamcallLeaf.SYS_KEY_CONFIG)).isZero();

        assertThat(platform.module().sysState).isEqualTo(SysState.READY);
        assertThat(platform.platformEvents).containsExactly("lp 2 programs key 32", "lp 9 programs key 32");
        assertThat(platform.status(OTHER_PACKAGE, SeamcallLeaf.SYS_KEY_CONFIG))
                .isEqualTo(TdxStatus.SYS_KEY_CONFIG_NOT_PENDING.code());
    }

    @Test void aPackageWhoseKeyCouldNotBeProgrammedTriesAgain() {
        platform.configure();
        platform.succeed(0, SeamcallLeaf.SYS_KEY_CONFIG);
        platform.pconfigResult = 2;
        assertThat(platform.status(OTHER_PACKAGE, SeamcallLeaf.SYS_KEY_CONFIG)).isEqualTo(TdxStatus.KEY_GENERATION_FAILED.code());
        platform.pconfigResult = 5;
        assertThat(platform.status(OTHER_PACKAGE, SeamcallLeaf.SYS_KEY_CONFIG))
                .isEqualTo(TdxStatus.OPERAND_BUSY.with(OperandId.KET));
        assertThat(platform.module().sysState).isEqualTo(SysState.CONFIG_DONE);
        platform.pconfigResult = 0;
        platform.succeed(OTHER_PACKAGE, SeamcallLeaf.SYS_KEY_CONFIG);
        assertThat(platform.module().sysState).isEqualTo(SysState.READY);
    }

    @ParameterizedTest @ValueSource(ints = {1, 3, 4, 6}) void anyOtherFailureOfPconfigStopsThePlatform(int result) {
        platform.configure();
        platform.pconfigResult = result;
        assertThatThrownBy(() -> platform.call(0, SeamcallLeaf.SYS_KEY_CONFIG)).isInstanceOf(ModuleHalt.class);
    }

    @Test void aTdNeedsItsKeyOnEveryPackage() {
        platform.makeReady();
        platform.initializeGib();
        platform.succeed(0, SeamcallLeaf.MNG_CREATE, TDR, KEY);
        platform.succeed(OTHER_PACKAGE, SeamcallLeaf.MNG_KEY_CONFIG, TDR);
        assertThat(platform.status(OTHER_PACKAGE + 7, SeamcallLeaf.MNG_KEY_CONFIG, TDR)).isEqualTo(TdxStatus.KEY_CONFIGURED.code());
        assertThat(platform.status(0, SeamcallLeaf.MNG_ADDCX, OTHER_TDR, TDR)).isEqualTo(TdxStatus.TD_KEYS_NOT_CONFIGURED.code());
        platform.succeed(7, SeamcallLeaf.MNG_KEY_CONFIG, TDR);
        platform.succeed(0, SeamcallLeaf.MNG_ADDCX, OTHER_TDR, TDR);
        assertThat(platform.platformEvents).containsExactly("lp 8 programs key 40", "lp 7 programs key 40");
    }

    // TDH.PHYMEM.CACHE.WB

    /// A TD whose KeyID is flushed.
    private void flushed(long tdr, int key) {
        platform.succeed(0, SeamcallLeaf.MNG_CREATE, tdr, key);
        platform.succeed(0, SeamcallLeaf.MNG_KEY_CONFIG, tdr);
        platform.succeed(OTHER_PACKAGE, SeamcallLeaf.MNG_KEY_CONFIG, tdr);
        platform.succeed(0, SeamcallLeaf.MNG_VPFLUSHDONE, tdr);
        platform.platformEvents.clear();
    }

    private void makeFlushed() {
        platform.makeReady();
        platform.initializeGib();
        flushed(TDR, KEY);
    }

    private long startWriteBack(int lp) {
        return platform.status(lp, SeamcallLeaf.PHYMEM_CACHE_WB, 0);
    }

    private long resumeWriteBack(int lp) {
        return platform.status(lp, SeamcallLeaf.PHYMEM_CACHE_WB, 1);
    }

    private int notWrittenBack(int key) {
        return platform.module().keys.writeBackPackages(key);
    }

    @Test void aKeyIdIsFreeWhenThePackagesHaveWrittenTheirCachesBack() {
        makeFlushed();
        assertThat(notWrittenBack(KEY)).isEqualTo(0b11);
        assertThat(startWriteBack(OTHER_PACKAGE + 2)).isZero();
        assertThat(notWrittenBack(KEY)).isEqualTo(0b01);
        assertThat(platform.platformEvents).containsExactly("lp 10 writes back block 0", "lp 10 writes back block 1",
                "lp 10 writes back block 2", "lp 10 writes back block 3");
        assertThat(platform.status(0, SeamcallLeaf.MNG_KEY_FREEID, TDR)).isEqualTo(TdxStatus.WBCACHE_NOT_COMPLETE.code());

        assertThat(startWriteBack(2)).isZero();

        assertThat(notWrittenBack(KEY)).isZero();
        assertThat(platform.status(0, SeamcallLeaf.MNG_KEY_FREEID, TDR)).isZero();
        assertThat(platform.module().keys.state(KEY)).isEqualTo(KeyOwnership.State.FREE);
        assertThat(startWriteBack(2)).isEqualTo(TdxStatus.NO_HKID_READY_TO_WBCACHE.code());
    }

    @Test void onlyStartAndResumeAreCommands() {
        makeFlushed();
        for (long command : new long[] {2, 3, 1L << 32, -1}) {
            assertThat(platform.status(0, SeamcallLeaf.PHYMEM_CACHE_WB, command))
                    .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
        }
    }

    @Test void anInterruptStopsTheWriteBackAfterEachBlockButTheLast() {
        makeFlushed();
        platform.pending(1, 1);
        assertThat(startWriteBack(1)).isEqualTo(TdxStatus.INTERRUPTED_RESUMABLE.code());
        for (int block = 1; block < BLOCKS - 1; block++) {
            assertThat(resumeWriteBack(1)).isEqualTo(TdxStatus.INTERRUPTED_RESUMABLE.code());
            assertThat(notWrittenBack(KEY)).isEqualTo(0b11);
        }
        assertThat(resumeWriteBack(1)).isZero();
        assertThat(notWrittenBack(KEY)).isEqualTo(0b10);
        assertThat(platform.platformEvents).containsExactly("lp 1 writes back block 0", "lp 1 writes back block 1",
                "lp 1 writes back block 2", "lp 1 writes back block 3");
        assertThat(resumeWriteBack(1)).isEqualTo(TdxStatus.WBCACHE_RESUME_ERROR.code());
    }

    @Test void anotherLpOfThePackageMayResume() {
        makeFlushed();
        platform.pending(1, 1);
        assertThat(startWriteBack(1)).isEqualTo(TdxStatus.INTERRUPTED_RESUMABLE.code());
        assertThat(resumeWriteBack(OTHER_PACKAGE)).isEqualTo(TdxStatus.WBCACHE_RESUME_ERROR.code());
        assertThat(resumeWriteBack(6)).isZero();
        assertThat(notWrittenBack(KEY)).isEqualTo(0b10);
        assertThat(platform.platformEvents).containsExactly("lp 1 writes back block 0", "lp 6 writes back block 1",
                "lp 6 writes back block 2", "lp 6 writes back block 3");
    }

    @Test void theOtherPackageGoesOnMeanwhile() {
        makeFlushed();
        platform.pending(1, 1);
        startWriteBack(1);
        assertThat(startWriteBack(OTHER_PACKAGE)).isZero();
        assertThat(notWrittenBack(KEY)).isEqualTo(0b01);
        platform.pending(1, 0);
        assertThat(resumeWriteBack(1)).isZero();
        assertThat(notWrittenBack(KEY)).isZero();
    }

    @Test void aKeyIdThatIsFlushedDuringTheWriteBackWaitsForTheNext() {
        makeFlushed();
        platform.pending(1, 1);
        startWriteBack(1);
        flushed(OTHER_TDR, OTHER_KEY);
        platform.pending(1, 0);
        assertThat(resumeWriteBack(1)).isZero();
        assertThat(notWrittenBack(KEY)).isEqualTo(0b10);
        assertThat(notWrittenBack(OTHER_KEY)).isEqualTo(0b11);
        assertThat(startWriteBack(1)).isZero();
        assertThat(notWrittenBack(OTHER_KEY)).isEqualTo(0b10);
    }

    @Test void startingAnewForgetsTheInterruption() {
        makeFlushed();
        platform.pending(1, 1);
        startWriteBack(1);
        flushed(OTHER_TDR, OTHER_KEY);
        assertThat(startWriteBack(1)).isEqualTo(TdxStatus.INTERRUPTED_RESUMABLE.code());
        platform.pending(1, 0);
        assertThat(resumeWriteBack(1)).isZero();
        assertThat(notWrittenBack(OTHER_KEY)).isEqualTo(0b10);
        assertThat(platform.platformEvents).startsWith("lp 1 writes back block 0", "lp 1 writes back block 1");
    }

    @Test void aStartWithNothingToDoForgetsTheInterruption() {
        makeFlushed();
        platform.pending(1, 1);
        startWriteBack(1);
        platform.module().keys.state(KEY, KeyOwnership.State.FREE);
        assertThat(startWriteBack(1)).isEqualTo(TdxStatus.NO_HKID_READY_TO_WBCACHE.code());
        assertThat(resumeWriteBack(1)).isEqualTo(TdxStatus.WBCACHE_RESUME_ERROR.code());
    }

    /// Which events stop an interruptible function: an external interrupt only if the VMM would take it.
    @ParameterizedTest @CsvSource({"0,true,false", "0,false,false", "1,true,true", "1,false,false", "2,true,true", "2,false,true",
        "4,false,true", "8,false,true", "0x8000000000000000,false,true", "3,false,true"})
    void eventsThatTheHostWouldTakeInterrupt(String events, boolean enabled, boolean interrupted) {
        makeFlushed();
        platform.pending(1, events.startsWith("0x") ? Long.parseUnsignedLong(events.substring(2), 16) : Long.parseLong(events));
        platform.interruptsEnabled(1, enabled);
        assertThat(startWriteBack(1)).isEqualTo(interrupted ? TdxStatus.INTERRUPTED_RESUMABLE.code() : 0);
    }

    // Locks

    @Test void twoLpsOfAPackageDoNotWriteBackTogether() {
        makeFlushed();
        platform.module().writeBack[0].lock.set(1);
        assertThat(startWriteBack(3)).isEqualTo(TdxStatus.OPERAND_BUSY.with(OperandId.WBCACHE));
        assertThat(startWriteBack(OTHER_PACKAGE)).isZero();
        assertThat(platform.module().keys.lock.get()).isZero();
    }

    @Test void theKeyTableIsSharedByThePackagesThatWriteBack() {
        makeFlushed();
        platform.module().keys.lock.set(2); // a reader
        assertThat(startWriteBack(3)).isZero();
        assertThat(platform.module().keys.lock.get()).isEqualTo(2);
        platform.module().keys.lock.set(1);
        assertThat(startWriteBack(3)).isEqualTo(TdxStatus.OPERAND_BUSY.with(OperandId.KOT));
        assertThat(platform.module().keys.lock.get()).as("a failed reader stays counted").isEqualTo(3);
        assertThat(platform.module().writeBack[0].lock.get()).isZero();
    }

    @Test void functionsOnTheWholeModuleExcludeEachOther() {
        var lock = platform.module().globalLock;
        for (int held = 1; held <= 2; held++) {
            lock.set(held);
            for (var leaf : new SeamcallLeaf[] {SeamcallLeaf.SYS_INIT, SeamcallLeaf.SYS_CONFIG, SeamcallLeaf.SYS_KEY_CONFIG,
                SeamcallLeaf.SYS_UPDATE}) {
                assertThat(platform.status(0, leaf)).as("%s, lock %d", leaf, held).isEqualTo(TdxStatus.SYS_BUSY.code());
            }
            assertThat(lock.get()).isEqualTo(held);
        }
        lock.set(1);
        assertThat(platform.status(0, SeamcallLeaf.SYS_LP_INIT)).isEqualTo(TdxStatus.SYS_BUSY.code());
        assertThat(lock.get()).as("a failed reader stays counted").isEqualTo(3);
        lock.set(0);
        platform.makeReady();
        lock.set(1);
        assertThat(platform.status(0, SeamcallLeaf.SYS_SHUTDOWN)).isEqualTo(TdxStatus.SYS_BUSY.code());
        assertThat(platform.status(0, SeamcallLeaf.SYS_INFO, 0)).isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RDX));
    }

    @Test void lpsAreInitialisedTogether() {
        platform.succeed(0, SeamcallLeaf.SYS_INIT);
        platform.module().globalLock.set(2);
        platform.succeed(1, SeamcallLeaf.SYS_LP_INIT);
        assertThat(platform.module().globalLock.get()).isEqualTo(2);
    }

    @Test void aRefusedCallClearsTheRegistersItReturnsResultsIn() {
        platform.module().globalLock.set(1);
        var regs = platform.call(0, SeamcallLeaf.SYS_INIT, 1, 2, 3, 4);
        assertThat(new long[] {regs.get(SeamRegs.RCX), regs.get(SeamRegs.RDX), regs.get(SeamRegs.R8), regs.get(SeamRegs.R9)})
                .containsOnly(0);
        regs = platform.call(0, SeamcallLeaf.SYS_LP_INIT, 1, 2, 3, 4);
        assertThat(new long[] {regs.get(SeamRegs.RCX), regs.get(SeamRegs.RDX), regs.get(SeamRegs.R8), regs.get(SeamRegs.R9)})
                .containsExactly(0, 0, 0, 4);
        regs = platform.call(0, SeamcallLeaf.SYS_CONFIG, 1, 2, 3, 4);
        assertThat(new long[] {regs.get(SeamRegs.RCX), regs.get(SeamRegs.RDX), regs.get(SeamRegs.R8), regs.get(SeamRegs.R9)})
                .containsExactly(1, 2, 3, 4);
    }
}
