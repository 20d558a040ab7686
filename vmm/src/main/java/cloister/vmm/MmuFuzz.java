package cloister.vmm;

import cloister.kvm.Defect;
import cloister.kvm.Kvm;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.vmm.mmu.MmuFuzzer;
import cloister.vmm.mmu.TdStart;
import java.util.List;
import java.util.Set;
import java.util.function.LongConsumer;

/// The fuzzer of KVM's memory side: random operations on the memory of ordinary VMs and TDs while guests access it, and
/// after each a model that says what every page must show. One seed gives one run.
public final class MmuFuzz {
    static final TdStart START = new TdStart() {
        @Override public void initVm(Kvm kvm, KvmVm vm, int cpus) {
            TrustDomain.init(kvm, vm, cpus, true);
        }

        @Override public void initVcpu(Kvm kvm, KvmVcpu vcpu, int cpus) {
            TrustDomain.initVcpu(kvm, vcpu, cpus);
        }
    };

    private final MmuFuzzer fuzzer;

    /// What contradicts the model.
    ///
    /// @param operation the number of the operation that showed it, from 1
    /// @param message   what is wrong
    /// @param sequence  the operations that show it, shrunk, as [#replay] takes them
    public record Finding(long operation, String message, List<String> sequence) {
    }

    /// @param seed    any number
    /// @param defects what KVM is to do wrong, to see that it is found
    public MmuFuzz(long seed, Set<Defect> defects) {
        fuzzer = new MmuFuzzer(seed, START, defects);
    }

    /// Carries out `operations` operations.
    ///
    /// @param progress is told now and then how many are done
    /// @return the first finding, or null
    public Finding run(long operations, LongConsumer progress) {
        var found = fuzzer.run(operations, progress);
        return found == null ? null : new Finding(found.step(), found.message(), found.sequence());
    }

    /// How often each operation was carried out and refused, as a table.
    public String coverage() {
        return fuzzer.coverage();
    }

    /// What was seen at least once: operations with how they ended, exits, kinds of machines.
    public Set<String> seen() {
        return fuzzer.seen();
    }

    /// Replays a sequence.
    ///
    /// @return what it contradicts, or null
    /// @throws IllegalArgumentException when a line is not a step
    public static String replay(List<String> sequence, Set<Defect> defects) {
        return MmuFuzzer.replay(sequence, START, defects);
    }
}
