package cloister.kvm.tdx;

import static cloister.spec.tdx.SeamRegs.*;

import cloister.cpu.vmx.VmxStatus;
import cloister.kvm.host.Cpus;
import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.kvm.vcpu.SeamCounters;
import cloister.memory.PhysicalMemory;
import cloister.sim.Noinstr;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import java.util.ArrayDeque;

/// One method per SEAMCALL leaf that KVM uses; each returns the completion status. Arguments named `out` receive the
/// output registers. [LINUX arch/x86/virt/vmx/tdx/tdx.c]
///
/// RND_NO_ENTROPY is retried here, as everywhere in Linux; all other statuses are the caller's. Methods that take a processor are
/// called on it, which the caller holds.
public final class KvmSeam {
    /// SEAMCALL itself failed: there is no module. (TDX_SEAMCALL_VMFAILINVALID)
    public static final long VMFAILINVALID = 0x8000_ff00_ffff_0000L;
    private static final int VP_ENTER = SeamcallLeaf.VP_ENTER.number();
    private static final long SW_ERROR = 0x8000_ff00_0000_0000L;
    private static final int ENTROPY_RETRIES = 10;
    private static final long VERSION_1 = 1L << 16;

    private final Cpus cpus;
    private final SeamCounters counters;
    private final ArrayDeque<SeamRegs> spare = new ArrayDeque<>();

    /// @param counters counts every call
    public KvmSeam(Host host, SeamCounters counters) {
        this.cpus = host.cpus();
        this.counters = counters;
    }

    /// OPERAND_BUSY of any operand.
    public static boolean isBusy(long status) {
        return TdxStatus.OPERAND_BUSY.matches(status);
    }

    /// The SEAMCALL instruction faulted or found no module.
    @Noinstr public static boolean isSoftwareError(long status) {
        return (status & SW_ERROR) == SW_ERROR;
    }

    private long call(HostCpu cpu, SeamcallLeaf leaf, long version, SeamRegs regs) {
        long status;
        int tries = ENTROPY_RETRIES;
        do {
            regs.set(RAX, leaf.number() | version);
            status = execute(cpu, regs);
            counters.count(leaf.number(), leaf.specificationName(), isBusy(status));
        } while (TdxStatus.RND_NO_ENTROPY.matches(status) && --tries > 0);
        return status;
    }

    @Noinstr private static long execute(HostCpu cpu, SeamRegs regs) {
        return cpu.lp().seamcall(regs) == VmxStatus.SUCCEED ? regs.get(RAX) : VMFAILINVALID;
    }

    /// On the processor of the current task, which keeps it meanwhile.
    private long call(SeamcallLeaf leaf, long version, SeamRegs regs) {
        var cpu = cpus.pin();
        try {
            return call(cpu, leaf, version, regs);
        } finally {
            cpus.unpin();
        }
    }

    private long call(SeamcallLeaf leaf, SeamRegs regs) {
        return call(leaf, 0, regs);
    }

    private long call(SeamcallLeaf leaf, long rcx, long rdx) {
        var regs = borrow();
        try {
            return call(leaf, fill(regs, rcx, rdx, 0, 0));
        } finally {
            giveBack(regs);
        }
    }

    /// Registers for one call: building and tearing down gigabytes makes no garbage of them. The caller gives them back.
    SeamRegs borrow() {
        return spare.isEmpty() ? new SeamRegs() : spare.pop();
    }

    void giveBack(SeamRegs regs) {
        spare.push(regs);
    }

    private static SeamRegs regs(long rcx, long rdx, long r8, long r9) {
        return fill(new SeamRegs(), rcx, rdx, r8, r9);
    }

    private static SeamRegs fill(SeamRegs regs, long rcx, long rdx, long r8, long r9) {
        regs.clear();
        regs.set(RCX, rcx);
        regs.set(RDX, rdx);
        regs.set(R8, r8);
        regs.set(R9, r9);
        return regs;
    }

    /// Writes back the cached lines of a page before the module takes it.
    private void clflushPage(long pa) {
        var lp = cpus.here().lp();
        for (long line = pa; line < pa + PhysicalMemory.FRAME_SIZE; line += PhysicalMemory.LINE_SIZE) {
            lp.clflush(line);
        }
    }

    // --- the module

    /// TDH.SYS.INIT.
    public long sysInit() {
        return call(SeamcallLeaf.SYS_INIT, 0, 0);
    }

    /// TDH.SYS.LP.INIT, on every processor.
    public long sysLpInit(HostCpu cpu) {
        return call(cpu, SeamcallLeaf.SYS_LP_INIT, 0, new SeamRegs());
    }

    /// @param out R8: the field
    public long sysRd(long field, SeamRegs out) {
        return call(SeamcallLeaf.SYS_RD, fill(out, 0, field, 0, 0));
    }

    /// TDH.SYS.CONFIG with the addresses of TDMR_INFO structures.
    public long sysConfig(long tdmrArrayPa, long count, int globalKeyId) {
        return call(SeamcallLeaf.SYS_CONFIG, regs(tdmrArrayPa, count, globalKeyId, 0));
    }

