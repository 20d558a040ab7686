package cloister.tdx.seamcall;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.port.PlatformInfo.Cmr;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Platforms other than that of the recordings.
class PlatformVariantsTest {
    private static final int KEYID_PARTITIONING = 0x87;
    private static final int MTRRCAP = 0xfe;
    private static final int SMRR2_BASE = 0x1f6;
    private static final int SMRR2_MASK = 0x1f7;
    private static final int TME_CAPABILITY = 0x981;
    private static final int TME_ACTIVATE = 0x982;
    private static final long SEAM_RANGE = 0x7800_0000L;
    private static final long SEAM_BYTES = 0x200_0000L;

    private static TwoPackages withMsr(int msr, long value) {
        var platform = new TwoPackages();
        setMsr(platform, msr, value);
        return platform;
    }

    private static void setMsr(TwoPackages platform, int msr, long value) {
        for (var lp : platform.recorded) {
            lp.msr(msr, value);
        }
    }

    private static PlatformInfo info(boolean smrr2NotSupported, boolean withoutIntegrity) {
        return new PlatformInfo(TwoPackages.LPS, 2, TwoPackages.CMRS, List.of(0x806f8, 0x806f8), smrr2NotSupported,
                withoutIntegrity);
    }

    // SEAM memory

    @ParameterizedTest @ValueSource(ints = {0, 1, 31}) void seamMemoryIsRefusedUnderEverySharedKeyId(int keyId) {
        try (var platform = new TwoPackages()) {
            platform.initializeLps();
            long key = (long) keyId << 46;
            for (long pa : new long[] {SEAM_RANGE, SEAM_RANGE + SEAM_BYTES - 0x1000}) {
                assertThat(platform.status(0, SeamcallLeaf.SYS_INFO, key | pa, 1024, TwoPackages.HOST, 32))
                        .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
                assertThat(platform.status(0, SeamcallLeaf.SYS_INFO, TwoPackages.HOST, 1024, key | pa, 32))
                        .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.R8));
                assertThat(platform.status(0, SeamcallLeaf.SYS_CONFIG, key | pa, 1, TwoPackages.GLOBAL_KEY))
                        .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
            }
            for (long pa : new long[] {SEAM_RANGE - 0x1000, TwoPackages.HOST}) {
                assertThat(platform.status(0, SeamcallLeaf.SYS_INFO, key | pa, 1024, key | (TwoPackages.HOST + 0x1000), 32)).isZero();
            }
        }
    }

    @Test void addressesWithAPrivateKeyIdOrBeyondTheWidthAreNotShared() {
        try (var platform = new TwoPackages()) {
            platform.initializeLps();
            for (long high : new long[] {32L << 46, 63L << 46, 1L << 52, 1L << 63}) {
                assertThat(platform.status(0, SeamcallLeaf.SYS_INFO, high | TwoPackages.HOST, 1024, TwoPackages.HOST, 32))
                        .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
            }
        }
    }

    // KeyIDs

    @Test void aPlatformMayActivateUpTo2047KeyIds() {
        try (var platform = withMsr(KEYID_PARTITIONING, (2016L << 32) | 31)) {
            platform.initializeLps();
            platform.tdmrInfo(0, TwoPackages.TDMR, TwoPackages.GIB, 6 * TwoPackages.GIB);
            assertThat(platform.status(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 1, 2048))
                    .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.R8));
            assertThat(platform.status(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 1, (1L << 16) | 40))
                    .isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.R8));
            assertThat(platform.status(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 1, 2047)).isZero();
            assertThatThrownBy(() -> platform.call(0, SeamcallLeaf.SYS_KEY_CONFIG)).isInstanceOf(ModuleHalt.class)
                    .hasMessageContaining("KeyID 2047");
        }
        try (var platform = withMsr(KEYID_PARTITIONING, (2017L << 32) | 31)) {
            assertThat(platform.status(0, SeamcallLeaf.SYS_INIT))
                    .isEqualTo(TdxStatus.NUM_ACTIVATED_HKIDS_NOT_SUPPORTED.with(2048));
        }
    }

    @Test void flushedKeyIdsAboveSixtyThreeAreWrittenBackToo() {
        try (var platform = withMsr(KEYID_PARTITIONING, (200L << 32) | 31)) {
            platform.makeReady();
            var keys = platform.module().keys;
            keys.state(100, KeyOwnership.State.FLUSHED);
            keys.writeBackPackages(100, 0b11);
            keys.writeBackPackages(36, 0b11); // 100 and 36 are the same modulo 64
            assertThat(platform.status(0, SeamcallLeaf.PHYMEM_CACHE_WB, 0)).isZero();
            assertThat(keys.writeBackPackages(100)).isEqualTo(0b10);
            assertThat(keys.writeBackPackages(36)).isEqualTo(0b11);
        }
    }

    @Test void keyIdsElsewhereInTheAddressAreAClearFailure() {
        try (var platform = withMsr(TME_ACTIVATE, (0xf_0007_6000_0003L & ~(0xfL << 32)) | (7L << 32))) {
            platform.configure();
            assertThatThrownBy(() -> platform.call(0, SeamcallLeaf.SYS_KEY_CONFIG)).isInstanceOf(ModuleHalt.class)
                    .hasMessageContaining("address bits from 45 on");
        }
    }

    /// Which algorithms the platform must have and have activated: bits 0 and 2 without integrity, 1 and 3 with it.
    @ParameterizedTest @CsvSource({"1,false,true", "2,true,false", "4,false,true", "8,true,false", "5,false,true", "10,true,false",
        "15,true,true", "0,false,false"})
    void theMemoryIsEncryptedWithOrWithoutIntegrity(long algorithms, boolean withIntegrity, boolean without) {
        long capability = 0x3f6_0000_0000L;
        long activate = (6L << 32) | 3;
        for (boolean integrity : new boolean[] {true, false}) {
            boolean suitable = integrity ? withIntegrity : without;
            try (var platform = new TwoPackages(info(false, !integrity))) {
                setMsr(platform, TME_CAPABILITY, capability | algorithms);
                setMsr(platform, TME_ACTIVATE, activate | (15L << 48));
                assertThat(platform.status(0, SeamcallLeaf.SYS_INIT))
                        .isEqualTo(suitable ? 0 : TdxStatus.INCORRECT_MSR_VALUE.with(TME_CAPABILITY));
            }
            try (var platform = new TwoPackages(info(false, !integrity))) {
                setMsr(platform, TME_CAPABILITY, capability | 15);
                setMsr(platform, TME_ACTIVATE, activate | (algorithms << 48));
                assertThat(platform.status(0, SeamcallLeaf.SYS_INIT))
                        .isEqualTo(suitable ? 0 : TdxStatus.INCORRECT_MSR_VALUE.with(TME_ACTIVATE));
            }
        }
    }

    // SMRR2

    @Test void anSmrr2ThatIsNotSupportedIsLeftAlone() {
        for (boolean notSupported : new boolean[] {false, true}) {
            try (var platform = new TwoPackages(info(notSupported, false))) {
                setMsr(platform, MTRRCAP, 0xdd20 | (1 << 13));
                assertThat(platform.status(0, SeamcallLeaf.SYS_INIT))
                        .isEqualTo(notSupported ? 0 : TdxStatus.SMRR_NOT_LOCKED.with(1));
                setMsr(platform, SMRR2_MASK, 1 << 10);
                platform.status(0, SeamcallLeaf.SYS_INIT);
                platform.recorded[1].msr(SMRR2_BASE, 0x1000);
                assertThat(platform.status(1, SeamcallLeaf.SYS_LP_INIT))
                        .isEqualTo(notSupported ? 0 : TdxStatus.INCONSISTENT_MSR.with(SMRR2_BASE));
            }
        }
    }

    @Test void eitherSmrrIsCheckedAgainstTheConvertibleMemory() {
        try (var platform = withMsr(MTRRCAP, 0xdd20 | (1 << 13))) {
            setMsr(platform, SMRR2_MASK, 0xffff_f000L | (3 << 10));
            setMsr(platform, SMRR2_BASE, 0x6ffff000L);
            assertThat(platform.status(0, SeamcallLeaf.SYS_INIT)).isEqualTo(TdxStatus.SMRR_OVERLAPS_CMR.with(1));
            setMsr(platform, SMRR2_BASE, 0x70000000L);
            assertThat(platform.status(0, SeamcallLeaf.SYS_INIT)).isZero();
        }
    }

    // Topology and time

    @Test void aPackageThatIsSmallerThanACoreStopsThePlatform() {
        try (var platform = new TwoPackages()) {
            platform.cpuidFlips.add(new int[] {0x1f, 0, 0, 1 ^ 9}); // x2APIC ID bits of a core: more than of the package
            assertThatThrownBy(() -> platform.call(0, SeamcallLeaf.SYS_INIT)).isInstanceOf(ModuleHalt.class);
        }
    }

    @Test void theTscFrequencyIsCalculatedUnsigned() {
        try (var platform = new TwoPackages()) {
            platform.cpuidFlips.add(new int[] {0x15, 0, 1, 160 ^ -1}); // EBX all ones
            platform.cpuidFlips.add(new int[] {0x15, 0, 2, 25_000_000 ^ -1}); // ECX all ones
            platform.succeed(0, SeamcallLeaf.SYS_INIT);
            assertThat(platform.module().config.tscHz).isEqualTo(0x7fff_ffff_0000_0000L); // (2^32-1)^2 / 2
        }
    }

    // Convertible memory

    @Test void convertibleRangesThatTouchAreOne() {
        var cmrs = List.of(new Cmr(0x10_0000, 0x6ff0_0000L), new Cmr(4 * TwoPackages.GIB, TwoPackages.GIB / 2),
                new Cmr(4 * TwoPackages.GIB + TwoPackages.GIB / 2, TwoPackages.GIB / 2), new Cmr(5 * TwoPackages.GIB, 3 * TwoPackages.GIB));
        try (var platform = new TwoPackages(new PlatformInfo(TwoPackages.LPS, 2, cmrs, List.of(0x806f8)))) {
            platform.configure();
        }
    }

    @Test void theRefusedTdmrLeavesTheGlobalKeyIdReserved() {
        try (var platform = new TwoPackages()) {
            platform.initializeLps();
            platform.tdmrInfo(0, TwoPackages.TDMR + 1, TwoPackages.GIB, 6 * TwoPackages.GIB);
            assertThat(platform.status(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 1, 50)).isEqualTo(TdxStatus.INVALID_TDMR.code());
            platform.tdmrInfo(0, TwoPackages.TDMR, TwoPackages.GIB, 6 * TwoPackages.GIB);
            platform.succeed(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 1, 51);
            platform.succeed(0, SeamcallLeaf.SYS_KEY_CONFIG);
            platform.succeed(TwoPackages.LPS_PER_PACKAGE, SeamcallLeaf.SYS_KEY_CONFIG);
            platform.initializeGib();
            for (int key : new int[] {50, 51}) {
                assertThat(platform.status(0, SeamcallLeaf.MNG_CREATE, TwoPackages.TDMR, key)).isEqualTo(TdxStatus.HKID_NOT_FREE.code());
            }
            assertThat(platform.status(0, SeamcallLeaf.MNG_CREATE, TwoPackages.TDMR, 52)).isZero();
        }
    }
}
