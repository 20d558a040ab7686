package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// Headers of bzImages: each legal value boots, each illegal one is named.
final class BzImageTest {
    private static final int MEMORY = 16 << 20;
    private static final String LINE = "console=ttyS0";

    private static byte[] image() {
        return TinyGuest.kernel(VmType.DEFAULT);
    }

    private static MemorySegment segment(byte[] image) {
        return MemorySegment.ofArray(image);
    }

    private static BzImage kernel() {
        return new BzImage(segment(image()), "k");
    }

    private static byte[] with(byte[] image, int offset, int size, long value) {
        var header = ByteBuffer.wrap(image).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < size; i++) {
            header.put(offset + i, (byte) (value >>> (8 * i)));
        }
        return image;
    }

    private static byte[] initrd(int bytes) {
        var content = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
        return content.putInt(0, TinyGuest.INITRD_MARK).putInt(bytes - 4, TinyGuest.INITRD_MARK).array();
    }

    private static void boots(MachineConfig config) {
        var console = new StringBuilder();
        config.commandLine(LINE).console(octet -> console.append((char) octet));
        try (var machine = new Machine(config)) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
        }
        assertThat(console).hasToString(TinyGuest.KERNEL_OUTPUT + LINE + "\n");
    }

    @ParameterizedTest
    @EnumSource(VmType.class)
    void theSmallestKernelBoots(VmType type) {
        boots(new MachineConfig().vmType(type).kernel(TinyGuest.kernel(type), "k").initrd(initrd(5000)).memoryBytes(MEMORY));
        boots(new MachineConfig().vmType(type).kernel(with(TinyGuest.kernel(type), 0x258, 8, 0x300010), "k")
                .initrd(new byte[0]).memoryBytes(MEMORY + (1 << 20)));
    }

    @ParameterizedTest(name = "{0} {3}")
    @CsvSource(delimiter = '|', textBlock = """
            setup_sects         | 0x1f1 | 1 | 1
            syssize             | 0x1f4 | 4 | 0
            version             | 0x206 | 2 | 0x20c
            version             | 0x206 | 2 | 0x20d
            version             | 0x206 | 2 | 0x20e
            version             | 0x206 | 2 | 0x300
            jump, to init_size  | 0x201 | 1 | 0x62
            jump, the longest   | 0x201 | 1 | 0x7f
            kernel_version      | 0x20e | 2 | 0x1ff
            type_of_loader      | 0x210 | 1 | 0xe0
            loadflags           | 0x211 | 1 | 0xff
            code32_start        | 0x214 | 4 | 0xffffffff
            ramdisk_image       | 0x218 | 4 | 0xffffffff
            ramdisk_size        | 0x21c | 4 | 0xffffffff
            ext_loader_ver      | 0x226 | 2 | 0xffff
            cmd_line_ptr        | 0x228 | 4 | 0xffffffff
            initrd, highest     | 0x22c | 4 | 0xffffffff
            initrd, above       | 0x22c | 4 | 0x7fffff
            initrd, below       | 0x22c | 4 | 0x1fffff
            initrd, low memory  | 0x22c | 4 | 0x9ffff
            kernel_alignment    | 0x230 | 4 | 1
            kernel_alignment    | 0x230 | 4 | 0x800000
            min_alignment       | 0x235 | 1 | 23
            relocatable_kernel  | 0x234 | 1 | 0
            xloadflags          | 0x236 | 2 | 0xffff
            cmdline_size        | 0x238 | 4 | 13
            cmdline_size        | 0x238 | 4 | 0xffffffff
            hardware_subarch    | 0x23c | 4 | 2
            payload_offset      | 0x248 | 4 | 0xffffffff
            payload_length      | 0x24c | 4 | 16
            setup_data          | 0x250 | 8 | 0x123456789abcdef0
            pref_address, none  | 0x258 | 8 | 0
            pref_address, low   | 0x258 | 8 | 0x10000
            pref_address        | 0x258 | 8 | 0x7ff123
            init_size, none     | 0x260 | 4 | 0
            init_size           | 0x260 | 4 | 0xd00000
            handover_offset     | 0x264 | 4 | 0xffffffff
            """)
    void everyLegalValueBoots(String field, String offset, int size, String value) {
        byte[] image = with(image(), Integer.decode(offset), size, Long.decode(value));
        boots(new MachineConfig().vmType(VmType.DEFAULT).kernel(image, "k").initrd(initrd(5000)).memoryBytes(MEMORY));
    }

    @Test void setupSectorsAreFourWhereTheFieldIsZero() {
        byte[] one = image();
        byte[] four = new byte[one.length + 3 * 512];
        System.arraycopy(one, 0, four, 0, 1024);
        System.arraycopy(one, 1024, four, 5 * 512, one.length - 1024);
        boots(new MachineConfig().vmType(VmType.DEFAULT).kernel(with(four, 0x1f1, 1, 0), "k").memoryBytes(MEMORY));
    }

    /// A kernel that cannot be relocated goes where it says, in whatever alignment.
    @Test void theAlignmentOfAKernelThatStaysMeansNothing() {
        byte[] image = with(with(with(image(), 0x234, 1, 0), 0x230, 4, 3), 0x258, 8, 0x345671);
        boots(new MachineConfig().vmType(VmType.DEFAULT).kernel(image, "k").memoryBytes(MEMORY));
        assertThat(new BzImage(segment(image), "k").preferredGpa(1L << 32)).isEqualTo(0x345671);
    }

    @ParameterizedTest(name = "{0} {3}")
    @CsvSource(delimiter = '|', textBlock = """
            setup_sects      | 0x1f1 | 1 | 255                | truncated
            syssize          | 0x1f4 | 4 | 4096               | truncated
            boot_flag        | 0x1fe | 2 | 0                  | is not a bzImage
            jump             | 0x200 | 1 | 0xe9               | has jump 0x6ae9, which is no short jump
            jump             | 0x201 | 1 | 0x61               | has jump 0x61eb, which ends the header before init_size
            jump             | 0x201 | 1 | 0x80               | has jump 0x80eb, which ends the header before init_size
            header           | 0x202 | 4 | 0                  | is not a bzImage
            version          | 0x206 | 2 | 0x20b              | protocol 2.11, too old
            version          | 0x206 | 2 | 0                  | protocol 0.00, too old
            kernel_version   | 0x20e | 2 | 0x200              | has kernel_version 0x200
            loadflags        | 0x211 | 1 | 0x80               | has loadflags 0x80
            kernel_alignment | 0x230 | 4 | 0                  | has kernel_alignment 0x0
            kernel_alignment | 0x230 | 4 | 0x300000           | has kernel_alignment 0x300000
            kernel_alignment | 0x230 | 4 | 0x80000000         | memory of 16 MiB is too little
            min_alignment    | 0x235 | 1 | 32                 | has min_alignment 0x20
            xloadflags       | 0x236 | 2 | 0xfffe             | has xloadflags 0xfffe
            cmdline_size     | 0x238 | 4 | 12                 | at most 12 (cmdline_size)
            payload_length   | 0x24c | 4 | 0xffffffff         | has payload_length 0xffffffff
            pref_address     | 0x258 | 8 | 0xffffffffffffffff | has pref_address 0xffffffffffffffff
            pref_address     | 0x258 | 8 | 0xc0000000         | has pref_address 0xc0000000
            pref_address     | 0x258 | 8 | 0xbfffffff         | pref_address, kernel_alignment and init_size
            init_size        | 0x260 | 4 | 0xe00001           | memory of 16 MiB is too little
            init_size        | 0x260 | 4 | 0xffffffff         | pref_address, kernel_alignment and init_size
            initrd_addr_max  | 0x22c | 4 | 0                  | has initrd_addr_max 0x0
            initrd_addr_max  | 0x22c | 4 | 0x30fff            | has initrd_addr_max 0x30fff
            """)
    void everyIllegalValueIsNamed(String field, String offset, int size, String value, String says) {
        byte[] image = with(image(), Integer.decode(offset), size, Long.parseUnsignedLong(value.replace("0x", ""),
                value.startsWith("0x") ? 16 : 10));
        var config = new MachineConfig().vmType(VmType.DEFAULT).kernel(image, "k").initrd(initrd(5000)).commandLine(LINE);
        assertThatThrownBy(() -> GuestImage.linux(config, new GuestLayout(MEMORY))).isInstanceOf(UserError.class)
                .hasMessageContaining(says).message().doesNotContain("\n");
    }

    @Test void whatIsNoBzImageIsCalledWhatItIs() {
        assertThatThrownBy(() -> new BzImage(segment(with(with(image(), 0x202, 4, 0), 0, 4, 0x464c457f)), "x"))
                .hasMessageContaining("ELF");
        assertThatThrownBy(() -> new BzImage(segment(new byte[100]), "x")).hasMessageContaining("too short");
        assertThatThrownBy(() -> new BzImage(segment(with(Arrays.copyOf(image(), 1024 + 0x200), 0x1f4, 4, 0)), "x"))
                .hasMessageContaining("nothing is at its 64-bit entry point");
    }

    /// Random headers, most of them nearly right: an image whose parts lie in memory side by side, or one line.
    @Test void noHeaderIsAnException() {
        var random = new Random(7);
        int laidOut = 0;
        for (int i = 0; i < 20_000; i++) {
            byte[] image = randomHeader(random);
            long memory = (1L + random.nextInt(64)) << (20 + random.nextInt(8));
            var config = new MachineConfig().vmType(random.nextBoolean() ? VmType.TDX : VmType.DEFAULT).kernel(image, "k")
                    .initrd(initrd(4 + random.nextInt(100_000))).memoryBytes(memory);
            var layout = new GuestLayout(memory);
            try {
                check(GuestImage.linux(config, layout), layout);
                laidOut++;
            } catch (UserError e) {
                assertThat(e.getMessage()).doesNotContain("\n");
            }
        }
        assertThat(laidOut).isBetween(2_000, 18_000);
    }

    private static void check(GuestImage image, GuestLayout layout) {
        long end = 0;
        assertThat(image.chunks()).isSortedAccordingTo(Comparator.comparingLong(GuestImage.Chunk::gpa));
        for (var chunk : image.chunks()) {
            assertThat(chunk.gpa() % GuestLayout.PAGE).isZero();
            assertThat(chunk.gpa()).as(chunk.name()).isGreaterThanOrEqualTo(end);
            end = chunk.end();
        }
        assertThat(end).isLessThanOrEqualTo(layout.lowEnd());
        assertThat(image.chunks()).anyMatch(c -> image.entryGpa() > c.gpa() && image.entryGpa() < c.end());
    }

    private static byte[] randomHeader(Random random) {
        byte[] image = image();
        int changes = 1 + random.nextInt(4);
        for (int i = 0; i < changes; i++) {
            int offset = 0x1f1 + random.nextInt(0x282 - 0x1f1);
            long value = switch (random.nextInt(5)) {
                case 0 -> 0;
                case 1 -> -1;
                case 2 -> 1L << random.nextInt(64);
                case 3 -> random.nextInt(1 << 24);
                default -> random.nextLong();
            };
            with(image, offset, 1 << random.nextInt(4), value);
        }
        return image;
    }

    /// Some of the random headers that are taken really boot.
    @Test void randomLegalHeadersBoot() {
        var random = new Random(11);
        int booted = 0;
        while (booted < 20) {
            byte[] image = randomHeader(random);
            var config = new MachineConfig().vmType(VmType.DEFAULT).kernel(image, "k").initrd(initrd(5000)).memoryBytes(MEMORY)
                    .commandLine(LINE);
            try {
                GuestImage.linux(config, new GuestLayout(MEMORY));
            } catch (UserError e) {
                continue;
            }
            boots(config);
            booted++;
        }
    }

    @Test void saysWhatDoesNotFit() {
        var kernel = kernel();
        assertThatThrownBy(() -> new GuestLayout(2 << 20).kernelGpa(kernel)).isInstanceOfSatisfying(UserError.class,
                e -> assertThat(e.exitCode()).isEqualTo(UserError.USAGE)).hasMessageContaining("2 MiB is too little")
                .hasMessageContaining("at least 16 MiB");
        var layout = new GuestLayout(64 << 20);
        assertThatThrownBy(() -> layout.initrdGpa(kernel, 62 << 20)).isInstanceOf(UserError.class)
                .hasMessageContaining("62 MiB does not fit").hasMessageContaining("up to 3 MiB and 64 MiB are usable");
        assertThat(layout.initrdGpa(kernel, 5000)).isEqualTo((64 << 20) - 8192);
    }

    /// The sizes that are not multiples of a large page, or straddle the hole.
    @ParameterizedTest
    @CsvSource({"3", "2815", "3071", "3073", "2560", "67000"})
    void memoryOfAnyNumberOfMebibytesHasAMap(long mebibytes) {
        var layout = new GuestLayout(mebibytes << 20);
        long ram = E820.of(layout, true).entries().stream().filter(e -> e.type() == E820.RAM).mapToLong(E820.Entry::bytes).sum();
        assertThat(ram).isEqualTo((mebibytes << 20) - (GuestLayout.HIGH_LOADING_START - GuestLayout.LOW_RAM_END));
        assertThat(E820.of(layout, true).entries()).allMatch(e -> e.bytes() > 0);
    }

    @Test void machineOptionsAreChecked() {
        var config = new MachineConfig().kernel(image(), "k");
        assertThatThrownBy(() -> config.cpus(0).check()).hasMessageContaining("0 CPUs");
        assertThatThrownBy(() -> config.cpus(10_000).check()).hasMessageContaining("10000 CPUs");
        assertThatThrownBy(() -> config.cpus(1).memoryBytes(4097).check()).hasMessageContaining("no whole number of MiB");
        assertThatThrownBy(() -> config.memoryBytes(0).check()).hasMessageContaining("choose 1M or more");
        config.memoryBytes(2815L << 20).check();
        assertThatThrownBy(() -> new MachineConfig().check()).hasMessageContaining("no kernel");
    }

    @Test void bootParamsTellTheKernelWhereThingsAre() {
        var layout = new GuestLayout(5L << 30);
        var page = ByteBuffer.wrap(BootParams.build(kernel(), 0x200000, 0x3000000, 77, 0xe0000,
                E820.of(layout, true))).order(ByteOrder.LITTLE_ENDIAN);
        assertThat(page.getLong(0x70)).isEqualTo(0xe0000);
        assertThat(page.getInt(0x202)).isEqualTo(0x53726448);
        assertThat(page.get(0x210)).isEqualTo((byte) 0xff);
        assertThat(page.getInt(0x214)).isEqualTo(0x200000);
        assertThat(page.getInt(0x218)).isEqualTo(0x3000000);
        assertThat(page.getInt(0x21c)).isEqualTo(77);
        assertThat(page.get(0x1e8)).isEqualTo((byte) 7);
        int last = 0x2d0 + 6 * 20;
        assertThat(page.getLong(last)).isEqualTo(1L << 32);
        assertThat(page.getLong(last + 8)).isEqualTo(2L << 30);
        assertThat(page.getInt(last + 16)).isEqualTo(1);
    }
}
