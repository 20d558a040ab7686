package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// TDMR_INFO_ENTRY: what the host asks of TDH.SYS.CONFIG. [TDX-ABI "TDMR_INFO"]
///
/// @param pamtBase base of the PAMT range for 4K, 2M and 1G pages, by page size
/// @param pamtSize its bytes
/// @param rsvdOffset offsets of the 16 reserved areas
/// @param rsvdSize   their bytes; 0 ends the list
public record TdmrInfo(long base, long size, long[] pamtBase, long[] pamtSize, long[] rsvdOffset, long[] rsvdSize) {
    public static final int MAX_TDMRS = 64;
    public static final int MAX_RESERVED = 16;

    public static TdmrInfo read(PhysicalMemory memory, long hpa) {
        var pamtBase = new long[3];
        var pamtSize = new long[3];
        for (int size = 0; size < 3; size++) { // in memory: 1G, 2M, 4K
            pamtBase[size] = memory.read(hpa + 16 + 16 * (2 - size), 8);
            pamtSize[size] = memory.read(hpa + 24 + 16 * (2 - size), 8);
        }
        var offsets = new long[MAX_RESERVED];
        var sizes = new long[MAX_RESERVED];
        for (int i = 0; i < MAX_RESERVED; i++) {
            offsets[i] = memory.read(hpa + 64 + 16L * i, 8);
            sizes[i] = memory.read(hpa + 72 + 16L * i, 8);
        }
        return new TdmrInfo(memory.read(hpa, 8), memory.read(hpa + 8, 8), pamtBase, pamtSize, offsets, sizes);
    }
}
