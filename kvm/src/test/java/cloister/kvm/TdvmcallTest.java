package cloister.kvm;

import static cloister.kvm.ScriptedTd.SHARED;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.Tdvmcall;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Every TDVMCALL that Linux handles, with each of its refusals, and KVM's own hypercalls of a TD: what the guest finds in its registers
/// and what the VMM gets. [GHCI "TDG.VP.VMCALL"], [LINUX tdx_handle_exit]
final class TdvmcallTest {
    private static final long OK = Tdvmcall.STATUS_SUCCESS;
    private static final long INVALID = Tdvmcall.STATUS_INVALID_OPERAND;
    private static final long ALIGN = Tdvmcall.STATUS_ALIGN_ERROR;
    private static final long UNSUPPORTED = Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED;
    private static final long RETRY = Tdvmcall.STATUS_RETRY;
    private static final int CPUID = 10, HLT = 12, IO = 30, RDMSR = 31, WRMSR = 32, MMIO = 48;
    private static final long INFO = Tdvmcall.GET_TD_VM_CALL_INFO, MAP_GPA = Tdvmcall.MAP_GPA, QUOTE = Tdvmcall.GET_QUOTE,
            NOTIFY = Tdvmcall.SETUP_EVENT_NOTIFY_INTERRUPT;

    private static Arguments row(String what, long leaf, long r12, long r13, long r14, long r15, long status) {
        return Arguments.of(what, leaf, new long[] {r12, r13, r14, r15}, status);
    }

    /// Calls that KVM answers without the VMM: the leaf, R12 to R15, and R10 of the answer.
    static List<Arguments> answeredByKvm() {
        return List.of(
                row("IO of 3 bytes", IO, 3, 0, 0x60, 0, INVALID),
                row("IO of 8 bytes", IO, 8, 0, 0x60, 0, INVALID),
                row("IO of no byte", IO, 0, 0, 0x60, 0, INVALID),
                row("IO in direction 2", IO, 1, 2, 0x60, 0, INVALID),
                row("IO in direction 2^32", IO, 1, 1L << 32, 0x60, 0, INVALID),
                row("MMIO of 3 bytes", MMIO, 3, 0, SHARED, 0, INVALID),
                row("MMIO of 16 bytes", MMIO, 16, 0, SHARED, 0, INVALID),
                row("MMIO in direction 2", MMIO, 4, 2, SHARED, 0, INVALID),
                row("MMIO of private memory", MMIO, 4, 0, 0x5000, 0, INVALID),
                row("MMIO from private to shared memory", MMIO, 8, 0, SHARED - 4, 0, INVALID),
                row("RDMSR of what a TD has itself", RDMSR, 0xc000_0102L, 0, 0, 0, INVALID),
                row("RDMSR of nothing", RDMSR, 0x12345, 0, 0, 0, INVALID),
                row("RDMSR of TPR, which the processor virtualises", RDMSR, 0x808, 0, 0, 0, INVALID),
                row("RDMSR of MCG_EXT_CTL without LMCE", RDMSR, 0x4d0, 0, 0, 0, INVALID),
                row("WRMSR of APIC_BASE", WRMSR, 0x1b, 0xfee0_0d00L, 0, 0, INVALID),
                row("WRMSR of EFER", WRMSR, 0xc000_0080L, 0xd01, 0, 0, INVALID),
                row("WRMSR of FEAT_CTL", WRMSR, 0x3a, 1, 0, 0, INVALID),
                row("WRMSR of an MTRR type that is none", WRMSR, 0x2ff, 0xc02, 0, 0, INVALID),
                row("WRMSR of an MTRR type", WRMSR, 0x2ff, 0xc06, 0, 0, OK),
                row("WRMSR of POLL_CONTROL", WRMSR, 0x4b56_4d05L, 0, 0, 0, OK),
                row("WRMSR of POLL_CONTROL bit 1", WRMSR, 0x4b56_4d05L, 2, 0, 0, INVALID),
                row("WRMSR of MCG_EXT_CTL without LMCE", WRMSR, 0x4d0, 1, 0, 0, INVALID),
                row("WRMSR of ICR, reserved vector to nobody", WRMSR, 0x830, 0x7_0000_0040L, 0, 0, OK),
                row("INVD, a reason that is no call", 13, 0, 0, 0, 0, UNSUPPORTED),
                row("MONITOR, a reason that is no call", 39, 0, 0, 0, 0, UNSUPPORTED),
                row("reason 0xffff", 0xffff, 0, 0, 0, 0, UNSUPPORTED),
                row("a call behind the last", 0x10005, 0, 0, 0, 0, UNSUPPORTED),
                row("a call with upper bits", (1L << 32) | IO, 1, 0, 0x60, 0, UNSUPPORTED),
                row("a negative call", -1, 0, 0, 0, 0, UNSUPPORTED),
                row("GetTdVmCallInfo 0", INFO, 0, 9, 9, 0, OK),
                row("GetTdVmCallInfo 2", INFO, 2, 0, 0, 0, INVALID),
                row("MapGPA of nothing", MAP_GPA, SHARED, 0, 0, 0, INVALID),
                row("MapGPA around the end", MAP_GPA, -0x1000L, 0x2000, 0, 0, INVALID),
                row("MapGPA beyond the address width", MAP_GPA, SHARED << 1, 0x1000, 0, 0, INVALID),
                row("MapGPA of private and shared addresses", MAP_GPA, SHARED - 0x1000, 0x2000, 0, 0, INVALID),
                row("MapGPA of an odd address", MAP_GPA, SHARED + 0x800, 0x1000, 0, 0, ALIGN),
                row("MapGPA of half a page", MAP_GPA, SHARED, 0x800, 0, 0, ALIGN),
                row("GetQuote in private memory", QUOTE, 0x5000, 0x1000, 0, 0, INVALID),
                row("SetupEventNotifyInterrupt 31", NOTIFY, 31, 0, 0, 0, INVALID),
                row("SetupEventNotifyInterrupt 256", NOTIFY, 256, 0, 0, 0, INVALID),
                row("SetupEventNotifyInterrupt 2^32 + 64", NOTIFY, (1L << 32) + 64, 0, 0, 0, INVALID));
    }

