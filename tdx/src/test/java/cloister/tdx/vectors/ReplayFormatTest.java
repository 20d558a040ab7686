package cloister.tdx.vectors;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// The format of the vectors, sentence by sentence, beyond what the recordings use of it: what it says is replayed, and what
/// differs is found.
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ReplayFormatTest {
    private static final String RUN = """
            {"op":"include","file":"setup/run-basic-3.jsonl"}
            """;
    private static final String SYS_INIT = """
            {"op":"seamcall","leaf":33,"out":{"rax":"RAX"}}
            """;

    @TempDir
    private static Path folder;
    private MadeVectors made;

    @BeforeAll void make() throws IOException {
        made = new MadeVectors(folder);
    }

    private void passes(String steps) throws IOException {
        var outcome = made.replay(steps);
        assertThat(outcome.difference() == null ? "" : outcome.difference().text()).isEmpty();
        assertThat(outcome.passed()).isTrue();
    }

    private Difference differs(String steps) throws IOException {
        var outcome = made.replay(steps);
        assertThat(outcome.passed()).isFalse();
        assertThat(outcome.difference().problem()).isEmpty();
        assertThat(outcome.difference().items()).isNotEmpty();
        return outcome.difference();
    }

    @Test void aResultThatDiffersIsFoundAndSaidInWords() throws IOException {
        var outcome = made.replay(SYS_INIT.replace("RAX", "0x0") + SYS_INIT.replace("RAX", "0xc000010000000002"));
        assertThat(outcome.replayed()).isEqualTo(1);
        assertThat(outcome.steps()).isEqualTo(2);
        var difference = outcome.difference();
        assertThat(difference.places()).containsExactly(new Difference.Place("x/made.jsonl", 3));
        assertThat(difference.call()).isEqualTo("TDH.SYS.INIT on LP 0");
        assertThat(difference.items()).containsExactly(new Difference.Item("rax", "0xc000010000000002", "0xc000050000000000",
                "expected OPERAND_INVALID of RDX, got SYS_INIT_NOT_PENDING"));
    }

    @Test void everyRegisterThatDiffersIsNamed() throws IOException {
        // No leaf has this number: the failure leaves the registers alone.
        var difference = differs("""
                {"op":"seamcall","leaf":9999,"in":{"rcx":"0x5"},"out":{"rax":"*","rcx":"0x6","r15":"0x100"}}
                """);
        assertThat(difference.items()).extracting(Difference.Item::subject).containsExactly("rcx", "r15");
        assertThat(difference.text()).contains("rcx  expected 0x6", "got 0x5", "bits 1:0 differ", "r15  expected 0x100");
    }

    @Test void aRegisterThatIsNotListedMustKeepItsInput() throws IOException {
        assertThat(differs(RUN + """
                {"op":"td_exit","reason":1,"intr":"0x80000020","out":{"rax":"0x1","r9":"0x80000020"}}
                {"op":"seamcall","leaf":6,"in":{"rcx":"0x5000","rdx":"0x100000000","r8":"0x100013000"},"out":{"rax":"0x0"}}
                """).text()).contains("0x5000 (not listed)", "0x100000000 (not listed)", "TDH.MEM.PAGE.AUG");
    }

    @Test void aDifferenceInASetupNamesTheSetupTheIncluderAndTheCase() throws IOException {
        made.write("setup/broken.jsonl", "{\"setup\":\"broken\"}\n" + SYS_INIT.replace("RAX", "0x1"));
        var difference = differs("""
                {"op":"reset","case":"here"}
                {"op":"include","file":"setup/broken.jsonl"}
                """);
        assertThat(difference.text()).startsWith("setup/broken.jsonl:2, included by x/made.jsonl:3, case here\n");
    }

    @Test void includesMayFollowResetsAndNest() throws IOException {
        made.write("setup/outer.jsonl", "{\"setup\":\"outer\"}\n{\"op\":\"include\",\"file\":\"setup/inner.jsonl\"}\n");
        made.write("setup/inner.jsonl", "{\"setup\":\"inner\"}\n" + SYS_INIT.replace("RAX", "0x0"));
        passes("""
                {"op":"include","file":"setup/outer.jsonl"}
                {"op":"reset"}
                {"op":"include","file":"setup/outer.jsonl"}
                {"op":"reset","case":"again"}
                """ + SYS_INIT.replace("RAX", "0x0"));
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "{'op':'host_write','pa':'0x5000','hex':'0102'}|{'op':'expect_mem','pa':'0x5000','hex':'0102'}",
        "{'op':'host_write','pa':'0x5ffe','fill':'ab','len':4}|{'op':'expect_mem','pa':'0x5ffd','hex':'00ab**ab**00'}",
        "{'op':'host_write','pa':'0x5000','pattern':1,'len':12}|{'op':'expect_mem','pa':'0x5000','hex':'157c4a7fb979379e1869dd50'}",
        "{'op':'expect_mem','pa':'0x0','zero':true,'len':8192}",
        "{'op':'expect_mem','pa':'0x5000','hex':'0000','len':2}",
        "{'op':'host_msr','msr':'0x1234','value':'0x5'}|{'op':'host_msr','lp':3,'msr':'0x1234','value':'0x5'}",
        "{'op':'tsc','value':'0x400000000000'}|{'op':'note','text':'anything','cr':4}"})
    void memoryAndPlatformSteps(String steps) throws IOException {
        passes(lines(steps));
    }

    @Test void memoryThatDiffersIsShownWithItsNeighbours() throws IOException {
        assertThat(differs(lines("{'op':'host_write','pa':'0x5000','hex':'000102030405060708090a0b0c0d0e0f'}"
                + "|{'op':'expect_mem','pa':'0x5000','hex':'000102030405060708090a0b0cFF0e0f'}")).items())
                .containsExactly(new Difference.Item("memory at pa 0x500d", "08090a0b0cFF0e0f", "08090a0b0c0d0e0f",
                        "bytes 0x8..0xf of the image; 1 of 16 bytes differ"));
        differs(lines("{'op':'host_write','pa':'0x5001','fill':'01','len':1}|{'op':'expect_mem','pa':'0x5000','zero':true,'len':2}"));
    }

    @Test void whatTheGuestWritesIsThere() throws IOException {
        passes(RUN + lines("{'op':'guest_write','gpa':'0x2000','hex':'0102'}|{'op':'expect_guest_mem','gpa':'0x2000','hex':'01**'}"
                + "|{'op':'guest_write','gpa':'0x2000','fill':'00','len':4096}"
                + "|{'op':'expect_guest_mem','gpa':'0x2000','zero':true,'len':4096}"
                + "|{'op':'guest_write','gpa':'0x2040','hex':'0708'}|{'op':'expect_guest_mem','gpa':'0x2040','hex':'0708'}"));
        assertThat(differs(RUN + lines("{'op':'guest_write','gpa':'0x800000','hex':'0102'}")).text()).contains("GPA 0x800000", "of a page");
    }

    @Test void sharedKeysReadEachOthersMemory() throws IOException {
        passes(lines("{'op':'include','file':'setup/boot.jsonl'}|{'op':'host_write','pa':'0x300000','fill':'ee','len':4096}"
                + "|{'op':'seamcall','leaf':32,'in':{'rcx':'0x5400000300000','rdx':'0x1000','r8':'0x301000','r9':'0x20'},"
                + "'out':{'rax':'*','rdx':'*','r9':'*'}}|{'op':'expect_mem','pa':'0x300000','hex':'0000000086800000'}"));
    }

    @Test void repeatedCallsAdvanceTheirRegisters() throws IOException {
        passes(lines("{'op':'seamcall','leaf':9999,'in':{'rcx':'0x5'},'repeat':3,'step':{'rcx':'0x10','rdx':'0x1'},"
                + "'out':{'rax':'*','rcx':'0x25','rdx':'0x2'}}"));
        differs(lines("{'op':'seamcall','leaf':9999,'in':{'rcx':'0x5'},'repeat':3,'step':{'rcx':'0x10'},'out':{'rax':'*','rcx':'0x5'}}"));
        // The first of the calls succeeds, the others do not.
        assertThat(differs(SYS_INIT.replace("RAX", "0x0").replace("33,", "33,\"repeat\":2,")).text())
                .contains("2 times", "SYS_INIT_NOT_PENDING");
    }

    @Test void guestsRepeatCallsToo() throws IOException {
        passes(RUN + lines("{'op':'tdcall','leaf':5,'in':{'rcx':'0x0'},'repeat':4,'guest':{'gpr':{'rax':'0x0'},'rip_adv':4}}"
                + "|{'op':'tdcall','leaf':9999,'in':{'rcx':'0x5'},'repeat':3,'step':{'rcx':'0x10'},"
                + "'guest':{'gpr':{'rax':'*'},'rip_adv':4}}"));
        differs(RUN + lines("{'op':'tdcall','leaf':5,'in':{'rcx':'0x0'},'repeat':4,'guest':{'gpr':{'rax':'0x0'},'rip_adv':3}}"));
    }

    @Test void raxMayBeGivenWhole() throws IOException {
        passes("""
                {"op":"seamcall","rax":"0x1000021","out":{"rax":"0xc000010000000000"}}
                """ + RUN.replace("include", "reset").replace(",\"file\":\"setup/run-basic-3.jsonl\"", "") + RUN + """
                {"op":"tdcall","rax":"0x1","guest":{"gpr":{"rax":"0x0","rcx":"*","rdx":"*","r8":"*","r9":"*","r10":"*"},"rip_adv":4}}
                """);
    }

    @Test void anyValueStaysAnyValueUntilItIsListed() throws IOException {
        var info = "{'op':'tdcall','leaf':1,'guest':{'gpr':{'rax':'0x0','rcx':'*','rdx':'*','r8':'*','r9':'*','r10':'*'},'rip_adv':4}}";
        var exit = "|{'op':'td_exit','reason':1,'intr':'0x80000020','out':{'rax':'0x1','r9':'0x80000020'}}";
        // The entry lists none of the registers that are not known.
        passes(RUN + lines(info + exit + "|{'op':'seamcall','leaf':0,'in':{'rcx':'0x100007000'},'guest':{'gpr':{'rbx':'*'}}}"));
        // But once listed, a register is known again.
        assertThat(differs(RUN + lines(info
                + "|{'op':'tdcall','leaf':5,'in':{'rcx':'0x0','rdx':'0x7'},'guest':{'gpr':{'rax':'0x0'},'rip_adv':4}}"
                + exit + "|{'op':'seamcall','leaf':0,'in':{'rcx':'0x100007000'},'guest':{'gpr':{'rbx':'*'}}}")).items())
                .extracting(Difference.Item::subject).containsExactly("rdx");
    }

    @Test void everyPartOfAnEventIsComparedOrAny() throws IOException {
        var hlt = "{'op':'td_exit','reason':12,'ilen':1,'guest':{'event':EVENT,'gpr':{}}}";
        passes(RUN + lines(hlt.replace("EVENT", "{'vec':20,'type':3}")));
        passes(RUN + lines(hlt.replace("EVENT", "{'vec':'*','type':'*'}")));
        assertThat(differs(RUN + lines(hlt.replace("EVENT", "{'vec':13,'type':3}"))).text()).contains("vector of the event");
        assertThat(differs(RUN + lines(hlt.replace("EVENT", "{'vec':20,'type':2}"))).text()).contains("type of the event");
        assertThat(differs(RUN + lines(hlt.replace("EVENT", "{'vec':20,'type':3,'err':'0x1'}"))).text()).contains("error code");
        differs(RUN + lines(hlt.replace("'event':EVENT,", "")));
        // RDPMC of a TD without PERFMON is a #GP with an error code: it must be listed.
        var rdpmc = "{'op':'td_exit','reason':15,'ilen':2,'guest':{'event':EVENT,'gpr':{}}}";
        passes(RUN + lines(rdpmc.replace("EVENT", "{'vec':13,'type':3,'err':'0x0'}")));
        assertThat(differs(RUN + lines(rdpmc.replace("EVENT", "{'vec':13,'type':3}"))).text()).contains("error code of the event");
    }

    @Test void theGuestChangesAllOfItsState() throws IOException {
        passes(RUN + lines("{'op':'guest_state','set':{'rip':'0x1000','rflags':'0x2','cr0':'0x80000031','cr3':'0x5000','cr4':'0x2020',"
                + "'efer':'0xd01','dr7':'0x400','cs_ar':'0xa09b','ss_ar':'0xc093','rsp':'0x7000','fs_base':'0x1','gdtr_limit':'0xff',"
                + "'rbx':'0x77','cr2':'0x5','dr0':'0x1','dr6':'0xffff0ff0','interruptibility_state':'0x0'}}"
                + "|{'op':'td_exit','reason':1,'intr':'0x80000020','out':{'rax':'0x1','r9':'0x80000020'}}"
                + "|{'op':'seamcall','leaf':0,'in':{'rcx':'0x100007000'},"
                + "'guest':{'gpr':{'rax':'*','rcx':'*','rdx':'*','rbx':'0x77','r8':'*'}}}"));
    }

    @Test void compactStepsTakeAnyValue() throws IOException {
        passes(RUN + lines("{'op':'cpuid','leaf':'0x0','sub':'0x0','res':['*','*','*','*']}"
                + "|{'op':'cpuid','leaf':'0x0','sub':'0x0','hi':'0xdeadbeef00000000','res':['0x23','*','*','*']}"
                + "|{'op':'cpuid','leaf':'0x0','sub':'0x0','res':'*'}"
                + "|{'op':'msr_sweep','acc':'rd','stride':1,'ranges':[['0x10','0x1f','*']]}"
                + "|{'op':'wrmsr','msr':'0xc0000103','value':'0x5','res':'*','readback':'*'}"
                + "|{'op':'wrmsr','msr':'0xc0000103','value':'0x5','res':'pass'}"
                + "|{'op':'xsetbv','value':'0x3','res':'ok','xcr0':'*'}"));
        differs(RUN + lines("{'op':'cpuid','leaf':'0x0','sub':'0x0','res':['0x24','*','*','*']}"));
        differs(RUN + lines("{'op':'cpuid','leaf':'0x0','sub':'0x0','res':'ve'}"));
    }

    @Test void sweepsFindTheBit() throws IOException {
        var flip = "{'op':'flip_sweep','phase':'sysinit','leaf':'0x0','sub':'any','reg':'ebx','results':{'RAX':[0,31]}}";
        assertThat(differs(lines(flip.replace("RAX", "0x0"))).items().getFirst().subject()).isEqualTo("rax with bit 0 inverted");
        passes(lines(flip.replace("RAX", "*")));
        passes(lines("{'op':'flip_sweep','phase':'lpinit','msr':'0xbd','results':{'0xc0000920000000bd':[5]}}"
                + "|") + SYS_INIT.replace("RAX", "0x0"));
    }

    @Test void anInitSweepStartsAgainForEachBit() throws IOException {
        var sweep = "{'op':'include','file':'setup/tdpre.jsonl'}|{'op':'init_sweep','what':'cpuid_config','entry':0,'reg':0,"
                + "'pa':'0x210100','tdr':'0x100000000','params':'0x210000','results':{KEY}}|";
        var failing = "'0xc000010000000045,0xffffffff00000001':[0,1,31]";
        // After the sweep the TD is where it was before.
        passes(lines(sweep.replace("KEY", failing)
                + "{'op':'seamcall','leaf':21,'in':{'rcx':'0x100000000','rdx':'0x210000'},'out':{'rax':'0x0','rcx':'*'}}"));
        passes(lines(sweep.replace("KEY", failing.replace("0xffffffff00000001", "*"))));
        assertThat(differs(lines(sweep.replace("KEY", failing.replace("ffffffff", "7fffffff")))).items())
                .containsExactly(new Difference.Item("rcx with bit 0 set", "0x7fffffff00000001", "0xffffffff00000001", "bit 63 differs"));
    }

    @Test void severalLocksAreHeldAtOnce() throws IOException {
        var aug = "{'op':'seamcall','lp':1,'leaf':6,'in':{'rcx':'0x5000','rdx':'0x100000000','r8':'0x100013000'},"
                + "'out':{'rax':'RAX','rcx':'*','rdx':'*'}}";
        passes(RUN + lines("{'op':'hold_lock','lock':'op_state','mode':'shared'}|{'op':'hold_lock','lock':'op_state','mode':'shared'}"
                + "|{'op':'hold_lock','lock':'sept_tree','mode':'exclusive'}|" + aug.replace("RAX", "0x8000020000000092")
                + "|{'op':'hold_lock','lock':'td_epoch','mode':'exclusive'}|{'op':'release_lock','lock':'sept_tree','mode':'exclusive'}"
                + "|{'op':'seamcall','lp':1,'leaf':38,'in':{'rcx':'0x100000000'},'out':{'rax':'0x80000200000000a9'}}"
                + "|{'op':'release_lock','lock':'op_state','mode':'shared'}|{'op':'release_lock','lock':'op_state','mode':'shared'}"
                + "|{'op':'release_lock','lock':'td_epoch','mode':'exclusive'}|" + aug.replace("RAX", "0x0")));
    }

    @Test void severalProcessorsRunGuests() throws IOException {
        var outcome = made.replay(RUN + lines("{'op':'seamcall','lp':1,'leaf':0,'in':{'rcx':'0x100007000'},'out':{'rax':'*'}}"
                + "|{'op':'tdcall','lp':1,'leaf':1,'guest':{'gpr':{'rax':'0x0'},'rip_adv':4}}"));
        assertThat(outcome.replayed()).isEqualTo(1);
        assertThat(outcome.difference().text()).contains("LP 1", "runs a guest", "runs none");
    }

    @Test void eachScenarioBeginsAtPowerOn() throws IOException {
        made.write("y/one.jsonl", MadeVectors.HEADER + SYS_INIT.replace("RAX", "0x0")
                + lines("{'op':'host_write','pa':'0x5000','hex':'0102'}"));
        made.write("y/deep/two.jsonl", MadeVectors.HEADER + SYS_INIT.replace("RAX", "0x0")
                + lines("{'op':'expect_mem','pa':'0x5000','zero':true,'len':2}"));
        var set = VectorSet.open(folder.resolve("y"));
        assertThat(set.scenarios()).extracting(Scenario::file).containsExactly("y/deep/two.jsonl", "y/one.jsonl");
        List<Outcome> outcomes = set.replay(1);
        assertThat(outcomes).hasSize(2).allMatch(Outcome::passed);
    }

    /// Steps with `'` for quotes and `|` for line ends.
    static String lines(String steps) {
        return steps.replace('\'', '"').replace('|', '\n') + "\n";
    }
}
