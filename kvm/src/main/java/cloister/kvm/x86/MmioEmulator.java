package cloister.kvm.x86;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.vmx.Vmcs;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.kvm.KvmExit;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.Rflags;
import java.util.Locale;

/// Carries out an instruction that accesses MMIO: moves, string moves and the arithmetic that drivers use on registers of
/// devices. [LINUX x86_emulate_instruction]
///
/// A read that the VMM must answer ends the emulation; when the answer is there, the instruction is emulated from its start
/// with the answer at hand.
final class MmioEmulator {
    private static final int RAX = 0;
    private static final int RCX = 1;
    private static final int RSI = 6;
    private static final int RDI = 7;
    private static final long LOW = 0xffff_ffffL;
    private static final int PAGE = 0x1000;

    private final VmxVcpu vcpu;
    private final Vmcs vmcs;
    private final Decoder decoder = new Decoder();
    private final byte[] code = new byte[Decoder.MAX_LENGTH];

    private long readGpa;
    private long readValue;
    private boolean readDone;

    MmioEmulator(VmxVcpu vcpu) {
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
    }

    /// Emulates the current instruction, which touched `gpa`.
    ///
    /// @return an exit to the VMM, or null when the instruction is done
    KvmExit emulate(long gpa) {
        readDone = false;
        return step(gpa);
    }

    private KvmExit step(long gpa) {
        int available = fetch();
        var insn = decoder.decode(mode(), code, 0, available);
        return switch (insn.op) {
            case MOV, MOVNTI, MOVDIRI -> move(insn, gpa);
            case MOVZX -> load(insn, gpa, false);
            case MOVSX, MOVSXD -> load(insn, gpa, true);
            case STOS, MOVS, LODS -> string(insn);
            case ADD, OR, AND, SUB, XOR, CMP, TEST, NOT, INC, DEC, XCHG, BT, BTS, BTR, BTC, ADC, SBB -> arithmetic(insn, gpa);
            default -> refuse(insn, gpa);
        };
    }

