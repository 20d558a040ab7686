/// Instruction semantics for software that carries out instructions of its guests: a processor's registers, without its memory.
package cloister.cpu.emulation;
