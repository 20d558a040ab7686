package cloister.tdx.port;

import cloister.spec.vmx.VmcsField;

/// A VMCS as the module reads and writes it. Fields narrower than 64 bits read zero-extended and drop the bits that they
/// lack when written.
public interface Vmcs {
    /// VMREAD; a field never written reads 0.
    long read(VmcsField field);

    /// VMWRITE.
    void write(VmcsField field, long value);
}
