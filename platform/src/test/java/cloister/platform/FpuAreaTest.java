package cloister.platform;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.sys.Cpuid;
import cloister.cpu.fpu.FpuState;
import cloister.cpu.fpu.XsaveArea;
import cloister.cpu.vmx.VmcsRegions;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Msr;
import cloister.tdx.port.ExtendedState;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The extended state of a processor as the TDX module has it saved and loaded.
class FpuAreaTest {
    private static final long XFAM = XsaveArea.X87 | XsaveArea.SSE | XsaveArea.PKRU;

    /// A page of memory.
    private static final class Page implements ExtendedState {
        private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
        final byte[] bytes = new byte[4096];
        private final MemorySegment segment = MemorySegment.ofArray(bytes);

        @Override public long word(int offset) {
            return segment.get(LONG, offset);
        }

        @Override public void word(int offset, long value) {
            segment.set(LONG, offset, value);
        }

        @Override public void read(byte[] to, int length) {
            System.arraycopy(bytes, 0, to, 0, length);
        }

        @Override public void write(byte[] from, int length) {
            System.arraycopy(from, 0, bytes, 0, length);
        }
    }

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final LogicalProcessor lp = new LogicalProcessor(0, memory,
            new Scheduler(new VirtualClock(1_000_000_000), new RoundRobin(), Scheduler.IdlePace.SKIP), new Entropy(1), new Cpuid(1),
            new VmcsRegions(memory));
    private final FpuArea area = new FpuArea();
    private final Page page = new Page();

    private void fill() {
        for (int i = 0; i < 32; i++) {
            lp.fpu().xmm[i] = 0x100 + i;
        }
        for (int i = 0; i < 8; i++) {
            lp.fpu().st[i] = 0x8000_0000_0000_0000L | i;
            lp.fpu().stExponent[i] = 0x3fff + i;
        }
        lp.fpu().fcw = 0x27f;
        lp.fpu().fsw = 0x3800;
        lp.fpu().tags = 0xff;
        lp.fpu().mxcsr = 0x1fa0;
        lp.pkru(0x5555_5554);
    }

    @Test void whatIsSavedComesBack() {
        fill();
        area.save(lp, page, XFAM);
        assertThat(page.word(ExtendedState.XSTATE_BV)).isEqualTo(XFAM);
        assertThat(page.word(ExtendedState.XCOMP_BV)).isEqualTo(XFAM | (1L << 63));
        assertThat(page.word(ExtendedState.XMM + 16 * 5)).isEqualTo(0x100 + 10);
        assertThat(page.word(24) & 0xffff_ffffL).as("MXCSR").isEqualTo(0x1fa0);
        assertThat(page.word(ExtendedState.EXTENDED)).as("PKRU, the first component of the compacted format").isEqualTo(0x5555_5554);
        var saved = page.bytes.clone();
        lp.resetComponents(XFAM);
        assertThat(lp.fpu().xmm).containsOnly(0);
        assertThat(lp.fpu().mxcsr).isEqualTo(FpuState.INITIAL_MXCSR);
        assertThat(lp.pkru()).isZero();
        page.word(ExtendedState.XMM + 16 * 3, 0x7777);
        assertThat(area.load(lp, page, XFAM)).isTrue();
        assertThat(lp.fpu().xmm[6]).isEqualTo(0x7777);
        page.word(ExtendedState.XMM + 16 * 3, 0x106);
        assertThat(area.load(lp, page, XFAM)).isTrue();
        var again = new Page();
        area.save(lp, again, XFAM);
        assertThat(again.bytes).isEqualTo(saved);
    }

    @Test void aNewAreaIsInitialState() {
        fill();
        page.word(ExtendedState.XCOMP_BV, 1L << 63);
        assertThat(area.load(lp, page, XFAM)).isTrue();
        assertThat(lp.fpu().fcw).isEqualTo(FpuState.INITIAL_FCW);
        assertThat(Arrays.stream(lp.fpu().xmm).limit(32).allMatch(x -> x == 0)).isTrue();
        assertThat(lp.pkru()).isZero();
    }

    @ParameterizedTest
    @CsvSource({"520, 8000000000000000", "520, 100000", "512, 4", "528, 1", "24, 10000"})
    void aMalformedAreaIsRefused(int offset, String bits) {
        fill();
        area.save(lp, page, XFAM);
        page.word(offset, page.word(offset) ^ Long.parseUnsignedLong(bits, 16));
        lp.resetComponents(XFAM);
        assertThat(area.load(lp, page, XFAM)).isFalse();
        assertThat(lp.fpu().xmm).containsOnly(0);
    }

    @Test void componentsOutsideTheMaskStay() {
        fill();
        area.save(lp, page, XFAM);
        lp.resetComponents(XFAM);
        assertThat(area.load(lp, page, XsaveArea.X87 | XsaveArea.SSE)).as("XCOMP_BV has more than XFAM").isFalse();
        area.save(lp, page, XsaveArea.X87 | XsaveArea.SSE);
        lp.pkru(0x1234);
        assertThat(area.load(lp, page, XsaveArea.X87 | XsaveArea.SSE)).isTrue();
        assertThat(lp.pkru()).isEqualTo(0x1234);
    }

    /// The CET components follow PKRU; a value that WRMSR would refuse is refused.
    @Test void controlFlowStateComesBack() {
        long xfam = XFAM | XsaveArea.CET_U | XsaveArea.CET_S;
        lp.wrmsr(Msr.IA32_U_CET, 1);
        for (int i = 0; i < 4; i++) {
            lp.wrmsr(Msr.IA32_PL0_SSP + i, 0x1000 * (i + 1));
        }
        area.save(lp, page, xfam);
        assertThat(page.word(ExtendedState.XSTATE_BV) & 0x1800).isEqualTo(0x1800);
        long[] words = {1, 0x4000, 0x1000, 0x2000, 0x3000};
        for (int i = 0; i < words.length; i++) {
            assertThat(page.word(ExtendedState.EXTENDED + 8 + 8 * i)).isEqualTo(words[i]);
        }
        lp.resetComponents(xfam);
        assertThat(lp.rdmsr(Msr.IA32_U_CET) | lp.rdmsr(Msr.IA32_PL0_SSP) | lp.rdmsr(Msr.IA32_PL3_SSP)).isZero();
        assertThat(area.load(lp, page, xfam)).isTrue();
        assertThat(lp.rdmsr(Msr.IA32_U_CET)).isEqualTo(1);
        assertThat(lp.rdmsr(Msr.IA32_PL3_SSP)).isEqualTo(0x4000);
        assertThat(lp.rdmsr(Msr.IA32_PL1_SSP)).isEqualTo(0x2000);
        page.word(ExtendedState.EXTENDED + 8, 0x40);
        assertThat(area.load(lp, page, xfam)).isFalse();
    }
}
