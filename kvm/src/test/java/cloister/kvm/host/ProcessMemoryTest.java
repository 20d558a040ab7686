package cloister.kvm.host;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.Defect;
import cloister.kvm.GuestMemfd;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// The VMM's address space: kinds of mappings, frames that come and go, who is told.
final class ProcessMemoryTest {
    private static final long PAGE = 0x1000;
    private static final long MIB = 1L << 20;
    private final PhysicalMemory memory = new PhysicalMemory(64 * MIB, 32);
    private final FrameAllocator frames = new FrameAllocator(new HostMemory(memory), MIB, 64 * MIB);
    private final ProcessMemory user = new ProcessMemory(new HostMemory(memory), frames);

    @AfterEach void release() {
        memory.close();
    }

    /// Keeps what it is told.
    private static final class Listener implements InvalidationListener {
        final List<String> calls = new ArrayList<>();

        @Override public void beginInvalidation(long start, long end) {
            calls.add("begin " + (end - start));
        }

        @Override public void endInvalidation(long start, long end) {
            calls.add("end " + (end - start));
        }

        @Override public boolean clearAccessed(long start, long end) {
            return false;
        }
    }

    /// An owner without slots.
    private static final class NoSlots implements GuestMemFile.Owner {
        @Override public boolean has(Defect defect) {
            return false;
        }

        @Override public void beginGmemInvalidation(List<GuestMemFile.Binding> bindings, long first, long end, boolean isPrivate) {
            assertThat(bindings).isEmpty();
        }

        @Override public void endGmemInvalidation(List<GuestMemFile.Binding> bindings, long first, long end) {
            assertThat(bindings).isEmpty();
        }
    }

    private GuestMemFile file(long flags) {
        return new GuestMemFile(frames, user, 4 * PAGE, flags, new NoSlots());
    }

    @Test void anonymousFramesComeBackByPageAndByBlock() {
        long address = user.map(4 * MIB);
        user.write(address + 5, 1, 7);
        assertThat(user.residentPages()).isEqualTo(512);
        assertThat(user.mappingLevel(address)).isEqualTo(2);
        user.discard(address + PAGE, PAGE);
        assertThat(user.residentPages()).isEqualTo(511);
        assertThat(user.mappingLevel(address)).as("no block any more").isEqualTo(1);
        assertThat(user.read(address + 5, 1)).isEqualTo(7);
        assertThat(user.read(address + PAGE, 8)).isZero();
        user.unmap(address);
        assertThat(user.residentPages()).isZero();
        assertThat(frames.allocatedFrames()).isZero();
    }

    @Test void aPageOfOneGibibyteGoesWholeOrNotAtAll() {
        long gib = 1L << 30;
        try (var large = new PhysicalMemory(4 * gib, 32)) {
            var many = new FrameAllocator(new HostMemory(large), MIB, 4 * gib);
            var process = new ProcessMemory(new HostMemory(large), many);
            long address = process.mapHuge(2 * gib);
            process.write(address + (6 * MIB), 8, 5);
            assertThatThrownBy(() -> process.discard(address + PAGE, gib)).hasMessageContaining("EINVAL");
            process.discard(address, gib - PAGE);
            assertThat(process.mappingLevel(address)).as("less than the page").isEqualTo(3);
            assertThat(process.read(address + (6 * MIB), 8)).isEqualTo(5);
            process.write(address, 8, 1);
            assertThat(process.residentPages()).isEqualTo(gib / PAGE);
            process.discard(address, gib + PAGE);
            assertThat(process.residentPages()).isZero();
            assertThat(process.read(address + (6 * MIB), 8)).isZero();
            assertThat(many.allocatedFrames()).isZero();
        }
    }

    @Test void hugeSizesCostNothingUntilTheyAreUsed() {
        long most = Long.MAX_VALUE & -PAGE;
        var file = new GuestMemFile(frames, user, most, 0, new NoSlots());
        file.allocate(most - (2 * PAGE), PAGE);
        file.allocate(0, PAGE);
        assertThat(file.size()).isEqualTo(most);
        assertThat(file.allocatedPages()).isEqualTo(2);
        file.punchHole(0, most);
        assertThat(file.allocatedPages()).isZero();
        user.createFile(most).close();
        assertThatThrownBy(() -> user.map(1L << 47)).as("more than a process has").hasMessageContaining("ENOMEM");
        assertThatThrownBy(() -> user.mapHuge(1L << 47)).hasMessageContaining("ENOMEM");
        assertThatThrownBy(() -> user.map(most)).hasMessageContaining("ENOMEM");
        user.unmap(user.map(1L << 39));
    }

