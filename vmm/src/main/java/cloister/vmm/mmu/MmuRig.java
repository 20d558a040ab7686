package cloister.vmm.mmu;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.PlatformObserver;
import cloister.cpu.vmx.Vmcs;
import cloister.kvm.Defect;
import cloister.kvm.GuestMemfd;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmDevice;
import cloister.kvm.KvmParameters;
import cloister.kvm.KvmPolicy;
import cloister.kvm.KvmRegs;
import cloister.kvm.KvmSegment;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.MpState;
import cloister.kvm.MsrEntry;
import cloister.kvm.UserMemory;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.VfioFile;
import cloister.kvm.dev.DevKvm;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/// The machine under test: a platform with KVM, one VM with the guest of [AccessGuest], and what is behind its memory.
final class MmuRig implements AutoCloseable, PlatformObserver, Lane.Vmm {
    static final long PAGE = 0x1000;
    /// The region under test; a gibibyte from the guest's own pages.
    static final long REGION_GPA = 0x4000_0000L;
    private static final long BYTES = MmuModel.PAGES * PAGE;
    private static final long MEMORY = 96L << 20;
    private static final int FIRMWARE_SLOT = 0;
    private static final int MAILBOX_SLOT = 1;
    private static final int FIRST_SLOT = 2;
    private static final int SMM = 1 << 16;
    private static final int MANUAL_PROTECT = 1;
    private static final int RING_BYTES = 4096;
    private static final VmType[] VM_TYPES = {VmType.DEFAULT, VmType.SW_PROTECTED, VmType.TDX};
    private static final long NANOS_PER_MILLI = 1_000_000;
    /// Turns that the worker which gives large pages back gets.
    private static final int WORKER_TURNS = 200;
    private static final int PHYSICAL_BITS = 46;
    private static final long MTRR_VALID = 1 << 11;
    private static final long MTRR_ENABLED = 1 << 11;
    private static final long WRITE_BACK = 6;
    static final long CR0_CD = 1 << 30;

    final int type;
    final int cpus;
    final int variant;
    final Platform platform;
    final StepWalk walk = new StepWalk();
    final Kvm kvm;
    final KvmVm vm;
    /// The VM beside this one, or null.
    final KvmVm neighbour;
    final UserMemory user;
    final DirtyRings rings;
    private final MmuCoverage coverage;
    // The last VM entry
    int enteredOn;
    int enteredVpid;
    long enteredEptp;
    final List<Lane> lanes = new ArrayList<>();
    private final KvmDevice vfio;
    private final VfioFile device = new VfioFile(false);
    private final TdStart start;
    private boolean deviceAttached;
    long userAddress;
    GuestMemfd file;
    /// Where the VMM has mapped the guest_memfd, or 0.
    private long fileAddress;
    private long mailbox;