    @ParameterizedTest(name = "{0}") @MethodSource("answeredByKvm")
    void isAnsweredByKvm(String what, long leaf, long[] arguments, long status) {
        try (var td = new ScriptedTd()) {
            long[] seen = new long[16];
            td.then(ScriptedModule.tdvmcall(leaf, arguments)).end(seen);
            assertThat(td.run()).containsExactly(new KvmExit.Shutdown());
            assertThat(Long.toHexString(seen[SeamRegs.R10])).isEqualTo(Long.toHexString(status));
            if (leaf == MAP_GPA) {
                assertThat(seen[SeamRegs.R11]).as("where it failed").isEqualTo(arguments[0]);
            }
        }
    }

    private static Arguments exit(String what, long leaf, long[] arguments, KvmExit exit, Consumer<KvmRun> answer, long status) {
        return Arguments.of(what, leaf, arguments, exit, answer, status);
    }

    private static Consumer<KvmRun> returning(long value) {
        return run -> run.ret = value;
    }

    private static long[] of(long... values) {
        return values;
    }

    /// Calls that the VMM answers: what it gets, and R10 behind its answer.
    static List<Arguments> answeredByTheVmm() {
        Consumer<KvmRun> nothing = run -> { };
        return List.of(
                exit("IO out", IO, of(2, 1, 0x3f8, 0x1234), new KvmExit.Io(true, 2, 0x3f8, 1), nothing, OK),
                exit("IO in", IO, of(4, 0, 0x3f8, 0), new KvmExit.Io(false, 4, 0x3f8, 1), nothing, OK),
                exit("IO of a port with upper bits", IO, of(1, 0, 0xabc_0060L, 0), new KvmExit.Io(false, 1, 0x60, 1), nothing, OK),
                exit("MMIO read", MMIO, of(8, 0, SHARED + 0xf000, 0), new KvmExit.Mmio(0xf000, 8, false), nothing, OK),
                exit("MMIO write", MMIO, of(4, 1, SHARED + 0xf000, 7), new KvmExit.Mmio(0xf000, 4, true), nothing, OK),
                exit("MMIO of a size with upper bits", MMIO, of((1L << 32) + 4, 0, SHARED, 0), new KvmExit.Mmio(0, 4, false), nothing, OK),
                exit("GetTdVmCallInfo 1", INFO, of(1, 0, 0, 0), new KvmExit.TdxGetTdVmCallInfo(1), nothing, OK),
                exit("GetTdVmCallInfo 1, refused", INFO, of(1, 0, 0, 0), new KvmExit.TdxGetTdVmCallInfo(1), returning(INVALID), INVALID),
                exit("GetQuote", QUOTE, of(SHARED + 0x4000, 0x2000), new KvmExit.TdxGetQuote(0x4000, 0x2000), returning(OK), OK),
                exit("GetQuote, not answered", QUOTE, of(SHARED + 0x4000, 0x2000), new KvmExit.TdxGetQuote(0x4000, 0x2000), nothing,
                        UNSUPPORTED),
                exit("SetupEventNotifyInterrupt 32", NOTIFY, of(32), new KvmExit.TdxSetupEventNotify(32), returning(OK), OK),
                exit("SetupEventNotifyInterrupt 255", NOTIFY, of(255), new KvmExit.TdxSetupEventNotify(255), nothing, UNSUPPORTED),
                exit("MapGPA to shared", MAP_GPA, of(SHARED + 0x3000, 0x2000), new KvmExit.MapGpaRange(0x3000, 2, false), nothing, OK),
                exit("MapGPA to private", MAP_GPA, of(0x3000, 0x2000), new KvmExit.MapGpaRange(0x3000, 2, true), nothing, OK),
                exit("MapGPA, later", MAP_GPA, of(0x3000, 0x2000), new KvmExit.MapGpaRange(0x3000, 2, true), returning(11), RETRY),
                exit("MapGPA, refused", MAP_GPA, of(0x3000, 0x2000), new KvmExit.MapGpaRange(0x3000, 2, true), returning(22), INVALID));
    }

