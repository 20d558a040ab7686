package cloister.cpu;

import cloister.cpu.core.Tlb;
import cloister.cpu.core.Cpu;
import cloister.cpu.core.CpuState;
import cloister.cpu.core.GuestFault;
import cloister.cpu.fpu.CetComponents;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.cpu.fpu.FpuState;
import cloister.cpu.fpu.XsaveArea;
import cloister.cpu.sys.Cpuid;
import cloister.cpu.sys.EffectiveType;
import cloister.cpu.sys.GuestSampler;
import cloister.cpu.sys.Msrs;
import cloister.cpu.sys.PageWalker;
import cloister.cpu.sys.ProtectionKeys;
import cloister.cpu.sys.RunLoop;
import cloister.cpu.vmx.SeamTransfer;
import cloister.cpu.vmx.Vmcs;
import cloister.cpu.vmx.VmcsRegions;
import cloister.cpu.vmx.VmxCapabilities;
import cloister.cpu.vmx.VmxOperation;
import cloister.cpu.vmx.VmxStatus;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.Persistent;
import cloister.sim.Scheduler;
import cloister.sim.StateSink;
import cloister.sim.SwitchPoint;
import cloister.spec.tdx.HostState;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.VmInstructionError;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.PageFaultCode;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/// A logical processor (LP) as host software uses it: the privileged instructions, as Java calls. One host thread at a time
/// drives it, the one that is pinned to it; only [#sendInterrupt] and [#sendNmi] are for others.
///
/// Registers that VMX does not switch (general registers but RSP, CR2, DR0-3, DR6, XCR0, XSS, PKRU, FPU, most MSRs) are real:
/// what the host leaves in them is what the guest finds, and the other way round.
public final class LogicalProcessor implements Persistent {
    private static final long NO_VMCS = -1;
    private static final long REVISION_MASK = 0xffff_ffffL;

    private final Cpu cpu;
    private final Scheduler scheduler;
    private final VmcsRegions regions;
    private final VmxOperation vmx;

    private boolean vmxOn;
    private long vmxonPa = NO_VMCS;
    private Vmcs current;
    private final Vmcs seamTransfer = SeamTransfer.create();
    private SeamFirmware seam;
    private final RunLoop loop;
    private PlatformObserver observer;

    /// A processor as the host's own boot leaves it: 64-bit mode, CR4.VMXE set, caches and paging on.
    ///
    /// @param index     the index
    /// @param memory    shared by all processors
    /// @param scheduler gives the clock; every SEAMCALL, VM entry and VM exit is one of its switch points
    /// @param entropy   answers RDRAND and RDSEED
    /// @param cpuid     what CPUID says
    /// @param regions   the platform's VMCS regions, shared by all processors
    public LogicalProcessor(int index, PhysicalMemory memory, Scheduler scheduler, Entropy entropy, Cpuid cpuid,
            VmcsRegions regions) {
        this.scheduler = scheduler;
        this.regions = regions;
        this.cpu = new Cpu(memory, scheduler.clock(), entropy, new PageWalker());
        cpu.index = index;
        cpu.cpuid = cpuid;
        cpu.cr0 = Cr0.PE | Cr0.MP | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.AM | Cr0.PG;
        cpu.cr4 = Cr4.PAE | Cr4.PGE | Cr4.MCE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.FSGSBASE | Cr4.OSXSAVE | Cr4.PKE | Cr4.VMXE;
        cpu.efer = Efer.LME | Efer.LMA | Efer.NXE | Efer.SCE;
        cpu.xcr0 = Cpuid.XCR0_SUPPORTED;
        cpu.dr6 = HostState.DR6;
        cpu.dr7 = HostState.DR7;
        this.loop = new RunLoop(cpu, scheduler);
        this.vmx = new VmxOperation(cpu, loop, new VmxOperation.Transitions() {
            @Override public void entered(Vmcs vmcs) {
                if (observer != null) {
                    observer.vmEntry(LogicalProcessor.this, vmcs);
                }
            }

            @Override public void exited(Vmcs vmcs) {
                if (observer != null) {
                    observer.vmExit(LogicalProcessor.this, vmcs);
                }
            }
        });
    }

    // --- identity

