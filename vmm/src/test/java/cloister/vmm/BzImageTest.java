package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

final class BzImageTest {
    /// A minimal image: one setup sector, two sectors of kernel.
    static byte[] image() {
        var image = ByteBuffer.allocate(4 * 512).order(ByteOrder.LITTLE_ENDIAN);
        image.put(0x1f1, (byte) 1).putInt(0x1f4, 2 * 512 / 16).putShort(0x1fe, (short) 0xaa55);
        image.put(0x201, (byte) 0x6a).putInt(0x202, 0x53726448).putShort(0x206, (short) 0x20f);
        image.put(0x211, (byte) 1).putInt(0x22c, 0x7fffffff).put(0x234, (byte) 1).putShort(0x236, (short) 0x3f);
        image.putInt(0x238, 2047).putLong(0x258, 0x1000000).putInt(0x260, 0x300000);
        image.put(1024, (byte) 0x42);
        return image.array();
    }

    private static void rejects(Consumer<ByteBuffer> damage, String reason) {
        byte[] image = image();
        damage.accept(ByteBuffer.wrap(image).order(ByteOrder.LITTLE_ENDIAN));
        assertThatThrownBy(() -> new BzImage(image, "vmlinuz")).isInstanceOf(UserError.class)
                .hasMessageStartingWith("kernel vmlinuz ").hasMessageContaining(reason);
    }

    @Test void readsTheSetupHeader() {
        var kernel = new BzImage(image(), "vmlinuz");
        assertThat(kernel.preferredGpa()).isEqualTo(0x1000000);
        assertThat(kernel.initSize()).isEqualTo(0x300000);
        assertThat(kernel.protectedModePart()).hasSize(1024).startsWith(0x42);
        assertThat(kernel.setupHeader()).hasSize(0x202 + 0x6a - 0x1f1);
    }

    @Test void saysWhatIsWrongWithAnImage() {
        rejects(i -> i.putInt(0x202, 0), "is not a bzImage");
        rejects(i -> i.putShort(0x1fe, (short) 0), "is not a bzImage");
        rejects(i -> i.putInt(0, 0x464c457f).putInt(0x202, 0), "ELF");
        rejects(i -> i.putShort(0x206, (short) 0x20a), "protocol 2.10, too old");
        rejects(i -> i.putShort(0x236, (short) 0), "64-bit");
        rejects(i -> i.putInt(0x1f4, 4096), "truncated: 2048 bytes of 66560");
        assertThatThrownBy(() -> new BzImage(new byte[100], "x")).hasMessageContaining("too short");
    }

    @Test void saysWhatDoesNotFit() {
        var kernel = new BzImage(image(), "vmlinuz");
        assertThatThrownBy(() -> new GuestLayout(16 << 20).kernelGpa(kernel)).isInstanceOf(UserError.class)
                .hasMessageContaining("too little").hasMessageContaining("32 MiB");
        var layout = new GuestLayout(64 << 20);
        assertThatThrownBy(() -> layout.initrdGpa(kernel, 50 << 20)).isInstanceOf(UserError.class)
                .hasMessageContaining("does not fit");
        assertThat(layout.initrdGpa(kernel, 5000)).isEqualTo((64 << 20) - 8192);
    }

    @Test void machineOptionsAreChecked() {
        var config = new MachineConfig().kernel(image(), "k");
        assertThatThrownBy(() -> config.cpus(0).check()).hasMessageContaining("0 CPUs");
        assertThatThrownBy(() -> config.cpus(10_000).check()).hasMessageContaining("10000 CPUs");
        assertThatThrownBy(() -> config.cpus(1).memoryBytes(4097).check()).hasMessageContaining("2 MiB");
        assertThatThrownBy(() -> new MachineConfig().check()).hasMessageContaining("no kernel");
        assertThatThrownBy(() -> GuestImage.linux(config.memoryBytes(64 << 20).commandLine("x".repeat(3000)),
                new GuestLayout(64 << 20))).hasMessageContaining("at most 2047");
    }

    @Test void bootParamsTellTheKernelWhereThingsAre() {
        var layout = new GuestLayout(5L << 30);
        var page = ByteBuffer.wrap(BootParams.build(new BzImage(image(), "k"), 0x3000000, 77, 0xe0000,
                E820.of(layout, true))).order(ByteOrder.LITTLE_ENDIAN);
        assertThat(page.getLong(0x70)).isEqualTo(0xe0000);
        assertThat(page.getInt(0x202)).isEqualTo(0x53726448);
        assertThat(page.get(0x210)).isEqualTo((byte) 0xff);
        assertThat(page.getInt(0x218)).isEqualTo(0x3000000);
        assertThat(page.getInt(0x21c)).isEqualTo(77);
        assertThat(page.get(0x1e8)).isEqualTo((byte) 6);
        int last = 0x2d0 + 5 * 20;
        assertThat(page.getLong(last)).isEqualTo(1L << 32);
        assertThat(page.getLong(last + 8)).isEqualTo(2L << 30);
        assertThat(page.getInt(last + 16)).isEqualTo(1);
    }
}
