package cloister.kvm.irq;

import static cloister.spec.x86.ApicRegister.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.MsiRoute;
import cloister.kvm.emulate.GuestGp;
import cloister.sim.VirtualClock;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

final class LocalApicTest {
    private static final int X2APIC = 0x800;
    private final VirtualClock clock = new VirtualClock(1_000_000_000L);
    private final ApicBus bus = new ApicBus();
    private final List<Owner> owners = new ArrayList<>();

    /// Records what its APIC tells it.
    private final class Owner implements ApicOwner {
        final int id;
        final LocalApic apic;
        final List<String> heard = new ArrayList<>();
        boolean posts;

        Owner(int id) {
            this.id = id;
            apic = new LocalApic(this, bus, clock, ApicPage.own());
            apic.userspaceIoapic(true);
        }

        @Override public int id() {
            return id;
        }

        @Override public long tscOffset() {
            return -1000;
        }

        @Override public void apicEvent() {
        }

        @Override public boolean postsInterrupts() {
            return posts;
        }

        @Override public void postInterrupt(int vector) {
            heard.add("post " + vector);
        }

        @Override public void unhalt() {
            throw new AssertionError("no kick was sent");
        }

        @Override public void nmiMessage() {
            heard.add("nmi");
        }

        @Override public void init() {
            heard.add("init");
        }

        @Override public void startup(int vector) {
            heard.add("startup " + vector);
        }

        @Override public void levelEoi(int vector) {
            heard.add("eoi " + vector);
        }
    }

    @BeforeEach void fourProcessorsInX2apicMode() {
        for (int id = 0; id < 4; id++) {
            var owner = new Owner(id);
            owner.apic.writeBaseMsr(DEFAULT_BASE | BASE_MSR_ENABLED | BASE_MSR_X2APIC, true, true);
            owner.apic.writeMsr(X2APIC + (SPIV >> 4), 0x1ff);
            owners.add(owner);
            bus.add(owner.apic);
        }
    }

    private LocalApic apic(int id) {
        return owners.get(id).apic;
    }

    private void sendIpi(int from, long icr) {
        apic(from).writeMsr(X2APIC + (ICR >> 4), icr);
    }

    @Test void physicalIpiReachesOnlyItsDestination() {
        sendIpi(0, (2L << 32) | 0x4000 | 0x51);
        assertThat(apic(2).deliverable()).isEqualTo(0x51);
        assertThat(apic(0).deliverable()).isEqualTo(-1);
        assertThat(apic(1).deliverable()).isEqualTo(-1);
    }

    @Test void allButSelfShorthandLeavesOutTheSender() {
        sendIpi(1, (3 << 18) | 0x61);
        assertThat(apic(1).deliverable()).isEqualTo(-1);
        for (int other : new int[] {0, 2, 3}) {
            assertThat(apic(other).deliverable()).isEqualTo(0x61);
        }
    }

    @Test void logicalX2apicDestinationIsAClusterAndAMask() {
        sendIpi(0, ((0xaL) << 32) | ICR_LOGICAL | 0x71);
        assertThat(apic(1).deliverable()).isEqualTo(0x71);
        assertThat(apic(3).deliverable()).isEqualTo(0x71);
        assertThat(apic(0).deliverable()).isEqualTo(-1);
        assertThat(apic(2).deliverable()).isEqualTo(-1);
    }

    @Test void initAndStartupAreMessagesOfTheirOwn() {
        sendIpi(0, (1L << 32) | (INIT << 8) | ICR_ASSERT);
        sendIpi(0, (1L << 32) | (STARTUP << 8) | 0x9a);
        sendIpi(0, (1L << 32) | (NMI << 8));
        assertThat(owners.get(1).heard).containsExactly("init", "startup 154", "nmi");
        assertThat(owners.get(2).heard).isEmpty();
    }

