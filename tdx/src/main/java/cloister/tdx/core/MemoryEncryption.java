package cloister.tdx.core;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;

/// The memory encryption engine of an LP's package. [TDX-BASE "Memory Encryption Key Management"]
public final class MemoryEncryption {
    private static final int PCONFIG_ENTROPY_ERROR = 2;
    private static final int PCONFIG_DEVICE_BUSY = 5;

    private MemoryEncryption() {
    }

    /// Gives `keyId` a new random key.
    public static void programKey(LpState lp, int keyId) throws LeafFailure {
        switch (lp.cpu.programKey(keyId)) {
            case 0 -> {
            }
            case PCONFIG_ENTROPY_ERROR -> throw new LeafFailure(TdxStatus.KEY_GENERATION_FAILED);
            case PCONFIG_DEVICE_BUSY -> throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.KET);
            default -> throw new ModuleHalt("PCONFIG rejected KeyID " + keyId);
        }
    }
}
