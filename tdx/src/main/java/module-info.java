/// The TDX module: SEAMCALL and TDCALL leaves behind a processor port.
module cloister.tdx {
    requires transitive cloister.spec;
    requires transitive cloister.memory;
    requires transitive cloister.sim;
    requires com.google.gson;
    exports cloister.tdx;
    exports cloister.tdx.port;
    exports cloister.tdx.vectors;
    exports cloister.tdx.inspect;
}
