package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.fpu.FpuState;
import cloister.cpu.sys.Cpuid;
import cloister.cpu.vmx.VmxStatus;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRegs;
import cloister.kvm.KvmSegment;
import cloister.kvm.KvmSregs;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.host.HostCpu;
import cloister.kvm.irq.ApicPage;
import cloister.kvm.vcpu.HostContext;
import cloister.kvm.vcpu.Request;
import cloister.kvm.vcpu.VcpuFile;
import cloister.kvm.vcpu.Vm;
import cloister.sim.Noinstr;
import cloister.sim.StateSink;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Efer;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;
import cloister.spec.x86.Rflags;
import java.util.Arrays;
import java.util.BitSet;

/// A vCPU of an ordinary VM: a VMCS and the registers that VMX does not switch. [LINUX arch/x86/kvm/vmx/vmx.c]
final class VmxVcpu extends VcpuFile {
    static final int RSP = 4;
    private static final int GPRS = 16;
    private static final int NO_EXIT = -1;
    private static final int NO_INTERRUPTS = GuestActivity.BLOCKING_BY_STI | GuestActivity.BLOCKING_BY_MOV_SS;

    final long[] gprs = new long[GPRS];
    final ControlRegisters cr;
    final LoadedVmcs vmcs;
    final EventInjection injection;
    /// Guest memory is mapped by EPT; without it the guest's own tables are shadowed.
    final boolean ept;
    private final VmxExits exits;
    private final long msrBitmapPa;
    private final int vpid;
    private final long apicPagePa;
    /// Interrupts are posted and delivered by the processor, in x2APIC mode its registers are virtualised.
    private final boolean apicv;
    private final FpuState fpu = new FpuState();
    private final HostContext hostContext;
    private final UserProgramMsrs userMsrs;
    private final long[] debugRegisters = new long[4];
    private long dr6 = 0xffff_0ff0L;
    private long kernelGsBase;
    private long cr2;
    private final ControlFlowMsrs controlFlow;
    private long xcr0 = 1;
    private long xss;
    private int pkru;
    private long tscOffset;
    /// The processor that has the guest's registers, or null. [LINUX guest_state_loaded]
    private HostCpu guestStateOn;

    private VmxStatus entryStatus;
    /// The full exit reason of the last stay, or [#NO_EXIT].
    private int exitReason = NO_EXIT;
    /// Whether the VMX-preemption timer ends the next stay in the guest before its first instruction.
    private boolean exitsAtOnce;

    VmxVcpu(VmxVm vm, int id) {
        this(vm, id, vm.host.frames().allocate(4));
    }

    /// @param pages frames of the vCPU
    private VmxVcpu(VmxVm vm, int id, long[] pages) {
        super(vm, id, pages[0], ApicPage.at(vm.host.memory(), pages[1]));
        this.apicPagePa = pages[1];
        this.hostContext = new HostContext(host.lostRegisters());
        this.userMsrs = new UserProgramMsrs(cpuid, msrs);
        this.ept = vm.mmu.module().masks().usesEpt();
        this.vpid = vm.allocateVpid();
        this.msrBitmapPa = pages[2];
        this.vmcs = new LoadedVmcs(host, pages[3]);
        var here = cpus.pin();
        try {
            this.apicv = VmcsSetup.hasApicv(here.lp());
            vmcs.load(here);
            this.controlFlow = new ControlFlowMsrs(vmcs, cpuid);
            this.cr = new ControlRegisters(this);
            this.injection = new EventInjection(this);
            this.exits = new VmxExits(this);
            VmcsSetup.msrBitmap(host.memory(), msrBitmapPa);
            VmcsSetup.controls(here.lp(), vmcs, vpid, msrBitmapPa, ept);
            VmcsSetup.hostState(vmcs);
            if (apicv) {
                VmcsSetup.apicVirtualization(vmcs, apicPagePa, pi.pa());
            }
            reset(false);
            tsc(0);
            request(Request.TLB_FLUSH);
        } finally {
            vmcs.unload();
            cpus.unpin();
        }
    }

    /// Gives the frames back; the vCPU is not used any more.
    void free() {
        mmu.destroy();
        vmcs.clear();
        ((VmxVm) vm).freeVpid(vpid);
        host.frames().free(vmcs.pa());
        host.frames().free(msrBitmapPa);
        host.frames().free(apicPagePa);
        host.frames().free(pi.pa());
    }

