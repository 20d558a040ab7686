package cloister.kvm;

import static cloister.spec.kvm.Errno.*;
import static cloister.spec.kvm.KvmAbi.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import cloister.kvm.dev.DevKvm;
import cloister.kvm.vcpu.Vm;
import cloister.memory.PhysicalMemory;
import cloister.sim.StateListing;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/// Each field of each ioctl on the memory side, at and beyond its limits: the errno of Linux 7.2, in the order of its checks, and nothing
/// has changed then. What is at the limit works. [LINUX virt/kvm/kvm_main.c, virt/kvm/guest_memfd.c, arch/x86/kvm/x86.c]
final class BadInputTest {
    private static final long PAGE = 0x1000;
    private static final int FIRST = 0;
    private static final int BOUND = 2;
    private static final int LOGGED = 3;
    private static final int FREE = 9;
    private static final long FREE_GPA = 1L << 20;
    private static final long LOGGED_PAGES = 100;
    private static final long MAX_PAGES = (1L << 31) - 1;
    private static final long USER_END = (1L << 47) - PAGE;

    /// A call, and how it ends.
    ///
    /// @param errno null for success
    private record Row(String what, Errno errno, Consumer<Machine> call) {
        /// The device stays that the VFIO file is not added to, an entry for MMIO where no slot is, and the root that is loaded first.
        boolean leavesTraces() {
            return what.contains("VFIO") || what.startsWith("populating no slot") || what.equals("populating");
        }
    }

    /// A VM with slots: one of 8 pages at 0, one bound to a guest_memfd, one that logs writes; and a vCPU whose root is loaded.
    static final class Machine implements AutoCloseable {
        final TestHost host = new TestHost(2);
        final Kvm kvm;
        final KvmVm vm;
        final KvmVm other;
        final long user;
        final GuestMemfd memfd;
        final GuestMemfd foreign;
        final GuestMemfd mappable;
        final KvmVcpu vcpu;
        final boolean hasPrivateMemory;
        final long gpaEnd;

        Machine(VmType type, boolean ept) {
            kvm = DevKvm.open(host.environment(), new KvmParameters(true, KvmPolicy.MMIO_PARAMETER.choices().getFirst(), ept));
            vm = kvm.createVm(type);
            other = kvm.createVm(type);
            hasPrivateMemory = type == VmType.SW_PROTECTED;
            user = kvm.userMemory().map(1L << 20);
            memfd = vm.createGuestMemfd(16 * PAGE, 0);
            foreign = other.createGuestMemfd(16 * PAGE, 0);
            mappable = vm.createGuestMemfd(16 * PAGE, GuestMemfd.FLAG_MMAP);
            region(FIRST, 0, 0, 8 * PAGE, user);
            vm.setUserMemoryRegion2(new UserMemoryRegion(BOUND, MEM_GUEST_MEMFD, 32 * PAGE, 4 * PAGE, user, memfd, 4 * PAGE));
            region(LOGGED, MEM_LOG_DIRTY_PAGES, 512 * PAGE, LOGGED_PAGES * PAGE, user);
            vcpu = vm.createVcpu(0);
            if (ept) {
                vcpu.preFaultMemory(new GpaRange(0, PAGE));
            }
            int[] sizes = new int[4];
            host.processors().getFirst().cpuid(0x8000_0008, 0, sizes);
            int bits = sizes[0] & 0xff;
            gpaEnd = 1L << (ept ? bits : 52);
        }

        void region(int slot, int flags, long gpa, long size, long address) {
            // Without the flag, nobody looks at the offset.
            long offset = (flags & MEM_GUEST_MEMFD) != 0 ? 0 : 0x123;
            vm.setUserMemoryRegion2(new UserMemoryRegion(slot, flags, gpa, size, address, null, offset));
        }

        void bound(int slot, int flags, long gpa, long size, GuestMemfd file, long offset) {
            vm.setUserMemoryRegion2(new UserMemoryRegion(slot, flags | MEM_GUEST_MEMFD, gpa, size, user, file, offset));
        }

        void populate(long gpa, long size, long flags) {
            var range = new GpaRange(gpa, size);
            range.flags = flags;
            try {
                vcpu.preFaultMemory(range);
            } finally {
                assertThat(range.size).isLessThanOrEqualTo(Math.max(size, range.size));
            }
        }

