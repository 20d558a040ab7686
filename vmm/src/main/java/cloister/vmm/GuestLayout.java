package cloister.vmm;

import java.util.Locale;

/// Where things are in guest-physical memory, and the memory map that the kernel is told. The same for trust
/// domains and ordinary VMs, except that only a TD has firmware.
///
/// | from | what |
/// |---|---|
/// | 0x500 | GDT of the ordinary VM's entry |
/// | 0x7000 | boot_params |
/// | 0x9000 | page tables of the ordinary VM's entry |
/// | 0x20000 | command line |
/// | 0xE0000 | ACPI tables |
/// | kernel's preferred address, 1 MiB at least | kernel, protected-mode part |
/// | top of low memory, or where the kernel takes it | initrd |
/// | 0xC0000000 | end of low memory at most; then the hole for devices |
/// | 0xE0000000 | PCI configuration space |
/// | 0xFFFF0000 | TD firmware |
/// | 0x100000000 | high memory |
final class GuestLayout {
    static final long GDT_GPA = 0x500;
    static final long BOOT_PARAMS_GPA = 0x7000;
    static final long PAGE_TABLES_GPA = 0x9000;
    static final long COMMAND_LINE_GPA = 0x20000;
    static final int COMMAND_LINE_ROOM = 0x10000;
    /// From here to [#LOW_RAM_END] nothing else is.
    static final long FREE_LOW_START = COMMAND_LINE_GPA + COMMAND_LINE_ROOM;
    static final long ACPI_GPA = 0xe0000;
    static final long ACPI_ROOM = 0x10000;
    static final long LOW_RAM_END = 0xa0000;
    static final long HIGH_LOADING_START = 0x100000;
    static final long HOLE_START = 0xc0000000L;
    static final long HIGH_RAM_START = 1L << 32;
    static final long PAGE = 4096;
    static final long MEBIBYTE = 1 << 20;

    private final long memoryBytes;

    GuestLayout(long memoryBytes) {
        this.memoryBytes = memoryBytes;
    }

    /// End of the memory below the hole.
    long lowEnd() {
        return Math.min(memoryBytes, HOLE_START);
    }

    /// Bytes of memory above 4 GiB.
    long highBytes() {
        return memoryBytes - lowEnd();
    }

    /// End of all memory.
    long end() {
        return highBytes() == 0 ? lowEnd() : HIGH_RAM_START + highBytes();
    }

    /// Where the initrd goes: as high as it may be, above the kernel, else below it.
    ///
    /// @throws UserError when it fits nowhere
    long initrdGpa(BzImage kernel, long bytes) {
        long kernelStart = kernelGpa(kernel);
        long kernelEnd = kernelStart + kernel.initSize();
        long allowed = kernel.initrdLastGpa() + 1;
        long[][] rooms = {{kernelEnd, lowEnd()}, {HIGH_LOADING_START, kernelStart}, {FREE_LOW_START, LOW_RAM_END}};
        boolean fitsIfAllowed = false;
        for (long[] room : rooms) {
            long gpa = (Math.min(room[1], allowed) - bytes) & -PAGE;
            if (gpa >= room[0]) {
                return gpa;
            }
            fitsIfAllowed |= ((room[1] - bytes) & -PAGE) >= room[0];
        }
        long mebibytes = (bytes + MEBIBYTE - 1) / MEBIBYTE;
        if (fitsIfAllowed) {
            throw kernel.reject(String.format(Locale.ROOT, "has initrd_addr_max 0x%x, and below that there is no room for an initrd of "
                    + "%d MiB: make that smaller", allowed - 1, mebibytes));
        }
        throw UserError.badInput(String.format(Locale.ROOT, "initrd of %d MiB does not fit: the kernel needs memory up to %d MiB and "
                + "%d MiB are usable; give the guest more memory or a smaller initrd",
                mebibytes, (kernelEnd + MEBIBYTE - 1) / MEBIBYTE, lowEnd() / MEBIBYTE));
    }

    /// Where the kernel goes.
    ///
    /// @throws UserError when memory is too small, or the kernel wants to be where memory never is
    long kernelGpa(BzImage kernel) {
        long gpa = kernel.preferredGpa(HOLE_START);
        long end = gpa + kernel.initSize();
        if (end > HOLE_START) {
            throw kernel.reject(String.format(Locale.ROOT, "needs memory from 0x%x to 0x%x by pref_address, kernel_alignment and "
                    + "init_size: Cloister has none from 0x%x to 4 GiB", gpa, end, HOLE_START));
        }
        if (end > lowEnd()) {
            throw UserError.usage(String.format(Locale.ROOT, "memory of %d MiB is too little for this kernel: it needs at least %d MiB",
                    memoryBytes / MEBIBYTE, ((end + 16 * MEBIBYTE - 1) / (16 * MEBIBYTE)) * 16));
        }
        return gpa;
    }
}
