package cloister.tdx.legality;

import static cloister.tdx.legality.MetadataRules.DEBUG;
import static cloister.tdx.legality.MetadataRules.GUEST;
import static cloister.tdx.legality.MetadataRules.PRODUCTION;
import static cloister.tdx.legality.MetadataRules.TD;
import static cloister.tdx.legality.MetadataRules.VP;
import static org.assertj.core.api.Assertions.assertThat;

import java.math.BigInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Fields whose values the module checks or translates. [TDX-ABI "Metadata (Non-Memory State) Fields"]
class MetadataValuesTest {
    private static final long NOT_WRITABLE = 0xC000_0C01_0000_0000L;
    private static final long VALUE_NOT_VALID = 0xC000_0C03_0000_0000L;
    private static final long WRITE_MASK_NOT_VALID = 0xC000_0C0A_0000_0000L;
    private static final long NOT_INITIALIZED = 0xC000_0730_0000_0000L;
    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final long ALL = -1L;

    private static final int TD_VMCS = 0;
    private static final int L2_VMCS = 0x24;
    private static final int MANAGEMENT = 0x20;
    private static final int XBUFF = 0x12;
    private static final int EXECUTION = 0x11;
    private static final long DEBUG_ATTRIBUTE = 1;
    private static final long XFAM_SSE = 0xe7;
    private static final long XFAM_ALL = 0x6_1be7;

    private static long id(int classCode, int code) {
        return ((long) classCode << 56) | code;
    }

    private static long value(FieldCaller caller, long id) {
        var answer = caller.readOnly(id);
        assertThat(answer.status()).as("read of %x", id).isZero();
        return answer.value();
    }

    private static void writes(FieldCaller caller, long id, long value, long mask, long status) {
        assertThat(caller.write(id, value, mask).status()).as("write of %x to %x", value, id).isEqualTo(status);
    }

    @Test void theHostPriorityTimeOutIsAFullWriteWithinLimits() {
        try (var host = FieldCaller.of(TD, PRODUCTION, 0)) {
            long timeout = id(EXECUTION, 0x11);
            assertThat(value(host, timeout)).as("microseconds at first").isEqualTo(1_000_000);
            writes(host, timeout, 20_000, 0xffff_ffffL, WRITE_MASK_NOT_VALID);
            writes(host, timeout, 9_999, ALL, VALUE_NOT_VALID);
            writes(host, timeout, 100_000_001, ALL, VALUE_NOT_VALID);
            writes(host, timeout, ALL, ALL, VALUE_NOT_VALID);
            writes(host, timeout, 10_000, ALL, 0);
            assertThat(value(host, timeout)).isEqualTo(10_000);
            writes(host, timeout, 100_000_000, ALL, 0);
            // 100 s are 200e9 ticks of 2 GHz, of which the module keeps 32 bits.
            assertThat(value(host, timeout)).isEqualTo((200_000_000_000L & 0xffff_ffffL) / 2000);
        }
    }

    @Test void aGuestSwitchesOnOnlyWhatTheHostPrepared() {
        try (var guest = FieldCaller.of(TD, GUEST, 0)) {
            long controls = id(EXECUTION, 0x17);
            writes(guest, controls, value(guest, controls) ^ 1, 1, VALUE_NOT_VALID); // not FLEXIBLE_PENDING_VE
            writes(guest, controls, 2, 2, VALUE_NOT_VALID); // no x2APIC identifiers
            writes(guest, controls, 4, 4, 0);
            assertThat(value(guest, controls) & 4).isEqualTo(4);
            writes(guest, controls, 8, 8, NOT_WRITABLE);
        }
    }

