/// Platform physical memory: frames, KeyID ownership and integrity.
module cloister.memory {
    requires transitive cloister.spec;
    requires transitive cloister.sim;
    exports cloister.memory;
    exports cloister.memory.plain to cloister.cpu, cloister.tdx;
}
