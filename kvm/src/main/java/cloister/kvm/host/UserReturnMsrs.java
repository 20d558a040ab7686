package cloister.kvm.host;

import cloister.cpu.LogicalProcessor;
import cloister.spec.kvm.HostRegister;
import cloister.spec.kvm.HostRegister.Return;
import java.util.Arrays;

/// MSRs of one processor that only user programs depend on: the rows of [HostRegister] that come back when one goes on. A guest's
/// values stay in them from one VM entry to the next. [LINUX kvm_set_user_return_msr, kvm_on_user_return]
///
/// [#set] is the only way to change them, so that what is in the register is always known here. Who leaves them to the TDX module puts
/// beforehand what the module would: it may come back without having entered.
public final class UserReturnMsrs {
    private static final HostRegister[] ROWS = Arrays.stream(HostRegister.values())
            .filter(row -> row.returned(false) == Return.AT_USER_RETURN).toArray(HostRegister[]::new);
    /// How many there are.
    public static final int SLOTS = ROWS.length;

    /// Bits of IA32_TSX_CTRL that stay the host's: its CPUID must not change under its feet. [LINUX vmx_vcpu_create]
    private static final long TSX_CPUID_CLEAR = 2;

    private final LogicalProcessor lp;
    private final LostRegisters lost;
    private final long[] host = new long[SLOTS];
    private final long[] current = new long[SLOTS];
    private boolean registered;

    UserReturnMsrs(LogicalProcessor lp, LostRegisters lost) {
        this.lp = lp;
        this.lost = lost;
    }

    /// The slot of `msr`, or -1. [LINUX kvm_find_user_return_msr]
    public static int slotOf(int msr) {
        for (int i = 0; i < SLOTS; i++) {
            if (ROWS[i].msr() == msr) {
                return i;
            }
        }
        return -1;
    }

    /// The row of a slot.
    public static HostRegister row(int slot) {
        return ROWS[slot];
    }

    /// Takes the host's values from the processor, when KVM is enabled on it. [LINUX kvm_user_return_msr_cpu_online]
    void online() {
        for (int i = 0; i < SLOTS; i++) {
            host[i] = lp.rdmsr(ROWS[i].msr());
            current[i] = host[i];
        }
    }

    /// Puts a guest's value, unless it is there already.
    public void set(int slot, long guestValue) {
        long kept = ROWS[slot] == HostRegister.TSX_CTRL ? TSX_CPUID_CLEAR : 0;
        long value = (guestValue & ~kept) | (host[slot] & kept);
        if (current[slot] == value) {
            return;
        }
        lp.wrmsr(ROWS[slot].msr(), value);
        current[slot] = value;
        registered = true;
    }

    /// The processor goes back to a user program.
    void onUserReturn() {
        if (!registered) {
            return;
        }
        registered = false;
        for (int i = 0; i < SLOTS; i++) {
            if (current[i] != host[i] && !lost.has(ROWS[i])) {
                lp.wrmsr(ROWS[i].msr(), host[i]);
                current[i] = host[i];
            }
        }
    }
}