    @Test void postedInterruptsNeedAVectorAndADescriptor() {
        try (var host = FieldCaller.of(VP, PRODUCTION, 0)) {
            writes(host, id(TD_VMCS, 0x4000), 0x80, 0x80, NOT_INITIALIZED | 2);
            writes(host, id(TD_VMCS, 2), 0x100, 0xffff, VALUE_NOT_VALID);
            writes(host, id(TD_VMCS, 2), 0xff, 0xffff, 0);
            writes(host, id(TD_VMCS, 0x4000), 0x80, 0x80, NOT_INITIALIZED | 0x2016);
            writes(host, id(TD_VMCS, 0x2016), 0x33_0000L | (33L << 46), ALL, VALUE_NOT_VALID); // a private KeyID
            writes(host, id(TD_VMCS, 0x2016), 0x33_0020, ALL, VALUE_NOT_VALID); // 64 bytes do not begin there
            writes(host, id(TD_VMCS, 0x2016), 0x33_0040, ALL, 0);
            writes(host, id(TD_VMCS, 0x4000), 0x80, 0x80, 0);
            assertThat(value(host, id(TD_VMCS, 0x4000))).isEqualTo(0x80);
        }
    }

    @Test void theModuleRemembersWhatItNeedsOfTheTdVmcs() {
        try (var debugger = FieldCaller.of(VP, DEBUG, 0)) {
            writes(debugger, id(TD_VMCS, 2), 0x42, 0xffff, 0);
            writes(debugger, id(TD_VMCS, 0x2016), 0x33_0040, ALL, 0);
            writes(debugger, id(TD_VMCS, 0x4000), 0x80, 0x80, 0);
            writes(debugger, id(TD_VMCS, 0x203c), 0x77_7000, ALL, 0);
            assertThat(value(debugger, id(MANAGEMENT, 0xac))).isEqualTo(0x42);
            assertThat(value(debugger, id(MANAGEMENT, 0x98))).isEqualTo(0x33_0040);
            assertThat(value(debugger, id(MANAGEMENT, 0x9c))).isEqualTo(value(debugger, id(TD_VMCS, 0x4000)));
            assertThat(value(debugger, id(MANAGEMENT, 0xb4))).isEqualTo(0x77_7000);
        }
    }

    @Test void pageModificationLoggingNeedsAnAddress() {
        try (var debugger = FieldCaller.of(VP, DEBUG, 0)) {
            long enable = 1 << 17;
            writes(debugger, id(TD_VMCS, 0x401e), enable, enable, VALUE_NOT_VALID);
            writes(debugger, id(TD_VMCS, 0x200e), 0x55_5000L | (40L << 46), ALL, VALUE_NOT_VALID);
            writes(debugger, id(TD_VMCS, 0x200e), 0x55_5000, ALL, 0);
            writes(debugger, id(TD_VMCS, 0x401e), enable, enable, 0);
        }
    }

    @ParameterizedTest
    @CsvSource({"0x1000, true", "0x1fff, true", "0x10000000000000, false", "0x8000000000000000, false", "0x800000001000, false",
        "0x6000000000001000, false", "0x4000000000001000, false", "0x1000000000000, false"})
    void cr3HoldsAPrivateAddressWhereThereIsNoLam(String text, boolean valid) {
        try (var debugger = FieldCaller.of(VP, DEBUG, 1)) {
            long cr3 = Long.parseUnsignedLong(text.substring(2), 16);
            writes(debugger, id(TD_VMCS, 0x6802), cr3, ALL, valid ? 0 : VALUE_NOT_VALID);
            writes(debugger, id(L2_VMCS, 0x6802), cr3, ALL, valid ? 0 : VALUE_NOT_VALID);
        }
    }

    @ParameterizedTest
    @CsvSource({"0, 0x40, false", "0, 0x80, true", "0, 0xc0, true", "1, 0x40, true"})
    void branchTraceMessagesAreForDebuggers(long debug, String text, boolean valid) {
        try (var guest = FieldCaller.of(VP, GUEST, 1, debug, XFAM_SSE)) {
            long debugctl = id(L2_VMCS, 0x2802);
            long written = Long.decode(text);
            writes(guest, debugctl, written, 0xffc7, valid ? 0 : VALUE_NOT_VALID);
            assertThat(value(guest, debugctl)).isEqualTo(valid ? written : 0);
        }
    }

