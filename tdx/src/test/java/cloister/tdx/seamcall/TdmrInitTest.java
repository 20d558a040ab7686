package cloister.tdx.seamcall;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// TDH.SYS.TDMR.INIT goes through a TDMR in steps of 4 MiB; memory is usable by whole GiB.
class TdmrInitTest {
    private static final int CALLS_PER_GIB = 256;
    private static final long GIB = TwoPackages.GIB;
    private static final long TDMR = TwoPackages.TDMR;
    private static final long SECOND = TwoPackages.SECOND_TDMR;
    private static final long RESERVED_TYPE = 1;

    private final TwoPackages platform = new TwoPackages();

    @BeforeEach void makeReady() {
        platform.makeReady();
    }

    @AfterEach void close() {
        platform.close();
    }

    private SeamRegs step(int lp, long tdmr) {
        return platform.call(lp, SeamcallLeaf.SYS_TDMR_INIT, tdmr, 0x1234);
    }

    /// The status of a function on the PAMT entry of a page.
    private long readMetadata(long pa) {
        return platform.status(0, SeamcallLeaf.PHYMEM_PAGE_RDMD, pa);
    }

    private long type(long pa) {
        return platform.call(0, SeamcallLeaf.PHYMEM_PAGE_RDMD, pa).get(SeamRegs.RCX);
    }

    @Test void theNextAddressIsRoundedDownToAGib() {
        for (int call = 1; call <= 2 * CALLS_PER_GIB; call++) {
            var regs = step(call % TwoPackages.LPS, TDMR); // on any LP
            assertThat(regs.get(SeamRegs.RAX)).isZero();
            assertThat(regs.get(SeamRegs.RCX)).isEqualTo(TDMR);
            assertThat(regs.get(SeamRegs.RDX)).as("call %d", call).isEqualTo(TDMR + call / CALLS_PER_GIB * GIB);
        }
        var regs = step(0, TDMR);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(TdxStatus.TDMR_ALREADY_INITIALIZED.code());
        assertThat(regs.get(SeamRegs.RDX)).isZero();
    }

    @Test void memoryIsUsableWhenItsGibIsInitialised() {
        long outOfRange = TdxStatus.OPERAND_ADDR_RANGE_ERROR.with(OperandId.RCX);
        for (int call = 1; call < CALLS_PER_GIB; call++) {
            step(0, TDMR);
        }
        assertThat(readMetadata(TDMR)).isEqualTo(outOfRange);
        step(0, TDMR);
        assertThat(readMetadata(TDMR)).isZero();
        assertThat(readMetadata(TDMR + GIB - 0x1000)).isZero();
        assertThat(readMetadata(TDMR + GIB)).isEqualTo(outOfRange);
        for (int call = 0; call < CALLS_PER_GIB; call++) {
            step(0, TDMR);
        }
        assertThat(readMetadata(TDMR + 2 * GIB - 0x1000)).isZero();
        assertThat(readMetadata(TDMR + 2 * GIB)).as("beyond the TDMR").isEqualTo(outOfRange);
    }

    @Test void pagesOfReservedAreasAreMarkedSo() {
        for (int call = 0; call < 2 * CALLS_PER_GIB; call++) {
            step(0, TDMR);
        }
        long reserved = TDMR + 2 * GIB - 0x40_0000;
        assertThat(type(reserved - 0x1000)).isZero();
        for (long pa = reserved; pa < TDMR + 2 * GIB - 0x1000; pa += 0x1000) {
            assertThat(type(pa)).as("%x", pa).isEqualTo(RESERVED_TYPE);
        }
        assertThat(type(TDMR + 2 * GIB - 0x1000)).isZero();
        assertThat(platform.status(0, SeamcallLeaf.MNG_CREATE, reserved, 40))
                .isEqualTo(TdxStatus.PAGE_METADATA_INCORRECT.with(OperandId.RCX));
        assertThat(platform.status(0, SeamcallLeaf.PHYMEM_PAGE_RECLAIM, reserved))
                .isEqualTo(TdxStatus.PAGE_METADATA_INCORRECT.with(OperandId.RCX));
    }

    @Test void tdmrsAreInitialisedIndependently() {
        for (int call = 1; call <= CALLS_PER_GIB; call++) {
            assertThat(step(0, TDMR).get(SeamRegs.RAX)).isZero();
            assertThat(step(9, SECOND).get(SeamRegs.RAX)).isZero();
        }
        assertThat(readMetadata(SECOND)).isZero();
        assertThat(step(9, SECOND).get(SeamRegs.RAX)).isEqualTo(TdxStatus.TDMR_ALREADY_INITIALIZED.code());
        assertThat(step(0, TDMR).get(SeamRegs.RAX)).isZero();
    }

    @Test void twoLpsDoNotInitialiseTheSameTdmrTogether() {
        platform.module().tdmrs.get(0).lock.set(1);
        var regs = step(0, TDMR);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(TdxStatus.OPERAND_BUSY.with(OperandId.RCX));
        assertThat(regs.get(SeamRegs.RDX)).isZero();
        assertThat(step(1, SECOND).get(SeamRegs.RAX)).isZero();
        platform.module().tdmrs.get(0).lock.set(0);
        assertThat(step(0, TDMR).get(SeamRegs.RAX)).isZero();
    }

    @ParameterizedTest @ValueSource(longs = {0, 1, TDMR + 0x1000, TDMR + GIB, TDMR | (1L << 46), TDMR | (40L << 46), TDMR | (1L << 52),
        TDMR | (1L << 63), 6 * GIB, -1}) void onlyTheStartOfATdmrNamesIt(long pa) {
        var regs = step(0, pa);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
        assertThat(regs.get(SeamRegs.RCX)).isEqualTo(pa);
        assertThat(regs.get(SeamRegs.RDX)).isZero();
    }

    @Test void theMemoryOfThePamtIsTakenWhileItIsInitialised() {
        long pamt4k = platform.module().tdmrs.get(1).info.pamtBase()[0];
        platform.memory.write(pamt4k, 8, -1L);
        step(0, SECOND);
        assertThat(platform.memory.read(pamt4k, 8)).as("what the host finds there now").isNotEqualTo(-1L);
    }
}
