package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmException;
import cloister.kvm.UserMemoryRegion;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// KVM_SET_USER_MEMORY_REGION2: error numbers and their order, phases, generations, bindings.
final class MemSlotsTest {
    private static final long PAGE = 0x1000;
    private static final int GMEM = KvmAbi.MEM_GUEST_MEMFD;
    private static final int LOG = KvmAbi.MEM_LOG_DIRTY_PAGES;
    private static final int READONLY = KvmAbi.MEM_READONLY;
    private final MmuFixture f = new MmuFixture();
    private final long user = f.user.map(16 * PAGE);

    @AfterEach void release() {
        f.close();
    }

    private static void set(MmuFixture f, int slot, int flags, long gpa, long size, long address, GuestMemfd file, long offset) {
        f.mmu.setMemoryRegion(new UserMemoryRegion(slot, flags, gpa, size, address, file, offset));
    }

    /// A request on an empty VM, `user` standing for a mapping of 16 pages; the error of Linux 7.2, null for success.
    static Stream<Arguments> requests() {
        long u = -1; // replaced by the mapping
        long top = (1L << 52) - PAGE;
        return Stream.of(
                arguments("good", 0, 0, 0L, PAGE, u, null),
                arguments("last slot number", 32763, 0, 0L, PAGE, u, null),
                arguments("slot of KVM's own", 32764, 0, 0L, PAGE, u, Errno.EINVAL),
                arguments("slot number of 16 bits", 0xffff, 0, 0L, PAGE, u, Errno.EINVAL),
                arguments("second address space", 1 << 16, 0, 0L, PAGE, u, null),
                arguments("third address space", 2 << 16, 0, 0L, PAGE, u, Errno.EINVAL),
                arguments("unknown flag", 0, 1 << 3, 0L, PAGE, u, Errno.EINVAL),
                arguments("KVM's own flag", 0, MemSlot.INVALID, 0L, PAGE, u, Errno.EINVAL),
                arguments("log and read-only", 0, LOG | READONLY, 0L, PAGE, u, null),
                arguments("guest_memfd that logs", 0, GMEM | LOG, 0L, PAGE, u, Errno.EINVAL),
                arguments("guest_memfd that is read-only", 0, GMEM | READONLY, 0L, PAGE, u, Errno.EINVAL),
                arguments("guest_memfd without a file", 0, GMEM, 0L, PAGE, u, Errno.EBADF),
                arguments("half a page", 0, 0, 0L, PAGE / 2, u, Errno.EINVAL),
                arguments("guest address in a page", 0, 0, 8L, PAGE, u, Errno.EINVAL),
                arguments("user address in a page", 0, 0, 0L, PAGE, 0x7f00_0000_0008L, Errno.EINVAL),
                arguments("user address that nobody has", 0, 0, 0L, PAGE, (1L << 47) - PAGE, Errno.EINVAL),
                arguments("last user address", 0, 0, 0L, PAGE, (1L << 47) - (2 * PAGE), null),
                arguments("kernel address", 0, 0, 0L, PAGE, -PAGE, Errno.EINVAL),
                arguments("nothing mapped there", 0, 0, 0L, PAGE, 0x1000L, null),
                arguments("guest addresses wrap", 0, 0, -PAGE, 2 * PAGE, u, Errno.EINVAL),
                arguments("end of the address space", 0, 0, -PAGE, PAGE, u, Errno.EINVAL),
                arguments("last physical page", 0, 0, top, PAGE, u, null),
                arguments("beyond physical addresses", 0, 0, top, 2 * PAGE, u, Errno.EINVAL),
                arguments("frame number above 31 bits", 0, 0, 1L << 45, PAGE, u, null),
                arguments("most pages", 0, 0, 0L, ((1L << 31) - 1) << 12, 0L, null),
                arguments("too many pages", 0, 0, 0L, 1L << 43, 0L, Errno.EINVAL),
                arguments("deleting what is not there", 0, 0, 0L, 0L, u, Errno.EINVAL));
    }

