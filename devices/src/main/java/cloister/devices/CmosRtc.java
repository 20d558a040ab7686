package cloister.devices;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.TimerOwner;
import cloister.sim.VirtualClock;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;

/// The MC146818 real-time clock with CMOS RAM, on the virtual clock. [MC146818A data sheet]
///
/// Ports 0x70 (index) and 0x71 (data). Runs in UTC.
public final class CmosRtc implements PortDevice, Persistent, TimerOwner<CmosRtc.TimerKind> {
    /// The index port; the data port follows.
    public static final int BASE = 0x70;
    /// CMOS byte of the century, which FADT names.
    public static final int CENTURY = 0x32;

    private static final int SECONDS = 0;
    private static final int MINUTES = 2;
    private static final int HOURS = 4;
    private static final int DAY_OF_WEEK = 6;
    private static final int DAY = 7;
    private static final int MONTH = 8;
    private static final int YEAR = 9;
    private static final int A = 0xa;
    private static final int B = 0xb;
    private static final int C = 0xc;
    private static final int D = 0xd;
    private static final int A_UPDATE_IN_PROGRESS = 0x80;
    private static final int B_SET = 0x80;
    private static final int B_BINARY = 4;
    private static final int B_24_HOURS = 2;
    private static final int C_REQUEST = 0x80;
    private static final int PERIODIC = 0x40;
    private static final int ALARM = 0x20;
    private static final int UPDATE = 0x10;
    private static final int D_VALID = 0x80;
    private static final long UPDATE_NANOS = 244_000;
    private static final long SECOND_NANOS = 1_000_000_000;

    private final VirtualClock clock;
    private final InterruptLine irq;
    private final byte[] ram = new byte[128];
    private long epochOffsetSeconds;
    private int index;
    private int flags;
    private long updatesSeenSecond;
    /// The timers of the clock.
    enum TimerKind {
        /// The next second: an update, perhaps an alarm.
        SECOND,
        /// The periodic interrupt.
        PERIOD
    }

    private VirtualClock.Timer secondTimer;
    private VirtualClock.Timer periodicTimer;

    /// @param startEpochSeconds the time at power-on, seconds since 1970
    public CmosRtc(VirtualClock clock, long startEpochSeconds, InterruptLine irq) {
        this.clock = clock;
        this.irq = irq;
        epochOffsetSeconds = startEpochSeconds;
        ram[A] = 0x26;
        ram[B] = B_24_HOURS;
    }

    @Override public int readPort(int port, int size) {
        if (port == BASE) {
            return 0xff; // the index register is write-only
        }
        return switch (index) {
            case SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY, MONTH, YEAR, CENTURY -> {
                if (!setting()) {
                    latch();
                }
                yield ram[index] & 0xff;
            }
            case A -> ram[A] | (updateInProgress() ? A_UPDATE_IN_PROGRESS : 0);
            case C -> readFlags();
            case D -> D_VALID;
            default -> ram[index] & 0xff;
        };
    }

    @Override public void writePort(int port, int size, int value) {
        if (port == BASE) {
            index = value & 0x7f; // bit 7 masks NMI, which nothing here raises
            return;
        }
        switch (index) {
            case SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY, MONTH, YEAR, CENTURY -> {
                if (!setting()) {
                    latch();
                }
                ram[index] = (byte) value;
                if (!setting()) {
                    adopt();
                }
            }
            case A -> {
                ram[A] = (byte) (value & 0x7f);
                armPeriodic();
            }
            case B -> writeControl(value);
            case C, D -> { } // read-only
            default -> ram[index] = (byte) value;
        }
    }

    private boolean setting() {
        return (ram[B] & B_SET) != 0;
    }

    private long epochSeconds() {
        return clock.nanos() / SECOND_NANOS + epochOffsetSeconds;
    }

    private boolean updateInProgress() {
        return !setting() && clock.nanos() % SECOND_NANOS >= SECOND_NANOS - UPDATE_NANOS;
    }

    private void writeControl(int value) {
        boolean wasSetting = setting();
        if (!wasSetting && (value & B_SET) != 0) {
            latch();
        }
        ram[B] = (byte) value;
        if (wasSetting && !setting()) {
            adopt();
        }
        armSecond();
        armPeriodic();
        update();
    }

