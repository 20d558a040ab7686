package cloister.vmm;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;

/// What is in memory when the guest starts: page-aligned chunks in order of address.
final class GuestImage {
    /// @param content a multiple of 4096 bytes
    record Chunk(String name, long gpa, byte[] content) {
        long end() {
            return gpa + content.length;
        }
    }

    private final List<Chunk> chunks = new ArrayList<>();
    private long entryGpa;

    /// Lays out a Linux guest.
    ///
    /// @throws UserError when something does not fit
    static GuestImage linux(MachineConfig config, GuestLayout layout) {
        var kernel = new BzImage(config.kernel, config.kernelName);
        boolean td = config.vmType == VmType.TDX;
        long kernelGpa = layout.kernelGpa(kernel);
        long initrdGpa = layout.initrdGpa(kernel, config.initrd.length);
        byte[] line = (config.commandLine + '\0').getBytes(StandardCharsets.UTF_8);
        int longest = Math.min(kernel.longestCommandLine(), GuestLayout.COMMAND_LINE_ROOM - 1);
        if (line.length - 1 > longest) {
            throw UserError.usage(String.format(Locale.ROOT, "command line of %d bytes is too long for this kernel: use at most %d",
                    line.length - 1, longest));
        }
        var image = new GuestImage();
        image.entryGpa = kernelGpa + kernel.entryOffset();
        image.add("boot_params", GuestLayout.BOOT_PARAMS_GPA, BootParams.build(kernel, initrdGpa, config.initrd.length,
                GuestLayout.ACPI_GPA, E820.of(layout, td)));
        image.add("command line", GuestLayout.COMMAND_LINE_GPA, line);
        image.add("ACPI tables", GuestLayout.ACPI_GPA, AcpiTables.build(GuestLayout.ACPI_GPA, (int) GuestLayout.ACPI_ROOM,
                config.cpus, td ? TdFirmware.MAILBOX_GPA : 0, td ? TdFirmware.resetVectorGpa() : 0));
        image.add("kernel", kernelGpa, kernel.protectedModePart());
        if (config.initrd.length > 0) {
            image.add("initrd", initrdGpa, config.initrd);
        }
        return image;
    }

    /// Lays out a flat program at 1 MiB.
    static GuestImage program(byte[] program) {
        var image = new GuestImage();
        image.entryGpa = GuestLayout.HIGH_LOADING_START;
        image.add("program", GuestLayout.HIGH_LOADING_START, program);
        return image;
    }

    /// Adds content, padded with zeros to whole pages.
    void add(String name, long gpa, byte[] content) {
        int padded = (content.length + (int) GuestLayout.PAGE - 1) & (int) -GuestLayout.PAGE;
        chunks.add(new Chunk(name, gpa, Arrays.copyOf(content, padded)));
        chunks.sort(Comparator.comparingLong(Chunk::gpa));
    }

    List<Chunk> chunks() {
        return chunks;
    }

    /// Where the guest's own code starts.
    long entryGpa() {
        return entryGpa;
    }
}
