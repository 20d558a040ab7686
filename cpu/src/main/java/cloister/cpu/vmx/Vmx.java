package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Translation;
import cloister.cpu.core.VmExitSignal;
import cloister.cpu.core.Walker;
import cloister.cpu.sys.NonRoot;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;

/// VMX non-root operation: which instructions and events cause VM exits, and what they do instead. [SDM Vol. 3 "VMX Non-Root
/// Operation"]
///
/// It is the processor's [NonRoot] between VM entry and VM exit. Whatever decides on a VM exit fills the exit information in the
/// VMCS and throws [VmExitSignal]; [VmxOperation] does the rest.
final class Vmx implements NonRoot {
    /// What callers of [#readEntry] pass for loading PDPTEs.
    private static final long NO_LINEAR = -1;

    final Cpu cpu;
    /// The VMCS of the running guest.
    Vmcs vmcs;
    final EptWalker ept;
    final VirtualApic apic;
    final BoundaryEvents boundary;
    private final ApicAccessPage apicAccessPage;

    /// The KeyID of the TD whose VMCS this is, 0 for other guests.
    private int hkid;
    private boolean eptEnabled;
    /// The count of retired instructions at which an IRET ended NMI blocking.
    private long unblockedNmiAt = -1;
    /// The instruction that follows this count of retired ones is executed on its own, see [StepAgain].
    long stepAt = -1;
    private long lastPause;
    private long firstPause;

    Vmx(Cpu cpu) {
        this.cpu = cpu;
        this.ept = new EptWalker(this);
        this.apic = new VirtualApic(this);
        this.boundary = new BoundaryEvents(this);
        this.apicAccessPage = new ApicAccessPage(this);
    }

    /// Takes over the VMCS that is entered.
    void load(Vmcs entered) {
        vmcs = entered;
        hkid = vmcs.readInt(GUEST_TD_HKID);
        eptEnabled = proc2(Controls.PROC2_ENABLE_EPT);
        ept.load(vmcs);
        unblockedNmiAt = -1;
        stepAt = -1;
        lastPause = firstPause = cpu.ticks();
    }

    boolean pin(int bit) {
        return vmcs.has(PIN_BASED_CONTROLS, bit);
    }

    boolean proc(int bit) {
        return vmcs.has(PROC_BASED_CONTROLS, bit);
    }

    /// Whether a secondary control is in force: set, and the secondary controls activated.
    boolean proc2(int bit) {
        return vmcs.has(SECONDARY_PROC_BASED_CONTROLS, bit) && proc(Controls.PROC_SECONDARY_CONTROLS);
    }

    /// The address of a structure that a VMCS field names. A TD's lie in memory of its KeyID, which the field does not spell out.
    long structure(VmcsField field) {
        long address = vmcs.read(field);
        return hkid == 0 ? address : PhysicalMemory.hpa(PhysicalMemory.pa(address), hkid);
    }

    boolean delivering() {
        return cpu.events.vectoringInfo != 0;
    }

    @Override public boolean active() {
        return true;
    }

    // --- exits

    /// Fills in the exit information that all exits have and returns what to throw.
    VmExitSignal exit(int reason, long qualification) {
        vmcs.write(EXIT_REASON, reason);
        vmcs.write(EXIT_QUALIFICATION, qualification);
        vmcs.write(EXIT_INTERRUPTION_INFO, 0);
        int vectoring = cpu.events.vectoringInfo;
        vmcs.write(IDT_VECTORING_INFO, vectoring);
        vmcs.write(EXIT_INSTRUCTION_LENGTH, 0); // the TDX module relies on it for exits not caused by an instruction
        if (vectoring != 0) {
            vmcs.write(IDT_VECTORING_ERROR_CODE, cpu.events.vectoringErrorCode);
            vmcs.write(EXIT_INSTRUCTION_LENGTH, cpu.events.vectoringLength);
        }
        return VmExitSignal.INSTANCE;
    }

    VmExitSignal exit(int reason, long qualification, Instruction insn) {
        exit(reason, qualification);
        vmcs.write(EXIT_INSTRUCTION_LENGTH, insn.length);
        return VmExitSignal.INSTANCE;
    }

