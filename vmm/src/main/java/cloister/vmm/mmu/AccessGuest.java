package cloister.vmm.mmu;

import static cloister.isa.Operands.CR0;
import static cloister.isa.Operands.CR3;
import static cloister.isa.Operands.CR4;
import static cloister.isa.Operands.DS;
import static cloister.isa.Operands.DX;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.ES;
import static cloister.isa.Operands.ESI;
import static cloister.isa.Operands.R10;
import static cloister.isa.Operands.R10D;
import static cloister.isa.Operands.R11D;
import static cloister.isa.Operands.R12;
import static cloister.isa.Operands.R12D;
import static cloister.isa.Operands.R13;
import static cloister.isa.Operands.R13D;
import static cloister.isa.Operands.R14D;
import static cloister.isa.Operands.R15D;
import static cloister.isa.Operands.R8;
import static cloister.isa.Operands.R9;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.RCX;
import static cloister.isa.Operands.RDX;
import static cloister.isa.Operands.RSP;
import static cloister.isa.Operands.SS;
import static cloister.isa.Operands.abs;
import static cloister.isa.Operands.far32;
import static cloister.isa.Operands.mem;
import static cloister.isa.Operands.qwordAt;
import static cloister.isa.Operands.rip;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.tdx.Tdvmcall;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// A guest that does what its mailbox says: one access, then it rings the VMM. The same bytes for ordinary VMs and TDs, which start in
/// flat 32-bit mode with the vCPU's number in ESI. [TDX-BASE "TD VCPU Initial State"]
final class AccessGuest {
    static final long BASE_GPA = 0xffff0000L;
    static final int BYTES = 0x10000;
    static final long ENTRY_GPA = BASE_GPA + 0xfff0;
    /// A page for each vCPU.
    static final long MAILBOX_GPA = 0xfff00000L;
    static final long GDT_GPA = BASE_GPA + 0xd000;
    static final int PORT = 0x510;
    /// Linear addresses from here on are the first 4 GiB once more; in a TD, shared.
    static final long WINDOW = 1L << 32;
    static final long SHARED_BIT = 1L << 47;

    // The mailbox
    static final int OPERATION = 0;
    static final int ADDRESS = 8;
    static final int VALUE = 16;
    static final int ATTRIBUTES = 24;
    static final int THIRD = 24;
    static final int RESULT = 32;
    static final int STATUS = 40;
    static final int LEAF = 48;
    static final int STATUS_DONE = 0;
    static final int STATUS_VE = 1;

    /// R11 to R13.
    static final int MORE = 56;
    /// An operation beside those of [MmuStep]: the TDCALL whose RAX, RCX, RDX, R8 and, for the VMM, R11 to R13 are in the mailbox.
    static final int CALL = 100;

    private static final long TABLES_GPA = BASE_GPA;
    private static final long IDT_GPA = BASE_GPA + 0xb000;
    private static final long STACKS_GPA = BASE_GPA + 0xc000;
    private static final long CODE_GPA = BASE_GPA + 0xe000;
    private static final int STACK_SHIFT = 9;
    private static final int GIBIBYTES = 8;
    private static final int PAGE = 0x1000;
    private static final int CODE_SELECTOR = 0x10;
    private static final int DATA_SELECTOR = 0x18;
    private static final int VE_VECTOR = 20;
    private static final int TDG_VP_VEINFO_GET = 3;
    private static final int TDG_MEM_PAGE_ACCEPT = 6;
    private static final int TDVMCALL_IO = 30;
    private static final int PASS_R10_TO_R15 = 0xfc00;
    private static final long CR0_CD = 1 << 30;

    private final Assembler code = new Assembler(CodeMode.BITS32, CODE_GPA);
    private final boolean td;
    private final Label start = code.label();
    private final Label longMode = code.label();
    private final Label ve = code.label();
    private final Label done = code.label();
    private final Label gdtPointer = code.label();
    private final Label idtPointer = code.label();

    private AccessGuest(boolean td) {
        this.td = td;
    }

    /// The image for [#BASE_GPA].
    static byte[] image(boolean td) {
        var image = ByteBuffer.allocate(BYTES).order(ByteOrder.LITTLE_ENDIAN);
        pageTables(image, td ? SHARED_BIT : 0);
        var guest = new AccessGuest(td);
        byte[] program = guest.assemble();
        image.put((int) (CODE_GPA - BASE_GPA), program);
        int gdt = (int) (GDT_GPA - BASE_GPA);
        image.putLong(gdt + 8, 0x00cf9b000000ffffL).putLong(gdt + CODE_SELECTOR, 0x00af9b000000ffffL)
                .putLong(gdt + DATA_SELECTOR, 0x00cf93000000ffffL);
        long handler = guest.ve.address();
        image.putLong((int) (IDT_GPA - BASE_GPA) + (16 * VE_VECTOR), (handler & 0xffff) | ((long) CODE_SELECTOR << 16) | (0x8eL << 40)
                | ((handler >>> 16) << 48));
        return image.array();
    }

    /// Where the guest goes on after an access that was given up.
    static long doneGpa() {
        var guest = new AccessGuest(false);
        guest.assemble();
        return guest.done.address();
    }

    private static void pageTables(ByteBuffer image, long windowBits) {
        image.putLong(0, (TABLES_GPA + PAGE) | 3);
        for (int gib = 0; gib < GIBIBYTES; gib++) {
            int directory = (2 + gib) * PAGE;
            image.putLong(PAGE + (8 * gib), (TABLES_GPA + directory) | 3);
            for (int i = 0; i < 512; i++) {
                long pa = ((long) (gib & 3) << 30) | ((long) i << 21) | (gib >= 4 ? windowBits : 0);
                image.putLong(directory + (8 * i), pa | 0x83);
            }
        }
    }

