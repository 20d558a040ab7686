package cloister.tdx.vectors;

import static cloister.tdx.vectors.ReplayFormatTest.lines;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What is wrong with the files is said in one line and fails the scenario: no stack trace, no end of the other scenarios, no hang.
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
@Timeout(120)
class MalformedVectorsTest {
    private static final String RUN = "{\"op\":\"include\",\"file\":\"setup/run-basic-3.jsonl\"}\n";

    @TempDir
    private static Path folder;
    private MadeVectors made;

    @BeforeAll void make() throws IOException {
        made = new MadeVectors(folder);
    }

    private String problem(String steps) throws IOException {
        var outcome = made.replay(steps);
        assertThat(outcome.passed()).isFalse();
        assertThat(outcome.difference().items()).isEmpty();
        assertThat(outcome.difference().problem()).doesNotContain("Exception", "\n", "defect");
        return outcome.difference().problem();
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', quoteCharacter = '"', value = {
        "{'op':'teleport'}                                                          # nobody knows steps of the kind \"teleport\"",
        "{}                                                                         # 'op' must be a string, and is missing",
        "{'op':5}                                                                   # 'op' must be a string, and is 5",
        "{'op':'seamcall','leaf':33,'out':{'rax':'0x0'},'note':'x'}                 # the key 'note' cannot be replayed",
        "{'op':'seamcall','leaf':33}                                                # either 'out' or 'guest'",
        "{'op':'seamcall','leaf':33,'out':{'rax':'0x0'},'guest':{}}                 # either 'out' or 'guest'",
        "{'op':'seamcall','leaf':33,'out':{}}                                       # 'out.rax' is missing",
        "{'op':'seamcall','leaf':33,'out':'0x0'}                                    # 'out' must be an object, and is '0x0'",
        "{'op':'seamcall','leaf':33,'out':{'rax':'zero'}}                           # 'out.rax' must be a 64-bit number",
        "{'op':'seamcall','leaf':33,'out':{'rax':{}}}                               # 'out.rax' must be a 64-bit number",
        "{'op':'seamcall','leaf':33,'out':{'rax':'0x10000000000000000'}} # 'out.rax' must be a 64-bit number",
        "{'op':'seamcall','leaf':33,'out':{'rax':'0x0','xmm0':'0x1'}}               # the key 'out.xmm0' cannot be replayed",
        "{'op':'seamcall','leaf':33,'in':{'eax':'0x1'},'out':{'rax':'0x0'}}         # 'in.eax' is no register",
        "{'op':'seamcall','leaf':33,'in':[1],'out':{'rax':'0x0'}}                   # 'in' must be an object",
        "{'op':'seamcall','out':{'rax':'0x0'}}                                      # 'leaf' must be a 64-bit number",
        "{'op':'seamcall','leaf':'many','out':{'rax':'0x0'}}                        # 'leaf' must be a 64-bit number",
        "{'op':'seamcall','lp':4,'leaf':33,'out':{'rax':'0x0'}}                     # 'lp' must be a number from 0 to 3, and is 4",
        "{'op':'seamcall','lp':-1,'leaf':33,'out':{'rax':'0x0'}}                    # 'lp' must be a number from 0 to 3, and is -1",
        "{'op':'seamcall','leaf':33,'repeat':4000000000,'out':{'rax':'*'}}          # 'repeat' must be a number from 1 to 1000000",
        "{'op':'seamcall','leaf':33,'repeat':0,'out':{'rax':'*'}}                   # 'repeat' must be a number from 1 to 1000000",
        "{'op':'seamcall','leaf':33,'repeat':1.5,'out':{'rax':'*'}}                 # 'repeat' must be a 64-bit number",
        "{'op':'host_write','pa':'0x400000000','hex':'00'}                          # not in the platform's memory",
        "{'op':'host_write','pa':'0x3ffffffff','hex':'0000'}                        # not in the platform's memory",
        "{'op':'host_write','pa':'0x0','hex':'0'}                                   # must be in hexadecimal",
        "{'op':'host_write','pa':'0x0','hex':'0g'}                                  # must be in hexadecimal",
        "{'op':'host_write','pa':'0x0'}                                             # one of 'hex', 'fill' and 'pattern'",
        "{'op':'host_write','pa':'0x0','hex':'00','fill':'00','len':1}              # one of 'hex', 'fill' and 'pattern'",
        "{'op':'host_write','pa':'0x0','fill':'00'}                                 # 'len' must be a number, and is missing",
        "{'op':'host_write','pa':'0x0','fill':'0000','len':4}                       # 'fill' must be one byte",
        "{'op':'host_write','pa':'0x0','fill':'00','len':99999999999}               # 'len' must be a number from 0 to",
        "{'op':'expect_mem','pa':'0x0'}                                             # either 'hex' or 'zero'",
        "{'op':'expect_mem','pa':'0x0','zero':true}                                 # 'len' must be a number, and is missing",
        "{'op':'expect_mem','pa':'0x0','zero':'yes','len':4}                        # 'zero' must be true or false",
        "{'op':'expect_mem','pa':'0x0','hex':'0*'}                                  # must be in hexadecimal",
        "{'op':'guest_write','gpa':'0x0','hex':'00'}                                # needs a TD",
        "{'op':'hold_lock','lock':'tdvpr','mode':'shared'}                          # needs a virtual processor",
        "{'op':'hold_lock','lock':'kot','mode':'shared'}                            # 'lock' must be one of tdr, tdvpr",
        "{'op':'hold_lock','lock':'tdr','mode':'half'}                              # 'mode' must be one of exclusive, shared",
        "{'op':'release_lock','lock':'tdr','mode':'shared'}                         # the lock tdr shared is not held",
        "{'op':'flip_sweep','phase':'sysinit','results':{'0x0':[1]}}                # either 'msr' or 'leaf'",
        "{'op':'flip_sweep','phase':'x','msr':'0x1','results':{'0x0':[1]}}          # 'phase' must be one of sysinit, lpinit",
        "{'op':'flip_sweep','phase':'sysinit','msr':'0x1','results':{'0x0':[64]}}   # bits from 0 to 63",
        "{'op':'flip_sweep','phase':'sysinit','msr':'0x1','results':{'0x0':['a']}}  # bits from 0 to 63",
        "{'op':'flip_sweep','phase':'sysinit','leaf':'0x1','sub':'any','reg':'eip','results':{'0x0':[1]}} # 'reg' must be one of eax",
        "{'op':'init_sweep','what':'xfam','results':{}}                             # 'what' must be one of cpuid_config",
        "{'op':'include','file':'setup/none.jsonl'}                                 # there is no file",
        "{'op':'include','file':'../../../etc/passwd'}                              # is no file of",
        "{'op':'include','file':'x/made.jsonl'}                                     # x/made.jsonl includes itself",
        "{'op':'include'}                                                           # 'file' must be a string, and is missing",
        "{'op':'reset','case':5}                                                    # 'case' must be a string"})
    void aStepThatIsNoStep(String step, String said) throws IOException {
        assertThat(problem(lines(step))).contains(said.strip().replace('\'', '"').replace("platform\"s", "platform's"));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', quoteCharacter = '"', value = {
        "{'op':'seamcall','leaf':33,'out':{'rax':'0x0'}}                            # LP 0 runs a guest and cannot execute SEAMCALL",
        "{'op':'tdcall','leaf':1,'guest':{'gpr':{},'rip':4}}                        # the key 'guest.rip' cannot be replayed",
        "{'op':'tdcall','leaf':1,'guest':{'gpr':{},'event':{'vector':4}}}           # the key 'guest.event.vector' cannot be replayed",
        "{'op':'guest_state','set':{'cr8':'0x0'}}                                   # 'set.cr8' is no processor state",
        "{'op':'guest_state','set':{'cr0':'high'}}                                  # 'set.cr0' must be a 64-bit number",
        "{'op':'mov_cr','cr':3,'value':'0x0','res':'ok'}                            # 'cr' must be 0 or 4",
        "{'op':'cpuid','leaf':'0x0','sub':'0x0','res':['0x0']}                      # 'res' must have four values",
        "{'op':'cpuid','leaf':'0x0','sub':'0x0'}                                    # 'res' must be a string, and is missing",
        "{'op':'msr_sweep','acc':'rd','stride':0,'ranges':[]}                       # 'stride' must be a number from 1",
        "{'op':'msr_sweep','acc':'x','stride':1,'ranges':[]}                        # 'acc' must be one of rd, wr",
        "{'op':'cpuid','leaf':'0x0','sub':'0x0','res':['gp','*','*','*']}           # 'gp' is no 64-bit number",
        "{'op':'msr_sweep','acc':'rd','stride':1,'ranges':[['all','0x1','gp']]}     # 'all' is no 64-bit number",
        "{'op':'msr_sweep','acc':'rd','stride':1,'ranges':[['0x0']]}                # 'ranges' must hold ranges",
        "{'op':'msr_sweep','acc':'rd','stride':1,'ranges':[['0x0','0x100000000','*']]} # must hold ranges of a first index",
        "{'op':'msr_sweep','acc':'rd','stride':1,'ranges':[['0x0','0xffffffff','*']]} # 'ranges' holds more than 1000000 indexes",
        "{'op':'mtf_until_done','max':99999999}                                     # 'max' must be a number from 0 to 1000000"})
    void aStepOfAGuestThatIsNone(String step, String said) throws IOException {
        assertThat(problem(RUN + lines(step))).contains(said.strip().replace('\'', '"'));
    }

    @Test void includesThatGoRoundEnd() throws IOException {
        made.write("setup/a.jsonl", "{\"setup\":\"a\"}\n{\"op\":\"include\",\"file\":\"setup/b.jsonl\"}\n");
        made.write("setup/b.jsonl", "{\"setup\":\"b\"}\n{\"op\":\"include\",\"file\":\"setup/a.jsonl\"}\n");
        assertThat(problem(lines("{'op':'include','file':'setup/a.jsonl'}")))
                .isEqualTo("cannot be replayed: setup/a.jsonl includes itself");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', quoteCharacter = '"', value = {
        "{\"\"op\"\":                          # line 2: not JSON",
        "[]                                    # line 2: not a JSON object",
        "{\"\"op\"\":\"\"note\"\"} x           # line 2: not JSON",
        "{op:note}                             # line 2: not JSON",
        "{\"\"a\"\":{\"\"a\"\":[[[[[[[[[[}     # line 2: not JSON"})
    void aLineThatIsNoObject(String line, String said) throws IOException {
        assertThat(problem(line + "\n")).endsWith("x/made.jsonl, " + said);
    }

    @Test void emptyLinesDoNotMatter() throws IOException {
        assertThat(made.replay("\n{\"op\":\"note\"}\n\n").passed()).isTrue();
    }

    @Test void aFileThatCannotBeReadFailsItsScenarioAlone() throws IOException {
        var bytes = new ByteArrayOutputStream();
        try (var gzip = new GZIPOutputStream(bytes)) {
            gzip.write((MadeVectors.HEADER + "{\"op\":\"note\"}\n".repeat(1000)).getBytes(StandardCharsets.UTF_8));
        }
        var packed = bytes.toByteArray();
        made.write("z/good.jsonl", MadeVectors.HEADER + "{\"op\":\"note\"}\n");
        Files.write(folder.resolve("z/packed.jsonl.gz"), packed);
        Files.write(folder.resolve("z/cut.jsonl.gz"), Arrays.copyOf(packed, packed.length - 30));
        packed[packed.length / 2] ^= 0x55;
        Files.write(folder.resolve("z/damaged.jsonl.gz"), packed);
        made.write("z/plain.jsonl.gz", MadeVectors.HEADER);
        made.write("z/empty.jsonl", "");
        made.write("z/header.jsonl", "{}\n");
        made.write("z/json.jsonl", "{\n");
        made.write("z/platform.jsonl", MadeVectors.HEADER.replace("spr-1lp4", "none"));
        made.write("platform-bad.json", "{\"logical_processors\":4,\"memory\":{\"physical_bytes\":\"0x1001\"}}");
        made.write("z/bad.jsonl", MadeVectors.HEADER.replace("spr-1lp4", "bad"));
        var outcomes = VectorSet.open(folder.resolve("z")).replay(2);
        assertThat(outcomes).filteredOn(Outcome::passed).extracting(o -> o.scenario().file())
                .containsExactly("z/good.jsonl", "z/packed.jsonl");
        assertThat(outcomes).filteredOn(o -> !o.passed()).hasSize(8).allSatisfy(o -> assertThat(o.difference().text())
                .doesNotContain("\n", "Exception", "null").contains(o.scenario().file().replaceAll("z/(platform|bad).jsonl", "platform-")));
    }

    @Test void aFileThatTheManifestListsAndIsMissingFails() throws IOException {
        var other = new MadeVectors(Files.createTempDirectory(folder, "other"));
        other.write("q/here.jsonl", MadeVectors.HEADER);
        other.write("MANIFEST.json", lines("{'families':{'x':{'about':'made ones'}},"
                + "'files':[['q/here.jsonl',0,1],['q/lost.jsonl.gz',1,1]]}"));
        var set = VectorSet.open(other.folder);
        assertThat(set.families()).containsEntry("x", "made ones");
        assertThat(set.replay(1)).extracting(Outcome::passed).containsExactly(true, false);
        other.write("MANIFEST.json", "{\"families\":[]}");
        assertThatThrownBy(() -> VectorSet.open(other.folder)).isInstanceOf(MalformedVectors.class).hasMessageContaining("MANIFEST.json");
    }

    @Test void noScenariosIsAnError() throws IOException {
        var empty = Files.createTempDirectory(folder, "empty");
        assertThatThrownBy(() -> VectorSet.open(folder.resolve("nowhere"))).isInstanceOf(MalformedVectors.class)
                .hasMessageContaining("there is no directory");
        assertThatThrownBy(() -> VectorSet.open(empty)).isInstanceOf(MalformedVectors.class).hasMessageContaining("no scenarios");
        assertThatThrownBy(() -> VectorSet.open(folder.resolve("setup"))).hasMessageContaining("no scenarios");
    }
}
