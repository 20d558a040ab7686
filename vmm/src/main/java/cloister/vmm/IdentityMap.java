package cloister.vmm;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Page tables that map the first gibibytes to themselves with 2-MiB pages. [SDM Vol. 3 "4-Level Paging and 5-Level
/// Paging"]
final class IdentityMap {
    private static final long PRESENT_WRITABLE = 3;
    private static final long LARGE = 1 << 7;
    private static final int ENTRIES = 512;

    private IdentityMap() {
    }

    /// PML4, PDPT, then one page directory per GiB; CR3 is `tablesGpa`.
    static byte[] build(long tablesGpa, int gibibytes) {
        int page = (int) GuestLayout.PAGE;
        var tables = ByteBuffer.allocate((2 + gibibytes) * page).order(ByteOrder.LITTLE_ENDIAN);
        tables.putLong(0, (tablesGpa + page) | PRESENT_WRITABLE);
        for (int g = 0; g < gibibytes; g++) {
            int directory = (2 + g) * page;
            tables.putLong(page + 8 * g, (tablesGpa + directory) | PRESENT_WRITABLE);
            for (int i = 0; i < ENTRIES; i++) {
                tables.putLong(directory + 8 * i, ((long) g << 30) | ((long) i << 21) | LARGE | PRESENT_WRITABLE);
            }
        }
        return tables.array();
    }
}
