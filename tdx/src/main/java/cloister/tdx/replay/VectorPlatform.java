package cloister.tdx.replay;

import cloister.tdx.port.PlatformInfo;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// A platform file of the vectors.
public final class VectorPlatform {
    private record CpuidRule(int leaf, String sub, int[] value) {
    }

    public final int logicalProcessors;
    public final long memoryBytes;
    public final long tscStart;
    public final long tscStep;
    public final Map<Integer, Long> msrs = new HashMap<>();
    public final RecordedReport report;
    public final PlatformInfo info;
    private final List<CpuidRule> cpuid = new ArrayList<>();

    /// @param root the file
    public VectorPlatform(JsonObject root) {
        logicalProcessors = root.get("logical_processors").getAsInt();
        var memory = root.getAsJsonObject("memory");
        memoryBytes = number(memory.get("physical_bytes").getAsString());
        var tsc = root.getAsJsonObject("tsc");
        tscStart = number(tsc.get("start").getAsString());
        tscStep = tsc.get("advance_per_read").getAsLong();
        for (var e : root.getAsJsonObject("msr").getAsJsonObject("values").entrySet()) {
            msrs.put((int) number(e.getKey()), number(e.getValue().getAsString()));
        }
        for (var e : root.getAsJsonObject("cpuid").getAsJsonArray("values")) {
            var rule = e.getAsJsonObject();
            var value = new int[4];
            for (int i = 0; i < 4; i++) {
                value[i] = (int) number(rule.getAsJsonArray("regs").get(i).getAsString());
            }
            cpuid.add(new CpuidRule((int) number(rule.get("leaf").getAsString()), rule.get("sub").getAsString(), value));
        }
        var r = root.getAsJsonObject("report");
        report = new RecordedReport(r.get("cpusvn").getAsString(), r.get("mac_key_ascii").getAsString(),
                r.get("verify_fail_code").getAsInt());
        var cmrs = new ArrayList<PlatformInfo.Cmr>();
        for (var e : memory.getAsJsonArray("cmrs")) {
            JsonObject cmr = e.getAsJsonObject();
            cmrs.add(new PlatformInfo.Cmr(number(cmr.get("base").getAsString()), number(cmr.get("size").getAsString())));
        }
        info = new PlatformInfo(logicalProcessors, root.get("packages").getAsInt(), cmrs,
                List.of((int) number(root.get("family_model_stepping").getAsString())));
    }

    /// Bytes of physical memory.
    public long memoryBytes() {
        return memoryBytes;
    }

    public static long number(String text) {
        return text.startsWith("0x") ? Long.parseUnsignedLong(text.substring(2), 16) : Long.parseLong(text);
    }

    public void cpuid(int lp, int leaf, int subleaf, int[] out) {
        Arrays.fill(out, 0);
        for (var rule : cpuid) {
            if (rule.leaf == leaf && matches(rule, subleaf)) {
                System.arraycopy(rule.value, 0, out, 0, 4);
                break;
            }
        }
        if (leaf == 1) {
            out[1] = out[1] & 0xff_ffff | lp << 24;
        } else if (leaf == 0xb || leaf == 0x1f) {
            out[3] = lp;
        }
    }

    private boolean matches(CpuidRule rule, int subleaf) {
        return switch (rule.sub) {
            case "any" -> true;
            case "other" -> cpuid.stream().noneMatch(r -> r.leaf == rule.leaf && r.sub.startsWith("0x")
                    && (int) number(r.sub) == subleaf);
            default -> (int) number(rule.sub) == subleaf;
        };
    }
}
