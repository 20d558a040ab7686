package cloister.kvm.tdx;

import cloister.kvm.Defect;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRegs;
import cloister.kvm.KvmSregs;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.MpState;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.host.Held;
import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.kvm.host.UserReturnMsrs;
import cloister.kvm.irq.ApicPage;
import cloister.kvm.vcpu.GuestMsrs;
import cloister.kvm.vcpu.HostContext;
import cloister.kvm.vcpu.Request;
import cloister.kvm.vcpu.VcpuFile;
import cloister.kvm.vcpu.Vm;
import cloister.sim.Noinstr;
import cloister.sim.StateSink;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.HostRegister;
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
final class TdVcpu extends VcpuFile {
    private static final int UNREADABLE_LEAF = 0x7fff_ff80;
    private static final int MAX_SUBLEAF = 0x7f;

    final TdVm td;
    /// The registers of TDH.VP.ENTER, kept from exit to entry.
    final VpEnterRegs args = new VpEnterRegs();
    long enterStatus;
    private final TdExits exits;
    private final KvmSeam seam;
    private final HostContext hostContext;
    private boolean initialized;
    private long tdvprPa;
    private long[] tdcxPa = {};
    /// The processor whose list of vCPUs this one is on: the TDX module may keep state of it there. [LINUX associated_tdvcpus]
    private HostCpu associatedWith;
    private boolean entered;
    private boolean freed;
    /// TDH.VP.INIT has bound the vCPU to a processor for the first time.
    private boolean associable;
    /// Whether the processor's registers are those that TDH.VP.ENTER leaves. [LINUX guest_state_loaded]
    private boolean guestStateLoaded;

    TdVcpu(TdVm vm, int id) {
        super(vm, id, vm.host.frames().allocate(), ApicPage.own());
        this.td = vm;
        this.seam = vm.seam;
        this.hostContext = new HostContext(host.lostRegisters());
        this.exits = new TdExits(this);
        msrs.lockFeatures();
        mmu.guestAddressBits(Long.numberOfTrailingZeros(vm.mmu.sharedBit()) + 1);
    }

    // --- KVM_MEMORY_ENCRYPT_OP

    @Override protected void tdxCommand(KvmTdxCmd cmd) {
        TdVm.checkCommand(cmd);
        try (var held = td.mmu.has(Defect.TD_COMMANDS_SIDE_BY_SIDE) ? lockOwn(cmd) : td.lockState()) {
            Vm.require(td.hasHkid() && !td.isRunnable(), Errno.EINVAL, "the TD is not initialised, or final already");
            boolean done = withProcessor(() -> switch (cmd.data()) {
                case KvmTdxCmd.InitVcpu(long initialRcx) -> {
                    initVcpu(cmd, initialRcx);
                    yield true;
                }
                case KvmTdxCmd.MemRegion region -> {
                    initMemRegion(cmd, region);
                    yield true;
                }
                case KvmTdxCmd.Capabilities c -> false;
                case KvmTdxCmd.InitVm c -> false;
                case KvmTdxCmd.FinalizeVm c -> false;
                case KvmTdxCmd.GetCpuid c -> false;
            });
            if (done) {
                return;
            }
        }
        loaded(() -> {
            Vm.require(td.hasHkid() && !td.isRunnable() && cmd.data() instanceof KvmTdxCmd.GetCpuid, Errno.EINVAL,
                    "not a command of vCPUs, or too late for it");
            getCpuid(((KvmTdxCmd.GetCpuid) cmd.data()).table());
            return null;
        });
    }

    /// What was held before all commands excluded each other: vcpu->mutex and, to add memory, slots_lock.
    private Held lockOwn(KvmTdxCmd cmd) {
        var own = mutex.lock();
        if (!(cmd.data() instanceof KvmTdxCmd.MemRegion)) {
            return own;
        }
        var slots = td.mmu.lockSlots();
        return () -> {
            slots.close();
            own.close();
        };
    }

