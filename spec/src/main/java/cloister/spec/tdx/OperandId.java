package cloister.spec.tdx;

import java.lang.reflect.Field;
import java.util.Arrays;
import java.util.Map;
import java.util.stream.Collectors;

/// Operand identifiers in bits 31:0 of a completion status. [TDX-ABI "Function Operands"]
public final class OperandId {
    public static final int RAX = 0;
    public static final int RCX = 1;
    public static final int RDX = 2;
    public static final int RBX = 3;
    public static final int RBP = 5;
    public static final int RSI = 6;
    public static final int RDI = 7;
    public static final int R8 = 8;
    public static final int R9 = 9;
    public static final int R10 = 10;
    public static final int R11 = 11;
    public static final int R12 = 12;
    public static final int R13 = 13;
    public static final int R14 = 14;
    public static final int R15 = 15;
    public static final int ATTRIBUTES = 64;
    public static final int XFAM = 65;
    public static final int EXEC_CONTROLS = 66;
    public static final int EPTP_CONTROLS = 67;
    public static final int MAX_VCPUS = 68;
    public static final int CPUID_CONFIG = 69;
    public static final int TSC_FREQUENCY = 70;
    public static final int NUM_L2_VMS = 71;
    public static final int IA32_ARCH_CAPABILITIES_CONFIG = 72;
    public static final int PAGE = 95;
    public static final int TDMR_INFO_PA = 96;
    public static final int GPA_LIST_ENTRY = 97;
    public static final int MIG_BUFF_LIST_ENTRY = 98;
    public static final int NEW_PAGE_LIST_ENTRY = 99;
    public static final int TDR = 128;
    public static final int TDCX = 129;
    public static final int TDVPR = 130;
    public static final int REG_PAGE = 132;
    public static final int TDCS = 144;
    public static final int TDVPS = 145;
    public static final int SEPT_TREE = 146;
    public static final int SEPT_ENTRY = 147;
    public static final int RTMR = 168;
    public static final int TD_EPOCH = 169;
    public static final int L2_VAPIC_GPA = 170;
    public static final int MIGSC = 171;
    public static final int OP_STATE = 172;
    public static final int MIG = 173;
    public static final int SERVTD_BINDINGS = 174;
    public static final int METADATA_FIELD = 176;
    public static final int SYS = 184;
    public static final int TDMR = 185;
    public static final int KOT = 186;
    public static final int KET = 187;
    public static final int WBCACHE = 188;

    private static final Map<Integer, String> NAMES = Arrays.stream(OperandId.class.getFields())
            .collect(Collectors.toMap(OperandId::valueOf, Field::getName));

    private OperandId() {
    }

    /// The name of an operand identifier; one without a name is its number.
    public static String name(int id) {
        return NAMES.getOrDefault(id, "operand " + Integer.toUnsignedString(id));
    }

    private static int valueOf(Field field) {
        try {
            return field.getInt(null);
        } catch (IllegalAccessException e) {
            throw new AssertionError(e);
        }
    }
}
