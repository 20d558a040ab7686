package cloister.kvm.vcpu;

import cloister.kvm.DirtyGfnRing;
import cloister.kvm.GpaRange;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRegs;
import cloister.kvm.KvmRun;
import cloister.kvm.KvmSregs;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.MpState;
import cloister.kvm.MsrEntry;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.irq.ApicPage;
import cloister.kvm.mmu.PreFault;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;

/// The file descriptor of a vCPU: its ioctls, each under vcpu->mutex, with the checks that all kinds of vCPU share. [LINUX
/// kvm_vcpu_ioctl, kvm_arch_vcpu_ioctl]
public abstract class VcpuFile extends Vcpu implements KvmVcpu {
    private static final int LAPIC_SIZE = 1024;

    protected VcpuFile(Vm vm, int id, long piPa, ApicPage apicPage) {
        super(vm, id, piPa, apicPage);
    }

    // --- what the kinds of vCPU do themselves; their state is on a processor meanwhile

    /// KVM_GET_REGS.
    protected abstract KvmRegs readRegs();

    /// KVM_SET_REGS.
    protected abstract void writeRegs(KvmRegs regs);

    /// KVM_GET_SREGS.
    protected abstract KvmSregs readSregs();

    /// KVM_SET_SREGS.
    protected abstract void writeSregs(KvmSregs sregs);

    /// Whether the local APIC's registers are the guest's alone. [LINUX guest_apic_protected]
    protected boolean apicProtected() {
        return false;
    }

    /// Whether the VMM may access `msr` of this vCPU.
    protected boolean hostMayAccess(int msr) {
        return true;
    }

    /// Whether the VMM may write `msr` of this vCPU.
    protected boolean hostMayWrite(int msr) {
        return hostMayAccess(msr);
    }

    /// The guest's CPUID is another one.
    protected void cpuidChanged() {
    }

    /// A KVM_TDX_ command on the vCPU. [LINUX tdx_vcpu_ioctl, tdx_vcpu_unlocked_ioctl]
    protected void tdxCommand(KvmTdxCmd cmd) {
        throw new KvmException(Errno.ENOTTY, "not a TD");
    }

    // --- ioctls

    /// Runs `body` as an ioctl does that needs the vCPU's state on a processor. [LINUX vcpu_load, vcpu_put]
    protected final <T> T loaded(Supplier<T> body) {
        vm.requireAlive();
        try (var held = mutex.lock()) {
            return withProcessor(body);
        }
    }

    /// Runs `body` with the vCPU's state on a processor. The caller holds the mutex.
    protected final <T> T withProcessor(Supplier<T> body) {
        cpus.load(this);
        try {
            return body.get();
        } finally {
            cpus.put();
            cpus.returnToUser();
        }
    }

    @Override public final KvmExit run() {
        vm.requireAlive();
        try (var held = mutex.lock()) {
            var exit = runLoop();
            run.exit(exit);
            return exit;
        }
    }

    @Override public final void kick() {
        signal();
    }

    @Override public final DirtyGfnRing dirtyRing() {
        return mmu.dirtyRing();
    }

    @Override public final KvmRun kvmRun() {
        return run;
    }

    @Override public final KvmRegs getRegs() {
        return loaded(this::readRegs);
    }

    @Override public final void setRegs(KvmRegs regs) {
        loaded(() -> {
            writeRegs(regs);
            return null;
        });
    }

    @Override public final KvmSregs getSregs() {
        return loaded(this::readSregs);
    }

    @Override public final void setSregs(KvmSregs sregs) {
        loaded(() -> {
            writeSregs(sregs);
            return null;
        });
    }

    @Override public final void setCpuid2(List<CpuidEntry> entries) {
        loaded(() -> {
            Vm.require(entries.size() <= GuestCpuid.MAX_ENTRIES, Errno.E2BIG, entries.size() + " CPUID entries");
            Vm.require(!hasRun || entries.equals(cpuid.entries()), Errno.EINVAL, "the vCPU has run");
            cpuid.replace(entries);
            cpuidChanged();
            return null;
        });
    }

    @Override public final List<CpuidEntry> getCpuid2() {
        return loaded(cpuid::entries);
    }

    @Override public final List<MsrEntry> getMsrs(int... indices) {
        return loaded(() -> {
            var result = new ArrayList<MsrEntry>();
            try {
                for (int index : indices) {
                    if (!hostMayAccess(index)) {
                        break;
                    }
                    result.add(new MsrEntry(index, msrs.read(index)));
                }
            } catch (GuestGp refused) {
                return result;
            }
            return result;
        });
    }

    @Override public final int setMsrs(List<MsrEntry> entries) {
        return loaded(() -> {
            int done = 0;
            try {
                for (var entry : entries) {
                    if (!hostMayWrite(entry.index())) {
                        break;
                    }
                    msrs.write(entry.index(), entry.data(), true);
                    done++;
                }
            } catch (GuestGp refused) {
                return done;
            }
            return done;
        });
    }

    /// What was posted is in the registers that the VMM gets. [LINUX kvm_vcpu_ioctl_get_lapic]
    @Override public final byte[] getLapic() {
        return loaded(() -> {
            Vm.require(vm.splitIrqchip && !apicProtected(), Errno.EINVAL, "no local APIC that the VMM may see");
            pi.drainTo(apic);
            return apic.save();
        });
    }

    @Override public final void setLapic(byte[] registers) {
        loaded(() -> {
            Vm.require(vm.splitIrqchip && !apicProtected() && registers.length == LAPIC_SIZE, Errno.EINVAL,
                    "no local APIC that the VMM may see");
            apic.restore(registers);
            return null;
        });
    }

    @Override public final MpState getMpState() {
        return loaded(this::readMpState);
    }

    @Override public final void setMpState(MpState newState) {
        loaded(() -> {
            writeMpState(newState);
            return null;
        });
    }

    @Override public final void memoryEncryptOp(KvmTdxCmd cmd) {
        vm.requireAlive();
        tdxCommand(cmd);
    }

    @Override public final void nmi() {
        vm.requireAlive();
        nmiMessage();
    }

    @Override public final void preFaultMemory(GpaRange range) {
        loaded(() -> {
            long before = vm.mmu.pages().mapped();
            try {
                PreFault.populate(mmu, range);
            } finally {
                vm.counters.pagesPopulated += Math.max(0, vm.mmu.pages().mapped() - before); // others may unmap meanwhile
            }
            return null;
        });
    }
}
