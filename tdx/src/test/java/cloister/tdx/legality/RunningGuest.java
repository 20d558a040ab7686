package cloister.tdx.legality;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Tdvps;
import cloister.tdx.port.Vmcs;
import java.util.Map;
import java.util.TreeMap;

/// A guest of the recordings on LP 0, which a test lets exit, and what came of it in words.
final class RunningGuest implements AutoCloseable {
    static final int VE = 20;
    private static final int FIXED_CTR0 = 0x309;
    private static final int DEFAULT_LENGTH = 4;
    private static final String[] NAMES = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15"};
    private static final VmcsField[] EXIT_INFORMATION = {VmcsField.EXIT_QUALIFICATION, VmcsField.GUEST_PHYSICAL_ADDRESS,
        VmcsField.GUEST_LINEAR_ADDRESS, VmcsField.EXIT_INTERRUPTION_INFO, VmcsField.EXIT_INTERRUPTION_ERROR_CODE,
        VmcsField.EXIT_INSTRUCTION_INFO, VmcsField.IDT_VECTORING_INFO, VmcsField.IDT_VECTORING_ERROR_CODE};

    final RecordedTd td;
    /// The VMCS of the VCPU, also after a TD exit.
    Vmcs vmcs;
    Tdvps vcpu;

    /// @param setup a setup of the recordings that ends in the guest
    RunningGuest(String setup) {
        td = new RecordedTd("{\"op\":\"include\",\"file\":\"setup/" + setup + ".jsonl\"}");
        bind();
    }

    void powerOn() {
        td.powerOn();
        bind();
    }

    private void bind() {
        vmcs = td.machine.core.vmcs(td.machine.cpus[0]);
        vcpu = Tdvps.whole(td.machine.memory, RecordedTd.TDVPR, td.tdr.keyId(), td.tdcs.numL2Vms());
    }

    long[] gpr() {
        return td.machine.cpus[0].registers();
    }

    /// The VMM's registers.
    long[] host() {
        return td.machine.hostRegisters(0).array();
    }

    /// TDH.VP.ENTER without flags; RAX.
    long enter() {
        return enter(RecordedTd.TDVPR);
    }

    long enter(long rcx) {
        var regs = new SeamRegs();
        regs.set(SeamRegs.RCX, rcx);
        td.machine.seamcall(0, regs);
        return regs.get(SeamRegs.RAX);
    }

    boolean runs() {
        return td.machine.inGuest(0);
    }

    /// So much time and so many instructions since the entry that no exit looks like single-stepping.
    void runAWhile() {
        td.machine.cpus[0].msr(FIXED_CTR0, 1000);
        td.machine.clock.tsc += 1 << 20;
    }

    /// A VM exit with all information fields zero except those given; instruction length 4 unless given.
    String exit(long reason, Map<VmcsField, Long> information) {
        for (var field : EXIT_INFORMATION) {
            vmcs.write(field, 0);
        }
        vmcs.write(VmcsField.EXIT_REASON, reason);
        vmcs.write(VmcsField.EXIT_INSTRUCTION_LENGTH, DEFAULT_LENGTH);
        information.forEach(vmcs::write);
        long rip = vmcs.read(VmcsField.GUEST_RIP);
        try {
            td.machine.vmExit(0);
        } catch (ModuleHalt halt) {
            return "halt";
        }
        return runs() ? event(vmcs.read(VmcsField.GUEST_RIP) - rip) : hostRegisters();
    }

    private String event(long advance) {
        long info = vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
        if (info == 0) {
            return "rip+" + advance;
        }
        var error = (info & (1 << 11)) != 0 ? "(" + vmcs.read(VmcsField.ENTRY_EXCEPTION_ERROR_CODE) + ")" : "";
        var name = switch ((int) info & 0xff) {
            case 2 -> "nmi";
            case 6 -> "ud";
            case 8 -> "df";
            case 13 -> "gp";
            case 14 -> "pf";
            case VE -> "ve";
            default -> Long.toString(info & 0xff);
        };
        return name + error + (advance != 0 ? " rip+" + advance : "");
    }

    /// The registers of a TD exit that are not 0, but RAX always.
    private String hostRegisters() {
        var shown = new TreeMap<String, String>();
        long[] regs = host();
        for (int i = 1; i < 16; i++) {
            if (regs[i] != 0) {
                shown.put(NAMES[i], Long.toHexString(regs[i]));
            }
        }
        return "exit " + Long.toHexString(regs[0]) + (shown.isEmpty() ? "" : " " + shown);
    }

    /// The exception was delivered, and its #VE information read.
    void take() {
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
        vcpu.u32(Tdvps.VE_VALID, 0);
    }

    @Override public void close() {
        td.close();
    }
}
