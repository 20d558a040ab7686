package cloister.tdx.replay;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxReturn;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/// Steps and differences of the vectors in the specification's words.
public final class VectorWords {
    private static final int LONGEST_STEP = 240;
    private static final Set<SeamcallLeaf> METADATA = EnumSet.of(SeamcallLeaf.MNG_RD, SeamcallLeaf.MNG_WR, SeamcallLeaf.VP_RD,
            SeamcallLeaf.VP_WR, SeamcallLeaf.SYS_RD);
    private static final Set<TdcallLeaf> GUEST_METADATA = EnumSet.of(TdcallLeaf.VM_RD, TdcallLeaf.VM_WR, TdcallLeaf.VP_RD,
            TdcallLeaf.VP_WR, TdcallLeaf.SYS_RD);
    private static final List<FieldTable> TABLES = List.of(FieldTable.SYS, FieldTable.TD, FieldTable.VP);

    private VectorWords() {
    }

    private static long leaf(JsonObject step) {
        return (step.has("rax") ? VectorPlatform.number(step.get("rax").getAsString()) : step.get("leaf").getAsLong()) & 0xffff;
    }

    private static boolean isCall(JsonObject step) {
        var op = step.get("op").getAsString();
        return op.equals("seamcall") || op.equals("tdcall");
    }

    private static boolean isHostCall(JsonObject step) {
        return step.get("op").getAsString().equals("seamcall");
    }

    private static String leafName(JsonObject step) {
        int number = (int) leaf(step);
        if (isHostCall(step)) {
            var leaf = SeamcallLeaf.of(number);
            return leaf == null ? "SEAMCALL leaf " + number : leaf.specificationName();
        }
        var leaf = TdcallLeaf.of(number);
        return leaf == null ? "TDCALL leaf " + number : leaf.specificationName();
    }

    private static boolean takesField(JsonObject step) {
        int number = (int) leaf(step);
        return isHostCall(step) ? METADATA.contains(SeamcallLeaf.of(number))
                : GUEST_METADATA.contains(TdcallLeaf.of(number));
    }

    /// What the step does: for a call its leaf, processor and input.
    public static String step(JsonObject step) {
        var text = new StringBuilder();
        if (isCall(step)) {
            text.append(leafName(step));
            if (step.has("ver") && step.get("ver").getAsInt() != 0) {
                text.append(" version ").append(step.get("ver").getAsInt());
            }
        } else if (step.get("op").getAsString().equals("td_exit")) {
            int reason = (int) VectorPlatform.number(step.get("reason").getAsString());
            text.append("TD exit ").append(ExitReason.name(reason));
        } else if (step.get("op").getAsString().equals("flip_sweep")) {
            return sweep(step);
        } else {
            var json = step.toString();
            return json.length() > LONGEST_STEP ? json.substring(0, LONGEST_STEP) + "..." : json;
        }
        text.append(" on LP ").append(step.has("lp") ? step.get("lp").getAsInt() : 0);
        if (step.has("in")) {
            step.getAsJsonObject("in").entrySet().forEach(e ->
                    text.append(' ').append(e.getKey()).append('=').append(e.getValue().getAsString()));
            if (isCall(step) && takesField(step) && step.getAsJsonObject("in").has("rdx")) {
                text.append(" (").append(field(VectorPlatform.number(step.getAsJsonObject("in").get("rdx").getAsString()))).append(')');
            }
        }
        for (var name : List.of("qual", "gpa", "gla", "intr", "ierr", "info", "idtv")) {
            if (step.has(name)) {
                text.append(' ').append(name).append('=').append(step.get(name).getAsString());
            }
        }
        return text.toString();
    }

    private static String sweep(JsonObject step) {
        return (step.get("phase").getAsString().equals("lpinit") ? SeamcallLeaf.SYS_LP_INIT : SeamcallLeaf.SYS_INIT).specificationName()
                + " with single bits inverted of " + (step.has("msr") ? "MSR " + step.get("msr").getAsString()
                : "CPUID(" + step.get("leaf").getAsString() + ", " + step.get("sub").getAsString() + ")."
                + step.get("reg").getAsString().toUpperCase(Locale.ROOT));
    }

