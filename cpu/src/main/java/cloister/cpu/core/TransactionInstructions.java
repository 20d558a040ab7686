package cloister.cpu.core;

import cloister.isa.Instruction;

/// Restricted transactional memory on a processor that aborts every transaction when it begins, which the architecture allows: programs
/// must have another way. [SDM Vol. 1 "Programming with Intel Transactional Synchronization Extensions"]
final class TransactionInstructions {
    private TransactionInstructions() {
    }

    /// XBEGIN: on to the fallback address; the abort status in EAX says neither why nor that a retry may help.
    static void begin(Cpu cpu, Instruction insn) {
        BranchInstructions.transfer(cpu, cpu.nextRip + insn.imm, cpu.is64Bit() ? 8 : 4); // a 16-bit displacement cuts nothing off
        cpu.reg(Cpu.RAX, 4, 0);
    }

    /// XEND: there is never a transaction to end.
    static void end(Cpu cpu, Instruction insn) {
        throw cpu.gp(0);
    }

    /// XTEST: ZF says that there is no transaction.
    static void test(Cpu cpu, Instruction insn) {
        cpu.arithmeticFlags(Flags.ZF);
    }
}
