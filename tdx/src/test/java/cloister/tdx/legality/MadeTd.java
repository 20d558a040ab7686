package cloister.tdx.legality;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import java.util.HexFormat;

/// A TD just before TDH.MNG.INIT, whose TD_PARAMS a test writes, and which it then initialises and runs.
final class MadeTd implements AutoCloseable {
    static final long PARAMS = 0x21_0000;
    static final int PARAMS_BYTES = 1024;
    static final int CPUID_CONFIG = 256;
    static final int CONFIGURABLE = 18;
    private static final long FREE_PAGES = RecordedTd.TDVPR;
    private static final long PAGE = 0x1000;
    private static final int VE = 20;
    private static final int CPUID_EXIT = 10;
    private static final long CODE_64 = 0xa09b;
    /// ATTRIBUTES 0, XFAM E7H, 4 VCPUs, a 4-level write-back Secure EPT, 2.5 GHz.
    private static final String VALID = "0000000000000000e70000000000000004000000000000001e0000000000000000000000000000006400000000000000";

    final RecordedTd td;

    MadeTd() {
        this("tdpre");
    }

    /// @param setup the recordings' setup that ends just before TDH.MNG.INIT
    MadeTd(String setup) {
        td = new RecordedTd("{\"op\":\"include\",\"file\":\"setup/" + setup + ".jsonl\"}");
        reset();
    }

    /// Valid parameters, and a TD that was not initialised yet.
    void reset() {
        var params = new byte[PARAMS_BYTES];
        byte[] valid = HexFormat.of().parseHex(VALID);
        System.arraycopy(valid, 0, params, 0, valid.length);
        td.machine.memory.write(PARAMS, params, 0, params.length);
        td.tdcs.u32(Tdcs.OP_STATE, 0);
    }

    void param(int offset, int bytes, long value) {
        td.machine.memory.write(PARAMS + offset, bytes, value);
    }

    long param(int offset, int bytes) {
        return td.machine.memory.read(PARAMS + offset, bytes);
    }

    void attributes(long value) {
        param(0, 8, value);
    }

    void xfam(long value) {
        param(8, 8, value);
    }

    /// TD_PARAMS.CPUID_CONFIG.
    void cpuid(int entry, int register, int value) {
        param(CPUID_CONFIG + 16 * entry + 4 * register, 4, value & 0xffff_ffffL);
    }

    int cpuid(int entry, int register) {
        return (int) param(CPUID_CONFIG + 16 * entry + 4 * register, 4);
    }

    /// TDH.MNG.INIT.
    SeamRegs init() {
        return td.seamcall(21, RecordedTd.TDR, PARAMS, 0, 0);
    }

    /// The TDCS page numbers that the TD has.
    void addTdcsPages(int upTo) {
        for (int i = td.tdr.numTdcx(); i < upTo; i++) {
            require(td.seamcall(1, FREE_PAGES + (0x100 + i) * PAGE, RecordedTd.TDR, 0, 0));
        }
        td.tdcs = new Tdcs(td.machine.memory, td.tdr);
    }

    /// Adds the TDVPS of one more VCPU.
    ///
    /// @return its TDVPR
    long createVcpu(int index, int pages) {
        long tdvpr = FREE_PAGES + 0x20L * index * PAGE;
        require(td.seamcall(10, tdvpr, RecordedTd.TDR, 0, 0));
        for (int i = 1; i < pages; i++) {
            require(td.seamcall(4, tdvpr + i * PAGE, tdvpr, 0, 0));
        }
        return tdvpr;
    }

    /// TDH.VP.INIT, version 1.
    SeamRegs initVcpu(long tdvpr, long x2apicId) {
        return td.seamcall(22 | (1 << 16), tdvpr, 0, x2apicId, 0);
    }

    /// Runs the first VCPU on LP 0 in 64-bit mode.
    void enter(long x2apicId) {
        long tdvpr = createVcpu(0, 6);
        require(initVcpu(tdvpr, x2apicId));
        require(td.seamcall(17, RecordedTd.TDR, 0, 0, 0));
        td.seamcall(0, tdvpr, 0, 0, 0);
        if (!td.machine.inGuest(0)) {
            throw new IllegalStateException("the guest does not run");
        }
        guest(VmcsField.GUEST_CS_ACCESS_RIGHTS, CODE_64);
        guest(VmcsField.GUEST_EFER, 0xd01);
        guest(VmcsField.GUEST_CR0, 0x8000_0031L);
    }

    void guest(VmcsField field, long value) {
        td.machine.core.vmcs(td.machine.cpus[0]).write(field, value);
    }

    long guest(VmcsField field) {
        return td.machine.core.vmcs(td.machine.cpus[0]).read(field);
    }

    private static void require(SeamRegs regs) {
        if (regs.get(0) != 0) {
            throw new IllegalStateException("the setup failed with " + Long.toHexString(regs.get(0)));
        }
    }

    /// CPUID by the guest: EAX, EBX, ECX, EDX; or null for a #VE, whose information is then consumed.
    int[] guestCpuid(int leaf, int subleaf) {
        var gpr = td.machine.cpus[0].registers();
        gpr[0] = leaf & 0xffff_ffffL;
        gpr[1] = subleaf & 0xffff_ffffL;
        var vmcs = td.machine.core.vmcs(td.machine.cpus[0]);
        vmcs.write(VmcsField.EXIT_REASON, CPUID_EXIT);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, 0);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, 2);
        if (!td.machine.vmExit(0)) {
            throw new IllegalStateException("CPUID left the TD");
        }
        long event = vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
        if (event == 0) {
            return new int[] {(int) gpr[0], (int) gpr[3], (int) gpr[1], (int) gpr[2]};
        }
        long mode = vmcs.read(VmcsField.GUEST_CS_ACCESS_RIGHTS);
        vmcs.write(VmcsField.GUEST_CS_ACCESS_RIGHTS, CODE_64);
        if ((event & 0xff) != VE || !td.tdcall(3, 0, 0, 0) || td.guest(1) != CPUID_EXIT) {
            throw new IllegalStateException("CPUID raised " + Long.toHexString(event));
        }
        vmcs.write(VmcsField.GUEST_CS_ACCESS_RIGHTS, mode);
        return null;
    }

    @Override public void close() {
        td.close();
    }
}