        /// Everything that a failing call leaves alone: the VM's state, and whose each frame is.
        Map<String, String> state() {
            var all = new TreeMap<>(StateListing.of((Vm) vm).entries());
            all.put("frames", "" + ((Vm) vm).host.frames().allocatedFrames());
            all.put("resident", "" + kvm.userMemory().residentPages());
            all.put("memfd", memfd.allocatedPages() + " " + mappable.allocatedPages() + " " + foreign.allocatedPages());
            var owners = new TreeMap<Integer, Integer>();
            for (long pa = 0; pa < TestHost.MEMORY; pa += PhysicalMemory.FRAME_SIZE) {
                owners.merge(host.memory().ownerOfLine(pa), 1, Integer::sum);
            }
            all.put("owners", owners.toString());
            return all;
        }

        void isAsBefore(Map<String, String> before) {
            var changed = new TreeMap<>(state());
            changed.entrySet().removeIf(entry -> entry.getValue().equals(before.get(entry.getKey())));
            assertThat(changed).isEmpty();
        }

        @Override public void close() {
            host.close();
        }
    }

    private static Row row(String what, Errno errno, Consumer<Machine> call) {
        return new Row(what, errno, call);
    }

    // --- KVM_SET_USER_MEMORY_REGION2

    private static void slots(List<Row> rows, boolean twoSpaces) {
        for (int id : new int[] {32_764, 32_765, 32_767, 32_768, 65_535}) {
            rows.add(row("slot number " + id, EINVAL, m -> m.region(id, 0, FREE_GPA, PAGE, m.user)));
        }
        rows.add(row("the last slot number", null, m -> m.region(32_763, 0, FREE_GPA, PAGE, m.user)));
        rows.add(row("address space 1", twoSpaces ? null : EINVAL, m -> m.region((1 << 16) | FREE, 0, 0, PAGE, m.user)));
        for (int space : new int[] {2, 3, 0x7fff, 0x8000, 0xffff}) {
            rows.add(row("address space " + space, EINVAL, m -> m.region((space << 16) | FREE, 0, FREE_GPA, PAGE, m.user)));
        }
        for (int bit = 0; bit < 32; bit++) {
            int flag = 1 << bit;
            Errno expected = flag == MEM_LOG_DIRTY_PAGES || flag == MEM_READONLY ? null : flag == MEM_GUEST_MEMFD ? EBADF : EINVAL;
            rows.add(row("flag bit " + bit, expected, m -> m.region(FREE, flag, FREE_GPA, PAGE, m.user)));
            rows.add(row("flag bit " + bit + " of the first form", flag == MEM_GUEST_MEMFD ? EINVAL : expected,
                    m -> m.vm.setUserMemoryRegion(FREE, flag, FREE_GPA, PAGE, m.user)));
            rows.add(row("flag bit " + bit + " beside a guest_memfd", flag == MEM_GUEST_MEMFD ? null : EINVAL,
                    m -> m.bound(FREE, flag, FREE_GPA, PAGE, m.memfd, 0)));
        }
        for (long gpa : new long[] {1, 0x800, PAGE - 1, FREE_GPA + 1, -1}) {
            rows.add(row("guest address " + Long.toHexString(gpa), EINVAL, m -> m.region(FREE, 0, gpa, PAGE, m.user)));
        }
        rows.add(row("guest addresses up to 2^64", EINVAL, m -> m.region(FREE, 0, -PAGE, PAGE, m.user)));
        rows.add(row("guest addresses that wrap", EINVAL, m -> m.region(FREE, 0, -PAGE, 4 * PAGE, m.user)));
        rows.add(row("the last guest page", null, m -> m.region(FREE, 0, m.gpaEnd - PAGE, PAGE, m.user)));
        rows.add(row("behind the last guest page", EINVAL, m -> m.region(FREE, 0, m.gpaEnd, PAGE, m.user)));
        rows.add(row("across the last guest page", EINVAL, m -> m.region(FREE, 0, m.gpaEnd - PAGE, 2 * PAGE, m.user)));
        rows.add(row("guest addresses of 63 bits", EINVAL, m -> m.region(FREE, 0, 1L << 62, PAGE, m.user)));
        for (long size : new long[] {1, PAGE - 1, PAGE + 1, -1, -PAGE, Long.MIN_VALUE, 1L << 47, (MAX_PAGES + 1) * PAGE}) {
            rows.add(row("size " + Long.toHexString(size), EINVAL, m -> m.region(FREE, 0, FREE_GPA, size, 0)));
        }
        rows.add(row("as many pages as a slot can have", null, m -> m.region(FREE, 0, 1L << 44, MAX_PAGES * PAGE, 0)));
        rows.add(row("size 0 where no slot is", EINVAL, m -> m.region(FREE, 0, FREE_GPA, 0, m.user)));
        rows.add(row("size 0 with a flag that is none", EINVAL, m -> m.region(FIRST, 1 << 5, 0, 0, m.user)));
        rows.add(row("size 0 and an unaligned address", EINVAL, m -> m.region(FIRST, 0, 1, 0, m.user)));
        for (long address : new long[] {1, PAGE - 1, USER_END, USER_END + PAGE, 1L << 63, -PAGE, -1}) {
            rows.add(row("user address " + Long.toHexString(address), EINVAL, m -> m.region(FREE, 0, FREE_GPA, PAGE, address)));
        }
        rows.add(row("user address 0", null, m -> m.region(FREE, 0, FREE_GPA, PAGE, 0)));
        rows.add(row("the last user page", null, m -> m.region(FREE, 0, FREE_GPA, PAGE, USER_END - PAGE)));
        rows.add(row("across the last user page", EINVAL, m -> m.region(FREE, 0, FREE_GPA, 2 * PAGE, USER_END - PAGE)));
    }

