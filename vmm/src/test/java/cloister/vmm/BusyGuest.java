package cloister.vmm;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.AX;
import static cloister.isa.Operands.DX;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.EDI;
import static cloister.isa.Operands.ESI;
import static cloister.isa.Operands.R15D;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.byteAt;
import static cloister.isa.Operands.dwordAt;
import static cloister.isa.Operands.mem;

import cloister.devices.AcpiPm;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;

/// Programs that are busy for many slices on every vCPU, so that their runs depend on where slices end.
final class BusyGuest {
    private static final int LOOPS = 50_000;
    private static final int DONE = 0x600000;
    private static final int AP_VECTOR = 8;
    private static final int AP_PAGE = AP_VECTOR << 12;
    private static final int X2APIC_ON = 0xfee00d00;
    private static final int APIC_BASE = 0x1b;
    private static final int X2APIC_ICR = 0x830;
    private static final int INIT_OTHERS = 0xc4500;
    private static final int SIPI_OTHERS = 0xc4600 | AP_VECTOR;
    private static final int POWER_OFF = (1 << 13) | (AcpiPm.S5_SLEEP_TYPE << 10);
    private static final int INC_DWORD_AT_FIVE_K = 0x5000;

    private final Assembler code = new Assembler(CodeMode.BITS64, GuestLayout.HIGH_LOADING_START);

    private BusyGuest() {
    }

    static byte[] of(VmType type) {
        return type == VmType.TDX ? new BusyGuest().trustDomain() : new BusyGuest().ordinaryVm();
    }

    /// Port writes, page acceptance and calculation. The other vCPUs look at their mailbox all the time.
    private byte[] trustDomain() {
        var page = code.label();
        code.mov(EBX, DONE).mov(EDI, 0);
        code.label(page).mov(dwordAt(mem(RBX)), 1).add(EBX, GuestLayout.PAGE);
        work();
        TdCalls.writePort(code.mov(R15D, '.'), AcpiTables.COM1_PORT, 1);
        code.inc(EDI).cmp(EDI, 4).jcc(Condition.B, page);
        TdCalls.writePort(code.mov(R15D, POWER_OFF), AcpiPm.CONTROL_BLOCK, 2);
        return endless();
    }

    /// Starts the others, which count in real mode, and counts with them.
    private byte[] ordinaryVm() {
        int[] counting = {0x66, 0xff, 0x06, INC_DWORD_AT_FIVE_K & 0xff, INC_DWORD_AT_FIVE_K >> 8, 0xeb, 0xf9}; // inc dword [0x5000]; jmp
        for (int i = 0; i < counting.length; i++) {
            code.mov(EBX, AP_PAGE + i).mov(EAX, counting[i]).mov(byteAt(mem(RBX)), AL);
        }
        writeMsr(APIC_BASE, X2APIC_ON);
        writeMsr(X2APIC_ICR, INIT_OTHERS);
        writeMsr(X2APIC_ICR, SIPI_OTHERS);
        var again = code.label();
        code.mov(EDI, 0);
        code.label(again);
        work();
        code.mov(EAX, '.').mov(EDX, AcpiTables.COM1_PORT).out(DX, AL);
        code.inc(EDI).cmp(EDI, 4).jcc(Condition.B, again);
        code.mov(EAX, POWER_OFF).mov(EDX, AcpiPm.CONTROL_BLOCK).out(DX, AX);
        return endless();
    }

    private void work() {
        var next = code.label();
        code.mov(ECX, LOOPS).mov(ESI, 1);
        code.label(next).add(ESI, ECX).xor(ESI, EDI).dec(ECX).jcc(Condition.NE, next);
    }

    private void writeMsr(int msr, long value) {
        code.mov(ECX, msr).mov(EAX, value & 0xffffffffL).xor(EDX, EDX).wrmsr();
    }

    private byte[] endless() {
        Label stop = code.label();
        code.label(stop).pause().jmp(stop);
        return code.assemble();
    }
}
