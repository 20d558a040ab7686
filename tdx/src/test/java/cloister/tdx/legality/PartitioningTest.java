package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.R8;
import static cloister.tdx.legality.TdPair.RAX;
import static cloister.tdx.legality.TdPair.RCX;
import static cloister.tdx.legality.TdPair.RDX;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Tdvps;
import org.junit.jupiter.api.Test;

/// What an L1 VMM asks for its L2 VMs: everything up to the point where one would run. [TDX-TDP]
class PartitioningTest {
    private static final int ENTER = 25;
    private static final int INVEPT = 26;
    private static final int INVGLA = 27;
    private static final long VP = 0x1_0000_8000L;
    private static final long STATE_GPA = 0x1100;
    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final long VAPIC_OPERAND = 170;
    private static final long PENDING_INTERRUPT = 0x0000_1120_0000_0000L;
    private static final long BEFORE_L2_ENTRY = 0x0000_1140_0000_0000L;
    private static final long NOT_CANONICAL = 0xC000_1160_0000_0000L;
    private static final long VIOLATION = 48;
    private static final int L2_DEBUG_CTLS = 0x248;
    private static final int L2_STATE_GPA = 0x3e0;
    private static final int L2_STATE_HPA = 0x400;
    private static final int L2_VAPIC_GPA = 0x460;
    private static final int VAPIC_PPR = 0x20a0;
    private static final int INTR_PENDING = 0x9a;

    private static TdPair l2() {
        return new TdPair("run-l2-2");
    }

    private static long vm(int vm) {
        return (long) vm << 52;
    }

    private static Tdvps vcpu(TdPair tds) {
        return tds.td.machine.core.lp(tds.td.machine.cpus[0]).vcpu;
    }

    private static void requireStatus(TdPair tds, long status, int leaf, long... operands) {
        assertThat(tds.guest(leaf, operands)).isTrue();
        assertThat(tds.guestRegister(RAX)).as("leaf %d, RCX 0x%x", leaf, operands[0]).isEqualTo(status);
    }

    @Test void operandsOfEnter() {
        try (var tds = l2()) {
            requireStatus(tds, OPERAND_INVALID | 2, ENTER, 0, 0x1180);
            requireStatus(tds, OPERAND_INVALID | 2, ENTER, 0, (1L << 47) | STATE_GPA);
            requireStatus(tds, OPERAND_INVALID | 1, ENTER, vm(0), STATE_GPA);
            int l2Vms = tds.td.tdcs.u16(0x10);
            assertThat(l2Vms).isPositive();
            if (l2Vms < 3) {
                requireStatus(tds, OPERAND_INVALID | 1, ENTER, vm(l2Vms + 1), STATE_GPA);
            }
            for (int bit = 0; bit < 64; bit++) {
                boolean flag = bit < 2;
                boolean number = bit == 52 || bit == 53;
                if (!number) {
                    requireStatus(tds, OPERAND_INVALID | (flag ? VAPIC_OPERAND : 1), ENTER, vm(1) | (1L << bit), STATE_GPA);
                }
            }
        }
    }

    @Test void anL2VmIsEnteredWhenNothingIsMissing() {
        try (var tds = l2()) {
            var vcpu = vcpu(tds);
            requireStatus(tds, OPERAND_INVALID | VAPIC_OPERAND, ENTER, vm(1), STATE_GPA);
            vcpu.u64(L2_VAPIC_GPA + 8, 0x7000);
            var vmcs = tds.td.machine.core.vmcs(tds.td.machine.cpus[0]);
            vmcs.write(VmcsField.GUEST_INTERRUPT_STATUS, 0x50);
            vcpu.u8(VAPIC_PPR, 0x4f);
            requireStatus(tds, PENDING_INTERRUPT, ENTER, vm(1), STATE_GPA);
            vcpu.u8(VAPIC_PPR, 0x50);
            vcpu.u64(L2_DEBUG_CTLS + 8, 1);
            long rip = tds.rip();
            assertThat(tds.guest(ENTER, vm(1), STATE_GPA)).isFalse();
            assertThat(new long[] {tds.exit(RAX), tds.exit(RCX), tds.exit(RDX), tds.exit(R8)})
                    .containsExactly(BEFORE_L2_ENTRY, 0, 0, 0);
            tds.td.seamcall(0, VP, 0, 0, 0);
            assertThat(tds.rip()).as("the call is made again").isEqualTo(rip);
            vcpu = vcpu(tds);
            vcpu.u64(L2_DEBUG_CTLS + 8, 6);
            requireViolation(tds, 0x9000, 0x9000);
            assertThat(vcpu(tds)).isNull();
            tds.td.seamcall(0, VP, 0, 0, 0);
            assertThat(vcpu(tds).u64(L2_STATE_GPA + 8)).isEqualTo(0x9000);
            requireViolation(tds, STATE_GPA, 0x7000);
            tds.td.seamcall(0, VP, 0, 0, 0);
            vcpu(tds).u64(L2_VAPIC_GPA + 8, 0x2000);
            assertThatThrownBy(() -> tds.guest(ENTER, vm(1), STATE_GPA)).isInstanceOf(ModuleHalt.class).hasMessageContaining("L2 VM 1");
            assertThat(vcpu(tds).u64(L2_STATE_HPA + 8)).isEqualTo(tds.hpa(STATE_GPA));
        }
    }

