package cloister.kvm.tdx;

import cloister.kvm.Defect;
import cloister.kvm.KvmException;
import cloister.kvm.KvmPolicy;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.host.Held;
import cloister.kvm.host.Host;
import cloister.kvm.mmu.MmuModule;
import cloister.kvm.vcpu.GuestCpuid;
import cloister.kvm.vcpu.Extensions;
import cloister.kvm.vcpu.VcpuFile;
import cloister.kvm.vcpu.Vm;
import cloister.memory.PhysicalMemory;
import cloister.sim.StateSink;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.HostRegister;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.TdParams;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.Ept;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/// A trust domain as KVM knows it. [LINUX arch/x86/kvm/vmx/tdx.c]
public final class TdVm extends Vm {
    /// The states of `enum kvm_tdx_state`.
    public enum State { UNINITIALIZED, INITIALIZED, RUNNABLE }

    private static final int CACHE_WB_RETRIES = 10_000;
    private static final int SHARED_BIT_4_LEVELS = 47;
    private static final int SHARED_BIT_5_LEVELS = 51;
    private static final int GUEST_PA_LEAF = 0x8000_0008;

    public final TdxSystem tdx;
    public final KvmSeam seam;
    public final SecureEpt sept;
    private State state = State.UNINITIALIZED;
    private int hkid = -1;
    private long tdrPa;
    private long[] tdcsPa = {};
    private int tdcsAdded;
    private long tscOffset;
    private String bugText;

    public TdVm(Host host, Extensions extensions, MmuModule mmuModule, TdxSystem tdx) {
        super(host, extensions, mmuModule, true, Math.min(MAX_VCPUS, host.cpus().all().size()));
        this.tdx = tdx;
        this.seam = new KvmSeam(host, counters.seam());
        this.sept = new SecureEpt(this, seam);
        mmu.forbidReadOnlySlots();
        mmu.preFaultAllowed(false);
    }

    @Override public VmType type() {
        return VmType.TDX;
    }

    @Override public boolean hasPrivateMemory() {
        return true;
    }

    @Override protected int maxVcpus() {
        return choice(KvmPolicy.TD_VCPU_LIMIT).equals("module") ? Math.min(MAX_VCPUS, tdx.maxVcpus()) : super.maxVcpus();
    }

    @Override protected void policyChosen(KvmPolicy policy, String choice) {
        super.policyChosen(policy, choice);
        if (policy == KvmPolicy.ZAP_CONTENTION) {
            sept.zapContention(choice);
        }
    }

    public boolean isRunnable() {
        return state == State.RUNNABLE;
    }

    public boolean hasHkid() {
        return hkid > 0;
    }

    public int hkid() {
        return hkid;
    }

    public long tdrPa() {
        return tdrPa;
    }

    public long tscOffset() {
        return tscOffset;
    }

    /// Kills the VM and remembers why.
    public void bug(String text) {
        if (bugText == null) {
            bugText = text;
        }
        bug();
    }

    @Override public void requireAlive() {
        if (bugText != null) {
            throw new KvmException(Errno.EIO, "the TD is dead: " + bugText);
        }
        super.requireAlive();
    }

    public boolean isPrivateGpa(long gpa) {
        return (gpa & mmu.sharedBit()) == 0;
    }

    @Override public VcpuFile newVcpu(int id) {
        require(state == State.INITIALIZED, Errno.EIO,
                "KVM_CREATE_VCPU comes between KVM_TDX_INIT_VM and KVM_TDX_FINALIZE_VM");
        require(splitIrqchip, Errno.EINVAL, "a TD needs the split irqchip");
        var vcpu = new TdVcpu(this, id);
        if (choice(KvmPolicy.MEMORY_TYPE).equals("proposed-2023")) {
            vcpu.msrs.mtrrs().writeBackOnly();
        }
        return vcpu;
    }

    // --- KVM_MEMORY_ENCRYPT_OP

    public static void checkCommand(KvmTdxCmd cmd) {
        require(cmd.hwError == 0, Errno.EINVAL, "hw_error is an output");
    }

    @Override public void memoryEncryptOp(KvmTdxCmd cmd) {
        requireAlive();
        checkCommand(cmd);
        if (cmd.data() instanceof KvmTdxCmd.Capabilities out) {
            capabilities(cmd, out);
            return;
        }
        try (var held = mmu.has(Defect.TD_COMMANDS_SIDE_BY_SIDE) ? lockVmOnly() : lockState()) {
            switch (cmd.data()) {
                case KvmTdxCmd.InitVm in -> initVm(cmd, in);
                case KvmTdxCmd.FinalizeVm f -> finalizeVm(cmd);
                case KvmTdxCmd.Capabilities c -> throw new IllegalStateException("handled above");
                case KvmTdxCmd.InitVcpu c -> throw notOfVms(c);
                case KvmTdxCmd.MemRegion c -> throw notOfVms(c);
                case KvmTdxCmd.GetCpuid c -> throw notOfVms(c);
            }
        }
    }

