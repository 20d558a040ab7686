/// Puts the parts together: logical processors with the TDX module installed as SEAM firmware.
module cloister.platform {
    requires transitive cloister.spec;
    requires transitive cloister.cpu;
    requires transitive cloister.tdx;
    exports cloister.platform;
}
