package cloister.memory;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.StandardOpenOption;

/// Reserves zeroed address space that costs memory only where it is touched: an anonymous mapping where the C library
/// offers `mmap`, a sparse temporary file elsewhere.
final class ReservedWindow {
    private static final int PROT_READ_WRITE = 3;
    private static final int MAP_PRIVATE = 2;
    private static final long MAP_FAILED = -1;

    private ReservedWindow() {
    }

    static MemorySegment reserve(long bytes, Arena arena) {
        String os = System.getProperty("os.name");
        if (os.startsWith("Linux")) {
            return anonymous(bytes, arena, 0x20 | 0x4000); // MAP_ANONYMOUS | MAP_NORESERVE
        }
        if (os.startsWith("Mac")) {
            return anonymous(bytes, arena, 0x1000 | 0x40); // MAP_ANON | MAP_NORESERVE
        }
        return sparseFile(bytes, arena);
    }

    private static MemorySegment anonymous(long bytes, Arena arena, int flags) {
        var linker = Linker.nativeLinker();
        var mmap = linker.downcallHandle(linker.defaultLookup().findOrThrow("mmap"),
                FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG,
                        ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG));
        var munmap = linker.downcallHandle(linker.defaultLookup().findOrThrow("munmap"),
                FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG));
        try {
            long address = (long) mmap.invokeExact(0L, bytes, PROT_READ_WRITE, MAP_PRIVATE | flags, -1, 0L);
            if (address == MAP_FAILED) {
                throw new OutOfMemoryError("cannot reserve " + (bytes >> 20) + " MiB of address space");
            }
            return MemorySegment.ofAddress(address).reinterpret(bytes, arena, segment -> {
                try {
                    int ignored = (int) munmap.invokeExact(segment.address(), bytes);
                } catch (Throwable t) {
                    throw new AssertionError(t);
                }
            });
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }

    private static MemorySegment sparseFile(long bytes, Arena arena) {
        try {
            var file = Files.createTempFile("cloister", ".mem");
            file.toFile().deleteOnExit();
            try (var channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE,
                    StandardOpenOption.SPARSE)) {
                return channel.map(FileChannel.MapMode.READ_WRITE, 0, bytes, arena);
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot reserve memory in a temporary file", e);
        }
    }
}
