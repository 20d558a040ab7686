package cloister.tdx.replay;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxReturn;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.PageType;
import cloister.tdx.core.SeptEntry;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/// Steps and differences of the vectors in the specification's words.
final class VectorWords {
    private static final int LONGEST_STEP = 240;
    private static final int HINT = 60;
    private static final List<FieldTable> TABLES = List.of(FieldTable.SYS, FieldTable.TD, FieldTable.VP);
    private static final List<String> CONTEXTS = List.of("SYS", "TD", "VP");
    private static final List<String> LEVELS = List.of("4K", "2M", "1G", "512G", "256T");
    private static final List<String> EVENT_TYPES = List.of("interrupt", "reserved", "NMI", "exception", "software interrupt",
            "privileged software exception", "software exception", "other");
    private static final List<String> EXIT_KEYS = List.of("qual", "gpa", "gla", "intr", "ierr", "info", "idtv", "idte", "rip", "insts");

    private VectorWords() {
    }

    private static boolean isHostCall(Step step) {
        return step.has("op") && step.op().equals("seamcall");
    }

    private static boolean isGuestCall(Step step) {
        return step.has("op") && step.op().equals("tdcall");
    }

    private static int leafNumber(Step step) {
        return (int) (step.has("rax") ? step.required("rax") : step.word("leaf")) & 0xffff;
    }

    private static SeamcallLeaf hostLeaf(Step step) {
        return SeamcallLeaf.of(leafNumber(step));
    }

    private static TdcallLeaf guestLeaf(Step step) {
        return TdcallLeaf.of(leafNumber(step));
    }

    private static String leafName(Step step) {
        if (isHostCall(step)) {
            return hostLeaf(step) == null ? "SEAMCALL leaf " + leafNumber(step) : hostLeaf(step).specificationName();
        }
        return guestLeaf(step) == null ? "TDCALL leaf " + leafNumber(step) : guestLeaf(step).specificationName();
    }

    /// What the step does: for a call its leaf, processor and input. Never fails: it is said of steps that are malformed, too.
    static String step(Step step) {
        try {
            return words(step);
        } catch (Step.Malformed e) {
            return abridged(step);
        }
    }

    private static String abridged(Step step) {
        var json = step.json().toString();
        return json.length() > LONGEST_STEP ? json.substring(0, LONGEST_STEP) + "..." : json;
    }

    private static String words(Step step) {
        if (isHostCall(step) || isGuestCall(step)) {
            return call(step);
        }
        return switch (step.op()) {
            case "td_exit" -> exit(step);
            case "flip_sweep" -> (step.text("phase").equals("lpinit") ? SeamcallLeaf.SYS_LP_INIT : SeamcallLeaf.SYS_INIT)
                    .specificationName() + " with single bits inverted of " + (step.has("msr") ? "MSR " + step.text("msr")
                    : "CPUID(" + step.text("leaf") + ", " + step.text("sub") + ")." + step.text("reg").toUpperCase(Locale.ROOT));
            case "init_sweep" -> "TDH.MNG.INIT with single bits set at " + step.text("pa") + " (CPUID configuration " + step.word("entry")
                    + ", register " + step.word("reg") + ") of TD_PARAMS";
            case "cpuid" -> "guest CPUID(" + step.text("leaf") + ", " + hex(step.word("sub")) + ") on LP " + step.word("lp");
            case "msr_sweep" -> "guest " + (step.text("acc").equals("wr") ? "WRMSR of 0" : "RDMSR") + " of many MSRs on LP "
                    + step.word("lp");
            case "wrmsr" -> "guest WRMSR " + step.text("msr") + " of " + step.text("value") + " on LP " + step.word("lp");
            case "mov_cr" -> "guest MOV to CR" + step.word("cr") + " of " + step.text("value") + " on LP " + step.word("lp");
            case "host_write", "guest_write" -> (step.has("gpa") ? "write of the guest's memory at GPA " + hex(step.required("gpa"))
                    : "write of memory at " + hex(step.required("pa"))) + size(step);
            case "expect_mem", "expect_guest_mem" -> (step.has("gpa") ? "the guest's memory at GPA " + hex(step.required("gpa"))
                    : "memory at " + hex(step.required("pa"))) + size(step);
            case "hold_lock", "release_lock" -> step.op().replace('_', ' ') + " " + step.text("lock") + " " + step.text("mode")
                    + (step.has("gpa") ? " of GPA " + hex(step.required("gpa")) : "");
            case "xsetbv" -> "guest XSETBV of " + step.text("value") + " on LP " + step.word("lp");
            default -> abridged(step);
        };
    }