    /// The index, 0..n-1.
    public int index() {
        return cpu.index;
    }

    /// The x2APIC id: the index on a platform of one package. [SDM Vol. 3 "Hierarchical Mapping of Shared Resources"]
    public int apicId() {
        return cpu.cpuid.apicId(cpu.index);
    }

    /// The memory that this LP sees.
    ///
    /// @param access only firmware has it
    public PhysicalMemory memory(FirmwareAccess access) {
        Objects.requireNonNull(access);
        return cpu.memory;
    }

    /// Instructions that guests have retired here since power-on.
    public long retired() {
        return cpu.retired;
    }

    // --- VMX instructions [SDM Vol. 3 "VMX Instruction Reference"]

    /// VMXON with the region at `hpa`, whose first word holds the revision identifier (IA32_VMX_BASIC bits 30:0).
    ///
    /// @throws HostFault #UD when CR4.VMXE is clear
    public VmxStatus vmxon(long hpa) {
        if ((cpu.cr4 & Cr4.VMXE) == 0) {
            throw new HostFault(ExceptionVector.UD, 0);
        }
        if (vmxOn) {
            return fail(VmInstructionError.VMXON_IN_ROOT);
        }
        if (!validRegion(hpa) || !hasRevision(hpa)) {
            return VmxStatus.FAIL_INVALID;
        }
        vmxOn = true;
        vmxonPa = PhysicalMemory.pa(hpa);
        current = null;
        return VmxStatus.SUCCEED;
    }

    /// VMXOFF.
    public VmxStatus vmxoff() {
        requireVmx();
        vmxOn = false;
        vmxonPa = NO_VMCS;
        current = null;
        return VmxStatus.SUCCEED;
    }

    /// VMCLEAR of the region at `hpa`: inactive, not current, launch state clear. Its fields survive.
    public VmxStatus vmclear(long hpa) {
        requireVmx();
        if (!validRegion(hpa)) {
            return fail(VmInstructionError.VMCLEAR_INVALID_ADDRESS);
        }
        if (PhysicalMemory.pa(hpa) == vmxonPa) {
            return fail(VmInstructionError.VMCLEAR_VMXON_POINTER);
        }
        var vmcs = regions.at(hpa);
        vmcs.clear();
        if (vmcs == current) {
            current = null;
        }
        return VmxStatus.SUCCEED;
    }

    /// VMPTRLD of the region at `hpa`, whose first word holds the revision identifier.
    ///
    /// @throws IllegalStateException when the VMCS is active on another LP, which the SDM forbids without VMCLEAR there
    public VmxStatus vmptrld(long hpa) {
        requireVmx();
        if (!validRegion(hpa)) {
            return fail(VmInstructionError.VMPTRLD_INVALID_ADDRESS);
        }
        if (PhysicalMemory.pa(hpa) == vmxonPa) {
            return fail(VmInstructionError.VMPTRLD_VMXON_POINTER);
        }
        if (!hasRevision(hpa)) {
            return fail(VmInstructionError.VMPTRLD_WRONG_REVISION);
        }
        current = regions.activate(hpa, cpu.index);
        return VmxStatus.SUCCEED;
    }

    /// VMPTRST: the current VMCS pointer, -1 when there is none.
    public long vmptrst() {
        return current == null ? NO_VMCS : current.pa();
    }

    /// The current VMCS or null, for those who look at a processor from outside.
    ///
    /// @param access only firmware has it
    public Vmcs currentVmcs(FirmwareAccess access) {
        Objects.requireNonNull(access);
        return current;
    }

    /// VMREAD of the current VMCS. The fields that only SEAM has do not exist for the host: VM-instruction error 12, and 0 is returned.
    /// [TDX-CPU "VMCS"]
    ///
    /// @throws IllegalStateException when there is no current VMCS
    public long vmread(VmcsField field) {
        if (isSeamOnly(field)) {
            fail(VmInstructionError.UNSUPPORTED_FIELD);
            return 0;
        }
        return requireCurrent().read(field);
    }

