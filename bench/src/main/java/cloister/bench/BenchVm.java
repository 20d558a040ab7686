package cloister.bench;

import cloister.kvm.GpaRange;
import cloister.kvm.GuestMemfd;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.dev.DevKvm;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.ArrayList;

/// A VM or TD with one vCPU and one slot of memory, made through the uAPI on a platform of its own. The vCPU never runs; its memory is
/// populated by KVM_PRE_FAULT_MEMORY, which goes the way of faults.
final class BenchVm implements AutoCloseable {
    static final long PAGE = 4096;
    private static final long MIB = 1L << 20;
    private static final long SLOT_GPA = 1L << 32;
    private static final int ADDRESS_SIZES = 0x8000_0008;
    private static final int GUEST_BITS = 48 << 16;

    final KvmVm vm;
    private final Platform platform;
    private final Kvm kvm;
    private final KvmVcpu vcpu;
    private final long bytes;
    private final long user;
    private final GuestMemfd memfd;
    private boolean closed;

    /// @param td         a trust domain with private memory, or an ordinary VM
    /// @param smallPages whether the VMM's addresses keep large pages away
    /// @param slotFlags  MEM_ bits of [KvmAbi]
    BenchVm(long bytes, boolean td, boolean smallPages, int slotFlags) {
        this.bytes = bytes;
        long memory = (bytes + (bytes >> 5) + (256 * MIB)) & -MIB;
        platform = new Platform(new PlatformOptions(1, memory, 1, new RoundRobin(), Scheduler.IdlePace.SKIP));
        kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(), platform.freeStartPa(),
                platform.freeEndPa()));
        vm = kvm.createVm(td ? VmType.TDX : VmType.DEFAULT);
        user = kvm.userMemory().map(bytes + PAGE);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        if (td) {
            initTd();
        }
        vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        long address = smallPages ? user + PAGE : user;
        memfd = td ? vm.createGuestMemfd(bytes, 0) : null;
        if (td) {
            vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        }
        vm.setUserMemoryRegion2(new UserMemoryRegion(0, td ? KvmAbi.MEM_GUEST_MEMFD : slotFlags, SLOT_GPA, bytes, address, memfd, 0));
        if (td) {
            vm.setMemoryAttributes(SLOT_GPA, bytes, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
            vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        }
    }

    private void initTd() {
        var capabilities = new KvmTdxCmd.Capabilities();
        vm.memoryEncryptOp(KvmTdxCmd.capabilities(capabilities));
        var cpuid = new ArrayList<CpuidEntry>();
        for (var e : capabilities.cpuid.entries) {
            if (e.function() == ADDRESS_SIZES) {
                cpuid.add(new CpuidEntry(e.function(), e.index(), e.flags(), GUEST_BITS, 0, 0, 0));
            }
        }
        vm.memoryEncryptOp(KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(capabilities.supportedAttrs, capabilities.supportedXfam, new byte[48],
                new byte[48], new byte[48], cpuid)));
    }

    /// Maps all memory.
    void populate() {
        var range = new GpaRange(SLOT_GPA, bytes);
        vcpu.preFaultMemory(range);
        if (range.size != 0) {
            throw new IllegalStateException("not populated: " + range.size);
        }
    }

    /// All private memory becomes shared.
    void convert() {
        vm.setMemoryAttributes(SLOT_GPA, bytes, 0);
        memfd.punchHole(0, bytes);
    }

    /// The VMM gives its memory back, which unmaps it from the guest.
    void discard() {
        kvm.userMemory().discard(user, bytes + PAGE);
    }

    /// Turns on logging of writes.
    void logWrites() {
        vm.setUserMemoryRegion2(new UserMemoryRegion(0, KvmAbi.MEM_LOG_DIRTY_PAGES, SLOT_GPA, bytes, user, null, 0));
    }

    /// Reads the log and has every page in it watched again.
    void harvest() {
        vm.clearDirtyLog(0, 0, (int) (bytes / PAGE), vm.getDirtyLog(0));
    }

    /// Closes the VM: a TD is torn down.
    void closeVm() {
        vm.close();
        closed = true;
    }

    @Override public void close() {
        if (!closed) {
            vm.close();
        }
        platform.close();
    }
}
