package cloister.kvm.vmx;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Disassembler;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.kvm.emulate.InstructionEmulator.Scope;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Rflags;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// KVM's emulator against the processor, on random instructions: what one makes of registers, memory, flags and page tables the other
/// must make of them, and the same fault. Some pages are MMIO to the emulator, so that its instructions are broken off and started again.
final class EmulatorDifferenceTest {
    private static final int CASES = 20_000;
    /// What another instruction than the first would follow, or what a case could not be compared in.
    private static final Set<Op> OTHERWISE_TESTED = EnumSet.of(Op.IN, Op.OUT, Op.INS, Op.OUTS, Op.HLT, Op.RDTSC, Op.RDMSR, Op.WRMSR,
            Op.XSETBV, Op.CPUID, Op.MOV_CR, Op.MOV_DR, Op.LMSW, Op.CLTS, Op.INT, Op.INT1, Op.INT3, Op.INTO, Op.VMCALL, Op.RDRAND,
            Op.RDSEED, Op.RDTSCP, Op.RDPID, Op.SWAPGS, Op.SYSRET, Op.INVPCID);
    private static final Set<Op> BRANCHES = EnumSet.of(Op.JMP, Op.JCC, Op.JCXZ, Op.LOOP, Op.LOOPE, Op.LOOPNE, Op.CALL, Op.RET, Op.CALL_FAR,
            Op.JMP_FAR, Op.RET_FAR, Op.IRET, Op.INT, Op.INT3, Op.INTO, Op.SYSCALL, Op.SYSENTER, Op.SYSEXIT);
    private static final byte HLT = (byte) 0xf4;
    private static final long PRESENT = 1, WRITABLE = 2, USER = 4, NX = Long.MIN_VALUE;

    /// Where instructions execute.
    enum Place {
        KERNEL_64(CodeMode.BITS64), USER_64(CodeMode.BITS64), FLAT_32(CodeMode.BITS32), SEGMENTS_16(CodeMode.BITS16),
        REAL(CodeMode.BITS16);

        final CodeMode mode;

        Place(CodeMode mode) {
            this.mode = mode;
        }

        boolean pages() {
            return this == KERNEL_64 || this == USER_64;
        }
    }

    @ParameterizedTest
    @EnumSource(Place.class)
    void emulatorAndProcessorAgree(Place place) {
        var random = new SplittableRandom(36 + place.ordinal());
        var instructions = new RandomInstructions(place.mode, random, EmulatorDifferenceTest::compared);
        var differences = new ArrayList<String>();
        int[] counts = new int[3];
        try (var rig = new EmulatorRig()) {
            rig.run(() -> {
                for (int i = 0; i < CASES && differences.size() < 25; i++) {
                    counts[compare(rig, place, instructions.next(random), random, differences)]++;
                }
            });
            assertThat(differences).isEmpty();
            assertThat(instructions.operations()).isGreaterThan(100);
            assertThat(counts[1]).as("done").isGreaterThan(CASES / 4);
            assertThat(counts[2]).as("faults").isGreaterThan(CASES / 50);
            assertThat(rig.exits).as("MMIO exits").isGreaterThan(CASES / 20);
        }
    }

    private static boolean compared(Instruction insn) {
        return !OTHERWISE_TESTED.contains(insn.op);
    }

    /// @return 0 not compared, 1 done by both, 2 a fault of both
    private static int compare(EmulatorRig rig, Place place, byte[] code, SplittableRandom random, List<String> differences) {
        var from = state(place, random, rig);
        int offset = random.nextInt(8) == 0 ? EmulatorRig.PAGE - 1 - random.nextInt(code.length) : 0x100 + random.nextInt(64);
        if (offset + code.length > EmulatorRig.PAGE) {
            offset = EmulatorRig.PAGE - code.length;
        }
        from.system[4] = place.pages() ? EmulatorRig.CODE + offset : offset;
        int page = EmulatorRig.CODE - EmulatorRig.TABLES;
        Arrays.fill(from.tables, page, page + EmulatorRig.PAGE, HLT);
        System.arraycopy(code, 0, from.tables, page + offset, code.length);
        var insn = new Decoder().decode(place.mode, code, 0, code.length);
        boolean alone = random.nextBoolean() || insn.op == Op.POPF || (BRANCHES.contains(insn.op) && !place.pages());
        // What ENTER pushes it may read again, which a device would not give back.
        rig.mmioPages = random.nextInt(3) == 0 || insn.op == Op.ENTER ? 0 : random.nextInt(256);
        var emulated = rig.emulate(from, Scope.ALL);
        if (emulated == null || endsInItself(emulated, from, code.length) || changesCode(emulated, from)) {
            return 0;
        }
        var executed = rig.execute(from, alone);
        if (executed == null) {
            return 0;
        }
        if (emulated.fault != null && insn.op == Op.ENTER) { // the processor may have pushed something before
            System.arraycopy(executed.data, 0, emulated.data, 0, emulated.data.length);
        }
        String difference = emulated.difference(executed);
        if (difference != null) {
            differences.add(place + " " + HexFormat.ofDelimiter(" ").formatHex(code) + " (" + Disassembler.format(insn, from.system[4])
                    + ") alone " + alone + ": emulator and processor: " + difference);
        }
        return emulated.fault == null ? 1 : 2;
    }