    @Test void debugctlKeepsTheHostsUncoreBit() {
        try (var debugger = FieldCaller.of(VP, DEBUG, 0)) {
            writes(debugger, id(TD_VMCS, 0x2802), 0xffc7, 0xffc7, 0);
            assertThat(value(debugger, id(TD_VMCS, 0x2802))).isEqualTo(0xdfc7);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0x6000, 0x6002})
    void masksOfAnL2VmAreAddedToTheModules(int mask) {
        try (var guest = FieldCaller.of(VP, GUEST, 1, DEBUG_ATTRIBUTE, XFAM_SSE)) {
            assertThat(value(guest, id(L2_VMCS, mask))).as("the L1 VMM's mask at first").isEqualTo(ALL);
            writes(guest, id(L2_VMCS, mask), 0x4_0074, ALL, 0);
            writes(guest, id(L2_VMCS, mask + 4), 0x1_0010, ALL, 0);
            assertThat(value(guest, id(L2_VMCS, mask))).isEqualTo(0x4_0074);
            assertThat(value(guest, id(L2_VMCS, mask + 4))).isEqualTo(0x1_0010);
            guest.leave();
            var debugger = guest.as(VP, DEBUG);
            long ownMask = value(debugger, id(MANAGEMENT, 0x80 + (mask & 2)));
            long ownShadow = value(debugger, id(MANAGEMENT, 0x81 + (mask & 2)));
            assertThat(value(debugger, id(L2_VMCS, mask))).isEqualTo(ownMask | 0x4_0074);
            assertThat(value(debugger, id(L2_VMCS, mask + 4))).isEqualTo((ownMask & ~0x4_0074L & ownShadow) | (0x1_0010 & 0x4_0074));
        }
    }

    @ParameterizedTest
    @CsvSource({"0x6800, 0x2, true", "0x6800, 0x20, false", "0x6800, 0x20000000, false", "0x6804, 0x20, true", "0x6804, 0x1000, true"})
    void anL1VmmChangesTheControlRegisterBitsThatItMay(int register, String text, boolean writable) {
        try (var guest = FieldCaller.of(VP, GUEST, 1)) {
            long bit = Long.decode(text);
            long before = value(guest, id(L2_VMCS, register));
            writes(guest, id(L2_VMCS, register), before ^ bit, bit, writable ? 0 : NOT_WRITABLE);
            assertThat(value(guest, id(L2_VMCS, register))).isEqualTo(writable ? before ^ bit : before);
        }
    }

    @Test void theVirtualApicPageOfAnL2VmIsAGuestAddress() {
        try (var guest = FieldCaller.of(VP, GUEST, 1, DEBUG_ATTRIBUTE, XFAM_SSE)) {
            long page = id(L2_VMCS, 0x2012);
            assertThat(value(guest, page)).isEqualTo(ALL);
            writes(guest, page, 0x12_3004, ALL, VALUE_NOT_VALID);
            writes(guest, page, 0x12_3000L | (1L << 47), ALL, VALUE_NOT_VALID); // shared
            writes(guest, page, 0x12_3000, ALL, 0);
            assertThat(value(guest, page)).isEqualTo(0x12_3000);
            guest.leave();
            var debugger = guest.as(VP, DEBUG);
            assertThat(value(debugger, page)).isEqualTo(0x12_3000);
            assertThat(value(debugger, id(MANAGEMENT, 0x111))).isEqualTo(0x12_3000);
            assertThat(value(debugger, id(MANAGEMENT, 0x115))).as("not translated").isEqualTo(ALL);
        }
    }

