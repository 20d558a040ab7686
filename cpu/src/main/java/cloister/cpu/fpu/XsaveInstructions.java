package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.cpu.sys.ProtectionKeys;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.spec.x86.ExceptionVector;

/// FXSAVE, FXRSTOR, the XSAVE family and XGETBV. [SDM Vol. 1 "Managing State Using the XSAVE Feature Set"]
///
/// The modified optimisation of XSAVEOPT and XSAVES is not modelled: they write whatever is in use. Images go through
/// [FpuState#image] so that everything is checked and probed before anything changes.
final class XsaveInstructions {
    private static final long CR0_EM = 1 << 2;
    private static final long CR0_TS = 1 << 3;
    private static final long CR4_OSXSAVE = 1 << 18;
    private static final int HEADER = LegacyImage.WORDS;
    private static final int PKRU_WORD = HEADER + 8;

    private XsaveInstructions() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS, XGETBV -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case FXSAVE -> fxsave(cpu, insn);
            case FXRSTOR -> fxrstor(cpu, insn);
            case XSAVE, XSAVEOPT -> xsave(cpu, insn);
            case XSAVEC, XSAVES -> xsaveCompacted(cpu, insn);
            case XRSTOR, XRSTORS -> xrstor(cpu, insn);
            case XGETBV -> xgetbv(cpu);
            default -> throw new IllegalStateException(insn.op + " is not of the XSAVE family");
        }
    }

    private static void xgetbv(Cpu cpu) {
        if ((cpu.cr4 & CR4_OSXSAVE) == 0) {
            throw cpu.ud();
        }
        long value = switch ((int) cpu.r[Cpu.RCX]) {
            case 0 -> cpu.xcr0;
            case 1 -> XsaveArea.inUse(cpu.fpu, cpu.pkru, cpu.xcr0);
            default -> throw cpu.gp(0);
        };
        cpu.r[Cpu.RAX] = value & 0xffff_ffffL;
        cpu.r[Cpu.RDX] = value >>> 32;
    }

    /// How many XMM registers the mode has.
    private static int registers(Cpu cpu) {
        return cpu.is64Bit() ? 16 : 8;
    }

    private static long address(Cpu cpu, Instruction insn, int size, int alignment, boolean write) {
        long at = cpu.linear(insn.segment, cpu.ea(insn), size, write);
        if ((at & (alignment - 1)) != 0) {
            throw cpu.gp(0);
        }
        return at;
    }

    private static void fxsave(Cpu cpu, Instruction insn) {
        if ((cpu.cr0 & (CR0_EM | CR0_TS)) != 0) {
            throw cpu.fault(ExceptionVector.NM, 0);
        }
        long at = address(cpu, insn, XsaveArea.LEGACY_SIZE, 16, true);
        FpuState s = cpu.fpu;
        long[] image = s.image;
        cpu.probeWrite(at, XsaveArea.LEGACY_SIZE);
        LegacyImage.saveX87(s, image, insn.has(Instruction.PREFIX_REX_W));
        LegacyImage.saveMxcsr(s, image);
        LegacyImage.saveXmm(s, image, registers(cpu));
        write(cpu, at, image, 0, LegacyImage.XMM + 2 * registers(cpu));
    }

    private static void fxrstor(Cpu cpu, Instruction insn) {
        if ((cpu.cr0 & (CR0_EM | CR0_TS)) != 0) {
            throw cpu.fault(ExceptionVector.NM, 0);
        }
        long at = address(cpu, insn, XsaveArea.LEGACY_SIZE, 16, false);
        cpu.probeRead(at, XsaveArea.LEGACY_SIZE);
        FpuState s = cpu.fpu;
        long[] image = s.image;
        read(cpu, at, image, 0, LegacyImage.XMM + 2 * registers(cpu));
        if (LegacyImage.mxcsrReserved(image)) {
            throw cpu.gp(0);
        }
        LegacyImage.loadX87(s, image, insn.has(Instruction.PREFIX_REX_W));
        LegacyImage.loadMxcsr(s, image);
        LegacyImage.loadXmm(s, image, registers(cpu));
    }

    private static void require(Cpu cpu) {
        if ((cpu.cr4 & CR4_OSXSAVE) == 0) {
            throw cpu.ud();
        }
        if ((cpu.cr0 & CR0_TS) != 0) {
            throw cpu.fault(ExceptionVector.NM, 0);
        }
    }

    /// XSAVES and XRSTORS: CPL 0, and what a hypervisor says.
    private static void requirePrivilege(Cpu cpu, Instruction insn) {
        if (cpu.cpl != 0) {
            throw cpu.gp(0);
        }
        cpu.vmx.intercept(cpu, insn);
    }

    private static long mask(Cpu cpu) {
        return (cpu.r[Cpu.RAX] & 0xffff_ffffL) | (cpu.r[Cpu.RDX] << 32);
    }

    private static long inUse(Cpu cpu, long rfbm) {
        long used = XsaveArea.inUse(cpu.fpu, cpu.pkru, rfbm & ~XsaveArea.SSE) | CetComponents.inUse(cpu.cet, rfbm);
        return (rfbm & XsaveArea.SSE) != 0 && cpu.fpu.sseInUse(registers(cpu)) ? used | XsaveArea.SSE : used;
    }

    /// XSAVE and XSAVEOPT: the standard format.
    private static void xsave(Cpu cpu, Instruction insn) {
        require(cpu);
        long rfbm = cpu.xcr0 & mask(cpu);
        int size = XsaveArea.size(rfbm, false);
        long at = address(cpu, insn, size, 64, true);
        cpu.probeWrite(at, XsaveArea.EXTENDED);
        if (size > XsaveArea.EXTENDED) {
            cpu.probeWrite(at + XsaveArea.PKRU_OFFSET, XsaveArea.PKRU_SIZE);
        }
        long used = inUse(cpu, rfbm);
        long written = insn.op == Op.XSAVEOPT ? used : rfbm;
        long bv = (cpu.read64(at + XsaveArea.XSTATE_BV) & ~rfbm) | used;
        writeLegacy(cpu, insn, at, written, (rfbm & XsaveArea.SSE) != 0);
        if ((written & XsaveArea.PKRU) != 0) {
            cpu.write64(at + XsaveArea.PKRU_OFFSET, cpu.pkru & 0xffff_ffffL);
        }
        cpu.write64(at + XsaveArea.XSTATE_BV, bv);
    }

    /// XSAVEC and XSAVES: the compacted format.
    private static void xsaveCompacted(Cpu cpu, Instruction insn) {
        require(cpu);
        boolean supervisor = insn.op == Op.XSAVES;
        if (supervisor) {
            requirePrivilege(cpu, insn);
        }
        long rfbm = (supervisor ? cpu.xcr0 | cpu.xss : cpu.xcr0) & mask(cpu);
        int size = XsaveArea.size(rfbm, true);
        long at = address(cpu, insn, size, 64, true);
        cpu.probeWrite(at, size);
        long bv = inUse(cpu, rfbm);
        if ((rfbm & XsaveArea.SSE) != 0 && cpu.fpu.mxcsr != FpuState.INITIAL_MXCSR) {
            bv |= XsaveArea.SSE;
        }
        writeLegacy(cpu, insn, at, bv, (bv & XsaveArea.SSE) != 0);
        if ((bv & XsaveArea.PKRU) != 0) {
            cpu.write64(at + XsaveArea.EXTENDED, cpu.pkru & 0xffff_ffffL);
        }
        if ((bv & XsaveArea.CET_U) != 0) {
            writeWords(cpu, at + CetComponents.userOffset(rfbm), CetComponents.user(cpu.cet));
        }
        if ((bv & XsaveArea.CET_S) != 0) {
            writeWords(cpu, at + CetComponents.supervisorOffset(rfbm), CetComponents.supervisor(cpu.cet));
        }
        cpu.write64(at + XsaveArea.XSTATE_BV, bv);
        cpu.write64(at + XsaveArea.XCOMP_BV, rfbm | XsaveArea.COMPACTED);
    }

    private static void writeLegacy(Cpu cpu, Instruction insn, long at, long components, boolean mxcsr) {
        FpuState s = cpu.fpu;
        long[] image = s.image;
        if ((components & XsaveArea.X87) != 0) {
            LegacyImage.saveX87(s, image, insn.has(Instruction.PREFIX_REX_W));
            write(cpu, at, image, LegacyImage.CONTROL, LegacyImage.MXCSR);
            write(cpu, at, image, LegacyImage.ST, LegacyImage.XMM);
        }
        if (mxcsr) {
            LegacyImage.saveMxcsr(s, image);
            write(cpu, at, image, LegacyImage.MXCSR, LegacyImage.ST);
        }
        if ((components & XsaveArea.SSE) != 0) {
            LegacyImage.saveXmm(s, image, registers(cpu));
            write(cpu, at, image, LegacyImage.XMM, LegacyImage.XMM + 2 * registers(cpu));
        }
    }

    private static void xrstor(Cpu cpu, Instruction insn) {
        require(cpu);
        boolean supervisor = insn.op == Op.XRSTORS;
        if (supervisor) {
            requirePrivilege(cpu, insn);
        }
        long enabled = supervisor ? cpu.xcr0 | cpu.xss : cpu.xcr0;
        long rfbm = enabled & mask(cpu);
        long at = address(cpu, insn, XsaveArea.EXTENDED, 64, false);
        long[] image = cpu.fpu.image;
        read(cpu, at, image, HEADER, HEADER + 8);
        checkHeader(cpu, image, enabled, supervisor);
        long bv = image[HEADER];
        boolean compacted = image[HEADER + 1] < 0;
        readComponents(cpu, at, image, rfbm, bv, compacted);
        long comp = image[HEADER + 1];
        long[] userCet = readCet(cpu, at + CetComponents.userOffset(comp), rfbm & XsaveArea.CET_U, bv, CetComponents.USER_WORDS);
        long[] supervisorCet = readCet(cpu, at + CetComponents.supervisorOffset(comp), rfbm & XsaveArea.CET_S, bv,
                CetComponents.SUPERVISOR_WORDS);
        // Everything that can fault has been read. XSTATE_BV bits outside RFBM do not matter from here.
        XsaveArea.restoreLegacy(cpu.fpu, image, rfbm, bv, compacted, insn.has(Instruction.PREFIX_REX_W), registers(cpu));
        if ((rfbm & XsaveArea.PKRU) != 0) {
            int pkru = (bv & XsaveArea.PKRU) != 0 ? (int) image[PKRU_WORD] : 0;
            ProtectionKeys.load(cpu, pkru);
        }
        if (userCet != null) {
            CetComponents.loadUser(cpu.cet, userCet);
            cpu.updateMode();
        }
        if (supervisorCet != null) {
            CetComponents.loadSupervisor(cpu.cet, supervisorCet);
        }
    }

    /// The words of a CET component, zeros when the image says that it is initial; null when it is not asked for.
    private static long[] readCet(Cpu cpu, long at, long component, long bv, int count) {
        if (component == 0) {
            return null;
        }
        long[] words = new long[count];
        for (int i = 0; i < count && (bv & component) != 0; i++) {
            words[i] = cpu.read64(at + 8L * i);
        }
        boolean legal = component == XsaveArea.CET_U ? CetComponents.legalUser(words) : CetComponents.legalSupervisor(words);
        if (!legal) {
            throw cpu.gp(0);
        }
        return words;
    }

    private static void writeWords(Cpu cpu, long at, long[] words) {
        for (int i = 0; i < words.length; i++) {
            cpu.write64(at + 8L * i, words[i]);
        }
    }

    /// [SDM Vol. 1 "Standard Form of XRSTOR", "Compacted Form of XRSTOR", "Operation of XRSTORS"]
    private static void checkHeader(Cpu cpu, long[] image, long enabled, boolean supervisor) {
        long bv = image[HEADER];
        long comp = image[HEADER + 1];
        boolean good;
        if (comp < 0) {
            long reserved = 0;
            for (int n = 2; n < 8; n++) {
                reserved |= image[HEADER + n];
            }
            good = (comp & ~XsaveArea.COMPACTED & ~enabled) == 0 && (bv & ~comp) == 0 && bv >= 0 && reserved == 0;
        } else {
            good = !supervisor && (bv & ~enabled) == 0 && comp == 0 && image[HEADER + 2] == 0;
        }
        if (!good) {
            throw cpu.gp(0);
        }
    }

    private static void readComponents(Cpu cpu, long at, long[] image, long rfbm, long bv, boolean compacted) {
        long present = rfbm & bv;
        if ((present & XsaveArea.X87) != 0) {
            read(cpu, at, image, LegacyImage.CONTROL, LegacyImage.MXCSR);
            read(cpu, at, image, LegacyImage.ST, LegacyImage.XMM);
        }
        if ((present & XsaveArea.SSE) != 0) {
            read(cpu, at, image, LegacyImage.XMM, LegacyImage.XMM + 2 * registers(cpu));
        }
        if ((rfbm & XsaveArea.SSE) != 0 && (!compacted || (bv & XsaveArea.SSE) != 0)) {
            read(cpu, at, image, LegacyImage.MXCSR, LegacyImage.ST);
            if (LegacyImage.mxcsrReserved(image)) {
                throw cpu.gp(0);
            }
        }
        if ((present & XsaveArea.PKRU) != 0) {
            image[PKRU_WORD] = cpu.read64(at + (compacted ? XsaveArea.EXTENDED : XsaveArea.PKRU_OFFSET));
        }
    }

    private static void write(Cpu cpu, long at, long[] image, int from, int to) {
        for (int n = from; n < to; n++) {
            cpu.write64(at + 8L * n, image[n]);
        }
    }

    private static void read(Cpu cpu, long at, long[] image, int from, int to) {
        for (int n = from; n < to; n++) {
            image[n] = cpu.read64(at + 8L * n);
        }
    }
}
