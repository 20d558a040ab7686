package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.cpu.sys.Cpuid;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.sim.VirtualClock;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import java.util.function.Consumer;

/// A 64-bit guest of 2 MiB on one logical processor. Guest-physical page `g` is the frame at `FRAMES + g` through 4 KiB EPT entries;
/// linear is guest-physical through one 2 MiB guest page. Code starts at [#CODE], the stack is below it, the IDT sends every vector
/// `v` to `HANDLERS + 16 * v`.
final class VmxGuest {
    static final long CODE = 0x8000;
    static final long STACK = 0x7000;
    static final long DATA = 0x10000;
    static final long HANDLERS = 0x20000;
    static final long IDT = 0x4000;
    static final long GDT = 0x3000;
    static final long PML4 = 0x1000;
    static final long UNMAPPED = 0x1f_f000;
    static final long FRAMES = 0x20_0000;
    static final long EPT_ROOT = 0x1_0000;
    static final long EPT_LEAVES = 0x1_3000;
    static final long MSR_BITMAP_PA = 0x2_0000;
    static final long IO_BITMAPS_PA = 0x2_1000;
    static final long VAPIC_PA = 0x2_3000;
    static final long POSTED_PA = 0x2_4000;
    static final long VE_INFO_PA = 0x2_5000;
    static final long VMCS_PA = 0x3_0000;
    static final int CS = 0x8;
    static final int DS = 0x10;
    static final int NOTIFICATION = 0xf2;

    final PhysicalMemory memory = new PhysicalMemory(8 << 20, 32);
    final Scheduler scheduler = new Scheduler(new VirtualClock(1_000_000_000), new RoundRobin(), Scheduler.IdlePace.SKIP);
    final LogicalProcessor lp = new LogicalProcessor(0, memory, scheduler, new Entropy(7), new Cpuid(1), new VmcsRegions(memory));
    final Vmcs vmcs;

    VmxGuest() {
        memory.write(0x2_f000, 4, Vmcs.REVISION);
        memory.write(VMCS_PA, 4, Vmcs.REVISION);
        lp.vmxon(0x2_f000);
        lp.vmclear(VMCS_PA);
        lp.vmptrld(VMCS_PA);
        vmcs = lp.currentVmcs(FirmwareAccess.SEAM);
        ept();
        guestTables();
        controls();
        hostState();
        guestState();
    }

    private void ept() {
        memory.write(EPT_ROOT, 8, (EPT_ROOT + 0x1000) | Ept.PERMISSIONS);
        memory.write(EPT_ROOT + 0x1000, 8, (EPT_ROOT + 0x2000) | Ept.PERMISSIONS);
        memory.write(EPT_ROOT + 0x2000, 8, EPT_LEAVES | Ept.PERMISSIONS);
        for (long gpa = 0; gpa < UNMAPPED; gpa += 0x1000) {
            map(gpa, FRAMES + gpa, Ept.PERMISSIONS);
        }
        memory.write(leafAt(UNMAPPED), 8, Ept.SUPPRESS_VE);
    }

    static long leafAt(long gpa) {
        return EPT_LEAVES + ((gpa >>> 12) & 0x1ff) * 8;
    }

    void map(long gpa, long pa, long rights) {
        memory.write(leafAt(gpa), 8, pa | rights | ((long) Ept.TYPE_WB << Ept.MEMORY_TYPE_SHIFT) | Ept.SUPPRESS_VE);
    }

    long read(long gpa, int bytes) {
        return memory.read(FRAMES + gpa, bytes);
    }

    void write(long gpa, int bytes, long value) {
        memory.write(FRAMES + gpa, bytes, value);
    }

    private void guestTables() {
        write(PML4, 8, (PML4 + 0x1000) | 7);
        write(PML4 + 0x1000, 8, (PML4 + 0x1000 + 0x8000) | 7);
        write(PML4 + 0x9000, 8, 0x87);
        write(GDT + CS, 8, 0x00af_9b00_0000_ffffL);
        write(GDT + DS, 8, 0x00cf_9300_0000_ffffL);
        for (int vector = 0; vector < 256; vector++) {
            long handler = HANDLERS + 16L * vector;
            write(IDT + 16L * vector, 8, (handler & 0xffff) | (CS << 16) | (0x8e00L << 32) | ((handler & 0xffff_0000L) << 32));
            write(HANDLERS + 16L * vector, 1, 0xf4); // HLT: the handler number is in RIP
        }
    }

