package cloister.kvm.tdx;

import cloister.cpu.LogicalProcessor;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRegs;
import cloister.kvm.KvmSregs;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.MpState;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.host.Host;
import cloister.kvm.irq.ApicPage;
import cloister.kvm.vcpu.GuestMsrs;
import cloister.kvm.vcpu.Vcpu;
import cloister.kvm.vcpu.Vm;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.tdx.HostState;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.Arrays;

/// A vCPU of a TD: control pages that the TDX module owns, and a posted-interrupt descriptor. [LINUX
/// arch/x86/kvm/vmx/tdx.c]
final class TdVcpu extends Vcpu {
    private static final long STATE_DETAILS = (1L << 63) | (17L << 56) | 0x100;
    private static final long PEND_NMI = (32L << 56) | 11;
    private static final long INTERRUPT_PENDING = 1;
    private static final long CPUID_VALUES = 0x9410000300000000L;
    private static final int UNREADABLE_LEAF = 0x7fff_ff80;
    private static final int MAX_SUBLEAF = 0x7f;
    private static final long DEBUGCTL_PRESERVED = (1 << 1) | (1 << 12) | (1 << 14);

    final TdVm td;
    /// The registers of TDH.VP.ENTER, kept from exit to entry.
    final SeamRegs args = new SeamRegs();
    long enterStatus;
    private final TdExits exits;
    private final KvmSeam seam;
    private boolean initialized;
    private long tdvprPa;
    private long[] tdcxPa = {};
    /// The processor that keeps state of this vCPU, or null.
    private LogicalProcessor associatedWith;
    private boolean entered;
    private long hostXcr0;
    private int hostPkru;
    private long hostXss;
    private long hostDebugctl;
    private long hostKernelGsBase;

    TdVcpu(TdVm vm, int id) {
        super(vm, id, ApicPage.own());
        this.td = vm;
        this.seam = vm.seam;
        this.exits = new TdExits(this);
        this.mpState = MpState.UNINITIALIZED;
        mmu.guestAddressBits(Long.numberOfTrailingZeros(vm.mmu.sharedBit()) + 1);
    }

    // --- KVM_MEMORY_ENCRYPT_OP

    @Override public void memoryEncryptOp(KvmTdxCmd cmd) {
        vm.requireAlive();
        TdVm.checkCommand(cmd);
        Vm.require(td.hasHkid() && !td.isRunnable(), Errno.EINVAL, "the TD is not initialised, or final already");
        switch (cmd.id()) {
            case INIT_VCPU -> initVcpu(cmd);
            case INIT_MEM_REGION -> initMemRegion(cmd);
            case GET_CPUID -> getCpuid(cmd);
            default -> throw new KvmException(Errno.EINVAL, cmd.id() + " is a command of the VM");
        }
    }

    private void initVcpu(KvmTdxCmd cmd) {
        Vm.require(cmd.flags() == 0, Errno.EINVAL, "flags");
        Vm.require(!initialized, Errno.EINVAL, "the vCPU is initialised");
        try {
            apic.writeBaseMsr(ApicRegister.DEFAULT_BASE | ApicRegister.BASE_MSR_ENABLED | ApicRegister.BASE_MSR_X2APIC
                    | (id() == 0 ? ApicRegister.BASE_MSR_BSP : 0), cpuid.hasX2apic(), true);
        } catch (GuestGp refused) {
            throw new KvmException(Errno.EINVAL, "CPUID lacks x2APIC");
        }
        createTdvps((Long) cmd.data());
        write(VmcsField.POSTED_INTERRUPT_NOTIFICATION_VECTOR.encoding(), Host.POSTED_INTR_VECTOR, 0xffffL);
        write(VmcsField.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS.encoding(), pi.pa(), -1L);
        write(VmcsField.PIN_BASED_CONTROLS.encoding(), Controls.PIN_POSTED_INTERRUPTS, Controls.PIN_POSTED_INTERRUPTS);
        initialized = true;
        mmu.reload();
        if (mmu.takeRootChange()) {
            loadRoot();
        }
    }

    @Override public void loadRoot() {
        write(VmcsField.SHARED_EPTP.encoding(), mmu.rootPa(), -1L);
        flushTlb();
    }

