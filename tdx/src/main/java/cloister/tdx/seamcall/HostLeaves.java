package cloister.tdx.seamcall;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import java.util.EnumMap;
import java.util.Map;

/// Which class implements which SEAMCALL leaf. TDH.VP.ENTER is not here: it does not come back like a function.
public final class HostLeaves {
    private static final Map<SeamcallLeaf, HostLeaf> LEAVES = leaves();

    private HostLeaves() {
    }

    /// The function `leaf`: there is one for each but TDH.VP.ENTER.
    public static HostLeaf of(SeamcallLeaf leaf) {
        return LEAVES.get(leaf);
    }

    private static Map<SeamcallLeaf, HostLeaf> leaves() {
        var leaves = new EnumMap<SeamcallLeaf, HostLeaf>(SeamcallLeaf.class);
        leaves.put(SeamcallLeaf.MNG_ADDCX, new MngAddcx());
        leaves.put(SeamcallLeaf.MEM_PAGE_ADD, new MemPageAdd());
        leaves.put(SeamcallLeaf.MEM_SEPT_ADD, new MemSeptAdd());
        leaves.put(SeamcallLeaf.VP_ADDCX, new VpAddcx());
        leaves.put(SeamcallLeaf.MEM_PAGE_AUG, new MemPageAug());
        leaves.put(SeamcallLeaf.MEM_RANGE_BLOCK, new MemRangeBlock());
        leaves.put(SeamcallLeaf.MNG_KEY_CONFIG, new MngKeyConfig());
        leaves.put(SeamcallLeaf.MNG_CREATE, new MngCreate());
        leaves.put(SeamcallLeaf.VP_CREATE, new VpCreate());
        leaves.put(SeamcallLeaf.MR_EXTEND, new MrExtend());
        leaves.put(SeamcallLeaf.MR_FINALIZE, new MrFinalize());
        leaves.put(SeamcallLeaf.VP_FLUSH, new VpFlush());
        leaves.put(SeamcallLeaf.MNG_VPFLUSHDONE, new MngVpflushdone());
        leaves.put(SeamcallLeaf.MNG_KEY_FREEID, new MngKeyFreeid());
        leaves.put(SeamcallLeaf.MNG_INIT, new MngInit());
        leaves.put(SeamcallLeaf.VP_INIT, new VpInit());
        leaves.put(SeamcallLeaf.PHYMEM_PAGE_RDMD, new PhymemPageRdmd());
        leaves.put(SeamcallLeaf.MEM_SEPT_RD, new MemSeptRd());
        leaves.put(SeamcallLeaf.MNG_KEY_RECLAIMID, new MngKeyReclaimid());
        leaves.put(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, new PhymemPageReclaim());
        leaves.put(SeamcallLeaf.MEM_PAGE_REMOVE, new MemPageRemove());
        leaves.put(SeamcallLeaf.MEM_SEPT_REMOVE, new MemSeptRemove());
        leaves.put(SeamcallLeaf.SYS_KEY_CONFIG, new SysKeyConfig());
        leaves.put(SeamcallLeaf.SYS_INFO, new SysInfo());
        leaves.put(SeamcallLeaf.SYS_INIT, new SysInit());
        leaves.put(SeamcallLeaf.SYS_LP_INIT, new SysLpInit());
        leaves.put(SeamcallLeaf.SYS_TDMR_INIT, new SysTdmrInit());
        leaves.put(SeamcallLeaf.MEM_TRACK, new MemTrack());
        leaves.put(SeamcallLeaf.MEM_RANGE_UNBLOCK, new MemRangeUnblock());
        leaves.put(SeamcallLeaf.PHYMEM_CACHE_WB, new PhymemCacheWb());
        leaves.put(SeamcallLeaf.PHYMEM_PAGE_WBINVD, new PhymemPageWbinvd());
        leaves.put(SeamcallLeaf.SYS_LP_SHUTDOWN, new SysLpShutdown());
        leaves.put(SeamcallLeaf.SYS_CONFIG, new SysConfig());
        leaves.put(SeamcallLeaf.SYS_SHUTDOWN, new SysShutdown());
        leaves.put(SeamcallLeaf.SYS_UPDATE, new SysUpdate());
        leaves.put(SeamcallLeaf.SYS_RD, new SysRd());
        leaves.put(SeamcallLeaf.SYS_RDALL, new SysRdall());
        leaves.put(SeamcallLeaf.MNG_RD, new MngRd());
        leaves.put(SeamcallLeaf.MNG_WR, new MngWr());
        leaves.put(SeamcallLeaf.VP_RD, new VpRd());
        leaves.put(SeamcallLeaf.VP_WR, new VpWr());
        leaves.put(SeamcallLeaf.MEM_RD, new MemRd());
        leaves.put(SeamcallLeaf.MEM_WR, new MemWr());
        leaves.put(SeamcallLeaf.MEM_PAGE_PROMOTE, new MemPagePromote());
        leaves.put(SeamcallLeaf.MEM_PAGE_DEMOTE, new MemPageDemote());
        leaves.put(SeamcallLeaf.MEM_PAGE_RELOCATE, new MemPageRelocate());
        leaves.put(SeamcallLeaf.SERVTD_BIND, new ServtdBind());
        leaves.put(SeamcallLeaf.SERVTD_PREBIND, new ServtdPrebind());
        leaves.put(SeamcallLeaf.MEM_SEPT_WR, (_, _) -> {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        });
        leaves.put(SeamcallLeaf.EXPORT_RESTORE, new ExportRestore());
        leaves.put(SeamcallLeaf.EXPORT_STATE_IMMUTABLE, new ExportStateImmutable());
        leaves.put(SeamcallLeaf.EXPORT_UNBLOCKW, new ExportUnblockw());
        leaves.put(SeamcallLeaf.IMPORT_ABORT, new ImportAbort());
        leaves.put(SeamcallLeaf.IMPORT_STATE_IMMUTABLE, new ImportStateImmutable());
        leaves.put(SeamcallLeaf.MIG_STREAM_CREATE, new MigStreamCreate());
        leaves.putAll(MigrationSessionLeaf.all());
        return leaves;
    }
}
