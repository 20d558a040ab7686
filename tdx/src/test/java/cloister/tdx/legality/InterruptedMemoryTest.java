package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Tdcs;
import java.util.Arrays;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Memory functions that an event of the host interrupts, and how they go on.
class InterruptedMemoryTest {
    private static final int INTR_PENDING = 0x9a;
    private static final int INTERRUPT = 1;
    private static final int NMI = 2;
    private static final long RFLAGS_IF = 1 << 9;
    private static final long RESUMABLE = 0x8000_0003_0000_0000L;
    private static final long RESTARTABLE = 0x8000_0004_0000_0000L;
    private static final long TDR = MemoryTd.TDR;
    private static final long NULL_PA = ModuleState.NULL_PA;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;
    private static final long LARGE_GPA = 0x20_0000;
    private static final long LARGE = 0x1_0080_0000L;
    private static final long TABLE = 0x1_0004_4000L;
    private static final long FREE_PAGE = 0x1_0040_0000L;
    private static final int ACCEPT = 6;

    private MemoryTd td;

    @AfterEach void close() {
        td.close();
    }

    private void pending(int events) {
        td.td.machine.cpus[0].msr(INTR_PENDING, events);
    }

    private void interruptsEnabled(boolean enabled) {
        td.td.machine.cpus[0].seamVmcs().write(VmcsField.GUEST_RFLAGS, enabled ? RFLAGS_IF : 0);
    }

    private void largePage(String state) {
        td.own(LARGE, 1, PageType.REG);
        td.entry(0, LARGE_GPA, 1).write(SeptCase.named(state).entry(LARGE));
    }

    private SeamRegs demote() {
        return td.call(MemoryTd.regs(15, 0, LARGE_GPA | 1, TDR, FREE_PAGE, FREE_PAGE + PAGE, NULL_PA, NULL_PA));
    }

    @Test void anEventThatTheHostWouldTakeInterrupts() {
        td = new MemoryTd(false);
        boolean[] enabled = {false, false, false, true, true, true};
        int[] events = {0, INTERRUPT, NMI, 0, INTERRUPT, NMI};
        for (int i = 0; i < events.length; i++) {
            td.record();
            largePage("BLOCKED");
            interruptsEnabled(enabled[i]);
            pending(events[i]);
            boolean interrupted = events[i] == NMI || (events[i] == INTERRUPT && enabled[i]);
            assertThat(demote().get(SeamRegs.RAX)).as("events %d, IF %b", events[i], enabled[i])
                    .isEqualTo(interrupted ? RESTARTABLE : 0);
            td.takeBack();
        }
    }

    @Test void demotionStartsAgain() {
        td = new MemoryTd(false);
        largePage("BLOCKED");
        pending(NMI);
        td.record();
        var regs = demote();
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(RESTARTABLE);
        assertThat(regs.get(SeamRegs.RCX)).isEqualTo(LARGE_GPA | 1);
        assertThat(regs.get(SeamRegs.RDX)).isEqualTo(TDR);
        assertThat(td.changes().keySet()).as("only the new L1 table was filled").allMatch(pa -> (pa & -PAGE) == FREE_PAGE);
        pending(0);
        assertThat(demote().get(SeamRegs.RAX)).isZero();
    }

    @Test void promotionStartsAgain() {
        td = new MemoryTd(false);
        td.makeFullTable(TABLE, SeptCase.named("MAPPED").entry(0), LARGE, 0);
        td.makeTable(TABLE + PAGE, 0);
        td.entry(0, LARGE_GPA, 1).write(SeptCase.named("NL_MAPPED").entry(TABLE) | (1L << 58));
        td.entry(1, LARGE_GPA, 1).write((TABLE + PAGE) | 7 | (1 << 10));
        pending(NMI);
        td.record();
        var regs = td.call(MemoryTd.regs(23, 1, LARGE_GPA | 1, TDR, 1, 2, 3, 4));
        assertThat(Arrays.copyOf(regs.array(), 12)).containsExactly(RESTARTABLE, LARGE_GPA | 1, TDR, 0, 0, 0, 0, 0, 1, NULL_PA,
                NULL_PA, NULL_PA);
        assertThat(td.changes()).isEmpty();
        pending(0);
        assertThat(td.call(MemoryTd.regs(23, 1, LARGE_GPA | 1, TDR)).get(SeamRegs.RAX)).isZero();
    }

