/// The x86 instruction table, decoder, disassembler and assembler.
module cloister.isa {
    requires transitive cloister.spec;
    exports cloister.isa;
}