    /// VMWRITE to the current VMCS. Read-only data fields are writable (IA32_VMX_MISC bit 29).
    ///
    /// @return FAIL_INVALID when there is no current VMCS, FAIL_VALID for a field that only SEAM has
    public VmxStatus vmwrite(VmcsField field, long value) {
        if (current == null) {
            return VmxStatus.FAIL_INVALID;
        }
        if (isSeamOnly(field)) {
            return fail(VmInstructionError.UNSUPPORTED_FIELD);
        }
        current.write(field, value);
        return VmxStatus.SUCCEED;
    }

    private static boolean isSeamOnly(VmcsField field) {
        return field == VmcsField.GUEST_TD_HKID || field == VmcsField.SHARED_EPTP;
    }

    /// VMLAUNCH: runs the guest until a VM exit, then returns. SUCCEED: look at EXIT_REASON (bit 31: the entry failed late).
    public VmxStatus vmlaunch() {
        return enter(true);
    }

    /// VMRESUME, likewise.
    public VmxStatus vmresume() {
        return enter(false);
    }

    private VmxStatus enter(boolean launch) {
        requireVmx();
        if (current == null) {
            return VmxStatus.FAIL_INVALID;
        }
        return enter(current, launch);
    }

    /// VM entry with a VMCS that only the caller knows: the TDX module's, which are never the host's current one.
    ///
    /// @param access only firmware has it
    public VmxStatus enter(FirmwareAccess access, Vmcs vmcs, boolean launch) {
        Objects.requireNonNull(access);
        return enter(vmcs, launch);
    }

    private VmxStatus enter(Vmcs vmcs, boolean launch) {
        scheduler.switchPoint(SwitchPoint.VM_ENTRY, this, vmcs.pa());
        var status = vmx.enter(vmcs, launch);
        scheduler.switchPoint(SwitchPoint.VM_EXIT, this, vmcs.pa());
        return status;
    }

    /// INVEPT of type [Ept#INVEPT_SINGLE_CONTEXT] or `INVEPT_ALL_CONTEXTS`.
    public VmxStatus invept(int type, long eptp) {
        if (type != Ept.INVEPT_SINGLE_CONTEXT && type != Ept.INVEPT_ALL_CONTEXTS) {
            return fail(VmInstructionError.INVALID_INVEPT_INVVPID_OPERAND);
        }
        vmx.invept(type == Ept.INVEPT_SINGLE_CONTEXT, eptp);
        return VmxStatus.SUCCEED;
    }

    /// INVVPID of type `Ept.INVVPID_*`.
    public VmxStatus invvpid(int type, int vpid, long linear) {
        boolean all = type == Ept.INVVPID_ALL_CONTEXTS;
        if (type < Ept.INVVPID_ADDRESS || type > Ept.INVVPID_RETAINING_GLOBALS || (!all && vpid == 0)
                || (type == Ept.INVVPID_ADDRESS && !Msrs.canonical(linear))) {
            return fail(VmInstructionError.INVALID_INVEPT_INVVPID_OPERAND);
        }
        if (type == Ept.INVVPID_ADDRESS) {
            vmx.invvpid(vpid, linear);
        } else {
            vmx.invvpid(all ? -1 : vpid);
        }
        return VmxStatus.SUCCEED;
    }

    private void requireVmx() {
        if (!vmxOn) {
            throw new HostFault(ExceptionVector.UD, 0);
        }
    }

    private Vmcs requireCurrent() {
        if (current == null) {
            throw new IllegalStateException("no current VMCS on LP " + cpu.index);
        }
        return current;
    }

    private VmxStatus fail(int error) {
        if (current == null) {
            return VmxStatus.FAIL_INVALID;
        }
        current.write(VmcsField.VM_INSTRUCTION_ERROR, error);
        return VmxStatus.FAIL_VALID;
    }

    private boolean validRegion(long hpa) {
        return (hpa & (PhysicalMemory.FRAME_SIZE - 1)) == 0 && isHosts(hpa)
                && cpu.memory.contains(PhysicalMemory.pa(hpa), PhysicalMemory.FRAME_SIZE);
    }

    /// Whether software outside of SEAM mode can use `hpa`: its KeyID exists and is not private. [TDX-CPU "Private KeyID"]
    private boolean isHosts(long hpa) {
        return hpa >>> Cpuid.PHYSICAL_ADDRESS_BITS == 0 && !cpu.memory.isPrivate(hpa);
    }

