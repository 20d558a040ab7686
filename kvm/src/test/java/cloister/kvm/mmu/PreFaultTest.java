package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import cloister.kvm.GpaRange;
import cloister.kvm.KvmException;
import cloister.kvm.UserMemoryRegion;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// KVM_PRE_FAULT_MEMORY in each mode of a vCPU, of each kind of VM, for each state of the page.
final class PreFaultTest {
    /// What the call comes to for a page in each state, with 4 and with 5 levels alike. Derived from Linux 7.2: kvm_vcpu_pre_fault_memory
    /// looks for a signal first; kvm_arch_vcpu_pre_fault_memory then asks pre_fault_allowed, the SHARED bit, whether there is a root, and
    /// whether the vCPU's page_fault is kvm_tdp_page_fault; kvm_mmu_faultin_pfn compares the attribute, then the slot, then the page.
    ///
    /// ENOTSUP is EOPNOTSUPP; a dash is a mode that the VM has not: a TD has no system-management mode, and the TDX module runs what it
    /// nests.
    ///
    /// | state | what is at the page |
    /// |---|---|
    /// | BACKED | a slot, and memory behind it |
    /// | MAPPED | the same, and an entry already |
    /// | UNMAPPED | a slot with nothing behind: no mapping of the VMM, or no guest_memfd for a private page |
    /// | MMIO | no slot |
    /// | GOING | a slot that is being deleted |
    /// | SIGNAL | as BACKED, and a signal waits |
    /// | NOMEM | as BACKED, and no frame is left on the platform |
    private static final String TABLE = """
            VM           | mode         | BACKED  | MAPPED  | UNMAPPED | MMIO    | GOING   | SIGNAL | NOMEM   | why
            ORDINARY     | NORMAL       | 0       | 0       | EFAULT   | ENOENT  | EAGAIN  | EINTR  | ENOMEM  | indexed by GPA
            ORDINARY     | SMM          | 0       | 0       | EFAULT   | ENOENT  | EAGAIN  | EINTR  | ENOMEM  | own root, own slots
            ORDINARY     | GUEST_EPT    | ENOTSUP | ENOTSUP | ENOTSUP  | ENOTSUP | ENOTSUP | EINTR  | ENOTSUP | indexed by L2's GPA
            ORDINARY     | GUEST_SHADOW | 0       | 0       | EFAULT   | ENOENT  | EAGAIN  | EINTR  | ENOMEM  | own root, by L1's GPA
            SW_PROTECTED | NORMAL       | 0       | 0       | EFAULT   | ENOENT  | EAGAIN  | EINTR  | ENOMEM  | from guest_memfd
            SW_PROTECTED | SMM          | EFAULT  | EFAULT  | EFAULT   | ENOENT  | EFAULT  | EINTR  | EFAULT  | there are no slots
            SW_PROTECTED | GUEST_EPT    | ENOTSUP | ENOTSUP | ENOTSUP  | ENOTSUP | ENOTSUP | EINTR  | ENOTSUP | as ORDINARY
            SW_PROTECTED | GUEST_SHADOW | 0       | 0       | EFAULT   | ENOENT  | EAGAIN  | EINTR  | ENOMEM  | as ORDINARY
            TD_BUILDING  | NORMAL       | ENOTSUP | ENOTSUP | ENOTSUP  | ENOTSUP | ENOTSUP | EINTR  | ENOTSUP | not final yet
            TD_BUILDING  | SMM          | -       | -       | -        | -       | -       | -      | -       | no SMM
            TD_BUILDING  | GUEST_EPT    | -       | -       | -        | -       | -       | -      | -       | not KVM's
            TD_BUILDING  | GUEST_SHADOW | -       | -       | -        | -       | -       | -      | -       | not KVM's
            TD           | NORMAL       | 0       | 0       | EFAULT   | ENOENT  | EAGAIN  | EINTR  | ENOMEM  | mirror; MMIO shared
            TD           | SMM          | -       | -       | -        | -       | -       | -      | -       | no SMM
            TD           | GUEST_EPT    | -       | -       | -        | -       | -       | -      | -       | not KVM's
            TD           | GUEST_SHADOW | -       | -       | -        | -       | -       | -      | -       | not KVM's
            """;
    private static final String NONE = "-";
    private static final long PAGE = 0x1000;
    private static final long SHARED = 1L << 47;
    /// The page in question begins a 2 MiB region, so that it needs a table that the page before it does not have.
    private static final long AT = 2 << 20;
    private static final long MEMORY = 16L << 20;

    private static Errno errno(String name) {
        return name.equals("0") ? null : name.equals("ENOTSUP") ? Errno.EOPNOTSUPP : Errno.valueOf(name);
    }

