package cloister.vmm;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.CR3;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.R10;
import static cloister.isa.Operands.R12;
import static cloister.isa.Operands.R13;
import static cloister.isa.Operands.R15D;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.RCX;
import static cloister.isa.Operands.dwordAt;
import static cloister.isa.Operands.mem;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.devices.AcpiPm;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.spec.tdx.TdcallLeaf;
import java.util.function.LongConsumer;
import org.junit.jupiter.api.Test;

/// What a trust domain does wrong is told as the guest's doing: what, where, by which instruction.
final class GuestFaultTest {
    private static final long PAGE_GPA = 0x600000;
    private static final long SHARED = 1L << 47;
    private static final long TWO_MIB = 2 << 20;
    private static final long MEMORY = 32 << 20;
    /// Linear address of the page that [#window] maps: the first of the third GiB.
    private static final long WINDOW = 0x80000000L;
    private static final long WINDOW_ENTRY_GPA = TdFirmware.PAGE_TABLES_GPA + 4 * GuestLayout.PAGE;
    private static final int LARGE_WRITABLE = 0x83;
    private static final int POWER_OFF = (1 << 13) | (AcpiPm.S5_SLEEP_TYPE << 10);

    private final Assembler code = new Assembler(CodeMode.BITS64, GuestLayout.HIGH_LOADING_START);
    private final StringBuilder console = new StringBuilder();

    private Outcome run() {
        return run(new MachineConfig());
    }

    private Outcome run(MachineConfig start) {
        var config = start.vmType(VmType.TDX).memoryBytes(MEMORY).program(code.assemble())
                .console(octet -> console.append((char) octet));
        try (var machine = new Machine(config)) {
            return machine.run();
        }
    }

    private void mapGpa(long gpa, long bytes) {
        code.mov(R12, gpa).mov(R13, bytes);
        TdCalls.vmcall(code, TdCalls.MAP_GPA);
    }

    private void window(long gpa) {
        code.mov(EBX, WINDOW_ENTRY_GPA).mov(RAX, gpa | LARGE_WRITABLE).mov(mem(RBX), RAX);
        code.mov(RAX, CR3).mov(CR3, RAX);
    }

    /// The address of the instruction that touches `linear`.
    private long touch(long linear) {
        code.mov(EBX, linear);
        long at = code.address();
        code.mov(dwordAt(mem(RBX)), 1);
        return at;
    }

    private static void saysWhere(Outcome outcome, long gpa, long rip, String... what) {
        assertThat(outcome).isInstanceOf(Outcome.GuestFault.class);
        assertThat(((Outcome.GuestFault) outcome).message()).contains("vCPU 0", "GPA 0x" + Long.toHexString(gpa),
                "RIP 0x" + Long.toHexString(rip)).contains(what).doesNotContain("\n");
    }

    @Test void memoryThatWasNotAccepted() {
        mapGpa(PAGE_GPA | SHARED, TWO_MIB);
        mapGpa(PAGE_GPA, TWO_MIB);
        long rip = touch(PAGE_GPA + 0x123);
        saysWhere(run(), PAGE_GPA + 0x123, rip, "had not accepted", "EIO", "kvm run failed");
    }

    @Test void thePrivateAddressOfASharedPage() {
        mapGpa(PAGE_GPA | SHARED, TWO_MIB);
        long rip = touch(PAGE_GPA);
        saysWhere(run(), PAGE_GPA, rip, "had not accepted",
                "was shared until vCPU 0 used it by its private address without MapGPA");
    }

    @Test void theSharedAddressOfAPrivatePageIsConvertedAsByQemuAndItsContentIsLost() {
        window(PAGE_GPA | SHARED);
        touch(WINDOW);
        long rip = touch(PAGE_GPA);
        saysWhere(run(), PAGE_GPA, rip, "had not accepted", "without MapGPA");
    }

    @Test void aDeviceByItsPrivateAddress() {
        long rip = touch(0xfec00010L);
        saysWhere(run(), 0xfec00010L, rip, "in the hole for devices", "SHARED bit (bit 47)", "KVM_EXIT_MEMORY_FAULT");
    }

