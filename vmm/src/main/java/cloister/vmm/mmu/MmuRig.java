package cloister.vmm.mmu;

import cloister.kvm.Defect;
import cloister.kvm.GuestMemfd;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmDevice;
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
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/// The machine under test: a platform with KVM, one VM with the guest of [AccessGuest], and what is behind its memory.
final class MmuRig implements AutoCloseable {
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
    private static final int PHYSICAL_BITS = 52;
    private static final long MTRR_VALID = 1 << 11;
    private static final long MTRR_ENABLED = 1 << 11;
    private static final long WRITE_BACK = 6;
    private static final long CR0_CD = 1 << 30;

    final int type;
    final int cpus;
    final int variant;
    final Platform platform;
    final StepWalk walk = new StepWalk();
    final Kvm kvm;
    final KvmVm vm;
    final UserMemory user;
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
    MmuRig(MmuStep machine, TdStart start, Set<Defect> defects) {
        this.type = machine.operand(0);
        this.cpus = machine.operand(1);
        this.variant = machine.operand(3);
        this.start = start;
        platform = new Platform(new PlatformOptions(machine.operand(2), MEMORY, 1, walk, Scheduler.IdlePace.SKIP));
        platform.scheduler().observer(walk);
        kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(), platform.freeStartPa(),
                platform.freeEndPa()));
        user = kvm.userMemory();
        vm = kvm.createVm(type == MmuModel.TD ? VmType.TDX : VmType.DEFAULT);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        if (manualProtect()) {
            vm.enableCap(KvmCap.MANUAL_DIRTY_LOG_PROTECT2, MANUAL_PROTECT);
        }
        if ((variant & 2) != 0 && !isTd()) {
            vm.enableCap(KvmCap.DISABLE_QUIRKS2, KvmAbi.QUIRK_SLOT_ZAP_ALL);
        }
        defects.forEach(vm::plant);
        vfio = vm.createDevice(KvmAbi.DEV_TYPE_VFIO);
        if (isTd()) {
            buildTd();
        } else {
            buildOrdinary();
        }
        userAddress = user.map(BYTES);
        newFile();
    }

    boolean isTd() {
        return type == MmuModel.TD;
    }

    /// Whether KVM_GET_DIRTY_LOG leaves write protection to KVM_CLEAR_DIRTY_LOG.
    boolean manualProtect() {
        return (variant & 1) != 0;
    }

    private void lane(KvmVcpu vcpu) {
        lanes.add(new Lane(vcpu.id(), vcpu, user, mailbox + (vcpu.id() * PAGE), platform.scheduler()));
    }

    private void mailboxes() {
        mailbox = user.map(cpus * PAGE);
        vm.setUserMemoryRegion2(UserMemoryRegion.of(MAILBOX_SLOT, AccessGuest.MAILBOX_GPA, cpus * PAGE, mailbox));
    }

    private void buildOrdinary() {
        mailboxes();
        long firmware = user.map(AccessGuest.BYTES);
        user.write(firmware, AccessGuest.image(false), 0, AccessGuest.BYTES);
        vm.setUserMemoryRegion2(UserMemoryRegion.of(FIRMWARE_SLOT, AccessGuest.BASE_GPA, AccessGuest.BYTES, firmware));
        for (int id = 0; id < cpus; id++) {
            var vcpu = vm.createVcpu(id);
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
            lane(vcpu);
        }
    }

    private void buildTd() {
        vm.choose(KvmPolicy.TD_VCPU_LIMIT, "module");
        start.initVm(kvm, vm, cpus);
        mailboxes();
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
        int number = id == MmuModel.SMM_SLOT ? SMM | id : FIRST_SLOT + id;
        int bits = ((flags & MmuModel.LOG) != 0 ? KvmAbi.MEM_LOG_DIRTY_PAGES : 0)
                | ((flags & MmuModel.READ_ONLY) != 0 ? KvmAbi.MEM_READONLY : 0) | (behind != null ? KvmAbi.MEM_GUEST_MEMFD : 0);
        long address = (behind != null && fileAddress != 0 ? fileAddress : memory) + (backing * PAGE);
        vm.setUserMemoryRegion2(new UserMemoryRegion(number, bits, REGION_GPA + (first * PAGE), pages * PAGE, address, behind,
                backing * PAGE));
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
        long mask = ((1L << PHYSICAL_BITS) - (PAGE << order)) | MTRR_VALID;
        lanes.get(vcpu).vcpu.setMsrs(List.of(
                new MsrEntry(Msr.IA32_MTRR_DEF_TYPE, MTRR_ENABLED | WRITE_BACK),
                new MsrEntry(Msr.IA32_MTRR_PHYSBASE0, ((REGION_GPA + (first * PAGE)) & -(PAGE << order)) | memoryType),
                new MsrEntry(Msr.IA32_MTRR_PHYSBASE0 + 1, mask)));
    }

    void disableCaches(int vcpu, boolean on) {
        var sregs = lanes.get(vcpu).vcpu.getSregs();
        sregs.cr0 = on ? sregs.cr0 | CR0_CD : sregs.cr0 & ~CR0_CD;
        lanes.get(vcpu).vcpu.setSregs(sregs);
    }

    /// Where guests find a page: a TD's shared pages in the window.
    long linear(int page, boolean isPrivate) {
        return REGION_GPA + (page * PAGE) + (isTd() && !isPrivate ? AccessGuest.WINDOW : 0);
    }

    /// Releases the platform's memory. The VM need not have been closed.
    @Override public void close() {
        platform.close();
    }
}