    @ParameterizedTest(name = "{0}") @MethodSource("answeredByTheVmm")
    void isAnsweredByTheVmm(String what, long leaf, long[] arguments, KvmExit exit, Consumer<KvmRun> answer, long status) {
        try (var td = new ScriptedTd()) {
            long[] seen = new long[16];
            td.then(ScriptedModule.tdvmcall(leaf, arguments)).end(seen);
            assertThat(td.run(e -> answer.accept(td.vcpu().kvmRun()))).containsExactly(exit, new KvmExit.Shutdown());
            assertThat(Long.toHexString(seen[SeamRegs.R10])).isEqualTo(Long.toHexString(status));
        }
    }

    @Test void whatTheVmmReadIsTheResult() {
        try (var td = new ScriptedTd()) {
            long[] io = new long[16];
            long[] mmio = new long[16];
            td.then(ScriptedModule.tdvmcall(IO, 2, 0, 0x3f8)).then(regs -> {
                System.arraycopy(regs.array(), 0, io, 0, 16);
                ScriptedModule.tdvmcall(MMIO, 8, 0, SHARED).accept(regs);
            }).end(mmio);
            td.run(exit -> {
                for (int i = 0; i < 8; i++) {
                    td.vcpu().kvmRun().data[i] = (byte) (0x11 * (i + 1));
                }
            });
            assertThat(io[SeamRegs.R11]).isEqualTo(0x2211);
            assertThat(mmio[SeamRegs.R11]).isEqualTo(0x8877_6655_4433_2211L);
        }
    }