    @Test void pauseLoopTimesAreTicksOfTheTd() {
        try (var guest = FieldCaller.of(VP, GUEST, 1, DEBUG_ATTRIBUTE, XFAM_SSE)) {
            long gap = id(L2_VMCS, 0x4020);
            writes(guest, gap, 0x1000, ALL >>> 32, 0);
            assertThat(value(guest, gap)).isEqualTo(0x1000);
            writes(guest, id(L2_VMCS, 0x4022), 0xffff_ffffL, ALL >>> 32, VALUE_NOT_VALID);
            assertThat(value(guest, id(L2_VMCS, 0x4022))).as("kept before it was found too long").isEqualTo(0xffff_ffffL);
            guest.leave();
            long offset = value(guest.as(TD, DEBUG), id(EXECUTION, 0xa));
            long multiplier = value(guest.as(TD, DEBUG), id(EXECUTION, 0xb));
            var ticks = BigInteger.valueOf(0x1000 - offset).shiftLeft(48).divide(BigInteger.valueOf(multiplier));
            var debugger = guest.as(VP, DEBUG);
            assertThat(value(debugger, gap)).isEqualTo(ticks.longValueExact());
            assertThat(value(debugger, id(L2_VMCS, 0x4022))).isZero();
            assertThat(value(debugger, id(MANAGEMENT, 0xa5))).isEqualTo(0x1000);
        }
    }

    @Test void aTscDeadlineIsTranslatedForVmsThatExist() {
        try (var guest = FieldCaller.of(VP, GUEST, 1, DEBUG_ATTRIBUTE, XFAM_SSE)) {
            long deadline = id(MANAGEMENT, 0x58);
            writes(guest, deadline, 5, ALL, 0); // VM 0
            writes(guest, deadline + 2, 7, ALL, 0); // a VM that the TD does not have
            writes(guest, deadline + 1, -16, ALL, OPERAND_INVALID); // more than 2^63 native ticks away
            assertThat(value(guest, deadline + 1)).as("after a failure").isEqualTo(ALL);
            writes(guest, deadline + 1, 3, ALL, 0); // long past
            guest.leave();
            var debugger = guest.as(VP, DEBUG);
            assertThat(value(debugger, deadline)).isEqualTo(5);
            assertThat(value(debugger, deadline + 1)).isEqualTo(3);
            assertThat(value(debugger, deadline + 2)).isEqualTo(7);
            assertThat(value(debugger, deadline + 4)).isZero();
            assertThat(value(debugger, deadline + 5)).as("native ticks").isBetween(1_000_000_000L, 1_100_000_000L);
            assertThat(value(debugger, deadline + 6)).isZero();
        }
    }

    @Test void l2MsrBitmapsCombineTheL1VmmsAndTheTds() {
        try (var guest = FieldCaller.of(VP, GUEST, 1, DEBUG_ATTRIBUTE, XFAM_SSE)) {
            long word = 4;
            assertThat(value(guest, id(L2_VMCS + 1, (int) word))).as("at first").isEqualTo(ALL);
            writes(guest, id(L2_VMCS + 1, (int) word), 0x5, ALL, 0);
            assertThat(value(guest, id(L2_VMCS + 1, (int) word))).isEqualTo(5);
            guest.leave();
            long own = value(guest.as(TD, DEBUG), id(0x20, (int) word));
            var debugger = guest.as(VP, DEBUG);
            assertThat(value(debugger, id(L2_VMCS + 1, (int) word))).isEqualTo(own | 5);
            assertThat(value(debugger, id(L2_VMCS + 2, (int) word))).isEqualTo(5);
            writes(debugger, id(L2_VMCS + 1, (int) word), 0x9, ALL, 0);
            assertThat(value(debugger, id(L2_VMCS + 1, (int) word))).isEqualTo(own | 9);
            assertThat(value(debugger, id(L2_VMCS + 2, (int) word))).isEqualTo(9);
        }
    }

    @ParameterizedTest
    @CsvSource({"e7, false", "1ae7, true"})
    void supervisorShadowStacksInAnL2EptNeedCet(String xfam, boolean valid) {
        try (var guest = FieldCaller.of(VP, GUEST, 1, 0, Long.parseLong(xfam, 16))) {
            writes(guest, id(L2_VMCS, 0x201a), 0x80, 0x80, valid ? 0 : VALUE_NOT_VALID);
        }
    }

