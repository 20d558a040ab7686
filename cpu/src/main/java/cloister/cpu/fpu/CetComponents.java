package cloister.cpu.fpu;

import cloister.cpu.core.ControlFlow;
import cloister.cpu.sys.Cpuid;
import cloister.spec.x86.Cet;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;

/// The CET components of the XSAVE area, which only the compacted format has: CET_U is IA32_U_CET and IA32_PL3_SSP, CET_S is
/// IA32_PL0_SSP to IA32_PL2_SSP. The initial configuration is all zeros. [SDM Vol. 1 "CET State"]
public final class CetComponents {
    static final int USER_WORDS = 2;
    static final int SUPERVISOR_WORDS = 3;
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private CetComponents() {
    }

    /// XINUSE for `components`.
    static long inUse(ControlFlow cet, long components) {
        long[] ssp = cet.plSsp;
        long user = (cet.uCet | ssp[3]) != 0 ? XsaveArea.CET_U : 0;
        long supervisor = (ssp[0] | ssp[1] | ssp[2]) != 0 ? XsaveArea.CET_S : 0;
        return components & (user | supervisor);
    }

    /// Where CET_U is in a compacted area of `components` (XCOMP_BV).
    static int userOffset(long components) {
        return XsaveArea.size(components & XsaveArea.PKRU, true);
    }

    /// Where CET_S is.
    static int supervisorOffset(long components) {
        return XsaveArea.size(components & (XsaveArea.PKRU | XsaveArea.CET_U), true);
    }

    static long[] user(ControlFlow cet) {
        return new long[] {cet.uCet, cet.plSsp[3]};
    }

    static long[] supervisor(ControlFlow cet) {
        return new long[] {cet.plSsp[0], cet.plSsp[1], cet.plSsp[2]};
    }

    /// Whether WRMSR would accept the words; XRSTORS raises #GP otherwise.
    static boolean legalUser(long[] words) {
        return Cet.legalControl(words[0]) && ControlFlow.legalSsp(words[0] & Cet.BITMAP_BASE, Cpuid.LINEAR_ADDRESS_BITS)
                && ControlFlow.legalSsp(words[1], Cpuid.LINEAR_ADDRESS_BITS);
    }

    static boolean legalSupervisor(long[] words) {
        for (long ssp : words) {
            if (!ControlFlow.legalSsp(ssp, Cpuid.LINEAR_ADDRESS_BITS)) {
                return false;
            }
        }
        return true;
    }

    /// The caller brings the mode up to date.
    static void loadUser(ControlFlow cet, long[] words) {
        cet.uCet = words[0];
        cet.plSsp[3] = words[1];
    }

    static void loadSupervisor(ControlFlow cet, long[] words) {
        System.arraycopy(words, 0, cet.plSsp, 0, SUPERVISOR_WORDS);
    }

    // Areas of the host program; modes follow at the next VM entry

    /// Adds the CET components to an area that [XsaveArea#save] has just filled in the compacted format.
    public static void save(ControlFlow cet, long components, MemorySegment area) {
        if ((components & (XsaveArea.CET_U | XsaveArea.CET_S)) == 0) {
            return;
        }
        long[] ssp = cet.plSsp;
        area.set(LONG, XsaveArea.XSTATE_BV, area.get(LONG, XsaveArea.XSTATE_BV) | inUse(cet, components));
        if ((components & XsaveArea.CET_U) != 0) {
            int at = userOffset(components);
            area.set(LONG, at, cet.uCet);
            area.set(LONG, at + (long) Long.BYTES, ssp[3]);
        }
        if ((components & XsaveArea.CET_S) != 0) {
            MemorySegment.copy(ssp, 0, area, LONG, supervisorOffset(components), SUPERVISOR_WORDS);
        }
    }

    /// Whether XRSTORS of `components` would accept the CET state of a compacted area.
    public static boolean valid(long components, MemorySegment area) {
        long held = components & area.get(LONG, XsaveArea.XSTATE_BV);
        return ((held & XsaveArea.CET_U) == 0 || legalUser(words(XsaveArea.CET_U, area)))
                && ((held & XsaveArea.CET_S) == 0 || legalSupervisor(words(XsaveArea.CET_S, area)));
    }

    /// Loads the CET components of a compacted, valid area, those that it lacks with their initial configuration.
    public static void restore(ControlFlow cet, long components, MemorySegment area) {
        long held = components & area.get(LONG, XsaveArea.XSTATE_BV);
        reset(cet, components & ~held);
        if ((held & XsaveArea.CET_U) != 0) {
            loadUser(cet, words(XsaveArea.CET_U, area));
        }
        if ((held & XsaveArea.CET_S) != 0) {
            loadSupervisor(cet, words(XsaveArea.CET_S, area));
        }
    }

    /// Brings the components among `components` to their initial configuration.
    public static void reset(ControlFlow cet, long components) {
        if ((components & XsaveArea.CET_U) != 0) {
            cet.uCet = 0;
            cet.plSsp[3] = 0;
        }
        if ((components & XsaveArea.CET_S) != 0) {
            Arrays.fill(cet.plSsp, 0, SUPERVISOR_WORDS, 0);
        }
    }

    /// The words of one component, which the area holds.
    private static long[] words(long component, MemorySegment area) {
        long comp = area.get(LONG, XsaveArea.XCOMP_BV);
        boolean user = component == XsaveArea.CET_U;
        var words = new long[user ? USER_WORDS : SUPERVISOR_WORDS];
        MemorySegment.copy(area, LONG, user ? userOffset(comp) : supervisorOffset(comp), words, 0, words.length);
        return words;
    }
}