    /// A large range goes in pieces of 2 MiB; the rest is for later when an interrupt waits.
    @Test void mapGpaStopsForEvents() {
        try (var td = new ScriptedTd()) {
            long[] seen = new long[16];
            td.then(ScriptedModule.tdvmcall(MAP_GPA, SHARED, 5L << 20)).end(seen);
            var exits = td.run(exit -> {
                if (exit instanceof KvmExit.MapGpaRange(long gpa, long pages, boolean toPrivate) && gpa != 0) {
                    td.vcpu().nmi();
                }
            });
            assertThat(exits).containsExactly(new KvmExit.MapGpaRange(0, 512, false), new KvmExit.MapGpaRange(2L << 20, 512, false),
                    new KvmExit.Shutdown());
            assertThat(seen[SeamRegs.R10]).isEqualTo(RETRY);
            assertThat(seen[SeamRegs.R11]).isEqualTo(SHARED + (4L << 20));
        }
    }

    @Test void mapGpaNeedsAVmmThatTakesIt() {
        try (var td = new ScriptedTd(1, 0)) {
            long[] seen = new long[16];
            td.then(ScriptedModule.tdvmcall(MAP_GPA, SHARED, 0x1000)).end(seen);
            td.run();
            assertThat(seen[SeamRegs.R10]).isEqualTo(UNSUPPORTED);
        }
    }

    @Test void aFatalErrorShowsTheRegisters() {
        try (var td = new ScriptedTd()) {
            td.then(regs -> {
                for (int i = 0; i < SeamRegs.COUNT; i++) {
                    regs.set(i, 0x100 + i);
                }
                ScriptedModule.tdvmcall(Tdvmcall.REPORT_FATAL_ERROR, 0x8000).accept(regs);
            });
            assertThat(td.run()).singleElement().isInstanceOfSatisfying(KvmExit.SystemEvent.class, event -> {
                assertThat(event.type()).isEqualTo(KvmAbi.SYSTEM_EVENT_TDX_FATAL);
                assertThat(event.data()).containsExactly(77, 0x101, 0x102, 0x103, 0, 0, 0x106, 0x107, 0x108, 0x109, 0,
                        Tdvmcall.REPORT_FATAL_ERROR, 0x8000, 0x10d, 0x10e, 0x10f);
            });
        }
    }

    // --- KVM's own: the number in R10, arguments in R11 to R14

    private static Consumer<SeamRegs> hypercall(long number, long... arguments) {
        return regs -> {
            regs.set(SeamRegs.RAX, 77);
            regs.set(SeamRegs.R10, number);
            for (int i = 0; i < 4; i++) {
                regs.set(SeamRegs.R11 + i, i < arguments.length ? arguments[i] : 0);
            }
        };
    }

    @ParameterizedTest(name = "{0}") @CsvSource({
            "VAPIC_POLL_IRQ,             1,          0,     0,   0, 0,   0",
            "MMU_OP is gone,             2,          0,     0,   0, 0,   -1000",
            "KICK_CPU of nobody,         5,          0,     9,   0, 0,   0",
            "CLOCK_PAIRING,              9,          0,     0,   0, 0,   -95",
            "SEND_IPI to an APIC that is off, 10,    1,     0,   0, 64,  0",
            "SEND_IPI to nobody,         10,         2,     0,   0, 64,  0",
            "SEND_IPI from id 64,        10,         1,     0,   64, 64, 0",
            "SEND_IPI with a shorthand,  10,         1,     0,   0, 524352, -22",
            "SEND_IPI to a logical id,   10,         1,     0,   0, 2112, -22",
            "SCHED_YIELD,                11,         0,     0,   0, 0,   0",
            "SCHED_YIELD to nobody,      11,         7,     0,   0, 0,   0",
            "MAP_GPA_RANGE of no page,   12,         0,     0,   0, 0,   -22",
            "MAP_GPA_RANGE of half one,  12,         2048,  1,   0, 0,   -22",
            "unknown,                    1234,       0,     0,   0, 0,   -1000",
            "a number with upper bits,   4294967297, 0,     0,   0, 0,   -1000"})
    void hypercallsAreAnsweredInR10(String what, long number, long a0, long a1, long a2, long a3, long expected) {
        try (var td = new ScriptedTd()) {
            long[] seen = new long[16];
            td.then(hypercall(number, a0, a1, a2, a3)).end(seen);
            assertThat(td.run()).containsExactly(new KvmExit.Shutdown());
            assertThat(seen[SeamRegs.R10]).isEqualTo(expected);
        }
    }

