package cloister.devices;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.HashMap;
import java.util.Map;

/// Configuration mechanism 1 at ports 0xCF8 to 0xCFF, with a 440FX host bridge as 00:00.0. Byte accesses to 0xCF9
/// are the reset control register, which shares the range. [Intel 82441FX data sheet, PIIX3 data sheet]
public final class PciHost implements PortDevice, Persistent {
    /// The first port.
    public static final int BASE = 0xcf8;
    /// Number of ports.
    public static final int PORTS = 8;
    /// The reset control register.
    public static final int RESET_CONTROL = 0xcf9;
    /// What must be written there to reset everything.
    public static final int RESET_VALUE = 6;

    /// The last bus that configuration space in memory has room for.
    public static final int LAST_BUS = 255;
    /// Where [#ecam] is expected.
    public static final long ECAM_GPA = 0xe000_0000L;
    /// Bytes of [#ecam]: 4 KiB for each function.
    public static final long ECAM_BYTES = (LAST_BUS + 1L) << 20;

    private static final int DATA = 0xcfc;
    private static final int ENABLE = 1 << 31;

    private final SystemControl system;
    private final Map<Integer, PciFunction> functions = new HashMap<>();
    private int address;
    private int resetControl;

    /// @param system receives resets
    public PciHost(SystemControl system) {
        this.system = system;
        add(0, 0, new PciFunction(0x8086, 0x1237, 0x060000, 2));
    }

    /// Puts a function on bus 0.
    public void add(int device, int function, PciFunction configuration) {
        functions.put((device << 3) | function, configuration);
    }

    /// The same configuration space in memory, one page for each function. What a function of conventional PCI does not have,
    /// beyond its 256 bytes, reads as all ones. [PCIE "PCI Express Enhanced Configuration Access Mechanism (ECAM)"]
    public MmioDevice ecam() {
        return new MmioDevice() {
            @Override public long readMmio(long offset, int size) {
                var function = at(offset);
                if (function == null) {
                    return -1;
                }
                int register = (int) offset & 0xff;
                long low = function.read(register, Math.min(size, 4));
                return size <= 4 ? low : (low & 0xffff_ffffL) | ((long) function.read(register + 4, 4) << 32);
            }

            @Override public void writeMmio(long offset, int size, long value) {
                var function = at(offset);
                if (function != null) {
                    int register = (int) offset & 0xff;
                    function.write(register, Math.min(size, 4), (int) value);
                    if (size == 8) {
                        function.write(register + 4, 4, (int) (value >>> 32));
                    }
                }
            }
        };
    }

    private PciFunction at(long ecamOffset) {
        boolean conventional = (ecamOffset & 0xf00) == 0;
        return conventional ? functions.get((int) (ecamOffset >>> 12)) : null; // no bus but 0 has functions
    }

    @Override public boolean takesWide() {
        return true;
    }

    @Override public int readPort(int port, int size) {
        if (port >= DATA) {
            var function = selected();
            return function == null ? -1 : function.read((address & 0xfc) | (port & 3), size);
        }
        if (port == BASE && size == 4) {
            return address;
        }
        return port == RESET_CONTROL && size == 1 ? resetControl : -1;
    }

    @Override public void writePort(int port, int size, int value) {
        if (port >= DATA) {
            var function = selected();
            if (function != null) {
                function.write((address & 0xfc) | (port & 3), size, value);
            }
        } else if (port == BASE && size == 4) {
            address = value & 0x80fffffc;
        } else if (port == RESET_CONTROL && size == 1) {
            resetControl = value & 2;
            if ((value & 4) != 0) {
                system.reset("reset control register 0xcf9");
            }
        }
    }

    private PciFunction selected() {
        boolean busZero = ((address >>> 16) & 0xff) == 0;
        return (address & ENABLE) != 0 && busZero ? functions.get((address >>> 8) & 0xff) : null;
    }

    @Override public String stateName() {
        return "pci";
    }

    @Override public void describe(StateSink out) {
        out.field("address", address);
        out.field("resetControl", resetControl);
        out.words("functions", functions.keySet().stream().mapToLong(Integer::longValue).sorted().toArray());
        functions.entrySet().stream().sorted(Map.Entry.comparingByKey())
                .forEach(entry -> out.bytes("function " + entry.getKey(), entry.getValue().content()));
    }
}
