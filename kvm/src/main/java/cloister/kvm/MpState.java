package cloister.kvm;

/// KVM_MP_STATE values of x86.
public enum MpState {
    RUNNABLE, UNINITIALIZED, INIT_RECEIVED, HALTED, SIPI_RECEIVED
}
