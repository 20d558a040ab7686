/// Constants, registers, bit-fields, ABI layouts and legality tables of the specifications.
module cloister.spec {
    exports cloister.spec.x86;
    exports cloister.spec.vmx;
    exports cloister.spec.tdx;
    exports cloister.spec.kvm;
}
