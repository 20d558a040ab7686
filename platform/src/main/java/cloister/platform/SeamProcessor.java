package cloister.platform;

import cloister.cpu.HostFault;
import cloister.cpu.LogicalProcessor;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.cpu.vmx.VmxStatus;
import cloister.sim.Entropy;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.port.ExtendedState;
import cloister.tdx.port.Processor;
import cloister.tdx.port.Vmcs;
import java.util.Locale;

/// A logical processor in SEAM root mode, as the TDX module asks for it.
final class SeamProcessor implements Processor {
    private static final VmcsField[] FIELDS = VmcsField.values();

    private final LogicalProcessor lp;
    private final Scheduler scheduler;
    private final Entropy entropy;
    private final SeamSeal seal;
    private final SeamVmcs seamVmcs;
    private final FpuArea fpu = new FpuArea();

    SeamProcessor(LogicalProcessor lp, Scheduler scheduler, Entropy entropy, SeamSeal seal) {
        this.lp = lp;
        this.scheduler = scheduler;
        this.entropy = entropy;
        this.seal = seal;
        this.seamVmcs = new SeamVmcs(lp.seamTransferVmcs(FirmwareAccess.SEAM));
    }

    /// The port's face of a VMCS.
    private record SeamVmcs(cloister.cpu.vmx.Vmcs vmcs) implements Vmcs {
        @Override public long read(VmcsField field) {
            return vmcs.read(field);
        }

        @Override public void write(VmcsField field, long value) {
            vmcs.write(field, value);
        }
    }

    @Override public int lp() {
        return lp.index();
    }

    @Override public Vmcs newVmcs(long pa) {
        var vmcs = new cloister.cpu.vmx.Vmcs(pa);
        vmcs.write(VmcsField.VMCS_LINK_POINTER, 0);
        return new SeamVmcs(vmcs);
    }

    @Override public Vmcs seamVmcs() {
        return seamVmcs;
    }

    @Override public void enter(Vmcs port) {
        var vmcs = ((SeamVmcs) port).vmcs();
        if (vmcs.read(VmcsField.HOST_CS_SELECTOR) == 0) {
            copyHostArea(vmcs);
        }
        var status = lp.enter(FirmwareAccess.SEAM, vmcs, !vmcs.launched());
        if (status != VmxStatus.SUCCEED) {
            throw new IllegalStateException(String.format(Locale.ROOT, "TD VM entry refused on LP %d: VM-instruction error %d", lp.index(),
                    vmcs.read(VmcsField.VM_INSTRUCTION_ERROR)));
        }
    }

    /// The module's own state, which every exit of a TD loads.
    private void copyHostArea(cloister.cpu.vmx.Vmcs vmcs) {
        for (var field : FIELDS) {
            if (field.type() == VmcsField.Type.HOST_STATE) {
                vmcs.write(field, lp.seamTransferVmcs(FirmwareAccess.SEAM).read(field));
            }
        }
    }

    @Override public void clear(Vmcs port) {
        ((SeamVmcs) port).vmcs().clear();
    }

    @Override public long[] registers() {
        return lp.gprs();
    }

    @Override public long cr2() {
        return lp.cr2();
    }

    @Override public void cr2(long value) {
        lp.cr2(value);
    }

    @Override public long debugRegister(int index) {
        return lp.dr(index);
    }

    @Override public void debugRegister(int index, long value) {
        lp.dr(index, value);
    }

    @Override public long xcr0() {
        return lp.xcr0();
    }

    @Override public void xcr0(long value) {
        lp.xcr0(value);
    }

    @Override public void saveExtendedState(ExtendedState state, long mask) {
        fpu.save(lp, state, mask);
    }

    @Override public boolean loadExtendedState(ExtendedState state, long mask) {
        return fpu.load(lp, state, mask);
    }

    @Override public void resetExtendedState(long mask) {
        lp.resetComponents(mask);
    }

    @Override public long xmmLow(int index) {
        return lp.fpu().xmm[2 * index];
    }

    @Override public long xmmHigh(int index) {
        return lp.fpu().xmm[2 * index + 1];
    }

    @Override public void xmm(int index, long low, long high) {
        lp.fpu().xmm[2 * index] = low;
        lp.fpu().xmm[2 * index + 1] = high;
    }

    @Override public long rdmsr(int msr) {
        try {
            return lp.rdmsr(msr);
        } catch (HostFault absent) {
            return 0;
        }
    }

    @Override public boolean wrmsr(int msr, long value) {
        try {
            lp.wrmsr(msr, value);
            return true;
        } catch (HostFault fault) {
            return !lp.hasMsr(msr);
        }
    }

    @Override public void cpuid(int leaf, int subleaf, int[] out) {
        lp.cpuid(leaf, subleaf, out);
    }

    @Override public int programKey(int keyId) {
        lp.memory(FirmwareAccess.SEAM).forgetKey(keyId);
        return 0;
    }

    @Override public long tsc() {
        return lp.rdtsc();
    }

    @Override public long rdrand() {
        return entropy.nextLong();
    }

    @Override public long rdseed() {
        return entropy.nextLong();
    }

    @Override public void invept(long eptp) {
        lp.invept(Ept.INVEPT_SINGLE_CONTEXT, eptp);
    }

    @Override public void inveptGlobal() {
        lp.invept(Ept.INVEPT_ALL_CONTEXTS, 0);
    }

    @Override public boolean interruptPending() {
        return lp.interruptPending();
    }

    @Override public byte[] seamReport(byte[] type, byte[] reportData, byte[] teeInfoHash) {
        return seal.report(type, reportData, teeInfoHash);
    }

    @Override public int seamVerifyReport(byte[] reportMacStruct) {
        return seal.verify(reportMacStruct);
    }

    @Override public void switchPoint(Object owner, long where) {
        scheduler.switchPoint(SwitchPoint.TRY_LOCK, owner, where);
    }

    @Override public void locked(Object owner, long where) {
        scheduler.locked(owner, where);
    }
}
