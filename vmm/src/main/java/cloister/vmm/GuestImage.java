package cloister.vmm;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;

/// What is in memory when the guest starts: page-aligned chunks in order of address.
final class GuestImage {
    /// @param gpa     a multiple of 4096
    /// @param content any number of bytes; zeros follow to the end of its last page. May be a mapped file of any size
    record Chunk(String name, long gpa, MemorySegment content) {
        /// Bytes of whole pages.
        long bytes() {
            return (content.byteSize() + GuestLayout.PAGE - 1) & -GuestLayout.PAGE;
        }

        long end() {
            return gpa + bytes();
        }

        /// Copies `length` bytes from `offset` on, zeros where the content has ended.
        void read(long offset, byte[] target, int length) {
            int there = (int) Math.clamp(content.byteSize() - offset, 0, length);
            MemorySegment.copy(content, ValueLayout.JAVA_BYTE, offset, target, 0, there);
            Arrays.fill(target, there, length, (byte) 0);
        }
    }

    private final List<Chunk> chunks = new ArrayList<>();
    private long entryGpa;
    private boolean ownReset;

    /// Lays out a Linux guest.
    ///
    /// @throws UserError when something does not fit
    static GuestImage linux(MachineConfig config, GuestLayout layout) {
        var kernel = new BzImage(config.kernel, config.kernelName);
        boolean td = config.vmType == VmType.TDX;
        long kernelGpa = layout.kernelGpa(kernel);
        byte[] line = (config.commandLine + '\0').getBytes(StandardCharsets.UTF_8);
        long longest = Math.min(kernel.longestCommandLine(), GuestLayout.COMMAND_LINE_ROOM - 1);
        if (line.length - 1 > longest) {
            throw UserError.usage(String.format(Locale.ROOT, "command line of %d bytes is too long for this kernel: use at most %d "
                    + "(cmdline_size)", line.length - 1, longest));
        }
        var image = new GuestImage();
        image.entryGpa = kernelGpa + kernel.entryOffset();
        long initrdBytes = 0;
        for (var part : config.initrd) {
            initrdBytes = pageAligned(initrdBytes) + part.byteSize();
        }
        long initrdGpa = initrdBytes == 0 ? 0 : layout.initrdGpa(kernel, initrdBytes);
        image.add("boot_params", GuestLayout.BOOT_PARAMS_GPA, BootParams.build(kernel, kernelGpa, initrdGpa, initrdBytes,
                GuestLayout.ACPI_GPA, E820.of(layout, td)));
        image.add("command line", GuestLayout.COMMAND_LINE_GPA, line);
        image.add("ACPI tables", GuestLayout.ACPI_GPA, AcpiTables.build(GuestLayout.ACPI_GPA, (int) GuestLayout.ACPI_ROOM,
                config.cpus, td ? TdFirmware.MAILBOX_GPA : 0, td ? TdFirmware.resetVectorGpa() : 0));
        image.add("kernel", kernelGpa, kernel.protectedModePart());
        // The kernel skips zeros between the parts of an initramfs.
        long partGpa = initrdGpa;
        for (var part : config.initrd) {
            image.add("initrd", partGpa, part);
            partGpa = pageAligned(partGpa + part.byteSize());
        }
        return image;
    }

    private static long pageAligned(long bytes) {
        return (bytes + GuestLayout.PAGE - 1) & -GuestLayout.PAGE;
    }

    /// Lays out a flat program at 1 MiB.
    ///
    /// @throws UserError when it does not fit
    static GuestImage program(byte[] program, GuestLayout layout) {
        var image = new GuestImage();
        image.entryGpa = GuestLayout.HIGH_LOADING_START;
        if (image.entryGpa + program.length > layout.lowEnd()) {
            throw UserError.usage("memory of " + (layout.lowEnd() >> 20) + " MiB is too little for this program");
        }
        image.add("program", image.entryGpa, program);
        return image;
    }

    /// An empty image that says itself what a trust domain's reset vector finds.
    ///
    /// @param entryGpa where an ordinary VM starts in 64-bit mode
    static GuestImage withOwnReset(long entryGpa) {
        var image = new GuestImage();
        image.entryGpa = entryGpa;
        image.ownReset = true;
        return image;
    }

    /// Whether the image holds a reset vector, so that a trust domain starts without our firmware.
    boolean hasOwnReset() {
        return ownReset;
    }

    void add(String name, long gpa, byte[] content) {
        add(name, gpa, MemorySegment.ofArray(content));
    }

    /// Adds content, if there is any. At an address within a page zeros come before it.
    void add(String name, long gpa, MemorySegment content) {
        if (content.byteSize() == 0) {
            return;
        }
        long before = gpa & (GuestLayout.PAGE - 1);
        var aligned = content;
        if (before != 0) {
            aligned = Arena.ofAuto().allocate(before + content.byteSize());
            MemorySegment.copy(content, 0, aligned, before, content.byteSize());
        }
        chunks.add(new Chunk(name, gpa - before, aligned));
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
