package cloister.tdx.fuzz;

import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.sim.Entropy;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.x86.Msr;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdmr;
import cloister.tdx.core.TdmrInfo;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/// The rules of the fuzzer that no page of a TD can break see it when something else does.
final class FuzzRulesTest {
    private static final long SECRET = 0x5ec2_e700_1234L;

    private static FuzzStep call(SeamcallLeaf leaf) {
        return new FuzzStep(0, FuzzStep.Kind.CALL, leaf.number());
    }

    private static SeamRegs registers(long rax, int register, long value) {
        var regs = new SeamRegs();
        regs.set(SeamRegs.RAX, rax);
        regs.set(register, value);
        return regs;
    }

    private static void after(SeamcallLeaf leaf, long rax, int register, long value) {
        OutputRules.afterCall(call(leaf), new SeamRegs(), registers(rax, register, value));
    }

    @Test void functionMayNotChangeOtherRegisters() {
        assertThatCode(() -> after(SeamcallLeaf.MEM_SEPT_RD, 0, SeamRegs.RCX, SECRET)).doesNotThrowAnyException();
        assertThatThrownBy(() -> after(SeamcallLeaf.MEM_SEPT_RD, 0, SeamRegs.R9, 1)).isInstanceOf(FuzzFinding.class)
                .hasMessageContaining("changes register 9");
        assertThatThrownBy(() -> after(SeamcallLeaf.MEM_TRACK, 0, SeamRegs.RCX, 1)).hasMessageContaining("changes register 1");
        assertThatThrownBy(() -> after(SeamcallLeaf.MNG_RD, 0, SeamRegs.RBX, 1)).hasMessageContaining("changes register 3");
    }

    @Test void failureMayNotLeaveSecrets() {
        long failed = TdxStatus.EPT_ENTRY_STATE_INCORRECT.with(1);
        assertThatCode(() -> after(SeamcallLeaf.MEM_PAGE_AUG, failed, SeamRegs.RCX, SeptEntry.SUPPRESS_VE | SeptEntry.RWX))
                .doesNotThrowAnyException();
        assertThatThrownBy(() -> after(SeamcallLeaf.MEM_PAGE_AUG, failed, SeamRegs.RCX, SeptEntry.LOCK)).hasMessageContaining("leaves");
        assertThatThrownBy(() -> after(SeamcallLeaf.MEM_PAGE_AUG, failed, SeamRegs.RDX, SECRET)).hasMessageContaining("leaves");
        assertThatThrownBy(() -> after(SeamcallLeaf.MNG_WR, failed, SeamRegs.R8, SECRET)).hasMessageContaining("leaves");
        assertThatThrownBy(() -> after(SeamcallLeaf.VP_ENTER, ExitReason.EPT_VIOLATION, SeamRegs.R10, SECRET))
                .hasMessageContaining("register 10");
    }

    private static void tdExit(FuzzMachine machine, long reason, long mask, int register) {
        var step = new FuzzStep(0, FuzzStep.Kind.EXIT, reason);
        OutputRules.afterTdExit(step, new SeamRegs(), registers(reason, register, SECRET), mask, false, machine.cpus[0]);
    }

    @Test void guestKeepsRegistersToItself() {
        try (var machine = new FuzzMachine(FuzzPlatform.USUAL, new FuzzCoverage())) {
            assertThatCode(() -> tdExit(machine, ExitReason.TDCALL, 1 << SeamRegs.R12, SeamRegs.R12)).doesNotThrowAnyException();
            assertThatThrownBy(() -> tdExit(machine, ExitReason.TDCALL, 1 << SeamRegs.R12, SeamRegs.R13)).hasMessageContaining("13");
            assertThatThrownBy(() -> tdExit(machine, ExitReason.EXTERNAL_INTERRUPT, -1L, SeamRegs.RBP)).hasMessageContaining("5");
            machine.cpus[0].xmm(3, 1, 0);
            assertThatThrownBy(() -> tdExit(machine, ExitReason.EXTERNAL_INTERRUPT, 0, SeamRegs.RCX)).hasMessageContaining("XMM3");
            machine.cpus[0].xmm(3, 0, 0);
            machine.cpus[0].cr2(1);
            assertThatThrownBy(() -> tdExit(machine, ExitReason.EXTERNAL_INTERRUPT, 0, SeamRegs.RCX)).hasMessageContaining("CR2");
        }
    }

    /// A machine with an LP in a guest.
    private static int guest(FuzzRun run) {
        for (int lp = 0; lp < run.machine.cpus.length; lp++) {
            if (run.machine.inGuest[lp]) {
                return lp;
            }
        }
        return -1;
    }

