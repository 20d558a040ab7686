package cloister.cli;

import cloister.cli.guest.FetchFailure;
import cloister.cli.profile.KernelImage;
import cloister.cli.profile.Profile;
import cloister.cli.profile.SymbolTable;
import cloister.vmm.UserError;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.StringReader;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/// `cloister profile`: runs a guest as `cloister run` does and says where its instructions went.
@Command(name = "profile", description = {"Run a guest as 'cloister run' does and say which of its functions took how many instructions.",
    "Samples are taken by retired instructions: the same run has the same profile, and the same trace hash as without it.",
    "Names come from the kernel's own symbol table; user programs and modules are shown by page."})
final class ProfileCommand extends RunCommand {
    @Option(names = "--every", paramLabel = "N", defaultValue = "1",
            description = "Instructions between two samples of a vCPU at least; samples are taken at the ends of slices of about 30,000 "
                    + "instructions. Default: each.")
    private long every;

    @Option(names = "--top", paramLabel = "N", defaultValue = "30", description = "Functions to show. Default: ${DEFAULT-VALUE}.")
    private int top;

    @Option(names = "--folded", paramLabel = "FILE",
            description = "Write all samples as folded stacks, 'vcpu0;kernel;function INSTRUCTIONS', for flame graph tools.")
    private Path folded;

    @Option(names = "--symbols", paramLabel = "FILE",
            description = "A System.map or /proc/kallsyms with the kernel's symbols instead of those in its image.")
    private Path symbolFile;

    @Override public Integer call() throws FetchFailure {
        try {
            if (every < 1 || top < 1) {
                throw UserError.usage((every < 1 ? "--every " + every : "--top " + top) + " is too small: choose 1 or more");
            }
            if (folded != null) {
                DumpFile.check("--folded", folded);
            }
            var symbols = symbolFile == null ? null : read(symbolFile);
            var profile = new Profile();
            observe().profile(every, profile, kernel -> print(profile, symbols == null ? of(kernel) : symbols));
        } catch (UserError e) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return e.exitCode();
        }
        return super.call();
    }

    private static SymbolTable read(Path file) {
        try {
            return SymbolTable.read(new BufferedReader(new StringReader(InputFile.text(file))));
        } catch (IOException e) {
            throw UserError.badInput("--symbols: cannot use " + file + " (" + e.getMessage() + "): check the file");
        }
    }

    private static SymbolTable of(MemorySegment kernel) {
        try {
            return KernelImage.symbols(kernel);
        } catch (IOException e) {
            System.err.println("cloister: no names for the kernel's functions: " + e.getMessage() + "; use --symbols FILE");
            return SymbolTable.EMPTY;
        }
    }

    private void print(Profile profile, SymbolTable symbols) {
        System.err.print(profile.report(symbols, top));
        if (folded != null) {
            try {
                Files.writeString(folded, profile.folded(symbols));
            } catch (IOException e) {
                observe().unwritten(folded, e);
            }
        }
    }
}