    private static void overlaps(List<Row> rows) {
        for (long gpa : new long[] {0, PAGE, 7 * PAGE}) {
            rows.add(row("overlap at " + Long.toHexString(gpa), EEXIST, m -> m.region(FREE, 0, gpa, PAGE, m.user)));
        }
        rows.add(row("a slot around another", EEXIST, m -> m.region(FREE, 0, 0, 16 * PAGE, m.user)));
        rows.add(row("a slot right behind another", null, m -> m.region(FREE, 0, 8 * PAGE, 24 * PAGE, m.user)));
        rows.add(row("one page too long", EEXIST, m -> m.region(FREE, 0, 8 * PAGE, 25 * PAGE, m.user)));
        rows.add(row("overlap is looked for before the file", EEXIST, m -> m.region(FREE, MEM_GUEST_MEMFD, 0, PAGE, m.user)));
        rows.add(row("alignment is looked at before overlap", EINVAL, m -> m.region(FREE, 0, 1, PAGE, m.user)));
        rows.add(row("the file is looked for before the end of memory", EBADF,
                m -> m.region(FREE, MEM_GUEST_MEMFD, m.gpaEnd, PAGE, m.user)));
        rows.add(row("another size of a slot", EINVAL, m -> m.region(FIRST, 0, 0, 4 * PAGE, m.user)));
        rows.add(row("another user address of a slot", EINVAL, m -> m.region(FIRST, 0, 0, 8 * PAGE, m.user + PAGE)));
        rows.add(row("a slot becomes read-only", EINVAL, m -> m.region(FIRST, MEM_READONLY, 0, 8 * PAGE, m.user)));
        rows.add(row("a slot gets a guest_memfd", EINVAL, m -> m.bound(FIRST, 0, 0, 8 * PAGE, m.memfd, 0)));
        rows.add(row("a slot loses its guest_memfd", EINVAL, m -> m.region(BOUND, 0, 32 * PAGE, 4 * PAGE, m.user)));
        rows.add(row("a bound slot as it is", EINVAL, m -> m.bound(BOUND, 0, 32 * PAGE, 4 * PAGE, m.memfd, 4 * PAGE)));
        rows.add(row("a slot as it is", null, m -> m.region(FIRST, 0, 0, 8 * PAGE, m.user)));
        rows.add(row("moved onto another", EEXIST, m -> m.region(FIRST, 0, 30 * PAGE, 8 * PAGE, m.user)));
        rows.add(row("moved a little", null, m -> m.region(FIRST, 0, PAGE, 8 * PAGE, m.user)));
    }

    private static void bindings(List<Row> rows) {
        for (long offset : new long[] {1, PAGE - 1, -PAGE, -1, 16 * PAGE, 15 * PAGE, Long.MAX_VALUE & -PAGE}) {
            rows.add(row("guest_memfd offset " + Long.toHexString(offset), EINVAL,
                    m -> m.bound(FREE, 0, FREE_GPA, 2 * PAGE, m.memfd, offset)));
        }
        rows.add(row("the end of the guest_memfd", null, m -> m.bound(FREE, 0, FREE_GPA, 2 * PAGE, m.memfd, 14 * PAGE)));
        rows.add(row("pages that are bound", EEXIST, m -> m.bound(FREE, 0, FREE_GPA, PAGE, m.memfd, 7 * PAGE)));
        rows.add(row("pages around those that are bound", EEXIST, m -> m.bound(FREE, 0, FREE_GPA, 16 * PAGE, m.memfd, 0)));
        rows.add(row("beyond the end is looked at before what is bound", EINVAL,
                m -> m.bound(FREE, 0, FREE_GPA, 16 * PAGE, m.memfd, 4 * PAGE)));
        rows.add(row("another VM's guest_memfd", EINVAL, m -> m.bound(FREE, 0, FREE_GPA, PAGE, m.foreign, 0)));
        rows.add(row("another file", EINVAL, m -> m.bound(FREE, 0, FREE_GPA, PAGE, new NoMemfd(), 0)));
        rows.add(row("binding behind the end of memory", EINVAL, m -> m.bound(FREE, 0, m.gpaEnd, PAGE, m.memfd, 0)));
    }