    /// A branch into its own bytes, which the processor goes on to execute.
    private static boolean endsInItself(EmulatorRig.State emulated, EmulatorRig.State from, int length) {
        long distance = emulated.system[4] - from.system[4];
        return distance > 0 && distance < length;
    }

    private static boolean changesCode(EmulatorRig.State emulated, EmulatorRig.State from) {
        int page = EmulatorRig.CODE - EmulatorRig.TABLES;
        return !Arrays.equals(emulated.tables, page, page + EmulatorRig.PAGE, from.tables, page, page + EmulatorRig.PAGE);
    }

    // --- states

    private static EmulatorRig.State state(Place place, SplittableRandom random, EmulatorRig rig) {
        var s = new EmulatorRig.State();
        random.nextBytes(s.data);
        descriptors(s, random);
        for (int i = 0; i < 16; i++) {
            s.gprs[i] = value(random);
        }
        s.gprs[1] = random.nextInt(4) == 0 ? value(random) : random.nextInt(8);
        for (int i : new int[] {3, 4, 5, 6, 7}) {
            s.gprs[i] = address(random);
        }
        s.fpu.reset();
        for (int i = 0; i < 32; i++) {
            s.fpu.xmm[i] = random.nextLong();
        }
        for (int i = 0; i < 8; i++) {
            s.fpu.st[i] = random.nextLong();
            s.fpu.stExponent[i] = 0xffff;
        }
        s.fpu.tags = random.nextInt(256);
        s.system[0] = EmulatorRig.GDT;
        s.system[1] = 0x7f;
        s.system[2] = EmulatorRig.IDT;
        s.system[3] = 0x3ff;
        s.system[5] = 2 | (random.nextInt() & (Rflags.STATUS | Rflags.DF)) | (random.nextInt(4) == 0 ? Rflags.AC : 0)
                | (random.nextBoolean() ? Rflags.IF : 0) | (random.nextInt(4) == 0 ? Rflags.IOPL : 0);
        s.system[6] = 0x400;
        mode(place, s, random);
        segments(place, s, random);
        return s;
    }

    private static long value(SplittableRandom random) {
        return switch (random.nextInt(4)) {
            case 0 -> random.nextInt(256) - 128L;
            case 1 -> 1L << random.nextInt(64);
            case 2 -> address(random);
            default -> random.nextLong();
        };
    }

    /// In or near the data pages, often at an edge.
    private static long address(SplittableRandom random) {
        return switch (random.nextInt(8)) {
            case 0 -> (long) EmulatorRig.PAGE * random.nextInt(EmulatorRig.DATA_PAGES + 2) - random.nextInt(17);
            case 1 -> random.nextInt(4) == 0 ? (1L << 47) - random.nextInt(32) : random.nextInt(0x1000);
            default -> (random.nextInt(EmulatorRig.DATA_PAGES * EmulatorRig.PAGE) & (random.nextBoolean() ? -16 : -1));
        };
    }

    private static void mode(Place place, EmulatorRig.State s, SplittableRandom random) {
        long cr4 = Cr4.OSFXSR | Cr4.PAE | (random.nextInt(4) == 0 ? Cr4.SMAP : 0) | (random.nextInt(8) == 0 ? Cr4.UMIP : 0);
        long cr0 = Cr0.ET | Cr0.NE | (random.nextInt(8) == 0 ? Cr0.AM : 0) | (random.nextInt(32) == 0 ? Cr0.TS : 0)
                | (random.nextBoolean() ? Cr0.WP : 0);
        if (place.pages()) {
            s.control[0] = cr0 | Cr0.PE | Cr0.PG;
            s.control[1] = EmulatorRig.TABLES;
            s.control[3] = Efer.LME | Efer.LMA | Efer.NXE | Efer.SCE;
            tables(place, s, random);
        } else {
            s.control[0] = place == Place.REAL ? cr0 : cr0 | Cr0.PE;
        }
        s.control[2] = cr4;
    }

