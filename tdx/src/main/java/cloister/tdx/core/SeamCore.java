package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.port.Processor;
import cloister.tdx.port.Vmcs;
import java.util.HashMap;
import java.util.Map;

/// The module's two entry points, without the processor between them: a SEAMCALL of the VMM and a VM exit of a TD.
public final class SeamCore {
    private static final long RESERVED = ~0xff_ffffL;

    final ModuleState module;
    private final Map<Integer, LpState> lps = new HashMap<>();

    /// The module just loaded.
    public SeamCore(PhysicalMemory memory, PlatformInfo platform) {
        this.module = new ModuleState(memory, platform);
    }

    LpState lp(Processor cpu) {
        var known = lps.get(cpu.lp());
        if (known == null) {
            known = new LpState(module, cpu);
            lps.put(cpu.lp(), known);
        }
        return known;
    }

    /// SEAMCALL.
    ///
    /// @return true when TDH.VP.ENTER wants the guest of [#vmcs] to run; false when `regs` hold the result
    public boolean call(Processor cpu, SeamRegs regs) {
        var lp = lp(cpu);
        lp.regs = regs;
        lp.host.xcr0 = cpu.xcr0();
        module.busyLps++;
        boolean entered = false;
        try {
            entered = dispatch(lp, regs.get(SeamRegs.RAX));
            return entered;
        } finally {
            if (!entered) {
                leave(lp);
            }
        }
    }

    private void leave(LpState lp) {
        module.busyLps--;
        lp.cpu.xcr0(lp.host.xcr0);
        lp.regs = null;
    }

    /// The VMCS of the TD that runs on an LP.
    public Vmcs vmcs(Processor cpu) {
        return lp(cpu).vmcs;
    }

    /// A VM exit of the TD that runs on an LP.
    ///
    /// @return true to resume the guest; false when TDH.VP.ENTER ended
    public boolean vmExit(Processor cpu) {
        var lp = lp(cpu);
        boolean resume = VmExit.handle(lp);
        if (!resume) {
            leave(lp);
        }
        return resume;
    }

    /// What the module knows now. Called while no other thread runs the module.
    public ModuleSnapshot inspect() {
        return Inspection.of(module);
    }

    /// The lock of a page.
    LockWord pageLock(long pa) {
        return module.pamt.lockOf(pa);
    }

    private boolean dispatch(LpState lp, long rax) {
        int version = (int) (rax >>> 16) & 0xff;
        try {
            var leaf = check(rax, version);
            if (leaf == SeamcallLeaf.VP_ENTER) {
                return VpEnter.run(lp);
            }
            run(lp, leaf, version);
            lp.reg(LpState.RAX, 0);
        } catch (LeafFailure failure) {
            lp.reg(LpState.RAX, failure.status());
        } catch (Transition transition) {
            return transition == Transition.TO_GUEST;
        }
        return false;
    }

