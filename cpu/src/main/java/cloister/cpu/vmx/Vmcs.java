package cloister.cpu.vmx;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.vmx.VmcsField;

/// A virtual-machine control structure: its fields as typed values and its launch state. [SDM Vol. 3 "Virtual Machine Control
/// Structures"]
///
/// It stands for the VMCS region at [#pa]; the frame itself holds nothing but the revision identifier.
public final class Vmcs implements Persistent {
    /// Bits 30:0 of a VMCS region's first word and of IA32_VMX_BASIC.
    public static final int REVISION = 0x11;

    private final long pa;
    private final long[] values = new long[VmcsField.values().length];
    boolean launched;
    /// The LP on which this VMCS is active, -1 when it is on none.
    int activeOn = -1;

    /// @param pa the physical address of the region, KeyID stripped
    public Vmcs(long pa) {
        this.pa = pa;
        values[VmcsField.VMCS_LINK_POINTER.ordinal()] = -1;
    }

    @Override public String stateName() {
        return "vmcs " + Long.toHexString(pa);
    }

    @Override public void describe(StateSink out) {
        for (var field : VmcsField.values()) {
            if (values[field.ordinal()] != 0) {
                out.field(field.name(), values[field.ordinal()]);
            }
        }
        out.field("launched", launched ? 1 : 0);
        out.field("activeOn", activeOn);
    }

    /// The physical address of the region.
    public long pa() {
        return pa;
    }

    /// The value of `field`, zero-extended.
    public long read(VmcsField field) {
        return values[field.ordinal()];
    }

    /// Sets `field`; bits that the field lacks are dropped.
    public void write(VmcsField field, long value) {
        values[field.ordinal()] = value & field.mask();
    }

    /// The low 32 bits of `field`.
    public int readInt(VmcsField field) {
        return (int) values[field.ordinal()];
    }

    boolean has(VmcsField controls, int bit) {
        return ((int) values[controls.ordinal()] & bit) != 0;
    }

    /// Whether an entry must be VMRESUME.
    public boolean launched() {
        return launched;
    }

    /// Launch state "clear", as VMCLEAR leaves it.
    public void clear() {
        launched = false;
        activeOn = -1;
    }
}
