package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import java.util.Arrays;

/// The data of exits with KVM_EXIT_INTERNAL_ERROR: what the last VM exit was. [LINUX prepare_emulation_failure_exit,
/// kvm_prepare_event_vectoring_exit]
final class FailureData {
    /// Size and bytes of the instruction, in two words.
    private static final int CODE_BYTES = 16;
    private static final byte NOP = (byte) 0x90;

    private FailureData() {
    }

    /// Flags, then the instruction if there is one, then the exit.
    static long[] emulation(LoadedVmcs vmcs, byte[] code) {
        int first = code.length == 0 ? 1 : 1 + CODE_BYTES / Long.BYTES;
        long[] data = new long[first + 5];
        if (code.length > 0) {
            data[0] = KvmAbi.INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
            byte[] image = new byte[CODE_BYTES];
            Arrays.fill(image, NOP);
            image[0] = (byte) code.length;
            System.arraycopy(code, 0, image, 1, code.length);
            for (int i = 0; i < CODE_BYTES; i++) {
                data[1 + (i / Long.BYTES)] |= (image[i] & 0xffL) << (8 * (i % Long.BYTES));
            }
        }
        int reason = vmcs.readInt(EXIT_REASON);
        data[first] = reason & 0xffff_ffffL;
        data[first + 1] = vmcs.read(EXIT_QUALIFICATION);
        if ((reason & ExitReason.ENTRY_FAILURE) == 0) {
            int info = vmcs.readInt(EXIT_INTERRUPTION_INFO);
            boolean hasCode = Interruption.valid(info) && (info & Interruption.DELIVER_ERROR_CODE) != 0;
            data[first + 2] = vmcs.read(IDT_VECTORING_INFO) & 0xffff_ffffL;
            data[first + 3] = info & 0xffff_ffffL;
            data[first + 4] = hasCode ? vmcs.read(EXIT_INTERRUPTION_ERROR_CODE) & 0xffff_ffffL : 0;
        }
        return data;
    }

    /// An exit in the middle of an event's delivery that KVM cannot go on from.
    static long[] delivery(LoadedVmcs vmcs, long gpa, int processor) {
        return new long[] {vmcs.read(IDT_VECTORING_INFO) & 0xffff_ffffL, vmcs.read(EXIT_REASON) & 0xffff_ffffL,
            vmcs.read(EXIT_QUALIFICATION), gpa, processor};
    }

    /// An exit that KVM does not know.
    static long[] unexpected(LoadedVmcs vmcs, int processor) {
        return new long[] {vmcs.read(EXIT_REASON) & 0xffff_ffffL, processor};
    }
}
