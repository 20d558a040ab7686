package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.L2SeptEntry;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.exits.EptExits;

/// TDG.MEM.PAGE.ATTR.RD and .WR: how the L2 VMs of a TD may use a page. [TDX-TDP "Page Attributes"]
///
/// RDX holds 16 bits for each VM; bit 15 says that they are valid.
public final class PageAttributes {
    private static final int EEQ_GPA_DETAILS = 2;
    private static final int EEQ_ATTR_WR = 5;
    private static final int VMS = 4;
    private static final int PDPT = 2;
    private static final long PENDING = 1L << 62;
    private static final int VALID = 1 << 15;
    private static final int PRESENT = 0xf;
    private static final int R = 1;
    private static final int W = 1 << 1;
    private static final int PWA = 1 << 5;
    private static final int SVE = 1 << 7;
    private static final int RESERVED = 0x7f00;
    private static final int INVEPT = 1 << 15;
    private static final long WRITE_ACCESS = 1 << 1;
    private static final long VIOLATION_ON_L2_WALK = 1;

    private final LpState lp;
    private final Sept sept;
    private Sept.Slot slot;

    private PageAttributes(LpState lp) {
        this.lp = lp;
        this.sept = new Sept(lp.tdcs.memory, lp.tdr.keyId());
    }

    public static void read(LpState lp) throws LeafFailure {
        try {
            new PageAttributes(lp).read(lp.vcpu.gpr(RCX));
        } catch (LeafFailure e) {
            GuestCalls.clear(lp);
            throw e;
        }
    }

    public static void write(LpState lp) throws LeafFailure {
        try {
            new PageAttributes(lp).write(lp.vcpu.gpr(RCX), lp.vcpu.gpr(RDX), lp.vcpu.gpr(R8));
        } catch (LeafFailure e) {
            lp.vcpu.gpr(RCX, 0);
            if (!TdxStatus.PAGE_ATTR_INVALID.matches(e.status())) { // RDX shows the attributes then
                lp.vcpu.gpr(RDX, 0);
            }
            throw e;
        }
    }

    private static int of(long attributes, int vm) {
        return (int) (attributes >>> 16 * vm) & 0xffff;
    }

    private static long replace(long attributes, int vm, int value) {
        return attributes & ~(0xffffL << 16 * vm) | (long) value << 16 * vm;
    }

    private void lock() throws LeafFailure {
        long busy = Sept.lockEntryByGuest(lp, slot);
        if (busy != 0) {
            throw new LeafFailure(busy | OperandId.RCX);
        }
    }

    private void unlock() {
        slot.write(slot.read() & ~SeptEntry.LOCK);
    }

    private Sept.Slot l2(int vm, long gpa, int level) {
        return sept.walkL2GuestSide(lp.tdcs.septp(lp.tdr, vm), gpa, level);
    }

    private boolean isAliased(long entry, int vm) {
        return vm <= lp.tdcs.numL2Vms() && SeptEntry.isAliased(entry, vm);
    }