    private boolean hasRevision(long hpa) {
        return (cpu.readPhysical(hpa, 4) & REVISION_MASK) == Vmcs.REVISION;
    }

    // --- registers

    /// The sixteen general registers in encoding order, live; elements beyond 15 are not the host's. RSP of a guest is a VMCS field.
    public long[] gprs() {
        return cpu.r;
    }

    /// CR2, shared by host and guests.
    public long cr2() {
        return cpu.cr2;
    }

    /// Sets CR2.
    public void cr2(long value) {
        cpu.cr2 = value;
    }

    /// CR0, CR3 or CR4.
    public long cr(int number) {
        return switch (number) {
            case 0 -> cpu.cr0;
            case 3 -> cpu.cr3;
            case 4 -> cpu.cr4;
            default -> throw new IllegalArgumentException("CR" + number);
        };
    }

    /// Sets CR0, CR3 or CR4 as VMX operation lets it be.
    ///
    /// @throws HostFault #GP
    public void cr(int number, long value) {
        switch (number) {
            case 0 -> cpu.cr0 = legal(value, VmxCapabilities.CR0_FIXED0, VmxCapabilities.CR0_FIXED1);
            case 3 -> cpu.cr3 = value;
            case 4 -> cpu.cr4 = legal(value, VmxCapabilities.CR4_FIXED0, VmxCapabilities.CR4_FIXED1);
            default -> throw new IllegalArgumentException("CR" + number);
        }
    }

    private static long legal(long value, long mustBeOne, long mayBeOne) {
        if ((value & mustBeOne) != mustBeOne || (value & ~mayBeOne) != 0) {
            throw new HostFault(ExceptionVector.GP, 0);
        }
        return value;
    }

    /// RDSSP: the shadow-stack pointer.
    public long ssp() {
        return cpu.cet.ssp;
    }

    /// Sets the shadow-stack pointer, as SETSSBSY and RSTORSSP do.
    public void ssp(long value) {
        cpu.cet.ssp = value;
    }

    /// CR8 of the host: the LP's own TPR, not a guest's.
    public long cr8() {
        return cpu.cr8;
    }

    /// DR0-DR3, DR6 or DR7.
    public long dr(int number) {
        return switch (number) {
            case 0 -> cpu.dr0;
            case 1 -> cpu.dr1;
            case 2 -> cpu.dr2;
            case 3 -> cpu.dr3;
            case 6 -> cpu.dr6;
            case 7 -> cpu.dr7;
            default -> throw new IllegalArgumentException("DR" + number);
        };
    }

    /// Sets DR0-DR3, DR6 or DR7.
    public void dr(int number, long value) {
        switch (number) {
            case 0 -> cpu.dr0 = value;
            case 1 -> cpu.dr1 = value;
            case 2 -> cpu.dr2 = value;
            case 3 -> cpu.dr3 = value;
            case 6 -> cpu.dr6 = value;
            case 7 -> cpu.dr7 = value;
            default -> throw new IllegalArgumentException("DR" + number);
        }
    }

    /// XGETBV of XCR0.
    public long xcr0() {
        return cpu.xcr0;
    }

    /// XSETBV.
    ///
    /// @throws HostFault #GP
    public void xcr0(long value) {
        if ((value & 1) == 0 || (value & ~Cpuid.XCR0_SUPPORTED) != 0) {
            throw new HostFault(ExceptionVector.GP, 0);
        }
        cpu.xcr0 = value;
    }

    /// PKRU.
    public int pkru() {
        return cpu.pkru;
    }

    /// WRPKRU.
    public void pkru(int value) {
        ProtectionKeys.load(cpu, value);
    }

    /// The x87, MMX and SSE registers, live: copy with [FpuState#copyFrom], or save and restore with
    /// [cloister.cpu.fpu.XsaveArea].
    public FpuState fpu() {
        return cpu.fpu;
    }

    /// XSAVES64 of `components` to `area`.
    public void xsaves(long components, MemorySegment area) {
        XsaveArea.save(cpu.fpu, cpu.pkru, components, true, area);
        CetComponents.save(cpu.cet, components, area);
    }