    @Test void higherClassInterruptsLowerOneAndEoiBringsItBack() {
        sendIpi(0, 0x31);
        apic(0).acknowledge(apic(0).deliverable());
        sendIpi(0, 0x35);
        assertThat(apic(0).deliverable()).as("same class waits").isEqualTo(-1);
        sendIpi(0, 0x41);
        assertThat(apic(0).deliverable()).isEqualTo(0x41);
        apic(0).acknowledge(0x41);
        apic(0).writeMsr(X2APIC + (EOI >> 4), 0);
        assertThat(apic(0).deliverable()).isEqualTo(-1);
        apic(0).writeMsr(X2APIC + (EOI >> 4), 0);
        assertThat(apic(0).deliverable()).isEqualTo(0x35);
    }

    @Test void taskPriorityHoldsInterruptsBack() {
        sendIpi(0, 0x31);
        apic(0).writeMsr(X2APIC + (TPR >> 4), 0x30);
        assertThat(apic(0).deliverable()).isEqualTo(-1);
        apic(0).writeMsr(X2APIC + (TPR >> 4), 0x20);
        assertThat(apic(0).deliverable()).isEqualTo(0x31);
    }

    @Test void tscDeadlineCountsInGuestTime() {
        clock.advance(2000);
        apic(0).writeMsr(X2APIC + (LVT_TIMER >> 4), LVT_TIMER_TSC_DEADLINE | 0xec);
        apic(0).tscDeadline(4000); // the guest's TSC is 1000 behind the platform's
        clock.advance(2999);
        assertThat(apic(0).timerPending()).isFalse();
        clock.advance(1);
        assertThat(apic(0).timerPending()).isTrue();
        assertThat(apic(0).tscDeadline()).isZero();
        apic(0).injectPendingTimer();
        assertThat(apic(0).deliverable()).isEqualTo(0xec);
    }

    /// A deadline with bit 63 set is centuries away, not in the past.
    @Test void theFarthestTscDeadlineNeverComes() {
        clock.advance(5000);
        apic(0).writeMsr(X2APIC + (LVT_TIMER >> 4), LVT_TIMER_TSC_DEADLINE | 0x41);
        apic(0).tscDeadline(-1);
        clock.advance(1_000_000);
        assertThat(apic(0).timerPending()).isFalse();
        assertThat(apic(0).tscDeadline()).isEqualTo(-1);
    }

    @Test void tscDeadlineInThePastFiresAtOnce() {
        apic(0).writeMsr(X2APIC + (LVT_TIMER >> 4), LVT_TIMER_TSC_DEADLINE | 0xec);
        clock.advance(5000);
        apic(0).tscDeadline(10);
        assertThat(apic(0).timerPending()).isTrue();
    }

    @Test void periodicTimerKeepsItsPhase() {
        apic(0).writeMsr(X2APIC + (TIMER_DIVIDE >> 4), 0xb); // divide by 1
        apic(0).writeMsr(X2APIC + (LVT_TIMER >> 4), LVT_TIMER_PERIODIC | 0x40);
        apic(0).writeMsr(X2APIC + (TIMER_INITIAL_COUNT >> 4), 1000);
        clock.advance(400);
        assertThat(apic(0).readMsr(X2APIC + (TIMER_CURRENT_COUNT >> 4))).isEqualTo(600);
        for (int period = 1; period <= 3; period++) {
            clock.advance(period * 1000L - clock.now() - 1);
            assertThat(apic(0).timerPending()).as("before period %d", period).isFalse();
            clock.advance(11);
            assertThat(apic(0).timerPending()).as("after period %d", period).isTrue();
            apic(0).injectPendingTimer();
        }
    }

    @Test void oneShotDividesByItsConfiguration() {
        apic(0).writeMsr(X2APIC + (TIMER_DIVIDE >> 4), 0x3); // divide by 16
        apic(0).writeMsr(X2APIC + (LVT_TIMER >> 4), 0x40);
        apic(0).writeMsr(X2APIC + (TIMER_INITIAL_COUNT >> 4), 100);
        clock.advance(1599);
        assertThat(apic(0).timerPending()).isFalse();
        clock.advance(1);
        assertThat(apic(0).timerPending()).isTrue();
        apic(0).injectPendingTimer();
        clock.advance(100_000);
        assertThat(apic(0).timerPending()).isFalse();
    }