    private enum Kind { ORDINARY, SW_PROTECTED, TD_BUILDING, TD }

    private enum Mode {
        NORMAL(false, false, true), SMM(true, false, true), GUEST_EPT(false, true, false), GUEST_SHADOW(false, true, true);

        private final boolean smm;
        private final boolean guestMode;
        private final boolean byGuestPhysical;

        Mode(boolean smm, boolean guestMode, boolean byGuestPhysical) {
            this.smm = smm;
            this.guestMode = guestMode;
            this.byGuestPhysical = byGuestPhysical;
        }

        void of(VcpuMmu vcpu) {
            vcpu.mode(smm, guestMode, byGuestPhysical);
            vcpu.reload();
        }
    }

    private enum State { BACKED, MAPPED, UNMAPPED, MMIO, GOING, SIGNAL, NOMEM }

    static Stream<Arguments> cells() {
        var cells = new ArrayList<Arguments>();
        TABLE.lines().skip(1).forEach(line -> {
            var columns = Stream.of(line.split("\\|")).map(String::strip).toList();
            for (var state : State.values()) {
                for (int levels = 4; levels <= 5; levels++) {
                    cells.add(arguments(Kind.valueOf(columns.get(0)), Mode.valueOf(columns.get(1)), levels, state,
                            columns.get(2 + state.ordinal()), columns.get(2)));
                }
            }
        });
        assertThat(cells).as("every combination").hasSize(Kind.values().length * Mode.values().length * 2 * State.values().length);
        return cells.stream();
    }

    /// One VM with one vCPU in the mode, the page before AT backed, and the page at AT in its state.
    private static final class Vm extends MmuFixture {
        final Kind kind;
        final Mode mode;
        final int levels;
        final boolean isPrivate;
        final VcpuMmu cpu;
        final List<VcpuMmu> others = new ArrayList<>();
        private boolean wasMapped;
        private long signalAfterPages = Long.MAX_VALUE;
        private Runnable whileGoing = () -> { };

        Vm(Kind kind, Mode mode, int levels) {
            super(MEMORY, MmuParameters.DEFAULT, kind != Kind.ORDINARY, new RoundRobin());
            this.kind = kind;
            this.mode = mode;
            this.levels = levels;
            isPrivate = kind != Kind.ORDINARY;
            if (isTd()) {
                mmu.mirror(new RecordingTables(), SHARED);
                mmu.preFaultAllowed(kind == Kind.TD);
            }
            cpu = inMode(mode, levels);
            addPage(0, AT - PAGE, true);
        }

        boolean isTd() {
            return kind == Kind.TD_BUILDING || kind == Kind.TD;
        }

        VcpuMmu inMode(Mode wanted, int wantedLevels) {
            var made = newVcpu();
            made.guestAddressBits(wantedLevels == 5 ? 52 : 48);
            wanted.of(made);
            return made;
        }

        private int number(int id) {
            return (kind == Kind.ORDINARY && mode == Mode.SMM ? 1 << 16 : 0) | id;
        }

        void addPage(int id, long gpa, boolean backed) {
            long address = backed ? user.map(PAGE) : PAGE;
            if (isPrivate) {
                var file = backed ? mmu.createGuestMemfd(PAGE, 0) : null;
                mmu.setMemoryRegion(new UserMemoryRegion(number(id), backed ? KvmAbi.MEM_GUEST_MEMFD : 0, gpa, PAGE, address, file, 0));
                mmu.setAttributes(gpa, PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
            } else {
                slot(number(id), 0, gpa, PAGE, address);
            }
        }

        /// Brings the page at AT into `state` and makes the call.
        Errno preFault(State state, GpaRange range) {
            if (state != State.MMIO) {
                addPage(1, AT, state != State.UNMAPPED);
            }
            switch (state) {
                case MAPPED -> wasMapped = cpu.mapPage(AT, isPrivate ? VcpuMmu.ERROR_PRIVATE : 0) > 0;
                case SIGNAL -> signalAfterPages = (AT - range.gpa) / PAGE;
                case NOMEM -> {
                    cpu.mapPage(AT - PAGE, isPrivate ? VcpuMmu.ERROR_PRIVATE : 0);
                    exhaust();
                }
                case GOING -> {
                    var result = new ArrayList<Errno>();
                    whileGoing = () -> {
                        whileGoing = () -> { };
                        result.add(call(range));
                    };
                    slot(number(1), 0, AT, 0, 0);
                    return result.getFirst();
                }
                case BACKED, UNMAPPED, MMIO -> {
                }
            }
            return call(range);
        }

        Errno call(GpaRange range) {
            try {
                PreFault.populate(cpu, range);
                return null;
            } catch (KvmException failed) {
                return failed.errno();
            }
        }

        private void exhaust() {
            while (frames.allocateBlock() >= 0) {
                // until none is left
            }
            try {
                while (true) {
                    frames.allocate();
                }
            } catch (KvmException none) {
                // as intended
            }
        }

        boolean isMapped(VcpuMmu by, long gpa) {
            return isTd() ? by.isPrivateMapped(gpa) : Spte.isPresent(walk(by.eptp(), gpa)[0]);
        }

        @Override public boolean signalPending() {
            return signal || mmu.pages().mapped(1) >= signalAfterPages;
        }

        @Override public void kickVcpus() {
            if (whileGoing != null) {
                whileGoing.run();
            }
        }
    }