    // --- processors

    @Override protected void preRun() {
    }

    /// [LINUX vmx_vcpu_load_vmcs]
    @Override protected void vcpuLoad(HostCpu target, boolean moved) {
        vmcs.load(target);
        if (moved) {
            VmcsSetup.hostStateOf(target.lp(), vmcs, host.lostRegisters());
            request(Request.TLB_FLUSH);
        }
    }

    /// [LINUX vmx_vcpu_put]
    @Override protected void vcpuPut(HostCpu from) {
        if (guestStateOn != null) {
            switchToHost(from.lp());
        }
        vmcs.unload();
    }

    /// [LINUX vmx_prepare_switch_to_guest, kvm_load_guest_fpu]
    private void switchToGuest(HostCpu here) {
        var lp = here.lp();
        hostContext.save(lp);
        VmcsSetup.hostStateOfTask(lp, vmcs, host.lostRegisters());
        lp.fpu().copyFrom(fpu);
        lp.wrmsr(Msr.IA32_KERNEL_GS_BASE, kernelGsBase);
        userMsrs.load(here);
        loadDebugRegisters(lp);
        controlFlow.load(lp);
        guestStateOn = here;
    }

    private void switchToHost(LogicalProcessor lp) {
        if (!hostContext.breakpointsActive()) {
            saveDebugRegisters(lp);
        }
        fpu.copyFrom(lp.fpu());
        kernelGsBase = lp.rdmsr(Msr.IA32_KERNEL_GS_BASE);
        controlFlow.put();
        hostContext.restoreRegisters(lp);
        guestStateOn = null;
    }

    private void loadDebugRegisters(LogicalProcessor lp) {
        for (int i = 0; i < debugRegisters.length; i++) {
            lp.dr(i, debugRegisters[i]);
        }
        lp.dr(6, dr6);
    }

    private void saveDebugRegisters(LogicalProcessor lp) {
        for (int i = 0; i < debugRegisters.length; i++) {
            debugRegisters[i] = lp.dr(i);
        }
        dr6 = lp.dr(6);
    }

    // --- run loop

    /// From here to the end the guest's state may be in the processor. [LINUX vmx_vcpu_enter_exit]
    @Noinstr private void enterExit(HostCpu here) {
        scheduler.beginUninterruptible();
        try {
            entryStatus = vmcs.enter();
            exitReason = entryStatus == VmxStatus.SUCCEED ? (int) here.lp().vmread(EXIT_REASON) : NO_EXIT;
            if (exitReason == ExitReason.EXCEPTION_OR_NMI && interruptionType(here) == Interruption.NMI) {
                here.handleNmi();
            }
        } finally {
            scheduler.endUninterruptible();
        }
    }

    @Noinstr private static int interruptionType(HostCpu here) {
        return Interruption.type((int) here.lp().vmread(EXIT_INTERRUPTION_INFO));
    }

    /// What interrupts of the host would disturb, before others run on the processor. [LINUX vmx_handle_exit_irqoff]
    private void handleMachineCheck(HostCpu here) {
        boolean inGuest = exitReason == ExitReason.EXCEPTION_OR_NMI
                && Interruption.vector((int) here.lp().vmread(EXIT_INTERRUPTION_INFO)) == ExceptionVector.MC;
        if (inGuest || ExitReason.basic(exitReason) == ExitReason.MACHINE_CHECK_DURING_ENTRY) {
            here.handleMachineCheck();
        }
    }

    @Override protected void enter(HostCpu here) {
        if (exits.invalidState().required()) {
            return;
        }
        var lp = here.lp();
        if (guestStateOn == null) {
            switchToGuest(here);
        } else if (hostContext.breakpointsActive()) {
            loadDebugRegisters(lp);
        }
        lp.cr2(cr2);
        if (lp.xcr0() != xcr0) {
            lp.xcr0(xcr0);
        }
        if (xss != hostContext.xss()) {
            lp.wrmsr(Msr.IA32_XSS, xss);
        }
        hostContext.saveDebugctl(lp);
        lp.pkru(pkru);
        System.arraycopy(gprs, 0, lp.gprs(), 0, GPRS);
        enterExit(here);
        handleMachineCheck(here);
        System.arraycopy(lp.gprs(), 0, gprs, 0, GPRS);
        gprs[RSP] = lp.vmread(GUEST_RSP);
        cr2 = lp.cr2();
        pkru = lp.pkru();
        hostContext.restoreDebugctl(lp, 0);
        hostContext.restoreExtendedState(lp);
        if (hostContext.breakpointsActive()) {
            saveDebugRegisters(lp);
            hostContext.restoreBreakpoints(lp);
        }
    }