    private static KvmException notOfVms(KvmTdxCmd.Data data) {
        return new KvmException(Errno.EINVAL, data.getClass().getSimpleName() + " is a command of vCPUs");
    }

    /// What a command that changes the TD's state holds: kvm->lock, every vCPU's mutex, slots_lock. [LINUX
    /// tdx_acquire_vm_state_locks]
    Held lockState() {
        lock.lock();
        boolean done = false;
        Held slots;
        try {
            require(createdVcpus() == vcpus.size(), Errno.EBUSY, "a vCPU is being created");
            lockAllVcpus();
            slots = mmu.lockSlots();
            done = true;
        } finally {
            if (!done) {
                lock.unlock();
            }
        }
        return () -> {
            slots.close();
            unlockAllVcpus();
            lock.unlock();
        };
    }

    /// What was held before all commands excluded each other.
    private Held lockVmOnly() {
        lock.lock();
        var slots = mmu.lockSlots();
        return () -> {
            slots.close();
            lock.unlock();
        };
    }

    private void capabilities(KvmTdxCmd cmd, KvmTdxCmd.Capabilities out) {
        require(cmd.flags() == 0, Errno.EINVAL, "flags");
        require(out.cpuid.capacity >= tdx.cpuidConfig().size(), Errno.E2BIG, "CPUID table is too small");
        out.supportedAttrs = supportedAttributes();
        out.supportedXfam = supportedXfam();
        require(out.supportedAttrs != 0 && out.supportedXfam != 0, Errno.EIO, "the module insists on what KVM lacks");
        out.userTdvmcallinfo1R11 = 2;
        out.cpuid.entries = tdx.cpuidConfig().stream().map(this::configurable).toList();
        out.cpuid.capacity = out.cpuid.entries.size();
    }

    private long supportedAttributes() {
        long value = TdParams.ATTRIBUTE_SEPT_VE_DISABLE | (losesCounters() ? TdParams.ATTRIBUTE_PERFMON : 0);
        return (value & tdx.attributesFixed1()) != tdx.attributesFixed1() ? 0 : value & tdx.attributesFixed0();
    }

    private long supportedXfam() {
        int[] r = new int[4];
        var lp = host.cpus().here().lp();
        lp.cpuid(0xd, 0, r);
        long value = (r[0] & 0xffff_ffffL) | ((long) r[3] << 32);
        lp.cpuid(0xd, 1, r);
        value |= (r[2] & 0xffff_ffffL) | ((long) r[3] << 32);
        return (value & tdx.xfamFixed1()) != tdx.xfamFixed1() ? 0 : value & tdx.xfamFixed0();
    }

    /// What of a configurable leaf KVM lets through: TSX and WAITPKG are not, the guest's address width is.
    private CpuidEntry configurable(CpuidEntry e) {
        if (e.function() == GUEST_PA_LEAF) {
            return new CpuidEntry(e.function(), e.index(), e.flags(), e.eax() | (0xff << 16), e.ebx(), e.ecx(), e.edx());
        }
        if (isUnsupported(e)) {
            return new CpuidEntry(e.function(), e.index(), e.flags(), e.eax(), e.ebx() & ~TSX, e.ecx() & ~WAITPKG, e.edx());
        }
        return e;
    }

    private static final int TSX = (1 << 4) | (1 << 11);
    private static final int WAITPKG = 1 << 5;

    private boolean isUnsupported(CpuidEntry e) {
        boolean tsx = (e.ebx() & TSX) != 0 && !host.lostRegisters().has(HostRegister.TSX_CTRL);
        boolean waitpkg = (e.ecx() & WAITPKG) != 0 && !host.lostRegisters().has(HostRegister.UMWAIT_CONTROL);
        return e.function() == 7 && e.index() == 0 && (tsx || waitpkg);
    }

    /// Whether TDs are to have performance monitoring, which nobody switches.
    private boolean losesCounters() {
        var lost = host.lostRegisters();
        return lost.has(HostRegister.FIXED_CTR_CTRL) || lost.has(HostRegister.PERF_GLOBAL_CTRL) || lost.has(HostRegister.PMC0);
    }

