package cloister.vmm;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/// Writes the little ACPI Machine Language that our DSDT needs. Each method returns the encoding of one term.
/// [ACPI "ACPI Machine Language (AML) Specification"]
final class Aml {
    private static final int ZERO_OP = 0x00;
    private static final int ONE_OP = 0x01;
    private static final int NAME_OP = 0x08;
    private static final int BYTE_PREFIX = 0x0a;
    private static final int WORD_PREFIX = 0x0b;
    private static final int DWORD_PREFIX = 0x0c;
    private static final int STRING_PREFIX = 0x0d;
    private static final int SCOPE_OP = 0x10;
    private static final int BUFFER_OP = 0x11;
    private static final int PACKAGE_OP = 0x12;
    private static final int EXT_PREFIX = 0x5b;
    private static final int DEVICE_OP = 0x82;

    private Aml() {
    }

    static byte[] concat(byte[]... terms) {
        var out = new ByteArrayOutputStream();
        for (byte[] term : terms) {
            out.writeBytes(term);
        }
        return out.toByteArray();
    }

    /// A name path of segments of up to four letters, such as `\_SB.PCI0`.
    static byte[] path(String text) {
        var out = new ByteArrayOutputStream();
        String rest = text;
        if (rest.startsWith("\\")) {
            out.write('\\');
            rest = rest.substring(1);
        }
        String[] segments = rest.split("\\.");
        if (segments.length == 2) {
            out.write(0x2e);
        } else if (segments.length > 2) {
            out.write(0x2f);
            out.write(segments.length);
        }
        for (String segment : segments) {
            out.writeBytes((segment + "____").substring(0, 4).getBytes(StandardCharsets.US_ASCII));
        }
        return out.toByteArray();
    }

    /// An integer constant in its shortest form.
    static byte[] integer(long value) {
        if (value == 0) {
            return new byte[] {ZERO_OP};
        }
        if (value == 1) {
            return new byte[] {ONE_OP};
        }
        if (value <= 0xff) {
            return new byte[] {BYTE_PREFIX, (byte) value};
        }
        if (value <= 0xffff) {
            return concat(new byte[] {WORD_PREFIX}, little(value, 2));
        }
        return concat(new byte[] {DWORD_PREFIX}, little(value, 4));
    }

    /// A compressed EISA id such as `PNP0A03`. [ACPI "EISAID (EISA ID String To Integer Conversion Macro)"]
    static byte[] eisaId(String id) {
        int vendor = ((id.charAt(0) - '@') << 10) | ((id.charAt(1) - '@') << 5) | (id.charAt(2) - '@');
        int product = Integer.parseInt(id.substring(3), 16);
        return integer(Integer.reverseBytes((vendor << 16) | product) & 0xffff_ffffL);
    }

    static byte[] name(String path, byte[] value) {
        return concat(new byte[] {NAME_OP}, path(path), value);
    }

    static byte[] scope(String path, byte[]... terms) {
        return concat(new byte[] {SCOPE_OP}, packaged(concat(path(path), concat(terms))));
    }

    static byte[] device(String path, byte[]... terms) {
        return concat(new byte[] {EXT_PREFIX, (byte) DEVICE_OP}, packaged(concat(path(path), concat(terms))));
    }

    static byte[] packageOf(byte[]... elements) {
        return concat(new byte[] {PACKAGE_OP},
                packaged(concat(new byte[] {(byte) elements.length}, concat(elements))));
    }

    /// A resource template: the descriptors and an end tag. [ACPI "Resource Data Types for ACPI"]
    static byte[] resources(byte[]... descriptors) {
        byte[] body = concat(concat(descriptors), new byte[] {0x79, 0});
        return concat(new byte[] {BUFFER_OP}, packaged(concat(integer(body.length), body)));
    }

    /// I/O ports, decoding 16 address bits.
    static byte[] io(int first, int count) {
        return concat(new byte[] {0x47, 1}, little(first, 2), little(first, 2), new byte[] {1, (byte) count});
    }

    /// An edge-triggered, active-high ISA interrupt.
    static byte[] irq(int line) {
        return concat(new byte[] {0x22}, little(1 << line, 2));
    }

    /// A word address space: type 1 I/O or 2 bus numbers, produced for the bus below.
    static byte[] wordSpace(int type, int first, int last) {
        return concat(new byte[] {(byte) 0x88, 13, 0, (byte) type, 0x0c, (byte) (type == 1 ? 3 : 0)},
                little(0, 2), little(first, 2), little(last, 2), little(0, 2), little(last - first + 1L, 2));
    }

    /// A 32-bit memory space, not cacheable, writable, produced for the bus below.
    static byte[] memorySpace(long first, long last) {
        return concat(new byte[] {(byte) 0x87, 23, 0, 0, 0x0c, 1},
                little(0, 4), little(first, 4), little(last, 4), little(0, 4), little(last - first + 1, 4));
    }

    /// Memory at a fixed 32-bit address, writable.
    static byte[] fixedMemory(long first, long bytes) {
        return concat(new byte[] {(byte) 0x86, 9, 0, 1}, little(first, 4), little(bytes, 4));
    }

    /// `value` in `bytes` bytes, least significant first.
    static byte[] little(long value, int bytes) {
        byte[] out = new byte[bytes];
        for (int i = 0; i < bytes; i++) {
            out[i] = (byte) (value >>> (8 * i));
        }
        return out;
    }

    /// PkgLength counts itself, so its size depends on what it says. [ACPI "Package Length Encoding"]
    private static byte[] packaged(byte[] body) {
        if (body.length + 1 <= 0x3f) {
            return concat(new byte[] {(byte) (body.length + 1)}, body);
        }
        int more = body.length + 2 <= 0xfff ? 1 : body.length + 3 <= 0xfffff ? 2 : 3;
        int length = body.length + 1 + more;
        return concat(new byte[] {(byte) ((more << 6) | (length & 0xf))}, little(length >>> 4, more), body);
    }
}
