package cloister.bench;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// SEAMCALLs (and TDCALLs) a second on the real platform, and the time to build and measure a TD image of 64 MiB. Every
/// invocation has a fresh platform and TD, made outside the measured time. Run with `./cloister bench SeamcallBenchmark`.
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = {"-XX:+UseSerialGC", "-XX:PerMethodTrapLimit=0", "--enable-native-access=ALL-UNNAMED"})
public class SeamcallBenchmark {
    private static final int PAGES = 4096;
    private static final int IMAGE_PAGES = (int) ((64L << 20) / BuiltTd.PAGE);
    private static final int ADD_AND_EXTEND = 17;
    private static final int BLOCK_TRACK_REMOVE = 3;
    private static final int MEASURED_BLOCK = 128;
    private static final int MEASURED_CHUNK = 256;

    /// A TD whose image is not there yet.
    @State(Scope.Thread)
    public static class Unmeasured {
        private BuiltTd td;
        private long[] sources;
        private long[] frames;

        @Setup(Level.Invocation)
        public void make() {
            td = new BuiltTd();
            sources = td.sources(PAGES);
            frames = td.frames(PAGES);
            td.create();
            td.tables(PAGES * BuiltTd.PAGE);
        }

        @TearDown(Level.Invocation)
        public void close() {
            td.close();
        }
    }

    /// A TD that can run. JMH calls the preparations of a subclass before those of its superclass, so there are none here.
    public abstract static class RunnableTd {
        BuiltTd td;
        private long[] frames;

        final void build() {
            td = new BuiltTd();
            frames = td.frames(PAGES);
            td.create();
            td.tables(PAGES * BuiltTd.PAGE);
            long guest = AcceptingGuest.BASE;
            td.tablesBelow(guest, AcceptingGuest.PAGES * BuiltTd.PAGE);
            for (int i = 0; i < AcceptingGuest.PAGES; i++) {
                long source = td.frame();
                td.write(source, AcceptingGuest.page(i, PAGES));
                td.addMeasured(guest + i * BuiltTd.PAGE, td.frame(), source);
            }
            td.finish();
        }

        final void augment() {
            for (int i = 0; i < PAGES; i++) {
                td.augment(i * BuiltTd.PAGE, frames[i]);
            }
        }

        final void runGuest() {
            long asked = td.enter();
            if (asked != AcceptingGuest.READY) {
                throw new IllegalStateException("the guest asks for " + asked);
            }
        }

        @TearDown(Level.Invocation)
        public void close() {
            td.close();
        }
    }

    /// A TD without the memory that its guest wants.
    @State(Scope.Thread)
    public static class Empty extends RunnableTd {
        @Setup(Level.Invocation)
        public void make() {
            build();
        }
    }

    /// A TD with pages that wait for acceptance, and whose guest has started.
    @State(Scope.Thread)
    public static class Pending extends RunnableTd {
        @Setup(Level.Invocation)
        public void make() {
            build();
            augment();
            runGuest();
        }
    }

    /// A platform without TD, and an image.
    @State(Scope.Thread)
    public static class Image {
        private BuiltTd td;
        private long[] sources;

        @Setup(Level.Invocation)
        public void make() {
            td = new BuiltTd();
            sources = td.sources(IMAGE_PAGES);
        }

        @TearDown(Level.Invocation)
        public void close() {
            td.close();
        }
    }

    /// The content of an image on the heap.
    @State(Scope.Thread)
    public static class Content {
        private final byte[][] pages = new byte[IMAGE_PAGES][(int) BuiltTd.PAGE];

        @Setup
        public void make() {
            var random = new Random(1);
            for (byte[] page : pages) {
                random.nextBytes(page);
            }
        }
    }

    /// TDH.MEM.PAGE.ADD and sixteen TDH.MR.EXTEND a page.
    @Benchmark
    @OperationsPerInvocation(PAGES * ADD_AND_EXTEND)
    public void addAndExtend(Unmeasured state) {
        for (int i = 0; i < PAGES; i++) {
            state.td.addMeasured(i * BuiltTd.PAGE, state.frames[i], state.sources[i]);
        }
    }

    /// TDH.MEM.PAGE.AUG.
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public void augment(Empty state) {
        state.augment();
    }

    /// TDG.MEM.PAGE.ACCEPT by the guest in its loop of eight instructions.
    @Benchmark
    @OperationsPerInvocation(PAGES)
    public void accept(Pending state) {
        state.runGuest();
    }

    /// TDH.MEM.RANGE.BLOCK, TDH.MEM.TRACK and TDH.MEM.PAGE.REMOVE of every page.
    @Benchmark
    @OperationsPerInvocation(PAGES * BLOCK_TRACK_REMOVE)
    public void blockTrackRemove(Pending state) {
        for (int i = 0; i < PAGES; i++) {
            state.td.remove(i * BuiltTd.PAGE);
        }
    }

    /// TDH.MNG.CREATE to TDH.MR.FINALIZE of a TD with 64 MiB of measured memory.
    @Benchmark
    @BenchmarkMode(Mode.SingleShotTime)
    @OutputTimeUnit(TimeUnit.MILLISECONDS)
    @Warmup(iterations = 5)
    @Measurement(iterations = 5)
    public void build64MiB(Image state) {
        var td = state.td;
        td.create();
        td.tables(IMAGE_PAGES * BuiltTd.PAGE);
        for (int i = 0; i < IMAGE_PAGES; i++) {
            td.addMeasured(i * BuiltTd.PAGE, td.frame(), state.sources[i]);
        }
        td.finish();
    }

    /// Nothing but the SHA-384 of [#build64MiB]: a block for each TDH.MEM.PAGE.ADD, and for each TDH.MR.EXTEND a block and 256 bytes of
    /// content. What the build takes longer is the module's own work and the SEAMCALLs'.
    @Benchmark
    @BenchmarkMode(Mode.SingleShotTime)
    @OutputTimeUnit(TimeUnit.MILLISECONDS)
    @Warmup(iterations = 5)
    @Measurement(iterations = 5)
    public byte[] sha384Of64MiB(Content content) throws NoSuchAlgorithmException {
        var digest = MessageDigest.getInstance("SHA-384");
        byte[] block = new byte[MEASURED_BLOCK];
        for (byte[] page : content.pages) {
            digest.update(block);
            for (int at = 0; at < page.length; at += MEASURED_CHUNK) {
                digest.update(block);
                digest.update(page, at, MEASURED_CHUNK);
            }
        }
        return digest.digest();
    }
}