    private record NoMemfd() implements GuestMemfd {
        @Override public long size() {
            return 1L << 30;
        }

        @Override public long allocatedPages() {
            return 0;
        }

        @Override public void allocate(long offset, long length) {
            throw new IllegalStateException();
        }

        @Override public void punchHole(long offset, long length) {
            throw new IllegalStateException();
        }
    }

    // --- the other ioctls of memory

    private static void attributes(List<Row> rows, boolean hasPrivateMemory) {
        for (int bit = 0; bit < 64; bit++) {
            long attribute = 1L << bit;
            rows.add(row("attribute bit " + bit, hasPrivateMemory && attribute == MEMORY_ATTRIBUTE_PRIVATE ? null : EINVAL,
                    m -> m.vm.setMemoryAttributes(0, PAGE, attribute)));
        }
        long value = hasPrivateMemory ? MEMORY_ATTRIBUTE_PRIVATE : 0;
        long[][] bad = {{1, PAGE}, {0, 0}, {0, 1}, {0, PAGE + 1}, {PAGE - 1, 2 * PAGE}, {-PAGE, PAGE}, {-PAGE, 2 * PAGE}, {PAGE, -PAGE},
            {0, -1}, {1L << 63, 1L << 63}};
        for (long[] range : bad) {
            rows.add(row("attributes of " + Long.toHexString(range[0]) + "+" + Long.toHexString(range[1]), EINVAL,
                    m -> m.vm.setMemoryAttributes(range[0], range[1], value)));
        }
        rows.add(row("attributes of the last page below 2^64 - 4096", null, m -> m.vm.setMemoryAttributes(-2 * PAGE, PAGE, value)));
    }

    private static void files(List<Row> rows, boolean hasPrivateMemory) {
        for (long size : new long[] {0, 1, PAGE - 1, PAGE + 1, -PAGE, Long.MIN_VALUE, Long.MAX_VALUE}) {
            rows.add(row("guest_memfd of " + Long.toHexString(size), EINVAL, m -> m.vm.createGuestMemfd(size, 0)));
        }
        for (int bit = 0; bit < 64; bit++) {
            long flag = 1L << bit;
            boolean known = flag == GuestMemfd.FLAG_MMAP || (flag == GuestMemfd.FLAG_INIT_SHARED && !hasPrivateMemory);
            rows.add(row("guest_memfd flag bit " + bit, known ? null : EINVAL, m -> m.vm.createGuestMemfd(PAGE, flag)));
        }
        long[][] invalid = {{-PAGE, PAGE}, {0, 0}, {0, -PAGE}, {1, PAGE}, {0, 1}, {Long.MIN_VALUE, PAGE}};
        for (long[] range : invalid) {
            String name = Long.toHexString(range[0]) + "+" + Long.toHexString(range[1]);
            rows.add(row("hole " + name, EINVAL, m -> m.memfd.punchHole(range[0], range[1])));
            rows.add(row("fallocate " + name, EINVAL, m -> m.memfd.allocate(range[0], range[1])));
        }
        long[][] wrapping = {{Long.MAX_VALUE & -PAGE, PAGE}, {PAGE, Long.MAX_VALUE & -PAGE}, {Long.MAX_VALUE, Long.MAX_VALUE}};
        for (long[] range : wrapping) {
            String name = Long.toHexString(range[0]) + "+" + Long.toHexString(range[1]);
            rows.add(row("hole " + name, EFBIG, m -> m.memfd.punchHole(range[0], range[1])));
            rows.add(row("fallocate " + name, EFBIG, m -> m.memfd.allocate(range[0], range[1])));
        }
        rows.add(row("hole behind the end", null, m -> m.memfd.punchHole(16 * PAGE, 1L << 40)));
        rows.add(row("fallocate behind the end", EINVAL, m -> m.memfd.allocate(15 * PAGE, 2 * PAGE)));
        rows.add(row("fallocate up to the end", null, m -> m.memfd.allocate(15 * PAGE, PAGE)));
        rows.add(row("mmap without the flag", ENODEV, m -> m.kvm.userMemory().map(m.memfd, 0, PAGE)));
        for (long[] range : new long[][] {{1, PAGE}, {0, 0}}) {
            rows.add(row("mmap " + range[0] + "+" + range[1], EINVAL, m -> m.kvm.userMemory().map(m.mappable, range[0], range[1])));
            rows.add(row("mmap " + range[0] + "+" + range[1] + " without the flag", EINVAL,
                    m -> m.kvm.userMemory().map(m.memfd, range[0], range[1])));
        }
        rows.add(row("mmap behind the end", null, m -> m.kvm.userMemory().map(m.mappable, 1L << 30, PAGE)));
    }

