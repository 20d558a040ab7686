package cloister.kvm.irq;

import static cloister.spec.x86.ApicRegister.*;

import cloister.kvm.emulate.GuestGp;
import cloister.sim.Persistent;
import cloister.sim.Ratio;
import cloister.sim.StateSink;
import cloister.sim.TimerOwner;
import cloister.sim.VirtualClock;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.stream.IntStream;

/// The in-kernel local APIC of one vCPU: xAPIC and x2APIC register files, priority logic, timer. [LINUX
/// arch/x86/kvm/lapic.c] [SDM Vol. 3 "Advanced Programmable Interrupt Controller (APIC)"]
public final class LocalApic implements Persistent, TimerOwner<LocalApic.TimerKind> {
    private static final int MAX_LVT = 5;
    private static final int X2APIC_MSR_BASE = 0x800;
    private static final int LVT_MASK = LVT_MASKED | (1 << 12) | 0xff;

    private final ApicOwner owner;
    private final ApicBus bus;
    private final VirtualClock clock;
    private final ApicPage page;
    private long baseMsr;
    private boolean userspaceIoapic;
    /// Bits 63:32 of the x2APIC ICR live in ICR2's slot.
    private int pendingEsr;

    /// The timers of a local APIC.
    public enum TimerKind {
        /// The count reaches zero, in one-shot and periodic mode.
        COUNT,
        /// IA32_TSC_DEADLINE is reached.
        DEADLINE
    }

    private VirtualClock.Timer timer;
    private boolean timerPending;
    private long tscDeadline;
    private long timerStart;
    private long timerPeriodTicks;
    private long busCycleNs = 1;

    public LocalApic(ApicOwner owner, ApicBus bus, VirtualClock clock, ApicPage page) {
        this.owner = owner;
        this.bus = bus;
        this.clock = clock;
        this.page = page;
        reset(false);
    }

    /// Power-on or INIT. INIT keeps the APIC id and mode. [LINUX kvm_lapic_reset]
    public void reset(boolean init) {
        stopTimer();
        if (!init) {
            baseMsr = DEFAULT_BASE | BASE_MSR_ENABLED | (owner.id() == 0 ? BASE_MSR_BSP : 0);
            set(ID, isX2apic() ? owner.id() : owner.id() << 24);
        }
        int id = reg(ID);
        int ldr = reg(LDR);
        for (int i = 0; i < ApicPage.WORDS; i++) {
            page.write(i << 4, 0);
        }
        set(ID, id);
        set(VERSION, 0x14 | (MAX_LVT << 16) | (userspaceIoapic ? VERSION_DIRECTED_EOI : 0));
        for (int lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 0x10) {
            set(lvt, LVT_MASKED);
        }
        set(DFR, -1);
        set(SPIV, 0xff);
        if (isX2apic()) {
            set(LDR, init ? ldr : x2apicLdr());
        }
        timerPending = false;
        tscDeadline = 0;
        pendingEsr = 0;
    }

    /// The IOAPIC is the VMM's: the version register offers directed EOI.
    public void userspaceIoapic(boolean value) {
        userspaceIoapic = value;
        set(VERSION, 0x14 | (MAX_LVT << 16) | (value ? VERSION_DIRECTED_EOI : 0));
    }

    /// KVM_CAP_X86_APIC_BUS_CYCLES_NS.
    public void busCycleNs(long value) {
        busCycleNs = value;
    }

    // --- mode

    public long baseMsr() {
        return baseMsr;
    }

