package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.function.LongUnaryOperator;
import org.junit.jupiter.api.Test;

/// Which metadata fields of a TD the host reads and writes, bit by bit, for a production and a debug TD, and which the guest does.
/// [TDX-ABI "TD-Scope Metadata"]
class MetadataLegalityTest {
    private static final long NOT_WRITABLE = 0xC000_0C01_0000_0000L;
    private static final long NOT_READABLE = 0xC000_0C02_0000_0000L;
    private static final long ID_INCORRECT = 0xC000_0C00_0000_0000L;
    private static final int R9 = 9;
    /// Secure EPT roots of L2 VMs, which these TDs do not have.
    private static final long[] ABSENT = {0x2510_0003_0000_0000L, 0x2910_0003_0000_0000L, 0x2d10_0003_0000_0000L};

    /// Read and writable bits by the host of a production TD, by the host of a debug TD and by the guest; then identifiers.
    private static final String ROWS = """
            r 0 r 0 - 0          8010000000000001 8010000200000002 8010000300000004 8010000200000005 8010000300000010
            r 0 r 0 - 0          8110000100000001 8110000300000002 8210000100000000 8210000300000001 9010000200000002
            r 0 r 0 - 0          9010000200000004 1110000300000004 111000030000000a 111000030000000b 911000010000000e
            r 0 r 0 - 0          911000020000000f 9110000000000018 9110000200000800 9210000300000000 9210000100000001
            r 0 r 0 - 0          9810000000000001 9810000200000002 9810000200000003 9810000200000004 9810000300000005
            r 0 r 0 - 0          9810000300000006 9810000100000020 9810000100000021 9810000300000030 9810000300000031
            r 0 r 0 - 0          9810000100000032 9810000200000034 9a10000300000000 9c10000200000000
            r 0 r 0 r 0          8010000300000020 9010000200000001 9010000100000005 1110000300000000 1110000300000001
            r 0 r 0 r 0          1110000200000002 1110000000000003 111000010000000c 9110000300000016 9110000000000019
            r 0 r 0 r 0          1310000300000000 1310000300000010 1310000300000018 1310000300000020 9810000300000040
            r 0 r 0 r 0          9910000300000000 9910000100000006 9910000300000080
            - 0 - 0 - 0          8210000300000002 111000030000000d
            - 0 r 1 r 1          9110000300000010
            r all r all - 0      9110000300000011
            r 1 r 1 - 0          9110000300000012
            - 0 r 0 r 7          9110000300000017
            - 0 r 0 - 0          9110000000000080 961000030000010a 9610000300000480 9610000300000485 9610000300000486
            - 0 r 0 - 0          9610000300000487 9610000300000488 9610000300000489 961000030000048b 961000030000048c
            - 0 r 0 - 0          961000030000048d 961000030000048e 961000030000048f 9610000300000490 9610000300000491
            - 0 r 0 - 0          9610000300000492 9610000300000493 9810000300000010 9810000300000014 9810000300000018
            - 0 r 0 - 0          981000030000001c 2010000300000000 2110000300000000
            - 0 r 0 - 0         
            - 0 r 0 r 0          1310000300000040
            """;

    /// A caller: its columns in the rows, what a read of a field returns and what a write to some bits of it.
    private record Caller(String name, int column, LongUnaryOperator read, Write write) {
    }

    private interface Write {
        long run(long id, long bits);
    }

    @Test void theHostOfAProductionTdReachesWhatItMay() {
        assertThat(host("vp-basic", 0)).isEmpty();
    }

    @Test void theHostOfADebugTdReachesWhatItMay() {
        assertThat(host("vp-debug", 2)).isEmpty();
    }

    private static List<String> host(String setup, int column) {
        try (var td = new RecordedTd("{\"op\":\"include\",\"file\":\"setup/" + setup + ".jsonl\"}")) {
            return differences(new Caller(setup, column, id -> td.seamcall(11, RecordedTd.TDR, id, 0, 0).get(0),
                    (id, bits) -> td.seamcall(13, RecordedTd.TDR, id, 0, bits).get(0)));
        }
    }

    @Test void theGuestReachesWhatItMay() {
        try (var td = new RecordedTd("{\"op\":\"include\",\"file\":\"setup/run-debug-2.jsonl\"}")) {
            assertThat(differences(new Caller("guest", 4, id -> guest(td, 7, id, 0), (id, bits) -> guest(td, 8, id, bits)))).isEmpty();
        }
    }

    private static long guest(RecordedTd td, int leaf, long id, long bits) {
        td.machine.cpus[0].registers()[R9] = bits;
        assertThat(td.tdcall(leaf, 0, id, 0)).as("the guest goes on").isTrue();
        return td.guest(0);
    }

    private static List<String> differences(Caller caller) {
        var found = new ArrayList<String>();
        for (long id : ABSENT) {
            if (caller.read.applyAsLong(id) != ID_INCORRECT || caller.write.run(id, -1) != ID_INCORRECT) {
                found.add(caller.name + " has " + Long.toHexString(id));
            }
        }
        ROWS.lines().map(line -> line.split(" +")).forEach(c -> {
            for (int i = 6; i < c.length; i++) {
                long id = Long.parseUnsignedLong(c[i], 16);
                boolean readable = c[caller.column].equals("r");
                long status = caller.read.applyAsLong(id);
                if (status != (readable ? 0 : NOT_READABLE)) {
                    found.add(caller.name + " reads " + c[i] + ": " + Long.toHexString(status));
                }
                var bits = c[caller.column + 1];
                int size = 8 << (int) (id >>> 32 & 3);
                long all = size == 64 ? -1L : (1L << size) - 1;
                long wanted = bits.equals("all") ? all : Long.parseLong(bits, 16);
                long writable = 0;
                for (int bit = 0; bit < size; bit++) {
                    writable |= caller.write.run(id, 1L << bit) == NOT_WRITABLE ? 0 : 1L << bit;
                }
                if (writable != wanted) {
                    found.add(caller.name + " writes bits " + Long.toHexString(writable) + " of " + c[i]);
                }
            }
        });
        return found;
    }
}