    /// [LINUX tdx_td_vcpu_init]
    private void createTdvps(long initialRcx) {
        tdvprPa = host.frames().allocate();
        long status = seam.vpCreate(tdvprPa, td.tdrPa());
        if (status != 0) {
            host.frames().free(tdvprPa);
            tdvprPa = 0;
            throw fail("TDH.VP.CREATE", status);
        }
        vm.counters.tdxPages++;
        long[] pages = new long[td.tdx.tdcxPages()];
        for (int i = 0; i < pages.length; i++) {
            pages[i] = host.frames().allocate();
            status = seam.vpAddcx(tdvprPa, pages[i]);
            if (status != 0) {
                host.frames().free(pages[i]);
                tdcxPa = Arrays.copyOf(pages, i);
                throw fail("TDH.VP.ADDCX", status);
            }
            vm.counters.tdxPages++;
        }
        tdcxPa = pages;
        status = seam.vpInit(tdvprPa, initialRcx, id());
        if (status != 0) {
            throw fail("TDH.VP.INIT", status);
        }
        associatedWith = host.currentProcessor();
        mpState = MpState.RUNNABLE;
    }

    private KvmException fail(String what, long status) {
        td.bug(what + " failed: 0x" + Long.toHexString(status));
        return new KvmException(Errno.EIO, what + " failed: 0x" + Long.toHexString(status));
    }

    private void write(long field, long value, long mask) {
        long status = seam.vpWr(tdvprPa, field, value, mask);
        if (status != 0) {
            throw fail("TDH.VP.WR of 0x" + Long.toHexString(field), status);
        }
    }

    private void initMemRegion(KvmTdxCmd cmd) {
        Vm.require(initialized, Errno.EINVAL, "KVM_TDX_INIT_VCPU comes first");
        Vm.require((cmd.flags() & ~KvmAbi.TDX_MEASURE_MEMORY_REGION) == 0, Errno.EINVAL, "flags");
        var region = (KvmTdxCmd.MemRegion) cmd.data();
        long bytes = region.nrPages << 12;
        Vm.require(((region.sourceAddr | region.gpa) & 0xfff) == 0 && region.nrPages > 0
                && region.gpa + bytes > region.gpa && td.isPrivateGpa(region.gpa)
                && td.isPrivateGpa(region.gpa + bytes - 1), Errno.EINVAL, "region");
        while (region.nrPages > 0) {
            td.populate(this, region.sourceAddr, region.gpa, cmd.flags() != 0);
            region.sourceAddr += 0x1000;
            region.gpa += 0x1000;
            region.nrPages--;
        }
    }

    /// [LINUX tdx_vcpu_get_cpuid]
    private void getCpuid(KvmTdxCmd cmd) {
        Vm.require(cmd.flags() == 0, Errno.EINVAL, "flags");
        var table = (KvmTdxCmd.CpuidTable) cmd.data();
        var found = new ArrayList<CpuidEntry>();
        for (int base : new int[] {0, 0x8000_0000}) {
            int first = found.size();
            readLeaf(base, found);
            Vm.require(found.size() > first, Errno.EIO, "the TD has no CPUID leaf 0x" + Integer.toHexString(base));
            int last = found.get(first).eax();
            for (int leaf = base + 1; Integer.compareUnsigned(leaf, last) <= 0; leaf++) {
                readLeaf(leaf, found);
            }
        }
        boolean fits = table.capacity >= found.size();
        table.capacity = found.size();
        Vm.require(fits, Errno.E2BIG, "CPUID table is too small");
        table.entries = found;
    }

    private void readLeaf(int leaf, ArrayList<CpuidEntry> found) {
        if ((leaf & UNREADABLE_LEAF) != 0) {
            return;
        }
        var whole = readCpuid(leaf, -1);
        if (whole != null) {
            found.add(whole);
            return;
        }
        for (int sub = 0; sub <= MAX_SUBLEAF; sub++) {
            var entry = readCpuid(leaf, sub);
            if (entry == null) {
                return;
            }
            found.add(entry);
        }
    }

