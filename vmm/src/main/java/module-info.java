/// Machine types, ACPI, firmware and kernel loading, TD build.
module cloister.vmm {
    requires transitive cloister.spec;
    requires transitive cloister.kvm;
    requires transitive cloister.devices;
    requires transitive cloister.platform;
    exports cloister.vmm;
    exports cloister.vmm.observe;
}
