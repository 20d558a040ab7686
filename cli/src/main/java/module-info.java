/// The cloister command.
module cloister.cli {
    requires transitive cloister.spec;
    requires transitive cloister.vmm;
}
