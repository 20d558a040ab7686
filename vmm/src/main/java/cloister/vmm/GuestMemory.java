package cloister.vmm;

import cloister.kvm.GpaRange;
import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemory;
import cloister.kvm.UserMemoryRegion;
import cloister.spec.kvm.KvmAbi;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/// The guest's memory slots. A trust domain's slots have two sides: a guest_memfd for what is private and anonymous
/// memory for what is shared; a page uses one of them at a time, and conversion gives the other one's page back.
final class GuestMemory {
    private record Slot(long gpa, long bytes, long userAddress, GuestMemfd memfd) {
        boolean contains(long address) {
            return address >= gpa && address < end();
        }

        long end() {
            return gpa + bytes;
        }
    }

    /// Bytes that are copied at once.
    private static final int PIECE = 1 << 20;

    private final KvmVm vm;
    private final UserMemory user;
    private final boolean td;
    private final List<Slot> slots = new ArrayList<>();
    /// Pages that were converted last because the guest used them as what they were not, and who did.
    private final Map<Long, String> implicit = new HashMap<>();

    GuestMemory(KvmVm vm, UserMemory user, boolean td) {
        this.vm = vm;
        this.user = user;
        this.td = td;
    }

    /// Adds memory; a TD's starts private.
    void add(long gpa, long bytes) {
        long address = user.map(bytes);
        var memfd = td ? vm.createGuestMemfd(bytes, 0) : null;
        var slot = new Slot(gpa, bytes, address, memfd);
        vm.setUserMemoryRegion2(new UserMemoryRegion(slots.size(), td ? KvmAbi.MEM_GUEST_MEMFD : 0, gpa, bytes, address,
                memfd, 0));
        slots.add(slot);
        if (td) {
            vm.setMemoryAttributes(gpa, bytes, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        }
    }

    /// Maps all memory in the tables that `vcpu` uses.
    void populate(KvmVcpu vcpu) {
        for (var slot : slots) {
            var range = new GpaRange(slot.gpa, slot.bytes);
            while (range.size != 0) {
                vcpu.preFaultMemory(range);
            }
        }
    }

    /// Unmaps the VMM's side, once the VM is closed.
    void release() {
        slots.forEach(slot -> user.unmap(slot.userAddress));
        slots.clear();
    }

    /// Writes a chunk where the VMM can: into an ordinary VM's memory.
    void write(GuestImage.Chunk chunk) {
        byte[] piece = new byte[(int) Math.min(chunk.bytes(), PIECE)];
        for (long at = 0; at < chunk.bytes(); at += piece.length) {
            int length = (int) Math.min(piece.length, chunk.bytes() - at);
            chunk.read(at, piece, length);
            write(chunk.gpa() + at, piece, length);
        }
    }

    /// Writes where the VMM can: an ordinary VM's memory, a TD's shared side.
    void write(long gpa, byte[] bytes) {
        write(gpa, bytes, bytes.length);
    }

    private void write(long gpa, byte[] bytes, int length) {
        var slot = slot(gpa);
        if (slot == null || gpa + length > slot.gpa + slot.bytes) {
            throw new IllegalArgumentException(String.format(Locale.ROOT, "no memory at 0x%x for %d bytes", gpa, length));
        }
        user.write(slot.userAddress + gpa - slot.gpa, bytes, 0, length);
    }

    /// Makes `[gpa, gpa + bytes)` private or shared; the content of what is memory is lost. Where there is no memory everything is
    /// shared already: TD firmware says so of the whole hole for devices, and QEMU lets it pass. [QEMU kvm_convert_memory]
    ///
    /// @return false when part of the range shall become private and is no memory; nothing was changed then
    boolean convert(long gpa, long bytes, boolean toPrivate) {
        long end = gpa + bytes;
        long covered = 0;
        for (var slot : slots) {
            covered += Math.max(0, Math.min(end, slot.end()) - Math.max(gpa, slot.gpa));
        }
        if (covered < bytes && toPrivate) {
            return false;
        }
        implicit.keySet().removeIf(page -> page >= gpa && page < end);
        vm.setMemoryAttributes(gpa, bytes, toPrivate ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0);
        for (var slot : slots) {
            long from = Math.max(gpa, slot.gpa);
            long length = Math.min(end, slot.end()) - from;
            if (length <= 0) {
                continue;
            }
            if (toPrivate) {
                user.discard(slot.userAddress + from - slot.gpa, length);
            } else {
                slot.memfd.punchHole(from - slot.gpa, length);
            }
        }
        return true;
    }

    /// Notes that the page at `gpa` was converted because a vCPU used it so, without MapGPA before. For messages.
    void wasImplicit(long gpa, int vcpu, boolean toPrivate) {
        implicit.put(gpa & -GuestLayout.PAGE, ", a page that was " + (toPrivate ? "shared" : "private") + " until vCPU " + vcpu
                + " used it by its " + (toPrivate ? "private" : "shared") + " address without MapGPA");
    }

    /// Half a sentence about the last conversion of the page at `gpa` if the guest did not ask for it; else empty.
    String implicitConversion(long gpa) {
        return implicit.getOrDefault(gpa & -GuestLayout.PAGE, "");
    }

    private Slot slot(long gpa) {
        for (var slot : slots) {
            if (slot.contains(gpa)) {
                return slot;
            }
        }
        return null;
    }
}