    private void initVm(KvmTdxCmd cmd, KvmTdxCmd.InitVm in) {
        require(state == State.UNINITIALIZED && !hasHkid(), Errno.EINVAL, "the TD is initialised");
        require(cmd.flags() == 0, Errno.EINVAL, "flags");
        require(in.cpuid().size() <= GuestCpuid.MAX_ENTRIES, Errno.E2BIG, "CPUID table");
        require(createdVcpus() == 0, Errno.EBUSY, "vCPUs exist");
        require((in.attributes() & ~supportedAttributes()) == 0, Errno.EINVAL, "TD attributes");
        require((in.xfam() & ~supportedXfam()) == 0, Errno.EINVAL, "XFAM");
        int guestPaBits = guestPaBits(in.cpuid(), mmu.module().parameters().maxTdpLevel() == 5);
        byte[] params = buildParams(in, guestPaBits);
        long paramsPa = host.frames().allocate();
        host.memory().write(paramsPa, params, 0, params.length);
        try {
            createTd(cmd, paramsPa);
        } finally {
            host.frames().free(paramsPa);
        }
        var out = new SeamRegs();
        long status = seam.mngRd(tdrPa, Metadata.TSC_OFFSET, out);
        tscOffset = status == 0 ? out.get(SeamRegs.R8) : 0;
        boolean wide = guestPaBits == 52;
        mmu.mirror(sept, 1L << (wide ? SHARED_BIT_5_LEVELS : SHARED_BIT_4_LEVELS));
        if (choice(KvmPolicy.MMIO_VALUE).equals("global")) {
            mmu.mmioValue(mmu.module().masks().mmioValue());
        }
        state = State.INITIALIZED;
    }

    private static int guestPaBits(List<CpuidEntry> cpuid, boolean fiveLevels) {
        for (var e : cpuid) {
            if (e.matches(GUEST_PA_LEAF, 0)) {
                int bits = (e.eax() >>> 16) & 0xff;
                require(bits == 48 || bits == 52, Errno.EINVAL, "guest-physical addresses of " + bits + " bits");
                require(bits == 48 || fiveLevels, Errno.EINVAL, "the processor walks no 5 levels");
                return bits;
            }
        }
        throw new KvmException(Errno.EINVAL, "CPUID lacks leaf 0x80000008");
    }

    private byte[] buildParams(KvmTdxCmd.InitVm in, int guestPaBits) {
        var p = ByteBuffer.allocate(TdParams.SIZE).order(ByteOrder.LITTLE_ENDIAN);
        p.putLong(TdParams.ATTRIBUTES, in.attributes() | tdx.attributesFixed1());
        p.putLong(TdParams.XFAM, in.xfam() | tdx.xfamFixed1());
        p.putShort(TdParams.MAX_VCPUS, (short) checkExtension(KvmCap.MAX_VCPUS));
        int levels = guestPaBits == 52 ? 5 : 4;
        p.putLong(TdParams.EPTP_CONTROLS, Ept.TYPE_WB | ((levels - 1) << 3));
        p.putLong(TdParams.CONFIG_FLAGS, TdParams.FLAG_NO_RBP_MOD | (levels == 5 ? TdParams.FLAG_MAX_GPAW : 0));
        p.putShort(TdParams.TSC_FREQUENCY, (short) (host.clock().ticksPerSecond() / TdParams.TSC_UNIT_HZ));
        p.put(TdParams.MRCONFIGID, in.mrConfigId(), 0, TdParams.MEASUREMENT_SIZE);
        p.put(TdParams.MROWNER, in.mrOwner(), 0, TdParams.MEASUREMENT_SIZE);
        p.put(TdParams.MROWNERCONFIG, in.mrOwnerConfig(), 0, TdParams.MEASUREMENT_SIZE);
        int copied = 0;
        int at = TdParams.CPUID_VALUES;
        for (var slot : tdx.cpuidConfig()) {
            for (var e : in.cpuid()) {
                if (e.matches(slot.function(), slot.index())) {
                    require(!isUnsupported(e), Errno.EINVAL, "TSX and WAITPKG are not for TDs");
                    copied++;
                    int eax = e.function() == GUEST_PA_LEAF ? e.eax() & ~(0xff << 16) : e.eax();
                    p.putInt(at, eax).putInt(at + 4, e.ebx()).putInt(at + 8, e.ecx()).putInt(at + 12, e.edx());
                    break;
                }
            }
            at += 16;
        }
        require(copied == in.cpuid().size(), Errno.EINVAL, "CPUID has leaves that cannot be configured");
        return p.array();
    }

