package cloister.tdx.legality;

/// Somebody who reads and writes metadata fields of one context: the host of a production or of a debug TD, or the guest.
///
/// @param who   column of [MetadataRules]
/// @param l2Vms number of L2 VMs of the TD
record FieldCaller(String name, int context, int who, int l2Vms, RecordedTd td) implements AutoCloseable {
    private static final int VERSION_1 = 1 << 16;
    private static final int R8 = 8;
    private static final int R9 = 9;
    private static final int[] HOST_READ = {34, 11 | VERSION_1, 26 | VERSION_1};
    private static final int[] HOST_WRITE = {-1, 13, 43};
    private static final int[] GUEST_READ = {11, 7 | VERSION_1, 9};
    private static final int[] GUEST_WRITE = {-1, 8, 10};
    private static final String[] NAMES = {"host", "debugger", "guest"};
    private static final long SEPT_VE_DISABLE = 1 << 28;
    private static final long DEBUG = 1;
    /// All but Processor Trace.
    private static final long XFAM = 0x6_1ae7;

    /// What a call gave: status, R8 and RDX.
    record Answer(long status, long value, long next) {
    }

    /// A caller with a TD of its own.
    static FieldCaller of(int context, int who, int l2Vms) {
        return of(context, who, l2Vms, SEPT_VE_DISABLE | (who == MetadataRules.DEBUG ? DEBUG : 0), XFAM);
    }

    static FieldCaller of(int context, int who, int l2Vms, long attributes, long xfam) {
        var setup = who == MetadataRules.GUEST ? TdSteps.running(attributes, xfam, l2Vms) : TdSteps.ready(attributes, xfam, l2Vms);
        return new FieldCaller(NAMES[who], context, who, l2Vms, new RecordedTd(setup));
    }

    /// Another caller of the same TD.
    FieldCaller as(int otherContext, int other) {
        return new FieldCaller(NAMES[other], otherContext, other, l2Vms, td);
    }

    /// The guest calls the host, so that the host can call.
    void leave() {
        if (td.tdcall(0, 0, 0, 0)) {
            throw new IllegalStateException("TDG.VP.VMCALL did not leave the guest");
        }
    }

    private long structure() {
        return context == MetadataRules.TD ? RecordedTd.TDR : context == MetadataRules.VP ? TdSteps.TDVPR : 0;
    }

    boolean writes() {
        return context != MetadataRules.SYS;
    }

    /// Reads an element and asks for the next one.
    Answer read(long id) {
        return call(who == MetadataRules.GUEST ? GUEST_READ[context] : HOST_READ[context], id, 0, 0);
    }

    /// Reads an element as version 0 does; the functions that have only one version as that one.
    Answer readOnly(long id) {
        return call((who == MetadataRules.GUEST ? GUEST_READ[context] : HOST_READ[context]) & ~VERSION_1, id, 0, 0);
    }

    Answer write(long id, long value, long mask) {
        return call(who == MetadataRules.GUEST ? GUEST_WRITE[context] : HOST_WRITE[context], id, value, mask);
    }

    private Answer call(int leaf, long rdx, long r8, long r9) {
        if (who != MetadataRules.GUEST) {
            var regs = td.seamcall(leaf, structure(), rdx, r8, r9);
            return new Answer(regs.get(0), regs.get(R8), regs.get(2));
        }
        td.machine.cpus[0].registers()[R9] = r9;
        if (!td.tdcall(leaf, 0, rdx, r8)) {
            throw new IllegalStateException(name + " left by a TD exit");
        }
        return new Answer(td.guest(0), td.guest(R8), td.guest(2));
    }

    @Override public void close() {
        td.close();
    }

    @Override public String toString() {
        return name + " " + new String[] {"SYS", "TD", "VP"}[context] + " with " + l2Vms + " L2 VMs";
    }
}
