package cloister.tdx.seamcall;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.PamtEntry;
import java.util.HexFormat;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// TDH.PHYMEM.PAGE.RDMD, RECLAIM and WBINVD on the pages of a TD with a 2 MiB page. [TDX-BASE "Physical Memory Management"]
class PhymemPagesTest {
    private static final long GIB = TwoPackages.GIB;
    private static final long TDR = TwoPackages.TDMR;
    private static final long TDVPR = TDR + 0x7000;
    private static final long SEPT_PAGES = TDR + 0xd000;
    private static final long SMALL_PAGE = TDR + 0x1_1000;
    private static final long LARGE_PAGE = TDR + 0x20_0000;
    private static final long LARGE_BYTES = 0x20_0000;
    private static final long FREE_PAGE = TDR + 0x10_0000;
    private static final long TD_PARAMS = TwoPackages.HOST + 0x1_0000;
    private static final int KEY = 40;
    private static final int TYPE_REG = 3;
    private static final int TYPE_TDR = 4;
    private static final int TYPE_TDCX = 5;
    private static final int TYPE_TDVPR = 6;
    private static final int TYPE_EPT = 8;
    private static final int HOST_PRIORITY = 2;
    private static final int READER = 4;

    private final TwoPackages platform = new TwoPackages();

    @BeforeEach void buildTd() {
        platform.makeReady();
        platform.initializeGib();
        platform.succeed(0, SeamcallLeaf.MNG_CREATE, TDR, KEY);
        platform.succeed(0, SeamcallLeaf.MNG_KEY_CONFIG, TDR);
        platform.succeed(8, SeamcallLeaf.MNG_KEY_CONFIG, TDR);
        for (int i = 1; i <= 6; i++) {
            platform.succeed(0, SeamcallLeaf.MNG_ADDCX, TDR + 0x1000 * i, TDR);
        }
        byte[] params = HexFormat.of().parseHex("0000000000000000e70000000000000004000000000000001e0000000000000000000000000000006400");
        platform.memory.write(TD_PARAMS, params, 0, params.length);
        platform.succeed(0, SeamcallLeaf.MNG_INIT, TDR, TD_PARAMS);
        platform.succeed(0, SeamcallLeaf.VP_CREATE, TDVPR, TDR);
        for (int i = 1; i <= 5; i++) {
            platform.succeed(0, SeamcallLeaf.VP_ADDCX, TDVPR + 0x1000 * i, TDVPR);
        }
        platform.succeed(0, SeamcallLeaf.VP_INIT, TDVPR, 0);
        for (int level = 3; level >= 1; level--) {
            platform.succeed(0, SeamcallLeaf.MEM_SEPT_ADD, level, TDR, SEPT_PAGES + 0x1000 * level);
        }
        platform.succeed(0, SeamcallLeaf.MEM_PAGE_ADD, 0x1000, TDR, SMALL_PAGE, TwoPackages.HOST);
        platform.succeed(0, SeamcallLeaf.MR_FINALIZE, TDR);
        platform.succeed(0, SeamcallLeaf.MEM_PAGE_AUG, 0x40_0001, TDR, LARGE_PAGE);
    }

    @AfterEach void close() {
        platform.close();
    }

    private void tearDown() {
        platform.succeed(0, SeamcallLeaf.VP_FLUSH, TDVPR);
        platform.succeed(0, SeamcallLeaf.MNG_VPFLUSHDONE, TDR);
        platform.succeed(0, SeamcallLeaf.PHYMEM_CACHE_WB, 0);
        platform.succeed(8, SeamcallLeaf.PHYMEM_CACHE_WB, 0);
        platform.succeed(0, SeamcallLeaf.MNG_KEY_FREEID, TDR);
    }

    /// RAX, RCX, RDX, R8, R9.
    private long[] page(SeamcallLeaf leaf, long pa) {
        var regs = platform.call(0, leaf, pa, 0x1111, 0x2222, 0x3333);
        return new long[] {regs.get(SeamRegs.RAX), regs.get(SeamRegs.RCX), regs.get(SeamRegs.RDX), regs.get(SeamRegs.R8),
            regs.get(SeamRegs.R9)};
    }

