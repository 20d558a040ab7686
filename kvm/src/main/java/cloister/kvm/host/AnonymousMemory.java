package cloister.kvm.host;

import cloister.kvm.KvmException;
import cloister.kvm.UserMemory;
import cloister.memory.PhysicalMemory;
import cloister.spec.kvm.Errno;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// The VMM's anonymous memory. Backs aligned stretches with 2 MiB blocks when it can, as transparent huge pages do.
public final class AnonymousMemory implements UserMemory {
    private static final long FIRST_ADDRESS = 0x7f00_0000_0000L;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;
    private static final int PAGES_PER_BLOCK = (int) (FrameAllocator.BLOCK_SIZE / PAGE);

    private final PhysicalMemory memory;
    private final FrameAllocator frames;
    private final TreeMap<Long, Mapping> mappings = new TreeMap<>();
    private final List<InvalidationListener> listeners = new ArrayList<>();
    private long nextAddress = FIRST_ADDRESS;
    private Mapping last;
    private long resident;

    private static final class Mapping {
        final long start;
        final long end;
        /// Frame number plus one, 0 when absent.
        final int[] frame;
        /// Whether a 2 MiB stretch is one block.
        final boolean[] block;

        Mapping(long start, long size) {
            this.start = start;
            this.end = start + size;
            this.frame = new int[Math.toIntExact(size / PAGE)];
            this.block = new boolean[(int) ((size + FrameAllocator.BLOCK_SIZE - 1) / FrameAllocator.BLOCK_SIZE)];
        }

        int page(long address) {
            return (int) ((address - start) / PAGE);
        }
    }

    /// An empty address space.
    public AnonymousMemory(PhysicalMemory memory, FrameAllocator frames) {
        this.memory = memory;
        this.frames = frames;
    }

    /// Registers for invalidations.
    public void addListener(InvalidationListener listener) {
        listeners.add(listener);
    }

    /// Ends a registration.
    public void removeListener(InvalidationListener listener) {
        listeners.remove(listener);
    }

    @Override public long map(long size) {
        if (size <= 0 || size % PAGE != 0) {
            throw new KvmException(Errno.EINVAL, "mapping size " + size);
        }
        long address = nextAddress;
        nextAddress = (address + size + 2 * FrameAllocator.BLOCK_SIZE - 1) & -FrameAllocator.BLOCK_SIZE;
        mappings.put(address, new Mapping(address, size));
        return address;
    }

    @Override public void unmap(long address) {
        var mapping = mappings.get(address);
        if (mapping == null) {
            throw new KvmException(Errno.EINVAL, "no mapping starts at 0x" + Long.toHexString(address));
        }
        discard(mapping.start, mapping.end - mapping.start);
        mappings.remove(address);
        last = null;
    }

    @Override public void discard(long address, long length) {
        if (length == 0) {
            return;
        }
        var mapping = find(address);
        if (address + length > mapping.end || (address | length) % PAGE != 0) {
            throw new KvmException(Errno.EINVAL, "range is not whole pages of one mapping");
        }
        for (var listener : listeners) {
            listener.invalidateRange(address, address + length);
        }
        for (int page = mapping.page(address), end = mapping.page(address + length); page < end;) {
            int block = page / PAGES_PER_BLOCK;
            if (mapping.block[block] && page % PAGES_PER_BLOCK == 0 && end - page >= PAGES_PER_BLOCK) {
                frames.freeBlock((long) (mapping.frame[page] - 1) << PhysicalMemory.FRAME_SHIFT);
                Arrays.fill(mapping.frame, page, page + PAGES_PER_BLOCK, 0);
                mapping.block[block] = false;
                resident -= PAGES_PER_BLOCK;
                page += PAGES_PER_BLOCK;
            } else {
                freePage(mapping, page++);
            }
        }
    }

    private void freePage(Mapping mapping, int page) {
        if (mapping.frame[page] != 0) {
            frames.free((long) (mapping.frame[page] - 1) << PhysicalMemory.FRAME_SHIFT);
            mapping.frame[page] = 0;
            mapping.block[page / PAGES_PER_BLOCK] = false;
            resident--;
        }
    }