    /// XRSTORS64 of `components` from `area`, with XCR0 | IA32_XSS the same.
    ///
    /// @return false for #GP: nothing is loaded then
    public boolean xrstors(long components, MemorySegment area) {
        if (!XsaveArea.valid(area, components, true) || !CetComponents.valid(components, area)) {
            return false;
        }
        ProtectionKeys.load(cpu, XsaveArea.restoreValid(cpu.fpu, cpu.pkru, components, true, area));
        CetComponents.restore(cpu.cet, components, area);
        return true;
    }

    /// Brings `components` to their initial configuration.
    public void resetComponents(long components) {
        if ((components & XsaveArea.X87) != 0) {
            cpu.fpu.initX87();
        }
        if ((components & XsaveArea.SSE) != 0) {
            cpu.fpu.initSse();
            cpu.fpu.mxcsr = FpuState.INITIAL_MXCSR;
        }
        if ((components & XsaveArea.PKRU) != 0) {
            pkru(0);
        }
        CetComponents.reset(cpu.cet, components);
    }

    /// RDMSR.
    ///
    /// @throws HostFault #GP
    public long rdmsr(int msr) {
        if (VmxCapabilities.handles(msr)) {
            return VmxCapabilities.read(msr);
        }
        try {
            return cpu.msrs.read(msr);
        } catch (GuestFault f) {
            throw new HostFault(f.vector, f.errorCode);
        }
    }

    /// WRMSR.
    ///
    /// @throws HostFault #GP
    public void wrmsr(int msr, long value) {
        try {
            cpu.msrs.write(msr, value);
        } catch (GuestFault f) {
            throw new HostFault(f.vector, f.errorCode);
        }
    }

    /// Sets an MSR without any check, as reset and firmware do.
    ///
    /// @param access only firmware has it
    public void presetMsr(FirmwareAccess access, int msr, long value) {
        Objects.requireNonNull(access);
        cpu.msrs.preset(msr, value);
    }

    /// Whether there is such an MSR.
    public boolean hasMsr(int msr) {
        return VmxCapabilities.handles(msr) || cpu.msrs.exists(msr);
    }

    /// CPUID of the silicon into `out`: EAX, EBX, ECX, EDX.
    public void cpuid(int leaf, int subleaf, int[] out) {
        cpu.cpuid.query(leaf, subleaf, new Cpuid.Asker(apicId(), true, true, cpu.cr4, cpu.xcr0, cpu.xss), out);
        Cpuid.hideTsx(leaf, subleaf, cpu.tsxCtrl, out);
    }

    /// RDTSC in VMX root operation.
    public long rdtsc() {
        return Msrs.hostTsc(cpu);
    }

    // --- memory

    /// MOVDIR64B of zeros to all lines of a frame.
    ///
    /// @throws HostFault #PF for a reserved bit when the KeyID of `hpa` is private to the TDX module
    public void clearFrame(long hpa) {
        if (!isHosts(hpa)) {
            throw new HostFault(ExceptionVector.PF, PageFaultCode.P | PageFaultCode.W | PageFaultCode.RSVD);
        }
        cpu.memory.clearLines(hpa, PhysicalMemory.LINES_PER_FRAME);
    }

    /// CLFLUSH of the line at `hpa`. Caches are not modelled: nothing to do.
    public void clflush(long hpa) {
        cpu.memory.contains(PhysicalMemory.pa(hpa), PhysicalMemory.LINE_SIZE);
    }

    /// WBINVD. Caches are not modelled: nothing to do.
    public void wbinvd() {
        // Memory is always up to date.
    }

    // --- SEAM

    /// Installs the module that SEAMCALL enters.
    ///
    /// @param access only firmware has it
    public void installSeam(FirmwareAccess access, SeamFirmware firmware) {
        Objects.requireNonNull(access);
        seam = firmware;
    }