    @Override protected boolean exitPending() {
        return exits.isPending();
    }

    @Override protected KvmExit completeExit() {
        return exits.complete();
    }

    @Override protected KvmExit handleExit() {
        if (exits.invalidState().required()) {
            return exits.emulateInvalidState();
        }
        if (entryStatus != VmxStatus.SUCCEED) {
            return new KvmExit.FailEntry(vmcs.read(VM_INSTRUCTION_ERROR), cpu().index());
        }
        return exits.handle();
    }

    @Override protected void loadRoot() {
        if (ept) {
            vmcs.write(EPTP, mmu.eptp());
        } else {
            vmcs.write(GUEST_CR3, mmu.rootPa() | cr.activePcid());
        }
        flushTlb();
    }

    /// [LINUX vmx_flush_tlb_all]
    @Override protected void flushTlb() {
        if (ept) {
            vmcs.lp().invept(Ept.INVEPT_ALL_CONTEXTS, 0);
        } else {
            vmcs.lp().invvpid(Ept.INVVPID_SINGLE_CONTEXT, vpid, 0);
        }
    }

    @Override protected void cpuidChanged() {
        VmcsSetup.controlFlowMsrs(host.memory(), msrBitmapPa, ControlFlowMsrs.has(cpuid), ControlFlowMsrs.hasShadowStacks(cpuid));
        int controls = vmcs.readInt(SECONDARY_PROC_BASED_CONTROLS) & ~Controls.PROC2_ENABLE_USER_WAIT_PAUSE;
        vmcs.write(SECONDARY_PROC_BASED_CONTROLS, userMsrs.hasWaitpkg() ? controls | Controls.PROC2_ENABLE_USER_WAIT_PAUSE : controls);
        userMsrs.cpuidChanged();
        mmu.guestAddressBits(cpuid.physicalAddressBits());
        if (!ept) {
            mmu.guestPaging(cr.cr0(), cr.cr3(), cr.cr4(), cr.efer());
        }
    }

    /// Drops the guest's own translations, after a change of paging that KVM carried out for it.
    void flushGuestTlb() {
        mmu.invalidateAll();
        vmcs.lp().invvpid(Ept.INVVPID_SINGLE_CONTEXT, vpid, 0);
    }

    /// Drops the guest's translations with `pcid`. [LINUX kvm_invalidate_pcid]
    void flushPcid(long pcid, boolean pcidsInUse) {
        mmu.invalidatePcid(pcid, pcidsInUse);
        vmcs.lp().invvpid(Ept.INVVPID_SINGLE_CONTEXT, vpid, 0);
    }

    /// INVLPG.
    void flushAddress(long linear) {
        flushAddress(linear, cr.activePcid());
    }

    /// INVPCID of one address. Where PCIDs other than the active one have the address, their roots are given up.
    void flushAddress(long linear, long pcid) {
        if (pcid != cr.activePcid()) {
            flushPcid(pcid, true);
            return;
        }
        mmu.invalidateAddress(linear);
        vmcs.lp().invvpid(Ept.INVVPID_ADDRESS, vpid, linear);
    }

    // --- events

    @Override protected boolean interruptAllowed() {
        return injection.interruptAllowed();
    }

    @Override protected boolean hasInterrupt() {
        pi.drainTo(apic);
        return apic.deliverable() >= 0;
    }

    @Override public boolean postsInterrupts() {
        return apicv;
    }

    /// [LINUX vmx_set_virtual_apic_mode]
    @Override public void apicModeChanged() {
        super.apicModeChanged();
        if (apicv) {
            VmcsSetup.x2apicMode(host.memory(), vmcs, msrBitmapPa, apic.isX2apic());
        }
    }