    /// Linear addresses of the data pages with all kinds of rights; the others identical.
    private static void tables(Place place, EmulatorRig.State s, SplittableRandom random) {
        var tables = ByteBuffer.wrap(s.tables).order(ByteOrder.LITTLE_ENDIAN);
        for (int level = 0; level < 3; level++) {
            tables.putLong(level * EmulatorRig.PAGE, (EmulatorRig.TABLES + ((level + 1) * EmulatorRig.PAGE)) | PRESENT | WRITABLE | USER);
        }
        int pt = EmulatorRig.PT - EmulatorRig.TABLES;
        for (int i = 0; i < EmulatorRig.MEMORY / EmulatorRig.PAGE; i++) {
            long entry = ((long) i * EmulatorRig.PAGE) | PRESENT | WRITABLE | USER | NX;
            if (i < EmulatorRig.DATA_PAGES) {
                long kind = place == Place.USER_64 ? USER : 0;
                entry = ((long) random.nextInt(EmulatorRig.DATA_PAGES) * EmulatorRig.PAGE) | NX | (random.nextInt(16) == 0 ? 0 : PRESENT)
                        | (random.nextInt(8) == 0 ? 0 : WRITABLE) | (random.nextInt(8) == 0 ? USER ^ kind : kind);
            } else if (i == EmulatorRig.CODE / EmulatorRig.PAGE) {
                entry &= ~(NX | WRITABLE);
            } else if (i < EmulatorRig.TABLES / EmulatorRig.PAGE) {
                entry = 0;
            }
            tables.putLong(pt + (8 * i), entry);
        }
    }

    /// A GDT with segments of all kinds.
    private static void descriptors(EmulatorRig.State s, SplittableRandom random) {
        var table = ByteBuffer.wrap(s.tables).order(ByteOrder.LITTLE_ENDIAN);
        int at = EmulatorRig.GDT - EmulatorRig.TABLES;
        for (int i = 1; i < 16; i++) {
            long rights = random.nextInt(4) == 0 ? random.nextInt(256) : 0x90 | random.nextInt(16) | (random.nextInt(3) == 0 ? 0x60 : 0);
            long descriptor = (random.nextBoolean() ? 0xffff : random.nextInt(0x10000)) | ((long) random.nextInt(0x8000) << 16)
                    | (rights << 40) | ((long) random.nextInt(16) << 52) | (random.nextInt(4) == 0 ? 0xfL << 48 : 0);
            table.putLong(at + (8 * i), descriptor);
        }
    }

    private static void segments(Place place, EmulatorRig.State s, SplittableRandom random) {
        int cpl = place == Place.USER_64 ? 3 : 0;
        for (int i = 0; i < 6; i++) {
            switch (place) {
                case KERNEL_64, USER_64 -> segment(s, i, i == 1 ? 0x10 | cpl : 0x18 | cpl, i < 4 ? 0 : address(random), -1,
                        (i == 1 ? 0xa09b : 0xc093) | (cpl << 5));
                case FLAT_32 -> segment(s, i, 0x18, i == 1 ? EmulatorRig.CODE : 0, i == 1 ? 0xfff : 0x7fff, i == 1 ? 0x409b : 0x4093);
                case SEGMENTS_16 -> {
                    boolean code = i == 1;
                    int rights = code ? 0x9b : i == 2 ? 0x93 : new int[] {0x93, 0x91, 0x97, 0x9b, 0x10000, 0x4093}[random.nextInt(6)];
                    segment(s, i, rights == 0x10000 ? 0 : 0x20, code ? EmulatorRig.CODE : random.nextInt(0x4000), code ? 0xfff
                            : 0x1000 + random.nextInt(0x3000), rights);
                }
                default -> segment(s, i, i == 1 ? EmulatorRig.CODE >> 4 : 0x100 * i, i == 1 ? EmulatorRig.CODE : 0x1000 * i,
                        i == 1 ? 0xfff : 0x2fff, i == 1 ? 0x9b : 0x93);
            }
        }
        segment(s, 6, 0, 0, 0xffff, 0x10082);
        segment(s, 7, 0x28, EmulatorRig.IDT + 0x400, 0x67, 0x8b);
    }

    private static void segment(EmulatorRig.State s, int number, int selector, long base, int limit, int rights) {
        s.segments[4 * number] = selector;
        s.segments[(4 * number) + 1] = base;
        s.segments[(4 * number) + 2] = limit;
        s.segments[(4 * number) + 3] = rights;
    }
}
