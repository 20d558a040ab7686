package cloister.vmm;

import cloister.kvm.KvmVcpu;
import java.io.PrintWriter;
import java.io.StringWriter;

/// Words for what escaped a host thread: for developers, so with the stack.
final class Failures {
    private Failures() {
    }

    /// What failed, and where.
    static String withStack(Throwable failure) {
        var text = new StringWriter();
        var out = new PrintWriter(text);
        out.println(failure.getMessage() == null ? failure.getClass().getName() : failure.getMessage());
        failure.printStackTrace(out);
        out.flush();
        return text.toString();
    }

    static String describe(Throwable failure, KvmVcpu vcpu) {
        var text = new StringWriter();
        var out = new PrintWriter(text);
        out.print(withStack(failure));
        try {
            out.print(RegisterDump.of(vcpu));
        } catch (RuntimeException | Error e) {
            out.println("no registers: " + e);
        }
        out.flush();
        return text.toString();
    }
}
