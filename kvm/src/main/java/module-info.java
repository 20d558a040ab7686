/// The hypervisor and its typed uAPI.
module cloister.kvm {
    requires transitive cloister.spec;
    requires transitive cloister.cpu;
    requires transitive cloister.memory;
    requires transitive cloister.sim;
    exports cloister.kvm;
    exports cloister.kvm.dev;
}