    /// The bitmap's 128 bits start at the given APIC id; the result counts who took the interrupt.
    @ParameterizedTest @CsvSource({"3, 0, 0, 2", "2, 0, 0, 1", "1, 0, 1, 1", "6, 0, 0, 1", "0, 1, 0, 0", "-1, -1, 0, 2"})
    void interruptsAreSentByBitmap(long low, long high, int first, long taken) {
        try (var td = new ScriptedTd(2, 0)) {
            long[] seen = new long[16];
            for (var vcpu : td.vcpus) {
                vcpu.setMsrs(List.of(new MsrEntry(0x80f, 0x1ff))); // on
            }
            td.then(hypercall(10, low, high, first, 64)).end(seen);
            td.run();
            assertThat(seen[SeamRegs.R10]).isEqualTo(taken);
        }
    }

    @ParameterizedTest @ValueSource(longs = {0, -22})
    void mapGpaRangeGoesToTheVmm(long answer) {
        try (var td = new ScriptedTd()) {
            long[] seen = new long[16];
            td.then(hypercall(KvmAbi.HC_MAP_GPA_RANGE, 0x3000, 2, KvmAbi.MAP_GPA_RANGE_ENCRYPTED)).end(seen);
            assertThat(td.run(exit -> td.vcpu().kvmRun().ret = answer)).containsExactly(new KvmExit.MapGpaRange(0x3000, 2, true),
                    new KvmExit.Shutdown());
            assertThat(seen[SeamRegs.R10]).isEqualTo(answer);
        }
    }

    /// A halted vCPU goes on when another one kicks it; a kick that comes before its HLT is not lost.
    @ParameterizedTest @ValueSource(booleans = {true, false})
    void aKickEndsAHalt(boolean before) {
        try (var td = new ScriptedTd(2, 0)) {
            var order = new ArrayList<String>();
            var first = td.vcpus.get(0);
            var second = td.vcpus.get(1);
            Consumer<SeamRegs> halt = ScriptedModule.tdvmcall(HLT, 1); // with interrupts blocked
            Consumer<SeamRegs> kick = hypercall(5, 0, 0);
            Runnable halter = () -> {
                first.run();
                order.add("halted one ends");
            };
            Runnable kicker = () -> {
                second.run();
                order.add("kicker ends");
            };
            // The script is one for both: the first stay is that of whoever runs first.
            td.then(before ? kick : halt).end(new long[1]).then(before ? halt : kick).end(new long[1]);
            if (before) {
                td.host.scheduler().spawn("kicker", kicker);
                td.host.scheduler().spawn("halter", () -> {
                    while (order.isEmpty()) {
                        td.host.scheduler().switchPoint(SwitchPoint.YIELD);
                    }
                    halter.run();
                });
            } else {
                td.module.exits.clear();
                td.then(halt).then(kick).end(new long[1]).end(new long[1]);
                td.host.scheduler().spawn("halter", halter);
                td.host.scheduler().spawn("kicker", () -> {
                    while (td.module.exits.size() == 4) {
                        td.host.scheduler().switchPoint(SwitchPoint.YIELD);
                    }
                    kicker.run();
                });
            }
            td.host.scheduler().run();
            assertThat(td.host.scheduler().stalled()).isFalse();
            assertThat(order).containsExactlyInAnyOrder("halted one ends", "kicker ends");
        }
    }

