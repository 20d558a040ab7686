package cloister.cli;

import cloister.vmm.MachineStats;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;

/// `--stats` for programs, described by docs/stats.schema.json.
final class StatsJson {
    private StatsJson() {
    }

    /// Names are those of [MachineStats]; the hash is a string of 16 hexadecimal digits after `0x`.
    static String write(MachineStats stats) {
        var gson = new GsonBuilder().setPrettyPrinting().create();
        var object = new JsonObject();
        object.addProperty("instructions", stats.instructions());
        object.addProperty("virtualNanos", stats.virtualNanos());
        object.addProperty("wallNanos", stats.wallNanos());
        object.addProperty("pagesAccepted", stats.pagesAccepted());
        object.addProperty("pagesPopulated", stats.pagesPopulated());
        object.addProperty("pagesConverted", stats.pagesConverted());
        object.addProperty("busyRetries", stats.busyRetries());
        object.addProperty("pagesLeft", stats.pagesLeft());
        object.addProperty("traceHash", "0x" + "0".repeat(Long.numberOfLeadingZeros(stats.traceHash() | 1) / 4)
                + Long.toHexString(stats.traceHash()));
        object.add("vmExits", gson.toJsonTree(stats.vmExits()));
        object.add("moduleExits", gson.toJsonTree(stats.moduleExits()));
        object.add("seamcalls", gson.toJsonTree(stats.seamcalls()));
        object.add("threads", gson.toJsonTree(stats.threads()));
        return gson.toJson(object) + "\n";
    }
}