    /// The physical address behind `address`, allocating its frame when it has none. [LINUX get_user_pages]
    ///
    /// @throws KvmException EFAULT, ENOMEM
    public long fault(long address) {
        var mapping = find(address);
        int page = mapping.page(address);
        if (mapping.frame[page] == 0) {
            populate(mapping, page);
        }
        return ((long) (mapping.frame[page] - 1) << PhysicalMemory.FRAME_SHIFT) + (address & (PAGE - 1));
    }

    /// Whether the 2 MiB around `address` are one physical block.
    public boolean isBlock(long address) {
        var mapping = find(address);
        return mapping.block[mapping.page(address) / PAGES_PER_BLOCK];
    }

    /// Whether `[address, address + size)` is mapped, by one mapping.
    public boolean isMapped(long address, long size) {
        Map.Entry<Long, Mapping> entry = mappings.floorEntry(address);
        return entry != null && size >= 0 && address + size <= entry.getValue().end;
    }

    private void populate(Mapping mapping, int page) {
        int first = page / PAGES_PER_BLOCK * PAGES_PER_BLOCK;
        if (first + PAGES_PER_BLOCK <= mapping.frame.length && isEmpty(mapping, first)) {
            long pa = frames.allocateBlock();
            if (pa >= 0) {
                int frame = (int) (pa >> PhysicalMemory.FRAME_SHIFT) + 1;
                for (int i = 0; i < PAGES_PER_BLOCK; i++) {
                    mapping.frame[first + i] = frame + i;
                }
                mapping.block[first / PAGES_PER_BLOCK] = true;
                resident += PAGES_PER_BLOCK;
                return;
            }
        }
        mapping.frame[page] = (int) (frames.allocate() >> PhysicalMemory.FRAME_SHIFT) + 1;
        resident++;
    }

    private static boolean isEmpty(Mapping mapping, int first) {
        for (int i = 0; i < PAGES_PER_BLOCK; i++) {
            if (mapping.frame[first + i] != 0) {
                return false;
            }
        }
        return true;
    }

    private Mapping find(long address) {
        var hit = last;
        if (hit != null && address >= hit.start && address < hit.end) {
            return hit;
        }
        var entry = mappings.floorEntry(address);
        if (entry == null || address >= entry.getValue().end) {
            throw new KvmException(Errno.EFAULT, "no memory at 0x" + Long.toHexString(address));
        }
        last = entry.getValue();
        return last;
    }

    @Override public long read(long address, int bytes) {
        if ((address & (PAGE - 1)) + bytes > PAGE) {
            long value = 0;
            for (int i = 0; i < bytes; i++) {
                value |= read(address + i, 1) << (8 * i);
            }
            return value;
        }
        var mapping = find(address);
        int frame = mapping.frame[mapping.page(address)];
        return frame == 0 ? 0
                : memory.read(((long) (frame - 1) << PhysicalMemory.FRAME_SHIFT) + (address & (PAGE - 1)), bytes);
    }

    @Override public void write(long address, int bytes, long value) {
        if ((address & (PAGE - 1)) + bytes > PAGE) {
            for (int i = 0; i < bytes; i++) {
                write(address + i, 1, value >>> (8 * i));
            }
            return;
        }
        memory.write(fault(address), bytes, value);
    }

    @Override public void read(long address, byte[] target, int offset, int length) {
        for (int done = 0; done < length;) {
            long at = address + done;
            int chunk = (int) Math.min(length - done, PAGE - (at & (PAGE - 1)));
            var mapping = find(at);
            int frame = mapping.frame[mapping.page(at)];
            if (frame == 0) {
                Arrays.fill(target, offset + done, offset + done + chunk, (byte) 0);
            } else {
                memory.read(((long) (frame - 1) << PhysicalMemory.FRAME_SHIFT) + (at & (PAGE - 1)), target, offset + done, chunk);
            }
            done += chunk;
        }
    }

    @Override public void write(long address, byte[] source, int offset, int length) {
        for (int done = 0; done < length;) {
            long at = address + done;
            int chunk = (int) Math.min(length - done, PAGE - (at & (PAGE - 1)));
            memory.write(fault(at), source, offset + done, chunk);
            done += chunk;
        }
    }

    @Override public long residentPages() {
        return resident;
    }
}