    /// One entry by TDH.MNG.RD; `sub` -1: the leaf has no sub-leaves.
    private CpuidEntry readCpuid(int leaf, int sub) {
        long field = CPUID_VALUES | (leaf < 0 ? 1L << 16 : 0) | ((leaf & 0x7fL) << 9) | (sub < 0 ? 0x1feL : (long) sub << 1);
        var out = new SeamRegs();
        if (seam.mngRd(td.tdrPa(), field, out) != 0) {
            return null;
        }
        long low = out.get(SeamRegs.R8);
        if (seam.mngRd(td.tdrPa(), field + 1, out) != 0) {
            return null;
        }
        long high = out.get(SeamRegs.R8);
        int eax = (int) low;
        if (leaf == 0x8000_0008) {
            int bits = Long.numberOfTrailingZeros(vm.mmu.sharedBit()) + 1;
            eax = (eax & ~(0xff << 16)) | (bits << 16);
        }
        return new CpuidEntry(leaf, Math.max(sub, 0), sub < 0 ? 0 : CpuidEntry.SIGNIFICANT_INDEX, eax, (int) (low >>> 32),
                (int) high, (int) (high >>> 32));
    }

    // --- run loop

    @Override public void preRun() {
        Vm.require(initialized && td.isRunnable(), Errno.EINVAL, "the TD or its vCPU is not ready");
    }

    /// The TDX module clobbers registers of the host; remember what must come back, and put the user-return MSRs where the
    /// module would leave them. [LINUX tdx_prepare_switch_to_guest]
    @Override public void load() {
        if (associatedWith != lp) {
            flushAssociation();
        }
        hostXcr0 = lp.xcr0();
        hostPkru = lp.pkru();
        hostXss = lp.rdmsr(Msr.IA32_XSS);
        hostDebugctl = lp.rdmsr(Msr.IA32_DEBUGCTL);
        hostKernelGsBase = lp.rdmsr(Msr.IA32_KERNEL_GS_BASE);
        lp.wrmsr(Msr.IA32_FMASK, HostState.FMASK);
        lp.wrmsr(Msr.IA32_STAR, 0);
        lp.wrmsr(Msr.IA32_LSTAR, 0);
        lp.wrmsr(Msr.IA32_TSC_AUX, 0);
    }

    @Override public void put() {
        lp.wrmsr(Msr.IA32_KERNEL_GS_BASE, hostKernelGsBase);
    }

    @Override public void beforeEntry() {
        if (nmiPending > 0) {
            nmiPending = 0; // those behind the first collapse into it
            write(PEND_NMI, 1, 0xff);
        }
    }

    @Override public void injectEvents() {
        if (pi.isOutstanding()) {
            lp.sendInterrupt(Host.POSTED_INTR_VECTOR);
        }
    }

    @Override public void enter() {
        entered = !td.sept.zapPending();
        if (!entered) {
            return;
        }
        enterStatus = seam.vpEnter(lp, tdvprPa, args);
        associatedWith = lp;
        restoreHostState();
    }

    /// [LINUX tdx_vcpu_run, tdx_load_host_xsave_state]
    private void restoreHostState() {
        if ((hostDebugctl & ~DEBUGCTL_PRESERVED) != 0) {
            lp.wrmsr(Msr.IA32_DEBUGCTL, hostDebugctl);
        }
        if (hostPkru != 0) {
            lp.pkru(hostPkru);
        }
        if (lp.xcr0() != hostXcr0) {
            lp.xcr0(hostXcr0);
        }
        if (lp.rdmsr(Msr.IA32_XSS) != hostXss) {
            lp.wrmsr(Msr.IA32_XSS, hostXss);
        }
    }

    @Override public KvmExit handleExit() {
        if (!entered || KvmSeam.isBusy(enterStatus)) {
            host.scheduler().switchPoint(SwitchPoint.YIELD); // whoever is in the way needs the processor
            return null;
        }
        return exits.handle();
    }

    @Override public void flushTlb() {
        lp.invept(Ept.INVEPT_ALL_CONTEXTS, 0);
    }

    // --- interrupts: posted only

    @Override public boolean postsInterrupts() {
        return true;
    }

    /// HLT by TDVMCALL says whether interrupts are blocked; at other times KVM cannot know. [LINUX
    /// tdx_interrupt_allowed]
    @Override public boolean interruptAllowed() {
        return !exits.lastWasHalt() || args.get(SeamRegs.R12) == 0;
    }