    private static void dirtyLog(List<Row> rows, boolean twoSpaces) {
        for (int slot : new int[] {32_764, 65_535, 2 << 16, (0xffff << 16) | LOGGED}) {
            rows.add(row("dirty log of " + Integer.toHexString(slot), EINVAL, m -> m.vm.getDirtyLog(slot)));
            rows.add(row("clearing that of " + Integer.toHexString(slot), EINVAL, m -> m.vm.clearDirtyLog(slot, 0, 64, new long[8])));
        }
        for (int slot : new int[] {FREE, FIRST, 32_763}) {
            rows.add(row("dirty log of slot " + slot, ENOENT, m -> m.vm.getDirtyLog(slot)));
            rows.add(row("clearing that of slot " + slot, ENOENT, m -> m.vm.clearDirtyLog(slot, 0, 64, new long[8])));
            rows.add(row("alignment is looked at before slot " + slot, EINVAL, m -> m.vm.clearDirtyLog(slot, 1, 64, new long[8])));
        }
        rows.add(row("dirty log in address space 1", twoSpaces ? ENOENT : EINVAL, m -> m.vm.getDirtyLog((1 << 16) | LOGGED)));
        long[][] bad = {{1, 63}, {63, 1}, {-1, 64}, {0, 1}, {0, 63}, {0, 65}, {0, LOGGED_PAGES + 1}, {0, 128}, {64, 64}, {64, 35},
            {128, 0}, {128, 64}, {-64, 64}, {0, -1}, {0, Integer.MIN_VALUE}, {Long.MIN_VALUE, 64}};
        for (long[] range : bad) {
            rows.add(row("clearing pages " + range[0] + "+" + range[1], EINVAL,
                    m -> m.vm.clearDirtyLog(LOGGED, range[0], (int) range[1], new long[64])));
        }
        for (long[] range : new long[][] {{0, LOGGED_PAGES}, {64, LOGGED_PAGES - 64}, {0, 64}, {0, 0}, {64, 0}}) {
            rows.add(row("clearing pages " + range[0] + "+" + range[1], null,
                    m -> m.vm.clearDirtyLog(LOGGED, range[0], (int) range[1], new long[64])));
        }
        rows.add(row("a bitmap too short", EFAULT, m -> m.vm.clearDirtyLog(LOGGED, 0, (int) LOGGED_PAGES, new long[1])));
        rows.add(row("rings that are not there", EINVAL, m -> m.vm.resetDirtyRings()));
    }

    private static void capabilities(List<Row> rows) {
        for (int bit = 0; bit < 64; bit++) {
            long flag = 1L << bit;
            rows.add(row("dirty log option " + bit, bit == 0 ? null : EINVAL, m -> m.vm.enableCap(KvmCap.MANUAL_DIRTY_LOG_PROTECT2, flag)));
            rows.add(row("dirty log option " + bit + " and 0", bit <= 1 ? null : EINVAL,
                    m -> m.vm.enableCap(KvmCap.MANUAL_DIRTY_LOG_PROTECT2, flag | 1)));
            rows.add(row("quirk " + bit, (supportedQuirks() & flag) != 0 ? null : EINVAL,
                    m -> m.vm.enableCap(KvmCap.DISABLE_QUIRKS2, flag)));
            rows.add(row("quirk " + bit + " of the first form", null, m -> m.vm.enableCap(KvmCap.DISABLE_QUIRKS, flag)));
        }
        rows.add(row("a quirk among others", EINVAL, m -> m.vm.enableCap(KvmCap.DISABLE_QUIRKS2, QUIRK_SLOT_ZAP_ALL | (1L << 63))));
        for (var cap : EnumSet.complementOf(EnumSet.copyOf(ENABLED))) {
            rows.add(row("enabling " + cap, EINVAL, m -> m.vm.enableCap(cap, 1)));
        }
    }

