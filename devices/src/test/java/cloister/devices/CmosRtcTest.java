package cloister.devices;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.sim.VirtualClock;
import org.junit.jupiter.api.Test;

final class CmosRtcTest {
    private static final long TICKS = 1_000_000_000L;
    /// 2026-12-31T23:59:58Z, a Thursday.
    private static final long START = 1_798_761_598L;

    private final VirtualClock clock = new VirtualClock(TICKS);
    private boolean irq;
    private final CmosRtc rtc = new CmosRtc(clock, START, level -> irq = level);

    private int read(int register) {
        rtc.writePort(0x70, 1, register);
        return rtc.readPort(0x71, 1);
    }

    private void write(int register, int value) {
        rtc.writePort(0x70, 1, register);
        rtc.writePort(0x71, 1, value);
    }

    private int[] time() {
        return new int[] {read(0x32), read(9), read(8), read(7), read(6), read(4), read(2), read(0)};
    }

    @Test void countsBcdOverTheEndOfTheYear() {
        assertThat(time()).containsExactly(0x20, 0x26, 0x12, 0x31, 5, 0x23, 0x59, 0x58);
        clock.advance(2 * TICKS);
        assertThat(time()).containsExactly(0x20, 0x27, 0x01, 0x01, 6, 0x00, 0x00, 0x00);
    }

    @Test void countsBinaryAndTwelveHours() {
        write(0xb, 4);
        assertThat(time()).containsExactly(20, 26, 12, 31, 5, 11 | 0x80, 59, 58);
    }

    @Test void setKeepsTheFieldsStillAndThenCountsFromThem() {
        write(0xb, 0x82);
        write(0, 0x10);
        write(4, 0x01);
        clock.advance(5 * TICKS);
        assertThat(read(0)).isEqualTo(0x10);
        write(0xb, 0x02);
        clock.advance(3 * TICKS);
        assertThat(read(0)).isEqualTo(0x13);
        assertThat(read(4)).isEqualTo(0x01);
        assertThat(read(7)).isEqualTo(0x31);
    }

    @Test void updateInProgressAtTheEndOfEachSecond() {
        assertThat(read(0xa)).isEqualTo(0x26);
        clock.advance(TICKS - 100_000);
        assertThat(read(0xa)).isEqualTo(0xa6);
        clock.advance(100_000);
        assertThat(read(0xa)).isEqualTo(0x26);
    }

    @Test void raisesUpdateAlarmAndPeriodicInterrupts() {
        write(0xb, 0x12);
        clock.advance(TICKS);
        assertThat(irq).isTrue();
        assertThat(read(0xc)).isEqualTo(0x90);
        assertThat(irq).isFalse();

        write(1, 0x01); // alarm second; minute and hour: every
        write(3, 0xff);
        write(5, 0xff);
        write(0xb, 0x22);
        clock.advance(TICKS);
        assertThat(irq).as("00:00:00 is not the alarm").isFalse();
        clock.advance(TICKS);
        assertThat(irq).isTrue();
        assertThat(read(0xc) & 0xa0).isEqualTo(0xa0);

        write(0xb, 0x42);
        clock.advance(TICKS / 1024 + 1);
        assertThat(irq).isTrue();
        assertThat(read(0xc) & 0xc0).isEqualTo(0xc0);
    }
}