    /// [LINUX __tdx_td_init]
    private void createTd(KvmTdxCmd cmd, long paramsPa) {
        hkid = tdx.allocateKeyId();
        require(hkid >= 0, Errno.ENOSPC, "all KeyIDs are in use");
        try {
            allocateControlPages();
            require(tdx.everyPackageIsOnline(), Errno.EIO, "a package has no processor online that could configure the TD's key");
        } catch (KvmException failure) {
            freeControlPages();
            throw failure;
        }
        long status;
        try (var held = tdx.lock().lock()) {
            status = seam.mngCreate(tdrPa, hkid);
        }
        if (status != 0) {
            freeControlPages();
            throw fail("TDH.MNG.CREATE", status);
        }
        counters.tdxPages++;
        try {
            for (var cpu : host.cpus().onePerPackage()) {
                status = host.cpus().call(cpu, here -> seam.mngKeyConfig(here, tdrPa));
                if (status != 0) {
                    throw fail("TDH.MNG.KEY.CONFIG on package " + cpu.packageId(), status);
                }
            }
            for (tdcsAdded = 0; tdcsAdded < tdcsPa.length; tdcsAdded++) {
                status = seam.mngAddcx(tdrPa, tdcsPa[tdcsAdded]);
                if (status != 0) {
                    throw fail("TDH.MNG.ADDCX", status);
                }
                counters.tdxPages++;
            }
            var out = new SeamRegs();
            status = seam.mngInit(tdrPa, paramsPa, out);
            if (TdxStatus.OPERAND_INVALID.matches(status)) {
                cmd.hwError = status;
                throw new KvmException(Errno.EINVAL, "TDH.MNG.INIT: 0x" + Long.toHexString(status) + ", RCX 0x"
                        + Long.toHexString(out.get(SeamRegs.RCX)));
            }
            if (status != 0) {
                throw fail("TDH.MNG.INIT, RCX 0x" + Long.toHexString(out.get(SeamRegs.RCX)), status);
            }
        } catch (KvmException failure) {
            releaseHkid();
            reclaimControlPages();
            throw failure;
        }
    }

    private void allocateControlPages() {
        tdrPa = host.frames().allocate();
        tdcsPa = host.frames().allocate(tdx.tdcsPages());
    }

    /// The TD has got as far as its KeyID and pages that the module does not know.
    private void freeControlPages() {
        for (long pa : tdcsPa) {
            host.frames().free(pa);
        }
        tdcsPa = new long[0];
        if (tdrPa != 0) {
            host.frames().free(tdrPa);
            tdrPa = 0;
        }
        tdx.freeKeyId(hkid);
        hkid = -1;
    }

    private KvmException fail(String what, long status) {
        if (TdxStatus.RND_NO_ENTROPY.matches(status)) {
            return new KvmException(Errno.EAGAIN, what + ": no entropy");
        }
        bug(what + " failed: 0x" + Long.toHexString(status));
        return new KvmException(Errno.EIO, bugText);
    }

    private void finalizeVm(KvmTdxCmd cmd) {
        require(hasHkid() && state != State.RUNNABLE, Errno.EINVAL, "the TD is not initialised, or final already");
        long status = seam.mrFinalize(tdrPa);
        cmd.hwError = status;
        require(!KvmSeam.isBusy(status), Errno.EBUSY, "TDH.MR.FINALIZE is busy");
        if (status != 0) {
            throw fail("TDH.MR.FINALIZE", status);
        }
        state = State.RUNNABLE;
        mmu.preFaultAllowed(true);
    }

    // --- teardown, in the order that the module demands

    @Override protected void destroy(VcpuFile vcpu) {
        ((TdVcpu) vcpu).discard();
    }

    @Override public void destroy() {
        closeFiles();
        releaseHkid();
        for (var vcpu : vcpus) {
            ((TdVcpu) vcpu).free();
        }
        if (hasHkid()) {
            counters.leakedPages = counters.tdxPages; // nothing can be reclaimed while the KeyID is assigned
            return;
        }
        mmu.destroy();
        reclaimControlPages();
        state = State.UNINITIALIZED;
    }

    /// [LINUX tdx_mmu_release_hkid]
    private void releaseHkid() {
        if (!hasHkid()) {
            return;
        }
        for (var vcpu : vcpus) {
            ((TdVcpu) vcpu).flushAssociation();
        }
        try (var held = tdx.lock().lock()) {
            releaseHkidLocked();
        }
    }

