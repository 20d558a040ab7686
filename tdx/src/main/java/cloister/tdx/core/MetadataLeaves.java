package cloister.tdx.core;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;

/// Metadata leaf functions of the host and of the guest. [TDX-ABI "Metadata Access Interface Functions"]
public final class MetadataLeaves {
    private static final int LIST_PAGE = 4096;

    private MetadataLeaves() {
    }

    /// Where the result of a read goes.
    private interface Registers {
        void set(int register, long value);
    }

    private static void read(Metadata metadata, long id, boolean iterate, Registers out) throws LeafFailure {
        if (iterate && FieldId.isNone(id)) {
            out.set(RDX, metadata.next(FieldId.NONE));
            throw new LeafFailure(TdxStatus.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
        }
        long value = metadata.read(id);
        if (iterate) {
            out.set(RDX, metadata.next(id));
        }
        out.set(R8, value);
    }

    // Host

    public static void sysRead(LpState lp, int version) throws LeafFailure {
        long id = lp.reg(RDX);
        lp.reg(RDX, FieldId.NONE);
        lp.reg(R8, 0);
        if (!lp.initialized) {
            throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_DONE);
        }
        read(new SysMetadata(lp.module, FieldAccess.HOST_READ), id, true, lp::reg);
    }

    public static void sysReadAll(LpState lp, int version) throws LeafFailure {
        long id = lp.reg(R8);
        lp.reg(R8, FieldId.NONE);
        if (!lp.initialized) {
            throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_DONE);
        }
        lp.module.requireShared(lp.reg(RDX), LIST_PAGE, OperandId.RDX);
        long next = new SysMetadata(lp.module, FieldAccess.HOST_READ).dump(lp.module.memory, lp.reg(RDX), id);
        lp.reg(R8, next);
        if (!FieldId.isNone(next)) {
            throw new LeafFailure(TdxStatus.METADATA_LIST_OVERFLOW);
        }
    }

    public static void mngRead(LpState lp, int version) throws LeafFailure {
        long id = lp.reg(RDX);
        if (version > 0) {
            lp.reg(RDX, FieldId.NONE);
        }
        lp.reg(R8, 0);
        if (version > 1) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.MNG_RD)) {
            read(new TdMetadata(module, FieldAccess.HOST_READ, td.tdr(), td.tdcs()), id, version > 0, lp::reg);
        }
    }

    public static void mngWrite(LpState lp, int version) throws LeafFailure {
        long value = lp.reg(R8);
        lp.reg(R8, 0);
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.MNG_WR)) {
            var metadata = new TdMetadata(module, FieldAccess.HOST_WRITE, td.tdr(), td.tdcs());
            lp.reg(R8, metadata.write(lp.reg(RDX), value, lp.reg(R9)));
        }
    }

    public static void vpRead(LpState lp, int version) throws LeafFailure {
        long id = lp.reg(RDX);
        if (version > 0) {
            lp.reg(RDX, FieldId.NONE);
        }
        lp.reg(R8, 0);
        if (version > 1) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        withVcpu(lp, FieldAccess.HOST_READ, metadata -> read(metadata, id, version > 0, lp::reg));
    }

    public static void vpWrite(LpState lp, int version) throws LeafFailure {
        long value = lp.reg(R8);
        lp.reg(R8, 0);
        withVcpu(lp, FieldAccess.HOST_WRITE, metadata -> lp.reg(R8, metadata.write(lp.reg(RDX), value, lp.reg(R9))));
    }

    private interface VcpuAction {
        void run(VpMetadata metadata) throws LeafFailure;
    }

    private static void withVcpu(LpState lp, FieldAccess access, VcpuAction action) throws LeafFailure {
        var module = lp.module;
        try (var tdvpr = module.lockTdvpr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var tdrPage = module.lockOwner(lp, tdvpr, LockMode.SHARED);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED,
                        access.isWrite() ? SeamcallLeaf.VP_WR : SeamcallLeaf.VP_RD)) {
            var vcpu = Tdvps.whole(module.memory, tdvpr.pa(), td.tdr().keyId(), td.tdcs().numL2Vms());
            if (vcpu == null) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            Association.associate(lp, td.tdcs(), vcpu, !access.isWrite());
            action.run(new VpMetadata(lp, access, td.tdr(), td.tdcs(), vcpu));
        }
    }

    // Guest

    public static void guestSysRead(LpState lp) throws LeafFailure {
        long id = lp.vcpu.gpr(RDX);
        lp.vcpu.gpr(RDX, FieldId.NONE);
        lp.vcpu.gpr(R8, 0);
        read(new SysMetadata(lp.module, FieldAccess.GUEST_READ), id, true, lp.vcpu::gpr);
    }

    public static void guestSysReadAll(LpState lp) throws LeafFailure {
        long gpa = lp.vcpu.gpr(RDX);
        long id = lp.vcpu.gpr(R8);
        lp.vcpu.gpr(R8, FieldId.NONE);
        if ((gpa & LIST_PAGE - 1) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        long hpa = GuestMemory.operand(lp, gpa, GuestMemory.WRITE, true, OperandId.RDX);
        long next = new SysMetadata(lp.module, FieldAccess.GUEST_READ).dump(lp.module.memory, hpa, id);
        lp.vcpu.gpr(R8, next);
        if (!FieldId.isNone(next)) {
            throw new LeafFailure(TdxStatus.METADATA_LIST_OVERFLOW);
        }
    }

    private static void requireOwnVm(LpState lp) throws LeafFailure {
        if (lp.vcpu.gpr(RCX) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
    }

    public static void guestVmRead(LpState lp, int version) throws LeafFailure {
        long id = lp.vcpu.gpr(RDX);
        if (version > 0) {
            lp.vcpu.gpr(RDX, FieldId.NONE);
        }
        lp.vcpu.gpr(R8, 0);
        if (version > 1) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        requireOwnVm(lp);
        read(new TdMetadata(lp.module, FieldAccess.GUEST_READ, lp.tdr, lp.tdcs), id, version > 0, lp.vcpu::gpr);
    }

    public static void guestVmWrite(LpState lp) throws LeafFailure {
        long value = lp.vcpu.gpr(R8);
        lp.vcpu.gpr(R8, 0);
        requireOwnVm(lp);
        var metadata = new TdMetadata(lp.module, FieldAccess.GUEST_WRITE, lp.tdr, lp.tdcs);
        lp.vcpu.gpr(R8, metadata.write(lp.vcpu.gpr(RDX), value, lp.vcpu.gpr(R9)));
    }

    public static void guestVpRead(LpState lp) throws LeafFailure {
        long id = lp.vcpu.gpr(RDX);
        lp.vcpu.gpr(RDX, FieldId.NONE);
        lp.vcpu.gpr(R8, 0);
        requireOwnVm(lp);
        read(new VpMetadata(lp, FieldAccess.GUEST_READ, lp.tdr, lp.tdcs, lp.vcpu), id, true, lp.vcpu::gpr);
    }

    public static void guestVpWrite(LpState lp) throws LeafFailure {
        long value = lp.vcpu.gpr(R8);
        lp.vcpu.gpr(R8, 0);
        requireOwnVm(lp);
        var metadata = new VpMetadata(lp, FieldAccess.GUEST_WRITE, lp.tdr, lp.tdcs, lp.vcpu);
        lp.vcpu.gpr(R8, metadata.write(lp.vcpu.gpr(RDX), value, lp.vcpu.gpr(R9)));
    }
}
