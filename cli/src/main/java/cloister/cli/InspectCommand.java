package cloister.cli;

import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.TdSnapshot;
import cloister.vmm.UserError;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `cloister inspect`: shows what `cloister run --dump-on-exit` and its like wrote.
@Command(name = "inspect", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Show a dump of the TDX module: its state, KeyIDs, PAMT, and the fields, locks, measurements and Secure EPT of "
                + "every trust domain; and with which memory types guests use memory.",
        footer = {"", "Make a dump with 'cloister run --dump-on-exit FILE.json', or while a guest runs with --dump-at or Ctrl-A d."})
final class InspectCommand implements Callable<Integer> {
    @Parameters(paramLabel = "FILE.json", description = "The dump.", index = "0")
    private Path file;

    @Option(names = "--diff", paramLabel = "FILE.json", description = "Show what differs between this dump and the other one, which is "
            + "the later.")
    private Path before;

    @Option(names = "--json", description = "Print JSON instead of text.")
    private boolean json;

    @Option(names = "--sept", description = "Only the Secure EPTs.")
    private boolean sept;

    @Option(names = "--pamt", description = "Only the PAMT.")
    private boolean pamt;

    @Option(names = "--memory-types", description = "Only the translations in the processors' TLBs, each with its memory type and what "
            + "makes it (EPT, IPAT, PAT, MTRRs), and the pages that are used with and without caching at a time.")
    private boolean memoryTypes;

    @Option(names = "--td", paramLabel = "N", description = "Only trust domain N, from 0.")
    private Integer td;

    @Override public Integer call() {
        try {
            if (memoryTypes && (before != null || sept || pamt || td != null)) {
                throw UserError.usage("--memory-types goes with --json only: translations are the processors'");
            }
            if (pamt && (sept || td != null)) {
                throw UserError.usage("--pamt goes with neither --sept nor --td: the PAMT is the platform's");
            }
            if (before != null) {
                if (json || sept || pamt || td != null) {
                    throw UserError.usage("--diff shows all differences as text: leave out the other options");
                }
                System.out.print(SnapshotDiff.of(DumpFile.read(before).module(), DumpFile.read(file).module()));
                return ExitCode.SUCCESS.code();
            }
            var dump = DumpFile.read(file);
            if (memoryTypes) {
                System.out.print(json ? SnapshotJson.write(dump.memoryTypes()) : MemoryTypeText.of(dump.memoryTypes()));
                return ExitCode.SUCCESS.code();
            }
            var module = dump.module();
            if (td != null && (td < 0 || td >= module.tds().size())) {
                throw UserError.usage("there is no trust domain " + td + ": the dump has " + module.tds().size()
                        + ", counted from 0");
            }
            System.out.print(json ? json(dump) : text(dump));
            return ExitCode.SUCCESS.code();
        } catch (UserError e) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return e.exitCode();
        }
    }

    /// The Secure EPTs of a trust domain, by their names in the dump.
    private static Map<String, Object> trees(TdSnapshot td) {
        var trees = new LinkedHashMap<String, Object>();
        trees.put("secureEpt", td.secureEpt());
        trees.put("l2SecureEpts", td.l2SecureEpts());
        return trees;
    }

    private String json(Dump dump) {
        var module = dump.module();
        if (pamt) {
            return SnapshotJson.write(module.pamt());
        }
        List<TdSnapshot> tds = td == null ? module.tds() : List.of(module.tds().get(td));
        if (sept) {
            var trees = tds.stream().map(InspectCommand::trees).toList();
            return SnapshotJson.write(td == null ? trees : trees.getFirst());
        }
        return td == null ? SnapshotJson.write(dump) : SnapshotJson.write(tds.getFirst());
    }

    private String text(Dump dump) {
        var module = dump.module();
        if (pamt) {
            return SnapshotText.ofPamt(module.pamt()).strip() + "\n";
        }
        if (td == null && !sept) {
            return SnapshotText.of(module) + "\n" + MemoryTypeText.summary(dump.memoryTypes());
        }
        var out = new StringBuilder();
        for (int i = 0; i < module.tds().size(); i++) {
            if (td == null || td == i) {
                var one = module.tds().get(i);
                out.append((sept ? SnapshotText.ofSept(i, one) : SnapshotText.ofTd(i, one)).strip()).append('\n');
            }
        }
        return out.toString();
    }
}
