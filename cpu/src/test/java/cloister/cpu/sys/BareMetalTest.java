package cloister.cpu.sys;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Msr;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// A guest that goes from real-address mode through protected mode to 64-bit mode, with interrupts, faults, privilege changes and
/// SYSCALL on its way. It leaves marks in memory from 600H; what it must have met is asserted.
class BareMetalTest {
    private static final int GDT = 0x800;
    private static final int IDT32 = 0x1000;
    private static final int IDT64 = 0x2000;
    private static final int TSS32 = 0x500;
    private static final int TSS64 = 0x3000;
    private static final int STACK = 0x7000;
    private static final int USER_STACK = 0x6000;
    private static final int IST_STACK = 0x5000;
    private static final long TABLES = 0x10_0000;

    private final PhysicalMemory memory = new PhysicalMemory(4 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    @AfterEach
    void close() {
        memory.close();
    }

    private void write(long at, int bytes, long value) {
        memory.write(at, bytes, value);
    }

    private void load(Assembler a, long at) {
        byte[] code = a.assemble();
        memory.write(at, code, 0, code.length);
    }

    private void descriptor(int selector, long base, long limit, int access, int flags) {
        write(GDT + selector, 8, (limit & 0xffff) | ((base & 0xff_ffff) << 16) | ((long) access << 40)
                | ((limit & 0xf_0000) << 32) | ((long) flags << 52) | ((base & 0xff00_0000L) << 32));
    }

    private void gate32(int vector, int selector, long target, int access) {
        write(IDT32 + vector * 8, 8, (target & 0xffff) | ((long) selector << 16) | ((long) access << 40) | ((target & 0xffff_0000L) << 32));
    }

    private void gate64(int vector, int selector, long target, int access, int ist) {
        write(IDT64 + vector * 16, 8, (target & 0xffff) | ((long) selector << 16) | ((long) ist << 32) | ((long) access << 40)
                | ((target & 0xffff_0000L) << 32));
        write(IDT64 + vector * 16 + 8, 8, target >>> 32);
    }

    private void tables() {
        descriptor(0x08, 0, 0xfffff, 0x9a, 0xc); // 32-bit code
        descriptor(0x10, 0, 0xfffff, 0x92, 0xc); // data
        descriptor(0x18, 0, 0xfffff, 0xfa, 0xc); // 32-bit user code
        descriptor(0x20, 0, 0xfffff, 0xf2, 0xc); // user data
        descriptor(0x28, 0, 0xfffff, 0xfa, 0xa); // 64-bit user code
        descriptor(0x30, 0, 0xfffff, 0x9a, 0xa); // 64-bit code
        descriptor(0x38, 0, 0xfffff, 0x92, 0xc); // data, where SYSCALL finds SS
        descriptor(0x48, TSS32, 0x67, 0x89, 0);
        descriptor(0x50, TSS64, 0x67, 0x89, 0);
        write(0x7f0, 2, 0x5f); // GDTR image
        write(0x7f2, 4, GDT);
        write(0x7e0, 2, 0x7ff); // IDTR image, 32-bit
        write(0x7e2, 4, IDT32);
        write(0x7d0, 2, 0xfff); // IDTR image, 64-bit
        write(0x7d2, 8, IDT64);
        write(TSS32 + 4, 4, STACK);
        write(TSS32 + 8, 2, 0x10);
        write(TSS64 + 4, 8, STACK);
        write(TSS64 + 36, 8, IST_STACK);
        write(TABLES, 8, (TABLES + 0x1000) | 7); // the first 2 MiB, identity, for user too
        write(TABLES + 0x1000, 8, (TABLES + 0x2000) | 7);
        write(TABLES + 0x2000, 8, 0x87);
    }

    private void realMode() {
        write(0x21 * 4, 4, 0x7d00);
        load(new Assembler(CodeMode.BITS16, 0x7d00).inc(wordAt(abs(0x600))).iret(2), 0x7d00);
        load(new Assembler(CodeMode.BITS16, 0x7c00)
                .xor(AX, AX).mov(DS, AX).mov(SS, AX).mov(SP, STACK)
                .op(Op.INT, imm(0x21)).op(Op.INT, imm(0x21))
                .op(4, Op.LGDT, abs(0x7f0)).op(4, Op.LIDT, abs(0x7e0))
                .mov(EAX, CR0).or(EAX, 1).mov(CR0, EAX)
                .jmp(far32(0x08, 0x7e00)), 0x7c00);
    }

    private void protectedMode() {
        load(new Assembler(CodeMode.BITS32, 0x8100).inc(dwordAt(abs(0x604).through(SS))).iret(4), 0x8100);
        gate32(0x30, 0x08, 0x8100, 0xee);
        load(new Assembler(CodeMode.BITS32, 0x7e00)
                .mov(EAX, 0x10).mov(DS, EAX).mov(ES, EAX).mov(SS, EAX).mov(ESP, STACK)
                .mov(EAX, 0x48).ltr(AX)
                .op(Op.INT, imm(0x30))
                .op(4, Op.PUSH, imm(0x23)).op(4, Op.PUSH, imm(USER_STACK)).op(4, Op.PUSH, imm(0x3002))
                .op(4, Op.PUSH, imm(0x1b)).op(4, Op.PUSH, imm(0x7f00))
                .iret(4), 0x7e00);
        load(new Assembler(CodeMode.BITS32, 0x7f00)
                .op(Op.INT, imm(0x30))
                .mov(EAX, 0x23).mov(DS, EAX)
                .hlt(), 0x7f00);
        gate32(13, 0x08, 0x8200, 0x8e);
        load(new Assembler(CodeMode.BITS32, 0x8200)
                .mov(EAX, 0x10).mov(DS, EAX)
                .pop(EAX).mov(abs(0x608), EAX).pop(EAX).mov(abs(0x60c), EAX).pop(EAX).mov(abs(0x610), EAX)
                .mov(EAX, CR4).or(EAX, (int) Cr4.PAE).mov(CR4, EAX)
                .mov(EAX, (int) TABLES).mov(CR3, EAX)
                .mov(ECX, Msr.IA32_EFER).xor(EDX, EDX).mov(EAX, (int) (Efer.LME | Efer.SCE)).wrmsr()
                .mov(EAX, CR0).or(EAX, (int) (Cr0.PG | Cr0.WP)).mov(CR0, EAX)
                .jmp(far32(0x30, 0x8400)), 0x8200);
    }

    private void longMode() {
        gate64(14, 0x30, 0x8800, 0x8e, 1);
        load(new Assembler(CodeMode.BITS64, 0x8800)
                .mov(abs(0x620), RSP).mov(RAX, CR2).mov(abs(0x628), RAX)
                .pop(RAX).mov(abs(0x630), RAX)
                .add(qwordAt(mem(RSP)), 3) // over the faulting MOV
                .iret(8), 0x8800);
        gate64(0x40, 0x30, 0x8900, 0x8e, 0);
        load(new Assembler(CodeMode.BITS64, 0x8900).inc(dwordAt(abs(0x650))).iret(8), 0x8900);
        gate64(1, 0x30, 0x8980, 0x8e, 0);
        load(new Assembler(CodeMode.BITS64, 0x8980)
                .inc(dwordAt(abs(0x658))).and(qwordAt(mem(RSP, 16)), ~0x100).iret(8), 0x8980);
        load(new Assembler(CodeMode.BITS64, 0x8400)
                .mov(EAX, 0x50).ltr(AX)
                .lidt(abs(0x7d0))
                .mov(RBX, 0x12_3456_7000L).mov(RCX, mem(RBX))
                .mov(ECX, Msr.IA32_STAR).xor(EAX, EAX).mov(EDX, (0x18 << 16) | 0x30).wrmsr()
                .mov(ECX, Msr.IA32_LSTAR).mov(EAX, 0x8a00).xor(EDX, EDX).wrmsr()
                .mov(ECX, Msr.IA32_FMASK).mov(EAX, 0x200).xor(EDX, EDX).wrmsr()
                .mov(ECX, 0x8b00).mov(R11D, 0x202).mov(ESP, USER_STACK)
                .op(8, Op.SYSRET), 0x8400);
        load(new Assembler(CodeMode.BITS64, 0x8b00)
                .op(Op.MOV_SREG, EAX, CS).mov(abs(0x640), EAX)
                .syscall(), 0x8b00);
        load(new Assembler(CodeMode.BITS64, 0x8a00)
                .mov(abs(0x648), RCX).mov(abs(0x660), R11).mov(RSP, STACK)
                .pushf().or(qwordAt(mem(RSP)), 0x100).popf().nop() // single-step the NOP
                .sti().hlt().cli().hlt(), 0x8a00);
    }

    @Test
    void fromRealModeToRing3AndBack() {
        Reset.powerUp(cpu);
        cpu.segSelector[Cpu.CS] = 0;
        cpu.segBase[Cpu.CS] = 0;
        cpu.rip = 0x7c00;
        tables();
        realMode();
        protectedMode();
        longMode();
        cpu.events.raiseExternal(0x40);
        var stop = new RunLoop(cpu, null).run();
        assertThat(stop).as(cpu.dump()).isEqualTo(RunLoop.Stop.HALTED_FOREVER);
        assertThat(memory.read(0x600, 2)).as("real-mode INT").isEqualTo(2);
        assertThat(memory.read(0x604, 4)).as("INT in ring 0 and in ring 3").isEqualTo(2);
        assertThat(memory.read(0x608, 4)).as("error code of HLT in ring 3").isZero();
        assertThat(memory.read(0x60c, 4)).as("EIP of #GP").isEqualTo(0x7f00 + 2 + 5 + 2);
        assertThat(memory.read(0x610, 4)).as("CS of #GP").isEqualTo(0x1b);
        assertThat(memory.read(0x620, 8)).as("RSP on the IST stack").isEqualTo(IST_STACK - 48);
        assertThat(memory.read(0x628, 8)).as("CR2").isEqualTo(0x12_3456_7000L);
        assertThat(memory.read(0x630, 8)).as("error code of #PF").isZero();
        assertThat(memory.read(0x640, 4)).as("CS after SYSRET").isEqualTo(0x2b);
        assertThat(memory.read(0x648, 8)).as("RCX after SYSCALL").isEqualTo(cpuReturn());
        assertThat(memory.read(0x660, 8)).as("R11 after SYSCALL").isEqualTo(0x202);
        assertThat(memory.read(0x650, 4)).as("external interrupt").isEqualTo(1);
        assertThat(memory.read(0x658, 4)).as("single step").isEqualTo(1);
        assertThat(cpu.dr6 & DebugRegisters.DR6_BS).isNotZero();
        assertThat(cpu.cpl).isZero();
    }

    private long cpuReturn() {
        for (long at = 0x8b00; at < 0x8b40; at++) {
            if (memory.read(at, 2) == 0x050f) {
                return at + 2;
            }
        }
        return -1;
    }
}
