package cloister.tdx.legality;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;

/// A debug TD that runs on LP 0, and another one that is being built; both are called by their numbers, as a VMM and a guest do.
final class TdPair implements AutoCloseable {
    static final long RUNNING = RecordedTd.TDR;
    static final long RUNNING_VP = RecordedTd.TDVPR;
    static final long BUILT = 0x1_0010_0000L;
    static final long BUILT_VP = BUILT + 0x1_0000;
    static final long FREE = 0x1_0080_0000L;
    static final int RAX = 0;
    static final int RCX = 1;
    static final int RDX = 2;
    static final int R8 = 8;
    static final int R9 = 9;
    static final int R10 = 10;
    private static final int KEY_ID = 0x22;
    private static final long TD_PARAMS = 0x21_0000;
    private static final int TDCS_PAGES = 6;
    private static final int TDVPS_PAGES = 6;
    private static final long PAGE = 0x1000;
    private static final int TDCALL_EXIT = 77;

    final RecordedTd td;

    TdPair() {
        this("run-debug-2");
    }

    TdPair(String setup) {
        td = new RecordedTd("{\"op\":\"include\",\"file\":\"setup/" + setup + ".jsonl\"}\n");
    }

    /// Makes the second TD: TDR, key, TDCS pages.
    TdPair create() {
        ok(9, BUILT, KEY_ID);
        ok(8, BUILT);
        for (int i = 1; i <= TDCS_PAGES; i++) {
            ok(1, BUILT + i * PAGE, BUILT);
        }
        return this;
    }

    /// Initialises the second TD with these ATTRIBUTES and otherwise the parameters of the first.
    TdPair init(long attributes) {
        td.machine.memory.write(TD_PARAMS, 8, attributes);
        ok(21, BUILT, TD_PARAMS);
        return this;
    }

    TdPair addVp() {
        ok(10, BUILT_VP, BUILT);
        for (int i = 1; i < TDVPS_PAGES; i++) {
            ok(4, BUILT_VP + i * PAGE, BUILT_VP);
        }
        ok(22, BUILT_VP, 0);
        return this;
    }

    TdPair finish() {
        ok(17, BUILT);
        return this;
    }

    Tdr builtTdr() {
        return new Tdr(td.machine.memory, BUILT, td.platform.firstPrivateKeyId);
    }

    Tdcs builtTdcs() {
        return new Tdcs(td.machine.memory, builtTdr());
    }

    /// A SEAMCALL on LP 1 with RCX, RDX, R8, R9 ... in this order.
    SeamRegs call(long rax, long... operands) {
        var regs = new SeamRegs();
        regs.array()[RAX] = rax;
        for (int i = 0; i < operands.length; i++) {
            regs.array()[register(i)] = operands[i];
        }
        td.machine.seamcall(1, regs);
        return regs;
    }

    /// The status of a SEAMCALL on LP 1.
    long status(long rax, long... operands) {
        return call(rax, operands).get(RAX);
    }

    private void ok(long rax, long... operands) {
        long status = status(rax, operands);
        if (status != 0) {
            throw new IllegalStateException(String.format("leaf %d failed with 0x%x", rax, status));
        }
    }

    private static int register(int operand) {
        return operand < 2 ? operand + 1 : operand + 6;
    }

    /// A TDCALL of the TD that runs.
    ///
    /// @return whether it goes on
    boolean guest(long rax, long... operands) {
        var gpr = td.machine.cpus[0].registers();
        gpr[RAX] = rax;
        for (int i = 0; i < operands.length; i++) {
            gpr[register(i)] = operands[i];
        }
        var vmcs = td.machine.core.vmcs(td.machine.cpus[0]);
        vmcs.write(VmcsField.EXIT_REASON, TDCALL_EXIT);
        vmcs.write(VmcsField.EXIT_QUALIFICATION, 0);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, 4);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_INFO, 0);
        return td.machine.vmExit(0);
    }

    /// A register of the running guest.
    long guestRegister(int register) {
        return td.machine.cpus[0].registers()[register];
    }

    /// The register that TDH.VP.ENTER returned with.
    long exit(int register) {
        return td.machine.hostRegisters(0).get(register);
    }

    /// Runs the first TD again after a TD exit.
    void enter() {
        var regs = new SeamRegs();
        regs.array()[RCX] = RUNNING_VP;
        if (!td.machine.seamcall(0, regs)) {
            throw new IllegalStateException(String.format("no entry: 0x%x", regs.get(RAX)));
        }
    }

    /// RIP of the running guest.
    long rip() {
        return td.machine.core.vmcs(td.machine.cpus[0]).read(VmcsField.GUEST_RIP);
    }

    /// Where private memory of the first TD is.
    long hpa(long gpa) {
        return td.tdr.withKey(td.entry(gpa, 0).value() & 0xf_ffff_ffff_f000L) | (gpa & (PAGE - 1));
    }

    @Override public void close() {
        td.close();
    }
}