    /// The name of a metadata field.
    public static String field(long id) {
        if (FieldId.isNone(id)) {
            return "no field";
        }
        int context = (int) (id >>> 52) & 7;
        if (context < TABLES.size()) {
            var fields = TABLES.get(context).fields();
            int index = TABLES.get(context).find(FieldId.classCode(id), FieldId.code(id), fields.size());
            if (index >= 0) {
                return "field " + fields.get(index).name();
            }
        }
        return "field class " + FieldId.classCode(id) + " code 0x" + Integer.toHexString(FieldId.code(id));
    }

    /// What the difference between two values of a register of a call is.
    public static String difference(JsonObject step, int register, long expected, long got) {
        if (register == SeamRegs.RAX && step.has("op") && isCall(step)) {
            return "expected " + status(step, expected) + ", got " + status(step, got);
        }
        if (register == SeamRegs.RDX && isHostCall(step) && leafName(step).startsWith("TDH.MEM.")) {
            return "expected " + entryInfo(expected) + ", got " + entryInfo(got);
        }
        if (register == SeamRegs.RDX && isCall(step) && takesField(step)) {
            return "expected " + field(expected) + ", got " + field(got);
        }
        return bits(expected, got);
    }

    /// What the difference between two completion statuses is.
    public static String difference(TdxReturn expected, TdxReturn got) {
        return "expected " + name(expected) + ", got " + name(got);
    }

    /// A status with the operand or other detail that it names.
    private static String name(TdxReturn value) {
        var status = value.status();
        if (status == null) {
            return value.toString();
        }
        return status.name().startsWith("OPERAND") || status.name().startsWith("PAGE")
                ? status + " of " + OperandId.name(value.detail())
                : status + (value.detail() == 0 ? "" : " detail 0x" + Integer.toHexString(value.detail()));
    }

    /// RAX in words. TDH.VP.ENTER's low half is an exit reason when the guest ran.
    private static String status(JsonObject step, long rax) {
        var value = new TdxReturn(rax);
        var status = value.status();
        if (status == null) {
            return value.toString();
        }
        boolean ran = isHostCall(step) && leaf(step) == SeamcallLeaf.VP_ENTER.number() && (status == TdxStatus.SUCCESS
                || status.name().startsWith("NON_RECOVERABLE") || status.name().startsWith("CROSS_TD"));
        if (ran || !isHostCall(step) && leaf(step) == TdcallLeaf.VP_VMCALL.number() && status == TdxStatus.SUCCESS) {
            return status + " with exit reason " + ExitReason.name(value.detail());
        }
        return name(value);
    }

    /// RDX of the memory functions: level and state of the Secure EPT entry. [TDX-ABI "Secure EPT Entry Information"]
    private static String entryInfo(long rdx) {
        return "level " + (rdx & 7) + ", state " + (rdx >>> 8 & 0xff) + ((rdx & ~0xff07L) == 0 ? ""
                : ", other bits 0x" + Long.toHexString(rdx & ~0xff07L));
    }

    /// The bits in which two values differ, as ranges from high to low.
    public static String bits(long expected, long got) {
        long different = expected ^ got;
        var ranges = new ArrayList<String>();
        for (int high = 63; high >= 0; high--) {
            if ((different >>> high & 1) != 0) {
                int low = high;
                while (low > 0 && (different >>> low - 1 & 1) != 0) {
                    low--;
                }
                ranges.add(high == low ? "" + high : high + ":" + low);
                high = low;
            }
        }
        return ranges.size() > 8 ? "differs in " + Long.bitCount(different) + " bits"
                : (ranges.size() == 1 && !ranges.get(0).contains(":") ? "bit " : "bits ") + String.join(", ", ranges);
    }

    public static String hex(long value) {
        return "0x" + Long.toHexString(value);
    }
}
