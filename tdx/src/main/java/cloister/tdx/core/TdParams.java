package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// TD_PARAMS, the host's configuration of a TD. [TDX-ABI "TD_PARAMS"]
public record TdParams(PhysicalMemory memory, long hpa) {
    public static final int BYTES = 1024;
    private static final int CPUID_CONFIG = 256;

    private long field(int offset, int bytes) {
        return memory.read(hpa + offset, bytes);
    }

    public long attributes() {
        return field(0, 8);
    }

    public long xfam() {
        return field(8, 8);
    }

    public int maxVcpus() {
        return (int) field(16, 2);
    }

    public int numL2Vms() {
        return (int) field(18, 1);
    }

    /// Bit 0: IA32_ARCH_CAPABILITIES is configured.
    int msrConfigControls() {
        return (int) field(19, 1);
    }

    public long eptpControls() {
        return field(24, 8);
    }

    public long configFlags() {
        return field(32, 8);
    }

    public int tscFrequency() {
        return (int) field(40, 2);
    }

    public byte[] measurement(int index) {
        return Structure.copy(memory, hpa + 80 + 48L * index, 48);
    }

    public long archCapabilities() {
        return field(224, 8);
    }

    public int cpuid(int config, int register) {
        return (int) field(CPUID_CONFIG + 16 * config + 4 * register, 4);
    }

    /// Whether `length` reserved bytes are zero.
    public boolean isZero(int offset, int length) {
        for (byte b : Structure.copy(memory, hpa + offset, length)) {
            if (b != 0) {
                return false;
            }
        }
        return true;
    }
}
