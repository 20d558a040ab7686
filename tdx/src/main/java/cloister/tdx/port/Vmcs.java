package cloister.tdx.port;

/// A VMCS as the module reads and writes it: typed fields by architectural encoding ("full" access type; bit 0 of the
/// encoding clear). Fields narrower than 64 bits read zero-extended and drop the bits that they lack when written.
/// [SDM Vol. 3 "Field Encoding in VMCS"]
public interface Vmcs {
    /// VMREAD of the field with `encoding`; a field never written reads 0.
    long read(int encoding);

    /// VMWRITE.
    void write(int encoding, long value);
}
