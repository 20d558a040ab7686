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
/// | kernel's preferred address | kernel, protected-mode part |
/// | top of low memory | initrd |
/// | 0xC0000000 | end of low memory at most; then the hole for devices |
/// | 0xFFFF0000 | TD firmware |
/// | 0x100000000 | high memory |
final class GuestLayout {
    static final long GDT_GPA = 0x500;
    static final long BOOT_PARAMS_GPA = 0x7000;
    static final long PAGE_TABLES_GPA = 0x9000;
    static final long COMMAND_LINE_GPA = 0x20000;
    static final int COMMAND_LINE_ROOM = 0x10000;
    static final long ACPI_GPA = 0xe0000;
    static final long ACPI_ROOM = 0x10000;
    static final long LOW_RAM_END = 0xa0000;
    static final long HIGH_LOADING_START = 0x100000;
    static final long HOLE_START = 0xc0000000L;
    static final long HIGH_RAM_START = 1L << 32;
    static final long PAGE = 4096;

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

    /// Where the initrd goes: as high as it may be.
    ///
    /// @throws UserError when it does not fit beside the kernel
    long initrdGpa(BzImage kernel, int bytes) {
        long top = Math.min(lowEnd(), (kernel.initrdLastGpa() + 1) & -PAGE);
        long gpa = (top - bytes) & -PAGE;
        long kernelEnd = kernelGpa(kernel) + kernel.initSize();
        if (gpa < kernelEnd) {
            throw UserError.badInput(String.format(Locale.ROOT,
                    "initrd of %d MiB does not fit: the kernel needs memory up to %d MiB and %d MiB are "
                    + "usable; give the guest more memory or a smaller initrd",
                    (bytes >> 20) + 1, (kernelEnd >> 20) + 1, top >> 20));
        }
        return gpa;
    }

    /// Where the kernel goes.
    ///
    /// @throws UserError when memory is too small
    long kernelGpa(BzImage kernel) {
        long gpa = Math.max(kernel.preferredGpa(), HIGH_LOADING_START);
        long end = gpa + kernel.initSize();
        if (end > lowEnd()) {
            throw UserError.usage(String.format(Locale.ROOT, "memory of %d MiB is too little for this kernel: it needs at least %d MiB",
                    memoryBytes >> 20, ((end + (16 << 20) - 1) >> 24) * 16));
        }
        return gpa;
    }
}
