package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Association;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.VpMetadata;

/// What stands around the host's access to a field of a VCPU: locks, checks, and the association with this LP, which remains when
/// the access itself fails.
final class VcpuFields {
    private VcpuFields() {
    }

    /// What a leaf function does with the fields.
    interface Access {
        void run(VpMetadata fields) throws LeafFailure;
    }

    /// Gives `action` the fields of the VCPU whose TDVPR is in RCX. The VCPU may be disabled if the access is a read.
    static void access(LpState lp, SeamcallLeaf leaf, FieldAccess access, Access action) throws LeafFailure {
        var module = lp.module;
        try (var tdvpr = module.lockTdvpr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var tdrPage = module.lockOwner(lp, tdvpr, LockMode.SHARED);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED, leaf)) {
            var vcpu = Tdvps.whole(module.memory, tdvpr.pa(), td.tdr().keyId(), td.tdcs().numL2Vms());
            if (vcpu == null) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            Association.associate(lp, td.tdcs(), vcpu, !access.isWrite());
            action.run(new VpMetadata(lp, access, td.tdr(), td.tdcs(), vcpu));
        }
    }
}