    private void read(long gpa) throws LeafFailure {
        if (!Gpa.isValid(gpa, lp.tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        slot = sept.walk(lp.tdcs.eptp(), gpa, 0);
        lock();
        try {
            long entry = slot.read();
            var state = SeptState.of(entry);
            if (!state.allows(TdcallLeaf.MEM_PAGE_ATTR_RD)) {
                throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, 0, 0, gpa);
            }
            int level = slot.level();
            long attributes = 0;
            for (int vm = 1; vm < VMS; vm++) {
                if (isAliased(entry, vm)) {
                    attributes = replace(attributes, vm,
                            L2SeptEntry.attributes(l2(vm, gpa, level).value(), state.anyBlockedw()));
                }
            }
            lp.vcpu.gpr(RCX, gpa & -Pamt.bytes(level) | level | (state.anyPending() ? PENDING : 0));
            lp.vcpu.gpr(RDX, attributes);
        } finally {
            unlock();
        }
    }

    private void write(long info, long attributes, long flags) throws LeafFailure {
        for (int vm = 0; vm < VMS; vm++) {
            boolean exists = vm > 0 && vm <= lp.tdcs.numL2Vms();
            int wanted = of(attributes, vm);
            if (wanted != 0 && (!exists || (wanted & VALID) == 0)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            if (!exists && of(flags, vm) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
            }
        }
        long gpa = Gpa.gpa(info);
        if (!Gpa.isPageInfo(info, 0, PDPT) || !Gpa.isValid(gpa, lp.tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        int level = Gpa.level(info);
        slot = sept.walk(lp.tdcs.eptp(), gpa, level);
        if (slot.level() != level) {
            throw EptExits.leafViolation(lp, EEQ_ATTR_WR, gpa, level, slot.value(), slot.level());
        }
        lock();
        try {
            long entry = slot.read();
            if (!SeptEntry.isLeaf(entry) && !SeptEntry.isFree(entry)) {
                throw new LeafFailure(TdxStatus.PAGE_SIZE_MISMATCH, level);
            }
            if (!SeptState.of(entry).allows(TdcallLeaf.MEM_PAGE_ATTR_WR)) {
                throw EptExits.leafViolation(lp, EEQ_ATTR_WR, gpa, level, entry, level);
            }
            long result = update(gpa, level, entry, attributes, flags);
            lp.vcpu.gpr(RCX, info | (SeptState.of(entry).anyPending() ? PENDING : 0));
            lp.vcpu.gpr(RDX, result);
        } finally {
            unlock();
        }
    }

    /// First combines old and new attributes of every VM and finds the L2 entries, then changes them.
    ///
    /// @return the attributes as they are then
    private long update(long gpa, int level, long entry, long attributes, long flags) throws LeafFailure {
        var slots = new Sept.Slot[VMS];
        long result = attributes;
        boolean legal = true;
        for (int vm = 1; vm <= lp.tdcs.numL2Vms(); vm++) {
            int mask = of(flags, vm) | VALID;
            int wanted = of(attributes, vm) & mask;
            if ((wanted & VALID) == 0) {
                continue;
            }
            int current = 0;
            if (isAliased(entry, vm)) {
                slots[vm] = l2(vm, gpa, level);
                current = L2SeptEntry.attributes(slots[vm].value(), SeptState.of(entry).anyBlockedw());
                wanted |= current & ~mask;
                result = replace(result, vm, wanted);
            }
            if ((wanted & PRESENT) == 0) {
                continue;
            }
            if (!isLegal(wanted)) {
                legal = false;
                result = replace(result, vm, current);
            } else if (slots[vm] == null) {
                result = replace(result, vm, wanted);
                slots[vm] = existing(vm, gpa, level);
            }
        }
        if (!legal) {
            lp.vcpu.gpr(RDX, result);
            throw new LeafFailure(TdxStatus.PAGE_ATTR_INVALID);
        }
        return commit(entry, slots, result, flags);
    }

    private static boolean isLegal(int attributes) {
        return (attributes & (RESERVED | SVE)) == 0 && ((attributes & (W | PWA)) == 0 || (attributes & R) != 0);
    }

    /// The L2 entry for a new alias; the host must have given the tables.
    private Sept.Slot existing(int vm, long gpa, int level) throws LeafFailure {
        var found = l2(vm, gpa, level);
        if (found.level() != level) {
            if ((lp.tdcs.vmCtls(vm) & VIOLATION_ON_L2_WALK) == 0) {
                throw new LeafFailure(TdxStatus.L2_SEPT_WALK_FAILED, vm << 16 | found.level());
            }
            long value = found.value();
            long qualification = WRITE_ACCESS | (value & SeptEntry.RWX) << 3 | (value & SeptEntry.XU) >>> 4;
            long details = (long) found.level() << 3 | (long) vm << 20;
            throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, qualification, EEQ_GPA_DETAILS | details << 32, gpa);
        }
        return found;
    }

    private long commit(long entry, Sept.Slot[] slots, long attributes, long flags) {
        long result = attributes;
        for (int vm = 1; vm <= lp.tdcs.numL2Vms(); vm++) {
            int wanted = of(result, vm);
            if (isAliased(entry, vm) && (wanted & VALID) != 0) {
                if ((wanted & PRESENT) != 0) {
                    slots[vm].write(L2SeptEntry.withAttributes(slots[vm].value(), wanted));
                } else {
                    slots[vm].write(SeptEntry.L2_INIT);
                    slot.write(SeptEntry.withoutAlias(slot.read(), vm));
                    result = replace(result, vm, VALID);
                }
            } else if (slots[vm] != null) {
                slots[vm].write(L2SeptEntry.leaf(slots[vm].value(), SeptEntry.pa(entry), wanted,
                        SeptState.of(entry).anyPending()));
                slot.write(SeptEntry.withAlias(slot.read(), vm));
            }
            if ((of(flags, vm) & INVEPT) != 0) {
                lp.cpu.invept(lp.tdcs.septp(lp.tdr, vm));
            }
        }
        return result;
    }
}
