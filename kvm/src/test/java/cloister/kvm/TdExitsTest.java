package cloister.kvm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/// What KVM makes of each kind of TD exit, the odd ones too, and the region around TDH.VP.ENTER. [LINUX tdx_handle_exit]
final class TdExitsTest {
    private static final long NON_RECOVERABLE_VCPU = 0x4000_0001_0000_0000L;

    private static KvmException failureOf(ScriptedTd td) {
        return (KvmException) catchThrowable(td::run);
    }

    /// RAX and R9 of exits after which KVM enters again.
    @ParameterizedTest(name = "{0}") @CsvSource({
            "external interrupt,       1,                  800000ec",
            "NMI,                      0,                  80000202",
            "machine check,            0,                  80000312",
            "SMI,                      6,                  0",
            "TD epoch busy,            80000200000000a9,   0",
            "Secure EPT busy,          8000020000000092,   0",
            "OP_STATE busy,            80000200000000ac,   0"})
    void goesOnBehind(String what, String rax, String r9) {
        try (var td = new ScriptedTd()) {
            td.exit(Long.parseUnsignedLong(rax, 16), 0, 0, Long.parseUnsignedLong(r9, 16)).end(new long[1]);
            assertThat(td.run()).containsExactly(new KvmExit.Shutdown());
            assertThat(td.module.runs).filteredOn(call -> call.startsWith("VP_ENTER")).hasSize(2);
        }
    }

    @Test void theHostIsReadyForTheNextMachineCheck() {
        try (var td = new ScriptedTd()) {
            td.then(regs -> {
                td.lp().wrmsr(Msr.IA32_MCG_STATUS, 4);
                regs.set(SeamRegs.RAX, 0);
                regs.set(SeamRegs.R9, 0x8000_0312L);
            }).end(new long[1]);
            assertThat(td.run()).containsExactly(new KvmExit.Shutdown());
            assertThat(td.lp().rdmsr(Msr.IA32_MCG_STATUS)).isZero();
        }
    }

    static List<Arguments> exitsToTheVmm() {
        return List.of(
                Arguments.of("triple fault", NON_RECOVERABLE_VCPU | 2, 0L, new KvmExit.Shutdown()),
                Arguments.of("#DB", 0L, 0x8000_0301L, new KvmExit.Exception(1, 0)),
                Arguments.of("#AC with an error code", 0L, 0x8000_0b11L, new KvmExit.Exception(17, 0)),
                Arguments.of("failed VM entry", NON_RECOVERABLE_VCPU | 0x8000_0021L, 0L, new KvmExit.FailEntry(0x8000_0021L, 0)));
    }

    @ParameterizedTest(name = "{0}") @MethodSource("exitsToTheVmm")
    void goesToTheVmm(String what, long rax, long r9, KvmExit expected) {
        try (var td = new ScriptedTd()) {
            assertThat(td.exit(rax, 0, 0, r9).run()).containsExactly(expected);
        }
    }

    /// Nobody handles these: KVM_EXIT_INTERNAL_ERROR, which leaves the VM alive unless SEAMCALL itself failed.
    @ParameterizedTest(name = "{0}") @CsvSource({
            "INIT,                        3,                false",
            "task switch,                 9,                false",
            "bus lock,                    4a,               false",
            "notify window,               4b,               false",
            "TD non-recoverable,          6000000200000030, false",
            "TD not accessible,           6000000500000000, false",
            "wrong APIC mode,             6000000700000000, false",
            "vCPU non-recoverable,        4000000100000030, false",
            "host-priority timeout,       9000020500000000, false",
            "SEAMCALL raised #UD,         8000ff0000000006, true",
            "SEAMCALL raised #GP,         8000ff000000000d, true"})
    void isUnexpected(String what, String rax, boolean dead) {
        try (var td = new ScriptedTd()) {
            td.exit(Long.parseUnsignedLong(rax, 16), 0, 0, 0);
            assertThat(td.run()).singleElement().isInstanceOf(KvmExit.InternalError.class).asString().contains(rax);
            assertThat(failsWithEio(td)).isEqualTo(dead);
        }
    }

    private static boolean failsWithEio(ScriptedTd td) {
        try {
            td.vm.setMemoryAttributes(0, 0x1000, 0);
            return false;
        } catch (KvmException e) {
            assertThat(e.errno()).isEqualTo(Errno.EIO);
            return true;
        }
    }

    /// What hardware or the module must not do ends the VM. RAX, RCX, R8.
    @ParameterizedTest(name = "{0}") @CsvSource({
            "EPT misconfiguration,                       31, 0, 0",
            "instruction fetch from shared memory,       30, 4, 800000005000"})
    void endsTheVm(String what, String rax, String rcx, String r8) {
        try (var td = new ScriptedTd()) {
            td.exit(Long.parseLong(rax, 16), Long.parseLong(rcx, 16), Long.parseLong(r8, 16), 0);
            assertThat(failureOf(td).errno()).isEqualTo(Errno.EIO);
            assertThat(failsWithEio(td)).isTrue();
        }
    }

    /// A guest that touches private memory before accepting it, without SEPT_VE: RDX says so.
    @Test void aPendingPageEndsTheVm() {
        try (var td = new ScriptedTd()) {
            td.then(regs -> {
                regs.set(0, 48);
                regs.set(1, 0);
                regs.set(2, 6);
                regs.set(8, 0x5000);
            });
            assertThat(failureOf(td).errno()).isEqualTo(Errno.EIO);
        }
    }

    // --- the region

    /// The NMI is off the processor before any other code of the host kernel can run there.
    @Test void anNmiIsHandledInsideTheRegion() {
        try (var td = new ScriptedTd()) {
            var pendingLater = new ArrayList<Boolean>();
            td.then(regs -> {
                td.lp().sendNmi();
                td.host.scheduler().observer((thread, point, owner, where) -> {
                    if (point.isHostKernels()) {
                        pendingLater.add(td.lp().interruptPending());
                    }
                });
                regs.set(0, 0);
                regs.set(9, 0x8000_0202L);
            }).end(new long[1]);
            td.run();
            assertThat(pendingLater).isNotEmpty().containsOnly(false);
        }
    }

    @ParameterizedTest @CsvSource({"LOCK", "LOCK_WAIT", "UNLOCK", "SPTE_CHANGE", "IPI", "YIELD"})
    void theHostKernelDoesNotSwitchInsideTheRegion(SwitchPoint point) {
        try (var td = new ScriptedTd()) {
            td.then(regs -> td.host.scheduler().switchPoint(point));
            assertThatThrownBy(td::run).isInstanceOf(IllegalStateException.class).hasMessageContaining(point + " in a region");
        }
    }

    /// The processor and the module may let others run meanwhile, and behind the region the host kernel may.
    @ParameterizedTest @CsvSource({"TRY_LOCK", "VM_ENTRY", "GUEST_SLICE", "ATOMIC"})
    void theProcessorMayLetOthersRun(SwitchPoint point) {
        try (var td = new ScriptedTd()) {
            td.then(regs -> {
                td.host.scheduler().switchPoint(point);
                regs.set(0, 1);
            }).end(new long[1]);
            assertThat(td.run()).containsExactly(new KvmExit.Shutdown());
        }
    }
}