    @Test void aHoleInAHugeFileReachesItsMappings() {
        long most = Long.MAX_VALUE & -PAGE;
        var file = new GuestMemFile(frames, user, most, GuestMemfd.FLAG_MMAP | GuestMemfd.FLAG_INIT_SHARED, new NoSlots());
        long address = user.map(file, PAGE, 2 * PAGE);
        user.write(address, 8, 1);
        var listener = new Listener();
        user.addListener(listener);
        file.punchHole(0, most);
        assertThat(listener.calls).containsExactly("begin 8192", "end 8192");
        assertThat(user.read(address, 8)).isZero();
    }

    @Test void twoMappingsOfAFileHaveItsPages() {
        var file = user.createFile(4 * PAGE);
        long one = user.map(file, 0, 4 * PAGE);
        long two = user.map(file, PAGE, 2 * PAGE);
        user.write(two + 8, 8, 0x55);
        assertThat(user.read(one + PAGE + 8, 8)).isEqualTo(0x55);
        user.discard(one, 4 * PAGE);
        assertThat(user.read(one + PAGE + 8, 8)).as("the file keeps its pages").isEqualTo(0x55);
        assertThatThrownBy(() -> user.map(file, 2 * PAGE, 4 * PAGE)).hasMessageContaining("EINVAL");
        user.unmap(one);
        user.unmap(two);
        file.close();
        assertThat(frames.allocatedFrames()).isZero();
    }

    @Test void guestMemfdIsMappedOnlyWhenMadeSo() {
        assertThatThrownBy(() -> user.map(file(0), 0, PAGE)).hasMessageContaining("ENODEV");
        long unshared = user.map(file(GuestMemfd.FLAG_MMAP), 0, PAGE);
        assertThatThrownBy(() -> user.read(unshared, 1)).as("SIGBUS").hasMessageContaining("EFAULT");
        var shared = file(GuestMemfd.FLAG_MMAP | GuestMemfd.FLAG_INIT_SHARED);
        long address = user.map(shared, PAGE, 4 * PAGE);
        user.write(address, 8, 9);
        assertThat(shared.allocatedPages()).isEqualTo(1);
        assertThatThrownBy(() -> user.read(address + (3 * PAGE), 1)).as("beyond the end").hasMessageContaining("EFAULT");
        var listener = new Listener();
        user.addListener(listener);
        shared.punchHole(0, 2 * PAGE);
        assertThat(listener.calls).containsExactly("begin 4096", "end 4096");
        assertThat(user.read(address, 8)).isZero();
    }

    @Test void holesAndAllocationsHaveTheirChecks() {
        var file = file(0);
        assertThatThrownBy(() -> file.punchHole(8, PAGE)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> file.punchHole(-PAGE, PAGE)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> file.punchHole(0, 0)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> file.allocate(PAGE, 4 * PAGE)).hasMessageContaining("EINVAL");
        file.allocate(PAGE, 2 * PAGE);
        assertThat(file.allocatedPages()).isEqualTo(2);
        file.punchHole(2 * PAGE, 1L << 40);
        assertThat(file.allocatedPages()).as("what lies beyond the end does not matter").isEqualTo(1);
        file.close();
        assertThat(frames.allocatedFrames()).isZero();
    }

    @Test void everyChangeHasABeginningAndAnEnd() {
        var listener = new Listener();
        user.addListener(listener);
        long address = user.map(4 * PAGE);
        user.discard(address, PAGE);
        user.protect(address, false);
        user.unmap(address);
        assertThat(listener.calls).containsExactly("begin 4096", "end 4096", "begin 16384", "end 16384", "begin 16384", "end 16384");
        assertThat(user.pin(address, false)).isEqualTo(ProcessMemory.NO_MAPPING);
    }

    @Test void pinSaysWhatThePageIs() {
        long address = user.map(2 * PAGE);
        assertThat(user.pin(address, true) & (PAGE - 1)).isEqualTo(ProcessMemory.WRITABLE);
        user.protect(address, false);
        assertThat(user.pin(address, false) & (PAGE - 1)).isZero();
        assertThat(user.pin(address, true)).isEqualTo(ProcessMemory.NO_MAPPING);
        long device = user.mapDevice(1L << 40, PAGE);
        assertThat(user.pin(device, true)).isEqualTo((1L << 40) | ProcessMemory.WRITABLE | ProcessMemory.HOST_MMIO);
        assertThatThrownBy(() -> user.mapDevice(MIB, PAGE)).as("memory is no device").hasMessageContaining("EINVAL");
    }

    @Test void quarantinedFrameIsNotHandedOutAgain() {
        long bad = frames.allocate();
        long good = frames.allocate();
        frames.quarantine(bad);
        frames.free(bad);
        frames.free(good);
        assertThat(frames.allocatedFrames()).isEqualTo(1);
        assertThat(frames.allocate()).isEqualTo(good);
        assertThat(frames.allocate()).isNotEqualTo(bad);
    }
}