    private VmExitSignal exit(int reason, long qualification, Instruction insn, int instructionInfo) {
        vmcs.write(EXIT_INSTRUCTION_INFO, instructionInfo);
        return exit(reason, qualification, insn);
    }

    /// An exit of the current instruction where only its length is known.
    private VmExitSignal instructionExit(int reason, long qualification) {
        exit(reason, qualification);
        vmcs.write(EXIT_INSTRUCTION_LENGTH, instructionLength());
        return VmExitSignal.INSTANCE;
    }

    private long instructionLength() {
        return (cpu.nextRip - cpu.rip) & 15;
    }

    // --- memory

    @Override public boolean secondLevelActive() {
        return eptEnabled;
    }

    @Override public void secondLevel(Cpu cpu, long gpa, long linear, int access, Translation out) {
        if (eptEnabled) {
            out.hpa = switch (access) {
                case Walker.SHADOW_READ -> ept.translate(gpa, Walker.READ, linear, EptWalker.SHADOW_STACK);
                case Walker.SHADOW_WRITE -> ept.translate(gpa, Walker.WRITE, linear, EptWalker.SHADOW_STACK);
                default -> ept.translate(gpa, access, linear, EptWalker.TRANSLATED);
            };
            out.writable &= ept.writable;
            out.typeIngredients |= ept.type;
        } else {
            out.hpa = gpa;
        }
        out.direct = true;
        out.hook = apic.isAccessPage(out.hpa) ? apicAccessPage : null;
    }

    @Override public long readEntry(Cpu cpu, long gpa, long linear, int bytes) {
        return cpu.readPhysical(structureHpa(gpa, Walker.READ, linear), bytes);
    }

    @Override public boolean changeEntry(Cpu cpu, long gpa, long linear, int bytes, long old, long value) {
        return cpu.compareAndSetPhysical(structureHpa(gpa, Walker.WRITE, linear), bytes, old, value);
    }

    private long structureHpa(long gpa, int access, long linear) {
        if (!eptEnabled) {
            return gpa;
        }
        return ept.translate(gpa, access, linear, linear == NO_LINEAR ? EptWalker.NO_LINEAR : EptWalker.STRUCTURE);
    }

    /// An access to the APIC-access page that is not virtualised. [SDM Vol. 3 "APIC-Access VM Exits"]
    VmExitSignal apicAccess(long linear, int offset, boolean write) {
        int type = delivering() ? ExitQualification.APIC_EVENT_DELIVERY
                : write ? ExitQualification.APIC_LINEAR_WRITE : ExitQualification.APIC_LINEAR_READ;
        vmcs.write(GUEST_LINEAR_ADDRESS, linear);
        return exit(ExitReason.APIC_ACCESS, (offset & 0xfff) | ((long) type << 12));
    }

    // --- instructions