    /// [LINUX tdx_protected_apic_has_interrupt]
    @Override public boolean hasInterrupt() {
        if (pi.hasPending()) {
            return true;
        }
        if (!exits.lastWasHalt() || args.get(SeamRegs.R12) != 0) {
            return false;
        }
        var out = new SeamRegs();
        return seam.vpRd(tdvprPa, STATE_DETAILS, out) == 0 && (out.get(SeamRegs.R8) & INTERRUPT_PENDING) != 0;
    }

    @Override public boolean initSipiAllowed() {
        return false;
    }

    @Override public void reset(boolean init) {
        throw new IllegalStateException("INIT is blocked for TDs");
    }

    @Override public void startAt(int vector) {
        throw new IllegalStateException("SIPI is blocked for TDs");
    }

    // --- MSRs

    @Override public boolean hostMayAccess(int msr) {
        return TdMsrs.isEmulated(msr);
    }

    @Override public long tsc() {
        return host.clock().now() + td.tscOffset();
    }

    @Override public void tsc(long value) {
        throw GuestGp.INSTANCE;
    }

    @Override public long tscOffset() {
        return td.tscOffset();
    }

    @Override public long readHardware(int msr) {
        if (msr == Msr.IA32_EFER) {
            return Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE;
        }
        if (msr >= Msr.IA32_MC0_CTL2 && msr < Msr.IA32_MC0_CTL2 + GuestMsrs.MC_BANKS) {
            return 0;
        }
        throw GuestGp.INSTANCE;
    }

    @Override public void writeHardware(int msr, long value, boolean byHost) {
        boolean stored = msr == Msr.IA32_PAT
                || (msr >= Msr.IA32_MC0_CTL2 && msr < Msr.IA32_MC0_CTL2 + GuestMsrs.MC_BANKS && value == 0);
        if (!stored) {
            throw GuestGp.INSTANCE;
        }
    }

    // --- what a TD's vCPU does not have

    private KvmException isProtected() {
        return new KvmException(Errno.EINVAL, "the state of a TD is protected");
    }

    @Override public KvmRegs getRegs() {
        throw isProtected();
    }

    @Override public void setRegs(KvmRegs regs) {
        throw isProtected();
    }

    @Override public KvmSregs getSregs() {
        throw isProtected();
    }

    @Override public void setSregs(KvmSregs sregs) {
        throw isProtected();
    }

    @Override public byte[] getLapic() {
        throw isProtected();
    }

    @Override public void setLapic(byte[] registers) {
        throw isProtected();
    }

    @Override public void setMpState(MpState state) {
        throw isProtected();
    }

    @Override public boolean preFaultIsPrivate(long gpa) {
        Vm.require(td.isRunnable(), Errno.EOPNOTSUPP, "pages are populated only after KVM_TDX_FINALIZE_VM");
        Vm.require(td.isPrivateGpa(gpa), Errno.EINVAL, "the address has the SHARED bit");
        return vm.mmu.attributes().isPrivate(gpa >>> 12);
    }

    // --- teardown

    /// [LINUX tdx_flush_vp_on_cpu]
    void flushAssociation() {
        if (tdvprPa == 0 || associatedWith == null) {
            return;
        }
        long status = host.callOn(associatedWith, processor -> seam.vpFlush(processor, tdvprPa));
        if (status != 0 && !TdxStatus.VCPU_NOT_ASSOCIATED.matches(status)) {
            td.bug("TDH.VP.FLUSH failed: 0x" + Long.toHexString(status));
        }
        associatedWith = null;
    }

    /// Gives the control pages back; the TD's KeyID must be free. [LINUX tdx_vcpu_free]
    void free() {
        mmu.destroy();
        if (td.hasHkid() || tdvprPa == 0) {
            return;
        }
        for (long pa : tdcxPa) {
            if (td.sept.reclaim(pa)) {
                host.frames().free(pa);
            }
        }
        if (td.sept.reclaim(tdvprPa)) {
            host.frames().free(tdvprPa);
        }
        host.frames().free(pi.pa());
        tdcxPa = new long[0];
        tdvprPa = 0;
        initialized = false;
    }
}