    private static String size(Step step) {
        return ", " + (step.has("hex") ? step.text("hex").length() / 2 : step.word("len")) + " bytes";
    }

    private static String call(Step step) {
        var text = new StringBuilder(leafName(step));
        if (step.word("ver") != 0) {
            text.append(" version ").append(step.word("ver"));
        }
        if (step.has("rax")) {
            text.append(" rax=").append(step.text("rax"));
        }
        text.append(" on LP ").append(step.word("lp"));
        if (step.has("repeat")) {
            text.append(", ").append(step.word("repeat")).append(" times");
        }
        var in = step.object("in");
        in.eachRegister(i -> {
            var name = Registers.NAMES.get(i);
            var kind = isHostCall(step) ? OperandWords.input(hostLeaf(step), name) : OperandWords.input(guestLeaf(step), name);
            text.append(' ').append(name).append('=').append(hex(in.required(name))).append(note(kind, in.required(name)));
        });
        return text.toString();
    }

    private static String exit(Step step) {
        var text = new StringBuilder("VM exit ").append(ExitReason.name((int) step.required("reason") & 0xffff)).append(" on LP ")
                .append(step.word("lp"));
        for (var name : EXIT_KEYS) {
            if (step.has(name)) {
                text.append(' ').append(name).append('=').append(hex(step.required(name)));
            }
        }
        var in = step.object("in");
        in.eachRegister(i -> text.append(' ').append(Registers.NAMES.get(i)).append('=').append(hex(in.required(Registers.NAMES.get(i)))));
        return text.toString();
    }

    /// What a register holds, in brackets.
    private static String note(String kind, long value) {
        var words = kind.isEmpty() ? "" : reading(kind, value);
        return words.isEmpty() ? "" : " (" + words + ")";
    }

    /// A value in words, as far as its kind gives any.
    private static String reading(String kind, long value) {
        return switch (kind) {
            case "page" -> "GPA " + hex(Gpa.gpa(value)) + ", level " + Gpa.level(value) + (Gpa.level(value) < LEVELS.size()
                    ? " " + LEVELS.get(Gpa.level(value)) : "") + ((value & ~(SeptEntry.HPA | 7)) == 0 ? "" : ", reserved bits set");
            case "entry" -> entry(value);
            case "info" -> entryInfo(value);
            case "field" -> field(value);
            case "pagetype" -> PageType.name(value);
            case "reason" -> ExitReason.name((int) value & 0xffff);
            case "interruption" -> event(value);
            default -> kind;
        };
    }

    /// The name of a metadata field, with the structure and its element.
    static String field(long id) {
        if (FieldId.isNone(id)) {
            return "no field";
        }
        int context = (int) (id >>> 52) & 7;
        var code = "class " + FieldId.classCode(id) + " code 0x" + Integer.toHexString(FieldId.code(id));
        if (context >= TABLES.size()) {
            return "field of context " + context + ", " + code;
        }
        var fields = TABLES.get(context).fields();
        int index = TABLES.get(context).find(FieldId.classCode(id), FieldId.code(id), fields.size());
        if (index < 0) {
            return "unknown field of " + CONTEXTS.get(context) + ", " + code;
        }
        var field = fields.get(index);
        int element = field.stride() == 0 ? 0 : (FieldId.code(id) - field.code()) / field.stride();
        return CONTEXTS.get(context) + " field " + field.name() + (field.count() * field.elements() > 1 ? "[" + element + "]" : "");
    }

    /// A Secure EPT entry: rights, page, and what else its bits say.
    static String entry(long value) {
        if (value == 0) {
            return "no entry";
        }
        var text = new StringBuilder();
        text.append((value & SeptEntry.R) != 0 ? 'r' : '-').append((value & SeptEntry.W) != 0 ? 'w' : '-')
                .append((value & SeptEntry.X) != 0 ? 'x' : '-').append(SeptEntry.isLeaf(value) ? " leaf" : "")
                .append(" HPA ").append(hex(value & SeptEntry.HPA));
        if (SeptEntry.isLeaf(value)) {
            text.append(" MT ").append((value >>> 3) & 7).append((value & SeptEntry.IPAT) != 0 ? " IPAT" : "");
        }
        return text.append((value & SeptEntry.LOCK) != 0 ? " locked" : "")
                .append((value & SeptEntry.SUPPRESS_VE) != 0 ? " suppress #VE" : "").toString();
    }

