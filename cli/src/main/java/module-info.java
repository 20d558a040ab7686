/// The cloister command.
module cloister.cli {
    requires cloister.spec;
    requires cloister.vmm;
    requires cloister.tdx;
    requires cloister.devices;
    requires cloister.sim;
    requires com.google.gson;
    requires info.picocli;
    requires org.apache.commons.compress;
    requires org.tukaani.xz;
    requires com.github.luben.zstd_jni;

    opens cloister.cli to info.picocli;
}
