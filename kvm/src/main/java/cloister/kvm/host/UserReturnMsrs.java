package cloister.kvm.host;

import cloister.cpu.LogicalProcessor;
import cloister.spec.x86.Msr;

/// MSRs of one processor that only user programs depend on. A guest's values stay in them from one VM entry to the next, and the
/// host's come back when the processor returns to a user program. [LINUX kvm_set_user_return_msr, kvm_on_user_return]
public final class UserReturnMsrs {
    /// FMASK, which the kernel's entry code needs and every guest sets.
    public static final int FMASK = 0;
    public static final int LSTAR = 1;
    public static final int CSTAR = 2;
    public static final int TSC_AUX = 3;
    public static final int STAR = 4;
    /// How many there are.
    public static final int SLOTS = 5;
    private static final int[] INDEX = {Msr.IA32_FMASK, Msr.IA32_LSTAR, Msr.IA32_CSTAR, Msr.IA32_TSC_AUX, Msr.IA32_STAR};

    private final LogicalProcessor lp;
    private final long[] host = new long[SLOTS];
    private final long[] current = new long[SLOTS];
    private boolean registered;

    UserReturnMsrs(LogicalProcessor lp) {
        this.lp = lp;
    }

    /// The slot of `msr`, or -1. [LINUX kvm_find_user_return_msr]
    public static int slotOf(int msr) {
        for (int i = 0; i < SLOTS; i++) {
            if (INDEX[i] == msr) {
                return i;
            }
        }
        return -1;
    }

    /// Takes the host's values from the processor, when KVM is enabled on it. [LINUX kvm_user_return_msr_cpu_online]
    void online() {
        for (int i = 0; i < SLOTS; i++) {
            host[i] = lp.rdmsr(INDEX[i]);
            current[i] = host[i];
        }
    }

    /// Puts a guest's value, unless it is there already.
    public void set(int slot, long value) {
        if (current[slot] == value) {
            return;
        }
        lp.wrmsr(INDEX[slot], value);
        current[slot] = value;
        registered = true;
    }

    /// The processor goes back to a user program.
    public void onUserReturn() {
        if (!registered) {
            return;
        }
        registered = false;
        for (int i = 0; i < SLOTS; i++) {
            if (current[i] != host[i]) {
                lp.wrmsr(INDEX[i], host[i]);
                current[i] = host[i];
            }
        }
    }
}
