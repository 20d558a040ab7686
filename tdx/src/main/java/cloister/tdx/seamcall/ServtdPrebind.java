package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Measurement;
import cloister.tdx.core.ServiceTdBinding;
import cloister.tdx.core.ServiceTdBinding.State;
import cloister.tdx.core.SharexHp;
import cloister.tdx.core.TdAccess;

/// TDH.SERVTD.PREBIND, leaf 49: which service TD may be bound later. [TDX-ABI "TDH.SERVTD.PREBIND"]
final class ServtdPrebind implements HostLeaf {
    private static final int HASH_ALIGNMENT = 64;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        try (var page = lp.module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.SERVTD_PREBIND)) {
            long hashPa = lp.reg(RDX);
            lp.module.requireShared(hashPa, HASH_ALIGNMENT, OperandId.RDX);
            ServiceTdOperands.check(lp, lp.reg(R10));
            var binding = new ServiceTdBinding(td.tdcs());
            long busy = SharexHp.tryExclusive(lp, binding.lock(), false);
            if (busy != 0) {
                throw new LeafFailure(busy | OperandId.SERVTD_BINDINGS);
            }
            try {
                if (binding.state() == State.BOUND) {
                    throw new LeafFailure(TdxStatus.SERVTD_BOUND);
                }
                var hash = new byte[Measurement.HASH_BYTES];
                lp.module.memory.read(hashPa, hash, 0, hash.length);
                binding.service(ServiceTdBinding.MIGRATION_TD, lp.reg(R10), hash);
                binding.state(State.PRE_BOUND);
            } finally {
                SharexHp.releaseExclusive(binding.lock());
            }
        }
    }
}
