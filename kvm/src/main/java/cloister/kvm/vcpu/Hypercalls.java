package cloister.kvm.vcpu;

import cloister.kvm.KvmExit;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;

/// KVM's own hypercalls, of guests of both kinds. The result is in `kvm_run`, also of those that the VMM answers. [LINUX
/// ____kvm_emulate_hypercall, Documentation/virt/kvm/x86/hypercalls.rst]
///
/// A guest may use all of them whether or not its CPUID tells of them: KVM_CAP_ENFORCE_PV_FEATURE_CPUID does not exist yet.
public final class Hypercalls {
    private static final int VAPIC_POLL_IRQ = 1;
    private static final int KICK_CPU = 5;
    private static final int CLOCK_PAIRING = 9;
    private static final int SEND_IPI = 10;
    private static final int SCHED_YIELD = 11;
    /// Errors of hypercalls that are no error numbers of Linux. [LINUX include/uapi/linux/kvm_para.h]
    private static final long ENOSYS = -1000;
    private static final long EOPNOTSUPP = -95;
    private static final int PAGE_SHIFT = 12;
    private static final long PAGE_MASK = 0xfff;

    private Hypercalls() {
    }

    /// Carries a call out.
    ///
    /// @param wide whether the caller is in 64-bit mode: the bitmaps of KVM_HC_SEND_IPI have 64 bits each
    /// @return null when the result is there, else what the VMM must do first
    public static KvmExit call(Vcpu vcpu, int cpl, boolean wide, long number, long a0, long a1, long a2, long a3) {
        if (cpl != 0) {
            return result(vcpu, -Errno.EPERM.number());
        }
        if (number == KvmAbi.HC_MAP_GPA_RANGE) {
            return mapGpaRange(vcpu, a0, a1, a2);
        }
        return result(vcpu, number >>> 32 != 0 ? ENOSYS : switch ((int) number) {
            case VAPIC_POLL_IRQ -> 0;
            case KICK_CPU -> {
                vcpu.vm.bus.kick((int) a1);
                vcpu.yieldTo((int) a1);
                yield 0;
            }
            // The only clock is paired with nothing: the host's clock source is not the TSC.
            case CLOCK_PAIRING -> EOPNOTSUPP;
            case SEND_IPI -> vcpu.vm.bus.sendIpis(a0, a1, (int) a2, a3, wide);
            case SCHED_YIELD -> {
                vcpu.yieldTo((int) a0);
                yield 0;
            }
            default -> ENOSYS;
        });
    }

    private static KvmExit mapGpaRange(Vcpu vcpu, long gpa, long pages, long attributes) {
        if ((vcpu.vm.exitHypercalls & (1L << KvmAbi.HC_MAP_GPA_RANGE)) == 0) {
            return result(vcpu, ENOSYS);
        }
        long gfn = gpa >>> PAGE_SHIFT;
        if ((gpa & PAGE_MASK) != 0 || pages == 0 || Long.compareUnsigned(gfn + pages, gfn) <= 0) {
            return result(vcpu, -Errno.EINVAL.number());
        }
        vcpu.run.ret = 0;
        return new KvmExit.MapGpaRange(gpa, pages, (attributes & KvmAbi.MAP_GPA_RANGE_ENCRYPTED) != 0);
    }

    private static KvmExit result(Vcpu vcpu, long value) {
        vcpu.run.ret = value;
        return null;
    }
}