    private KvmExit refuse(Instruction insn, long gpa) {
        var bytes = new StringBuilder();
        for (byte b : insn.bytes) {
            bytes.append(String.format(Locale.ROOT, "%02x ", b));
        }
        return new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_EMULATION, "cannot emulate " + insn.op + " (" + bytes
                + ") on MMIO at 0x" + Long.toHexString(gpa) + ", RIP 0x" + Long.toHexString(vmcs.read(GUEST_RIP)));
    }

    private CodeMode mode() {
        if (vcpu.is64Bit()) {
            return CodeMode.BITS64;
        }
        return (vmcs.readInt(GUEST_CS_ACCESS_RIGHTS) & (1 << 14)) != 0 ? CodeMode.BITS32 : CodeMode.BITS16;
    }

    private int fetch() {
        long linear = (vcpu.is64Bit() ? 0 : vmcs.read(GUEST_CS_BASE)) + vmcs.read(GUEST_RIP);
        for (int i = 0; i < code.length;) {
            long gpa = vcpu.translate(linear + i);
            if (gpa == GuestWalk.NONE || !vcpu.vm.isMemory(gpa)) {
                return i;
            }
            int chunk = (int) Math.min(code.length - i, PAGE - (gpa & 0xfff));
            for (int end = i + chunk; i < end; i++, gpa++) {
                code[i] = (byte) vcpu.vm.readGuest(gpa, 1);
            }
        }
        return code.length;
    }

    // --- forms

    private KvmExit move(Instruction insn, long gpa) {
        if (insn.kind0 != OperandKind.MEM) {
            return load(insn, gpa, false);
        }
        long value = insn.kind1 == OperandKind.IMM ? insn.imm : register(insn.reg1, insn.size1);
        return finish(insn, write(gpa, insn.size0, value));
    }

    private KvmExit load(Instruction insn, long gpa, boolean signed) {
        if (insn.kind1 != OperandKind.MEM || insn.kind0 != OperandKind.GPR) {
            return refuse(insn, gpa);
        }
        var exit = read(gpa, insn.size1);
        if (exit != null) {
            return exit;
        }
        long value = readValue;
        if (signed) {
            int shift = 64 - 8 * insn.size1;
            value = value << shift >> shift;
        }
        register(insn.reg0, insn.size0, value);
        return finish(insn, null);
    }

    private KvmExit arithmetic(Instruction insn, long gpa) {
        boolean memoryFirst = insn.kind0 == OperandKind.MEM;
        int size = memoryFirst ? insn.size0 : insn.size1;
        var exit = read(gpa, size);
        if (exit != null) {
            return exit;
        }
        long memory = readValue;
        if (insn.op == Op.XCHG) {
            int reg = memoryFirst ? insn.reg1 : insn.reg0;
            long old = register(reg, size);
            register(reg, size, memory);
            return finish(insn, write(gpa, size, old));
        }
        long other = memoryFirst ? source(insn, size) : register(insn.reg0, size);
        long a = memoryFirst ? memory : other;
        long b = memoryFirst ? other : memory;
        long result = compute(insn.op, a, b, size);
        if (insn.op == Op.CMP || insn.op == Op.TEST || insn.op == Op.BT) {
            return finish(insn, null);
        }
        if (memoryFirst) {
            return finish(insn, write(gpa, size, result));
        }
        register(insn.reg0, size, result);
        return finish(insn, null);
    }

    private long source(Instruction insn, int size) {
        return switch (insn.kind1) {
            case IMM -> insn.imm;
            case GPR -> register(insn.reg1, size);
            default -> 1;
        };
    }

    /// The result, and its flags into RFLAGS.
    private long compute(Op op, long a, long b, int size) {
        long mask = size == 8 ? -1 : (1L << (8 * size)) - 1;
        long flags = vmcs.read(GUEST_RFLAGS);
        long carryIn = op == Op.ADC || op == Op.SBB ? flags & Rflags.CF : 0;
        long x = a & mask;
        long y = b & mask;
        long bit = 1L << (y & (8 * size - 1));
        long result = switch (op) {
            case ADD, ADC -> x + y + carryIn;
            case SUB, CMP, SBB -> x - y - carryIn;
            case AND, TEST -> x & y;
            case OR -> x | y;
            case XOR -> x ^ y;
            case NOT -> ~x;
            case INC -> x + 1;
            case DEC -> x - 1;
            case BTS -> x | bit;
            case BTR -> x & ~bit;
            case BTC -> x ^ bit;
            default -> x;
        } & mask;
        switch (op) {
            case NOT -> {
            }
            case BT, BTS, BTR, BTC -> vmcs.write(GUEST_RFLAGS, (flags & ~Rflags.CF) | ((x & bit) != 0 ? Rflags.CF : 0));
            case INC -> vmcs.write(GUEST_RFLAGS, (statusFlags(flags, x, 1, result, size, true) & ~Rflags.CF) | (flags & Rflags.CF));
            case DEC -> vmcs.write(GUEST_RFLAGS, (statusFlags(flags, x, 1, result, size, false) & ~Rflags.CF) | (flags & Rflags.CF));
            case ADD, ADC -> vmcs.write(GUEST_RFLAGS, statusFlags(flags, x, y, result, size, true));
            case SUB, CMP, SBB -> vmcs.write(GUEST_RFLAGS, statusFlags(flags, x, y, result, size, false));
            default -> vmcs.write(GUEST_RFLAGS, logicFlags(flags, result, size));
        }
        return result;
    }

    private static long logicFlags(long flags, long result, int size) {
        long sign = 1L << (8 * size - 1);
        return (flags & ~Rflags.STATUS) | (result == 0 ? Rflags.ZF : 0) | ((result & sign) != 0 ? Rflags.SF : 0)
                | ((Long.bitCount(result & 0xff) & 1) == 0 ? Rflags.PF : 0);
    }

    private static long statusFlags(long flags, long x, long y, long result, int size, boolean add) {
        long sign = 1L << (8 * size - 1);
        long carries = add ? (x & y) | ((x | y) & ~result) : (~x & y) | ((~x | y) & result);
        long overflow = add ? (x ^ result) & (y ^ result) : (x ^ y) & (x ^ result);
        return logicFlags(flags, result, size) | ((carries & sign) != 0 ? Rflags.CF : 0)
                | ((overflow & sign) != 0 ? Rflags.OF : 0) | ((carries & 8) != 0 ? Rflags.AF : 0);
    }

    // --- string instructions, one item at a time

    private KvmExit string(Instruction insn) {
        long mask = insn.addressSize == 8 ? -1 : insn.addressSize == 4 ? LOW : 0xffffL;
        boolean rep = insn.has(Instruction.PREFIX_REP) || insn.has(Instruction.PREFIX_REPNE);
        if (rep && (vcpu.gprs[RCX] & mask) == 0) {
            return finish(insn, null);
        }
        int size = insn.operandSize;
        long value = register(RAX, size);
        if (insn.op != Op.STOS) {
            long from = address(insn.segment, vcpu.gprs[RSI] & mask);
            if (from == GuestWalk.NONE) {
                return refuse(insn, from);
            }
            var exit = read(from, size);
            if (exit != null) {
                return exit;
            }
            value = readValue;
        }
        long to = GuestWalk.NONE;
        if (insn.op != Op.LODS) {
            to = address(0, vcpu.gprs[RDI] & mask);
            if (to == GuestWalk.NONE) {
                return refuse(insn, to);
            }
        } else {
            register(RAX, size, value);
        }
        long step = (vmcs.read(GUEST_RFLAGS) & Rflags.DF) != 0 ? -size : size;
        if (insn.op != Op.STOS) {
            vcpu.gprs[RSI] = VmxExits.merge(vcpu.gprs[RSI], vcpu.gprs[RSI] + step, mask);
        }
        if (insn.op != Op.LODS) {
            vcpu.gprs[RDI] = VmxExits.merge(vcpu.gprs[RDI], vcpu.gprs[RDI] + step, mask);
        }
        boolean last = true;
        if (rep) {
            vcpu.gprs[RCX] = VmxExits.merge(vcpu.gprs[RCX], vcpu.gprs[RCX] - 1, mask);
            last = (vcpu.gprs[RCX] & mask) == 0;
        }
        var exit = to == GuestWalk.NONE ? null : write(to, size, value);
        if (last) {
            return finish(insn, exit);
        }
        readDone = false;
        return exit;
    }

    private long address(int segment, long offset) {
        long base = vcpu.is64Bit() && segment < 4 ? 0 : vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, segment));
        return vcpu.translate(vcpu.is64Bit() ? base + offset : (base + offset) & LOW);
    }

    // --- accesses

    /// Reads into [#readValue].
    ///
    /// @return an exit when the VMM must answer first
    private KvmExit read(long gpa, int size) {
        if (readDone && readGpa == gpa) {
            return null;
        }
        if (vcpu.vm.isMemory(gpa)) {
            readValue = vcpu.vm.readGuest(gpa, size);
            return null;
        }
        if (isApic(gpa)) {
            readValue = (vcpu.apic.readMmio((int) gpa & 0xff0) >>> (8 * ((int) gpa & 3))) & LOW;
            return null;
        }
        vcpu.completion = () -> {
            readGpa = gpa;
            readValue = load(vcpu.run.data, size);
            readDone = true;
            return step(gpa);
        };
        return new KvmExit.Mmio(gpa, size, false);
    }

    private KvmExit write(long gpa, int size, long value) {
        if (vcpu.vm.isMemory(gpa)) {
            vcpu.vm.writeGuest(gpa, size, value);
            return null;
        }
        if (isApic(gpa)) {
            if ((gpa & 0xf) == 0 && size >= 4) {
                vcpu.apic.writeMmio((int) gpa & 0xff0, (int) value);
            }
            return null;
        }
        store(vcpu.run.data, size, value);
        return new KvmExit.Mmio(gpa, size, true);
    }

    private boolean isApic(long gpa) {
        long base = vcpu.apic.baseMsr() & 0x000f_ffff_ffff_f000L;
        return vcpu.apic.isEnabled() && !vcpu.apic.isX2apic() && (gpa & -PAGE) == base
                && base == ApicRegister.DEFAULT_BASE;
    }

    private KvmExit finish(Instruction insn, KvmExit exit) {
        vcpu.advance(insn.length);
        return exit;
    }

    // --- registers

    private long register(int number, int size) {
        if (size == 1 && number >= 16) {
            return (vcpu.gprs[number - 16] >>> 8) & 0xff;
        }
        long value = vcpu.gprs[number];
        return size == 8 ? value : value & ((1L << (8 * size)) - 1);
    }

    private void register(int number, int size, long value) {
        if (size == 1 && number >= 16) {
            vcpu.gprs[number - 16] = (vcpu.gprs[number - 16] & ~0xff00L) | ((value & 0xff) << 8);
            return;
        }
        long mask = (1L << (8 * size)) - 1;
        vcpu.gprs[number] = switch (size) {
            case 8 -> value;
            case 4 -> value & LOW;
            default -> (vcpu.gprs[number] & ~mask) | (value & mask);
        };
        if (number == VmxVcpu.RSP) {
            vmcs.write(GUEST_RSP, vcpu.gprs[number]);
        }
    }

    static long load(byte[] data, int size) {
        return load(data, 0, size);
    }

    static long load(byte[] data, int offset, int size) {
        long value = 0;
        for (int i = 0; i < size; i++) {
            value |= (data[offset + i] & 0xffL) << (8 * i);
        }
        return value;
    }

    static void store(byte[] data, int size, long value) {
        for (int i = 0; i < size; i++) {
            data[i] = (byte) (value >>> (8 * i));
        }
    }
}