    /// The PAMT entry of the page of `size` (0 4 KiB, 1 2 MiB, 2 1 GiB) at `pa`.
    private PamtEntry entry(long pa, int size) {
        var info = platform.module().tdmrs.get(0).info;
        long index = (pa - info.base()) >>> (12 + 9 * size);
        return new PamtEntry(platform.memory, (info.pamtBase()[size] + PamtEntry.BYTES * index) | ((long) TwoPackages.GLOBAL_KEY << 46));
    }

    @Test void metadataHasTypeOwnerSizeAndBlockingEpoch() {
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, TDR)).containsExactly(0, TYPE_TDR, 0, 0, 0);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, TDR + 0x1000)).containsExactly(0, TYPE_TDCX, TDR, 0, 0);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, TDVPR)).containsExactly(0, TYPE_TDVPR, TDR, 0, 0);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, SEPT_PAGES + 0x1000)).containsExactly(0, TYPE_EPT, TDR, 0, 0);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, FREE_PAGE)).containsExactly(0, 0, 0, 0, 0);
        platform.succeed(0, SeamcallLeaf.MEM_RANGE_BLOCK, 0x40_0001, TDR);
        for (long offset : new long[] {0, 0x1000, LARGE_BYTES - 0x1000}) {
            assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, LARGE_PAGE + offset)).containsExactly(0, TYPE_REG, TDR, 1, 1);
        }
    }

    @ParameterizedTest @EnumSource(value = SeamcallLeaf.class, names = {"PHYMEM_PAGE_RDMD", "PHYMEM_PAGE_RECLAIM"})
    void outputsAreClearedWhenTheAddressIsWrong(SeamcallLeaf leaf) {
        long invalid = TdxStatus.OPERAND_INVALID.with(OperandId.RCX);
        long range = TdxStatus.OPERAND_ADDR_RANGE_ERROR.with(OperandId.RCX);
        for (long pa : new long[] {TDR + 1, TDR + 0x800, TDR | (1L << 46), TDR | (40L << 46), TDR | (1L << 52), TDR | (1L << 63), -1}) {
            assertThat(page(leaf, pa)).as("%x", pa).containsExactly(invalid, 0, 0, 0, 0);
        }
        for (long pa : new long[] {0, 0x1000, TDR - 0x1000, TDR + GIB, TDR + 2 * GIB, TwoPackages.SECOND_TDMR, 1L << 45}) {
            assertThat(page(leaf, pa)).as("%x", pa).containsExactly(range, 0, 0, 0, 0);
        }
    }

    /// The walk takes the 1 GiB and 2 MiB entries shared and the 4 KiB entry as the function wants it; what a failure meets stays
    /// counted and marked.
    @ParameterizedTest @ValueSource(ints = {0, 1, 2}) void aHeldEntryOfThePamtStopsTheWalk(int size) {
        long busy = TdxStatus.OPERAND_BUSY.with(OperandId.RCX);
        for (var leaf : new SeamcallLeaf[] {SeamcallLeaf.PHYMEM_PAGE_RDMD, SeamcallLeaf.PHYMEM_PAGE_RECLAIM,
            SeamcallLeaf.PHYMEM_PAGE_WBINVD}) {
            var lock = entry(FREE_PAGE, size).lock();
            lock.set(1);
            assertThat(page(leaf, FREE_PAGE)[0]).isEqualTo(busy);
            boolean exclusive = leaf == SeamcallLeaf.PHYMEM_PAGE_RECLAIM && size == 0;
            assertThat(lock.get()).as("%s", leaf).isEqualTo(exclusive ? 1 | HOST_PRIORITY : 1 | HOST_PRIORITY | READER);
            lock.set(0);
            for (int other = 0; other <= 2; other++) {
                assertThat(entry(FREE_PAGE, other).lock().get()).isZero();
            }
        }
        entry(FREE_PAGE, size).lock().set(READER);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, FREE_PAGE)[0]).isZero();
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, FREE_PAGE)[0])
                .isEqualTo(size == 0 ? busy : TdxStatus.PAGE_METADATA_INCORRECT.with(OperandId.RCX));
    }

    @Test void aReaderKeepsALargePageFromBeingReclaimed() {
        tearDown();
        var lock = entry(LARGE_PAGE, 1).lock();
        lock.set(READER);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, LARGE_PAGE)[0]).isEqualTo(TdxStatus.OPERAND_BUSY.with(OperandId.RCX));
        assertThat(lock.get()).isEqualTo(READER | HOST_PRIORITY);
        assertThat(entry(LARGE_PAGE, 2).lock().get()).isZero();
        lock.set(HOST_PRIORITY);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, LARGE_PAGE)[0]).isZero();
        assertThat(lock.get()).isZero();
    }

    @Test void nothingIsReclaimedBeforeTheTdIsTornDown() {
        for (long pa : new long[] {TDR, TDR + 0x1000, TDVPR, SMALL_PAGE, LARGE_PAGE, SEPT_PAGES + 0x1000}) {
            assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, pa)[0]).as("%x", pa)
                    .isEqualTo(TdxStatus.LIFECYCLE_STATE_INCORRECT.code());
        }
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, SMALL_PAGE)).as("what it is says the function all the same")
                .containsExactly(TdxStatus.LIFECYCLE_STATE_INCORRECT.code(), TYPE_REG, TDR, 0, 0);
    }

    @Test void theTdrComesLast() {
        tearDown();
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, TDR)).containsExactly(TdxStatus.TD_ASSOCIATED_PAGES_EXIST.code(), TYPE_TDR,
                0, 0, 0);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, LARGE_PAGE + 0x1000))
                .containsExactly(TdxStatus.OPERAND_INVALID.with(OperandId.RCX), TYPE_REG, TDR, 1, 0);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, LARGE_PAGE)).containsExactly(0, TYPE_REG, TDR, 1, 0);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, LARGE_PAGE)[0])
                .isEqualTo(TdxStatus.PAGE_METADATA_INCORRECT.with(OperandId.RCX));
        for (int i = 1; i <= 0x11; i++) {
            assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, TDR)[0]).isEqualTo(TdxStatus.TD_ASSOCIATED_PAGES_EXIST.code());
            long status = page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, TDR + 0x1000 * i)[0];
            assertThat(status).as("page %d", i).isIn(0L, TdxStatus.PAGE_METADATA_INCORRECT.with(OperandId.RCX));
        }
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, TDR)[0]).isZero();
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RDMD, SMALL_PAGE)).as("a free page keeps its last owner").containsExactly(0, 0, TDR, 0,
                0);
    }

    @Test void theOwnerIsHeldSharedWhileItsPageIsReclaimed() {
        tearDown();
        var lock = entry(TDR, 0).lock();
        lock.set(1);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, SMALL_PAGE)).containsExactly(
                TdxStatus.OPERAND_BUSY.with(OperandId.TDR), TYPE_REG, TDR, 0, 0);
        assertThat(lock.get()).isEqualTo(1 | HOST_PRIORITY | READER);
        assertThat(entry(SMALL_PAGE, 0).lock().get()).isZero();
        lock.set(READER);
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, SMALL_PAGE)[0]).isZero();
        assertThat(lock.get()).isEqualTo(READER);
    }

    @Test void linesOfAFreePageAreFlushedUnderAnyKeyId() {
        for (long keyId : new long[] {0, 1, 31, 32, 40, 63}) {
            assertThat(page(SeamcallLeaf.PHYMEM_PAGE_WBINVD, FREE_PAGE | (keyId << 46))[0]).isZero();
        }
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_WBINVD, FREE_PAGE)).as("no outputs").containsExactly(0, FREE_PAGE, 0x1111, 0x2222,
                0x3333);
        for (long pa : new long[] {TDR, SMALL_PAGE, LARGE_PAGE, LARGE_PAGE + 0x1000}) {
            assertThat(page(SeamcallLeaf.PHYMEM_PAGE_WBINVD, pa)[0]).isEqualTo(TdxStatus.PAGE_METADATA_INCORRECT.with(OperandId.RCX));
        }
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_WBINVD, FREE_PAGE | 1)[0]).isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_WBINVD, FREE_PAGE | (1L << 52))[0])
                .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
        assertThat(page(SeamcallLeaf.PHYMEM_PAGE_WBINVD, 40L << 46)[0])
                .isEqualTo(TdxStatus.OPERAND_ADDR_RANGE_ERROR.with(OperandId.RCX));
    }

    @Test void reclaimingAKeyIdSucceedsWhateverItNames() {
        for (long pa : new long[] {0, TDR, -1}) {
            assertThat(page(SeamcallLeaf.MNG_KEY_RECLAIMID, pa)).containsExactly(0, pa, 0x1111, 0x2222, 0x3333);
        }
    }
}