    @Test void additionGoesOnWithThePagesThatAreLeft() {
        td = new MemoryTd(false);
        pending(NMI);
        var regs = MemoryTd.regs(3, 1, LARGE_GPA | 1, TDR, FREE_PAGE, FREE_PAGE + PAGE, NULL_PA, FREE_PAGE + 3 * PAGE);
        long children = td.children();
        long[] left = {NULL_PA, FREE_PAGE + PAGE, NULL_PA, FREE_PAGE + 3 * PAGE};
        for (int register = 0; register < 4; register++) { // one more page each time: L1, VM 1, VM 3
            if (register == 2) {
                continue;
            }
            left[register] = NULL_PA;
            td.call(regs);
            boolean last = register == 3;
            assertThat(regs.get(SeamRegs.RAX)).isEqualTo(last ? 0 : RESUMABLE);
            assertThat(regs.get(SeamRegs.RCX)).isEqualTo(last ? 0 : LARGE_GPA | 1);
            assertThat(regs.get(SeamRegs.RDX)).isEqualTo(last ? 0 : TDR);
            assertThat(Arrays.copyOfRange(regs.array(), SeamRegs.R8, SeamRegs.R11 + 1)).containsExactly(left);
            regs.set(SeamRegs.RAX, 3 | (1 << 16));
        }
        assertThat(td.children() - children).isEqualTo(3);
        assertThat(td.entry(0, LARGE_GPA, 1).read())
                .isEqualTo(SeptCase.named("NL_MAPPED").entry(FREE_PAGE) | (1L << 58) | (1L << 60));
    }

    private boolean accept() {
        return td.td.tdcall(ACCEPT, LARGE_GPA | 1, 0x55, 0);
    }

    private long chunk() {
        return (td.entry(0, LARGE_GPA, 1).read() >>> 12) & 0x1ff;
    }

    private void writeChunks() {
        for (long at = LARGE; at < LARGE + (512 * PAGE); at += PAGE) {
            td.module().fillPage(td.td.tdr.withKey(at), -1L);
        }
    }

    @Test void acceptanceGoesOnWhereAnInterruptStoppedIt() {
        td = new MemoryTd(true);
        largePage("PENDING");
        writeChunks();
        pending(INTERRUPT); // the host takes it whatever its RFLAGS.IF: the guest runs with interrupts exiting
        long rip = td.td.machine.core.vmcs(td.td.machine.cpus[0]).read(VmcsField.GUEST_RIP);
        for (int i = 1; i < 512; i++) {
            assertThat(accept()).isTrue();
            assertThat(td.td.guest(SeamRegs.RAX)).as("the guest's own, for it executes TDCALL again").isEqualTo(ACCEPT);
            assertThat(td.td.machine.core.vmcs(td.td.machine.cpus[0]).read(VmcsField.GUEST_RIP)).isEqualTo(rip);
            assertThat(chunk()).isEqualTo(i);
            assertThat(td.privateWord(LARGE + (i - 1) * PAGE)).isZero();
            assertThat(td.privateWord(LARGE + i * PAGE)).isEqualTo(-1L);
        }
        assertThat(accept()).isTrue();
        assertThat(td.td.guest(SeamRegs.RAX)).isZero();
        assertThat(td.entry(0, LARGE_GPA, 1).read()).isEqualTo(SeptCase.named("MAPPED").entry(LARGE));
        assertThat(td.privateWord(LARGE + 511 * PAGE)).isZero();
    }

    @Test void whoLooksAtAPageThatIsBeingAcceptedSeesTheCountInItsAddress() {
        td = new MemoryTd(true);
        largePage("PENDING");
        writeChunks();
        pending(INTERRUPT);
        accept();
        accept();
        pending(0);
        var read = td.call(MemoryTd.regs(25, 0, LARGE_GPA | 1, TDR));
        assertThat(read.get(SeamRegs.RCX)).isEqualTo(SeptCase.named("PENDING").reported(LARGE) | (2 << 12));
        var removal = td.call(MemoryTd.regs(29, 0, LARGE_GPA | 1, TDR));
        assertThat(removal.get(SeamRegs.RAX)).isEqualTo(0xC000_0B06_0000_0001L);
        assertThat(removal.get(SeamRegs.RCX)).as("TDH.MEM.PAGE.REMOVE drops the count first")
                .isEqualTo(SeptCase.named("PENDING").reported(LARGE));
        assertThat(td.call(MemoryTd.regs(7, 0, LARGE_GPA | 1, TDR)).get(SeamRegs.RAX)).isZero();
        assertThat(td.entry(0, LARGE_GPA, 1).read()).as("blocking forgets how far it was")
                .isEqualTo(SeptCase.named("PENDING_BLOCKED").entry(LARGE));
    }

    @Test void aPageRemovedDuringAnImportRemembersTheMigrationEpoch() {
        td = new MemoryTd(false);
        largePage("BLOCKED");
        td.opState(OpState.POST_IMPORT);
        td.tdcs().u32(Tdcs.MIG_EPOCH, 0x8765_4321);
        assertThat(td.call(MemoryTd.regs(29, 0, LARGE_GPA | 1, TDR)).get(SeamRegs.RAX)).isZero();
        assertThat(td.entry(0, LARGE_GPA, 1).read())
                .isEqualTo(SeptCase.named("REMOVED").entry(0) | (1L << 44) | (0x8765_4321L << 12));
    }
}
