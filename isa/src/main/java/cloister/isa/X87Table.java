package cloister.isa;

/// The x87 instructions, in the notation of [OpcodeTable]; with the 8087's and 287's control instructions as FNOP and
/// the aliases that the manual leaves out and processors execute (FFREEP, the second FXCH, FCOM, FCOMP, FSTP).
/// [SDM Vol. 2 "Opcode Map", "Escape Opcodes"]
final class X87Table {
    static final String ROWS = """
        D8 /0                   | FADD          | Md
        D8 C0+i                 | FADD          | ST0,STi
        DC /0                   | FADD          | Mq
        DA /0                   | FIADD         | Md
        DE /0                   | FIADD         | Mw
        D8 /1                   | FMUL          | Md
        D8 C8+i                 | FMUL          | ST0,STi
        DC /1                   | FMUL          | Mq
        DA /1                   | FIMUL         | Md
        DE /1                   | FIMUL         | Mw
        D8 /2                   | FCOM          | Md
        D8 D0+i                 | FCOM          | STi
        DC /2                   | FCOM          | Mq
        DA /2                   | FICOM         | Md
        DE /2                   | FICOM         | Mw
        D8 /3                   | FCOMP         | Md
        D8 D8+i                 | FCOMP         | STi
        DC /3                   | FCOMP         | Mq
        DA /3                   | FICOMP        | Md
        DE /3                   | FICOMP        | Mw
        D8 /4                   | FSUB          | Md
        D8 E0+i                 | FSUB          | ST0,STi
        DC /4                   | FSUB          | Mq
        DA /4                   | FISUB         | Md
        DE /4                   | FISUB         | Mw
        D8 /5                   | FSUBR         | Md
        D8 E8+i                 | FSUBR         | ST0,STi
        DC /5                   | FSUBR         | Mq
        DA /5                   | FISUBR        | Md
        DE /5                   | FISUBR        | Mw
        D8 /6                   | FDIV          | Md
        D8 F0+i                 | FDIV          | ST0,STi
        DC /6                   | FDIV          | Mq
        DA /6                   | FIDIV         | Md
        DE /6                   | FIDIV         | Mw
        D8 /7                   | FDIVR         | Md
        D8 F8+i                 | FDIVR         | ST0,STi
        DC /7                   | FDIVR         | Mq
        DA /7                   | FIDIVR        | Md
        DE /7                   | FIDIVR        | Mw
        DC C0+i                 | FADD          | STi,ST0
        DE C0+i                 | FADDP         | STi,ST0
        DC C8+i                 | FMUL          | STi,ST0
        DE C8+i                 | FMULP         | STi,ST0
        DC E0+i                 | FSUBR         | STi,ST0
        DE E0+i                 | FSUBRP        | STi,ST0
        DC E8+i                 | FSUB          | STi,ST0
        DE E8+i                 | FSUBP         | STi,ST0
        DC F0+i                 | FDIVR         | STi,ST0
        DE F0+i                 | FDIVRP        | STi,ST0
        DC F8+i                 | FDIV          | STi,ST0
        DE F8+i                 | FDIVP         | STi,ST0
        D9 /0                   | FLD           | Md
        D9 C0+i                 | FLD           | STi
        D9 C8+i                 | FXCH          | STi
        D9 /2                   | FST           | Md
        D9 /3                   | FSTP          | Md
        D9 /4                   | FLDENV        | Menv
        D9 /5                   | FLDCW         | Mw
        D9 /6                   | FNSTENV       | Menv
        D9 /7                   | FNSTCW        | Mw
        D9 D0                   | FNOP          |
        D9 D8+i                 | FSTP          | STi
        D9 E0                   | FCHS          |
        D9 E1                   | FABS          |
        D9 E4                   | FTST          |
        D9 E5                   | FXAM          |
        D9 E8                   | FLD1          |
        D9 E9                   | FLDL2T        |
        D9 EA                   | FLDL2E        |
        D9 EB                   | FLDPI         |
        D9 EC                   | FLDLG2        |
        D9 ED                   | FLDLN2        |
        D9 EE                   | FLDZ          |
        D9 F0                   | F2XM1         |
        D9 F1                   | FYL2X         |
        D9 F2                   | FPTAN         |
        D9 F3                   | FPATAN        |
        D9 F4                   | FXTRACT       |
        D9 F5                   | FPREM1        |
        D9 F6                   | FDECSTP       |
        D9 F7                   | FINCSTP       |
        D9 F8                   | FPREM         |
        D9 F9                   | FYL2XP1       |
        D9 FA                   | FSQRT         |
        D9 FB                   | FSINCOS       |
        D9 FC                   | FRNDINT       |
        D9 FD                   | FSCALE        |
        D9 FE                   | FSIN          |
        D9 FF                   | FCOS          |
        DA C0+i                 | FCMOVB        | ST0,STi
        DA C8+i                 | FCMOVE        | ST0,STi
        DA D0+i                 | FCMOVBE       | ST0,STi
        DA D8+i                 | FCMOVU        | ST0,STi
        DA E9                   | FUCOMPP       |
        DB /0                   | FILD          | Md
        DB /1                   | FISTTP        | Md
        DB /2                   | FIST          | Md
        DB /3                   | FISTP         | Md
        DB /5                   | FLD           | Mt
        DB /7                   | FSTP          | Mt
        DB C0+i                 | FCMOVNB       | ST0,STi
        DB C8+i                 | FCMOVNE       | ST0,STi
        DB D0+i                 | FCMOVNBE      | ST0,STi
        DB D8+i                 | FCMOVNU       | ST0,STi
        DB E0                   | FNOP          |
        DB E1                   | FNOP          |
        DB E2                   | FNCLEX        |
        DB E3                   | FNINIT        |
        DB E4                   | FNOP          |
        DB E8+i                 | FUCOMI        | ST0,STi
        DB F0+i                 | FCOMI         | ST0,STi
        DD /0                   | FLD           | Mq
        DD /1                   | FISTTP        | Mq
        DD /2                   | FST           | Mq
        DD /3                   | FSTP          | Mq
        DD /4                   | FRSTOR        | Msave
        DD /6                   | FNSAVE        | Msave
        DD /7                   | FNSTSW        | Mw
        DD C0+i                 | FFREE         | STi
        DC D0+i                 | FCOM          | STi
        DC D8+i                 | FCOMP         | STi
        DD C8+i                 | FXCH          | STi
        DE D0+i                 | FCOMP         | STi
        DF C8+i                 | FXCH          | STi
        DF D0+i                 | FSTP          | STi
        DF D8+i                 | FSTP          | STi
        DD D0+i                 | FST           | STi
        DD D8+i                 | FSTP          | STi
        DD E0+i                 | FUCOM         | STi
        DD E8+i                 | FUCOMP        | STi
        DE D9                   | FCOMPP        |
        DF /0                   | FILD          | Mw
        DF /1                   | FISTTP        | Mw
        DF /2                   | FIST          | Mw
        DF /3                   | FISTP         | Mw
        DF /4                   | FBLD          | Mt
        DF /5                   | FILD          | Mq
        DF /6                   | FBSTP         | Mt
        DF /7                   | FISTP         | Mq
        DF C0+i                 | FFREEP        | STi
        DF E0                   | FNSTSW        | AX
        DF E8+i                 | FUCOMIP       | ST0,STi
        DF F0+i                 | FCOMIP        | ST0,STi
        """.stripTrailing(); // no constant, so that no other class keeps a copy

    private X87Table() {
    }
}