    /// @param machine a MACHINE step
    /// @param rings takes what is in dirty rings
    MmuRig(MmuStep machine, TdStart start, Set<Defect> defects, MmuCoverage coverage, DirtyRings rings) {
        this.coverage = coverage;
        this.rings = rings;
        this.type = machine.operand(0);
        this.cpus = machine.operand(1);
        this.variant = machine.operand(3);
        this.start = start;
        platform = new Platform(new PlatformOptions(machine.operand(2), MEMORY, 1, walk, Scheduler.IdlePace.SKIP));
        platform.scheduler().observer(walk);
        platform.observer(this);
        var parameters = new KvmParameters(true, KvmPolicy.MMIO_PARAMETER.choices().getFirst(), !is(MmuModel.SHADOW));
        kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(), platform.freeStartPa(),
                platform.freeEndPa()), is(MmuModel.NX) ? parameters.withNxHugePages(true, 1, 1) : parameters);
        user = kvm.userMemory();
        vm = kvm.createVm(VM_TYPES[type]);
        defects.forEach(vm::plant);
        configure();
        vfio = vm.createDevice(KvmAbi.DEV_TYPE_VFIO);
        if (isTd()) {
            buildTd();
        } else {
            mailbox = mailboxes(vm, cpus);
            for (int id = 0; id < cpus; id++) {
                lane(ordinaryVcpu(vm, id));
            }
        }
        neighbour = is(MmuModel.WITH_NEIGHBOUR) ? kvm.createVm(VmType.DEFAULT) : null;
        if (neighbour != null) {
            neighbour.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            defects.forEach(neighbour::plant);
            long box = mailboxes(neighbour, 1);
            lanes.add(new Lane(cpus, ordinaryVcpu(neighbour, 0), user, box, platform.scheduler(), this));
        }
        userAddress = user.map(BYTES);
        newFile();
    }

    private void configure() {
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.enableCap(KvmCap.EXIT_HYPERCALL, type == MmuModel.ORDINARY ? 0 : 1L << KvmAbi.HC_MAP_GPA_RANGE);
        if (manualProtect()) {
            vm.enableCap(KvmCap.MANUAL_DIRTY_LOG_PROTECT2, MANUAL_PROTECT);
        }
        if (is(MmuModel.SLOTS_ALONE) && !isTd()) {
            vm.enableCap(KvmCap.DISABLE_QUIRKS2, KvmAbi.QUIRK_SLOT_ZAP_ALL);
        }
        if (is(MmuModel.RINGS)) {
            vm.enableCap(KvmCap.DIRTY_LOG_RING, RING_BYTES);
        }
        if (is(MmuModel.OTHER_TYPES)) {
            vm.choose(KvmPolicy.MEMORY_TYPE, isTd() ? "proposed-2023" : "mtrr");
        }
        if (isTd() && is(MmuModel.RETRY)) {
            vm.choose(KvmPolicy.ZAP_CONTENTION, "retry-forever");
        }
    }

    private boolean is(int bit) {
        return (variant & bit) != 0;
    }

    boolean isTd() {
        return type == MmuModel.TD;
    }

    /// Whether KVM_GET_DIRTY_LOG leaves write protection to KVM_CLEAR_DIRTY_LOG.
    boolean manualProtect() {
        return is(MmuModel.MANUAL_PROTECT);
    }

    private void lane(KvmVcpu vcpu) {
        lanes.add(new Lane(vcpu.id(), vcpu, user, mailbox + (vcpu.id() * PAGE), platform.scheduler(), this));
    }

    private long mailboxes(KvmVm of, int vcpus) {
        long address = user.map(vcpus * PAGE);
        of.setUserMemoryRegion2(UserMemoryRegion.of(MAILBOX_SLOT, AccessGuest.MAILBOX_GPA, vcpus * PAGE, address));
        if (of.type() != VmType.TDX) {
            long firmware = user.map(AccessGuest.BYTES);
            user.write(firmware, AccessGuest.image(false), 0, AccessGuest.BYTES);
            of.setUserMemoryRegion2(UserMemoryRegion.of(FIRMWARE_SLOT, AccessGuest.BASE_GPA, AccessGuest.BYTES, firmware));
        }
        return address;
    }

    private KvmVcpu ordinaryVcpu(KvmVm of, int id) {
        var vcpu = of.createVcpu(id);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.flat(8, 0xb);
        var data = KvmSegment.flat(0x18, 3);
        sregs.ds = data;
        sregs.es = data;
        sregs.ss = data;
        sregs.cr0 = 0x33;
        sregs.efer = 1 << 8;
        vcpu.setSregs(sregs);
        var regs = new KvmRegs();
        regs.rip = AccessGuest.ENTRY_GPA;
        regs.rsi = id;
        regs.rflags = 2;
        vcpu.setRegs(regs);
        vcpu.setMpState(MpState.RUNNABLE);
        return vcpu;
    }

    private void buildTd() {
        vm.choose(KvmPolicy.TD_VCPU_LIMIT, "module");
        start.initVm(kvm, vm, cpus);
        mailbox = mailboxes(vm, cpus);
        for (int id = 0; id < cpus; id++) {
            var vcpu = vm.createVcpu(id);
            start.initVcpu(kvm, vcpu, cpus);
            lane(vcpu);
        }
        long unused = user.map(AccessGuest.BYTES);
        var memfd = vm.createGuestMemfd(AccessGuest.BYTES, 0);
        vm.setUserMemoryRegion2(new UserMemoryRegion(FIRMWARE_SLOT, KvmAbi.MEM_GUEST_MEMFD, AccessGuest.BASE_GPA, AccessGuest.BYTES,
                unused, memfd, 0));
        vm.setMemoryAttributes(AccessGuest.BASE_GPA, AccessGuest.BYTES, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        long source = user.map(AccessGuest.BYTES);
        user.write(source, AccessGuest.image(true), 0, AccessGuest.BYTES);
        lanes.getFirst().vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(0,
                new KvmTdxCmd.MemRegion(source, AccessGuest.BASE_GPA, AccessGuest.BYTES / PAGE)));
        user.unmap(source);
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
    }

    // --- operations

    private void newFile() {
        boolean mapped = type == MmuModel.ORDINARY;
        file = vm.createGuestMemfd(BYTES, mapped ? GuestMemfd.FLAG_MMAP | GuestMemfd.FLAG_INIT_SHARED : 0);
        fileAddress = mapped ? user.map(file, 0, BYTES) : 0;
    }

    /// @param memory where the anonymous memory is
    void setSlot(int id, int flags, int first, int pages, long memory, GuestMemfd behind, int backing) {
        int number = slotNumber(id);
        int bits = ((flags & MmuModel.LOG) != 0 ? KvmAbi.MEM_LOG_DIRTY_PAGES : 0)
                | ((flags & MmuModel.READ_ONLY) != 0 ? KvmAbi.MEM_READONLY : 0) | (behind != null ? KvmAbi.MEM_GUEST_MEMFD : 0);
        long address = (behind != null && fileAddress != 0 ? fileAddress : memory) + (backing * PAGE);
        vm.setUserMemoryRegion2(new UserMemoryRegion(number, bits, REGION_GPA + (first * PAGE), pages * PAGE, address, behind,
                backing * PAGE));
    }

    /// The number of slot `id` of the model.
    static int slotNumber(int id) {
        return id == MmuModel.SMM_SLOT ? SMM | id : FIRST_SLOT + id;
    }

    /// The neighbour's slot, at the same addresses.
    void neighbourSlot(boolean on) {
        if (neighbour != null) {
            neighbour.setUserMemoryRegion2(UserMemoryRegion.of(FIRST_SLOT, REGION_GPA, on ? BYTES : 0, userAddress));
        }
    }

    long[] dirtyLog(int id) {
        return vm.getDirtyLog(FIRST_SLOT + id);
    }

    void clearDirtyLog(int id, int first, int pages, long[] bits) {
        vm.clearDirtyLog(FIRST_SLOT + id, first, pages, bits);
    }

    void remap() {
        user.unmap(userAddress);
        userAddress = user.map(BYTES);
    }

    void attach(boolean on) {
        if (on != deviceAttached) {
            vfio.setAttr(KvmAbi.DEV_VFIO_FILE, on ? KvmAbi.DEV_VFIO_FILE_ADD : KvmAbi.DEV_VFIO_FILE_DEL, device);
            deviceAttached = on;
        }
    }

    /// Makes a guest give an access up that cannot succeed.
    void skipAccess(Lane lane) {
        var regs = lane.vcpu.getRegs();
        regs.rip = AccessGuest.doneGpa();
        lane.vcpu.setRegs(regs);
        lane.boot();
    }

    /// Variable MTRR 0.
    void setMtrr(int vcpu, int first, int order, int memoryType) {
        var entries = mtrr(first, order, memoryType);
        int written = lanes.get(vcpu).vcpu.setMsrs(entries);
        int allowed = isTd() && is(MmuModel.OTHER_TYPES) ? 1 : entries.size(); // that policy knows no variable ones
        if (written != allowed) {
            throw new MmuFinding("MTRRs: " + written + " of " + allowed + " were written");
        }
    }

    /// What is written for variable MTRR 0 to have a type.
    static List<MsrEntry> mtrr(int first, int order, int memoryType) {
        long mask = ((1L << PHYSICAL_BITS) - (PAGE << order)) | MTRR_VALID;
        return List.of(new MsrEntry(Msr.IA32_MTRR_DEF_TYPE, MTRR_ENABLED | WRITE_BACK),
                new MsrEntry(Msr.IA32_MTRR_PHYSBASE0, ((REGION_GPA + (first * PAGE)) & -(PAGE << order)) | memoryType),
                new MsrEntry(Msr.IA32_MTRR_PHYSBASE0 + 1, mask));
    }

    void disableCaches(int vcpu, boolean on) {
        var sregs = lanes.get(vcpu).vcpu.getSregs();
        sregs.cr0 = on ? sregs.cr0 | CR0_CD : sregs.cr0 & ~CR0_CD;
        lanes.get(vcpu).vcpu.setSregs(sregs);
    }

    /// Where guests find a page: a TD's shared pages in the window.
    static long linear(int page, boolean sharedOfTd) {
        return REGION_GPA + (page * PAGE) + (sharedOfTd ? AccessGuest.WINDOW : 0);
    }

    /// Lets time pass, and whoever it wakes run.
    void pass(int milliseconds) {
        platform.clock().advance(platform.clock().ticksOfNanos(milliseconds * NANOS_PER_MILLI));
        for (int i = 0; i < WORKER_TURNS; i++) {
            platform.scheduler().switchPoint(SwitchPoint.YIELD);
        }
    }

    @Override public void vmEntry(LogicalProcessor lp, Vmcs vmcs) {
        enteredOn = lp.index();
        enteredVpid = vmcs.readInt(VmcsField.VPID);
        enteredEptp = vmcs.read(VmcsField.EPTP);
    }

    // --- what vCPUs need

    @Override public void convert(long gpa, long pages, boolean toPrivate) {
        vm.setMemoryAttributes(gpa & ~AccessGuest.SHARED_BIT, pages * PAGE, toPrivate ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0);
    }

    @Override public void harvest() {
        do {
            if (is(MmuModel.RINGS)) {
                lanes.forEach(Lane::handleSignals); // or one ends the reset
                platform.scheduler().switchPoint(SwitchPoint.YIELD);
            }
        } while (rings.harvest());
    }

    @Override public void refused(Errno errno) {
        coverage.race("POPULATE " + errno);
    }

    @Override public void left(String reason) {
        coverage.left(reason);
    }

    /// Releases the platform's memory. The VM need not have been closed.
    @Override public void close() {
        platform.close();
    }
}