    /// WRMSR IA32_APIC_BASE, checked: moving the page and leaving x2APIC other than through "disabled" fault.
    public void writeBaseMsr(long value, boolean x2apicAllowed, boolean byHost) {
        long oldMode = baseMsr & (BASE_MSR_ENABLED | BASE_MSR_X2APIC);
        long newMode = value & (BASE_MSR_ENABLED | BASE_MSR_X2APIC);
        long known = 0x000f_ffff_ffff_f000L | BASE_MSR_BSP | BASE_MSR_ENABLED | (x2apicAllowed ? BASE_MSR_X2APIC : 0);
        if ((value & ~known) != 0 || newMode == BASE_MSR_X2APIC) {
            throw GuestGp.INSTANCE;
        }
        if (!byHost) {
            boolean fromX2 = oldMode == (BASE_MSR_ENABLED | BASE_MSR_X2APIC);
            if ((fromX2 && newMode == BASE_MSR_ENABLED) || (oldMode == 0 && (newMode & BASE_MSR_X2APIC) != 0)) {
                throw GuestGp.INSTANCE;
            }
        }
        baseMsr = value;
        if (oldMode != newMode) {
            owner.apicModeChanged();
            if (isX2apic()) {
                set(ID, owner.id());
                set(LDR, x2apicLdr());
            } else if (isEnabled()) {
                set(ID, owner.id() << 24);
            } else {
                reset(true);
                set(ID, owner.id() << 24);
            }
        }
    }

    public boolean isEnabled() {
        return (baseMsr & BASE_MSR_ENABLED) != 0;
    }

    public boolean isX2apic() {
        return (baseMsr & (BASE_MSR_ENABLED | BASE_MSR_X2APIC)) == (BASE_MSR_ENABLED | BASE_MSR_X2APIC);
    }

    private boolean isSoftwareEnabled() {
        return isEnabled() && (reg(SPIV) & SPIV_ENABLED) != 0;
    }

    private int x2apicLdr() {
        return (owner.id() >> 4 << 16) | (1 << (owner.id() & 15));
    }

    /// The APIC id that messages are addressed to.
    public int apicId() {
        return isX2apic() ? owner.id() : reg(ID) >>> 24;
    }

    /// The vCPU need not stay halted: KVM_HC_KICK_CPU. [LINUX __apic_accept_irq APIC_DM_REMRD]
    void unhalt() {
        owner.unhalt();
    }

    /// Whether a logical destination of a message names this APIC.
    public boolean matchesLogical(int destination) {
        int ldr = reg(LDR);
        if (isX2apic()) {
            return destination == -1 || (ldr >>> 16 == destination >>> 16 && (ldr & destination & 0xffff) != 0);
        }
        int logical = ldr >>> 24;
        int mda = destination & 0xff;
        return switch (reg(DFR) >>> 28) {
            case 0xf -> (logical & mda) != 0;
            case 0 -> logical >>> 4 == mda >>> 4 && (logical & mda & 0xf) != 0;
            default -> false;
        };
    }

    // --- interrupts

    /// Accepts a message of delivery mode `mode`. [LINUX __apic_accept_irq]
    ///
    /// @return whether the APIC took it
    public boolean accept(int mode, int vector, boolean level) {
        switch (mode) {
            case FIXED, LOWEST_PRIORITY -> {
                if (!isSoftwareEnabled()) {
                    return false;
                }
                if (vector < 16) {
                    return true; // illegal vectors are dropped, with an ESR bit that nobody collects
                }
                setBit(TMR, vector, level);
                if (owner.postsInterrupts()) {
                    owner.postInterrupt(vector);
                } else {
                    setBit(IRR, vector, true);
                    owner.apicEvent();
                }
                return true;
            }
            case NMI -> owner.nmiMessage();
            case INIT -> owner.init();
            case STARTUP -> owner.startup(vector);
            default -> {
                return false;
            }
        }
        return true;
    }

    /// The vector that would be delivered now, -1 when none beats the processor priority.
    public int deliverable() {
        if (!isSoftwareEnabled()) {
            return -1;
        }
        int vector = highest(IRR);
        return vector >= 0 && (vector & 0xf0) > (ppr() & 0xf0) ? vector : -1;
    }

    /// Moves `vector` from IRR to ISR as it is delivered.
    public void acknowledge(int vector) {
        setBit(IRR, vector, false);
        setBit(ISR, vector, true);
    }

