package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.core.ModuleState;
import cloister.tdx.core.Structure;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import java.security.MessageDigest;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;

/// Corners of the creation of TDs and VCPUs that the recordings do not reach. [TDX-BASE "TD Life Cycle Management"]
class TdLifeCycleTest {
    private static final long EPTP_CONTROLS_INVALID = 0xC000_0100_0000_0043L;
    private static final long RDX_INVALID = 0xC000_0100_0000_0002L;
    private static final int MAXPA_48 = 48;
    private static final long KEY_ID_1 = 1L << 46;
    private static final long LP_DEPENDENT_HPA_UPDATED = 0xA020_0000_0000_0048L;

    @Test void aProcessorOf48AddressBitsRefusesWideGpasForTheEptNotForTheFlag() {
        try (var made = new MadeTd()) {
            made.td.machine.core.module.config.maxPa = MAXPA_48;
            made.param(32, 8, 1);
            assertThat(made.init().get(0)).isEqualTo(EPTP_CONTROLS_INVALID);
        }
    }

    @Test void parametersInSeamMemoryAreRefusedWhateverTheirKeyId() {
        try (var made = new MadeTd()) {
            long seam = made.td.machine.core.module.config.seamrrBase;
            assertThat(made.td.seamcall(21, RecordedTd.TDR, seam, 0, 0).get(0)).isEqualTo(RDX_INVALID);
            assertThat(made.td.seamcall(21, RecordedTd.TDR, seam | KEY_ID_1, 0, 0).get(0)).isEqualTo(RDX_INVALID);
        }
    }

    @Test void aVcpuThatComesToAnLpHasNoHostStateOfItYet() {
        try (var td = new RecordedTd("{\"op\":\"include\",\"file\":\"setup/run-debug-2.jsonl\"}")) {
            td.tdcall(0, 0, 0, 0);
            assertThat(td.machine.inGuest(0)).isFalse();
            assertThat(td.seamcall(26, RecordedTd.TDVPR, LP_DEPENDENT_HPA_UPDATED, 0, 0).get(8)).isOne();
            assertThat(td.seamcall(18, RecordedTd.TDVPR, 0, 0, 0).get(0)).isZero();
            var read = td.seamcall(26, RecordedTd.TDVPR, LP_DEPENDENT_HPA_UPDATED, 0, 0);
            assertThat(read.get(0)).isZero();
            assertThat(read.get(8)).isZero();
        }
    }

    @Test void theServiceTdsThatWereAnnouncedAreMeasured() throws Exception {
        try (var made = new MadeTd()) {
            long hash = 0x22_0000;
            byte[] info = HexFormat.of().parseHex("5a".repeat(48));
            made.td.machine.memory.write(hash, info, 0, info.length);
            made.init();
            assertThat(made.td.seamcall(49, RecordedTd.TDR, hash, 0, 0).get(0)).isZero();
            made.enter(0);
            byte[] typeAndAttributes = new byte[10];
            var sha = MessageDigest.getInstance("SHA-384");
            sha.update(info);
            assertThat(Structure.copy(made.td.machine.memory, made.td.tdcs.at(Tdcs.SERVTD_HASH), 48))
                    .isEqualTo(sha.digest(typeAndAttributes));
        }
    }

    @Test void aVcpuWhoseX2apicIdIsTakenCountsAllTheSame() {
        try (var made = new MadeTd()) {
            made.init();
            assertThat(made.initVcpu(made.createVcpu(0, 6), 7).get(0)).isZero();
            long second = made.createVcpu(1, 6);
            assertThat(made.initVcpu(second, 1L << 32).get(0)).isEqualTo(0xC000_0100_0000_0008L);
            assertThat(made.td.tdcs.u32(Tdcs.NUM_VCPUS)).isEqualTo(1);
            assertThat(made.initVcpu(second, 7).get(0)).isEqualTo(0xC000_0621_0000_0007L);
            assertThat(made.td.tdcs.u32(Tdcs.NUM_VCPUS)).isEqualTo(2);
            assertThat(made.initVcpu(second, 0).get(0)).as("the ID that the failed call left").isEqualTo(0xC000_0621_0000_0000L);
            assertThat(made.initVcpu(second, 8).get(0)).isZero();
            assertThat(made.td.seamcall(17, RecordedTd.TDR, 0, 0, 0).get(0)).isZero();
        }
    }

    @Test void thePagesOfL2VmsAreZeroOrForbidAllMsrs() {
        try (var made = new MadeTd()) {
            made.addTdcsPages(8);
            made.param(18, 1, 2);
            assertThat(made.init().get(0)).isZero();
            long tdvpr = made.createVcpu(0, 12);
            var vcpu = Tdvps.rootOnly(made.td.machine.memory, tdvpr, made.td.tdr.keyId());
            for (int page = 1; page < 12; page++) {
                boolean bitmap = page == 7 || page == 8 || page == 10 || page == 11;
                assertThat(made.td.machine.memory.read(vcpu.u64(Tdvps.PAGE_PA + 8 * page), 8)).as("page %d", page)
                        .isEqualTo(bitmap ? -1 : 0);
            }
            assertThat(made.initVcpu(tdvpr, 0).get(0)).isZero();
            assertThat(vcpu.u64(Tdvps.SHADOW_SHARED_EPTP + 16)).isEqualTo(ModuleState.NULL_PA);
        }
    }
}
