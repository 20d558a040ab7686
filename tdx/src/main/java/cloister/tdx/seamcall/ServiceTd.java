package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Measurement;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.SharexHp;
import cloister.tdx.core.Structure;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;

/// TDH.SERVTD.PREBIND, and as much of TDH.SERVTD.BIND as fails before a service TD is looked at. [TDX-BASE "Service TDs"]
public final class ServiceTd {
    private static final long ATTRIBUTES_ALLOWED = 0x7ff_0000_0001L;
    private static final int HASH_ALIGNMENT = 64;
    private static final int BOUND = 2;
    private static final int PRE_BOUND = 1;

    private ServiceTd() {
    }

    public static void bind(LpState lp, int version) throws LeafFailure {
        long tdrPa = lp.reg(RCX);
        for (int register : new int[] {RCX, R10, R11, R11 + 1, R11 + 2}) {
            lp.reg(register, 0);
        }
        if (tdrPa == lp.reg(RDX)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        try (var page = lp.module.lockTdr(lp, tdrPa, LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.SERVTD_BIND);
                var service = lp.module.lockTdr(lp, lp.reg(RDX), LockMode.SHARED, OperandId.RDX)) {
            throw new ModuleHalt(String.format("binding service TD 0x%x to TD 0x%x is not modelled", service.pa(), page.pa())
                    + (td.tdcs().debug() ? " (debug)" : ""));
        }
    }

    public static void prebind(LpState lp, int version) throws LeafFailure {
        try (var page = lp.module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.SERVTD_PREBIND)) {
            long hash = lp.reg(RDX);
            if (!lp.module.isSharedHpa(hash, HASH_ALIGNMENT) || (hash & HASH_ALIGNMENT - 1) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            if (lp.reg(R8) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
            }
            if (lp.reg(R9) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R9);
            }
            long attributes = lp.reg(R10);
            if ((attributes & ~ATTRIBUTES_ALLOWED) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R10);
            }
            var lock = td.tdcs().lock(Tdcs.SERVTD_BINDINGS_LOCK);
            long busy = SharexHp.tryExclusive(lp, lock, false);
            if (busy != 0) {
                throw new LeafFailure(busy | OperandId.SERVTD_BINDINGS);
            }
            try {
                prebind(td.tdcs(), attributes, Structure.copy(lp.module.memory, hash, Measurement.HASH_BYTES));
            } finally {
                SharexHp.releaseExclusive(lock);
            }
        }
    }

    private static void prebind(Tdcs tdcs, long attributes, byte[] hash) throws LeafFailure {
        int state = (int) tdcs.u64(Tdcs.SERVTD_BINDING) & 0xff;
        if (state == BOUND) {
            throw new LeafFailure(TdxStatus.SERVTD_BOUND);
        }
        if (state != PRE_BOUND) {
            tdcs.u16(Tdcs.SERVTD_NUM, tdcs.u16(Tdcs.SERVTD_NUM) + 1);
        }
        tdcs.u64(Tdcs.SERVTD_BINDING, PRE_BOUND);
        tdcs.u64(Tdcs.SERVTD_BINDING + Tdcs.SERVTD_ATTRIBUTES, attributes);
        tdcs.bytes(Tdcs.SERVTD_BINDING + Tdcs.SERVTD_INFO_HASH, hash);
    }
}