    private static final Set<KvmCap> ENABLED = Set.of(KvmCap.SPLIT_IRQCHIP, KvmCap.EXIT_HYPERCALL, KvmCap.X2APIC_API, KvmCap.MAX_VCPU_ID,
            KvmCap.X86_APIC_BUS_CYCLES_NS, KvmCap.DISABLE_QUIRKS, KvmCap.DISABLE_QUIRKS2, KvmCap.MANUAL_DIRTY_LOG_PROTECT2,
            KvmCap.DIRTY_LOG_RING, KvmCap.DIRTY_LOG_RING_ACQ_REL, KvmCap.X86_USER_SPACE_MSR);

    /// What this model has of KVM_X86_QUIRK_.
    private static long supportedQuirks() {
        return QUIRK_CD_NW_CLEARED | QUIRK_SLOT_ZAP_ALL | QUIRK_IGNORE_GUEST_PAT;
    }

    private static void rings(List<Row> rows) {
        long[] invalid = {0, 1, 2048, 3 * PAGE, PAGE + 1, 1L << 32, 1L << 63, (3L << 32) | 2048};
        for (long size : invalid) {
            rows.add(row("rings of " + Long.toHexString(size), EINVAL, m -> m.other.enableCap(KvmCap.DIRTY_LOG_RING, size)));
        }
        for (long size : new long[] {1 << 21, 1 << 30, 1L << 31, (1L << 32) | (1 << 21)}) {
            rows.add(row("rings of " + Long.toHexString(size), E2BIG, m -> m.other.enableCap(KvmCap.DIRTY_LOG_RING_ACQ_REL, size)));
        }
        for (long size : new long[] {PAGE, 1 << 20, (1L << 32) | PAGE}) {
            rows.add(row("rings of " + Long.toHexString(size), null, m -> m.other.enableCap(KvmCap.DIRTY_LOG_RING, size)));
        }
        rows.add(row("rings after a vCPU", EINVAL, m -> m.vm.enableCap(KvmCap.DIRTY_LOG_RING, PAGE)));
        rows.add(row("the size is looked at before vCPUs", E2BIG, m -> m.vm.enableCap(KvmCap.DIRTY_LOG_RING, 1 << 21)));
        rows.add(row("rings twice", EINVAL, m -> {
            m.other.enableCap(KvmCap.DIRTY_LOG_RING, PAGE);
            m.other.enableCap(KvmCap.DIRTY_LOG_RING, PAGE);
        }));
        rows.add(row("a bitmap beside rings", ENXIO, m -> {
            m.other.enableCap(KvmCap.DIRTY_LOG_RING, PAGE);
            m.other.getDirtyLog(-1);
        }));
        rows.add(row("clearing a bitmap beside rings", ENXIO, m -> {
            m.other.enableCap(KvmCap.DIRTY_LOG_RING, PAGE);
            m.other.clearDirtyLog(-1, 1, 1, new long[0]);
        }));
    }

    private static void populating(List<Row> rows, boolean ept) {
        for (int bit = 0; bit < 64; bit++) {
            long flag = 1L << bit;
            rows.add(row("populating with flag " + bit, EINVAL, m -> m.populate(0, PAGE, flag)));
        }
        long[][] bad = {{1, PAGE}, {0, 0}, {0, 1}, {0, PAGE + 1}, {-PAGE, PAGE}, {-PAGE, 2 * PAGE}, {PAGE, -PAGE}, {1L << 63, 1L << 63}};
        for (long[] range : bad) {
            rows.add(row("populating " + Long.toHexString(range[0]) + "+" + Long.toHexString(range[1]), EINVAL,
                    m -> m.populate(range[0], range[1], 0)));
        }
        for (long gpa : new long[] {FREE_GPA, 1L << 45, 1L << 51, 1L << 52, 1L << 62, -2 * PAGE}) {
            rows.add(row("populating no slot at " + Long.toHexString(gpa), ept ? ENOENT : EOPNOTSUPP, m -> m.populate(gpa, PAGE, 0)));
        }
        rows.add(row("populating", ept ? null : EOPNOTSUPP, m -> m.populate(0, 64 * PAGE, 0)));
    }