    /// RDX of the memory functions: level, state and VM of the Secure EPT entry. [TDX-ABI "Secure EPT Entry Information"]
    private static String entryInfo(long rdx) {
        long state = (rdx >>> 8) & 0xff;
        var name = new StringBuilder();
        for (var s : SeptState.values()) {
            if (s.architectural() == state) {
                name.append(' ').append(s.name());
            }
        }
        long vm = (rdx >>> 16) & 3;
        long rest = rdx & ~0x3ff07L;
        return "level " + (rdx & 7) + ", state " + state + (vm == 0 ? name.toString() : "") + (vm == 0 ? "" : ", VM " + vm)
                + (rest == 0 ? "" : ", other bits " + hex(rest));
    }

    /// A register that differs.
    static VectorMismatch.Item register(Step step, int register, Step.Expected expected, long got) {
        var name = Registers.NAMES.get(register);
        var wanted = expected + (expected.implied() ? " (not listed)" : "");
        if (register == Registers.RAX) {
            return new VectorMismatch.Item(name, wanted, hex(got), "expected " + status(step, expected.value()) + ", got "
                    + status(step, got));
        }
        var kind = output(step, name);
        var reading = kind.isEmpty() ? "" : kind.equals(reading(kind, got)) ? kind + ", "
                : "expected " + reading(kind, expected.value()) + ", got " + reading(kind, got) + "; ";
        return new VectorMismatch.Item(name, wanted, hex(got), metadataField(step, kind) + reading + bits(expected.value(), got));
    }

    /// The field that a value was read from or written to.
    private static String metadataField(Step step, String kind) {
        var in = step.object("in");
        return kind.endsWith("value") && in.has("rdx") && !leafName(step).contains(".MEM.") ? field(in.required("rdx")) + ", " : "";
    }

    private static String output(Step step, String register) {
        boolean left = step.has("out");
        if (isHostCall(step)) {
            return left ? OperandWords.output(hostLeaf(step), register) : "";
        }
        if (left) {
            return OperandWords.output(SeamcallLeaf.VP_ENTER, register); // a TD exit: what the host sees
        }
        return isGuestCall(step) ? OperandWords.output(guestLeaf(step), register) : "";
    }

    /// How a call ended that should have ended otherwise.
    static String result(Step step, long[] registers) {
        return status(step, registers[Registers.RAX]) + "; " + Registers.describe(registers);
    }

    /// An event of a VM entry.
    static String event(long info) {
        return info >>> 31 == 0 ? "no event" : EVENT_TYPES.get((int) ((info >>> 8) & 7)) + ", vector " + (info & 0xff);
    }

    /// A status with the operand or other detail that it names.
    static String status(long rax) {
        boolean hinted = TdxStatus.of(rax) == null && ((rax >>> HINT) & 1) != 0;
        var value = new TdxReturn(hinted ? rax & ~(1L << HINT) : rax);
        var status = value.status();
        if (status == null) {
            return "no status of the module";
        }
        var hint = hinted ? " with the host recoverability hint" : "";
        return (status.name().startsWith("OPERAND") || status.name().startsWith("PAGE") || status.name().startsWith("TLB")
                || status.name().startsWith("EPT")
                ? status + " of " + OperandId.name(value.detail())
                : status + (value.detail() == 0 ? "" : ", detail " + hex(value.detail() & 0xffff_ffffL))) + hint;
    }

    /// RAX in words. Its low half is an exit reason when TDH.VP.ENTER returns because the guest left.
    private static String status(Step step, long rax) {
        var status = TdxStatus.of(rax);
        boolean entered = isHostCall(step) ? hostLeaf(step) == SeamcallLeaf.VP_ENTER : step.has("out");
        if (entered && status != null && (status == TdxStatus.SUCCESS || status.name().startsWith("NON_RECOVERABLE")
                || status.name().startsWith("CROSS_TD"))) {
            return status + " with exit reason " + ExitReason.name((int) rax & 0xffff)
                    + ((rax & 0xffff_0000L) == 0 ? "" : " and bits " + hex(rax & 0xffff_0000L));
        }
        return status(rax);
    }

    /// The bits in which two values differ, as ranges from high to low.
    static String bits(long expected, long got) {
        long different = expected ^ got;
        var ranges = new ArrayList<String>();
        for (int high = 63; high >= 0; high--) {
            if (((different >>> high) & 1) != 0) {
                int low = high;
                while (low > 0 && ((different >>> (low - 1)) & 1) != 0) {
                    low--;
                }
                ranges.add(high == low ? "" + high : high + ":" + low);
                high = low;
            }
        }
        return ranges.size() > 8 ? Long.bitCount(different) + " bits differ"
                : (ranges.size() == 1 && !ranges.get(0).contains(":") ? "bit " : "bits ") + String.join(", ", ranges)
                + (Long.bitCount(different) == 1 ? " differs" : " differ");
    }

    static String hex(long value) {
        return "0x" + Long.toHexString(value);
    }
}
