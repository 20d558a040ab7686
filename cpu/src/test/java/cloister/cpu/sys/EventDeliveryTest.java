package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Delivery in 64-bit mode, over identity-mapped 2 MiB.
class EventDeliveryTest {
    private static final int GDT = 0x800;
    private static final int IDT = 0x1000;
    private static final int TSS = 0x3000;
    private static final long HANDLER = 0x9000;
    private static final long TABLES = 0x8_0000;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());
    private final List<Integer> intercepted = new ArrayList<>();

    @BeforeEach
    void longMode() {
        Reset.powerUp(cpu);
        memory.write(TABLES, 8, (TABLES + 0x1000) | 7);
        memory.write(TABLES + 0x1000, 8, (TABLES + 0x2000) | 7);
        memory.write(TABLES + 0x2000, 8, 0x87);
        cpu.cr3 = TABLES;
        cpu.cr4 = Cr4.PAE;
        cpu.efer = Efer.LME | Efer.LMA;
        cpu.cr0 = Cr0.PE | Cr0.PG | Cr0.ET;
        memory.write(GDT + 0x08, 8, 0x00af9b000000ffffL);
        memory.write(GDT + 0x10, 8, 0x00cf93000000ffffL);
        memory.write(GDT + 0x18, 8, 0x00affb000000ffffL); // user code
        memory.write(GDT + 0x20, 8, 0x00cff3000000ffffL);
        memory.write(GDT + 0x28, 8, 0x00cf9b000000ffffL); // 32-bit code
        memory.write(GDT + 0x30, 8, 0x00af1b000000ffffL); // not present
        cpu.gdtrBase = GDT;
        cpu.gdtrLimit = 0x37;
        cpu.idtrBase = IDT;
        cpu.idtrLimit = 0xfff;
        cpu.segBase[Cpu.TR] = TSS;
        cpu.segLimit[Cpu.TR] = 0x67;
        memory.write(TSS + 4, 8, 0x7000);
        memory.write(TSS + 36, 8, 0x5008);
        level(0);
        cpu.rip = 0x1234;
        cpu.r[Cpu.RSP] = 0x6004;
        cpu.tlb.flushAll();
        cpu.vmx = new NonRoot() {
            @Override public boolean active() {
                return true;
            }

            @Override public void interceptException(Cpu c, int vector, int type, int errorCode, boolean hasErrorCode, long address) {
                intercepted.add(vector);
            }
        };
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void level(int cpl) {
        cpu.cpl = cpl;
        Segments.fill(cpu, Cpu.CS, cpl == 0 ? 0x08 : 0x1b, memory.read(GDT + (cpl == 0 ? 0x08 : 0x18), 8));
        Segments.fill(cpu, Cpu.SS, cpl == 0 ? 0x10 : 0x23, memory.read(GDT + (cpl == 0 ? 0x10 : 0x20), 8));
        cpu.updateMode();
    }

    private void gate(int vector, int selector, int access, int ist) {
        memory.write(IDT + vector * 16, 8, (HANDLER & 0xffff) | ((long) selector << 16) | ((long) ist << 32) | ((long) access << 40));
        memory.write(IDT + vector * 16 + 8, 8, 0);
    }

    private void raise(int vector, int errorCode) {
        EventDelivery.deliverFault(cpu, cpu.fault(vector, errorCode));
    }

    private long slot(int n) {
        return memory.read(cpu.r[Cpu.RSP] + 8L * n, 8);
    }

    @Test
    void frameWithErrorCodeOnTheAlignedStack() {
        gate(13, 0x08, 0x8e, 0);
        cpu.rflags(0x202);
        raise(13, 0x18);
        assertThat(cpu.rip).isEqualTo(HANDLER);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x6000 - 48);
        assertThat(new long[] {slot(0), slot(1), slot(2), slot(3), slot(4), slot(5)})
                .containsExactly(0x18, 0x1234, 0x08, 0x10202, 0x6004, 0x10);
        assertThat(cpu.rflags()).as("IF and RF cleared").isEqualTo(2);
    }

    @Test
    void trapGateKeepsIfAndInnerLevelTakesTheTssStack() {
        gate(0x80, 0x08, 0xef, 0);
        level(3);
        cpu.rflags(0x202);
        cpu.nextRip = 0x1236;
        EventDelivery.software(cpu, Interruption.SOFTWARE_INTERRUPT, 0x80);
        assertThat(cpu.nextRip).isEqualTo(HANDLER);
        assertThat(cpu.cpl).isZero();
        assertThat(cpu.segSelector[Cpu.SS]).isZero();
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x7000 - 40);
        assertThat(new long[] {slot(0), slot(1), slot(2), slot(3), slot(4)}).containsExactly(0x1236, 0x1b, 0x202, 0x6004, 0x23);
        assertThat(cpu.rflags() & 0x200).isNotZero();
    }

    @Test
    void interruptStackTable() {
        gate(2, 0x08, 0x8e, 1);
        EventDelivery.deliver(cpu, Interruption.NMI, 2, 0, false, cpu.rip, 0, false);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x5000 - 40);
        assertThat(intercepted).as("NMIs are not exceptions").isEmpty();
    }

    /// Gate of vector 6 broken so that delivering it raises `second`; what reaches the handlers.
    @ParameterizedTest
    @CsvSource({"0x08, 0x0e, 11, 0x33", "0x08, 0x82, 13, 0x33", "0x28, 0x8e, 13, 0x29", "0x30, 0x8e, 11, 0x31", "0x00, 0x8e, 13, 1",
        "0x40, 0x8e, 13, 0x41", "0x18, 0x8e, 13, 0x19"})
    void brokenGates(String selector, String access, int second, String errorCode) {
        gate(6, Integer.decode(selector), Integer.decode(access), 0);
        gate(11, 0x08, 0x8e, 0);
        gate(13, 0x08, 0x8e, 0);
        raise(6, 0);
        assertThat(intercepted).containsExactly(6, second);
        int expected = access.equals("0x0e") || access.equals("0x82") ? 6 * 8 + 3 : Integer.decode(errorCode);
        assertThat(slot(0)).isEqualTo(expected);
    }

    @Test
    void softwareInterruptNeedsTheGatesDpl() {
        gate(0x80, 0x08, 0x8e, 0);
        gate(13, 0x08, 0x8e, 0);
        level(3);
        cpu.nextRip = 0x1236;
        EventDelivery.software(cpu, Interruption.SOFTWARE_INTERRUPT, 0x80);
        assertThat(slot(0)).isEqualTo(0x80 * 8 + 2);
        assertThat(slot(1)).as("a fault of the INT").isEqualTo(0x1234);
    }

    /// [SDM Vol. 3 "Conditions for Generating a Double Fault"], first and second exception.
    @Test
    void doubleFaultTable() {
        int[] contributory = {0, 10, 11, 12, 13};
        int[] pageFaults = {14, 20};
        int[] benign = {1, 3, 4, 5, 6, 7, 16, 17, 18, 19};
        for (int first : contributory) {
            for (int second : contributory) {
                assertThat(EventDelivery.doubles(first, second)).isTrue();
            }
            for (int second : pageFaults) {
                assertThat(EventDelivery.doubles(first, second)).isFalse();
            }
        }
        for (int first : pageFaults) {
            for (int second : contributory) {
                assertThat(EventDelivery.doubles(first, second)).isTrue();
            }
            for (int second : pageFaults) {
                assertThat(EventDelivery.doubles(first, second)).isTrue();
            }
        }
        for (int first : benign) {
            assertThat(EventDelivery.doubles(first, 13)).isFalse();
            assertThat(EventDelivery.doubles(first, 14)).isFalse();
            assertThat(EventDelivery.doubles(13, first)).isFalse();
        }
    }

    @Test
    void doubleFaultAndTripleFault() {
        gate(8, 0x08, 0x8e, 0);
        raise(13, 0); // its gate is empty: #GP, so #DF; the bitmap is asked for each of the three
        assertThat(intercepted).containsExactly(13, 13, 8);
        assertThat(slot(0)).isZero();
        gate(8, 0, 0, 0);
        raise(13, 0);
        assertThat(cpu.events.activity).isEqualTo(PendingEvents.SHUTDOWN);
    }

    @Test
    void pageFaultLoadsCr2AndVectoringInfoTellsTheFirstEvent() {
        var infos = new ArrayList<Integer>();
        cpu.vmx = new NonRoot() {
            @Override public boolean active() {
                return true;
            }

            @Override public void interceptException(Cpu c, int vector, int type, int errorCode, boolean hasErrorCode, long address) {
                infos.add(c.events.vectoringInfo);
            }
        };
        gate(14, 0x08, 0x8e, 0);
        cpu.r[Cpu.RSP] = 0x20_0000_0000L; // not mapped: pushing faults, and so does the double fault
        EventDelivery.deliver(cpu, Interruption.EXTERNAL, 0x50, 0, false, cpu.rip, 0, false);
        assertThat(infos.getFirst()).isEqualTo(Interruption.VALID | 0x50);
        gate(0x50, 0x08, 0x8e, 0);
        gate(14, 0x08, 0x8e, 1);
        infos.clear();
        cpu.events.activity = PendingEvents.ACTIVE;
        cpu.r[Cpu.RSP] = 0x20_0000_0000L;
        EventDelivery.deliver(cpu, Interruption.EXTERNAL, 0x50, 0, false, cpu.rip, 0, false);
        assertThat(infos).containsExactly(Interruption.VALID | 0x50);
        assertThat(cpu.cr2).isEqualTo(0x20_0000_0000L - 40);
        assertThat(cpu.events.vectoringInfo).isZero();
        assertThat(slot(0)).as("write, not present").isEqualTo(2);
    }
}