    @Test void msrsOfGuestAndVmmStayApart() {
        for (int seed = 1;; seed++) {
            try (var run = new FuzzRun(FuzzPlatform.USUAL, new FuzzCoverage(), new Entropy(seed), false, m -> { })) {
                run.generate(new ArrayList<>(), 2500);
                int lp = guest(run);
                if (lp >= 0) {
                    msrs(run.machine, lp);
                    return;
                }
            }
        }
    }

    private static void msrs(FuzzMachine machine, int lp) {
        var secrets = new GuestSecrets(machine);
        var cpu = machine.cpus[lp];
        cpu.msr(Msr.IA32_DS_AREA, 7);
        secrets.beforeCall(lp);
        secrets.beforeExit(lp);
        assertThatThrownBy(() -> secrets.afterExit(lp, TdxStatus.SUCCESS)).hasMessageContaining("is the guest's");
        for (int msr : new int[] {Msr.IA32_STAR, Msr.IA32_LSTAR, Msr.IA32_KERNEL_GS_BASE, Msr.IA32_TSC_AUX}) {
            cpu.msr(msr, 0);
        }
        assertThatThrownBy(() -> secrets.afterExit(lp, TdxStatus.SUCCESS)).hasMessageContaining("FMASK");
        cpu.msr(Msr.IA32_FMASK, 0x20200);
        cpu.msr(Msr.IA32_DS_AREA, 8);
        assertThatThrownBy(() -> secrets.afterExit(lp, TdxStatus.SUCCESS)).hasMessageContaining("of the VMM");
        cpu.msr(Msr.IA32_DS_AREA, 7);
        secrets.afterExit(lp, TdxStatus.SUCCESS);
        if (!machine.lp(lp).tdcs.debug()) {
            assertThatThrownBy(() -> secrets.afterCall(call(SeamcallLeaf.VP_ENTER), lp)).hasMessageContaining("it left with");
        }
    }

    private static Tdmr tdmr(int index, long... changed) {
        long[] w = Bringup.tdmrInfo(index);
        for (int i = 0; i < changed.length; i += 2) {
            w[(int) changed[i]] = changed[i + 1];
        }
        var offsets = new long[TdmrInfo.MAX_RESERVED];
        var sizes = new long[TdmrInfo.MAX_RESERVED];
        offsets[0] = w[8];
        sizes[0] = w[9];
        return new Tdmr(new TdmrInfo(w[0], w[1], new long[] {w[6], w[4], w[2]}, new long[] {w[7], w[5], w[3]}, offsets, sizes));
    }

    private static void accepted(Tdmr... tdmrs) {
        Bringup.checkTdmrs(FuzzPlatform.USUAL, List.of(tdmrs));
    }

    @Test void badTdmrsAreSeen() {
        assertThatCode(() -> accepted(tdmr(0), tdmr(1))).doesNotThrowAnyException();
        assertThatThrownBy(() -> accepted(tdmr(0), tdmr(0))).isInstanceOf(FuzzFinding.class);
        assertThatThrownBy(() -> accepted(tdmr(0, 9, 0x1000))).hasMessageContaining("not convertible");
        assertThatThrownBy(() -> accepted(tdmr(0, 7, 0x3f_f000))).hasMessageContaining("a PAMT of");
        assertThatThrownBy(() -> accepted(tdmr(0, 4, FuzzPlatform.pamt(0, 0)))).hasMessageContaining("overlaps");
        assertThatThrownBy(() -> accepted(tdmr(0, 4, FuzzPlatform.TDMR))).hasMessageContaining("overlaps");
        assertThatThrownBy(() -> accepted(tdmr(1, 0, FuzzPlatform.LARGE_TDMR + 4096))).hasMessageContaining("a TDMR at");
    }

    @Test void moduleHaltsOnCorruptedMemory() {
        try (var machine = new FuzzMachine(FuzzPlatform.USUAL, new FuzzCoverage())) {
            FuzzStep.parse(List.of("0 BOOT tdmrs=1", "0 TDH.MNG.CREATE rcx=40600000 rdx=21", "0 CORRUPT pa=40600000"))
                    .forEach(machine::execute);
            var regs = registers(SeamcallLeaf.MNG_KEY_CONFIG.number(), SeamRegs.RCX, 0x4060_0000L);
            assertThatThrownBy(() -> machine.core.call(machine.cpus[1], regs)).isInstanceOf(ModuleHalt.class)
                    .hasMessageContaining("private memory is corrupted");
        }
    }
}
