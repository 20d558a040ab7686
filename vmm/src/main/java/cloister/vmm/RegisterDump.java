package cloister.vmm;

import cloister.kvm.KvmException;
import cloister.kvm.KvmSegment;
import cloister.kvm.KvmVcpu;
import java.util.Locale;

/// Shows a vCPU's registers to a developer, as far as the uAPI gives them: not those of a trust domain.
final class RegisterDump {
    private RegisterDump() {
    }

    static String of(KvmVcpu vcpu) {
        try {
            var r = vcpu.getRegs();
            var s = vcpu.getSregs();
            return String.format(Locale.ROOT, """
                    vCPU %d
                    RIP %016x RFLAGS %016x
                    RAX %016x RBX %016x RCX %016x RDX %016x
                    RSI %016x RDI %016x RBP %016x RSP %016x
                    R8  %016x R9  %016x R10 %016x R11 %016x
                    R12 %016x R13 %016x R14 %016x R15 %016x
                    CR0 %016x CR2 %016x CR3 %016x CR4 %016x
                    CR8 %x EFER %x APIC_BASE %x GDT %016x+%x IDT %016x+%x
                    CS %s SS %s DS %s ES %s
                    FS %s GS %s TR %s LDT %s
                    """, vcpu.id(), r.rip, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
                    r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer, s.apicBase,
                    s.gdtBase, s.gdtLimit, s.idtBase, s.idtLimit, segment(s.cs), segment(s.ss), segment(s.ds), segment(s.es),
                    segment(s.fs), segment(s.gs), segment(s.tr), segment(s.ldt));
        } catch (KvmException e) {
            return "vCPU " + vcpu.id() + ": registers are not for the VMM to see (" + e.errno() + ")\n";
        }
    }

    private static String segment(KvmSegment segment) {
        return String.format(Locale.ROOT, "%04x:%x/%x/%x", segment.selector(), segment.base(), segment.limit(), segment.accessRights());
    }
}