    /// [LINUX vmx_load_eoi_exitmap]
    @Override protected void eoiVectorsChanged(BitSet vectors) {
        long[] words = Arrays.copyOf(vectors.toLongArray(), 4);
        vmcs.write(EOI_EXIT_BITMAP_0, words[0]);
        vmcs.write(EOI_EXIT_BITMAP_1, words[1]);
        vmcs.write(EOI_EXIT_BITMAP_2, words[2]);
        vmcs.write(EOI_EXIT_BITMAP_3, words[3]);
    }

    @Override protected boolean nmiAllowed() {
        return injection.nmiAllowed();
    }

    @Override protected boolean nmiMasked() {
        return injection.nmiMasked();
    }

    @Override protected void injectEvents(HostCpu here) {
        boolean again = injection.inject(!apicv || exits.invalidState().required());
        if (again != exitsAtOnce) {
            exitsAtOnce = again;
            VmcsSetup.exitAtOnce(vmcs, again);
        }
        if (again) {
            request(Request.EVENT);
        }
        if (apicv) {
            pi.drainTo(apic);
            vmcs.write(GUEST_INTERRUPT_STATUS, apic.guestInterruptStatus());
        }
    }

    /// Queues a fault for the current instruction.
    void queueException(int vector, int errorCode) {
        raise(vector, ExceptionVector.hasErrorCode(vector), errorCode, false, 0);
    }

    /// Queues a page fault at `linear`.
    void queuePageFault(int errorCode, long linear) {
        raise(ExceptionVector.PF, true, errorCode, true, linear);
    }

    /// Queues a debug exception for which DR6 gets `conditions`.
    void queueDebug(long conditions) {
        raise(ExceptionVector.DB, false, 0, true, conditions);
    }

    /// Segment registers, CR0 or RFLAGS are not those of the last exit.
    void stateChanged() {
        if (exits != null) { // else the vCPU is being made
            exits.invalidState().suspect();
        }
    }

    /// The guest may be ready for events for which it was not. [LINUX KVM_REQ_EVENT]
    void mayTakeEvents() {
        request(Request.EVENT);
    }

    /// A trap follows the instruction that KVM has carried out.
    void trapped(long conditions) {
        vmcs.write(GUEST_PENDING_DEBUG_EXCEPTIONS, vmcs.read(GUEST_PENDING_DEBUG_EXCEPTIONS) | conditions);
    }

    void queueGp() {
        queueException(ExceptionVector.GP, 0);
    }

    void queueUd() {
        queueException(ExceptionVector.UD, 0);
    }

    /// Goes on behind the instruction that exited. [LINUX skip_emulated_instruction]
    void skipInstruction() {
        advance(vmcs.readInt(EXIT_INSTRUCTION_LENGTH));
    }

