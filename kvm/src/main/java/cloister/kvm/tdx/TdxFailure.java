package cloister.kvm.tdx;

/// A SEAMCALL failed where that cannot happen unless KVM, the module or the platform is wrong.
public final class TdxFailure extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /// @param what   the function
    /// @param status what it returned
    public TdxFailure(String what, long status) {
        super(what + " failed: 0x" + Long.toHexString(status));
    }
}