    /// TDH.SYS.KEY.CONFIG, once per package.
    public long sysKeyConfig(HostCpu cpu) {
        return call(cpu, SeamcallLeaf.SYS_KEY_CONFIG, 0, new SeamRegs());
    }

    /// @param out RDX: the first address not initialised yet
    public long sysTdmrInit(long tdmrBase, SeamRegs out) {
        return call(SeamcallLeaf.SYS_TDMR_INIT, fill(out, tdmrBase, 0, 0, 0));
    }

    // --- TDs

    /// TDH.MNG.CREATE.
    public long mngCreate(long tdrPa, int hkid) {
        clflushPage(tdrPa);
        return call(SeamcallLeaf.MNG_CREATE, tdrPa, hkid);
    }

    /// TDH.MNG.KEY.CONFIG, once per package.
    public long mngKeyConfig(HostCpu cpu, long tdrPa) {
        return call(cpu, SeamcallLeaf.MNG_KEY_CONFIG, 0, regs(tdrPa, 0, 0, 0));
    }

    /// TDH.MNG.ADDCX.
    public long mngAddcx(long tdrPa, long pagePa) {
        clflushPage(pagePa);
        return call(SeamcallLeaf.MNG_ADDCX, pagePa, tdrPa);
    }

    /// @param out RCX: which parameter was wrong
    public long mngInit(long tdrPa, long paramsPa, SeamRegs out) {
        return call(SeamcallLeaf.MNG_INIT, fill(out, tdrPa, paramsPa, 0, 0));
    }

    /// @param out R8: the field
    public long mngRd(long tdrPa, long field, SeamRegs out) {
        return call(SeamcallLeaf.MNG_RD, fill(out, tdrPa, field, 0, 0));
    }

    /// TDH.MNG.VPFLUSHDONE.
    public long mngVpflushdone(long tdrPa) {
        return call(SeamcallLeaf.MNG_VPFLUSHDONE, tdrPa, 0);
    }

    /// TDH.MNG.KEY.FREEID.
    public long mngKeyFreeid(long tdrPa) {
        return call(SeamcallLeaf.MNG_KEY_FREEID, tdrPa, 0);
    }

    /// TDH.MR.EXTEND of 256 bytes.
    public long mrExtend(long tdrPa, long gpa, SeamRegs out) {
        return call(SeamcallLeaf.MR_EXTEND, fill(out, gpa, tdrPa, 0, 0));
    }

    /// TDH.MR.FINALIZE.
    public long mrFinalize(long tdrPa) {
        return call(SeamcallLeaf.MR_FINALIZE, tdrPa, 0);
    }

    // --- private memory; `level` is 1 for 4 KiB, and `out` gets RCX: the entry, RDX: its level and state

    /// TDH.MEM.SEPT.ADD below an entry of `level`.
    public long memSeptAdd(long tdrPa, long gpa, int level, long pagePa, SeamRegs out) {
        clflushPage(pagePa);
        return call(SeamcallLeaf.MEM_SEPT_ADD, fill(out, gpa | (level - 1), tdrPa, pagePa, 0));
    }

    /// TDH.MEM.PAGE.ADD with the content at `sourcePa`.
    public long memPageAdd(long tdrPa, long gpa, long pagePa, long sourcePa, SeamRegs out) {
        clflushPage(pagePa);
        return call(SeamcallLeaf.MEM_PAGE_ADD, fill(out, gpa, tdrPa, pagePa, sourcePa));
    }

    /// TDH.MEM.PAGE.AUG.
    public long memPageAug(long tdrPa, long gpa, int level, long pagePa, SeamRegs out) {
        clflushPage(pagePa);
        return call(SeamcallLeaf.MEM_PAGE_AUG, fill(out, gpa | (level - 1), tdrPa, pagePa, 0));
    }

    /// TDH.MEM.RANGE.BLOCK.
    public long memRangeBlock(long tdrPa, long gpa, int level, SeamRegs out) {
        return call(SeamcallLeaf.MEM_RANGE_BLOCK, fill(out, gpa | (level - 1), tdrPa, 0, 0));
    }

    /// TDH.MEM.TRACK.
    public long memTrack(long tdrPa) {
        return call(SeamcallLeaf.MEM_TRACK, tdrPa, 0);
    }

    /// TDH.MEM.PAGE.REMOVE.
    public long memPageRemove(long tdrPa, long gpa, int level, SeamRegs out) {
        return call(SeamcallLeaf.MEM_PAGE_REMOVE, fill(out, gpa | (level - 1), tdrPa, 0, 0));
    }

    /// TDH.MEM.SEPT.REMOVE of the empty table below the entry of `level`.
    ///
    /// @param out RCX: the freed page
    public long memSeptRemove(long tdrPa, long gpa, int level, SeamRegs out) {
        return call(SeamcallLeaf.MEM_SEPT_REMOVE, fill(out, gpa | (level - 1), tdrPa, 0, 0));
    }