    /// The MSRs of a TD by TDVMCALL: values that can be told beforehand.
    @ParameterizedTest(name = "{0}") @CsvSource({
            "FEAT_CTL is locked,          3a,       1",
            "MTRRcap,                     fe,       508",
            "EFER,                        c0000080, d01",
            "POLL_CONTROL,                4b564d05, 1",
            "x2APIC ID,                   802,      0",
            "MCG_STATUS,                  17a,      0"})
    void msrsHaveLinuxsValues(String what, String msr, String value) {
        try (var td = new ScriptedTd()) {
            long[] seen = new long[16];
            td.then(ScriptedModule.tdvmcall(RDMSR, Long.parseLong(msr, 16))).end(seen);
            td.run();
            assertThat(seen[SeamRegs.R10]).isEqualTo(OK);
            assertThat(Long.toHexString(seen[SeamRegs.R11])).isEqualTo(value);
        }
    }

    /// With KVM_CAP_X86_USER_SPACE_MSR the VMM answers what KVM refuses.
    @ParameterizedTest @CsvSource({"31, false, 0", "31, true, -9223372036854775808", "32, false, 0", "32, true, -9223372036854775808"})
    void refusedMsrsGoToAVmmThatWantsThem(int leaf, boolean error, long status) {
        try (var td = new ScriptedTd()) {
            td.vm.enableCap(KvmCap.X86_USER_SPACE_MSR, KvmAbi.MSR_EXIT_REASON_INVAL);
            long[] seen = new long[16];
            td.then(ScriptedModule.tdvmcall(leaf, 0x12345, 7)).end(seen);
            var exits = td.run(exit -> {
                td.vcpu().kvmRun().ret = 0x1_0000_0002L;
                td.vcpu().kvmRun().msrError = error;
            });
            assertThat(exits).containsExactly(leaf == RDMSR ? new KvmExit.Rdmsr(0x12345, KvmAbi.MSR_EXIT_REASON_INVAL)
                    : new KvmExit.Wrmsr(0x12345, 7, KvmAbi.MSR_EXIT_REASON_INVAL), new KvmExit.Shutdown());
            assertThat(seen[SeamRegs.R10]).isEqualTo(status);
            assertThat(seen[SeamRegs.R11] == 0x1_0000_0002L).isEqualTo(leaf == RDMSR && !error);
        }
    }

    @Test void cpuidOfTheHypervisorsLeaves() {
        try (var td = new ScriptedTd()) {
            long[] seen = new long[16];
            td.then(ScriptedModule.tdvmcall(CPUID, 0x4000_0000L, 0)).end(seen);
            td.run();
            assertThat(List.of(seen[SeamRegs.R10], seen[SeamRegs.R12], seen[SeamRegs.R13], seen[SeamRegs.R14])).containsExactly(OK,
                    0x4000_0001L, 0x4b4d_564bL, 0x564b_4d56L);
        }
    }

    /// NMIs behind the first one collapse into it; INIT and start-up messages are refused.
    @Test void nmisCollapseAndInitIsRefused() {
        try (var td = new ScriptedTd()) {
            td.then(regs -> {
                td.vcpu().nmi();
                td.vcpu().nmi();
                td.vcpu().nmi();
                regs.set(SeamRegs.RAX, 1);
            }).end(new long[1]);
            td.run();
            assertThat(td.module.calls.stream().filter("VP_WR"::equals)).as("PEND_NMI").hasSize(1);
            for (var state : List.of(MpState.INIT_RECEIVED, MpState.SIPI_RECEIVED)) {
                var refused = catchThrowableOfType(KvmException.class, () -> td.vcpu().setMpState(state));
                assertThat(refused.errno()).isEqualTo(Errno.EINVAL);
            }
        }
    }
}
