package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;

final class AcpiTablesTest {
    private static final int BASE = 0xe0000;

    private static ByteBuffer block(int cpus, long mailbox) {
        return ByteBuffer.wrap(AcpiTables.build(BASE, 0x10000, cpus, mailbox, 0xffffe123L)).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static int sum(ByteBuffer block, int from, int length) {
        int sum = 0;
        for (int i = 0; i < length; i++) {
            sum += block.get(from + i);
        }
        return sum & 0xff;
    }

    private static Map<String, ByteBuffer> tables(ByteBuffer block) {
        assertThat(sum(block, 0, 20)).isZero();
        assertThat(sum(block, 0, 36)).isZero();
        var result = new LinkedHashMap<String, ByteBuffer>();
        int xsdt = (int) block.getLong(24) - BASE;
        add(result, block, xsdt);
        for (int at = xsdt + 36; at < xsdt + block.getInt(xsdt + 4); at += 8) {
            add(result, block, (int) block.getLong(at) - BASE);
        }
        add(result, block, (int) result.get("FACP").getLong(140) - BASE);
        return result;
    }

    private static void add(Map<String, ByteBuffer> result, ByteBuffer block, int at) {
        int length = block.getInt(at + 4);
        byte[] signature = new byte[4];
        block.get(at, signature);
        assertThat(sum(block, at, length)).as(new String(signature, StandardCharsets.US_ASCII)).isZero();
        result.put(new String(signature, StandardCharsets.US_ASCII), block.slice(at, length).order(ByteOrder.LITTLE_ENDIAN));
    }

    @Test void everyTableIsReachableAndSumsToZero() {
        assertThat(tables(block(1, 0))).containsOnlyKeys("XSDT", "FACP", "APIC", "MCFG", "DSDT");
    }

    @Test void fadtNamesTheHardware() {
        var fadt = tables(block(1, 0)).get("FACP");
        assertThat(fadt.getInt(56)).isEqualTo(0x600);
        assertThat(fadt.getInt(64)).isEqualTo(0x604);
        assertThat(fadt.getInt(76)).isEqualTo(0x608);
        assertThat((fadt.getInt(112) >> 10) & 1).as("reset register").isEqualTo(1);
        assertThat((fadt.getInt(112) >> 20) & 1).as("hardware-reduced").isZero();
        assertThat(fadt.getLong(120)).isEqualTo(0xcf9);
        assertThat(fadt.get(128)).isEqualTo((byte) 6);
        assertThat(fadt.getInt(36) % 64).as("FACS alignment").isZero();
        assertThat(fadt.getInt(36)).as("FIRMWARE_CTRL").isPositive();
        assertThat(fadt.getLong(132)).as("X_FIRMWARE_CTRL: the FACS must be listed once").isZero();
    }

    @Test void mcfgIsWhereTheBoardHasIt() {
        var mcfg = tables(block(1, 0)).get("MCFG");
        assertThat(mcfg.getLong(44)).isEqualTo(0xe0000000L);
        assertThat(mcfg.getShort(52)).as("segment").isZero();
        assertThat(mcfg.get(54)).as("first bus").isZero();
        assertThat(mcfg.get(55)).as("last bus").isEqualTo((byte) 255);
        assertThat(mcfg.capacity()).isEqualTo(60);
    }

    @Test void madtListsCpusAndTheMailbox() {
        var madt = tables(block(3, 0xffff7000L)).get("APIC");
        var types = new StringBuilder();
        long mailbox = 0;
        for (int at = 44; at < madt.capacity(); at += madt.get(at + 1)) {
            types.append(madt.get(at)).append(' ');
            if (madt.get(at) == 0x10) {
                mailbox = madt.getLong(at + 8);
                assertThat(madt.getLong(at + 16)).isEqualTo(0xffffe123L);
            }
        }
        assertThat(types).hasToString("0 0 0 1 2 16 ");
        assertThat(mailbox).isEqualTo(0xffff7000L);
    }

    @Test void amlEncodesAsTheSpecificationSays() {
        assertThat(Aml.eisaId("PNP0A03")).containsExactly(0x0c, 0x41, 0xd0, 0x0a, 0x03);
        assertThat(Aml.name("_UID", Aml.integer(1))).containsExactly(8, '_', 'U', 'I', 'D', 1);
        assertThat(Aml.integer(0x1234)).containsExactly(0x0b, 0x34, 0x12);
        assertThat(Aml.path("\\_SB_.PCI0")).containsExactly('\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0');
        assertThat(Aml.scope("\\_SB_")).containsExactly(0x10, 6, '\\', '_', 'S', 'B', '_');
        assertThat(Aml.packageOf(Aml.integer(5), Aml.integer(0))).containsExactly(0x12, 5, 2, 0x0a, 5, 0);
        assertThat(Aml.fixedMemory(0xe0000000L, 0x10000000)).containsExactly(0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0, 0x10);
        byte[] large = Aml.scope("ABCD", new byte[0x3b]);
        assertThat(large).startsWith(0x10, 0x41, 0x04).hasSize(1 + 0x41);
        assertThat(Aml.resources(Aml.io(0x3f8, 8), Aml.irq(4))).containsExactly(0x11, 0x10, 0x0a, 0x0d,
                0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x22, 0x10, 0, 0x79, 0);
    }
}