    private static void requireViolation(TdPair tds, long stateGpa, long faultGpa) {
        assertThat(tds.guest(ENTER, vm(1), stateGpa)).isFalse();
        assertThat(new long[] {tds.exit(RAX), tds.exit(RCX), tds.exit(RDX), tds.exit(R8)})
                .containsExactly(VIOLATION, 0, 0, faultGpa);
    }

    @Test void inveptTakesABitmapOfExistingL2Vms() {
        try (var tds = l2()) {
            int l2Vms = tds.td.tdcs.u16(0x10);
            for (int bit = 0; bit < 64; bit++) {
                requireStatus(tds, bit >= 1 && bit <= l2Vms ? 0 : OPERAND_INVALID | 1, INVEPT, 1L << bit);
            }
            requireStatus(tds, 0, INVEPT, 0);
        }
    }

    @Test void invglaTakesAnAddressOrAList() {
        try (var tds = l2()) {
            requireStatus(tds, OPERAND_INVALID | 1, INVGLA, vm(1) | 2, 0);
            requireStatus(tds, 0, INVGLA, vm(1), 0x1234_5005L);
            requireStatus(tds, NOT_CANONICAL, INVGLA, vm(1), 0x00ff_ffff_ffff_f001L);
            requireStatus(tds, 0, INVGLA, vm(1), 0x00ff_ffff_ffff_f000L);
            requireStatus(tds, OPERAND_INVALID | 2, INVGLA, vm(1) | 1, 0x1000 | (1 << 9));
            requireStatus(tds, OPERAND_INVALID | 2, INVGLA, vm(1) | 1, 0x1000 | 511 | (2L << 52));
            requireStatus(tds, OPERAND_INVALID | 2, INVGLA, vm(1) | 1, (1L << 47) | (1L << 52));
            for (int i = 0; i < 512; i++) {
                tds.td.machine.memory.write(tds.hpa(0x1000) + 8 * i, 8, 0x1000L * i);
            }
            requireStatus(tds, 0, INVGLA, vm(1) | 1, 0x1000 | 2 | (3L << 52));
            assertThat(tds.guestRegister(RDX)).isEqualTo(0x1000 | 5);
            tds.td.machine.cpus[0].wrmsr(INTR_PENDING, 1);
            long rip = tds.rip();
            assertThat(tds.guest(INVGLA, vm(1) | 1, 0x1000 | 510 | (2L << 52))).isTrue();
            assertThat(tds.guestRegister(RDX)).isEqualTo(0x1000 | 511 | (1L << 52));
            assertThat(tds.guestRegister(RAX)).isEqualTo(INVGLA);
            assertThat(tds.rip()).isEqualTo(rip);
            tds.td.machine.cpus[0].wrmsr(INTR_PENDING, 0);
            requireStatus(tds, 0, INVGLA, vm(1) | 1, tds.guestRegister(RDX));
            assertThat(tds.guestRegister(RDX)).as("the index wraps").isEqualTo(0x1000);
            tds.td.machine.memory.write(tds.hpa(0x1000), 8, 1L << 62);
            requireStatus(tds, NOT_CANONICAL, INVGLA, vm(1) | 1, 0x1000 | (1L << 52));
            assertThat(tds.guestRegister(RDX)).as("is left").isEqualTo(0x1000 | (1L << 52));
        }
    }
}
