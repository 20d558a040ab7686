package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import org.junit.jupiter.api.Test;

/// The life of a TD: which function moves which of its state machines where. What functions do in states where they may not run is in
/// [OpStateLegalityTest]. [TDX-BASE "TD Life Cycle State Machine"], [TDX-BASE "VCPU State Machine"]
class TdStoryTest {
    private static final long TDR = TdPair.BUILT;
    private static final long TDVPR = TdPair.BUILT_VP;
    private static final long PAGE = 0x1000;
    private static final long TD_PARAMS = 0x21_0000;
    private static final int KEY_ID = 0x22;
    private static final int EXCEPTION_OR_TRIPLE_FAULT = 2;
    private static final int TDCALL = 77;
    private static final int TASK_SWITCH = 9;
    private static final int NOT_ENTERED = -1;

    private static final int LP = 1;

    private TdPair tds;
    private RecordedTd td;

    private long call(int leaf, long rcx, long rdx) {
        return tds.status(leaf, rcx, rdx);
    }

    private void requireTd(String after, int life, int opState) {
        var tdr = tds.builtTdr();
        assertThat(tdr.lifecycleState()).as("life cycle after %s", after).isEqualTo(life);
        if (tdr.numTdcx() >= 6 && life < 3) {
            assertThat(new Tdcs(td.machine.memory, tdr).u32(Tdcs.OP_STATE)).as("OP_STATE after %s", after).isEqualTo(opState);
        }
    }

    private void requireVcpu(String after, int state, int lastExit) {
        var tdvps = Tdvps.rootOnly(td.machine.memory, TDVPR, KEY_ID);
        assertThat(tdvps.u8(Tdvps.STATE)).as("VCPU_STATE after %s", after).isEqualTo(state);
        if (lastExit != NOT_ENTERED) {
            assertThat(tdvps.u8(Tdvps.LAST_TD_EXIT)).as("LAST_TD_EXIT after %s", after).isEqualTo(lastExit);
        }
    }

    private void enter() {
        assertThat(td.machine.seamcall(LP, registers(0, TDVPR))).isTrue();
        requireVcpu("TDH.VP.ENTER", 4, NOT_ENTERED);
    }

    private static SeamRegs registers(long rax, long rcx) {
        var regs = new SeamRegs();
        regs.array()[0] = rax;
        regs.array()[1] = rcx;
        return regs;
    }

    private boolean exit(int reason, long rax, long rcx) {
        var vmcs = td.machine.core.vmcs(td.machine.cpus[LP]);
        vmcs.write(VmcsField.EXIT_REASON, reason);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, 0);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, 4);
        vmcs.write(VmcsField.GUEST_EFER, 0xd01);
        vmcs.write(VmcsField.GUEST_CS_ACCESS_RIGHTS, 0xa09b);
        td.machine.cpus[LP].registers()[0] = rax;
        td.machine.cpus[LP].registers()[1] = rcx;
        return td.machine.vmExit(LP);
    }

    @Test void fromCreationToTheLastPage() {
        try (var pair = new TdPair()) {
            tds = pair;
            td = pair.td;
            build();
            run();
            end();
        }
    }

    private void build() {
        assertThat(call(9, TDR, KEY_ID)).isZero();
        requireTd("TDH.MNG.CREATE", 0, 0);
        assertThat(call(8, TDR, 0)).isZero();
        requireTd("TDH.MNG.KEY.CONFIG", 1, 0);
        for (int i = 1; i <= 6; i++) {
            assertThat(call(1, TDR + i * PAGE, TDR)).isZero();
            requireTd("TDH.MNG.ADDCX", 1, 0);
        }
        td.machine.memory.fill(TD_PARAMS, PAGE, (byte) 0);
        td.machine.memory.write(TD_PARAMS + 8, 8, 0xe7);
        td.machine.memory.write(TD_PARAMS + 16, 8, 4);
        td.machine.memory.write(TD_PARAMS + 24, 8, 0x1e);
        td.machine.memory.write(TD_PARAMS + 40, 8, 100);
        assertThat(call(21, TDR, TD_PARAMS)).isZero();
        requireTd("TDH.MNG.INIT", 1, 1);
        assertThat(call(10, TDVPR, TDR)).isZero();
        requireVcpu("TDH.VP.CREATE", 0, NOT_ENTERED);
        for (int i = 1; i < 6; i++) {
            assertThat(call(4, TDVPR + i * PAGE, TDVPR)).isZero();
            requireVcpu("TDH.VP.ADDCX", 0, NOT_ENTERED);
        }
        assertThat(call(22, TDVPR, 0)).isZero();
        requireVcpu("TDH.VP.INIT", 2, NOT_ENTERED);
        requireTd("TDH.VP.INIT", 1, 1);
        assertThat(call(17, TDR, 0)).isZero();
        requireTd("TDH.MR.FINALIZE", 1, 2);
    }

    private void run() {
        enter();
        assertThat(exit(TASK_SWITCH, 0, 0)).isFalse();
        requireVcpu("a task switch", 2, 0);
        enter();
        assertThat(exit(TDCALL, 0, 0)).isFalse();
        requireVcpu("TDG.VP.VMCALL", 2, 2);
        enter();
        assertThat(exit(TDCALL, 1, 0)).isTrue();
        requireVcpu("TDG.VP.INFO", 4, NOT_ENTERED);
        assertThat(exit(TDCALL, 18, TDR - tds.builtTdr().u64(0x60))).isTrue();
        requireVcpu("TDG.SERVTD.RD that returns", 4, NOT_ENTERED);
        assertThat(exit(EXCEPTION_OR_TRIPLE_FAULT, 0, 0)).isFalse();
        requireVcpu("a triple fault", 8, NOT_ENTERED);
        assertThat(call(0, TDVPR, 0)).isEqualTo(0xC000_0700_0000_0000L);
        requireTd("all that", 1, 2);
    }

    private void end() {
        assertThat(call(19, TDR, 0)).as("VPFLUSHDONE").isEqualTo(0x8000_0824_0000_0000L);
        assertThat(call(18, TDVPR, 0)).isZero();
        requireVcpu("TDH.VP.FLUSH", 8, NOT_ENTERED);
        assertThat(call(19, TDR, 0)).isZero();
        requireTd("TDH.MNG.VPFLUSHDONE", 2, 2);
        assertThat(call(20, TDR, 0)).as("FREEID").isEqualTo(0x8000_0817_0000_0000L);
        assertThat(call(40, 0, 0)).isZero();
        requireTd("TDH.PHYMEM.CACHE.WB", 2, 2);
        assertThat(call(20, TDR, 0)).isZero();
        requireTd("TDH.MNG.KEY.FREEID", 3, 2);
        assertThat(call(28, TDR, 0)).isEqualTo(0xC000_0400_0000_0000L);
        for (int i = 0; i < 6; i++) {
            assertThat(call(28, TDVPR + i * PAGE, 0)).isZero();
        }
        for (int i = 6; i > 0; i--) {
            assertThat(call(28, TDR + i * PAGE, 0)).isZero();
        }
        requireTd("the pages are reclaimed", 3, 2);
        assertThat(call(28, TDR, 0)).isZero();
        assertThat(call(11, TDR, 0)).as("there is no TD any more").isEqualTo(0xC000_0300_0000_0001L);
    }
}
