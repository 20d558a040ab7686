package cloister.cpu.core;

import cloister.cpu.fpu.FpuState;
import cloister.sim.Persistent;
import cloister.sim.StateSink;

/// What a [Cpu] keeps between two instructions. The TLB is left out: a processor may drop translations at any time.
public record CpuState(Cpu cpu) implements Persistent {
    @Override public String stateName() {
        return "cpu";
    }

    @Override public void describe(StateSink out) {
        out.words("r", cpu.r.clone());
        out.field("rip", cpu.rip);
        out.field("retired", cpu.retired);
        out.field("systemFlags", cpu.systemFlags);
        segments(out);
        control(out);
        msrs(out);
        out.field("cpl", cpu.cpl);
        out.field("codeMode", cpu.codeMode.ordinal());
        out.field("longMode", cpu.longMode ? 1 : 0);
        out.field("shadowAt", cpu.shadowAt);
        out.field("shadowKind", cpu.shadowKind);
        out.field("vpid", cpu.vpid);
        out.field("eptp", cpu.eptp);
        out.part(cpu.entropy);
        out.part(new Fpu(cpu.fpu));
        out.part(cpu.events);
        out.part(cpu.msrs);
        out.part(cpu.cet);
    }

    private void segments(StateSink out) {
        out.words("segSelector", wide(cpu.segSelector));
        out.words("segBase", cpu.segBase.clone());
        out.words("segLimit", wide(cpu.segLimit));
        out.words("segAr", wide(cpu.segAr));
        out.field("gdtrBase", cpu.gdtrBase);
        out.field("gdtrLimit", cpu.gdtrLimit);
        out.field("idtrBase", cpu.idtrBase);
        out.field("idtrLimit", cpu.idtrLimit);
    }

    private void control(StateSink out) {
        out.field("cr0", cpu.cr0);
        out.field("cr2", cpu.cr2);
        out.field("cr3", cpu.cr3);
        out.field("cr4", cpu.cr4);
        out.field("cr8", cpu.cr8);
        out.words("pdpte", cpu.pdpte.clone());
        out.field("efer", cpu.efer);
        out.field("xcr0", cpu.xcr0);
        out.field("xss", cpu.xss);
        out.field("pkru", cpu.pkru);
        out.field("pkrs", cpu.pkrs);
        out.words("dr", cpu.dr0, cpu.dr1, cpu.dr2, cpu.dr3);
        out.field("dr6", cpu.dr6);
        out.field("dr7", cpu.dr7);
    }

    private void msrs(StateSink out) {
        out.field("star", cpu.star);
        out.field("lstar", cpu.lstar);
        out.field("cstar", cpu.cstar);
        out.field("fmask", cpu.fmask);
        out.field("kernelGsBase", cpu.kernelGsBase);
        out.words("sysenter", cpu.sysenterCs, cpu.sysenterEsp, cpu.sysenterEip);
        out.field("tscAux", cpu.tscAux);
        out.field("tscAdjust", cpu.tscAdjust);
        out.field("tscDeadline", cpu.tscDeadline);
        out.field("pat", cpu.pat);
        out.field("miscEnable", cpu.miscEnable);
        out.field("debugctl", cpu.debugctl);
        out.field("specCtrl", cpu.specCtrl);
        out.field("apicBase", cpu.apicBase);
        out.field("umwaitControl", cpu.umwaitControl);
        out.field("tsxCtrl", cpu.tsxCtrl);
    }

    private static long[] wide(int[] values) {
        var result = new long[values.length];
        for (int i = 0; i < values.length; i++) {
            result[i] = values[i];
        }
        return result;
    }

    private record Fpu(FpuState fpu) implements Persistent {
        @Override public String stateName() {
            return "fpu";
        }

        @Override public void describe(StateSink out) {
            out.words("xmm", fpu.xmm.clone());
            out.words("st", fpu.st.clone());
            out.words("stExponent", wide(fpu.stExponent));
            out.words("control", fpu.fcw, fpu.fsw, fpu.tags, fpu.fop, fpu.fcs, fpu.fds);
            out.words("pointers", fpu.fip, fpu.fdp);
            out.field("mxcsr", fpu.mxcsr);
        }
    }
}