    private void releaseHkidLocked() {
        long status = seam.mngVpflushdone(tdrPa);
        if (TdxStatus.FLUSHVP_NOT_DONE.matches(status)) {
            return;
        }
        if (status != 0) {
            bug("TDH.MNG.VPFLUSHDONE failed: 0x" + Long.toHexString(status));
            return;
        }
        writeBackCaches();
        status = seam.mngKeyFreeid(tdrPa);
        if (status != 0) {
            bug("TDH.MNG.KEY.FREEID failed: 0x" + Long.toHexString(status));
            return;
        }
        tdx.freeKeyId(hkid);
        hkid = -1;
    }

    /// Every package writes its caches back, in as many steps as the module takes. [LINUX smp_func_do_phymem_cache_wb]
    private void writeBackCaches() {
        for (var cpu : host.cpus().onePerPackage()) {
            long status = 0;
            for (int i = 0; i < CACHE_WB_RETRIES; i++) {
                boolean resume = status != 0;
                status = host.cpus().call(cpu, here -> seam.phymemCacheWb(here, resume));
                if (!TdxStatus.INTERRUPTED_RESUMABLE.matches(status)) {
                    break;
                }
            }
            if (status != 0 && !TdxStatus.NO_HKID_READY_TO_WBCACHE.matches(status)) {
                bug("TDH.PHYMEM.CACHE.WB on package " + cpu.packageId() + " failed: 0x" + Long.toHexString(status));
            }
        }
    }

    private void reclaimControlPages() {
        if (hasHkid() || tdrPa == 0) {
            return;
        }
        for (int i = 0; i < tdcsPa.length; i++) {
            if (i >= tdcsAdded || sept.reclaim(tdcsPa[i])) {
                host.frames().free(tdcsPa[i]);
            }
        }
        tdcsPa = new long[0];
        tdcsAdded = 0;
        long status = seam.phymemPageReclaim(tdrPa, new SeamRegs());
        if (status == 0) {
            status = seam.phymemPageWbinvd(tdrPa, tdx.globalKeyId());
        }
        if (status != 0) {
            bug("reclaiming the TDR failed: 0x" + Long.toHexString(status));
            counters.leakedPages++;
            return;
        }
        sept.clear(tdrPa);
        counters.tdxPages--;
        host.frames().free(tdrPa);
        tdrPa = 0;
    }

    /// Adds a page of the initial image. The caller holds [#lockState]. [LINUX kvm_gmem_populate, tdx_gmem_post_populate]
    void populate(TdVcpu vcpu, long sourceAddr, long gpa, boolean measure) {
        long gfn = gpa >>> 12;
        var slot = mmu.slots().find(gfn);
        require(slot != null && slot.gmem() != null, Errno.EINVAL, "no guest_memfd at 0x" + Long.toHexString(gpa));
        long sourcePa = sourceAddr == 0 ? 0 : host.userMemory().fault(sourceAddr, false) & -PhysicalMemory.FRAME_SIZE;
        long pagePa = slot.gmem().fault(slot.gmemIndex(gfn));
        require(pagePa >= 0, Errno.ENOMEM, "no free platform memory; give the platform more");
        require(mmu.attributes().isPrivate(gfn), Errno.EINVAL, "0x" + Long.toHexString(gpa) + " is not private");
        require(sourceAddr != 0, Errno.EOPNOTSUPP, "an initial page needs a source");
        vcpu.mmu.reload();
        require(!vcpu.mmu.isPrivateMapped(gpa), Errno.EIO, "0x" + Long.toHexString(gpa) + " is mapped already");
        sept.pageAddSource(sourcePa);
        int error;
        try {
            error = vcpu.mmu.mapPrivate(gpa, pagePa);
        } finally {
            sept.pageAddSource(0);
        }
        if (error != 0) {
            throw new KvmException(Errno.of(-error), bugText == null ? "cannot add a page" : bugText);
        }
        for (int at = 0; measure && at < PhysicalMemory.FRAME_SIZE; at += 256) {
            long status = seam.mrExtend(tdrPa, gpa + at, new SeamRegs());
            if (status != 0) {
                throw fail("TDH.MR.EXTEND", status);
            }
        }
    }

    @Override public void describe(StateSink to) {
        super.describe(to);
        to.text("state", state);
        to.field("hkid", hkid);
        to.field("tdrPa", tdrPa);
        to.words("tdcsPa", tdcsPa);
        to.field("tdcsAdded", tdcsAdded);
        to.field("tscOffset", tscOffset);
        to.text("bugText", bugText);
    }
}
