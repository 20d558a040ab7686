package cloister.isa;

/// The operations. One constant per mnemonic of the SDM; operand forms and sizes are in the [Instruction].
///
/// Naming: the mnemonic, with these joined: Jcc is `JCC`, SETcc `SETCC`, CMOVcc `CMOVCC` (condition in
/// [Instruction#cc]); string instructions have no size suffix (`MOVS`, `STOS`, `LODS`, `CMPS`, `SCAS`, `INS`, `OUTS`);
/// the SSE instructions of the same name are `MOVSD_XMM` and `CMPSD_XMM`; near and far forms are `CALL`, `JMP`, `RET`
/// and `CALL_FAR`, `JMP_FAR`, `RET_FAR`; MOV with a segment, control or debug register is `MOV_SREG`, `MOV_CR`, `MOV_DR`;
/// IRET, IRETD, IRETQ are `IRET`; PUSHF*, POPF*, PUSHA*, POPA* lose their suffix; moves between XMM/MMX registers
/// and memory keep the SDM's name.
public enum Op {
    UNKNOWN

}