    /// TDH.MEM.RANGE.UNBLOCK.
    public long memRangeUnblock(long tdrPa, long gpa, int level, SeamRegs out) {
        return call(SeamcallLeaf.MEM_RANGE_UNBLOCK, fill(out, gpa | (level - 1), tdrPa, 0, 0));
    }

    /// TDH.MEM.PAGE.PROMOTE of the 512 pages below the entry of `level`.
    ///
    /// @param out RCX: the freed table
    public long memPagePromote(long tdrPa, long gpa, int level, SeamRegs out) {
        return call(SeamcallLeaf.MEM_PAGE_PROMOTE, fill(out, gpa | (level - 1), tdrPa, 0, 0));
    }

    /// TDH.MEM.PAGE.DEMOTE of the large page of `level`, whose parts the table `tablePa` will hold. Of a TD without L2 VMs.
    public long memPageDemote(long tdrPa, long gpa, int level, long tablePa, SeamRegs out) {
        clflushPage(tablePa);
        return call(SeamcallLeaf.MEM_PAGE_DEMOTE, fill(out, gpa | (level - 1), tdrPa, tablePa, 0));
    }

    /// TDH.MEM.PAGE.RELOCATE of a page of 4 KiB to `pagePa`.
    ///
    /// @param out RCX: where the page was
    public long memPageRelocate(long tdrPa, long gpa, long pagePa, SeamRegs out) {
        clflushPage(pagePa);
        return call(SeamcallLeaf.MEM_PAGE_RELOCATE, fill(out, gpa, tdrPa, pagePa, 0));
    }

    // --- vCPUs

    /// TDH.VP.CREATE.
    public long vpCreate(long tdvprPa, long tdrPa) {
        clflushPage(tdvprPa);
        return call(SeamcallLeaf.VP_CREATE, tdvprPa, tdrPa);
    }

    /// TDH.VP.ADDCX.
    public long vpAddcx(long tdvprPa, long pagePa) {
        clflushPage(pagePa);
        return call(SeamcallLeaf.VP_ADDCX, pagePa, tdvprPa);
    }

    /// TDH.VP.INIT, version 1, which takes the x2APIC id.
    public long vpInit(long tdvprPa, long initialRcx, int x2apicId) {
        return call(SeamcallLeaf.VP_INIT, VERSION_1,
                regs(tdvprPa, initialRcx, x2apicId & 0xffff_ffffL, 0));
    }

    /// @param out R8: the field
    public long vpRd(long tdvprPa, long field, SeamRegs out) {
        return call(SeamcallLeaf.VP_RD, fill(out, tdvprPa, field, 0, 0));
    }

    /// TDH.VP.WR of the bits in `mask`.
    public long vpWr(long tdvprPa, long field, long value, long mask) {
        return call(SeamcallLeaf.VP_WR, regs(tdvprPa, field, value, mask));
    }

    /// TDH.VP.FLUSH, on the processor with which the vCPU is associated.
    public long vpFlush(HostCpu cpu, long tdvprPa) {
        return call(cpu, SeamcallLeaf.VP_FLUSH, 0, regs(tdvprPa, 0, 0, 0));
    }

    /// TDH.VP.ENTER: runs a TD vCPU. `args` are its argument and result registers; RCX is set here.
    @Noinstr public static long vpEnter(HostCpu cpu, long tdvprPa, SeamRegs args) {
        args.set(RCX, tdvprPa);
        args.set(RAX, VP_ENTER);
        return execute(cpu, args);
    }

    /// Counts a TDH.VP.ENTER, behind the region in which it was executed.
    public void countEntry(long status) {
        counters.count(VP_ENTER, SeamcallLeaf.VP_ENTER.specificationName(), isBusy(status));
    }

    // --- physical memory

    /// @param out RCX: page type, RDX: owner, R8: size
    public long phymemPageReclaim(long pagePa, SeamRegs out) {
        return call(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, fill(out, pagePa, 0, 0, 0));
    }

    /// TDH.PHYMEM.CACHE.WB, once per package, resumed while INTERRUPTED_RESUMABLE.
    public long phymemCacheWb(HostCpu cpu, boolean resume) {
        return call(cpu, SeamcallLeaf.PHYMEM_CACHE_WB, 0, regs(resume ? 1 : 0, 0, 0, 0));
    }

    /// TDH.PHYMEM.PAGE.WBINVD of a page that belonged to `hkid`.
    public long phymemPageWbinvd(long pagePa, int hkid) {
        return call(SeamcallLeaf.PHYMEM_PAGE_WBINVD, PhysicalMemory.hpa(pagePa, hkid), 0);
    }

    /// TDH.PHYMEM.PAGE.RDMD.
    ///
    /// @param out RCX: page type, RDX: owner, R8: size, R9: epoch
    public long phymemPageRdmd(long pagePa, SeamRegs out) {
        return call(SeamcallLeaf.PHYMEM_PAGE_RDMD, fill(out, pagePa, 0, 0, 0));
    }
}
