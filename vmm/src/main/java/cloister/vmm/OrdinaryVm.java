package cloister.vmm;

import cloister.kvm.KvmRegs;
import cloister.kvm.KvmSegment;
import cloister.kvm.KvmSregs;
import cloister.kvm.KvmVcpu;
import cloister.kvm.MsrEntry;
import cloister.spec.x86.Msr;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/// Puts an ordinary VM's first vCPU where the 64-bit boot protocol wants it. [LINUX Documentation/arch/x86/boot.rst
/// "64-bit Boot Protocol"]
final class OrdinaryVm {
    private static final int CODE_SELECTOR = 0x10;
    private static final int DATA_SELECTOR = 0x18;
    private static final int CODE_TYPE = 0xb;
    private static final int DATA_TYPE = 3;
    private static final long CODE_DESCRIPTOR = 0x00af9b000000ffffL;
    private static final long DATA_DESCRIPTOR = 0x00cf93000000ffffL;
    private static final long CR0 = 0x80000033L; // PG, NE, ET, MP, PE
    private static final long CR4_PAE = 1 << 5;
    private static final long EFER_LME_LMA = (1 << 8) | (1 << 10);
    private static final int GIBIBYTES_MAPPED = 4;
    private static final long MTRR_ENABLED_WRITE_BACK = (1 << 11) | 6;

    private OrdinaryVm() {
    }

    /// What firmware would do on every CPU: memory is write-back.
    static void enableMtrrs(KvmVcpu vcpu) {
        vcpu.setMsrs(List.of(new MsrEntry(Msr.IA32_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK)));
    }

    /// Writes the GDT and identity page tables for the first 4 GiB and sets the vCPU's registers.
    static void prepare(GuestMemory memory, KvmVcpu vcpu, long entryGpa) {
        var gdt = ByteBuffer.allocate(32).order(ByteOrder.LITTLE_ENDIAN);
        gdt.putLong(CODE_SELECTOR, CODE_DESCRIPTOR).putLong(DATA_SELECTOR, DATA_DESCRIPTOR);
        memory.write(GuestLayout.GDT_GPA, gdt.array());
        memory.write(GuestLayout.PAGE_TABLES_GPA, IdentityMap.build(GuestLayout.PAGE_TABLES_GPA, GIBIBYTES_MAPPED));

        KvmSregs sregs = vcpu.getSregs();
        sregs.cs = new KvmSegment(0, -1, CODE_SELECTOR, CODE_TYPE, true, 0, false, true, true, true, false, false);
        var data = KvmSegment.flat(DATA_SELECTOR, DATA_TYPE);
        sregs.ds = data;
        sregs.es = data;
        sregs.fs = data;
        sregs.gs = data;
        sregs.ss = data;
        sregs.gdtBase = GuestLayout.GDT_GPA;
        sregs.gdtLimit = gdt.capacity() - 1;
        sregs.cr0 = CR0;
        sregs.cr3 = GuestLayout.PAGE_TABLES_GPA;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LME_LMA;
        vcpu.setSregs(sregs);

        var regs = new KvmRegs();
        regs.rip = entryGpa;
        regs.rsi = GuestLayout.BOOT_PARAMS_GPA;
        vcpu.setRegs(regs);
    }
}
