package cloister.kvm;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.HexFormat;

/// `struct kvm_run`, the page that the VMM and KVM share. The VMM answers an exit by storing into the fields that
/// the exit names, then calls [KvmVcpu#run] again.
public final class KvmRun implements Persistent {
    /// Room for the data of one exit.
    public static final int DATA_SIZE = 4096;

    /// In: [KvmVcpu#run] completes the pending exit and returns [KvmExit.Intr] without entering the guest.
    public boolean immediateExit;
    /// IO and MMIO data, little-endian items one after the other; filled by KVM for output and writes, by the VMM
    /// for input and reads.
    public final byte[] data = new byte[DATA_SIZE];
    /// Answer to HYPERCALL, TDX and RDMSR exits.
    public long ret;
    /// Answer to RDMSR and WRMSR exits: true makes the access fault.
    public boolean msrError;
    KvmExit exit;

    /// Only KVM creates it.
    public KvmRun() {
    }

    /// Why the last [KvmVcpu#run] returned; null before the first.
    public KvmExit exit() {
        return exit;
    }

    /// Stores the exit; KVM's side of the page.
    public void exit(KvmExit newExit) {
        exit = newExit;
    }

    /// The item of `size` bytes (1 to 8) at `at` of [#data], zero-extended.
    public long item(int at, int size) {
        long value = 0;
        for (int i = 0; i < size; i++) {
            value |= (data[at + i] & 0xffL) << (8 * i);
        }
        return value;
    }

    /// Stores the low `size` bytes (1 to 8) of `value` at `at` of [#data].
    public void item(int at, int size, long value) {
        for (int i = 0; i < size; i++) {
            data[at + i] = (byte) (value >>> (8 * i));
        }
    }

    @Override public String stateName() {
        return "run";
    }

    @Override public void describe(StateSink to) {
        to.flag("immediateExit", immediateExit);
        to.text("data", HexFormat.of().formatHex(data));
        to.field("ret", ret);
        to.flag("msrError", msrError);
        to.text("exit", exit);
    }
}
