package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

final class TdFirmwareTest {
    private static final List<TdFirmware.Range> RANGES = List.of(new TdFirmware.Range(0, 0x7000),
            new TdFirmware.Range(0x8000, 0x10000000));

    @Test void sameArgumentsSameBytes() {
        byte[] one = TdFirmware.build(0x1000200, RANGES);
        assertThat(one).hasSize(TdFirmware.BYTES).isEqualTo(TdFirmware.build(0x1000200, RANGES));
    }

    @Test void onlyTheParameterPageDependsOnTheMachine() {
        byte[] one = TdFirmware.build(0x1000200, RANGES);
        byte[] other = TdFirmware.build(0x2000000, List.of());
        for (int at = 0; at < one.length; at++) {
            if (at < 0x6000 || at >= 0x7000) {
                assertThat(one[at]).isEqualTo(other[at]);
            }
        }
    }

    @Test void resetVectorJumpsToTheCode() {
        var image = ByteBuffer.wrap(TdFirmware.build(0x1000200, RANGES)).order(ByteOrder.LITTLE_ENDIAN);
        assertThat(image.get(0xfff0) & 0xff).isEqualTo(0xe9);
        assertThat(0xfff5 + image.getInt(0xfff1)).isEqualTo((int) (TdFirmware.CODE_GPA - TdFirmware.BASE_GPA));
    }

    @Test void parametersListEntryAndRanges() {
        var image = ByteBuffer.wrap(TdFirmware.build(0x1000200, RANGES)).order(ByteOrder.LITTLE_ENDIAN);
        assertThat(image.getLong(0x6000)).isEqualTo(TdFirmware.PARAMETERS_MAGIC);
        assertThat(image.getLong(0x6008)).isEqualTo(0x1000200);
        assertThat(image.getLong(0x6010)).isEqualTo(GuestLayout.BOOT_PARAMS_GPA);
        assertThat(image.getLong(0x6018)).isEqualTo(2);
        assertThat(image.getLong(0x6038)).isEqualTo(0x10000000);
    }

    @Test void identityMapReachesFourGibibytes() {
        var image = ByteBuffer.wrap(TdFirmware.build(0, RANGES)).order(ByteOrder.LITTLE_ENDIAN);
        assertThat(image.getLong(0)).isEqualTo((TdFirmware.PAGE_TABLES_GPA + 0x1000) | 3);
        assertThat(image.getLong(0x1018)).isEqualTo((TdFirmware.PAGE_TABLES_GPA + 0x5000) | 3);
        assertThat(image.getLong(0x5ff8)).isEqualTo(0xffe00083L);
    }

    @Test void acceptsWhatTheImageDoesNotHold() {
        var image = new GuestImage();
        image.add("b", 0x200000, new byte[5000]);
        image.add("a", 0x7000, new byte[1]);
        assertThat(TdFirmware.toAccept(image, new GuestLayout(64 << 20))).containsExactly(
                new TdFirmware.Range(0, 0x7000), new TdFirmware.Range(0x8000, 0x200000),
                new TdFirmware.Range(0x202000, 64 << 20));
        assertThat(TdFirmware.toAccept(new GuestImage(), new GuestLayout(5L << 30))).containsExactly(
                new TdFirmware.Range(0, GuestLayout.HOLE_START), new TdFirmware.Range(1L << 32, (1L << 32) + (2L << 30)));
    }

    @Test void codeEntersLongModeBeforeItGoesOn() {
        byte[] image = TdFirmware.build(0, RANGES);
        var names = new ArrayList<String>();
        int at = 0xe000;
        while (names.isEmpty() || !names.getLast().equals("JMP_FAR")) {
            var instruction = new Decoder().decode(CodeMode.BITS32, image, at, 15);
            names.add(instruction.op.name());
            at += instruction.length;
            assertThat(at).as("still in the code: %s", names).isLessThan(0xfff0);
        }
        assertThat(names).as("GDT, CR4.PAE, CR3, CR0.PG, far jump: the manual's order")
                .containsExactly("LGDT", "MOV_CR", "OR", "MOV_CR", "MOV", "MOV_CR", "MOV_CR", "OR", "MOV_CR", "JMP_FAR");
    }
}