    @ParameterizedTest(name = "{0} {1} {2}-level {3}: {4}")
    @MethodSource("cells")
    void eachCell(Kind kind, Mode mode, int levels, State state, String expected, String ofBackedPage) {
        if (expected.equals(NONE)) {
            assertThatThrownBy(() -> new Vm(kind, mode, levels)).isInstanceOf(IllegalStateException.class);
            return;
        }
        boolean fails = !expected.equals("0");
        try (var vm = new Vm(kind, mode, levels)) {
            var range = new GpaRange(AT, PAGE);
            assertThat(vm.preFault(state, range)).isEqualTo(errno(expected));
            assertThat(range.size).as("left").isEqualTo(fails ? PAGE : 0);
            assertThat(range.gpa).isEqualTo(AT + PAGE - range.size);
            assertThat(vm.cpu.role().level()).isEqualTo(levels);
            if (state != State.GOING) {
                assertThat(vm.isMapped(vm.cpu, AT)).isEqualTo(!fails || vm.wasMapped);
            }
        }
        // The same behind a page that is backed: what was done is a success, and the rest is left.
        boolean firstFails = !ofBackedPage.equals("0");
        try (var vm = new Vm(kind, mode, levels)) {
            var range = new GpaRange(AT - PAGE, 2 * PAGE);
            assertThat(vm.preFault(state, range)).isEqualTo(errno(ofBackedPage));
            assertThat(range.size).as("left behind a page that is there").isEqualTo(firstFails ? 2 * PAGE : fails ? PAGE : 0);
            assertThat(range.gpa).isEqualTo(AT + PAGE - range.size);
        }
    }

    @Test void onlyTheRootOfTheModeIsPopulatedAndWithoutTheAccessedFlag() {
        for (int levels = 4; levels <= 5; levels++) {
            for (var mode : List.of(Mode.NORMAL, Mode.SMM, Mode.GUEST_SHADOW)) {
                try (var vm = new Vm(Kind.ORDINARY, mode, levels)) {
                    assertThat(vm.call(new GpaRange(AT - PAGE, PAGE))).isNull();
                    long leaf = vm.walk(vm.cpu.eptp(), AT - PAGE)[0];
                    assertThat(Spte.isPresent(leaf)).isTrue();
                    assertThat(vm.masks.isAccessed(leaf)).isFalse();
                    for (var other : List.of(Mode.NORMAL, Mode.SMM, Mode.GUEST_SHADOW)) {
                        for (int otherLevels = 4; otherLevels <= 5; otherLevels++) {
                            assertThat(vm.isMapped(vm.inMode(other, otherLevels), AT - PAGE)).as(levels + mode.name() + other)
                                    .isEqualTo(otherLevels == levels && other == mode);
                        }
                    }
                }
            }
        }
    }

    @Test void sharedBitIsNoPartOfTheAddress() {
        try (var vm = new Vm(Kind.TD, Mode.NORMAL, 4)) {
            var range = new GpaRange(SHARED | (AT - PAGE), PAGE);
            assertThat(vm.call(range)).isEqualTo(Errno.EINVAL);
            assertThat(range.size).isEqualTo(PAGE);
            // Shared by its attribute: the direct root maps it, at the address with the bit.
            vm.addPage(1, AT, true);
            vm.mmu.setAttributes(AT, PAGE, 0);
            assertThat(vm.call(new GpaRange(AT, PAGE))).isNull();
            assertThat(Spte.isPresent(vm.walk(vm.cpu.eptp(), SHARED | AT)[0])).isTrue();
            assertThat(vm.cpu.isPrivateMapped(AT)).isFalse();
        }
        try (var vm = new Vm(Kind.TD_BUILDING, Mode.NORMAL, 4)) {
            assertThat(vm.call(new GpaRange(SHARED, PAGE))).as("not final comes first").isEqualTo(Errno.EOPNOTSUPP);
        }
    }

