package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.RAX;
import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Bits256;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockedPage;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.ServiceTdBinding;
import cloister.tdx.core.SharexHp;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.TdInfo;
import cloister.tdx.core.TdMetadata;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.exits.TdExit;
import java.util.Arrays;

/// The TD that TDG.SERVTD.RD and TDG.SERVTD.WR act on: named by a binding handle in RCX and its UUID in R10 to R13.
/// [TDX-BASE "Service TD Binding"]
///
/// What is wrong with the target is for the VMM to see: a cross-TD trap, a TD exit with the status in RDX.
final class TargetTd {
    /// What a service TD does with the target's fields.
    interface Operation {
        void run(TdMetadata metadata) throws LeafFailure;
    }

    private static final int SLOT = 0xfff;
    private static final long NO_TRAP = 0;

    private final LpState lp;
    private final TdcallLeaf leaf;
    private final FieldAccess access;
    private final Operation operation;
    private final int slot;

    private TargetTd(LpState lp, TdcallLeaf leaf, FieldAccess access, Operation operation, int slot) {
        this.lp = lp;
        this.leaf = leaf;
        this.access = access;
        this.operation = operation;
        this.slot = slot;
    }

    static void access(LpState lp, TdcallLeaf leaf, FieldAccess access, Operation operation) throws LeafFailure {
        long handle = lp.vcpu.gpr(RCX) - lp.tdr.u64(Tdr.TD_UUID);
        int slot = (int) handle & SLOT;
        if (slot >= ServiceTdBinding.SLOTS) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        long targetPa = handle & SeptEntry.HPA;
        long trap = new TargetTd(lp, leaf, access, operation, slot).withTdr(targetPa);
        if (trap != NO_TRAP) {
            lp.vcpu.gpr(RAX, trap);
            throw TdExit.asyncExactly(lp, TdxStatus.CROSS_TD_TRAP, 0, 0, trap, targetPa, 0);
        }
    }

    /// @return the status of a cross-TD trap, or none
    private long withTdr(long targetPa) throws LeafFailure {
        LockedPage page;
        try {
            page = lp.module.pamt.lockByGuest(lp, targetPa, PageType.TDR, OperandId.TDR);
        } catch (LeafFailure failure) {
            return trapUnlessBusy(failure);
        }
        try (page) {
            return withTdcs(lp.module.tdr(targetPa));
        }
    }

    private long withTdcs(Tdr tdr) throws LeafFailure {
        TdAccess td;
        try {
            td = TdAccess.openByServiceTd(lp, tdr, leaf);
        } catch (LeafFailure failure) {
            return trapUnlessBusy(failure);
        }
        try (td) {
            requireUuid(td);
            var binding = new ServiceTdBinding(td.tdcs());
            long busy = SharexHp.tryShared(lp, binding.lock(), true);
            if (busy != 0) {
                throw new LeafFailure(busy | OperandId.SERVTD_BINDINGS);
            }
            try {
                return withBinding(td, binding);
            } finally {
                SharexHp.releaseShared(binding.lock());
            }
        }
    }

    /// A lock that is held is the caller's to try again, but not one that the host waits for.
    private static long trapUnlessBusy(LeafFailure failure) throws LeafFailure {
        if (TdxStatus.OPERAND_BUSY.matches(failure.status())) {
            throw failure;
        }
        return failure.status();
    }

    /// A TD that was imported after it was bound has another UUID than the service TD knows; the service TD is told.
    private void requireUuid(TdAccess td) throws LeafFailure {
        var vcpu = lp.vcpu;
        var known = new Bits256(vcpu.gpr(R10), vcpu.gpr(R10 + 1), vcpu.gpr(R10 + 2), vcpu.gpr(R10 + 3));
        var actual = Bits256.of(td.tdr(), Tdr.TD_UUID);
        if (known.equals(actual)) {
            return;
        }
        if (!known.equals(Bits256.of(td.tdcs(), Tdcs.PRE_IMPORT_UUID))) {
            throw new LeafFailure(TdxStatus.TARGET_UUID_MISMATCH);
        }
        vcpu.gpr(R10, actual.w0());
        vcpu.gpr(R10 + 1, actual.w1());
        vcpu.gpr(R10 + 2, actual.w2());
        vcpu.gpr(R10 + 3, actual.w3());
        throw new LeafFailure(TdxStatus.TARGET_UUID_UPDATED);
    }

    private long withBinding(TdAccess td, ServiceTdBinding binding) throws LeafFailure {
        if (binding.state() != ServiceTdBinding.State.BOUND) {
            return TdxStatus.SERVTD_NOT_BOUND.with(slot);
        }
        if (!binding.uuid().equals(Bits256.of(lp.tdr, Tdr.TD_UUID))) {
            return TdxStatus.SERVTD_UUID_MISMATCH.code();
        }
        var self = TdInfo.of(lp, lp.tdcs, ServiceTdBinding.ignored(binding.attributes()), true);
        if (!Arrays.equals(self.hash(), binding.infoHash())) {
            return TdxStatus.SERVTD_INFO_HASH_MISMATCH.code();
        }
        operation.run(new TdMetadata(lp.module, access, td.tdr(), td.tdcs(), lp.cpu::rdseed));
        return NO_TRAP;
    }
}