    /// SEAMCALL: `regs` hold the leaf in RAX and receive the results, as do the LP's live general registers.
    ///
    /// @return FAIL_INVALID when no module is installed (CF set, registers unchanged), else SUCCEED
    /// @throws HostFault #UD outside VMX operation, as on a processor that has gone offline. [TDX-CPU "SEAMCALL"]
    public VmxStatus seamcall(SeamRegs regs) {
        requireVmx();
        if (seam == null) {
            return VmxStatus.FAIL_INVALID;
        }
        long leaf = regs.get(SeamRegs.RAX);
        scheduler.switchPoint(SwitchPoint.SEAMCALL_ENTRY, this, leaf);
        if (observer != null) {
            observer.seamcallEntry(this, regs);
        }
        SeamTransfer.enter(cpu, seamTransfer);
        seam.seamcall(this, regs);
        SeamTransfer.leave(cpu, seamTransfer);
        System.arraycopy(regs.array(), 0, cpu.r, 0, SeamRegs.COUNT);
        if (observer != null) {
            observer.seamcallExit(this, leaf, regs);
        }
        scheduler.switchPoint(SwitchPoint.SEAMCALL_EXIT, this, leaf);
        return VmxStatus.SUCCEED;
    }

    /// The SEAM transfer VMCS: for the installed firmware only.
    ///
    /// @param access only firmware has it
    public Vmcs seamTransferVmcs(FirmwareAccess access) {
        Objects.requireNonNull(access);
        return seamTransfer;
    }

    // --- interrupts

    /// An interrupt with `vector` arrives at this LP, from wherever (another LP's ICR, a timer): a guest that runs here takes a VM
    /// exit, or, when `vector` is its posted-interrupt notification vector, evaluates its posted interrupts. In the host it stays
    /// pending.
    public void sendInterrupt(int vector) {
        cpu.events.raiseExternal(vector);
    }

    /// An NMI arrives at this LP.
    public void sendNmi() {
        cpu.events.raiseNmi();
    }

    /// Takes the highest pending interrupt, as a host with interrupts enabled would.
    ///
    /// @return its vector, or -1 when none is pending
    public int takeInterrupt() {
        int vector = cpu.events.highestExternal();
        if (vector >= 0) {
            cpu.events.acknowledge(vector);
        }
        return vector;
    }

    /// Takes a pending NMI.
    public boolean takeNmi() {
        boolean pending = cpu.events.nmiPending;
        cpu.events.nmiPending = false;
        return pending;
    }

    /// Whether an interrupt or NMI waits.
    public boolean interruptPending() {
        return cpu.events.nmiPending || cpu.events.highestExternal() >= 0;
    }

    // --- state

    @Override public String stateName() {
        return "lp" + cpu.index;
    }

    @Override public void describe(StateSink out) {
        out.field("vmxOn", vmxOn ? 1 : 0);
        out.field("vmxonPa", vmxonPa);
        out.field("currentVmcs", vmptrst());
        out.part(new CpuState(cpu));
        out.part(seamTransfer);
    }

    // --- observation

    /// The translations in the TLB, each with its memory type, in no particular order.
    ///
    /// @param access only firmware has it
    public List<CachedTranslation> translations(FirmwareAccess access) {
        Objects.requireNonNull(access);
        var result = new ArrayList<CachedTranslation>();
        cpu.tlb.visit(into(result));
        return result;
    }

    /// The same of what was made under one VPID and one EPT pointer.
    ///
    /// @param eptp 0 for guests without EPT
    public List<CachedTranslation> translations(FirmwareAccess access, int vpid, long eptp) {
        Objects.requireNonNull(access);
        var result = new ArrayList<CachedTranslation>();
        cpu.tlb.visit(vpid, eptp, into(result));
        return result;
    }

    private Tlb.Visitor into(List<CachedTranslation> result) {
        return (linear, hpa, pageShift, writable, ingredients) -> result.add(
                new CachedTranslation(linear, hpa, pageShift, writable, EffectiveType.of(cpu, ingredients, hpa),
                        EffectiveType.parts(cpu, ingredients, hpa)));
    }

    /// Tells `sampler` where the guest is at the first slice end after every `period` instructions that it retires,
    /// 1 or more. The run is the same.
    ///
    /// @param access only firmware has it
    public void sample(FirmwareAccess access, long period, GuestSampler sampler) {
        Objects.requireNonNull(access);
        loop.sample(period, sampler);
    }

    /// Sets the observer, which sees every VMCS that is entered; null for none.
    ///
    /// @param access only firmware has it
    public void observer(FirmwareAccess access, PlatformObserver observer) {
        Objects.requireNonNull(access);
        this.observer = observer;
    }
}