    private static void creation(List<Row> rows) {
        for (int id : new int[] {-1, 4096, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
            rows.add(row("vCPU " + id, EINVAL, m -> m.vm.createVcpu(id)));
        }
        rows.add(row("vCPU 0 again", EEXIST, m -> m.vm.createVcpu(0)));
        rows.add(row("the last vCPU id", null, m -> m.vm.createVcpu(4095)));
        for (int type : new int[] {-1, 0, 1, 2, 3, 5, 6, 11, 12, Integer.MIN_VALUE}) {
            rows.add(row("device of type " + type, ENODEV, m -> m.vm.createDevice(type)));
        }
        rows.add(row("no VFIO file", EBADF, m -> m.vm.createDevice(DEV_TYPE_VFIO).setAttr(DEV_VFIO_FILE, DEV_VFIO_FILE_ADD, null)));
        for (long attribute : new long[] {0, 3, 4, -1, (1L << 32) | 1}) {
            rows.add(row("VFIO attribute " + attribute, ENXIO,
                    m -> m.vm.createDevice(DEV_TYPE_VFIO).setAttr(DEV_VFIO_FILE, attribute, new VfioFile(true))));
        }
        for (int group : new int[] {0, 2, -1}) {
            rows.add(row("VFIO group " + group, ENXIO,
                    m -> m.vm.createDevice(DEV_TYPE_VFIO).setAttr(group, DEV_VFIO_FILE_ADD, new VfioFile(true))));
        }
    }

    private static List<Row> rows(VmType type, boolean ept) {
        boolean hasPrivateMemory = type == VmType.SW_PROTECTED;
        var rows = new ArrayList<Row>();
        slots(rows, !hasPrivateMemory);
        overlaps(rows);
        bindings(rows);
        attributes(rows, hasPrivateMemory);
        files(rows, hasPrivateMemory);
        dirtyLog(rows, !hasPrivateMemory);
        capabilities(rows);
        rings(rows);
        populating(rows, ept);
        creation(rows);
        return rows;
    }

    @TestFactory Stream<DynamicTest> ordinaryVms() {
        return tests(VmType.DEFAULT, true);
    }

    @TestFactory Stream<DynamicTest> ordinaryVmsWithoutEpt() {
        return tests(VmType.DEFAULT, false);
    }

    @TestFactory Stream<DynamicTest> softwareProtectedVms() {
        return tests(VmType.SW_PROTECTED, true);
    }

    private static Stream<DynamicTest> tests(VmType type, boolean ept) {
        return rows(type, ept).stream().map(row -> DynamicTest.dynamicTest(row.what(), () -> check(row, type, ept)));
    }

    private static void check(Row row, VmType type, boolean ept) {
        try (var machine = new Machine(type, ept)) {
            var before = machine.state();
            var thrown = catchThrowable(() -> row.call().accept(machine));
            if (row.errno() == null) {
                assertThat(thrown).isNull();
                return;
            }
            assertThat(thrown).isInstanceOf(KvmException.class);
            assertThat(((KvmException) thrown).errno()).isEqualTo(row.errno());
            if (!row.leavesTraces()) {
                machine.isAsBefore(before);
            }
        }
    }

    // --- wrong states

    private static Stream<Row> calls() {
        return Stream.of(row("slot", null, m -> m.region(FREE, 0, FREE_GPA, PAGE, m.user)),
                row("slot of the first form", null, m -> m.vm.setUserMemoryRegion(FREE, 0, FREE_GPA, PAGE, m.user)),
                row("slot with flags that are none", null, m -> m.vm.setUserMemoryRegion(FREE, -1, FREE_GPA, PAGE, m.user)),
                row("attributes", null, m -> m.vm.setMemoryAttributes(0, PAGE, 0)),
                row("guest_memfd", null, m -> m.vm.createGuestMemfd(PAGE, 0)),
                row("dirty log", null, m -> m.vm.getDirtyLog(LOGGED)),
                row("clearing the dirty log", null, m -> m.vm.clearDirtyLog(LOGGED, 0, 64, new long[1])),
                row("dirty rings", null, m -> m.vm.resetDirtyRings()),
                row("manual protection", null, m -> m.vm.enableCap(KvmCap.MANUAL_DIRTY_LOG_PROTECT2, 1)),
                row("rings", null, m -> m.vm.enableCap(KvmCap.DIRTY_LOG_RING, PAGE)),
                row("quirks", null, m -> m.vm.enableCap(KvmCap.DISABLE_QUIRKS2, 0)),
                row("device", null, m -> m.vm.createDevice(DEV_TYPE_VFIO)),
                row("vCPU", null, m -> m.vm.createVcpu(1)),
                row("populating", null, m -> m.populate(0, PAGE, 0)),
                row("populating with flags", null, m -> m.populate(0, PAGE, 1)),
                row("running", null, m -> m.vcpu.run()));
    }

    @TestFactory Stream<DynamicTest> everythingOnADeadVm() {
        return calls().map(row -> DynamicTest.dynamicTest(row.what(), () -> {
            try (var machine = new Machine(VmType.DEFAULT, true)) {
                ((Vm) machine.vm).bug();
                check(machine, new Row(row.what(), EIO, row.call()));
            }
        }));
    }

    private static void check(Machine machine, Row row) {
        var before = machine.state();
        var thrown = catchThrowable(() -> row.call().accept(machine));
        assertThat(thrown).isInstanceOf(KvmException.class);
        assertThat(((KvmException) thrown).errno()).isEqualTo(row.errno());
        machine.isAsBefore(before);
    }

    @TestFactory Stream<DynamicTest> withoutMemory() {
        return Stream.of(row("vCPU", ENOMEM, m -> m.vm.createVcpu(1)), row("populating", ENOMEM, m -> m.populate(7 * PAGE, PAGE, 0)),
                row("fallocate", ENOMEM, m -> m.memfd.allocate(0, PAGE)))
                .flatMap(row -> Stream.of(0, 1, 2, 3).map(left -> DynamicTest.dynamicTest(row.what() + ", frames left: " + left, () -> {
                    try (var machine = new Machine(VmType.DEFAULT, true)) {
                        var frames = ((Vm) machine.vm).host.frames();
                        exhaust(machine, left);
                        if (row.what().equals("vCPU") || left == 0) {
                            check(machine, row);
                        }
                        assertThat(frames.allocatedFrames()).isPositive();
                    }
                })));
    }

    private static void exhaust(Machine machine, int left) {
        var frames = ((Vm) machine.vm).host.frames();
        var taken = new ArrayList<Long>();
        try {
            while (true) {
                taken.add(frames.allocate());
            }
        } catch (KvmException none) {
            for (int i = 0; i < left; i++) {
                frames.free(taken.removeLast());
            }
        }
    }

    @Test void capabilitiesOfMemoryFollowTheMode() {
        try (var machine = new Machine(VmType.DEFAULT, false)) {
            assertThat(machine.kvm.checkExtension(KvmCap.PRE_FAULT_MEMORY)).isZero();
            assertThat(machine.vm.checkExtension(KvmCap.PRE_FAULT_MEMORY)).isZero();
            assertThat(machine.kvm.checkExtension(KvmCap.VM_TYPES)).isEqualTo(1L << VmType.DEFAULT.number());
            assertThat(machine.vm.checkExtension(KvmCap.MEMORY_ATTRIBUTES)).isZero();
            assertThat(machine.kvm.checkExtension(KvmCap.MEMORY_ATTRIBUTES)).isEqualTo(MEMORY_ATTRIBUTE_PRIVATE);
            assertThat(machine.vm.checkExtension(KvmCap.MULTI_ADDRESS_SPACE)).isEqualTo(2);
        }
        try (var machine = new Machine(VmType.SW_PROTECTED, true)) {
            assertThat(machine.vm.checkExtension(KvmCap.PRE_FAULT_MEMORY)).isEqualTo(1);
            assertThat(machine.vm.checkExtension(KvmCap.MULTI_ADDRESS_SPACE)).isEqualTo(1);
            assertThat(machine.vm.checkExtension(KvmCap.MEMORY_ATTRIBUTES)).isEqualTo(MEMORY_ATTRIBUTE_PRIVATE);
            assertThat(machine.vm.checkExtension(KvmCap.GUEST_MEMFD_FLAGS)).isEqualTo(GuestMemfd.FLAG_MMAP);
            assertThat(machine.vm.checkExtension(KvmCap.READONLY_MEM)).isEqualTo(1);
        }
    }

    @Test void theApicBusCycleIsWhatWasSet() {
        try (var host = new TestHost(1)) {
            var kvm = DevKvm.open(host.environment());
            var vm = kvm.createVm(VmType.DEFAULT);
            vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            vm.enableCap(KvmCap.X86_APIC_BUS_CYCLES_NS, 40);
            assertThat(vm.checkExtension(KvmCap.X86_APIC_BUS_CYCLES_NS)).isEqualTo(40);
            assertThat(kvm.checkExtension(KvmCap.X86_APIC_BUS_CYCLES_NS)).isEqualTo(1);
        }
    }
}