    @ParameterizedTest(name = "{0}") @MethodSource("requests")
    void failsLikeLinux(String what, int slot, int flags, long gpa, long size, long address, Errno expected) {
        long at = address == -1 ? user : address;
        long before = f.mmu.slots().generation(0);
        if (expected == null) {
            set(f, slot, flags, gpa, size, at, null, 0);
            var made = f.mmu.slots().find(slot >>> 16, gpa >>> 12);
            assertThat(made.npages()).isEqualTo(size >>> 12);
            assertThat(made.hva(gpa >>> 12)).isEqualTo(at);
        } else {
            assertThatThrownBy(() -> set(f, slot, flags, gpa, size, at, null, 0)).isInstanceOfSatisfying(KvmException.class,
                    e -> assertThat(e.errno()).isEqualTo(expected));
            assertThat(f.mmu.slots().generation(0)).as("nothing has changed").isEqualTo(before);
            assertThat(f.mmu.slots().totalPages()).isZero();
        }
    }

    private Errno error(int slot, int flags, long gpa, long size, long address) {
        try {
            set(f, slot, flags, gpa, size, address, null, 0);
            return null;
        } catch (KvmException e) {
            return e.errno();
        }
    }

    @Test void whatIsFixedCannotChange() {
        f.slot(0, 0, 4 * PAGE, user);
        f.slot(1, 8 * PAGE, PAGE, user);
        long generation = f.mmu.slots().generation(0);
        assertThat(error(0, 0, 0, 2 * PAGE, user)).as("size").isEqualTo(Errno.EINVAL);
        assertThat(error(0, 0, 0, 4 * PAGE, user + PAGE)).as("user address").isEqualTo(Errno.EINVAL);
        assertThat(error(0, READONLY, 0, 4 * PAGE, user)).as("read-only").isEqualTo(Errno.EINVAL);
        assertThat(error(0, GMEM, 0, 4 * PAGE, user)).as("guest_memfd").isEqualTo(Errno.EINVAL);
        assertThat(error(0, 0, 6 * PAGE, 4 * PAGE, user)).as("moving onto another slot").isEqualTo(Errno.EEXIST);
        assertThat(error(2, 0, 3 * PAGE, PAGE, user)).as("a new one on another slot").isEqualTo(Errno.EEXIST);
        assertThat(f.mmu.slots().generation(0)).isEqualTo(generation);
        assertThat(error(0, 0, 0, 4 * PAGE, user)).as("nothing to change").isNull();
        assertThat(f.mmu.slots().generation(0)).isEqualTo(generation);
    }

