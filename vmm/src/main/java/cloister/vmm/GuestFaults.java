package cloister.vmm;

import cloister.kvm.KvmVcpu;
import cloister.spec.vmx.ExitReason;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Msr;
import java.util.Locale;
import java.util.Optional;

/// Words for what a trust domain does wrong and does not survive: what, where, and what KVM and QEMU make of it.
final class GuestFaults {
    /// KVM names the vCPU when a guest did it, and a SEAMCALL when that failed.
    private static final String DEAD_BY_VCPU = "the TD is dead: vCPU ";
    static final String CANNOT_BE_ENTERED = "state that cannot be entered again";
    private static final long INVALID_STATE = ((long) ExitReason.ENTRY_FAILURE | ExitReason.INVALID_GUEST_STATE) & 0xffff_ffffL;
    private static final int SHARED_BIT_NUMBER = 47;

    private final Machine machine;
    private final GuestMemory memory;

    GuestFaults(Machine machine, GuestMemory memory) {
        this.machine = machine;
        this.memory = memory;
    }

    /// What the guest did, when KVM_RUN has failed with EIO for a page that the guest had not accepted. [LINUX
    /// tdx_handle_ept_violation]
    ///
    /// @param text what KVM says
    Optional<Outcome> unaccepted(KvmVcpu vcpu, String text) {
        return seenUnaccepted(vcpu).or(() -> text.contains("before accepting it") || text.contains(DEAD_BY_VCPU)
                ? Optional.of(new Outcome.GuestFault("KVM_RUN of vCPU " + vcpu.id() + " failed: " + text)) : Optional.empty());
    }

    private Optional<Outcome> seenUnaccepted(KvmVcpu vcpu) {
        return witness(vcpu).filter(seen -> seen.isPending(seen.faultGpa())).map(seen -> new Outcome.GuestFault(String.format(Locale.ROOT,
                "vCPU %d used private memory that the trust domain had not accepted: GPA 0x%x, RIP 0x%x%s. KVM_RUN fails with EIO and "
                + "the VM is dead; QEMU says \"error: kvm run failed Input/output error\"", vcpu.id(), seen.faultGpa(), seen.rip(),
                memory.implicitConversion(seen.faultGpa()))));
    }

    /// A private access where the machine has no memory: the guest takes devices, or nothing, for its own memory.
    Outcome privateDevice(KvmVcpu vcpu, long gpa) {
        var seen = witness(vcpu);
        return new Outcome.GuestFault(String.format(Locale.ROOT,
                "vCPU %d used GPA 0x%x%s as private memory, and there is no memory: RIP 0x%x. Devices are reached with the SHARED bit "
                + "(bit %d) of the address. KVM exits with KVM_EXIT_MEMORY_FAULT (private); QEMU cannot convert the page and stops with "
                + "an internal error", vcpu.id(), seen.map(TdWitness::faultGpa).orElse(gpa), device(gpa),
                seen.map(TdWitness::rip).orElse(0L), SHARED_BIT_NUMBER));
    }

    private static String device(long gpa) {
        return gpa >= GuestLayout.HOLE_START && gpa < GuestLayout.HIGH_RAM_START ? " (in the hole for devices)" : "";
    }

    /// The TDX module gave the vCPU or the trust domain up, for what the guest made of its own state.
    ///
    /// @param text what KVM says
    Outcome unrecoverable(KvmVcpu vcpu, String text) {
        return new Outcome.GuestFault(String.format(Locale.ROOT, "vCPU %d put itself or its trust domain into a " + CANNOT_BE_ENTERED
                + ": RIP 0x%x. KVM: %s", vcpu.id(), witness(vcpu).map(TdWitness::rip).orElse(0L), text));
    }

    /// VM entry of a trust domain's vCPU failed for what the guest made of its own state: the TDX module carries some writes of control
    /// registers out that VM entry then refuses, and says that the trust domain cannot be recovered. [LINUX tdx_failed_vmentry]
    ///
    /// @param reason the exit reason of the failed entry
    Optional<Outcome> tdUnenterable(KvmVcpu vcpu, long reason) {
        return reason != INVALID_STATE ? Optional.empty() : Optional.of(new Outcome.GuestFault(String.format(Locale.ROOT,
                "vCPU %d put its trust domain into a " + CANNOT_BE_ENTERED + ": RIP 0x%x. KVM exits with KVM_EXIT_FAIL_ENTRY; QEMU says "
                + "\"KVM: entry failed, hardware error 0x%x\"", vcpu.id(), witness(vcpu).map(TdWitness::rip).orElse(0L), reason)));
    }

    /// VM entry of an ordinary VM failed for what the guest made of its own state. There is one such way: KVM leaves IA32_S_CET to the
    /// guest, WRMSR takes 64 bits of it in every mode, and VM entry only 32 outside IA-32e mode. [SDM Vol. 3 "Checks on Guest Control
    /// Registers, Debug Registers, and MSRs"]
    ///
    /// @param reason the exit reason of the failed entry
    Optional<Outcome> unenterable(KvmVcpu vcpu, long reason) {
        long sCet = vcpu.getMsrs(Msr.IA32_S_CET).getFirst().data();
        if (reason != INVALID_STATE || sCet >>> Integer.SIZE == 0 || (vcpu.getSregs().efer & Efer.LMA) != 0) {
            return Optional.empty();
        }
        return Optional.of(new Outcome.GuestFault(String.format(Locale.ROOT, "vCPU %d put itself into a " + CANNOT_BE_ENTERED
                + ": IA32_S_CET is 0x%x outside IA-32e mode, RIP 0x%x. KVM exits with KVM_EXIT_FAIL_ENTRY; QEMU says \"KVM: entry "
                + "failed, hardware error 0x%x\"", vcpu.id(), sCet, vcpu.getRegs().rip, reason)));
    }

    /// What is known of a triple fault.
    ///
    /// @param spoke whether the kernel ever called the VMM, as one does that knows to be in a trust domain
    String tripleFault(KvmVcpu vcpu, boolean td, boolean spoke) {
        if (!td) {
            return "vCPU " + vcpu.id() + "\n" + RegisterDump.of(vcpu);
        }
        String where = witness(vcpu).map(seen -> String.format(Locale.ROOT, "vCPU %d at RIP 0x%x", vcpu.id(), seen.rip()))
                .orElse("vCPU " + vcpu.id());
        String hint = spoke ? "" : ", before the guest called the VMM even once. A kernel without CONFIG_INTEL_TDX_GUEST does that: it "
                + "does not expect the #VE of its first CPUID, MSR or port access";
        return where + hint + "\n" + witness(vcpu).map(TdWitness::registers).orElse("");
    }

    private Optional<TdWitness> witness(KvmVcpu vcpu) {
        return TdWitness.of(machine.inspect(), vcpu.id());
    }
}