    /// Goes on `length` bytes further.
    void advance(int length) {
        long rip = vmcs.read(GUEST_RIP) + length;
        vmcs.write(GUEST_RIP, is64Bit() ? rip : rip & 0xffff_ffffL);
        int blocking = vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE);
        if ((blocking & NO_INTERRUPTS) != 0) {
            vmcs.write(GUEST_INTERRUPTIBILITY_STATE, blocking & ~NO_INTERRUPTS);
        }
        if ((vmcs.read(GUEST_RFLAGS) & Rflags.TF) != 0) {
            trapped(GuestActivity.PENDING_BS);
        }
    }

    boolean is64Bit() {
        return (vmcs.readInt(VM_ENTRY_CONTROLS) & Controls.ENTRY_IA32E_MODE_GUEST) != 0
                && (vmcs.readInt(GUEST_CS_ACCESS_RIGHTS) & (1 << 13)) != 0;
    }

    int cpl() {
        return (vmcs.readInt(GUEST_SS_ACCESS_RIGHTS) >> 5) & 3;
    }

    // --- MSRs and state that VMX does not switch

    @Override public long tsc() {
        return host.clock().now() + tscOffset;
    }

    @Override public void tsc(long value) {
        tscOffset = value - host.clock().now();
        vmcs.write(TSC_OFFSET, tscOffset);
    }

    @Override public long tscOffset() {
        return tscOffset;
    }

    long xss() {
        return xss;
    }

    long xcr0() {
        return xcr0;
    }

    /// XSETBV. [LINUX __kvm_set_xcr]
    ///
    /// @return false for #GP
    boolean writeXcr(int register, long value) {
        if (register != 0 || (value & 1) == 0 || (value & ~cpuid.supportedXcr0()) != 0 || (value & 6) == 4) {
            return false;
        }
        xcr0 = value;
        return true;
    }

    /// MOV to CR0, CR3, CR4 or CR8.
    ///
    /// @return false for #GP
    boolean writeControl(int register, long value) {
        return switch (register) {
            case 0 -> cr.writeCr0(value);
            case 3 -> cr.writeCr3(value);
            case 4 -> cr.writeCr4(value);
            case 8 -> {
                if ((value & ~0xfL) == 0) {
                    apic.tpr((int) value << 4);
                }
                yield (value & ~0xfL) == 0;
            }
            default -> false;
        };
    }

    /// CPUID of the guest.
    void queryCpuid(int leaf, int subleaf, int[] out) {
        cpuid.query(leaf, subleaf, cr.cr4(), xcr0, xss, apic.isEnabled(), out);
        Cpuid.hideTsx(leaf, subleaf, userMsrs.tsxCtrl(), out);
    }

    long cr2() {
        return cr2;
    }

    void cr2(long value) {
        cr2 = value;
    }

    /// The guest's x87, MMX and SSE registers, wherever they are.
    FpuState fpu() {
        return guestStateOn != null ? guestStateOn.lp().fpu() : fpu;
    }

    /// The guest's DR0 to DR3, DR6 or DR7.
    long debugRegister(int number) {
        return switch (number) {
            case 6 -> dr6();
            case 7 -> vmcs.read(GUEST_DR7);
            default -> guestStateOn != null ? guestStateOn.lp().dr(number) : debugRegisters[number];
        };
    }

    void debugRegister(int number, long value) {
        switch (number) {
            case 6 -> dr6(value);
            case 7 -> vmcs.write(GUEST_DR7, value);
            default -> {
                debugRegisters[number] = value;
                if (guestStateOn != null) {
                    guestStateOn.lp().dr(number, value);
                }
            }
        }
    }

    /// The guest's DR6, on the processor while its state is there.
    long dr6() {
        return guestStateOn != null ? guestStateOn.lp().dr(6) : dr6;
    }

    void dr6(long value) {
        dr6 = value;
        if (guestStateOn != null) {
            guestStateOn.lp().dr(6, value);
        }
    }

    @Override public boolean cachesDisabled() {
        return (cr.cr0() & Cr0.CD) != 0;
    }

    @Override public long readHardware(int msr) {
        if (UserProgramMsrs.handles(msr)) {
            return userMsrs.read(msr);
        }
        if (ControlFlowMsrs.handles(msr)) {
            return controlFlow.read(msr);
        }
        return switch (msr) {
            case Msr.IA32_EFER -> cr.efer();
            case Msr.IA32_KERNEL_GS_BASE -> guestStateOn != null ? guestStateOn.lp().rdmsr(msr) : kernelGsBase;
            case Msr.IA32_FS_BASE -> vmcs.read(GUEST_FS_BASE);
            case Msr.IA32_GS_BASE -> vmcs.read(GUEST_GS_BASE);
            case Msr.IA32_SYSENTER_CS -> vmcs.read(GUEST_SYSENTER_CS);
            case Msr.IA32_SYSENTER_ESP -> vmcs.read(GUEST_SYSENTER_ESP);
            case Msr.IA32_SYSENTER_EIP -> vmcs.read(GUEST_SYSENTER_EIP);
            case Msr.IA32_XSS -> xss;
            default -> throw GuestGp.UNKNOWN_MSR;
        };
    }

    @Override public void writeHardware(int msr, long value, boolean byHost) {
        if (UserProgramMsrs.handles(msr)) {
            userMsrs.write(msr, msr == Msr.IA32_LSTAR || msr == Msr.IA32_CSTAR ? canonical(value) : value, byHost, guestStateOn);
            return;
        }
        if (ControlFlowMsrs.handles(msr)) {
            controlFlow.write(msr, canonical(value));
            return;
        }
        switch (msr) {
            case Msr.IA32_EFER -> cr.efer(value, byHost);
            case Msr.IA32_KERNEL_GS_BASE -> {
                kernelGsBase = canonical(value);
                if (guestStateOn != null) {
                    guestStateOn.lp().wrmsr(msr, value);
                }
            }
            case Msr.IA32_PAT -> vmcs.write(GUEST_PAT, value);
            case Msr.IA32_FS_BASE -> vmcs.write(GUEST_FS_BASE, canonical(value));
            case Msr.IA32_GS_BASE -> vmcs.write(GUEST_GS_BASE, canonical(value));
            case Msr.IA32_SYSENTER_CS -> vmcs.write(GUEST_SYSENTER_CS, value & 0xffff_ffffL);
            case Msr.IA32_SYSENTER_ESP -> vmcs.write(GUEST_SYSENTER_ESP, canonical(value));
            case Msr.IA32_SYSENTER_EIP -> vmcs.write(GUEST_SYSENTER_EIP, canonical(value));
            case Msr.IA32_XSS -> {
                if ((value & ~cpuid.supportedXss()) != 0) {
                    throw GuestGp.INSTANCE;
                }
                xss = value;
            }
            default -> throw GuestGp.UNKNOWN_MSR;
        }
    }

    private long canonical(long address) {
        int shift = cr.linearShift();
        if (address << shift >> shift != address) {
            throw GuestGp.INSTANCE;
        }
        return address;
    }

    // --- reset and start

    @Override protected void reset(boolean init) {
        Arrays.fill(gprs, 0);
        gprs[2] = cpuid.signature();
        cr2(0);
        for (int i = 0; i < debugRegisters.length; i++) {
            debugRegister(i, 0);
        }
        dr6(0xffff_0ff0L);
        cr.reset(init);
        segment(1, 0xf000, 0xffff_0000L, 0xffff, 0x9b);
        for (int s : new int[] {0, 2, 3, 4, 5}) {
            segment(s, 0, 0, 0xffff, 0x93);
        }
        segment(6, 0, 0, 0xffff, 0x82);
        segment(7, 0, 0, 0xffff, 0x8b);
        for (var field : new VmcsField[] {GUEST_GDTR_BASE, GUEST_IDTR_BASE, GUEST_SYSENTER_CS, GUEST_SYSENTER_ESP,
                GUEST_SYSENTER_EIP, GUEST_RSP, GUEST_INTERRUPTIBILITY_STATE, GUEST_ACTIVITY_STATE,
                GUEST_PENDING_DEBUG_EXCEPTIONS, GUEST_DEBUGCTL, ENTRY_INTERRUPTION_INFO}) {
            vmcs.write(field, 0);
        }
        vmcs.write(GUEST_GDTR_LIMIT, 0xffff);
        vmcs.write(GUEST_IDTR_LIMIT, 0xffff);
        vmcs.write(GUEST_DR7, 0x400);
        vmcs.write(GUEST_RFLAGS, 2);
        vmcs.write(GUEST_RIP, 0xfff0);
        controlFlow.reset();
        pi.drainTo(apic);
        if (init) {
            apic.reset(true); // once more: what was posted is gone
        } else {
            xcr0 = 1;
            xss = 0;
            userMsrs.reset();
        }
    }

    @Override protected void startAt(int vector) {
        segment(1, vector << 8, (long) vector << 12, 0xffff, 0x9b);
        vmcs.write(GUEST_RIP, 0);
    }

    void segment(int index, int selector, long base, int limit, int ar) {
        stateChanged();
        vmcs.write(VmcsField.ofSegment(GUEST_ES_SELECTOR, index), selector);
        vmcs.write(VmcsField.ofSegment(GUEST_ES_BASE, index), base);
        vmcs.write(VmcsField.ofSegment(GUEST_ES_LIMIT, index), limit);
        vmcs.write(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, index), ar);
    }

    private void segment(int index, KvmSegment s) {
        segment(index, s.selector(), s.base(), s.limit(), s.accessRights());
    }

    private KvmSegment segment(int index) {
        return KvmSegment.of((int) vmcs.read(VmcsField.ofSegment(GUEST_ES_SELECTOR, index)),
                vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, index)),
                vmcs.readInt(VmcsField.ofSegment(GUEST_ES_LIMIT, index)),
                vmcs.readInt(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, index)));
    }

    // --- register ioctls

    @Override protected KvmRegs readRegs() {
        var r = new KvmRegs();
        r.rax = gprs[0];
        r.rcx = gprs[1];
        r.rdx = gprs[2];
        r.rbx = gprs[3];
        r.rsp = vmcs.read(GUEST_RSP);
        r.rbp = gprs[5];
        r.rsi = gprs[6];
        r.rdi = gprs[7];
        r.r8 = gprs[8];
        r.r9 = gprs[9];
        r.r10 = gprs[10];
        r.r11 = gprs[11];
        r.r12 = gprs[12];
        r.r13 = gprs[13];
        r.r14 = gprs[14];
        r.r15 = gprs[15];
        r.rip = vmcs.read(GUEST_RIP);
        r.rflags = vmcs.read(GUEST_RFLAGS);
        return r;
    }

    @Override protected void writeRegs(KvmRegs r) {
        long[] values = {r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
                r.r14, r.r15};
        System.arraycopy(values, 0, gprs, 0, GPRS);
        vmcs.write(GUEST_RSP, r.rsp);
        vmcs.write(GUEST_RIP, r.rip);
        vmcs.write(GUEST_RFLAGS, r.rflags | 2);
        stateChanged();
        events.exceptionPending = false;
        request(Request.EVENT);
    }

    @Override protected KvmSregs readSregs() {
        var s = new KvmSregs();
        s.es = segment(0);
        s.cs = segment(1);
        s.ss = segment(2);
        s.ds = segment(3);
        s.fs = segment(4);
        s.gs = segment(5);
        s.ldt = segment(6);
        s.tr = segment(7);
        s.gdtBase = vmcs.read(GUEST_GDTR_BASE);
        s.gdtLimit = vmcs.readInt(GUEST_GDTR_LIMIT);
        s.idtBase = vmcs.read(GUEST_IDTR_BASE);
        s.idtLimit = vmcs.readInt(GUEST_IDTR_LIMIT);
        s.cr0 = cr.cr0();
        s.cr2 = cr2;
        s.cr3 = cr.cr3();
        s.cr4 = cr.cr4();
        s.cr8 = apic.tpr() >> 4;
        s.efer = cr.efer();
        s.apicBase = apic.baseMsr();
        return s;
    }

    @Override protected void writeSregs(KvmSregs s) {
        Vm.require(cr.allows(s), Errno.EINVAL, "control registers, EFER and CS contradict each other or have undefined bits");
        try {
            if (s.apicBase != apic.baseMsr()) {
                apic.writeBaseMsr(s.apicBase, cpuid.hasX2apic(), true);
            }
        } catch (GuestGp refused) {
            throw new KvmException(Errno.EINVAL, "APIC base 0x" + Long.toHexString(s.apicBase));
        }
        KvmSegment[] order = {s.es, s.cs, s.ss, s.ds, s.fs, s.gs, s.ldt, s.tr};
        for (int i = 0; i < order.length; i++) {
            segment(i, order[i]);
        }
        vmcs.write(GUEST_GDTR_BASE, s.gdtBase);
        vmcs.write(GUEST_GDTR_LIMIT, s.gdtLimit);
        vmcs.write(GUEST_IDTR_BASE, s.idtBase);
        vmcs.write(GUEST_IDTR_LIMIT, s.idtLimit);
        cr2(s.cr2);
        cr.restore(s.cr0, s.cr3, s.cr4, s.efer);
        apic.tpr((int) s.cr8 << 4);
        flushGuestTlb();
    }

    @Override public void describe(StateSink to) {
        super.describe(to);
        if (guestStateOn != null) {
            switchToHost(guestStateOn.lp());
        }
        to.words("gprs", gprs);
        to.words("fpu", fpu.fcw, fpu.fsw, fpu.tags, fpu.fop, fpu.fip, fpu.fdp, fpu.fcs, fpu.fds, fpu.mxcsr);
        to.words("fpu.xmm", fpu.xmm);
        to.words("fpu.st", fpu.st);
        to.words("fpu.stExponent", Arrays.stream(fpu.stExponent).asLongStream().toArray());
        to.words("debugRegisters", debugRegisters);
        to.field("dr6", dr6);
        to.field("kernelGsBase", kernelGsBase);
        to.field("cr2", cr2);
        to.field("xcr0", xcr0);
        to.field("xss", xss);
        to.field("pkru", pkru);
        to.field("tscOffset", tscOffset);
        to.flag("exitsAtOnce", exitsAtOnce);
        to.part(cr);
        to.part(controlFlow);
        to.part(userMsrs);
        to.part(vmcs);
        to.part(exits);
    }
}
