/// The silicon tester: runs user-mode instructions natively and on the processor of `cloister.cpu` and compares.
module cloister.silicon {
    requires cloister.cpu;
    requires cloister.isa;
    requires cloister.memory;
    requires cloister.sim;
    requires org.tukaani.xz;
    exports cloister.silicon;
}