    private void initVcpu(KvmTdxCmd cmd, long initialRcx) {
        Vm.require(cmd.flags() == 0, Errno.EINVAL, "flags");
        Vm.require(!initialized, Errno.EINVAL, "the vCPU is initialised");
        try {
            apic.writeBaseMsr(ApicRegister.DEFAULT_BASE | ApicRegister.BASE_MSR_ENABLED | ApicRegister.BASE_MSR_X2APIC
                    | (id() == 0 ? ApicRegister.BASE_MSR_BSP : 0), cpuid.hasX2apic(), true);
        } catch (GuestGp refused) {
            throw new KvmException(Errno.EINVAL, "CPUID lacks x2APIC");
        }
        createTdvps(initialRcx);
        write(VmcsField.POSTED_INTERRUPT_NOTIFICATION_VECTOR.encoding(), Host.POSTED_INTR_VECTOR, 0xffffL);
        write(VmcsField.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS.encoding(), pi.pa(), -1L);
        write(VmcsField.PIN_BASED_CONTROLS.encoding(), Controls.PIN_POSTED_INTERRUPTS, Controls.PIN_POSTED_INTERRUPTS);
        initialized = true;
        reloadMmu();
    }

    @Override protected void loadRoot() {
        write(VmcsField.SHARED_EPTP.encoding(), mmu.rootPa(), -1L);
        flushTlb();
    }

    /// [LINUX tdx_td_vcpu_init]
    private void createTdvps(long initialRcx) {
        long[] all = host.frames().allocate(1 + td.tdx.tdcxPages());
        long status = seam.vpCreate(all[0], td.tdrPa());
        if (status != 0) {
            free(all, 0);
            throw fail("TDH.VP.CREATE", status);
        }
        tdvprPa = all[0];
        vm.counters.tdxPages++;
        long[] pages = Arrays.copyOfRange(all, 1, all.length);
        for (int i = 0; i < pages.length; i++) {
            status = seam.vpAddcx(tdvprPa, pages[i]);
            if (status != 0) {
                free(pages, i);
                tdcxPa = Arrays.copyOf(pages, i);
                throw fail("TDH.VP.ADDCX", status);
            }
            vm.counters.tdxPages++;
        }
        tdcxPa = pages;
        // TDH.VP.INIT may take the TDR exclusively, which paths of the MMU that must not fail take shared.
        try (var held = vm.mmu.has(Defect.TD_VP_INIT_BESIDE_ZAP) ? null : vm.mmu.lock().lockExclusive()) {
            status = seam.vpInit(tdvprPa, initialRcx, id());
        }
        if (status != 0) {
            throw fail("TDH.VP.INIT", status);
        }
        associable = true;
        mpState = MpState.RUNNABLE;
    }

