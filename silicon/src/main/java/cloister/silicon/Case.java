package cloister.silicon;

import cloister.isa.CodeMode;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;

/// One instruction (or a straight sequence) and the state it starts from: the state of `seed` with `changes`.
///
/// @param mode BITS32 and BITS16 are compatibility mode
/// @param code at most [Layout#CODE_BYTES] bytes
/// @param slot which code slot it stands in; below [Layout#SLOTS]
record Case(CodeMode mode, byte[] code, int slot, long seed, List<Change> changes) {
    /// A quadword of the initial state that is not the seed's: places 0..15 are registers, [#FLAGS] RFLAGS, from
    /// [#MEMORY] on the quadword at that offset of the data window.
    record Change(int place, long value) {
        static final int FLAGS = 16;
        static final int MXCSR = 17;
        static final int FCW = 18;
        static final int MEMORY = 32;
    }

    /// The linear address of the first instruction.
    long codeAddress() {
        return Layout.CODE + (long) slot * Layout.SLOT + Layout.SLOT_START;
    }

    /// Its offset in CS.
    long start() {
        return codeAddress() - Layout.codeBase(mode);
    }

    /// The state before the first instruction.
    MachineState initial() {
        MachineState state = InitialState.of(seed);
        state.rip = start();
        for (int segment = 0; segment < 4; segment++) {
            state.segments[segment] = segment == 1 ? Layout.codeSelector(mode) : Layout.dataSelector(mode);
        }
        state.gpr[4] -= Layout.dataBase(mode);
        for (Change change : changes) {
            switch (change.place) {
                case Change.FLAGS -> state.rflags = change.value;
                case Change.MXCSR -> state.fx.putInt(MachineState.FX_MXCSR, (int) change.value);
                case Change.FCW -> state.fx.putShort(MachineState.FX_FCW, (short) change.value);
                default -> {
                    if (change.place < 16) {
                        state.gpr[change.place] = change.value;
                    } else {
                        state.data.putLong(change.place - Change.MEMORY, change.value);
                    }
                }
            }
        }
        if (mode != CodeMode.BITS64) {
            for (int i = 0; i < 16; i++) {
                state.gpr[i] = i < 8 ? state.gpr[i] & 0xFFFF_FFFFL : 0;
            }
        }
        return state;
    }

    @Override public String toString() {
        return String.format(Locale.ROOT, "%s %s slot %d seed %x %s", mode, HexFormat.of().formatHex(code), slot, seed, changes);
    }
}