    /// [SDM Vol. 3 "Instructions That Cause VM Exits"] Instructions with further operands to look at have methods of their own
    /// below.
    @Override public void intercept(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case CPUID -> throw exit(ExitReason.CPUID, 0, insn);
            case INVD -> throw exit(ExitReason.INVD, 0, insn);
            case XSETBV -> throw exit(ExitReason.XSETBV, 0, insn);
            case GETSEC -> throw exit(ExitReason.GETSEC, 0, insn);
            case VMCALL, VMLAUNCH, VMRESUME, VMXOFF, SEAMCALL, TDCALL, VMCLEAR, VMPTRLD, VMPTRST, VMXON, VMREAD, VMWRITE, INVEPT,
                    INVVPID, VMFUNC, ENCLV, SEAMOPS, SEAMRET -> vmxInstruction(insn);
            case ENCLS -> {
                if (proc2(Controls.PROC2_ENCLS_EXITING) && leafExits(ENCLS_EXITING_BITMAP)) {
                    throw exit(ExitReason.ENCLS, 0, insn);
                }
            }
            case PCONFIG -> {
                requireEnabled(Controls.PROC2_ENABLE_PCONFIG);
                if (leafExits(PCONFIG_EXITING_BITMAP)) {
                    throw exit(ExitReason.PCONFIG, 0, insn);
                }
            }
            case HLT -> exitIf(Controls.PROC_HLT_EXITING, ExitReason.HLT, insn);
            case WBINVD, WBNOINVD -> {
                if (proc2(Controls.PROC2_WBINVD_EXITING)) {
                    throw exit(ExitReason.WBINVD, 0, insn);
                }
            }
            case RDTSC -> exitIf(Controls.PROC_RDTSC_EXITING, ExitReason.RDTSC, insn);
            case RDTSCP -> {
                requireEnabled(Controls.PROC2_ENABLE_RDTSCP);
                exitIf(Controls.PROC_RDTSC_EXITING, ExitReason.RDTSCP, insn);
            }
            case RDPID -> requireEnabled(Controls.PROC2_ENABLE_RDTSCP);
            case RDPMC -> exitIf(Controls.PROC_RDPMC_EXITING, ExitReason.RDPMC, insn);
            case RDRAND -> randomExit(insn, Controls.PROC2_RDRAND_EXITING, ExitReason.RDRAND);
            case RDSEED -> randomExit(insn, Controls.PROC2_RDSEED_EXITING, ExitReason.RDSEED);
            case INVLPG -> {
                if (proc(Controls.PROC_INVLPG_EXITING)) {
                    long base = insn.segment >= Cpu.FS || !cpu.is64Bit() ? cpu.segBase[insn.segment] : 0;
                    throw exit(ExitReason.INVLPG, base + cpu.ea(insn), insn);
                }
            }
            case INVPCID -> {
                requireEnabled(Controls.PROC2_ENABLE_INVPCID);
                if (proc(Controls.PROC_INVLPG_EXITING)) {
                    throw exit(ExitReason.INVPCID, insn.disp, insn, InstructionInfo.register(insn));
                }
            }
            case MONITOR -> exitIf(Controls.PROC_MONITOR_EXITING, ExitReason.MONITOR, insn);
            case MWAIT -> exitIf(Controls.PROC_MWAIT_EXITING, ExitReason.MWAIT, insn);
            case UMONITOR -> requireEnabled(Controls.PROC2_ENABLE_USER_WAIT_PAUSE);
            case UMWAIT, TPAUSE -> {
                requireEnabled(Controls.PROC2_ENABLE_USER_WAIT_PAUSE);
                if (proc(Controls.PROC_RDTSC_EXITING)) {
                    throw exit(insn.op == Op.UMWAIT ? ExitReason.UMWAIT : ExitReason.TPAUSE, 0, insn, insn.reg0 << 3);
                }
            }
            case PAUSE -> pause(insn);
            case SGDT, SIDT, LGDT, LIDT -> descriptorTable(insn, ExitReason.GDTR_IDTR_ACCESS);
            case SLDT, STR, LLDT, LTR -> descriptorTable(insn, ExitReason.LDTR_TR_ACCESS);
            case XSAVES, XRSTORS -> extendedState(insn);
            case MOV_DR -> movDr(insn);
            default -> {
            }
        }
    }

    private void vmxInstruction(Instruction insn) {
        throw switch (insn.op) {
            case VMCALL -> exit(ExitReason.VMCALL, 0, insn);
            case VMLAUNCH -> exit(ExitReason.VMLAUNCH, 0, insn);
            case VMRESUME -> exit(ExitReason.VMRESUME, 0, insn);
            case VMXOFF -> exit(ExitReason.VMXOFF, 0, insn);
            case SEAMCALL -> exit(ExitReason.SEAMCALL, 0, insn);
            case TDCALL -> exit(ExitReason.TDCALL, 0, insn);
            case VMCLEAR -> exit(ExitReason.VMCLEAR, insn.disp, insn, InstructionInfo.memory(insn));
            case VMPTRLD -> exit(ExitReason.VMPTRLD, insn.disp, insn, InstructionInfo.memory(insn));
            case VMPTRST -> exit(ExitReason.VMPTRST, insn.disp, insn, InstructionInfo.memory(insn));
            case VMXON -> exit(ExitReason.VMXON, insn.disp, insn, InstructionInfo.memory(insn));
            case VMREAD -> exit(ExitReason.VMREAD, displacement(insn), insn, InstructionInfo.register(insn));
            case VMWRITE -> exit(ExitReason.VMWRITE, displacement(insn), insn, InstructionInfo.register(insn));
            case INVEPT -> exit(ExitReason.INVEPT, insn.disp, insn, InstructionInfo.register(insn));
            case INVVPID -> exit(ExitReason.INVVPID, insn.disp, insn, InstructionInfo.register(insn));
            // No function is ever enabled: VM_FUNCTION_CONTROLS must be 0.
            case VMFUNC -> proc2(Controls.PROC2_ENABLE_VM_FUNCTIONS) ? exit(ExitReason.VMFUNC, 0, insn) : cpu.ud();
            default -> cpu.ud();
        };
    }

    private static long displacement(Instruction insn) {
        return insn.kind0 == OperandKind.MEM || insn.kind1 == OperandKind.MEM ? insn.disp : 0;
    }

    private boolean leafExits(VmcsField bitmap) {
        int leaf = (int) Math.min(cpu.r[Cpu.RAX] & 0xffff_ffffL, 63);
        return ((vmcs.read(bitmap) >>> leaf) & 1) != 0;
    }

    private void requireEnabled(int control) {
        if (!proc2(control)) {
            throw cpu.ud();
        }
    }

    private void exitIf(int control, int reason, Instruction insn) {
        if (proc(control)) {
            throw exit(reason, 0, insn);
        }
    }

    private void randomExit(Instruction insn, int control, int reason) {
        if (proc2(control)) {
            int size = insn.operandSize == 8 ? 2 : insn.operandSize == 4 ? 1 : 0;
            throw exit(reason, 0, insn, (insn.reg0 << 3) | (size << 11));
        }
    }

    /// PAUSE exiting, and PAUSE-loop exiting at CPL 0. [SDM Vol. 3 "Instructions That Cause VM Exits Conditionally"]
    private void pause(Instruction insn) {
        if (proc(Controls.PROC_PAUSE_EXITING)) {
            throw exit(ExitReason.PAUSE, 0, insn);
        }
        if (cpu.cpl == 0 && proc2(Controls.PROC2_PAUSE_LOOP_EXITING)) {
            long now = cpu.ticks();
            if (now - lastPause > vmcs.read(PLE_GAP)) {
                firstPause = now;
            }
            lastPause = now;
            if (now - firstPause > vmcs.read(PLE_WINDOW)) {
                firstPause = now;
                throw exit(ExitReason.PAUSE, 0, insn);
            }
        }
    }

    private void descriptorTable(Instruction insn, int reason) {
        if (proc2(Controls.PROC2_DESCRIPTOR_TABLE_EXITING)) {
            throw exit(reason, displacement(insn), insn, InstructionInfo.descriptorTable(insn));
        }
    }

    private void extendedState(Instruction insn) {
        requireEnabled(Controls.PROC2_ENABLE_XSAVES);
        long components = ((cpu.r[Cpu.RDX] << 32) | (cpu.r[Cpu.RAX] & 0xffff_ffffL)) & (cpu.xcr0 | cpu.xss);
        if ((components & vmcs.read(XSS_EXITING_BITMAP)) != 0) {
            int reason = insn.op == Op.XRSTORS ? ExitReason.XRSTORS : ExitReason.XSAVES;
            throw exit(reason, insn.disp, insn, InstructionInfo.memory(insn));
        }
    }

    private void movDr(Instruction insn) {
        if (proc(Controls.PROC_MOV_DR_EXITING)) {
            boolean from = insn.kind1 == OperandKind.DREG;
            int number = from ? insn.reg1 : insn.reg0;
            int gpr = from ? insn.reg0 : insn.reg1;
            throw exit(ExitReason.MOV_DR, number | (from ? ExitQualification.DR_FROM : 0) | ((long) gpr << 8), insn);
        }
    }

    // --- control registers

    @Override public long readCr(Cpu cpu, int number, int gpr) {
        switch (number) {
            case 0:
                return shadowed(cpu.cr0, CR0_GUEST_HOST_MASK, CR0_READ_SHADOW);
            case 4:
                return shadowed(cpu.cr4, CR4_GUEST_HOST_MASK, CR4_READ_SHADOW);
            case 3:
                if (proc(Controls.PROC_CR3_STORE_EXITING)) {
                    throw crExit(3, ExitQualification.CR_MOV_FROM, gpr);
                }
                return cpu.cr3;
            case 8:
                if (proc(Controls.PROC_CR8_STORE_EXITING)) {
                    throw crExit(8, ExitQualification.CR_MOV_FROM, gpr);
                }
                return proc(Controls.PROC_TPR_SHADOW) ? apic.tpr() >>> 4 : cpu.cr8;
            default:
                return cpu.cr2;
        }
    }

    @Override public long writeCr(Cpu cpu, int number, int gpr, long value) {
        switch (number) {
            case 0:
                if (((value ^ vmcs.read(CR0_READ_SHADOW)) & vmcs.read(CR0_GUEST_HOST_MASK)) != 0) {
                    throw crExit(0, ExitQualification.CR_MOV_TO, gpr);
                }
                return fixedCr0(merged(value, cpu.cr0, CR0_GUEST_HOST_MASK));
            case 4:
                if (((value ^ vmcs.read(CR4_READ_SHADOW)) & vmcs.read(CR4_GUEST_HOST_MASK)) != 0) {
                    throw crExit(4, ExitQualification.CR_MOV_TO, gpr);
                }
                long cr4 = merged(value, cpu.cr4, CR4_GUEST_HOST_MASK);
                if ((cr4 & Cr4.VMXE) == 0) {
                    throw cpu.gp(0);
                }
                return cr4;
            case 3:
                if (proc(Controls.PROC_CR3_LOAD_EXITING) && !isCr3Target(value)) {
                    throw crExit(3, ExitQualification.CR_MOV_TO, gpr);
                }
                return value;
            default:
                return value;
        }
    }

    @Override public void writeCr8(Cpu cpu, int gpr, long value) {
        if (proc(Controls.PROC_CR8_LOAD_EXITING)) {
            throw crExit(8, ExitQualification.CR_MOV_TO, gpr);
        }
        if (proc(Controls.PROC_TPR_SHADOW)) {
            apic.writeTpr((int) value << 4);
        } else {
            cpu.cr8 = value;
        }
    }

    @Override public long clts(Cpu cpu, long cr0WithoutTs) {
        if ((vmcs.read(CR0_GUEST_HOST_MASK) & Cr0.TS) == 0) {
            return cr0WithoutTs;
        }
        if ((vmcs.read(CR0_READ_SHADOW) & Cr0.TS) != 0) {
            throw crExit(0, ExitQualification.CR_CLTS, 0);
        }
        return cpu.cr0;
    }

    @Override public long lmsw(Cpu cpu, Instruction insn, long linear, int source, long cr0) {
        long mask = vmcs.read(CR0_GUEST_HOST_MASK) & 0xf;
        long shadow = vmcs.read(CR0_READ_SHADOW);
        // LMSW can set PE but not clear it.
        boolean setsPe = (mask & source & ~shadow & Cr0.PE) != 0;
        if (setsPe || (mask & (source ^ shadow) & 0xe) != 0) {
            boolean memory = insn.kind0 == OperandKind.MEM;
            if (memory) {
                vmcs.write(GUEST_LINEAR_ADDRESS, linear);
            }
            throw exit(ExitReason.CR_ACCESS, ExitQualification.controlRegisterAccess(0, ExitQualification.CR_LMSW, 0)
                    | (memory ? ExitQualification.CR_LMSW_MEMORY : 0) | ((source & 0xffffL) << 16), insn);
        }
        return (cr0 & ~mask) | (cpu.cr0 & mask);
    }

    private long fixedCr0(long cr0) {
        long fixed = proc2(Controls.PROC2_UNRESTRICTED_GUEST) ? Cr0.NE : Cr0.NE | Cr0.PE | Cr0.PG;
        if ((cr0 & fixed) != fixed) {
            throw cpu.gp(0);
        }
        return cr0;
    }

    private boolean isCr3Target(long value) {
        int count = vmcs.readInt(CR3_TARGET_COUNT);
        return (count > 0 && value == vmcs.read(CR3_TARGET_0)) || (count > 1 && value == vmcs.read(CR3_TARGET_1))
                || (count > 2 && value == vmcs.read(CR3_TARGET_2)) || (count > 3 && value == vmcs.read(CR3_TARGET_3));
    }

    private long shadowed(long value, VmcsField mask, VmcsField shadow) {
        long owned = vmcs.read(mask);
        return (value & ~owned) | (vmcs.read(shadow) & owned);
    }

    private long merged(long value, long current, VmcsField mask) {
        long owned = vmcs.read(mask);
        return (value & ~owned) | (current & owned);
    }

    private VmExitSignal crExit(int number, int type, int gpr) {
        return instructionExit(ExitReason.CR_ACCESS,
                ExitQualification.controlRegisterAccess(number, type, Math.max(gpr, 0)));
    }

    // --- MSRs, I/O, TSC

    @Override public long readMsr(Cpu cpu, int msr) {
        if (msrExits(msr, 0)) {
            throw instructionExit(ExitReason.RDMSR, 0);
        }
        if (apic.virtualisesRead(msr)) {
            return apic.readMsr(msr);
        }
        return switch (msr) {
            case Msr.IA32_TIME_STAMP_COUNTER -> tsc(cpu, cpu.msrs.read(msr));
            case Msr.IA32_SPEC_CTRL -> virtualSpecCtrl() ? vmcs.read(SPEC_CTRL_SHADOW) : cpu.msrs.read(msr);
            default -> VmxCapabilities.handles(msr) ? VmxCapabilities.read(msr) : cpu.msrs.read(msr);
        };
    }

    @Override public void writeMsr(Cpu cpu, int msr, long value) {
        if (msrExits(msr, 2048)) {
            throw instructionExit(ExitReason.WRMSR, 0);
        }
        if (apic.wrmsr(msr, value)) {
            return;
        }
        if (msr == Msr.IA32_SPEC_CTRL && virtualSpecCtrl()) {
            cpu.msrs.write(msr, merged(value, cpu.specCtrl, SPEC_CTRL_MASK));
            vmcs.write(SPEC_CTRL_SHADOW, value);
        } else {
            cpu.msrs.write(msr, value);
        }
    }

    private boolean virtualSpecCtrl() {
        return proc(Controls.PROC_TERTIARY_CONTROLS)
                && (vmcs.read(TERTIARY_PROC_BASED_CONTROLS) & Controls.PROC3_VIRTUALIZE_SPEC_CTRL) != 0;
    }

    /// [SDM Vol. 3 "MSR-Bitmap Address"] Four bitmaps of 1024 bytes: read low, read high, write low, write high.
    private boolean msrExits(int msr, int half) {
        if (!proc(Controls.PROC_MSR_BITMAPS)) {
            return true;
        }
        int bit = msr & 0x1fff;
        int range = msr - bit;
        if (range != 0 && range != 0xc000_0000) {
            return true;
        }
        long at = structure(MSR_BITMAP) + half + (range != 0 ? 1024 : 0) + (bit >>> 3);
        return ((cpu.readPhysical(at, 1) >>> (bit & 7)) & 1) != 0;
    }

    @Override public void interceptIo(Cpu cpu, Instruction insn, int port, int bytes, boolean in, long linear) {
        boolean exits = proc(Controls.PROC_IO_BITMAPS) ? ioBitmap(port, bytes) : proc(Controls.PROC_UNCONDITIONAL_IO_EXITING);
        if (!exits) {
            return;
        }
        long qualification = (bytes - 1) | (in ? ExitQualification.IO_IN : 0) | ((long) port << 16);
        int info = 0;
        if (insn.op == Op.INS || insn.op == Op.OUTS) {
            boolean repeated = insn.has(Instruction.PREFIX_REP) || insn.has(Instruction.PREFIX_REPNE);
            qualification |= ExitQualification.IO_STRING | (repeated ? ExitQualification.IO_REP : 0);
            vmcs.write(GUEST_LINEAR_ADDRESS, linear);
            info = InstructionInfo.string(insn);
        } else if (insn.kind0 == OperandKind.IMM || insn.kind1 == OperandKind.IMM) {
            qualification |= ExitQualification.IO_IMMEDIATE;
        }
        throw exit(ExitReason.IO_INSTRUCTION, qualification, insn, info);
    }

    private boolean ioBitmap(int port, int bytes) {
        if (port + bytes > 0x10000) {
            return true;
        }
        for (int p = port; p < port + bytes; p++) {
            long bitmap = structure(p < 0x8000 ? IO_BITMAP_A : IO_BITMAP_B);
            if (((cpu.readPhysical(bitmap + ((p & 0x7fff) >>> 3), 1) >>> (p & 7)) & 1) != 0) {
                return true;
            }
        }
        return false;
    }

    /// [SDM Vol. 3 "Time-Stamp Counter Offset and Multiplier"]
    @Override public long tsc(Cpu cpu, long tsc) {
        if (!proc(Controls.PROC_TSC_OFFSETTING)) {
            return tsc;
        }
        long scaled = tsc;
        if (proc2(Controls.PROC2_TSC_SCALING)) {
            long multiplier = vmcs.read(TSC_MULTIPLIER);
            scaled = (Math.unsignedMultiplyHigh(tsc, multiplier) << 16) | ((tsc * multiplier) >>> 48);
        }
        return scaled + vmcs.read(TSC_OFFSET);
    }

    // --- events

    /// [SDM Vol. 3 "Exception Bitmap"]
    @Override public void interceptException(Cpu cpu, int vector, int type, int errorCode, boolean hasErrorCode, long address) {
        if (!exceptionExits(vector, errorCode)) {
            return;
        }
        exit(ExitReason.EXCEPTION_OR_NMI, vector == ExceptionVector.PF || vector == ExceptionVector.DB ? address : 0);
        int info = vector | (type << 8) | Interruption.VALID;
        if (hasErrorCode) {
            info |= Interruption.DELIVER_ERROR_CODE;
            vmcs.write(EXIT_INTERRUPTION_ERROR_CODE, errorCode);
        }
        if (vector != ExceptionVector.DF && !delivering() && unblockedNmiByIret()) {
            info |= Interruption.NMI_UNBLOCKING;
        }
        vmcs.write(EXIT_INTERRUPTION_INFO, info);
        if (type != Interruption.HARDWARE_EXCEPTION) {
            vmcs.write(EXIT_INSTRUCTION_LENGTH, instructionLength());
        }
        throw VmExitSignal.INSTANCE;
    }

    private boolean exceptionExits(int vector, int errorCode) {
        boolean bit = ((vmcs.readInt(EXCEPTION_BITMAP) >>> vector) & 1) != 0;
        if (vector != ExceptionVector.PF) {
            return bit;
        }
        boolean match = (errorCode & vmcs.readInt(PAGE_FAULT_ERROR_CODE_MASK)) == vmcs.readInt(PAGE_FAULT_ERROR_CODE_MATCH);
        return bit == match;
    }

    @Override public void tripleFault(Cpu cpu) {
        throw exit(ExitReason.TRIPLE_FAULT, 0);
    }

    @Override public void interceptTaskSwitch(Cpu cpu, int selector, int source) {
        exit(ExitReason.TASK_SWITCH, selector | ((long) source << 30));
        if (!delivering()) {
            vmcs.write(EXIT_INSTRUCTION_LENGTH, instructionLength());
        }
        throw VmExitSignal.INSTANCE;
    }

    @Override public boolean nmi(Cpu cpu) {
        return boundary.nmi();
    }

    @Override public boolean externalInterrupt(Cpu cpu) {
        return boundary.externalInterrupt();
    }

    @Override public void beforeTraps(Cpu cpu) {
        boundary.beforeTraps();
    }

    @Override public void beforeNmi(Cpu cpu) {
        boundary.beforeNmi();
    }

    @Override public boolean beforeInterrupts(Cpu cpu) {
        return boundary.beforeInterrupts();
    }

    @Override public boolean singleSteps(Cpu cpu) {
        return stepAt == cpu.retired || proc(Controls.PROC_MONITOR_TRAP_FLAG);
    }

    @Override public boolean waitsForInterruptFlag(Cpu cpu) {
        return apic.recognised || proc(Controls.PROC_INTERRUPT_WINDOW);
    }

    @Override public boolean iretUnblocksNmi(Cpu cpu) {
        boolean real = !pin(Controls.PIN_NMI_EXITING);
        if (real ? cpu.events.nmiBlocked : boundary.virtualNmiBlocked) {
            unblockedNmiAt = cpu.retired;
        }
        if (pin(Controls.PIN_VIRTUAL_NMIS)) {
            boundary.virtualNmiBlocked = false;
            cpu.events.raise();
        }
        return real;
    }

    boolean unblockedNmiByIret() {
        return unblockedNmiAt == cpu.retired;
    }
}
