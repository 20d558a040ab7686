package cloister.tdx.dispatch;

import cloister.memory.PhysicalMemory;
import cloister.memory.Poison;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Inspection;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockWord;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.Transition;
import cloister.tdx.exits.VmExit;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.port.Processor;
import cloister.tdx.port.Vmcs;
import cloister.tdx.seamcall.HostLeaves;
import cloister.tdx.seamcall.VpEnter;
import java.util.Arrays;

/// The module's two entry points, without the processor between them: a SEAMCALL of the VMM and a VM exit of a TD.
public final class SeamCore {
    private static final long RESERVED = ~0xff_ffffL;

    public final ModuleState module;
    /// By number; null for one that has not called yet.
    private LpState[] lps = new LpState[0];

    /// The module just loaded.
    public SeamCore(PhysicalMemory memory, PlatformInfo platform) {
        this.module = new ModuleState(memory, platform);
    }

    public LpState lp(Processor cpu) {
        int number = cpu.lp();
        if (number < lps.length && lps[number] != null) {
            return lps[number];
        }
        return firstCall(cpu, number);
    }

    private synchronized LpState firstCall(Processor cpu, int number) {
        if (number >= lps.length) {
            lps = Arrays.copyOf(lps, number + 1);
        }
        lps[number] = new LpState(module, cpu);
        return lps[number];
    }

    /// SEAMCALL.
    ///
    /// @return true when TDH.VP.ENTER wants the guest of [#vmcs] to run; false when `regs` hold the result
    public boolean call(Processor cpu, SeamRegs regs) {
        var lp = lp(cpu);
        lp.regs = regs;
        lp.host.enterModule();
        module.busyLps++;
        boolean entered = false;
        try {
            entered = dispatch(lp, regs.get(SeamRegs.RAX));
            return entered;
        } catch (Poison poison) {
            throw corrupted(poison);
        } finally {
            if (!entered) {
                leave(lp);
            }
        }
    }

    /// A machine check in SEAM mode is the end of the platform.
    private static ModuleHalt corrupted(Poison poison) {
        return new ModuleHalt("private memory is corrupted: " + poison.getMessage());
    }

    private void leave(LpState lp) {
        module.busyLps--;
        lp.host.leaveModule();
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
        boolean resume;
        try {
            resume = VmExit.handle(lp);
        } catch (Poison poison) {
            throw corrupted(poison);
        }
        if (!resume) {
            leave(lp);
        }
        return resume;
    }

    /// What the module knows now. Called while no other thread runs the module.
    public ModuleSnapshot inspect() {
        return Inspection.of(module, Arrays.stream(lps).filter(lp -> lp != null).toList());
    }

    /// The lock of a page.
    public LockWord pageLock(long pa) {
        return module.pamt.lockOf(pa);
    }

    private boolean dispatch(LpState lp, long rax) {
        int version = (int) (rax >>> 16) & 0xff;
        try {
            var leaf = check(rax, version);
            if (leaf == SeamcallLeaf.VP_ENTER) {
                return VpEnter.run(lp);
            }
            HostLeaves.of(leaf).call(lp, version);
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
        if ((rax & RESERVED) != 0 || (version > 0 && !hasVersions(leaf))) {
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
}
