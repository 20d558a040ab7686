package cloister.vmm;

import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.SeptTable.SeptRange;
import cloister.tdx.inspect.TdSnapshot;
import java.util.Locale;
import java.util.Optional;

/// What a vCPU of the trust domain last did, as the TDX module knows it. No VMM could tell; the platform is ours, so messages
/// may. Nothing that the guest can notice depends on it.
final class TdWitness {
    private static final String[] REGISTERS = {"Guest_RIP", "Guest_RFLAGS", "Guest_RSP", "Guest_CR0", "Guest_CR3", "Guest_CR4"};

    private final TdSnapshot td;
    private final Fields vmcs;

    private TdWitness(TdSnapshot td, Fields vmcs) {
        this.td = td;
        this.vmcs = vmcs;
    }

    /// The vCPU with index `vcpu` of the only trust domain; empty when the module has no such vCPU any more.
    static Optional<TdWitness> of(ModuleSnapshot module, int vcpu) {
        if (module.tds().isEmpty() || vcpu >= module.tds().getFirst().vps().size()) {
            return Optional.empty();
        }
        var td = module.tds().getFirst();
        var vmcs = td.vps().get(vcpu).tdVmcs();
        return vmcs.fields().isEmpty() ? Optional.empty() : Optional.of(new TdWitness(td, vmcs));
    }

    /// The instruction that left the TD.
    long rip() {
        return vmcs.value("Guest_RIP");
    }

    /// The address of the last EPT violation, its SHARED bit included.
    long faultGpa() {
        return vmcs.value("Guest_physical_Address");
    }

    /// Whether a page of the Secure EPT waits at `gpa` for the guest to accept it.
    boolean isPending(long gpa) {
        return td.secureEpt() != null && td.secureEpt().tables().flatMap(table -> table.entries().stream())
                .filter(range -> range.table() == null && range.gpa() <= gpa && gpa < range.end())
                .map(SeptRange::state).anyMatch(state -> state.contains("PENDING"));
    }

    /// One line.
    String registers() {
        var text = new StringBuilder("the TDX module has");
        for (String name : REGISTERS) {
            text.append(String.format(Locale.ROOT, " %s %x", name.substring("Guest_".length()), vmcs.value(name)));
        }
        return text.append('\n').toString();
    }
}