    @Test void switchingTheTimerModeDisarmsIt() {
        apic(0).writeMsr(X2APIC + (LVT_TIMER >> 4), LVT_TIMER_TSC_DEADLINE | 0xec);
        apic(0).tscDeadline(4000);
        apic(0).writeMsr(X2APIC + (LVT_TIMER >> 4), LVT_TIMER_PERIODIC | 0xec);
        clock.advance(10_000);
        assertThat(apic(0).timerPending()).isFalse();
    }

    @Test void reservedX2apicRegistersFault() {
        for (int offset : new int[] {DFR, ICR2, RRD, APR, 0x40}) {
            assertThatThrownBy(() -> apic(0).readMsr(X2APIC + (offset >> 4))).isInstanceOf(GuestGp.class);
        }
        assertThatThrownBy(() -> apic(0).writeMsr(X2APIC + (ID >> 4), 1)).isInstanceOf(GuestGp.class);
        assertThatThrownBy(() -> apic(0).writeMsr(X2APIC + (EOI >> 4), 1)).isInstanceOf(GuestGp.class);
        assertThatThrownBy(() -> apic(0).writeMsr(X2APIC + (TPR >> 4), 1L << 32)).isInstanceOf(GuestGp.class);
    }

    @Test void leavingX2apicModeGoesThroughDisabledOnly() {
        assertThatThrownBy(() -> apic(0).writeBaseMsr(DEFAULT_BASE | BASE_MSR_ENABLED, true, false))
                .isInstanceOf(GuestGp.class);
        apic(0).writeBaseMsr(DEFAULT_BASE, true, false);
        assertThatThrownBy(() -> apic(0).writeBaseMsr(DEFAULT_BASE | BASE_MSR_ENABLED | BASE_MSR_X2APIC, true, false))
                .isInstanceOf(GuestGp.class);
        apic(0).writeBaseMsr(DEFAULT_BASE | BASE_MSR_ENABLED, true, false);
        assertThat(apic(0).isX2apic()).isFalse();
        assertThat(apic(0).readMmio(ID)).isZero();
    }

    @Test void levelInterruptOfTheIoapicReportsItsEoi() {
        bus.ioapicPins(24);
        bus.routes(List.of(new MsiRoute(9, 0xfee0_1000L, (1 << 15) | 0x39), new MsiRoute(4, 0xfee0_1000L, 0x34)));
        assertThat(bus.assertGsi(9)).isEqualTo(1);
        assertThat(bus.assertGsi(4)).isEqualTo(1);
        assertThat(bus.assertGsi(5)).as("no route").isZero();
        var vectors = new BitSet();
        bus.scanIoapicRoutes(apic(1), vectors);
        assertThat(vectors.stream().toArray()).containsExactly(0x39);
        for (int vector : new int[] {0x39, 0x34}) {
            apic(1).acknowledge(vector);
        }
        apic(1).writeMsr(X2APIC + (EOI >> 4), 0);
        apic(1).writeMsr(X2APIC + (EOI >> 4), 0);
        assertThat(owners.get(1).heard).containsExactly("eoi 57");
    }

    @Test void postedVectorsNeverEnterTheRegisters() {
        owners.get(3).posts = true;
        sendIpi(0, (3L << 32) | 0x51);
        assertThat(owners.get(3).heard).containsExactly("post 81");
        assertThat(apic(3).deliverable()).isEqualTo(-1);
    }

    @Test void softwareDisabledApicDropsFixedInterrupts() {
        apic(2).writeMsr(X2APIC + (SPIV >> 4), 0xff);
        assertThat(bus.signalMsi(0xfee0_2000L, 0x55)).isZero();
        apic(2).writeMsr(X2APIC + (SPIV >> 4), 0x1ff);
        assertThat(apic(2).deliverable()).isEqualTo(-1);
    }

    @Test void msiWithWideIds() {
        bus.x2apicApi(true, true);
        assertThat(bus.signalMsi((1L << 40) | 0xfee0_2000L, 0x55)).as("APIC id 0x102").isZero();
        assertThat(bus.signalMsi(0xfee0_2000L, 0x55)).isEqualTo(1);
        assertThat(apic(2).deliverable()).isEqualTo(0x55);
    }
}