    @Test void movedSlotIsUnmappedWhereItWas() {
        f.mmu.slotZapAllQuirk(false);
        f.slot(0, 0, 4 * PAGE, user);
        f.vcpu.fault(PAGE, VcpuMmu.ERROR_WRITE);
        f.slot(0, 2 * PAGE, 4 * PAGE, user);
        assertThat(f.walk(PAGE)[0]).isEqualTo(Spte.NONPRESENT);
        assertThat(f.vcpu.fault(PAGE, 0)).isEqualTo(FaultResult.EMULATE);
        assertThat(f.vcpu.fault(3 * PAGE, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.flushes).isEqualTo(1);
    }

    @Test void failedMoveLeavesTheSlotWhereItWas() {
        f.slot(0, 0, 4 * PAGE, user);
        assertThat(error(0, 0, 1L << 52, 4 * PAGE, user)).isEqualTo(Errno.EINVAL);
        assertThat(f.mmu.slots().find(0).isInvalid()).isFalse();
        f.vcpu.reload();
        assertThat(f.vcpu.fault(0, 0)).isEqualTo(FaultResult.FIXED);
    }

    @Test void generationsOfAddressSpacesNeverMeet() {
        assertThat(f.mmu.slots().generation(0)).isZero();
        assertThat(f.mmu.slots().generation(1)).isEqualTo(1);
        f.slot(0, 0, PAGE, user);
        assertThat(f.mmu.slots().generation(0)).isEqualTo(2);
        f.slot(1 << 16, 0, PAGE, user);
        assertThat(f.mmu.slots().generation(1)).isEqualTo(3);
        f.slot(0, 0, 0, user);
        assertThat(f.mmu.slots().generation(0)).as("two steps: invalid, gone").isEqualTo(6);
    }

    @Test void slotOnItsWayOutIsNotMapped() {
        var seen = new Object[2];
        try (var vm = new MmuFixture() {
            @Override public void kickVcpus() {
                // Comes at the end of each step of a change; the first step of a deletion is the slot that is going.
                var slot = mmu.slots().find(0);
                if (slot != null && slot.isInvalid() && seen[0] == null) {
                    vcpu.reload();
                    seen[0] = vcpu.fault(0, 0);
                    seen[1] = vcpu.mapPage(0, 0);
                }
            }
        }) {
            vm.slot(0, 0, 4 * PAGE, vm.user.map(4 * PAGE));
            vm.vcpu.fault(0, 0);
            vm.slot(0, 0, 0, 0);
            assertThat(seen[0]).isEqualTo(FaultResult.RETRY);
            assertThat(seen[1]).as("nobody waits for pre-population").isEqualTo(-Errno.EAGAIN.number());
        }
    }

    @Test void readOnlySlotsOfATdAreRefused() {
        var td = new MmuFixture(64 * MIB, MmuParameters.DEFAULT, true, new RoundRobin());
        td.mmu.forbidReadOnlySlots();
        assertThatThrownBy(() -> set(td, 0, READONLY, 0, PAGE, td.user.map(PAGE), null, 0)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> set(td, 1 << 16, 0, 0, PAGE, td.user.map(PAGE), null, 0)).as("no SMM").hasMessageContaining("EINVAL");
        td.close();
    }

    // --- guest_memfd

    @Test void eachPageOfAFileHasOneSlot() {
        var file = f.mmu.createGuestMemfd(8 * PAGE, 0);
        set(f, 0, GMEM, 0, 4 * PAGE, user, file, 0);
        assertThatThrownBy(() -> set(f, 1, GMEM, 16 * PAGE, 4 * PAGE, user, file, 3 * PAGE)).hasMessageContaining("EEXIST");
        set(f, 1, GMEM, 16 * PAGE, 4 * PAGE, user, file, 4 * PAGE);
        f.slot(0, 0, 0, 0);
        set(f, 2, GMEM, 32 * PAGE, 4 * PAGE, user, file, 0);
    }

    @Test void fileOfAnotherVmIsRefused() {
        var other = new Mmu(f.module, f, "other", false);
        var file = other.createGuestMemfd(8 * PAGE, 0);
        assertThatThrownBy(() -> set(f, 0, GMEM, 0, PAGE, user, file, 0)).hasMessageContaining("EINVAL");
    }

    @Test void rangeMustLieInTheFile() {
        var file = f.mmu.createGuestMemfd(4 * PAGE, 0);
        assertThatThrownBy(() -> set(f, 0, GMEM, 0, 4 * PAGE, user, file, PAGE)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> set(f, 0, GMEM, 0, PAGE, user, file, 8)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> set(f, 0, GMEM, 0, PAGE, user, file, -PAGE)).hasMessageContaining("EINVAL");
        assertThat(f.mmu.slots().find(0)).isNull();
    }

    @Test void overlapIsFoundBeforeTheFileIsBound() {
        var file = f.mmu.createGuestMemfd(4 * PAGE, 0);
        f.slot(1, 0, PAGE, user);
        assertThatThrownBy(() -> set(f, 0, GMEM, 0, PAGE, user, file, 0)).hasMessageContaining("EEXIST");
        set(f, 0, GMEM, PAGE, PAGE, user, file, 0);
    }

    @Test void sharedAccessesGoToAFileThatCanBeMapped() {
        var file = f.mmu.createGuestMemfd(4 * PAGE, GuestMemfd.FLAG_MMAP | GuestMemfd.FLAG_INIT_SHARED);
        long address = f.user.map(file, 0, 4 * PAGE);
        f.user.write(address + 8, 8, 0x1234);
        set(f, 0, GMEM, 0, 4 * PAGE, address, file, 0);
        assertThat(f.vcpu.fault(0, VcpuMmu.ERROR_WRITE)).isEqualTo(FaultResult.FIXED);
        assertThat(f.memory.read((f.walk(0)[0] & 0xf_ffff_ffff_f000L) + 8, 8)).isEqualTo(0x1234);
        file.punchHole(0, PAGE);
        assertThat(f.walk(0)[0]).isEqualTo(Spte.NONPRESENT);
        assertThat(f.user.read(address + 8, 8)).isZero();
        file.close();
        assertThat(f.vcpu.fault(0, 0)).as("the slot has no file any more").isEqualTo(FaultResult.MEMORY_FAULT);
    }
}
