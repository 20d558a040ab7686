/// The logical processor.
module cloister.cpu {
    requires transitive cloister.spec;
    requires transitive cloister.isa;
    requires transitive cloister.memory;
    requires transitive cloister.sim;
    exports cloister.cpu;
    exports cloister.cpu.firmware to cloister.platform;
    exports cloister.cpu.core to cloister.silicon;
    exports cloister.cpu.emulation;
    exports cloister.cpu.fpu;
    exports cloister.cpu.vmx;
    exports cloister.cpu.sys;
}