    /// By its shared address a device is a #VE, for which this guest has no handler: it triple-faults. [LINUX tdx_vm_init]
    @Test void aDeviceByItsSharedAddressIsAVirtualizationException() {
        window(0xfec00000L | SHARED);
        long rip = touch(WINDOW + 0x10);
        assertThat(run()).isInstanceOfSatisfying(Outcome.TripleFault.class,
                fault -> assertThat(fault.detail()).contains("RIP 0x" + Long.toHexString(rip)));
    }

    /// Before KVM had a mark of MMIO per VM, a TD's shared tables got that of ordinary VMs: the processor tells KVM of a misconfiguration,
    /// and KVM, which cannot read the guest's instruction, has to give the TD up.
    @Test void underOneMarkForAllVmsADeviceKillsTheTrustDomain() {
        window(0xfec00000L | SHARED);
        touch(WINDOW + 0x10);
        assertThat(run(new MachineConfig().policy("mmio-value", "global")).toString()).contains("EPT misconfiguration");
    }

    /// TDG.SERVTD.RD with a binding handle, which differs from the TD's UUID, that has a binding's number and names no TD: the TDX module
    /// leaves what follows to KVM, which knows no service TDs.
    @Test void aServiceTdOfNobody() {
        var next = code.label();
        code.xor(EBX, EBX).label(next).mov(RCX, RBX).mov(EAX, TdcallLeaf.SERVTD_RD.number()).xor(EDX, EDX).tdcall();
        code.inc(RBX).jmp(next);
        assertThat(run()).isInstanceOfSatisfying(Outcome.MissingFeature.class,
                lacking -> assertThat(lacking.toString()).contains("KVM has no service TDs", "CROSS_TD_TRAP"));
    }

    @Test void memoryThatIsNotThere() {
        long rip = touch(MEMORY);
        saysWhere(run(), MEMORY, rip, "there is no memory");
    }

    @Test void aTripleFaultBeforeTheFirstCallSaysThatTheKernelMayNotKnowTdx() {
        long rip = code.address();
        code.out(0x80, AL);
        assertThat(run()).isInstanceOfSatisfying(Outcome.TripleFault.class, fault -> assertThat(fault.detail())
                .contains("RIP 0x" + Long.toHexString(rip), "CONFIG_INTEL_TDX_GUEST", "CR3 "));
    }

    @Test void aTripleFaultOfAGuestThatSpokeHasNoSuchHint() {
        TdCalls.writePort(code.mov(R15D, '!'), AcpiTables.COM1_PORT, 1);
        code.out(0x80, AL);
        assertThat(run()).isInstanceOfSatisfying(Outcome.TripleFault.class, fault -> assertThat(fault.detail())
                .contains("vCPU 0 at RIP 0x").doesNotContain("CONFIG_INTEL_TDX_GUEST"));
        assertThat(console).hasToString("!");
    }

    /// TD firmware makes all of the hole shared before it looks for devices; nothing there can become private.
    @Test void mapGpaOfTheHoleForDevices() {
        LongConsumer report = gpa -> {
            var refused = code.label();
            code.mov(R15D, '-').test(R10, R10).jcc(Condition.NE, refused);
            code.mov(R15D, '+').label(refused);
            TdCalls.writePort(code, AcpiTables.COM1_PORT, 1);
        };
        for (long gpa : new long[] {GuestLayout.HOLE_START | SHARED, 0xfec00000L | SHARED, (MEMORY - TWO_MIB / 2) | SHARED,
                (1L << 40) | SHARED, GuestLayout.HOLE_START, 0xfec00000L, MEMORY - TWO_MIB / 2}) {
            mapGpa(gpa, TWO_MIB);
            report.accept(gpa);
        }
        TdCalls.writePort(code.mov(R15D, POWER_OFF), AcpiPm.CONTROL_BLOCK, 2);
        assertThat(run()).isEqualTo(new Outcome.PowerOff());
        assertThat(console).hasToString("++++---");
    }
}
