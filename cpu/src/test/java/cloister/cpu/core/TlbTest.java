package cloister.cpu.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.memory.PhysicalMemory;
import org.junit.jupiter.api.Test;

/// Translations stay until they are invalidated, and each invalidation takes what it names. The pages of [Machine#mapping] play the
/// paging structures.
class TlbTest {
    private static final long A = 0x20000;
    private static final long B = 0x21000;
    private final Machine machine = new Machine();
    private final Cpu cpu = machine.cpu;

    TlbTest() {
        machine.memory.write(A, 8, 0xaaaa);
        machine.memory.write(B, 8, 0xbbbb);
    }

    private void remap() {
        machine.mapping.put(A, B);
    }

    private void pcid(int pcid) {
        cpu.cr4 |= 1 << 17;
        cpu.cr3 = pcid;
        cpu.updateMode();
    }

    @Test
    void aTranslationOutlivesItsEntryUntilInvlpg() {
        assertThat(cpu.read64(A)).isEqualTo(0xaaaa);
        remap();
        assertThat(cpu.read64(A)).as("stale, as in hardware").isEqualTo(0xaaaa);
        cpu.tlb.flushPage(A + 0x123);
        assertThat(cpu.read64(A)).isEqualTo(0xbbbb);
    }

    @Test
    void eachPcidHasItsOwnTranslations() {
        pcid(1);
        assertThat(cpu.read64(A)).isEqualTo(0xaaaa);
        remap();
        pcid(2);
        pcid(1);
        assertThat(cpu.read64(A)).as("kept while another one was loaded").isEqualTo(0xaaaa);
        pcid(2);
        assertThat(cpu.read64(A)).as("not taken from the other one").isEqualTo(0xbbbb);
        pcid(1);
        cpu.tlb.flushPcid(1);
        assertThat(cpu.read64(A)).isEqualTo(0xbbbb);
    }

    @Test
    void flushesOfTheSpaceForget() {
        cpu.read64(A);
        remap();
        cpu.tlb.flushNonGlobal();
        assertThat(cpu.read64(A)).isEqualTo(0xbbbb);
        machine.mapping.clear();
        cpu.tlb.flushAll();
        assertThat(cpu.read64(A)).isEqualTo(0xaaaa);
    }

    @Test
    void eptAndVpidSpaces() {
        cpu.eptp = 0x5000 | 0x5e;
        cpu.vpid = 3;
        cpu.updateMode();
        cpu.read64(A);
        remap();
        cpu.tlb.flushEpt(0x7000 | 0x5e);
        assertThat(cpu.read64(A)).as("another EPT pointer").isEqualTo(0xaaaa);
        cpu.tlb.flushEpt(0x5000 | 0x1e);
        assertThat(cpu.read64(A)).isEqualTo(0xbbbb);
        machine.mapping.clear();
        cpu.tlb.flushVpid(3);
        assertThat(cpu.read64(A)).isEqualTo(0xaaaa);
    }

    @Test
    void userAndSupervisorDoNotShare() {
        cpu.read64(A);
        remap();
        cpu.cpl = 3;
        cpu.updateMode();
        assertThat(cpu.read64(A)).isEqualTo(0xbbbb);
    }

    @Test
    void manySpacesWrapAround() {
        for (int i = 0; i < 3000; i++) {
            pcid(i & 0xfff);
            cpu.read64(A);
        }
        remap();
        pcid(0xfff);
        assertThat(cpu.read64(A)).isEqualTo(0xbbbb);
    }

    @Test
    void aReadOnlyPageFaultsOnlyWhenWritten() {
        machine.readOnly.add(A);
        assertThat(cpu.read64(A)).isEqualTo(0xaaaa);
        GuestFault fault = catchThrowableOfType(GuestFault.class, () -> cpu.write64(A, 1));
        assertThat(fault.errorCode).isEqualTo(3);
        assertThat(catchThrowableOfType(GuestFault.class, () -> cpu.probeWrite(A - 4, 8)).address).isEqualTo(A);
        assertThat(machine.memory.read(A, 8)).isEqualTo(0xaaaa);
    }

    @Test
    void accessesAcrossPagesUseBothTranslations() {
        remap();
        machine.mapping.put(A + 0x1000, A);
        cpu.write64(A + 0xffc, 0x1122_3344_5566_7788L);
        assertThat(machine.memory.read(B + 0xffc, 4)).isEqualTo(0x5566_7788L);
        assertThat(machine.memory.read(A, 4)).isEqualTo(0x1122_3344L);
        assertThat(cpu.read64(A + 0xffc)).isEqualTo(0x1122_3344_5566_7788L);
    }

    @Test
    void foreignLinesGoThroughTheMemoryController() {
        assertThat(cpu.read64(A)).isEqualTo(0xaaaa);
        machine.memory.movdir64b(PhysicalMemory.hpa(A, 33), new byte[64], 0);
        machine.memory.write(A + 64, 8, 0x77);
        assertThat(cpu.read64(A)).as("private to a TD: zeros").isZero();
        assertThat(cpu.read64(A + 64)).isEqualTo(0x77);
    }
}