    /// Whether LINT0 passes the 8259's interrupts; there is none, but the guest's view is kept.
    public int ppr() {
        int tpr = reg(TPR) & 0xff;
        int isr = Math.max(0, highest(ISR));
        return (tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0;
    }

    public int tpr() {
        return reg(TPR) & 0xff;
    }

    public void tpr(int value) {
        set(TPR, value & 0xff);
        owner.apicEvent();
    }

    private void eoi() {
        int vector = highest(ISR);
        if (vector < 0) {
            return;
        }
        setBit(ISR, vector, false);
        broadcastEoi(vector);
        owner.apicEvent();
    }

    /// Requests vectors of a posted-interrupt descriptor: 32 of them, from `first`.
    public void requestVectors(int first, int bits) {
        int offset = IRR + (first >> 5 << 4);
        page.write(offset, page.read(offset) | bits);
    }

    /// The highest requested vector and the highest in service, as the guest interrupt status holds them.
    public int guestInterruptStatus() {
        return (Math.max(0, highest(ISR)) << 8) | Math.max(0, highest(IRR));
    }

    /// The guest wrote the register at `offset`, and the processor stored it. [LINUX kvm_apic_write_nodecode]
    public void wrote(int offset) {
        if (offset == SELF_IPI) {
            accept(FIXED, reg(SELF_IPI) & 0xff, false);
        } else {
            write(offset, reg(offset));
        }
    }

    /// The guest's EOI was virtualised and exited because the EOI-exit bitmap names `vector`.
    public void broadcastEoi(int vector) {
        if ((page.read(TMR + (vector >> 5 << 4)) & (1 << (vector & 31))) != 0
                && (reg(SPIV) & SPIV_SUPPRESS_EOI_BROADCAST) == 0) {
            owner.levelEoi(vector);
        }
    }

    // --- registers

    /// A read of the xAPIC page; `offset` is that of a register.
    public int readMmio(int offset) {
        return readable(offset) ? read(offset) : 0;
    }

    /// A write to the xAPIC page.
    public void writeMmio(int offset, int value) {
        if (offset != SELF_IPI) {
            write(offset, value);
        }
    }

    /// RDMSR of an x2APIC register.
    public long readMsr(int msr) {
        int offset = (msr - X2APIC_MSR_BASE) << 4;
        if (!isX2apic() || offset == DFR || offset == ICR2 || !readable(offset)) {
            throw GuestGp.INSTANCE;
        }
        return offset == ICR ? (reg(ICR) & 0xffff_ffffL) | ((long) reg(ICR2) << 32) : read(offset) & 0xffff_ffffL;
    }

    /// WRMSR of an x2APIC register.
    public void writeMsr(int msr, long value) {
        int offset = (msr - X2APIC_MSR_BASE) << 4;
        if (!isX2apic() || offset == DFR || offset == ICR2 || offset == ID || offset == LDR) {
            throw GuestGp.INSTANCE;
        }
        if (offset == ICR) {
            set(ICR, (int) value & ~ICR_BUSY);
            set(ICR2, (int) (value >>> 32));
            bus.send(this, (int) value, (int) (value >>> 32));
            return;
        }
        if (value >>> 32 != 0 || ((offset == EOI || offset == ESR) && value != 0)) {
            throw GuestGp.INSTANCE;
        }
        if (offset == SELF_IPI) {
            accept(FIXED, (int) value & 0xff, false);
        } else if (!write(offset, (int) value)) {
            throw GuestGp.INSTANCE;
        }
    }

    public static boolean readable(int offset) {
        return switch (offset) {
            case ID, VERSION, TPR, PPR, LDR, DFR, SPIV, ESR, ICR, ICR2, LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0,
                 LVT_LINT1, LVT_ERROR, TIMER_INITIAL_COUNT, TIMER_CURRENT_COUNT, TIMER_DIVIDE -> true;
            default -> offset >= ISR && offset < IRR + 0x80 && (offset & 0xf) == 0;
        };
    }

    private int read(int offset) {
        return switch (offset) {
            case PPR -> ppr();
            case TIMER_CURRENT_COUNT -> currentCount();
            default -> reg(offset);
        };
    }

    private boolean write(int offset, int value) {
        switch (offset) {
            case ID -> set(ID, value & 0xff00_0000);
            case TPR -> tpr(value);
            case EOI -> eoi();
            case LDR -> {
                set(LDR, value & 0xff00_0000);
                owner.apicModeChanged();
            }
            case DFR -> {
                set(DFR, value | 0x0fff_ffff);
                owner.apicModeChanged();
            }
            case SPIV -> writeSpiv(value);
            case ESR -> {
                set(ESR, pendingEsr);
                pendingEsr = 0;
            }
            case ICR -> {
                set(ICR, value & ~ICR_BUSY);
                bus.send(this, value, reg(ICR2) >>> 24);
            }
            case ICR2 -> set(ICR2, value & 0xff00_0000);
            case LVT_TIMER -> writeLvtTimer(value);
            case LVT_THERMAL, LVT_ERROR -> set(offset, lvt(value, LVT_MASK));
            case LVT_PMC -> set(offset, lvt(value, LVT_MASK | (7 << 8)));
            case LVT_LINT0, LVT_LINT1 -> set(offset, lvt(value, LVT_MASK | (7 << 8) | (1 << 13) | (1 << 15)));
            case TIMER_INITIAL_COUNT -> writeInitialCount(value);
            case TIMER_DIVIDE -> {
                set(TIMER_DIVIDE, value & 0xb);
                restartCount();
            }
            default -> {
                return false;
            }
        }
        return true;
    }

    private int lvt(int value, int mask) {
        return isSoftwareEnabled() ? value & mask : (value & mask) | LVT_MASKED;
    }

    private void writeSpiv(int value) {
        boolean wasEnabled = isSoftwareEnabled();
        set(SPIV, value & (0x3ff | ((reg(VERSION) & VERSION_DIRECTED_EOI) != 0 ? SPIV_SUPPRESS_EOI_BROADCAST : 0)));
        if (wasEnabled && !isSoftwareEnabled()) {
            for (int lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 0x10) {
                set(lvt, reg(lvt) | LVT_MASKED);
            }
            stopTimer();
        }
        owner.apicEvent();
    }

    // --- timer

    private void writeLvtTimer(int value) {
        int masked = lvt(value, LVT_MASK | LVT_TIMER_MODE);
        boolean modeChanged = ((masked ^ reg(LVT_TIMER)) & LVT_TIMER_MODE) != 0;
        set(LVT_TIMER, masked);
        if (modeChanged) {
            stopTimer();
            set(TIMER_INITIAL_COUNT, 0);
            tscDeadline = 0;
            timerPending = false;
        }
    }

    private int timerMode() {
        return reg(LVT_TIMER) & LVT_TIMER_MODE;
    }

    private long divisor() {
        int shift = (((reg(TIMER_DIVIDE) & 3) | ((reg(TIMER_DIVIDE) >> 1) & 4)) + 1) & 7;
        return 1L << shift;
    }

    private void writeInitialCount(int value) {
        if (timerMode() == LVT_TIMER_TSC_DEADLINE) {
            return;
        }
        set(TIMER_INITIAL_COUNT, value);
        timerPending = false;
        restartCount();
    }

    private void restartCount() {
        if (timerMode() == LVT_TIMER_TSC_DEADLINE) {
            return;
        }
        stopTimer();
        long count = reg(TIMER_INITIAL_COUNT) & 0xffff_ffffL;
        if (count != 0) {
            timerStart = clock.now();
            timerPeriodTicks = Math.max(1, clock.ticksOfNanos(Ratio.floor(count, divisor() * busCycleNs, 1)));
            timer = clock.schedule(timerStart + timerPeriodTicks, this, TimerKind.COUNT);
        }
    }

    @Override public void timerFired(TimerKind kind) {
        switch (kind) {
            case COUNT -> countExpired();
            case DEADLINE -> deadlineExpired();
        }
    }

    private void countExpired() {
        timer = null;
        timerPending = true;
        if (timerMode() == LVT_TIMER_PERIODIC) {
            timerStart += timerPeriodTicks;
            timer = clock.schedule(timerStart + timerPeriodTicks, this, TimerKind.COUNT);
        }
        owner.apicEvent();
    }

    private int currentCount() {
        if (timer == null || timerMode() == LVT_TIMER_TSC_DEADLINE) {
            return 0;
        }
        long left = Math.max(0, timerStart + timerPeriodTicks - clock.now());
        long total = reg(TIMER_INITIAL_COUNT) & 0xffff_ffffL;
        return (int) Math.min(total, Ratio.floor(left, total, timerPeriodTicks));
    }

    /// RDMSR IA32_TSC_DEADLINE.
    public long tscDeadline() {
        return timerMode() == LVT_TIMER_TSC_DEADLINE && isEnabled() ? tscDeadline : 0;
    }

    /// WRMSR IA32_TSC_DEADLINE; without effect in the other timer modes.
    public void tscDeadline(long guestTsc) {
        if (timerMode() != LVT_TIMER_TSC_DEADLINE || !isEnabled()) {
            return;
        }
        stopTimer();
        timerPending = false;
        tscDeadline = guestTsc;
        if (guestTsc != 0) {
            long guestNow = clock.now() + owner.tscOffset();
            if (Long.compareUnsigned(guestTsc, guestNow) <= 0) {
                deadlineExpired();
                return;
            }
            long deadline = clock.now() + (guestTsc - guestNow);
            boolean reachable = guestTsc - guestNow > 0 && deadline > 0; // 2^63 ticks never pass
            timer = clock.schedule(reachable ? deadline : Long.MAX_VALUE, this, TimerKind.DEADLINE);
        }
    }

    private void deadlineExpired() {
        timer = null;
        tscDeadline = 0;
        timerPending = true;
        owner.apicEvent();
    }

    private void stopTimer() {
        if (timer != null) {
            timer.cancel();
            timer = null;
        }
    }

    /// Whether the timer fired and its interrupt has not been raised.
    public boolean timerPending() {
        return timerPending && (reg(LVT_TIMER) & LVT_MASKED) == 0;
    }

    /// Raises the interrupt of a timer that fired. [LINUX kvm_inject_apic_timer_irqs]
    public void injectPendingTimer() {
        if (timerPending) {
            timerPending = false;
            if (isEnabled() && (reg(LVT_TIMER) & LVT_MASKED) == 0) {
                accept(FIXED, reg(LVT_TIMER) & 0xff, false);
            }
        }
    }

    // --- state

    /// The register page of KVM_GET_LAPIC.
    public byte[] save() {
        var saved = ByteBuffer.allocate(1024).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < ApicPage.WORDS; i++) {
            saved.putInt(i * 16, i == TIMER_CURRENT_COUNT >> 4 ? currentCount() : page.read(i << 4));
        }
        return saved.array();
    }

