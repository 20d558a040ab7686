package cloister.kvm;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.SeamRegs;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/// A TD with vCPUs that are ready to run, over a scripted module: each element of its `exits` is one stay in the TD.
final class ScriptedTd implements AutoCloseable {
    static final long SHARED = 1L << 47;
    private static final byte[] ZEROS = new byte[48];
    final TestHost host;
    final ScriptedModule module = new ScriptedModule();
    final Kvm kvm;
    final KvmVm vm;
    final List<KvmVcpu> vcpus = new ArrayList<>();

    /// @param exitHypercalls the hypercalls that go to the VMM
    ScriptedTd(int cpus, long exitHypercalls) {
        host = new TestHost(cpus);
        host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
        kvm = DevKvm.open(host.environment());
        kvm.checkHostState();
        vm = kvm.createVm(VmType.TDX);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        if (exitHypercalls != 0) {
            vm.enableCap(KvmCap.EXIT_HYPERCALL, exitHypercalls);
        }
        vm.memoryEncryptOp(KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(ScriptedModule.SEPT_VE_DISABLE, 3, ZEROS, ZEROS, ZEROS,
                List.of(new CpuidEntry(0x8000_0008, 0, 0, 48 << 16, 0, 0, 0)))));
        for (int id = 0; id < cpus; id++) {
            var vcpu = vm.createVcpu(id);
            vcpu.setCpuid2(kvm.supportedCpuid());
            vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
            vcpus.add(vcpu);
        }
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        module.calls.clear();
    }

    ScriptedTd() {
        this(1, 1L << KvmAbi.HC_MAP_GPA_RANGE);
    }

    LogicalProcessor lp() {
        return host.processors().getFirst();
    }

    KvmVcpu vcpu() {
        return vcpus.getFirst();
    }

    /// The next stay ends as `exit` says.
    ScriptedTd then(Consumer<SeamRegs> exit) {
        module.exits.add(exit);
        return this;
    }

    /// The next stay ends with RAX, RCX, R8 and R9; its first moment shows the registers that KVM has put there to `look`.
    ScriptedTd exit(long rax, long rcx, long r8, long r9) {
        return then(regs -> {
            regs.set(SeamRegs.RAX, rax);
            regs.set(SeamRegs.RCX, rcx);
            regs.set(SeamRegs.RDX, 0);
            regs.set(SeamRegs.R8, r8);
            regs.set(SeamRegs.R9, r9);
        });
    }

    /// The TD triple-faults; what the entry found goes to `seen`.
    ScriptedTd end(long[] seen) {
        return then(regs -> {
            System.arraycopy(regs.array(), 0, seen, 0, Math.min(seen.length, SeamRegs.COUNT));
            regs.set(SeamRegs.RAX, 0x4000_0001_0000_0002L);
        });
    }

    /// Runs the first vCPU on a host thread until the TD has ended or KVM_RUN fails.
    List<KvmExit> run(Consumer<KvmExit> answer) {
        var exits = new ArrayList<KvmExit>();
        host.scheduler().spawn("vcpu", () -> {
            KvmExit exit;
            do {
                exit = vcpu().run();
                exits.add(exit);
                answer.accept(exit);
            } while (!module.exits.isEmpty());
        });
        host.scheduler().run();
        return exits;
    }

    List<KvmExit> run() {
        return run(exit -> { });
    }

    @Override public void close() {
        host.close();
    }
}