    private void controls() {
        vmcs.write(PIN_BASED_CONTROLS, Controls.PIN_DEFAULT1 | Controls.PIN_EXTERNAL_INTERRUPT_EXITING | Controls.PIN_NMI_EXITING);
        vmcs.write(PROC_BASED_CONTROLS, VmxCapabilities.PROC_TRUE_DEFAULT1 | Controls.PROC_HLT_EXITING
                | Controls.PROC_UNCONDITIONAL_IO_EXITING | Controls.PROC_MSR_BITMAPS | Controls.PROC_SECONDARY_CONTROLS);
        vmcs.write(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_ENABLE_EPT | Controls.PROC2_ENABLE_VPID
                | Controls.PROC2_UNRESTRICTED_GUEST | Controls.PROC2_ENABLE_RDTSCP);
        vmcs.write(VM_EXIT_CONTROLS, Controls.EXIT_DEFAULT1 | Controls.EXIT_HOST_ADDRESS_SPACE_SIZE | Controls.EXIT_LOAD_EFER
                | Controls.EXIT_SAVE_EFER | Controls.EXIT_ACKNOWLEDGE_INTERRUPT);
        vmcs.write(VM_ENTRY_CONTROLS, Controls.ENTRY_DEFAULT1 | Controls.ENTRY_IA32E_MODE_GUEST | Controls.ENTRY_LOAD_EFER);
        vmcs.write(EPTP, EPT_ROOT | Ept.TYPE_WB | (3 << 3));
        vmcs.write(VPID, 1);
        vmcs.write(MSR_BITMAP, MSR_BITMAP_PA);
        vmcs.write(IO_BITMAP_A, IO_BITMAPS_PA);
        vmcs.write(IO_BITMAP_B, IO_BITMAPS_PA + 0x1000);
        vmcs.write(VIRTUAL_APIC_ADDRESS, VAPIC_PA);
        vmcs.write(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, POSTED_PA);
        vmcs.write(POSTED_INTERRUPT_NOTIFICATION_VECTOR, NOTIFICATION);
        vmcs.write(VE_INFORMATION_ADDRESS, VE_INFO_PA);
    }

    private void hostState() {
        var host = SeamTransfer.create();
        for (var field : VmcsField.values()) {
            if (field.type() == VmcsField.Type.HOST_STATE) {
                vmcs.write(field, host.read(field));
            }
        }
    }

    private void guestState() {
        for (int i = 0; i < 6; i++) {
            segment(i, i == 1 ? CS : DS, -1, i == 1 ? 0xa09b : 0xc093);
        }
        segment(6, 0, 0, 1 << 16);
        segment(7, 0x18, 0x67, 0x8b);
        vmcs.write(GUEST_CR0, 0x8000_0031L);
        vmcs.write(GUEST_CR3, PML4);
        vmcs.write(GUEST_CR4, 0x42020);
        vmcs.write(GUEST_EFER, 0xd01);
        vmcs.write(GUEST_DR7, 0x400);
        vmcs.write(GUEST_RIP, CODE);
        vmcs.write(GUEST_RSP, STACK);
        vmcs.write(GUEST_RFLAGS, 2);
        vmcs.write(GUEST_GDTR_BASE, GDT);
        vmcs.write(GUEST_GDTR_LIMIT, 0xff);
        vmcs.write(GUEST_IDTR_BASE, IDT);
        vmcs.write(GUEST_IDTR_LIMIT, 0xfff);
    }

    void segment(int index, int selector, int limit, int rights) {
        vmcs.write(VmcsField.ofSegment(GUEST_ES_SELECTOR, index), selector);
        vmcs.write(VmcsField.ofSegment(GUEST_ES_BASE, index), 0);
        vmcs.write(VmcsField.ofSegment(GUEST_ES_LIMIT, index), limit);
        vmcs.write(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, index), rights);
    }

    VmxGuest code(Consumer<Assembler> program) {
        var assembler = new Assembler(CodeMode.BITS64, CODE);
        program.accept(assembler);
        byte[] bytes = assembler.assemble();
        memory.write(FRAMES + CODE, bytes, 0, bytes.length);
        return this;
    }

    VmxGuest set(VmcsField field, long bits) {
        vmcs.write(field, vmcs.read(field) | (bits & 0xffff_ffffL));
        return this;
    }

    VmxGuest clear(VmcsField field, long bits) {
        vmcs.write(field, vmcs.read(field) & ~bits);
        return this;
    }

    /// Enters and returns the basic exit reason; the entry must succeed.
    int run() {
        var status = vmcs.launched() ? lp.vmresume() : lp.vmlaunch();
        if (status != VmxStatus.SUCCEED) {
            throw new AssertionError("entry failed with error " + vmcs.read(VM_INSTRUCTION_ERROR));
        }
        return vmcs.readInt(EXIT_REASON);
    }

    /// Goes over the instruction that exited.
    VmxGuest skip() {
        vmcs.write(GUEST_RIP, vmcs.read(GUEST_RIP) + vmcs.read(EXIT_INSTRUCTION_LENGTH));
        vmcs.write(GUEST_INTERRUPTIBILITY_STATE, vmcs.read(GUEST_INTERRUPTIBILITY_STATE) & ~3);
        return this;
    }

    /// Whether the last exit is the HLT of the handler for `vector`.
    boolean inHandler(int vector) {
        return ExitReason.basic(vmcs.readInt(EXIT_REASON)) == ExitReason.HLT
                && vmcs.read(GUEST_RIP) == HANDLERS + 16L * vector;
    }

    long read(VmcsField field) {
        return vmcs.read(field);
    }
}
