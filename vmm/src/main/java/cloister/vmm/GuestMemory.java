package cloister.vmm;

import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemory;
import cloister.kvm.UserMemoryRegion;
import cloister.spec.kvm.KvmAbi;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/// The guest's memory slots. A trust domain's slots have two sides: a guest_memfd for what is private and anonymous
/// memory for what is shared; a page uses one of them at a time, and conversion gives the other one's page back.
final class GuestMemory {
    private record Slot(long gpa, long bytes, long userAddress, GuestMemfd memfd) {
        boolean contains(long address) {
            return address >= gpa && address < gpa + bytes;
        }
    }

    private final KvmVm vm;
    private final UserMemory user;
    private final boolean td;
    private final List<Slot> slots = new ArrayList<>();

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

    /// Writes where the VMM can: an ordinary VM's memory, a TD's shared side.
    void write(long gpa, byte[] bytes) {
        var slot = slot(gpa);
        if (slot == null || gpa + bytes.length > slot.gpa + slot.bytes) {
            throw new IllegalArgumentException(String.format(Locale.ROOT, "no memory at 0x%x for %d bytes", gpa, bytes.length));
        }
        user.write(slot.userAddress + gpa - slot.gpa, bytes, 0, bytes.length);
    }

    /// Whether there is memory at `gpa`.
    boolean contains(long gpa) {
        return slot(gpa) != null;
    }

    /// Makes `[gpa, gpa + bytes)` private or shared; content is lost.
    ///
    /// @return false when part of the range is no memory; nothing was changed then
    boolean convert(long gpa, long bytes, boolean toPrivate) {
        for (long at = gpa; at < gpa + bytes;) {
            var slot = slot(at);
            if (slot == null) {
                return false;
            }
            at = slot.gpa + slot.bytes;
        }
        vm.setMemoryAttributes(gpa, bytes, toPrivate ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0);
        for (long at = gpa; at < gpa + bytes;) {
            var slot = slot(at);
            long length = Math.min(gpa + bytes, slot.gpa + slot.bytes) - at;
            if (toPrivate) {
                user.discard(slot.userAddress + at - slot.gpa, length);
            } else {
                slot.memfd.punchHole(at - slot.gpa, length);
            }
            at += length;
        }
        return true;
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
