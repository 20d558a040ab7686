package cloister.tdx.replay;

import cloister.memory.PhysicalMemory;
import cloister.tdx.port.PlatformInfo;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// A platform file of the vectors.
public final class VectorPlatform {
    /// Beyond this the bookkeeping of frames does not fit in a small heap.
    private static final long MAX_MEMORY = 1L << 36;
    private static final int MAX_PROCESSORS = 1024;
    private static final int EVERY_SUBLEAF = -1;
    private static final int OTHER_SUBLEAVES = -2;
    private static final int EDX = 3;

    /// Output of CPUID for a sub-leaf, or for every one or every other one.
    private record CpuidRule(int subleaf, int[] value) {
    }

    /// Bits of CPUID's output that are inverted.
    ///
    /// @param subleaf  -1 for every sub-leaf
    /// @param register EAX, EBX, ECX, EDX from 0
    public record CpuidFlip(int leaf, int subleaf, int register, int mask) {
    }

    public final int logicalProcessors;
    public final long memoryBytes;
    public final int firstPrivateKeyId;
    public final long tscStart;
    public final long tscStep;
    final long hostXcr0;
    final long hostCr0;
    final long hostCr3;
    final long hostCr4;
    public final Map<Integer, Long> msrs = new HashMap<>();
    public final RecordedReport report;
    public final PlatformInfo info;
    private final Map<Integer, List<CpuidRule>> cpuid = new HashMap<>();

    /// @param root the file
    /// @throws RuntimeException with a message for the user when it is not one
    public VectorPlatform(JsonObject root) {
        var file = new Step(root);
        logicalProcessors = file.count("logical_processors", 1, MAX_PROCESSORS);
        var memory = file.object("memory");
        memoryBytes = memory.required("physical_bytes");
        check(memoryBytes > 0 && memoryBytes <= MAX_MEMORY && memoryBytes % PhysicalMemory.FRAME_SIZE == 0, "memory.physical_bytes",
                "whole pages of at most 64 GiB");
        firstPrivateKeyId = memory.has("tdx_keyids") ? firstOf(memory.text("tdx_keyids")) : 32;
        check(memory.count("keyid_shift", PhysicalMemory.KEY_ID_SHIFT, 0, 63) == PhysicalMemory.KEY_ID_SHIFT, "memory.keyid_shift",
                "" + PhysicalMemory.KEY_ID_SHIFT);
        check(memory.count("keyid_bits", PhysicalMemory.KEY_ID_BITS, 0, 16) == PhysicalMemory.KEY_ID_BITS, "memory.keyid_bits",
                "" + PhysicalMemory.KEY_ID_BITS);
        tscStart = file.object("tsc").required("start");
        tscStep = file.object("tsc").required("advance_per_read");
        hostXcr0 = file.has("xcr0_host") ? file.required("xcr0_host") : 7;
        var host = file.object("seam_vmcs");
        hostCr0 = host.has("cr0") ? host.required("cr0") : 0x8005_0033L;
        hostCr3 = host.has("cr3") ? host.required("cr3") : 0x1000;
        hostCr4 = host.has("cr4") ? host.required("cr4") : 0x37_26e0L;
        var values = file.object("msr").object("values");
        values.json().keySet().forEach(msr -> msrs.put((int) number(msr), values.required(msr)));
        file.object("cpuid").array("values").forEach(e -> cpuid(new Step(e.getAsJsonObject(), "cpuid")));
        var r = file.object("report");
        report = new RecordedReport(r.text("cpusvn"), r.text("mac_key_ascii"), r.count("verify_fail_code", 0, Integer.MAX_VALUE));
        var cmrs = new ArrayList<PlatformInfo.Cmr>();
        for (var e : memory.array("cmrs")) {
            var cmr = new Step(e.getAsJsonObject(), "cmrs");
            cmrs.add(new PlatformInfo.Cmr(cmr.required("base"), cmr.required("size")));
        }
        info = new PlatformInfo(logicalProcessors, file.count("packages", 1, logicalProcessors), cmrs,
                List.of((int) file.required("family_model_stepping")));
    }

    private static void check(boolean right, String key, String must) {
        if (!right) {
            throw new Step.Malformed(key + " must be " + must);
        }
    }

    private static int firstOf(String range) {
        int dots = range.indexOf("..");
        check(dots > 0, "memory.tdx_keyids", "a range such as 32..63");
        long first = number(range.substring(0, dots));
        check(first >= 1 && first < 1 << PhysicalMemory.KEY_ID_BITS, "memory.tdx_keyids", "a range of KeyIDs from 1 to 63");
        return (int) first;
    }

    private void cpuid(Step rule) {
        var sub = rule.text("sub");
        int subleaf = sub.equals("any") ? EVERY_SUBLEAF : sub.equals("other") ? OTHER_SUBLEAVES : (int) number(sub);
        var registers = rule.array("regs");
        var value = new int[4];
        for (int i = 0; i < 4; i++) {
            value[i] = (int) number(registers.get(i).getAsString());
        }
        cpuid.computeIfAbsent((int) rule.required("leaf"), leaf -> new ArrayList<>()).add(new CpuidRule(subleaf, value));
    }

    /// Bytes of physical memory.
    public long memoryBytes() {
        return memoryBytes;
    }

    /// A number as the vectors write it: hexadecimal with 0x, or decimal.
    public static long number(String text) {
        return text.startsWith("0x") ? Long.parseUnsignedLong(text, 2, text.length(), 16) : Long.parseLong(text);
    }

    /// CPUID of a logical processor.
    public void cpuid(int lp, int leaf, int subleaf, int[] out) {
        cpuid(lp, leaf, subleaf, null, out);
    }

    /// CPUID of a logical processor whose listed output has bits inverted. The number of the logical processor, in leaves 1, 0xB and
    /// 0x1F, is no part of what is listed.
    void cpuid(int lp, int leaf, int subleaf, CpuidFlip flip, int[] out) {
        var rule = rule(leaf, subleaf);
        if (rule == null) {
            Arrays.fill(out, 0);
        } else {
            System.arraycopy(rule.value, 0, out, 0, 4);
        }
        if (flip != null && flip.leaf == leaf && (flip.subleaf == subleaf || flip.subleaf == EVERY_SUBLEAF)) {
            out[flip.register] ^= flip.mask;
        }
        if (leaf == 1) {
            out[1] = (out[1] & 0xff_ffff) | (lp << 24);
        } else if (leaf == 0xb || leaf == 0x1f) {
            out[EDX] = lp;
        }
    }

    private CpuidRule rule(int leaf, int subleaf) {
        CpuidRule other = null;
        for (var rule : cpuid.getOrDefault(leaf, List.of())) {
            if (rule.subleaf == subleaf || rule.subleaf == EVERY_SUBLEAF) {
                return rule;
            }
            other = rule.subleaf == OTHER_SUBLEAVES ? rule : other;
        }
        return other;
    }
}