    private SeamcallLeaf check(long rax, int version) throws LeafFailure {
        var leaf = SeamcallLeaf.of((int) rax & 0xffff);
        if ((rax & RESERVED) != 0 || version > 0 && !hasVersions(leaf)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        if (module.sysState == SysState.SHUTDOWN && leaf != SeamcallLeaf.SYS_LP_SHUTDOWN) {
            throw new LeafFailure(TdxStatus.SYS_SHUTDOWN);
        }
        if (module.sysState != SysState.READY && !isAllowedBeforeReady(leaf)) {
            throw new LeafFailure(TdxStatus.SYS_NOT_READY);
        }
        if (leaf == null) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        return leaf;
    }

    private static boolean hasVersions(SeamcallLeaf leaf) {
        return switch (leaf) {
            case MEM_PAGE_PROMOTE, MEM_SEPT_ADD, MEM_SEPT_REMOVE, MNG_RD, VP_RD, VP_INIT -> true;
            case null, default -> false;
        };
    }

    private static boolean isAllowedBeforeReady(SeamcallLeaf leaf) {
        return switch (leaf) {
            case SYS_INFO, SYS_RD, SYS_RDALL, SYS_INIT, SYS_LP_INIT, SYS_CONFIG, SYS_KEY_CONFIG, SYS_LP_SHUTDOWN,
                    SYS_UPDATE -> true;
            case null, default -> false;
        };
    }

    private static void run(LpState lp, SeamcallLeaf leaf, int version) throws LeafFailure {
        HostLeaf function = switch (leaf) {
            case MNG_ADDCX -> MngLeaves::addCx;
            case MEM_PAGE_ADD -> PageLeaves::add;
            case MEM_SEPT_ADD -> SeptLeaves::add;
            case VP_ADDCX -> VpLeaves::addCx;
            case MEM_PAGE_AUG -> PageLeaves::aug;
            case MEM_RANGE_BLOCK -> SeptLeaves::block;
            case MNG_KEY_CONFIG -> MngLeaves::keyConfig;
            case MNG_CREATE -> MngLeaves::create;
            case VP_CREATE -> VpLeaves::create;
            case MR_EXTEND -> PageLeaves::extend;
            case MR_FINALIZE -> PageLeaves::finalizeMeasurement;
            case VP_FLUSH -> VpLeaves::flush;
            case MNG_VPFLUSHDONE -> MngLeaves::vpFlushDone;
            case MNG_KEY_FREEID -> MngLeaves::keyFreeId;
            case MNG_INIT -> MngLeaves::init;
            case VP_INIT -> VpLeaves::init;
            case PHYMEM_PAGE_RDMD -> PageLeaves::readMetadata;
            case MEM_SEPT_RD -> SeptLeaves::rd;
            case MNG_KEY_RECLAIMID -> MngLeaves::keyReclaimId;
            case PHYMEM_PAGE_RECLAIM -> PageLeaves::reclaim;
            case MEM_PAGE_REMOVE -> PageLeaves::remove;
            case MEM_SEPT_REMOVE -> SeptLeaves::remove;
            case SYS_KEY_CONFIG -> SysLeaves::keyConfig;
            case SYS_INFO -> SysLeaves::info;
            case SYS_INIT -> SysLeaves::init;
            case SYS_LP_INIT -> SysLeaves::lpInit;
            case SYS_TDMR_INIT -> SysLeaves::tdmrInit;
            case MEM_TRACK -> SeptLeaves::track;
            case MEM_RANGE_UNBLOCK -> SeptLeaves::unblock;
            case PHYMEM_CACHE_WB -> PageLeaves::cacheWriteBack;
            case PHYMEM_PAGE_WBINVD -> PageLeaves::pageWriteBack;
            case SYS_LP_SHUTDOWN -> SysLeaves::lpShutdown;
            case SYS_CONFIG -> SysLeaves::config;
            case SYS_SHUTDOWN -> SysLeaves::shutdown;
            case SYS_UPDATE -> SysLeaves::update;
            case SYS_RD -> MetadataLeaves::sysRead;
            case SYS_RDALL -> MetadataLeaves::sysReadAll;
            case MNG_RD -> MetadataLeaves::mngRead;
            case MNG_WR -> MetadataLeaves::mngWrite;
            case VP_RD -> MetadataLeaves::vpRead;
            case VP_WR -> MetadataLeaves::vpWrite;
            case MEM_RD -> HostMemory::read;
            case MEM_WR -> HostMemory::write;
            case MEM_PAGE_PROMOTE -> PageSizes::promote;
            case MEM_PAGE_DEMOTE -> PageSizes::demote;
            case MEM_PAGE_RELOCATE -> PageSizes::relocate;
            case MEM_SEPT_WR -> throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
            case SERVTD_BIND -> ServiceTd::bind;
            case SERVTD_PREBIND -> ServiceTd::prebind;
            default -> Migration.leaf(leaf);
        };
        if (function == null) {
            throw new ModuleHalt("SEAMCALL leaf " + leaf.specificationName() + " is not modelled");
        }
        function.call(lp, version);
    }
}