    @Test void argumentsComeBeforeEverything() {
        try (var vm = new Vm(Kind.TD_BUILDING, Mode.NORMAL, 4)) {
            vm.signal = true;
            var flags = new GpaRange(0, PAGE);
            flags.flags = 1;
            for (var bad : List.of(flags, new GpaRange(1, PAGE), new GpaRange(0, PAGE + 1), new GpaRange(0, 0),
                    new GpaRange(-PAGE, PAGE), new GpaRange(PAGE, -PAGE))) {
                assertThat(vm.call(bad)).isEqualTo(Errno.EINVAL);
            }
            assertThat(vm.call(new GpaRange(0, -PAGE))).as("nearly all addresses are a range").isEqualTo(Errno.EINTR);
        }
    }

    @Test void largePageCountsFromTheAddressToItsEndAndNoFurtherThanTheRange() {
        try (var f = new MmuFixture()) {
            f.slot(0, 0, 4 << 20, f.user.map(4 << 20));
            var range = new GpaRange(0x5000, 0x3000);
            PreFault.populate(f.vcpu, range);
            assertThat(range.gpa).isEqualTo(0x8000);
            assertThat(range.size).isZero();
            assertThat(f.mmu.pages().mapped(2)).isEqualTo(1);
            range = new GpaRange(0x1ff000, -0x1ff000L - PAGE);
            PreFault.populate(f.vcpu, range);
            assertThat(range.gpa).as("the end of the slot").isEqualTo(4 << 20);
            assertThat(range.size).isEqualTo(-(4L << 20) - PAGE);
            assertThat(f.mmu.pages().mapped(2)).isEqualTo(2);
        }
    }

    @Test void deadVmIsAnError() {
        try (var vm = new Vm(Kind.ORDINARY, Mode.NORMAL, 4)) {
            vm.bugged = true;
            assertThat(vm.call(new GpaRange(AT - PAGE, PAGE))).isEqualTo(Errno.EIO);
        }
    }

    // --- the first form of KVM_MAP_MEMORY

    private static Vm v1(Mode mode) {
        var vm = new Vm(Kind.ORDINARY, mode, 4);
        vm.mmu.mapsForL1(true);
        return vm;
    }

    /// A nested guest under EPT: a success, and nothing that the vCPU runs on has changed.
    @Test void firstFormPopulatesWhatTheNestedGuestDoesNotUse() {
        for (var mode : List.of(Mode.GUEST_EPT, Mode.GUEST_SHADOW)) {
            try (var vm = v1(mode)) {
                assertThat(vm.call(new GpaRange(AT - PAGE, PAGE))).isNull();
                vm.cpu.reload();
                assertThat(vm.isMapped(vm.cpu, AT - PAGE)).as("the vCPU will fault all the same").isFalse();
                assertThat(vm.isMapped(vm.inMode(Mode.NORMAL, 4), AT - PAGE)).isTrue();
            }
        }
    }

    /// In system-management mode it looks at the slots of the other address space.
    @Test void firstFormTakesTheWrongAddressSpace() {
        try (var vm = v1(Mode.SMM)) {
            assertThat(vm.call(new GpaRange(AT - PAGE, PAGE))).as("there is memory for SMM").isEqualTo(Errno.ENOENT);
            vm.slot(5, AT, PAGE, vm.user.map(PAGE));
            assertThat(vm.call(new GpaRange(AT, PAGE))).as("and here for others").isNull();
            vm.cpu.reload();
            assertThat(vm.isMapped(vm.cpu, AT)).isFalse();
            assertThat(vm.isMapped(vm.inMode(Mode.NORMAL, 4), AT)).isTrue();
        }
    }

    /// The vCPU's roots are dropped and must be loaded again, and what it knew of linear addresses is gone; the default form leaves both.
    @Test void firstFormDisturbsTheVcpu() {
        for (boolean firstForm : new boolean[] {true, false}) {
            for (var mode : List.of(Mode.NORMAL, Mode.GUEST_SHADOW)) {
                try (var vm = new Vm(Kind.ORDINARY, mode, 4)) {
                    vm.mmu.mapsForL1(firstForm);
                    vm.cpu.mmioCache().remember(0x7000, 0xfec00, 0, vm.mmu.slots().generation(0));
                    vm.cpu.takeRootChange();
                    assertThat(vm.call(new GpaRange(AT - PAGE, PAGE))).isNull();
                    assertThat(vm.cpu.isLoaded()).isNotEqualTo(firstForm);
                    assertThat(vm.cpu.mmioCache().hasGva(0x7000, vm.mmu.slots().generation(0))).isNotEqualTo(firstForm);
                    vm.cpu.reload();
                    assertThat(vm.cpu.takeRootChange()).as("the processor must drop its translations").isEqualTo(firstForm);
                }
            }
        }
    }
}
