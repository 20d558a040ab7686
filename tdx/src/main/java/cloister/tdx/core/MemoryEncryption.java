package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import java.util.Locale;

/// The memory encryption engine of an LP's package. [TDX-BASE "Memory Encryption Key Management"]
public final class MemoryEncryption {
    private static final int PCONFIG_ENTROPY_ERROR = 2;
    private static final int PCONFIG_DEVICE_BUSY = 5;

    private MemoryEncryption() {
    }

    /// Gives `keyId` a new random key.
    public static void programKey(LpState lp, int keyId) throws LeafFailure {
        int shift = lp.module.config.keyIdShift;
        if (shift != PhysicalMemory.KEY_ID_SHIFT || keyId >= 1 << PhysicalMemory.KEY_ID_BITS) {
            throw new NotModelled(String.format(Locale.ROOT,
                    "KeyID %d in address bits from %d on, where the memory has %d bits from %d on,",
                    keyId, shift, PhysicalMemory.KEY_ID_BITS, PhysicalMemory.KEY_ID_SHIFT));
        }
        switch (lp.cpu.programKey(keyId)) {
            case 0 -> {
            }
            case PCONFIG_ENTROPY_ERROR -> throw new LeafFailure(TdxStatus.KEY_GENERATION_FAILED);
            case PCONFIG_DEVICE_BUSY -> throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.KET);
            default -> throw new ModuleHalt("PCONFIG rejected KeyID " + keyId);
        }
    }
}