    private void latch() {
        var now = LocalDateTime.ofInstant(Instant.ofEpochSecond(epochSeconds()), ZoneOffset.UTC);
        ram[SECONDS] = encode(now.getSecond());
        ram[MINUTES] = encode(now.getMinute());
        ram[HOURS] = encodeHour(now.getHour());
        ram[DAY_OF_WEEK] = encode(now.getDayOfWeek().getValue() % 7 + 1);
        ram[DAY] = encode(now.getDayOfMonth());
        ram[MONTH] = encode(now.getMonthValue());
        ram[YEAR] = encode(now.getYear() % 100);
        ram[CENTURY] = encode(now.getYear() / 100);
    }

    private void adopt() {
        try {
            var set = LocalDateTime.of(decode(ram[CENTURY]) * 100 + decode(ram[YEAR]), decode(ram[MONTH]),
                    decode(ram[DAY]), decodeHour(ram[HOURS]), decode(ram[MINUTES]), decode(ram[SECONDS]));
            epochOffsetSeconds += set.toEpochSecond(ZoneOffset.UTC) - epochSeconds();
        } catch (DateTimeException impossibleDate) {
            // The hardware would count on from nonsense; here the clock keeps its time until the date is sane.
        }
    }

    private byte encode(int value) {
        return (byte) ((ram[B] & B_BINARY) != 0 ? value : ((value / 10) << 4) | (value % 10));
    }

    private int decode(int value) {
        return (ram[B] & B_BINARY) != 0 ? value & 0xff : ((value >>> 4) & 0xf) * 10 + (value & 0xf);
    }

    private byte encodeHour(int hour) {
        if ((ram[B] & B_24_HOURS) != 0) {
            return encode(hour);
        }
        int twelve = hour % 12 == 0 ? 12 : hour % 12;
        return (byte) (encode(twelve) | (hour >= 12 ? 0x80 : 0));
    }

    private int decodeHour(int value) {
        if ((ram[B] & B_24_HOURS) != 0) {
            return decode(value);
        }
        return decode(value & 0x7f) % 12 + ((value & 0x80) != 0 ? 12 : 0);
    }

    private int readFlags() {
        long second = clock.nanos() / SECOND_NANOS;
        int value = flags | (second != updatesSeenSecond ? UPDATE : 0);
        if ((value & ram[B] & (PERIODIC | ALARM | UPDATE)) != 0) {
            value |= C_REQUEST;
        }
        updatesSeenSecond = second;
        flags = 0;
        update();
        return value;
    }

    private void armSecond() {
        if (secondTimer != null) {
            secondTimer.cancel();
            secondTimer = null;
        }
        if ((ram[B] & (ALARM | UPDATE)) != 0 && !setting()) {
            long next = (clock.nanos() / SECOND_NANOS + 1) * SECOND_NANOS;
            secondTimer = clock.schedule(clock.ticksOfNanos(next), this, TimerKind.SECOND);
        }
    }

    @Override public void timerFired(TimerKind kind) {
        switch (kind) {
            case SECOND -> secondPassed();
            case PERIOD -> {
                flags |= PERIODIC;
                update();
                armPeriodic();
            }
        }
    }

    private void secondPassed() {
        flags |= UPDATE;
        latch();
        if (alarmMatches(SECONDS) && alarmMatches(MINUTES) && alarmMatches(HOURS)) {
            flags |= ALARM;
        }
        update();
        armSecond();
    }

    private boolean alarmMatches(int field) {
        int alarm = ram[field + 1] & 0xff;
        return alarm >= 0xc0 || alarm == (ram[field] & 0xff); // the two top bits mean "every"
    }

    private void armPeriodic() {
        if (periodicTimer != null) {
            periodicTimer.cancel();
            periodicTimer = null;
        }
        int rate = ram[A] & 0xf;
        if ((ram[B] & PERIODIC) != 0 && rate != 0) {
            long hertz = 32768 >> (rate < 3 ? rate + 6 : rate - 1);
            periodicTimer = clock.schedule(clock.now() + clock.ticksPerSecond() / hertz, this, TimerKind.PERIOD);
        }
    }

    private void update() {
        irq.drive((flags & ram[B] & (PERIODIC | ALARM | UPDATE)) != 0);
    }

    @Override public String stateName() {
        return "rtc";
    }

    @Override public void describe(StateSink out) {
        out.bytes("ram", ram);
        out.field("epochOffsetSeconds", epochOffsetSeconds);
        out.field("index", index);
        out.field("flags", flags);
        out.field("updatesSeenSecond", updatesSeenSecond);
        out.field("secondTimer", secondTimer == null ? -1 : secondTimer.deadline());
        out.field("periodicTimer", periodicTimer == null ? -1 : periodicTimer.deadline());
    }
}
