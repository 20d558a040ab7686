package cloister.cpu.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.memory.PhysicalMemory;
import cloister.spec.x86.ExceptionVector;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// What the engine promises around instructions: precise faults, self-modifying code, budgets, owners of frames.
class EngineTest {
    private static final long UNMAPPED = 0x40000;
    private final Machine machine = new Machine();
    private final Cpu cpu = machine.cpu;

    private GuestFault fault() {
        return catchThrowableOfType(GuestFault.class, () -> {
            while (true) {
                Interpreter.run(cpu, 100);
            }
        });
    }

    /// INC RAX; then an instruction that faults on memory at RBX. Nothing of it may be seen.
    @ParameterizedTest
    @CsvSource({"MOV load, 488b0b, 4", "MOV store, 48890b, 6", "ADD to memory, 48010b, 6", "ADD from memory, 48030b, 4",
        "CMP and JE, 483b0b7400, 4", "INC memory, 48ff03, 6", "XCHG, 48870b, 6", "CMPXCHG, f0480fb10b, 6", "PUSH memory, ff33, 4",
        "POP memory, 8f03, 6", "CALL memory, ff13, 4", "BTS, 480fab0b, 6", "SHL, 48d123, 6", "MOVZX, 0fb60b, 4", "IMUL, 480faf0b, 4"})
    void faultsArePrecise(String name, String hex, int errorCode) {
        machine.mapping.put(UNMAPPED, -1L);
        machine.code("48ffc0" + hex);
        cpu.r[Cpu.RBX] = UNMAPPED + 0x10;
        cpu.r[Cpu.RAX] = -1;
        cpu.r[Cpu.RCX] = 5;
        cpu.r[Cpu.RSP] = 0x9000;
        cpu.rflags(Flags.CF | 2);
        GuestFault fault = fault();
        assertThat(fault.vector).isEqualTo(ExceptionVector.PF);
        assertThat(fault.errorCode).isEqualTo(errorCode & 2);
        assertThat(fault.address).isEqualTo(UNMAPPED + 0x10);
        assertThat(cpu.rip).isEqualTo(Machine.CODE + 3);
        assertThat(cpu.retired).isEqualTo(1);
        assertThat(cpu.r[Cpu.RAX]).isZero();
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(5);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x9000);
        assertThat(cpu.rflags()).isEqualTo(Flags.CF | Flags.ZF | Flags.AF | Flags.PF | 2); // INC's, CF kept
    }

    @ParameterizedTest
    @CsvSource({"PUSH, 50", "CALL, e800000000", "POP, 58", "RET, c3", "LEAVE, c9", "PUSH immediate, 6a01"})
    void stackFaultsArePrecise(String name, String hex) {
        machine.mapping.put(UNMAPPED, -1L);
        machine.code(hex);
        cpu.r[Cpu.RSP] = UNMAPPED + 0x18;
        cpu.r[Cpu.RBP] = UNMAPPED + 0x20;
        assertThat(fault().vector).isEqualTo(ExceptionVector.PF);
        assertThat(cpu.rip).isEqualTo(Machine.CODE);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(UNMAPPED + 0x18);
        assertThat(cpu.r[Cpu.RBP]).isEqualTo(UNMAPPED + 0x20);
        assertThat(cpu.retired).isZero();
    }

    @Test
    void aWriteAcrossPagesFaultsBeforeItWritesAnything() {
        machine.mapping.put(UNMAPPED, -1L);
        machine.code("48890b"); // MOV [RBX], RCX
        cpu.r[Cpu.RBX] = UNMAPPED - 4;
        cpu.r[Cpu.RCX] = -1;
        assertThat(fault().address).isEqualTo(UNMAPPED);
        assertThat(machine.memory.read(UNMAPPED - 4, 4)).isZero();
    }

    @Test
    void nonCanonicalAddressesRaiseGpOrSs() {
        machine.code("488b0b"); // MOV RCX, [RBX]
        cpu.r[Cpu.RBX] = 0x8000_0000_0000L;
        assertThat(fault().vector).isEqualTo(ExceptionVector.GP);
        machine.code("488b4d00"); // MOV RCX, [RBP]
        cpu.rip = Machine.CODE;
        cpu.r[Cpu.RBP] = 0x8000_0000_0000L;
        assertThat(fault().vector).isEqualTo(ExceptionVector.SS);
    }

    @Test
    void aFetchFaultsAtTheTarget() {
        machine.mapping.put(UNMAPPED, -1L);
        machine.code("ffe3"); // JMP RBX
        cpu.r[Cpu.RBX] = UNMAPPED + 8;
        GuestFault fault = fault();
        assertThat(fault.address).isEqualTo(UNMAPPED + 8);
        assertThat(cpu.rip).isEqualTo(UNMAPPED + 8);
        assertThat(cpu.retired).isEqualTo(1);
    }

    @Test
    void anInstructionAcrossPagesFaultsOnItsSecondPage() {
        long end = UNMAPPED;
        machine.mapping.put(end, -1L);
        machine.codeAt(end - 3, "48b811"); // the start of MOV RAX, imm64
        cpu.rip = end - 3;
        GuestFault fault = fault();
        assertThat(fault.address).isEqualTo(end);
        assertThat(cpu.rip).isEqualTo(end - 3);
    }

    /// The same instruction across pages again and again: its second part changes, then its second page.
    @Test
    void anInstructionAcrossPagesIsReadAfresh() {
        machine.codeAt(0x1ffe, "b805000000ebf9"); // MOV EAX, imm32 with one byte in the first page; JMP back
        cpu.rip = 0x1ffe;
        Interpreter.run(cpu, 10);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(5);
        machine.memory.write(0x2001, 1, 0x77);
        Interpreter.run(cpu, 10);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(0x770005);
        machine.memory.write(0x30000, 8, 0xf9eb010203L);
        machine.mapping.put(0x2000L, 0x30000L);
        Interpreter.run(cpu, 10);
        assertThat(cpu.r[Cpu.RAX]).as("stale until flushed").isEqualTo(0x770005);
        cpu.tlb.flushPage(0x2000);
        Interpreter.run(cpu, 10);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(0x1020305);
    }

    // Self- and cross-modifying code

    @Test
    void codeMaySetItsOwnNextInstruction() {
        // MOV byte [RIP+1], 0xC3's neighbour: the immediate of the next MOV EAX changes from 1 to 7.
        machine.code("c60501000000 07 b801000000 0f0b".replace(" ", ""));
        assertThat(fault().vector).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(7);
    }

    @Test
    void codeIsForgottenWhenSomebodyElseWritesIt() {
        machine.code("b801000000 0f0b".replace(" ", ""));
        fault();
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(1);
        machine.memory.write(Machine.CODE + 1, 1, 9);
        cpu.rip = Machine.CODE;
        fault();
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(9);
    }

    @Test
    void codeIsForgottenWhenWrittenThroughAnotherMapping() {
        machine.mapping.put(0x50000L, Machine.CODE);
        machine.code("b801000000 c60501f0040005 ebf2".replace(" ", "")); // MOV EAX,1; MOV [50001],5; JMP back
        machine.codeAt(Machine.CODE + 5, "c6042501000500 05".replace(" ", "") + "ebf1"); // absolute form
        Interpreter.run(cpu, 3);
        Interpreter.run(cpu, 1);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(5);
    }

    @Test
    void dataInACodePageKeepsTheCode() {
        machine.code("4889056a000000 75f7 0f0b".replace(" ", "")); // MOV [RIP+6A], RAX; JNE back
        cpu.rflags(2);
        Interpreter.run(cpu, 50);
        int before = cpu.code.generation;
        Interpreter.run(cpu, 1000);
        assertThat(cpu.code.generation).isEqualTo(before);
        assertThat(cpu.retired).isGreaterThan(1000);
    }

    // Budgets and counts

    /// A loop of 3 instructions, 10 rounds, with a forward jump and a call inside: any slicing gives the same count.
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 5, 7, 1000})
    void retiredInstructionsAreExact(int slice) {
        // MOV ECX,10; L: CALL f; DEC ECX; JNE L; UD2; f: TEST ECX,1; JE +1; NOP; RET
        machine.code("b90a000000 e806000000 ffc9 75f7 0f0b f7c101000000 7401 90 c3".replace(" ", ""));
        GuestFault fault = catchThrowableOfType(GuestFault.class, () -> {
            while (true) {
                Interpreter.run(cpu, slice);
            }
        });
        assertThat(fault.vector).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.retired).isEqualTo(1 + 10 * 3 + 10 * 3 + 5);
    }

    /// The cache runs full in the middle of a program, at a link and at a look-up.
    @ParameterizedTest
    @ValueSource(ints = {1, 3, 6, 9, 20})
    void aFullCodeCacheStartsAgain(int before) {
        machine.code("b90a000000 e806000000 ffc9 75f7 0f0b f7c101000000 7401 90 c3".replace(" ", ""));
        Interpreter.run(cpu, before);
        cpu.code.next = CodeCache.PLACE_MASK - 100;
        int generation = cpu.code.generation;
        assertThat(fault().vector).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.retired).isEqualTo(1 + 10 * 3 + 10 * 3 + 5);
        cpu.rip = Machine.CODE + 0x800;
        fault();
        assertThat(cpu.code.generation).isGreaterThan(generation);
    }

    @Test
    void aRepeatedStringInstructionRetiresOnceAndSpendsBudget() {
        machine.code("f3aa 0f0b".replace(" ", "")); // REP STOSB
        cpu.r[Cpu.RCX] = 100_000;
        cpu.r[Cpu.RDI] = 0x100000;
        Interpreter.run(cpu, 10);
        assertThat(cpu.rip).isEqualTo(Machine.CODE);
        assertThat(cpu.retired).isZero();
        assertThat(cpu.r[Cpu.RCX]).isLessThan(100_000);
        fault();
        assertThat(cpu.retired).isEqualTo(1);
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(0x100000 + 100_000);
    }

    @Test
    void attentionStopsAtTheNextBoundary() {
        machine.code("ebfe");
        cpu.attention = 2;
        Interpreter.run(cpu, 1000);
        assertThat(cpu.retired).isZero();
        Interpreter.step(cpu);
        assertThat(cpu.retired).isEqualTo(1);
    }

    // Owners

    @Test
    void aFrameThatChangesItsOwnerIsNoLongerReadDirectly() {
        machine.code("488b0b 488b0b 0f0b".replace(" ", "")); // MOV RCX,[RBX] twice
        machine.memory.write(0x20000, 8, 77);
        cpu.r[Cpu.RBX] = 0x20000;
        machine.step(1);
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(77);
        machine.memory.movdir64b(PhysicalMemory.hpa(0x20000, 40), new byte[64], 0); // a TDX KeyID takes the line
        machine.step(1);
        assertThat(cpu.r[Cpu.RCX]).as("zeros, as a shared KeyID reads private memory").isZero();
    }
}