    private byte[] assemble() {
        code.label(start).lgdt(abs(gdtPointer)).mov(EAX, CR4).or(EAX, 1 << 5).mov(CR4, EAX).mov(EAX, TABLES_GPA).mov(CR3, EAX);
        code.mov(EAX, CR0).or(EAX, 1L << 31).mov(CR0, EAX).jmp(far32(CODE_SELECTOR, longMode));
        code.mode(CodeMode.BITS64).label(longMode).mov(EAX, DATA_SELECTOR).mov(DS, EAX).mov(ES, EAX).mov(SS, EAX).lidt(rip(idtPointer));
        code.mov(EBX, ESI).shl(EBX, 12).mov(RAX, WINDOW + MAILBOX_GPA).add(RBX, RAX);
        var next = code.label();
        code.label(next);
        // Each command starts on an empty stack, whatever became of the last one.
        code.mov(ECX, ESI).inc(ECX).shl(ECX, STACK_SHIFT).mov(EAX, STACKS_GPA).lea(RSP, mem(RAX, RCX, 1, 0));
        ring();
        code.mov(R8, mem(RBX, ADDRESS)).mov(R9, mem(RBX, VALUE)).mov(qwordAt(mem(RBX, STATUS)), STATUS_DONE);
        var write = code.label();
        var fetch = code.label();
        var accept = code.label();
        var call = code.label();
        code.mov(RAX, mem(RBX, OPERATION));
        code.cmp(EAX, MmuStep.Operation.WRITE.ordinal()).jcc(Condition.E, write);
        code.cmp(EAX, MmuStep.Operation.FETCH.ordinal()).jcc(Condition.E, fetch);
        code.cmp(EAX, MmuStep.Operation.ACCEPT.ordinal()).jcc(Condition.E, accept);
        var convert = code.label();
        var wrmsr = code.label();
        var caches = code.label();
        code.cmp(EAX, MmuStep.Operation.CONVERT.ordinal()).jcc(Condition.E, convert);
        code.cmp(EAX, MmuStep.Operation.WRMSR.ordinal()).jcc(Condition.E, wrmsr);
        code.cmp(EAX, MmuStep.Operation.CACHES.ordinal()).jcc(Condition.E, caches);
        code.cmp(EAX, CALL).jcc(Condition.E, call);
        code.mov(R9, mem(R8)).mov(mem(RBX, RESULT), R9).jmp(next);
        code.label(write).mov(mem(R8), R9).jmp(next);
        code.label(fetch).lea(RAX, mem(RBX, 0x800)).call(R8).jmp(next);
        code.label(accept);
        if (td) {
            code.mov(RCX, R8).mov(EAX, TDG_MEM_PAGE_ACCEPT).xor(EDX, EDX).tdcall().mov(mem(RBX, RESULT), RAX);
        }
        code.label(done).jmp(next);
        code.label(convert);
        convert();
        code.jmp(next);
        code.label(wrmsr).mov(RCX, R8).mov(RAX, R9).mov(RDX, R9).shr(RDX, 32).wrmsr().jmp(next);
        code.label(caches).mov(RAX, CR0).and(RAX, ~CR0_CD).or(RAX, R9).mov(CR0, RAX).jmp(next);
        code.label(call);
        anyCall();
        code.jmp(next);
        code.label(ve);
        if (td) {
            code.mov(EAX, TDG_VP_VEINFO_GET).tdcall();
        }
        code.mov(qwordAt(mem(RBX, STATUS)), STATUS_VE).jmp(done);
        code.label(gdtPointer).dw((4 * 8) - 1).dq(GDT_GPA);
        code.label(idtPointer).dw((16 * 32) - 1).dq(IDT_GPA);
        code.padTo(ENTRY_GPA, 0xcc).mode(CodeMode.BITS32).jmp(start);
        return code.padTo(BASE_GPA + BYTES, 0xcc).assemble();
    }

    /// MapGPA, or the hypercall of ordinary VMs: address in R8, bytes in R9.
    private void convert() {
        if (td) {
            code.mov(R12, R8).mov(R13, R9).xor(R14D, R14D).xor(R15D, R15D);
            code.xor(EAX, EAX).mov(ECX, PASS_R10_TO_R15).xor(R10D, R10D).mov(R11D, Tdvmcall.MAP_GPA).tdcall().mov(mem(RBX, RESULT), R10);
        } else {
            code.mov(R10, RBX).mov(RDX, mem(RBX, ATTRIBUTES)).mov(RCX, R9).shr(RCX, 12).mov(RBX, R8);
            code.mov(EAX, KvmAbi.HC_MAP_GPA_RANGE).vmcall().mov(RBX, R10).mov(mem(RBX, RESULT), RAX);
        }
    }

    private void anyCall() {
        if (td) {
            code.mov(RCX, R8).mov(RDX, R9).mov(R8, mem(RBX, THIRD)).mov(RAX, mem(RBX, LEAF));
            code.xor(R10D, R10D).mov(R11D, mem(RBX, MORE)).mov(R12D, mem(RBX, MORE + 8)).mov(R13D, mem(RBX, MORE + 16)).tdcall();
            code.mov(mem(RBX, RESULT), RAX);
        }
    }

    /// Tells the VMM that the command was carried out. It writes the next one into the mailbox before it lets the guest run on.
    private void ring() {
        if (td) {
            code.xor(R15D, R15D).mov(R12D, 1).mov(R13D, 1).mov(R14D, PORT);
            code.xor(EAX, EAX).mov(ECX, PASS_R10_TO_R15).xor(R10D, R10D).mov(R11D, TDVMCALL_IO).tdcall();
        } else {
            code.mov(EDX, PORT).out(DX, cloister.isa.Operands.AL);
        }
    }
}