    private void free(long[] pages, int from) {
        for (int i = from; i < pages.length; i++) {
            host.frames().free(pages[i]);
        }
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

    private void initMemRegion(KvmTdxCmd cmd, KvmTdxCmd.MemRegion region) {
        Vm.require(initialized, Errno.EINVAL, "KVM_TDX_INIT_VCPU comes first");
        Vm.require((cmd.flags() & ~KvmAbi.TDX_MEASURE_MEMORY_REGION) == 0, Errno.EINVAL, "flags");
        long bytes = region.nrPages << 12;
        Vm.require(((region.sourceAddr | region.gpa) & 0xfff) == 0 && region.nrPages != 0
                && Long.compareUnsigned(region.gpa + bytes, region.gpa) > 0 && td.isPrivateGpa(region.gpa)
                && td.isPrivateGpa(region.gpa + bytes - 1), Errno.EINVAL, "region");
        while (region.nrPages != 0) {
            Vm.require(!signalPending(), Errno.EINTR, "a signal is pending");
            td.populate(this, region.sourceAddr, region.gpa, cmd.flags() != 0);
            region.sourceAddr += 0x1000;
            region.gpa += 0x1000;
            region.nrPages--;
        }
    }

    /// [LINUX tdx_vcpu_get_cpuid]
    private void getCpuid(KvmTdxCmd.CpuidTable table) {
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
        long field = Metadata.CPUID_VALUES | (leaf < 0 ? 1L << 16 : 0) | ((leaf & 0x7fL) << 9) | (sub < 0 ? 0x1feL : (long) sub << 1);
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

    // --- processors

    @Override protected void preRun() {
        Vm.require(initialized && td.isRunnable(), Errno.EINVAL, "the TD or its vCPU is not ready");
    }

    /// [LINUX tdx_vcpu_load]
    @Override protected void vcpuLoad(HostCpu target, boolean moved) {
        if (!moved || !td.hasHkid()) {
            return;
        }
        flushAssociation();
        td.tdx.associate(this, target);
        associatedWith = target;
        request(Request.TLB_FLUSH); // the processor may know shared translations of an earlier stay
    }

    /// [LINUX tdx_prepare_switch_to_host]
    @Override protected void vcpuPut(HostCpu from) {
        if (guestStateLoaded) {
            hostContext.restoreRegisters(from.lp());
            guestStateLoaded = false;
        }
    }

    /// Remembers what the TDX module replaces, and puts the MSRs that only user programs need where it leaves them at a TD exit: it
    /// may come back without having entered, and then has left them alone. [LINUX tdx_prepare_switch_to_guest]
    private void switchToGuest(HostCpu here) {
        hostContext.save(here.lp());
        for (int slot = 0; slot < UserReturnMsrs.SLOTS; slot++) {
            var row = UserReturnMsrs.row(slot);
            if (row.returned(true) == HostRegister.Return.AT_USER_RETURN) {
                here.userReturnMsrs().set(slot, row.tdValue());
            }
        }
        guestStateLoaded = true;
    }

    // --- run loop

    @Override protected void beforeEntry() {
        if (events.nmiPending > 0) {
            events.nmiPending = 0; // those behind the first collapse into it
            write(Metadata.PEND_NMI, 1, 0xff);
        }
    }

    @Override protected void injectEvents(HostCpu here) {
        if (pi.isOutstanding()) {
            here.lp().sendInterrupt(Host.POSTED_INTR_VECTOR);
        }
    }

    /// From here to the end the guest's state may be in the processor. [LINUX tdx_vcpu_enter_exit]
    @Noinstr private void enterExit(HostCpu here) {
        scheduler.beginUninterruptible();
        try {
            enterStatus = KvmSeam.vpEnter(here, tdvprPa, args.raw());
            exits.decode(enterStatus);
            if (exits.isNmi()) {
                here.handleNmi();
            }
        } finally {
            scheduler.endUninterruptible();
        }
    }

    /// [LINUX tdx_vcpu_run]
    @Override protected void enter(HostCpu here) {
        entered = !td.sept.zapPending();
        if (!entered) {
            return;
        }
        if (!guestStateLoaded) {
            switchToGuest(here);
        }
        var lp = here.lp();
        hostContext.saveDebugctl(lp);
        enterExit(here);
        if (exits.isMachineCheck()) {
            here.handleMachineCheck();
        }
        seam.countEntry(enterStatus);
        hostContext.restoreDebugctl(lp, HostState.DEBUGCTL_KEPT);
        hostContext.restoreExtendedState(lp);
        hostContext.restoreBreakpoints(lp);
    }

    @Override protected KvmExit handleExit() {
        if (!entered || KvmSeam.isBusy(enterStatus)) {
            td.counters.busyRetries += entered ? 1 : 0;
            giveWay(); // whoever is in the way needs the processor
            return null;
        }
        return exits.handle();
    }

    @Override protected boolean exitPending() {
        return exits.isPending();
    }

    @Override protected KvmExit completeExit() {
        return exits.complete();
    }

    @Override protected void flushTlb() {
        cpus.here().lp().invept(Ept.INVEPT_ALL_CONTEXTS, 0);
    }

    // --- interrupts: posted only

    @Override public boolean postsInterrupts() {
        return true;
    }

    /// HLT by TDVMCALL says whether interrupts are blocked; at other times KVM cannot know. [LINUX
    /// tdx_interrupt_allowed]
    @Override protected boolean interruptAllowed() {
        return !exits.lastWasHalt() || exits.haltedWithInterrupts();
    }

    /// [LINUX tdx_protected_apic_has_interrupt]
    @Override protected boolean hasInterrupt() {
        if (pi.hasPending()) {
            return true;
        }
        if (!exits.haltedWithInterrupts()) {
            return false;
        }
        var out = new SeamRegs();
        return seam.vpRd(tdvprPa, Metadata.VCPU_STATE_DETAILS, out) == 0 && (out.get(SeamRegs.R8) & Metadata.VMXIP) != 0;
    }

    /// The TDX module holds an NMI back itself. [LINUX tdx_inject_nmi]
    @Override protected boolean nmiAllowed() {
        return true;
    }

    @Override protected boolean nmiMasked() {
        return false;
    }

    @Override protected boolean initSipiAllowed() {
        return false;
    }

    @Override protected void reset(boolean init) {
        throw new IllegalStateException("INIT is blocked for TDs");
    }

    @Override protected void startAt(int vector) {
        throw new IllegalStateException("SIPI is blocked for TDs");
    }

    // --- MSRs

    @Override protected boolean hostMayAccess(int msr) {
        return TdMsrs.isEmulated(msr);
    }

    @Override protected boolean hostMayWrite(int msr) {
        return TdMsrs.isEmulated(msr) && !TdMsrs.isReadOnly(msr);
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

    /// A TD cannot set CR0.CD: #GP.
    @Override public boolean cachesDisabled() {
        return false;
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

    @Override protected KvmRegs readRegs() {
        throw isProtected();
    }

    @Override protected void writeRegs(KvmRegs regs) {
        throw isProtected();
    }

    @Override protected KvmSregs readSregs() {
        throw isProtected();
    }

    @Override protected void writeSregs(KvmSregs sregs) {
        throw isProtected();
    }

    @Override protected boolean apicProtected() {
        return true;
    }

    // --- teardown

    /// Nothing of the vCPU is on any processor afterwards. [LINUX tdx_flush_vp_on_cpu]
    void flushAssociation() {
        var where = associatedWith;
        if (where == null) {
            return;
        }
        long status = cpus.call(where, this::flushHere);
        if (status != 0) {
            td.bug("TDH.VP.FLUSH failed: 0x" + Long.toHexString(status));
        }
    }

    /// Executed on the processor with which the vCPU is associated. [LINUX tdx_flush_vp]
    long flushHere(HostCpu where) {
        if (associatedWith != where) {
            return 0; // the processor went offline meanwhile
        }
        long status = !associable ? 0 : seam.vpFlush(where, tdvprPa);
        td.tdx.disassociate(this, where);
        associatedWith = null;
        forgetCpu();
        return TdxStatus.VCPU_NOT_ASSOCIATED.matches(status) ? 0 : status;
    }

    /// Gives back what a vCPU has that was never initialised.
    void discard() {
        mmu.destroy();
        flushAssociation();
        freed = true;
        host.frames().free(pi.pa());
    }

    /// Gives the control pages back; the TD's KeyID must be free. [LINUX tdx_vcpu_free]
    void free() {
        mmu.destroy();
        if (td.hasHkid()) {
            return;
        }
        if (!freed) {
            freed = true;
            host.frames().free(pi.pa());
        }
        if (tdvprPa == 0) {
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
        tdcxPa = new long[0];
        tdvprPa = 0;
        initialized = false;
    }

    @Override public void describe(StateSink to) {
        super.describe(to);
        to.field("enterStatus", enterStatus);
        to.field("tdvprPa", tdvprPa);
        to.words("tdcxPa", tdcxPa);
        to.flag("initialized", initialized);
        to.flag("entered", entered);
        to.flag("freed", freed);
        to.flag("associable", associable);
        to.part(args);
        to.part(exits);
    }
}
