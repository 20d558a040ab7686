package cloister.kvm;

import static cloister.isa.Operands.*;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.ExceptionVector;
import java.util.ArrayList;
import java.util.List;

/// A 32-bit guest with flat segments and no paging on one processor. The handler of vector v writes v to the port, then the low byte
/// of the return address and bits 23:16 of the saved flags, and returns.
public final class ProtectedGuest implements AutoCloseable {
    public static final int CODE = 0x1000;
    /// Nothing has touched the stack's page when the guest starts: KVM has not mapped it.
    public static final int STACK = 0x9000;
    public static final int PORT = 0x3f8;
    private static final int GDT = 0x800;
    private static final int IDT = 0x2000;
    private static final int HANDLERS = 0x4000;
    private static final int HANDLER_BYTES = 0x40;
    private static final int MEMORY = 0x10000;

    public final TestHost host = new TestHost(1);
    public final Kvm kvm = DevKvm.open(host.environment());
    public final KvmVm vm = kvm.createVm(VmType.DEFAULT);
    public final KvmVcpu vcpu;
    public final List<Integer> written = new ArrayList<>();
    private final long user = kvm.userMemory().map(MEMORY);

    public ProtectedGuest() {
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, MEMORY, user));
        load(GDT, new Assembler(CodeMode.BITS32, GDT).dq(0, 0x00cf_9b00_0000_ffffL, 0x00cf_9300_0000_ffffL).assemble());
        for (int vector = 0; vector < 256; vector++) {
            int at = handler(vector);
            var gate = new Assembler(CodeMode.BITS32, 0).dw(at, 8, 0x8e00, 0);
            load(IDT + (8 * vector), gate.assemble());
            handler(vector, reporting(vector).iret(4));
        }
        vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var sregs = vcpu.getSregs();
        sregs.cr0 |= Cr0.PE;
        sregs.cs = KvmSegment.flat(8, 0xb);
        sregs.ss = KvmSegment.flat(0x10, 3);
        sregs.ds = KvmSegment.flat(0x10, 3);
        sregs.es = KvmSegment.flat(0x10, 3);
        sregs.gdtBase = GDT;
        sregs.gdtLimit = 23;
        sregs.idtBase = IDT;
        sregs.idtLimit = 0x7ff;
        vcpu.setSregs(sregs);
        var regs = vcpu.getRegs();
        regs.rip = CODE;
        regs.rsp = STACK;
        regs.rdx = PORT;
        vcpu.setRegs(regs);
    }

    public static int handler(int vector) {
        return HANDLERS + (HANDLER_BYTES * vector);
    }

    /// Code at [#CODE] with DX the port.
    public static Assembler code() {
        return new Assembler(CodeMode.BITS32, CODE);
    }

    /// The guest ends.
    public static Assembler end(Assembler a) {
        return a.mov(AL, 0xff).out(DX, AL).hlt();
    }

    /// The beginning of a handler; the error code, if there is one, is off the stack behind it.
    public static Assembler reporting(int vector) {
        var a = new Assembler(CodeMode.BITS32, handler(vector)).mov(AL, vector).out(DX, AL);
        if (ExceptionVector.hasErrorCode(vector)) {
            a.add(ESP, 4);
        }
        return a.mov(EAX, mem(ESP)).out(DX, AL).mov(EAX, mem(ESP, 8)).shr(EAX, 16).out(DX, AL);
    }

    public void handler(int vector, Assembler a) {
        byte[] bytes = a.assemble();
        if (bytes.length > HANDLER_BYTES) {
            throw new IllegalArgumentException("handler of " + vector + " has " + bytes.length + " bytes");
        }
        load(handler(vector), bytes);
    }

    public void load(long gpa, byte[] bytes) {
        kvm.userMemory().write(user + gpa, bytes, 0, bytes.length);
    }

    /// Runs until the guest ends or another exit comes, which it returns; null at the end.
    public KvmExit play() {
        var last = new ArrayList<KvmExit>();
        host.scheduler().spawn("vcpu", () -> last.add(runOn()));
        host.scheduler().run();
        return last.getFirst();
    }

    /// The same on the current host thread.
    public KvmExit runOn() {
        while (true) {
            var exit = vcpu.run();
            if (!(exit instanceof KvmExit.Io(boolean out, int size, int port, int count))) {
                return exit;
            }
            int value = vcpu.kvmRun().data[0] & 0xff;
            if (value == 0xff) {
                return null;
            }
            written.add(value);
        }
    }

    @Override public void close() {
        host.close();
    }
}
