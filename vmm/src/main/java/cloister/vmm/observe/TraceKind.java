package cloister.vmm.observe;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.vmx.ExitReason;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import java.util.stream.Stream;

/// What can be traced.
public enum TraceKind {
    /// SEAMCALLs with operands and status.
    SEAMCALL,
    /// TDCALLs with operands and status, TDG.VP.VMCALL among them.
    TDCALL,
    /// TDG.VP.VMCALLs by their sub-function.
    VMCALL,
    /// VM exits, those of trust domains to the TDX module as well.
    EXITS,
    /// The SEAMCALLs that concern Secure EPT and private pages: TDH.MEM.*.
    SEPT,
    /// Lock attempts of the TDX module, SEAMCALLs that found a lock taken, locks of the host kernel.
    LOCK,
    /// Which host thread runs.
    SCHED,
    /// Lines of the guest's first serial port.
    CONSOLE,
    /// KVM_RUN returned to the VMM.
    USER;

    /// Exit reasons with a name are below.
    private static final int REASONS = 128;

    /// The names that events of this kind have, as far as they have been given any; empty when they can have any name.
    public Set<String> names() {
        return switch (this) {
            case SEAMCALL -> seamcalls();
            case SEPT -> seamcalls().stream().filter(name -> name.startsWith("TDH.MEM.")).collect(Collectors.toSet());
            case TDCALL -> Stream.concat(Stream.of(TdcallLeaf.values()).map(TdcallLeaf::specificationName), vmcalls())
                    .collect(Collectors.toSet());
            case VMCALL -> vmcalls().collect(Collectors.toSet());
            case EXITS -> Stream.concat(Stream.of("guest"), IntStream.range(0, REASONS).mapToObj(ExitReason::name))
                    .collect(Collectors.toSet());
            case LOCK -> Stream.concat(Stream.of(TraceEvent.LockStep.values()).map(step -> step.name().toLowerCase(Locale.ROOT)),
                    seamcalls().stream()).collect(Collectors.toSet());
            case SCHED, CONSOLE, USER -> Set.of();
        };
    }

    private static Set<String> seamcalls() {
        return Stream.of(SeamcallLeaf.values()).map(SeamcallLeaf::specificationName).collect(Collectors.toSet());
    }

    private static Stream<String> vmcalls() {
        return Stream.concat(Stream.of("VMCALL"), LongStream.concat(LongStream.range(0, REASONS), LongStream.rangeClosed(
                Tdvmcall.GET_TD_VM_CALL_INFO, Tdvmcall.SETUP_EVENT_NOTIFY_INTERRUPT)).mapToObj(Tdvmcall::name));
    }

    /// The name in options and traces.
    public String label() {
        return name().toLowerCase(Locale.ROOT);
    }
}
