package cloister.vmm.observe;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.vmx.ExitReason;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.Map;

/// What the registers of a call mean, by the names of the specification. [TDX-ABI "Host-Side (SEAMCALL) Interface Functions", "Guest-Side
/// (TDCALL) Interface Functions"; GHCI "TDG.VP.VMCALL Interface"]
public final class CallOperands {
    private static final int LEAF_MASK = 0xffff;
    private static final long LEVEL_MASK = 7;
    private static final long PAGE_MASK = 0xfff;
    private static final String[] LEVELS = {"4K", "2M", "1G", "512G", "256T"};
    private static final String[] REGISTERS = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
            "r13", "r14", "r15"};
    private static final Operand[] UNNAMED = operands("rcx=rcx rdx=rdx r8=r8 r9=r9");
    private static final Operand[] NONE = {};
    /// What functions on Secure EPT entries return when the entry is not as they need it.
    private static final Operand[] SEPT_ERROR = operands("sept_entry=rcx level_and_state=rdx");
    private static final Operand[] ASYNCHRONOUS_EXIT = operands("qualification=rcx extended_qualification=rdx gpa=r8 interruption=r9");

    private static final Map<SeamcallLeaf, Operand[]> SEAMCALL_IN = new EnumMap<>(SeamcallLeaf.class);
    private static final Map<SeamcallLeaf, Operand[]> SEAMCALL_OUT = new EnumMap<>(SeamcallLeaf.class);
    private static final Map<TdcallLeaf, Operand[]> TDCALL_IN = new EnumMap<>(TdcallLeaf.class);
    private static final Map<TdcallLeaf, Operand[]> TDCALL_OUT = new EnumMap<>(TdcallLeaf.class);
    private static final Map<Long, Operand[]> VMCALL_IN = new HashMap<>();
    private static final Map<Long, Operand[]> VMCALL_OUT = new HashMap<>();

    static {
        String mapping = "gpa+level=rcx tdr=rdx";
        seamcall(SeamcallLeaf.VP_ENTER, "tdvpr=rcx", "");
        seamcall(SeamcallLeaf.MNG_ADDCX, "tdcx=rcx tdr=rdx", "");
        seamcall(SeamcallLeaf.MEM_PAGE_ADD, mapping + " page=r8 source=r9", "");
        seamcall(SeamcallLeaf.MEM_SEPT_ADD, mapping + " page=r8", "");
        seamcall(SeamcallLeaf.VP_ADDCX, "tdcx=rcx tdvpr=rdx", "");
        seamcall(SeamcallLeaf.MEM_PAGE_RELOCATE, mapping + " page=r8", "old_page=rcx");
        seamcall(SeamcallLeaf.MEM_PAGE_AUG, mapping + " page=r8", "");
        seamcall(SeamcallLeaf.MEM_RANGE_BLOCK, mapping, "");
        seamcall(SeamcallLeaf.MNG_KEY_CONFIG, "tdr=rcx", "");
        seamcall(SeamcallLeaf.MNG_CREATE, "tdr=rcx hkid=rdx", "");
        seamcall(SeamcallLeaf.VP_CREATE, "tdvpr=rcx tdr=rdx", "");
        seamcall(SeamcallLeaf.MNG_RD, "tdr=rcx field=rdx", "next_field=rdx value=r8");
        seamcall(SeamcallLeaf.MEM_RD, "gpa=rcx tdr=rdx", "value=r8");
        seamcall(SeamcallLeaf.MNG_WR, "tdr=rcx field=rdx value=r8 mask=r9", "previous=r8");
        seamcall(SeamcallLeaf.MEM_WR, "gpa=rcx tdr=rdx value=r8", "previous=r8");
        seamcall(SeamcallLeaf.MEM_PAGE_DEMOTE, mapping + " sept_page=r8", "");
        seamcall(SeamcallLeaf.MR_EXTEND, "gpa=rcx tdr=rdx", "");
        seamcall(SeamcallLeaf.MR_FINALIZE, "tdr=rcx", "");
        seamcall(SeamcallLeaf.VP_FLUSH, "tdvpr=rcx", "");
        seamcall(SeamcallLeaf.MNG_VPFLUSHDONE, "tdr=rcx", "");
        seamcall(SeamcallLeaf.MNG_KEY_FREEID, "tdr=rcx", "");
        seamcall(SeamcallLeaf.MNG_INIT, "tdr=rcx td_params=rdx", "");
        seamcall(SeamcallLeaf.VP_INIT, "tdvpr=rcx guest_rcx=rdx x2apic_id=r8", "");
        seamcall(SeamcallLeaf.MEM_PAGE_PROMOTE, mapping, "sept_page=rcx");
        seamcall(SeamcallLeaf.PHYMEM_PAGE_RDMD, "page=rcx", "type=rcx owner=rdx size=r8 bepoch=r9");
        seamcall(SeamcallLeaf.MEM_SEPT_RD, mapping, "sept_entry=rcx level_and_state=rdx");
        seamcall(SeamcallLeaf.VP_RD, "tdvpr=rcx field=rdx", "next_field=rdx value=r8");
        seamcall(SeamcallLeaf.MNG_KEY_RECLAIMID, "tdr=rcx", "");
        seamcall(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, "page=rcx", "type=rcx owner=rdx size=r8");
        seamcall(SeamcallLeaf.MEM_PAGE_REMOVE, mapping, "page=rcx");
        seamcall(SeamcallLeaf.MEM_SEPT_REMOVE, mapping, "sept_page=rcx");
        seamcall(SeamcallLeaf.SYS_KEY_CONFIG, "", "");
        seamcall(SeamcallLeaf.SYS_INFO, "tdsysinfo=rcx bytes=rdx cmr_info=r8 cmrs=r9", "bytes=rdx cmrs=r9");
        seamcall(SeamcallLeaf.SYS_INIT, "attributes=rcx", "");
        seamcall(SeamcallLeaf.SYS_RD, "field=rdx", "next_field=rdx value=r8");
        seamcall(SeamcallLeaf.SYS_LP_INIT, "", "");
        seamcall(SeamcallLeaf.SYS_TDMR_INIT, "tdmr=rcx", "next=rdx");
        seamcall(SeamcallLeaf.MEM_TRACK, "tdr=rcx", "");
        seamcall(SeamcallLeaf.MEM_RANGE_UNBLOCK, mapping, "");
        seamcall(SeamcallLeaf.PHYMEM_CACHE_WB, "command=rcx", "");
        seamcall(SeamcallLeaf.PHYMEM_PAGE_WBINVD, "page=rcx", "");
        seamcall(SeamcallLeaf.VP_WR, "tdvpr=rcx field=rdx value=r8 mask=r9", "previous=r8");
        seamcall(SeamcallLeaf.SYS_LP_SHUTDOWN, "", "");
        seamcall(SeamcallLeaf.SYS_CONFIG, "tdmr_info_array=rcx tdmrs=rdx hkid=r8", "");

        tdcall(TdcallLeaf.VP_INFO, "", "gpaw=rcx attributes=rdx vcpus=r8 vcpu_index=r9");
        tdcall(TdcallLeaf.MR_RTMR_EXTEND, "data_gpa=rcx rtmr=rdx", "");
        tdcall(TdcallLeaf.VP_VEINFO_GET, "", "reason=rcx qualification=rdx gla=r8 gpa=r9 instruction=r10");
        tdcall(TdcallLeaf.MR_REPORT, "report_gpa=rcx data_gpa=rdx subtype=r8", "");
        tdcall(TdcallLeaf.VP_CPUIDVE_SET, "flags=rcx", "");
        tdcall(TdcallLeaf.MEM_PAGE_ACCEPT, "gpa+level=rcx", "");
        tdcall(TdcallLeaf.VM_RD, "field=rdx", "next_field=rdx value=r8");
        tdcall(TdcallLeaf.VM_WR, "field=rdx value=r8 mask=r9", "previous=r8");
        tdcall(TdcallLeaf.SYS_RD, "field=rdx", "next_field=rdx value=r8");

        vmcall(ExitReason.HLT, "interrupts_blocked=r12", "");
        vmcall(ExitReason.CPUID, "leaf=r12 subleaf=r13", "eax=r12 ebx=r13 ecx=r14 edx=r15");
        vmcall(ExitReason.IO_INSTRUCTION, "size=r12 write=r13 port=r14 value=r15", "value=r11");
        vmcall(ExitReason.RDMSR, "msr=r12", "value=r11");
        vmcall(ExitReason.WRMSR, "msr=r12 value=r13", "");
        vmcall(ExitReason.EPT_VIOLATION, "size=r12 write=r13 gpa=r14 value=r15", "value=r11");
        vmcall(ExitReason.WBINVD, "", "");
        vmcall(Tdvmcall.GET_TD_VM_CALL_INFO, "leaf=r12", "r11=r11 r12=r12 r13=r13 r14=r14");
        vmcall(Tdvmcall.MAP_GPA, "gpa=r12 bytes=r13", "failed_gpa=r11");
        vmcall(Tdvmcall.GET_QUOTE, "gpa=r12 bytes=r13", "");
        vmcall(Tdvmcall.REPORT_FATAL_ERROR, "code=r12 gpa=r13", "");
        vmcall(Tdvmcall.SETUP_EVENT_NOTIFY_INTERRUPT, "vector=r12", "");
    }

    /// Takes the operands of a call one by one.
    public interface Sink {
        /// A number, for people in hexadecimal.
        void number(String name, long value);

        /// A word.
        void word(String name, String value);
    }

    /// An operand in a register. One that is a page address with a level in its low bits is shown as two.
    private record Operand(String name, int register, boolean withLevel) {
    }

    private CallOperands() {
    }

    /// What a SEAMCALL was given.
    public static void ofSeamcall(long[] in, Sink sink) {
        var leaf = SeamcallLeaf.of((int) in[SeamRegs.RAX] & LEAF_MASK);
        show(leaf == null ? UNNAMED : SEAMCALL_IN.getOrDefault(leaf, UNNAMED), in, sink);
    }

    /// What a SEAMCALL returned beside its status.
    public static void ofSeamcallReturn(long[] in, long[] out, Sink sink) {
        var leaf = SeamcallLeaf.of((int) in[SeamRegs.RAX] & LEAF_MASK);
        long status = out[SeamRegs.RAX];
        if (leaf == SeamcallLeaf.VP_ENTER) {
            ofTdExit(status, out, sink);
        } else if (!TdxStatus.isError(status)) {
            show(leaf == null ? UNNAMED : SEAMCALL_OUT.getOrDefault(leaf, UNNAMED), out, sink);
        } else if (leaf != null && leaf.name().startsWith("MEM_") && hasSeptDetail(status)) {
            show(SEPT_ERROR, out, sink);
        }
    }

    private static boolean hasSeptDetail(long status) {
        var known = TdxStatus.of(status);
        return known != null && known.name().contains("EPT");
    }

    private static void ofTdExit(long status, long[] out, Sink sink) {
        if (TdxStatus.isError(status)) {
            return;
        }
        int reason = ExitReason.basic((int) status);
        sink.word("exit", ExitReason.name(reason));
        if (reason == ExitReason.TDCALL) {
            sink.word("vmcall", out[SeamRegs.R10] == 0 ? Tdvmcall.name(out[SeamRegs.R11]) : "VMCALL");
            ofVmcall(out, sink);
        } else {
            show(ASYNCHRONOUS_EXIT, out, sink);
        }
    }

    /// What a TDCALL was given.
    public static void ofTdcall(long[] in, Sink sink) {
        var leaf = TdcallLeaf.of((int) in[SeamRegs.RAX] & LEAF_MASK);
        if (leaf == TdcallLeaf.VP_VMCALL) {
            ofVmcall(in, sink);
        } else {
            show(leaf == null ? UNNAMED : TDCALL_IN.getOrDefault(leaf, UNNAMED), in, sink);
        }
    }

    private static void ofVmcall(long[] regs, Sink sink) {
        var named = regs[SeamRegs.R10] == 0 ? VMCALL_IN.get(regs[SeamRegs.R11]) : null;
        if (named == null) {
            for (int register = SeamRegs.R10; register <= SeamRegs.R15; register++) {
                sink.number(REGISTERS[register], regs[register]);
            }
        } else {
            show(named, regs, sink);
        }
    }

    /// What a TDCALL returned beside its status.
    public static void ofTdcallReturn(long[] in, long[] out, Sink sink) {
        var leaf = TdcallLeaf.of((int) in[SeamRegs.RAX] & LEAF_MASK);
        if (leaf == TdcallLeaf.VP_VMCALL) {
            boolean failed = out[SeamRegs.R10] != 0;
            boolean map = in[SeamRegs.R11] == Tdvmcall.MAP_GPA;
            boolean device = in[SeamRegs.R11] == ExitReason.IO_INSTRUCTION || in[SeamRegs.R11] == ExitReason.EPT_VIOLATION;
            boolean write = device && in[SeamRegs.R13] != 0;
            if (in[SeamRegs.R10] == 0 && failed == map && !write) { // the address where MapGPA stopped, the results of the others
                show(VMCALL_OUT.getOrDefault(in[SeamRegs.R11], NONE), out, sink);
            }
        } else if (!TdxStatus.isError(out[SeamRegs.RAX])) {
            show(leaf == null ? UNNAMED : TDCALL_OUT.getOrDefault(leaf, NONE), out, sink);
        }
    }

    /// The status of a SEAMCALL in words: `OPERAND_BUSY(SEPT_TREE)`.
    public static String statusOfSeamcall(long raw) {
        var status = TdxStatus.of(raw);
        if (status == null) {
            return "0x" + Long.toHexString(raw);
        }
        boolean operand = TdxStatus.isError(raw) && ((int) raw != 0 || status.name().startsWith("OPERAND_"));
        return operand ? status + "(" + OperandId.name((int) raw) + ")" : status.name();
    }

    /// The status of a TDCALL in words: that of a TDG.VP.VMCALL is the host's.
    public static String statusOfTdcall(long[] in, long[] out) {
        long raw = out[SeamRegs.RAX];
        if (((int) in[SeamRegs.RAX] & LEAF_MASK) != TdcallLeaf.VP_VMCALL.number() || TdxStatus.isError(raw)) {
            return statusOfSeamcall(raw);
        }
        long answer = out[SeamRegs.R10];
        if (answer == Tdvmcall.STATUS_SUCCESS) {
            return "SUCCESS";
        } else if (answer == Tdvmcall.STATUS_RETRY) {
            return "RETRY";
        } else if (answer == Tdvmcall.STATUS_INVALID_OPERAND) {
            return "INVALID_OPERAND";
        } else if (answer == Tdvmcall.STATUS_ALIGN_ERROR) {
            return "ALIGN_ERROR";
        } else if (answer == Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED) {
            return "SUBFUNC_UNSUPPORTED";
        }
        return "0x" + Long.toHexString(answer);
    }

    private static void show(Operand[] operands, long[] registers, Sink sink) {
        for (var operand : operands) {
            long value = registers[operand.register];
            if (operand.withLevel) {
                sink.number(operand.name, value & ~PAGE_MASK);
                long level = value & LEVEL_MASK;
                sink.word("level", level < LEVELS.length ? LEVELS[(int) level] : "" + level);
            } else {
                sink.number(operand.name, value);
            }
        }
    }

    private static void seamcall(SeamcallLeaf leaf, String in, String out) {
        SEAMCALL_IN.put(leaf, operands(in));
        SEAMCALL_OUT.put(leaf, operands(out));
    }

    private static void tdcall(TdcallLeaf leaf, String in, String out) {
        TDCALL_IN.put(leaf, operands(in));
        TDCALL_OUT.put(leaf, operands(out));
    }

    private static void vmcall(long subFunction, String in, String out) {
        VMCALL_IN.put(subFunction, operands(in));
        VMCALL_OUT.put(subFunction, operands(out));
    }

    private static Operand[] operands(String text) {
        if (text.isEmpty()) {
            return new Operand[0];
        }
        String[] words = text.split(" ");
        var result = new Operand[words.length];
        for (int i = 0; i < words.length; i++) {
            String[] parts = words[i].split("=");
            boolean withLevel = parts[0].endsWith("+level");
            result[i] = new Operand(withLevel ? parts[0].substring(0, parts[0].indexOf('+')) : parts[0], register(parts[1]), withLevel);
        }
        return result;
    }

    private static int register(String name) {
        for (int i = 0; i < REGISTERS.length; i++) {
            if (REGISTERS[i].equals(name)) {
                return i;
            }
        }
        throw new IllegalArgumentException(name);
    }
}
