package cloister.silicon;

import cloister.isa.CodeMode;

/// Where things stand, in the native child and in the model alike, and how a case and its outcome are laid out on the pipe.
final class Layout {
    /// Room for the code of cases, one slot each.
    static final int CODE = 0x1000_0000;
    static final int CODE_SIZE = 0x10000;
    static final int SLOT = 256;
    /// Where in its slot a case starts: short jumps both ways stay in the slot.
    static final int SLOT_START = 128;
    /// Only so much of the code holds cases; behind it are targets of 16-bit jumps.
    static final int SLOTS = 0xF000 / SLOT;
    /// Code bytes of a case.
    static final int CODE_BYTES = 32;

    /// One page of data; nothing is mapped behind it.
    static final int DATA_PAGE = 0x2000_0000;
    /// The part of the data page that cases use: its end.
    static final int DATA_BYTES = 1024;
    static final int DATA = DATA_PAGE + 0x1000 - DATA_BYTES;
    /// Bases of FS and GS.
    static final int FS_BASE = DATA + 0x100;
    static final int GS_BASE = DATA + 0x200;

    /// Selectors of 64-bit and 32-bit user code and of user data on Linux.
    static final int USER_CS64 = 0x33;
    static final int USER_CS32 = 0x23;
    static final int USER_SS = 0x2B;
    /// Selectors of 16-bit code and data in the LDT, and the data segment's base: its last bytes are the data window.
    static final int LDT_CS16 = 0x07;
    static final int LDT_DATA16 = 0x0F;
    static final int DATA16_BASE = DATA_PAGE + 0x1000 - 0x10000;

    /// A case on the pipe: a signal frame's ucontext, an FXSAVE image, data, code.
    static final int IN_UCONTEXT = 0;
    static final int IN_FX = 512;
    static final int IN_DATA = 1024;
    static final int IN_CODE = IN_DATA + DATA_BYTES;
    static final int IN_CODE_ADDRESS = IN_CODE + CODE_BYTES;
    /// Single steps go on from the first instruction up to the end (offsets in CS)...
    static final int IN_START = IN_CODE_ADDRESS + 8;
    static final int IN_END = IN_START + 8;
    /// ... but at most so often.
    static final int IN_STEPS = IN_END + 8;
    /// Selector for DS and ES.
    static final int IN_DS = IN_STEPS + 8;
    static final int IN_SIZE = IN_DS + 16;

    /// An outcome on the pipe: signal number, registers of the ucontext, FXSAVE image, data.
    static final int OUT_SIGNAL = 0;
    static final int OUT_REGISTERS = 8;
    static final int OUT_FX = 256;
    static final int OUT_DATA = 768;
    /// Selectors of DS, ES, FS, GS and the bases of FS and GS, a quadword each.
    static final int OUT_SEGMENTS = OUT_DATA + DATA_BYTES;
    static final int OUT_SIZE = OUT_SEGMENTS + 48;

    /// struct ucontext of Linux on x86-64, with its struct sigcontext. [Linux arch/x86/include/uapi/asm/sigcontext.h]
    static final int UC_FLAGS = 0;
    static final int UC_STACK = 16;
    static final int UC_REGISTERS = 40;
    static final int UC_REGISTERS_SIZE = 192;
    static final int UC_RIP = 168;
    static final int UC_EFLAGS = 176;
    static final int UC_CS = 184;
    static final int UC_SS = 190;
    static final int UC_ERROR = 192;
    static final int UC_TRAP = 200;
    static final int UC_CR2 = 216;
    static final int UC_FPSTATE = 224;
    /// Offsets of RAX, RCX, RDX ... R15.
    static final int[] UC_GPR = {144, 152, 136, 128, 160, 120, 112, 104, 40, 48, 56, 64, 72, 80, 88, 96};

    private Layout() {
    }

    /// Base of DS, ES and SS.
    static int dataBase(CodeMode mode) {
        return mode == CodeMode.BITS16 ? DATA16_BASE : 0;
    }

    static int codeBase(CodeMode mode) {
        return mode == CodeMode.BITS16 ? CODE : 0;
    }

    static int codeSelector(CodeMode mode) {
        return switch (mode) {
            case BITS16 -> LDT_CS16;
            case BITS32 -> USER_CS32;
            case BITS64 -> USER_CS64;
        };
    }

    static int dataSelector(CodeMode mode) {
        return mode == CodeMode.BITS16 ? LDT_DATA16 : USER_SS;
    }
}
