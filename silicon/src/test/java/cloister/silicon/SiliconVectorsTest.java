package cloister.silicon;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import java.io.IOException;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Replays every vector recorded on silicon. Recorded with `SiliconTester --seed 1000 --cases 28 --sequences 4000 --record FILE`
/// on an AMD EPYC of the Zen 5 family; the XSAVE instructions with `--only XSAVE --cases 60` and `--only XRSTOR --cases 60`.
class SiliconVectorsTest {
    private static final String[] FILES = {"vectors.xz", "xsave.xz", "xrstor.xz"};

    private static void replay(Vectors.Sink sink) throws IOException {
        for (String file : FILES) {
            Vectors.read(SiliconVectorsTest.class.getResourceAsStream(file), sink);
        }
    }

    @ParameterizedTest
    @EnumSource(Model.Engine.class)
    void modelDoesWhatSiliconDid(Model.Engine engine) throws IOException {
        Model model = new Model();
        Decoder decoder = new Decoder();
        List<String> different = new ArrayList<>();
        int[] count = {0};
        replay(vector -> {
            Case c = vector.testCase();
            Instruction i = decoder.decode(c.mode(), c.code(), 0, c.code().length);
            String difference = Comparison.differences(c, i, vector.outcome(), model.run(c, engine));
            if (difference != null && different.size() < 50) {
                different.add(difference);
            }
            count[0]++;
        });
        assertThat(different).isEmpty();
        assertThat(count[0]).isGreaterThan(200_000);
    }

    @Test
    void everyUserInstructionIsThere() throws IOException {
        Decoder decoder = new Decoder();
        Map<Op, Integer> completed = new EnumMap<>(Op.class);
        Set<Op> seen = EnumSet.noneOf(Op.class);
        replay(vector -> {
            Case c = vector.testCase();
            Instruction i = decoder.decode(c.mode(), c.code(), 0, c.code().length);
            seen.add(i.op);
            completed.merge(i.op, vector.outcome().faulted() ? 0 : 1, Integer::sum);
        });
        for (Template template : Template.all(CodeMode.BITS64)) {
            assertThat(seen).contains(Op.valueOf(template.form().split(" ")[0]));
        }
        assertThat(completed.values().stream().filter(n -> n > 30).count()).as("operations with many completed cases").isGreaterThan(400);
    }

    /// The comparison must notice when the model is wrong.
    @Test
    void wrongOutcomesAreNoticed() throws IOException {
        Model model = new Model();
        Decoder decoder = new Decoder();
        int[] missed = {0};
        int[] count = {0};
        replay(vector -> {
            if (count[0]++ % 100 != 0 || vector.outcome().faulted()) {
                return;
            }
            Case c = vector.testCase();
            Instruction i = decoder.decode(c.mode(), c.code(), 0, c.code().length);
            Outcome right = model.run(c, Model.Engine.STEP);
            right.state().gpr[count[0] / 100 % 8] ^= 1;
            missed[0] += Comparison.differences(c, i, vector.outcome(), right) == null ? 1 : 0;
        });
        assertThat(missed[0]).isZero();
    }

    /// Where the oracle is at hand, a few new cases.
    @Test
    @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
    void childRunsCases() throws IOException {
        CaseGenerator generator = new CaseGenerator(42);
        List<Case> cases = new ArrayList<>();
        for (Template template : Template.all(CodeMode.BITS64).subList(0, 50)) {
            cases.add(generator.next(template)); // the oldest integer instructions: every x86-64 has them
        }
        Model model = new Model();
        Decoder decoder = new Decoder();
        List<Outcome> outcomes = new Silicon().run(cases);
        for (int n = 0; n < cases.size(); n++) {
            Case c = cases.get(n);
            Instruction i = decoder.decode(c.mode(), c.code(), 0, c.code().length);
            assertThat(outcomes.get(n).vector()).isNotEqualTo(Outcome.LOST);
            assertThat(Comparison.differences(c, i, outcomes.get(n), model.run(c, Model.Engine.RUN))).isNull();
        }
    }
}
