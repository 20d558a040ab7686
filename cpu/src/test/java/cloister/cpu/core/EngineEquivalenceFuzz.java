package cloister.cpu.core;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.memory.plain.PlainAccess;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Micro-ops against slow methods: random code runs through [Interpreter#run] in random slices and through [Interpreter#step],
/// and must leave the same registers, flags, memory, instruction count and fault.
class EngineEquivalenceFuzz {
    private static final int CASES = 600;
    /// Opcode bytes, then `m` a ModRM byte with its operand, digits the size of the immediate (`z`: by operand size),
    /// `j` an 8-bit jump. `/n` fixes ModRM.reg.
    private static final String[] FORMS = {
        "00m", "01m", "02m", "03m", "04 1", "05 4", "08m", "09m", "0am", "0bm", "0c 1", "0d 4", "10m", "11m", "12m", "13m",
        "18m", "19m", "1am", "1bm", "20m", "21m", "22m", "23m", "28m", "29m", "2am", "2bm", "30m", "31m", "32m", "33m",
        "38m", "39m", "3am", "3bm", "3c 1", "3d 4", "50", "51", "53", "55", "58", "59", "5b", "5e", "63m", "68 4", "69m4", "6a 1", "6bm1",
        "80m1", "81m4", "83m1", "84m", "85m", "86m", "87m", "88m", "89m", "8am", "8bm", "8dm", "8bm", "89m", "8bm", "8f/0",
        "90", "91", "98", "99", "9e", "9f", "a8 1", "a9 4", "a4", "a5", "aa", "ab", "ac", "ad", "a6", "a7", "ae", "af",
        "b0 1", "b8 z", "c0m1", "c1m1", "c6/0 1", "c7/0 4", "c9", "d0m", "d1m", "d2m", "d3m", "f5", "f8", "f9", "fc",
        "f6/0 1", "f7/0 4", "f6/2", "f7/2", "f6/3", "f7/3", "f6/4", "f7/4", "f6/5", "f7/5", "f7/6", "f7/7", "fe/0", "fe/1",
        "ff/0", "ff/1", "ff/6",
        "0fafm", "0fb6m", "0fb7m", "0fbem", "0fbfm", "0fa3m", "0fabm", "0fb3m", "0fbbm", "0fba/4 1", "0fba/5 1", "0fba/6 1", "0fba/7 1",
        "0fa4m1", "0facm1", "0fa5m", "0fadm", "0fbcm", "0fbdm", "0fc0m", "0fc1m", "0fb0m", "0fb1m", "0fc8", "0fc9", "0f44m", "0f45m",
        "0f4cm", "0f42m", "0f92m", "0f94m", "0f9fm", "0f1fm", "0fc7/1",
        "70j", "71j", "72j", "73j", "74j", "75j", "76j", "77j", "78j", "79j", "7aj", "7bj",
        "7cj", "7dj", "7ej", "7fj", "74j", "75j", "ebj", "e2j", "e3j", "e8J", "e9J", "0f84J", "0f85J", "0f8fJ", "c3", "ff/2", "ff/4"};

    private final Machine stepped = new Machine();
    private final Machine run = new Machine();
    private Random random;
    private byte[] code;
    private int at;

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4})
    void sameResults(long seed) {
        for (int i = 0; i < CASES; i++) {
            random = new Random(seed * 1_000_003 + i);
            assemble();
            prepare(stepped);
            random = new Random(seed * 1_000_003 + i);
            assemble();
            prepare(run);
            int fault = runInSlices();
            int expected = stepTo(run.cpu.retired, fault != 0);
            assertThat(state(run, fault)).as("case %d of seed %d", i, seed).isEqualTo(state(stepped, expected));
            assertThat(run.memory.window(PlainAccess.SILICON).mismatch(stepped.memory.window(PlainAccess.SILICON)))
                    .as("memory, case %d of seed %d", i, seed).isEqualTo(-1);
        }
    }

    private int runInSlices() {
        try {
            while (run.cpu.retired < 200 && run.cpu.attention == 0) { // a jump into an instruction may find a HLT
                Interpreter.run(run.cpu, 1 + random.nextInt(40));
            }
            return 0;
        } catch (GuestFault fault) {
            return (fault.vector << 16) | fault.errorCode | (1 << 30);
        }
    }

    private int stepTo(long retired, boolean fault) {
        try {
            while (stepped.cpu.retired < retired || fault || stepped.cpu.rip != run.cpu.rip) {
                Interpreter.step(stepped.cpu);
                if (stepped.cpu.retired > retired) {
                    break;
                }
            }
            return 0;
        } catch (GuestFault f) {
            return (f.vector << 16) | f.errorCode | (1 << 30);
        }
    }

    private static String state(Machine machine, int fault) {
        var out = new StringBuilder();
        for (int i = 0; i < 16; i++) {
            out.append(Long.toHexString(machine.cpu.r[i])).append(' ');
        }
        return out + "rip " + Long.toHexString(machine.cpu.rip) + " flags " + Long.toHexString(machine.cpu.rflags())
                + " retired " + machine.cpu.retired + " fault " + Integer.toHexString(fault);
    }

    private void prepare(Machine machine) {
        Cpu cpu = machine.cpu;
        machine.mapping.put(0x8000L, -1L); // long string instructions end here
        machine.mapping.put(0x104000L, -1L);
        machine.memory.fill(0, machine.memory.size(), (byte) 0);
        machine.memory.write(0x100000, code, 0, 64);
        machine.memory.write(Machine.CODE + 0xe00, code, 0, code.length); // so that runs meet the page end
        cpu.rip = Machine.CODE + 0xe00;
        cpu.retired = 0;
        cpu.cr0 = 0x39; // TS: keep the FPU out of it
        cpu.attention = 0;
        cpu.events.activity = 0;
        for (int i = 0; i < 16; i++) {
            cpu.r[i] = switch (random.nextInt(4)) {
                case 0 -> 0x100000 + random.nextInt(4096);
                case 1 -> 0x100ff0 + random.nextInt(32);
                case 2 -> random.nextLong() >> random.nextInt(64);
                default -> random.nextInt(300) - 150;
            };
        }
        cpu.r[Cpu.RSP] = 0x180000 + 8L * random.nextInt(600);
        cpu.rflags(0x202 | (random.nextInt(0x1000) & Flags.ARITHMETIC));
    }

    private void assemble() {
        code = new byte[700];
        at = 0;
        while (at < 640) {
            instruction(FORMS[random.nextInt(FORMS.length)]);
        }
    }

    private void instruction(String form) {
        boolean longOperand = random.nextInt(3) != 0;
        boolean word = !longOperand && random.nextInt(4) == 0;
        if (form.matches("a[4567abcdef]") && random.nextInt(2) == 0) {
            put(random.nextBoolean() ? 0xf3 : 0xf2);
        }
        if (word) {
            put(0x66);
        }
        if (longOperand) {
            put(0x48 | random.nextInt(8));
        } else if (random.nextInt(3) == 0) {
            put(0x40 | random.nextInt(8));
        }
        int i = 0;
        while (i + 1 < form.length() && Character.digit(form.charAt(i), 16) >= 0 && Character.digit(form.charAt(i + 1), 16) >= 0) {
            put(Integer.parseInt(form.substring(i, i + 2), 16));
            i += 2;
        }
        for (; i < form.length(); i++) {
            switch (form.charAt(i)) {
                case 'm' -> modRm(random.nextInt(8));
                case '/' -> modRm(form.charAt(++i) - '0');
                case '1' -> put(random.nextInt(256));
                case '4' -> bytes(random.nextInt() >> random.nextInt(32), word ? 2 : 4);
                case 'z' -> bytes(random.nextLong() >> random.nextInt(64), longOperand ? 8 : word ? 2 : 4);
                case 'j' -> put(random.nextInt(100) - 40);
                case 'J' -> bytes(random.nextInt(500) - 200, 4);
                default -> {
                }
            }
        }
    }

    private void modRm(int reg) {
        int mod = random.nextInt(4);
        int rm = random.nextInt(8);
        put((mod << 6) | (reg << 3) | rm);
        if (mod == 3) {
            return;
        }
        int base = rm;
        if (rm == 4) {
            int sib = random.nextInt(256);
            put(sib);
            base = sib & 7;
        }
        if (mod == 0 && base == 5) {
            bytes(random.nextInt(0x400) - 0x200, 4);
        } else if (mod == 1) {
            put(random.nextInt(256));
        } else if (mod == 2) {
            bytes(random.nextInt(0x2000) - 0x1000, 4);
        }
    }

    private void put(int value) {
        code[at++] = (byte) value;
    }

    private void bytes(long value, int count) {
        for (int i = 0; i < count; i++) {
            put((int) (value >> (8 * i)));
        }
    }
}
