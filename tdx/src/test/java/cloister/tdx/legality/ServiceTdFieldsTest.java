package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.BUILT;
import static cloister.tdx.legality.TdPair.R10;
import static cloister.tdx.legality.TdPair.R8;
import static cloister.tdx.legality.TdPair.RAX;
import static cloister.tdx.legality.TdPair.RCX;
import static cloister.tdx.legality.TdPair.RDX;
import static cloister.tdx.legality.TdPair.RUNNING;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.FieldTable;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

/// Which fields of a TD its migration TD reads and writes; the rows here are the definition's. [TDX-ABI "TDR and TDCS Metadata Fields"]
class ServiceTdFieldsTest {
    private static final int BIND = 48;
    private static final int RD = 18;
    private static final int WR = 20;
    private static final long NOT_READABLE = 0xC000_0C02_0000_0000L;
    private static final long NOT_WRITABLE = 0xC000_0C01_0000_0000L;
    private static final long FIRST_FIELD = 0x0000_0C0B_0000_0000L;
    private static final long ID_INCORRECT = 0xC000_0C00_0000_0000L;
    private static final long EXPORT_COUNT = 0x9810_0002_0000_0002L;
    private static final int CPUID_CLASS = 0x14;

    /// First identifier, elements in all, what it is, w when it is also written.
    private static final String READABLE = """
            8010000300000020 4   TD_UUID
            9010000100000005 1   NUM_L2_VMS
            1110000300000000 1   ATTRIBUTES
            1110000300000001 1   XFAM
            1110000000000003 1   GPAW
            1110000300000004 1   EPTP
            9110000300000016 1   CONFIG_FLAGS
            9110000000000019 1   TOPOLOGY_ENUM_CONFIGURED
            9810000200000002 1   EXPORT_COUNT
            9810000200000003 1   IMPORT_COUNT
            9810000300000010 4   MIG_DEC_KEY w
            9810000300000014 4   MIG_DEC_WORKING_KEY
            9810000300000018 4   MIG_ENC_KEY
            981000030000001C 4   MIG_ENC_WORKING_KEY
            9810000100000020 1   MIG_VERSION w
            9810000100000021 1   MIG_WORKING_VERSION
            9810000300000040 4   PRE_IMPORT_UUID
            9910000300000000 6   SERVTD_HASH
            9910000100000006 1   SERVTD_NUM
            9C10000200000000 576 X2APIC_IDS
            """;

    private static List<Long> elements(boolean written) {
        var ids = new ArrayList<Long>();
        READABLE.lines().map(line -> line.split(" +")).filter(c -> !written || c.length > 3).forEach(c -> {
            for (int i = 0; i < Integer.parseInt(c[1]); i++) {
                ids.add(Long.parseUnsignedLong(c[0], 16) + i);
            }
        });
        return ids;
    }

    private static boolean isCpuid(long id) {
        return ((id >>> 56) & 0x3f) == CPUID_CLASS;
    }

    private static long bind(TdPair tds) {
        var bound = tds.call(BIND, BUILT, RUNNING);
        assertThat(bound.get(RAX)).isZero();
        for (int i = 0; i < 4; i++) {
            tds.td.machine.cpus[0].registers()[R10 + i] = bound.get(R10 + i);
        }
        return bound.get(RCX);
    }

    /// CPUID values come between the others: a leaf that the TD does not have cannot be read, which ends a walk.
    @Test void aWalkMeetsWhatIsReadableInOrder() {
        try (var tds = new TdPair().create()) {
            long handle = bind(tds);
            tds.init(1);
            assertThat(tds.guest(RD, handle, -1)).isTrue();
            assertThat(tds.guestRegister(RAX)).isEqualTo(FIRST_FIELD);
            var met = new ArrayList<Long>();
            walk(tds, handle, tds.guestRegister(RDX), met);
            assertThat(isCpuid(tds.guestRegister(RDX))).isTrue();
            walk(tds, handle, EXPORT_COUNT, met);
            assertThat(tds.guestRegister(RDX)).isEqualTo(-1);
            assertThat(met).isEqualTo(elements(false));
        }
    }

    private static void walk(TdPair tds, long handle, long first, List<Long> met) {
        for (long id = first; id != -1 && !isCpuid(id); id = tds.guestRegister(RDX)) {
            met.add(id);
            assertThat(tds.guest(RD, handle, id)).isTrue();
            assertThat(tds.guestRegister(RAX)).as("0x%x", id).isZero();
        }
    }

    @Test void everyOtherFieldIsHidden() {
        try (var tds = new TdPair().create()) {
            long handle = bind(tds);
            tds.init(1);
            var readable = new TreeSet<>(elements(false));
            var written = new TreeSet<>(elements(true));
            for (var field : FieldTable.TD.fields()) {
                if (field.classCode() == CPUID_CLASS || ((field.classCode() & ~0xc) == 0x21 && field.classCode() != 0x21)) {
                    continue; // by leaf; and L2 VMs, of which this TD has none
                }
                int count = Math.min(600, field.count() * field.elements());
                for (int i = 0; i < count; i++) {
                    long id = field.id() + (long) i * field.stride();
                    assertThat(tds.guest(RD, handle, id)).isTrue();
                    assertThat(tds.guestRegister(RAX)).as("%s: 0x%x", field.name(), id)
                            .isEqualTo(readable.remove(id) ? 0 : NOT_READABLE);
                    assertThat(tds.guest(WR, handle, id, 0, -1)).isTrue();
                    assertThat(tds.guestRegister(RAX)).as("%s: 0x%x", field.name(), id).isEqualTo(written.remove(id) ? 0 : NOT_WRITABLE);
                }
            }
            assertThat(readable).as("named here, not known there").isEmpty();
            assertThat(written).isEmpty();
            tds.guest(RD, handle, 0x2510_0003_0000_0000L); // the tree of an L2 VM
            assertThat(tds.guestRegister(RAX)).isEqualTo(ID_INCORRECT);
        }
    }

    @Test void theRootOfTheSecureEptIsHidden() {
        try (var tds = new TdPair().create()) {
            long handle = bind(tds);
            tds.init(1);
            tds.guest(RD, handle, 0x1110_0003_0000_0004L);
            assertThat(tds.builtTdcs().u64(0x98) & 0xf_ffff_ffff_f000L).isNotZero();
            assertThat(tds.guestRegister(R8)).as("EPTP without its address").isEqualTo(0x1e);
        }
    }
}