    @ParameterizedTest
    @ValueSource(longs = {0, DEBUG_ATTRIBUTE})
    void l2ControlsAreWhatTheVirtualVmxCapabilitiesAllow(long attributes) {
        try (var guest = FieldCaller.of(VP, GUEST, 1, attributes, XFAM_SSE)) {
            writes(guest, id(L2_VMCS, 0x4002), 4, 4, 0); // interrupt-window exiting
            writes(guest, id(L2_VMCS, 0x4002), 0, 1 << 11, VALUE_NOT_VALID); // RDPMC exiting, no PERFMON
            writes(guest, id(L2_VMCS, 0x401e), 1 << 27, 1 << 27, VALUE_NOT_VALID); // PCONFIG
            writes(guest, id(L2_VMCS, 0x2034), 2, 2, 0); // HLAT
            writes(guest, id(L2_VMCS, 0x2034), 1, 1, NOT_WRITABLE); // LOADIWKEY exiting
        }
    }

    @Test void l2ControlsOfADebuggerAreWhatTheProcessorAllows() {
        try (var debugger = FieldCaller.of(VP, DEBUG, 1)) {
            writes(debugger, id(L2_VMCS, 0x4002), 0, 1 << 11, 0); // no RDPMC exiting
            assertThat((value(debugger, id(L2_VMCS, 0x4002)) >>> 11) & 1).isZero();
        }
    }

    @Test void theSharedEptOfAnL2VmIsTheHosts() {
        try (var host = FieldCaller.of(VP, PRODUCTION, 1)) {
            long pointer = id(L2_VMCS, 0x203c);
            assertThat(value(host, pointer)).isEqualTo(ALL);
            writes(host, pointer, 0x66_6000L | (33L << 46), ALL, VALUE_NOT_VALID);
            writes(host, pointer, 0x66_6010, ALL, VALUE_NOT_VALID);
            writes(host, pointer, 0x66_6000, ALL, 0);
            assertThat(value(host, pointer)).isEqualTo(0x66_6000);
        }
    }

    @Test void aPendingVirtualInterruptIsOneOfAHigherClass() {
        try (var debugger = FieldCaller.of(VP, DEBUG, 0)) {
            writes(debugger, id(TD_VMCS, 0x810), 0x0f, 0xffff, 0);
            assertThat(value(debugger, id(EXECUTION, 0x100))).isZero();
            writes(debugger, id(TD_VMCS, 0x810), 0x10, 0xffff, 0);
            assertThat(value(debugger, id(EXECUTION, 0x100))).isEqualTo(1);
            writes(debugger, id(TD_VMCS, 0x810), 0x3000, 0xffff, 0); // SVI, not RVI
            assertThat(value(debugger, id(EXECUTION, 0x100))).isZero();
        }
    }

    @Test void aDebuggerSeesAndChangesExtendedStateButNotItsHeader() {
        try (var guest = FieldCaller.of(VP, GUEST, 0, DEBUG_ATTRIBUTE, XFAM_ALL)) {
            guest.leave();
            var debugger = guest.as(VP, DEBUG);
            assertThat(value(debugger, id(XBUFF, 0x40))).as("XSTATE_BV").isEqualTo(XFAM_ALL);
            assertThat(value(debugger, id(XBUFF, 0x41))).as("XCOMP_BV").isEqualTo(XFAM_ALL | (1L << 63));
            for (int word = 0x3f; word <= 0x48; word++) {
                writes(debugger, id(XBUFF, word), 0, ALL, word >= 0x40 && word < 0x48 ? NOT_WRITABLE : 0);
            }
            writes(debugger, id(XBUFF, 0x130), 1, ALL, NOT_WRITABLE); // IA32_RTIT_CTL
            writes(debugger, id(XBUFF, 0x14), 0x1122_3344_5566_7788L, ALL, 0); // XMM0
            writes(debugger, id(XBUFF, 0x15), 0x99aa, ALL, 0);
            var regs = debugger.td().seamcall(0, TdSteps.TDVPR, 0, 0, 0);
            assertThat(regs).isNotNull();
            assertThat(debugger.td().machine.inGuest(0)).as("running again").isTrue();
            assertThat(debugger.td().machine.cpus[0].xmmLow(0)).isEqualTo(0x1122_3344_5566_7788L);
            assertThat(debugger.td().machine.cpus[0].xmmHigh(0)).isEqualTo(0x99aa);
        }
    }
}
