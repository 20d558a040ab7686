package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OpState;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Bits256;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ServiceTdBinding.State;
import cloister.tdx.core.ServiceTdBinding;
import cloister.tdx.core.SharexHp;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.TdInfo;
import cloister.tdx.core.Tdr;
import java.util.Arrays;

/// TDH.SERVTD.BIND, leaf 48: lets a service TD read and write metadata of a TD. [TDX-ABI "TDH.SERVTD.BIND"]
final class ServtdBind implements HostLeaf {
    private static final int R12 = R11 + 1;
    private static final int R13 = R11 + 2;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long tdrPa = lp.reg(RCX);
        long servicePa = lp.reg(RDX);
        long attributes = lp.reg(R10);
        output(lp, 0, new Bits256(0, 0, 0, 0));
        if (tdrPa == servicePa) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        try (var page = lp.module.lockTdr(lp, tdrPa, LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.SERVTD_BIND);
                var servicePage = lp.module.lockTdr(lp, servicePa, LockMode.SHARED, OperandId.RDX);
                var service = TdAccess.openServiceTd(lp, lp.module.tdr(servicePage.pa()))) {
            ServiceTdOperands.check(lp, attributes);
            var binding = new ServiceTdBinding(td.tdcs());
            long busy = SharexHp.tryExclusive(lp, binding.lock(), false);
            if (busy != 0) {
                throw new LeafFailure(busy | OperandId.SERVTD_BINDINGS);
            }
            try {
                byte[] infoHash = TdInfo.of(lp, service.tdcs(), ServiceTdBinding.ignored(attributes), false).hash();
                if (binding.state() == State.NOT_BOUND) {
                    requireBuilding(td);
                    binding.service(ServiceTdBinding.MIGRATION_TD, attributes, infoHash);
                } else {
                    requireSame(binding, attributes, infoHash);
                }
                var serviceUuid = Bits256.of(service.tdr(), Tdr.TD_UUID);
                binding.bind(serviceUuid);
                output(lp, page.pa() + serviceUuid.w0(), Bits256.of(td.tdr(), Tdr.TD_UUID)); // the slot, 0, in bits 11:0
            } finally {
                SharexHp.releaseExclusive(binding.lock());
            }
        }
    }

    private static void output(LpState lp, long handle, Bits256 uuid) {
        lp.reg(RCX, handle);
        lp.reg(R10, uuid.w0());
        lp.reg(R11, uuid.w1());
        lp.reg(R12, uuid.w2());
        lp.reg(R13, uuid.w3());
    }

    /// A service TD that was not announced must be known before the TD is measured.
    private static void requireBuilding(TdAccess td) throws LeafFailure {
        var state = td.tdcs().opState();
        if (state != OpState.UNINITIALIZED && state != OpState.INITIALIZED) {
            throw new LeafFailure(TdxStatus.OP_STATE_INCORRECT);
        }
    }

    private static void requireSame(ServiceTdBinding binding, long attributes, byte[] infoHash) throws LeafFailure {
        if (binding.type() != ServiceTdBinding.MIGRATION_TD) {
            throw new LeafFailure(TdxStatus.SERVTD_TYPE_MISMATCH);
        }
        if (binding.attributes() != attributes) {
            throw new LeafFailure(TdxStatus.SERVTD_ATTR_MISMATCH);
        }
        if (!Arrays.equals(binding.infoHash(), infoHash)) {
            throw new LeafFailure(TdxStatus.SERVTD_INFO_HASH_MISMATCH);
        }
    }
}
