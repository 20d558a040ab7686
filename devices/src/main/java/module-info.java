/// Bus, serial, PCI, RTC, IOAPIC.
module cloister.devices {
    requires transitive cloister.spec;
    requires transitive cloister.memory;
    requires transitive cloister.sim;
    exports cloister.devices;
}