    /// KVM_SET_LAPIC.
    public void restore(byte[] saved) {
        var words = ByteBuffer.wrap(saved).order(ByteOrder.LITTLE_ENDIAN);
        stopTimer();
        for (int i = 0; i < ApicPage.WORDS; i++) {
            page.write(i << 4, words.getInt(i * 16));
        }
        restartCount();
        owner.apicEvent();
    }

    /// Whether `vector` is requested or in service.
    public boolean isActive(int vector) {
        int bit = 1 << (vector & 31);
        int word = vector >> 5 << 4;
        return ((page.read(IRR + word) | page.read(ISR + word)) & bit) != 0;
    }

    private int reg(int offset) {
        return page.read(offset);
    }

    private void set(int offset, int value) {
        page.write(offset, value);
    }

    private void setBit(int first, int vector, boolean value) {
        int offset = first + (vector >> 5 << 4);
        int bit = 1 << (vector & 31);
        page.write(offset, value ? page.read(offset) | bit : page.read(offset) & ~bit);
    }

    private int highest(int first) {
        for (int word = 7; word >= 0; word--) {
            int bits = page.read(first + (word << 4));
            if (bits != 0) {
                return word * 32 + 31 - Integer.numberOfLeadingZeros(bits);
            }
        }
        return -1;
    }

    @Override public String stateName() {
        return "apic";
    }

    @Override public void describe(StateSink to) {
        to.words("page", IntStream.range(0, ApicPage.WORDS).mapToLong(i -> page.read(i << 4) & 0xffff_ffffL).toArray());
        to.field("baseMsr", baseMsr);
        to.flag("userspaceIoapic", userspaceIoapic);
        to.field("pendingEsr", pendingEsr);
        to.field("timer", timer == null ? -1 : timer.deadline());
        to.flag("timerPending", timerPending);
        to.field("tscDeadline", tscDeadline);
        to.field("timerStart", timerStart);
        to.field("timerPeriodTicks", timerPeriodTicks);
        to.field("busCycleNs", busCycleNs);
    }
}
