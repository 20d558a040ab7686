package cloister.isa;

/// The general-purpose instructions, in the notation of [OpcodeTable]. [SDM Vol. 2 "Opcode Map"]
final class GeneralTable {
    static final String ROWS = """
        00                      | ADD           | Eb,Gb           | lock
        01                      | ADD           | Ev,Gv           | lock
        02                      | ADD           | Gb,Eb
        03                      | ADD           | Gv,Ev
        04                      | ADD           | AL,sIb
        05                      | ADD           | rAX,Iz
        08                      | OR            | Eb,Gb           | lock
        09                      | OR            | Ev,Gv           | lock
        0A                      | OR            | Gb,Eb
        0B                      | OR            | Gv,Ev
        0C                      | OR            | AL,sIb
        0D                      | OR            | rAX,Iz
        10                      | ADC           | Eb,Gb           | lock
        11                      | ADC           | Ev,Gv           | lock
        12                      | ADC           | Gb,Eb
        13                      | ADC           | Gv,Ev
        14                      | ADC           | AL,sIb
        15                      | ADC           | rAX,Iz
        18                      | SBB           | Eb,Gb           | lock
        19                      | SBB           | Ev,Gv           | lock
        1A                      | SBB           | Gb,Eb
        1B                      | SBB           | Gv,Ev
        1C                      | SBB           | AL,sIb
        1D                      | SBB           | rAX,Iz
        20                      | AND           | Eb,Gb           | lock
        21                      | AND           | Ev,Gv           | lock
        22                      | AND           | Gb,Eb
        23                      | AND           | Gv,Ev
        24                      | AND           | AL,sIb
        25                      | AND           | rAX,Iz
        28                      | SUB           | Eb,Gb           | lock
        29                      | SUB           | Ev,Gv           | lock
        2A                      | SUB           | Gb,Eb
        2B                      | SUB           | Gv,Ev
        2C                      | SUB           | AL,sIb
        2D                      | SUB           | rAX,Iz
        30                      | XOR           | Eb,Gb           | lock
        31                      | XOR           | Ev,Gv           | lock
        32                      | XOR           | Gb,Eb
        33                      | XOR           | Gv,Ev
        34                      | XOR           | AL,sIb
        35                      | XOR           | rAX,Iz
        38                      | CMP           | Eb,Gb
        39                      | CMP           | Ev,Gv
        3A                      | CMP           | Gb,Eb
        3B                      | CMP           | Gv,Ev
        3C                      | CMP           | AL,sIb
        3D                      | CMP           | rAX,Iz
        06                      | PUSH_SREG     | ES              | i64
        07                      | POP_SREG      | ES              | i64
        0E                      | PUSH_SREG     | CS              | i64
        16                      | PUSH_SREG     | SS              | i64
        17                      | POP_SREG      | SS              | i64
        1E                      | PUSH_SREG     | DS              | i64
        1F                      | POP_SREG      | DS              | i64
        27                      | DAA           |                 | i64
        2F                      | DAS           |                 | i64
        37                      | AAA           |                 | i64
        3F                      | AAS           |                 | i64
        40+r                    | INC           | Zv              | i64
        48+r                    | DEC           | Zv              | i64
        50+r                    | PUSH          | Zv              | d64
        58+r                    | POP           | Zv              | d64
        60                      | PUSHA         |                 | i64
        61                      | POPA          |                 | i64
        62                      | BOUND         | Gv,Ma           | i64
        63                      | ARPL          | Ew,Gw           | i64
        63                      | MOVSXD        | Gv,Ez           | o64
        68                      | PUSH          | Iz              | d64
        69                      | IMUL          | Gv,Ev,Iz
        6A                      | PUSH          | sIb             | d64
        6B                      | IMUL          | Gv,Ev,sIb
        6C                      | INS           |                 | b
        6D                      | INS           |                 | z
        6E                      | OUTS          |                 | b
        6F                      | OUTS          |                 | z
        70+cc                   | JCC           | Jb              | f64
        80 /0                   | ADD           | Eb,sIb          | lock
        80 /1                   | OR            | Eb,sIb          | lock
        80 /2                   | ADC           | Eb,sIb          | lock
        80 /3                   | SBB           | Eb,sIb          | lock
        80 /4                   | AND           | Eb,sIb          | lock
        80 /5                   | SUB           | Eb,sIb          | lock
        80 /6                   | XOR           | Eb,sIb          | lock
        80 /7                   | CMP           | Eb,sIb
        81 /0                   | ADD           | Ev,Iz           | lock
        81 /1                   | OR            | Ev,Iz           | lock
        81 /2                   | ADC           | Ev,Iz           | lock
        81 /3                   | SBB           | Ev,Iz           | lock
        81 /4                   | AND           | Ev,Iz           | lock
        81 /5                   | SUB           | Ev,Iz           | lock
        81 /6                   | XOR           | Ev,Iz           | lock
        81 /7                   | CMP           | Ev,Iz
        82 /0                   | ADD           | Eb,sIb          | lock i64
        82 /1                   | OR            | Eb,sIb          | lock i64
        82 /2                   | ADC           | Eb,sIb          | lock i64
        82 /3                   | SBB           | Eb,sIb          | lock i64
        82 /4                   | AND           | Eb,sIb          | lock i64
        82 /5                   | SUB           | Eb,sIb          | lock i64
        82 /6                   | XOR           | Eb,sIb          | lock i64
        82 /7                   | CMP           | Eb,sIb          | i64
        83 /0                   | ADD           | Ev,sIb          | lock
        83 /1                   | OR            | Ev,sIb          | lock
        83 /2                   | ADC           | Ev,sIb          | lock
        83 /3                   | SBB           | Ev,sIb          | lock
        83 /4                   | AND           | Ev,sIb          | lock
        83 /5                   | SUB           | Ev,sIb          | lock
        83 /6                   | XOR           | Ev,sIb          | lock
        83 /7                   | CMP           | Ev,sIb
        84                      | TEST          | Eb,Gb
        85                      | TEST          | Ev,Gv
        86                      | XCHG          | Eb,Gb           | lock
        87                      | XCHG          | Ev,Gv           | lock
        88                      | MOV           | Eb,Gb
        89                      | MOV           | Ev,Gv
        8A                      | MOV           | Gb,Eb
        8B                      | MOV           | Gv,Ev
        8C                      | MOV_SREG      | RvMw,Sw
        8D                      | LEA           | Gv,M
        8E                      | MOV_SREG      | Sw,Ew
        8F /0                   | POP           | Ev              | d64
        REX.B0 90               | NOP           |
        REX.B0 F3 90            | PAUSE         |
        90+r                    | XCHG          | Zv,rAX
        o16 98                  | CBW           |
        o32 98                  | CWDE          |
        REX.W 98                | CDQE          |
        o16 99                  | CWD           |
        o32 99                  | CDQ           |
        REX.W 99                | CQO           |
        9A                      | CALL_FAR      | Ap              | i64
        9B                      | FWAIT         |
        9C                      | PUSHF         |                 | d64
        9D                      | POPF          |                 | d64
        9E                      | SAHF          |
        9F                      | LAHF          |
        A0                      | MOV           | AL,Ob
        A1                      | MOV           | rAX,Ov
        A2                      | MOV           | Ob,AL
        A3                      | MOV           | Ov,rAX
        A4                      | MOVS          |                 | b
        A5                      | MOVS          |
        A6                      | CMPS          |                 | b
        A7                      | CMPS          |
        A8                      | TEST          | AL,sIb
        A9                      | TEST          | rAX,Iz
        AA                      | STOS          |                 | b
        AB                      | STOS          |
        AC                      | LODS          |                 | b
        AD                      | LODS          |
        AE                      | SCAS          |                 | b
        AF                      | SCAS          |
        B0+r                    | MOV           | Zb,sIb
        B8+r                    | MOV           | Zv,Iv
        C0 /0                   | ROL           | Eb,Ib
        C0 /1                   | ROR           | Eb,Ib
        C0 /2                   | RCL           | Eb,Ib
        C0 /3                   | RCR           | Eb,Ib
        C0 /4                   | SHL           | Eb,Ib
        C0 /5                   | SHR           | Eb,Ib
        C0 /6                   | SHL           | Eb,Ib
        C0 /7                   | SAR           | Eb,Ib
        C1 /0                   | ROL           | Ev,Ib
        C1 /1                   | ROR           | Ev,Ib
        C1 /2                   | RCL           | Ev,Ib
        C1 /3                   | RCR           | Ev,Ib
        C1 /4                   | SHL           | Ev,Ib
        C1 /5                   | SHR           | Ev,Ib
        C1 /6                   | SHL           | Ev,Ib
        C1 /7                   | SAR           | Ev,Ib
        D0 /0                   | ROL           | Eb,1
        D0 /1                   | ROR           | Eb,1
        D0 /2                   | RCL           | Eb,1
        D0 /3                   | RCR           | Eb,1
        D0 /4                   | SHL           | Eb,1
        D0 /5                   | SHR           | Eb,1
        D0 /6                   | SHL           | Eb,1
        D0 /7                   | SAR           | Eb,1
        D1 /0                   | ROL           | Ev,1
        D1 /1                   | ROR           | Ev,1
        D1 /2                   | RCL           | Ev,1
        D1 /3                   | RCR           | Ev,1
        D1 /4                   | SHL           | Ev,1
        D1 /5                   | SHR           | Ev,1
        D1 /6                   | SHL           | Ev,1
        D1 /7                   | SAR           | Ev,1
        D2 /0                   | ROL           | Eb,CL
        D2 /1                   | ROR           | Eb,CL
        D2 /2                   | RCL           | Eb,CL
        D2 /3                   | RCR           | Eb,CL
        D2 /4                   | SHL           | Eb,CL
        D2 /5                   | SHR           | Eb,CL
        D2 /6                   | SHL           | Eb,CL
        D2 /7                   | SAR           | Eb,CL
        D3 /0                   | ROL           | Ev,CL
        D3 /1                   | ROR           | Ev,CL
        D3 /2                   | RCL           | Ev,CL
        D3 /3                   | RCR           | Ev,CL
        D3 /4                   | SHL           | Ev,CL
        D3 /5                   | SHR           | Ev,CL
        D3 /6                   | SHL           | Ev,CL
        D3 /7                   | SAR           | Ev,CL
        C2                      | RET           | Iw              | f64
        C3                      | RET           |                 | f64
        C4                      | LES           | Gz,Mp           | i64
        C5                      | LDS           | Gz,Mp           | i64
        C6 /0                   | MOV           | Eb,sIb
        C7 /0                   | MOV           | Ev,Iz
        C6 F8                   | XABORT        | Ib
        C7 F8                   | XBEGIN        | Jz
        C8                      | ENTER         | Iw,Ib           | d64
        C9                      | LEAVE         |                 | d64
        CA                      | RET_FAR       | Iw
        CB                      | RET_FAR       |
        CC                      | INT3          |
        CD                      | INT           | Ib
        CE                      | INTO          |                 | i64
        CF                      | IRET          |
        D4                      | AAM           | Ib              | i64
        D5                      | AAD           | Ib              | i64
        D6                      | SALC          |                 | b i64
        D7                      | XLAT          |                 | b
        E0                      | LOOPNE        | Jb              | f64
        E1                      | LOOPE         | Jb              | f64
        E2                      | LOOP          | Jb              | f64
        E3                      | JCXZ          | Jb              | f64
        E4                      | IN            | AL,Ib
        E5                      | IN            | eAX,Ib          | z
        E6                      | OUT           | Ib,AL           | b
        E7                      | OUT           | Ib,eAX          | z
        E8                      | CALL          | Jz              | f64
        E9                      | JMP           | Jz              | f64
        EA                      | JMP_FAR       | Ap              | i64
        EB                      | JMP           | Jb              | f64
        EC                      | IN            | AL,DX
        ED                      | IN            | eAX,DX          | z
        EE                      | OUT           | DX,AL           | b
        EF                      | OUT           | DX,eAX          | z
        F1                      | INT1          |
        F5                      | CMC           |
        F6 /0                   | TEST          | Eb,sIb
        F6 /1                   | TEST          | Eb,sIb
        F7 /0                   | TEST          | Ev,Iz
        F7 /1                   | TEST          | Ev,Iz
        F6 /2                   | NOT           | Eb              | lock
        F7 /2                   | NOT           | Ev              | lock
        F6 /3                   | NEG           | Eb              | lock
        F7 /3                   | NEG           | Ev              | lock
        F6 /4                   | MUL           | Eb
        F7 /4                   | MUL           | Ev
        F6 /5                   | IMUL          | Eb
        F7 /5                   | IMUL          | Ev
        F6 /6                   | DIV           | Eb
        F7 /6                   | DIV           | Ev
        F6 /7                   | IDIV          | Eb
        F7 /7                   | IDIV          | Ev
        F8                      | CLC           |
        F9                      | STC           |
        FA                      | CLI           |
        FB                      | STI           |
        FC                      | CLD           |
        FD                      | STD           |
        FE /0                   | INC           | Eb              | lock
        FE /1                   | DEC           | Eb              | lock
        FF /0                   | INC           | Ev              | lock
        FF /1                   | DEC           | Ev              | lock
        FF /2                   | CALL          | Ev              | f64
        FF /3                   | CALL_FAR      | Mp
        FF /4                   | JMP           | Ev              | f64
        FF /5                   | JMP_FAR       | Mp
        FF /6                   | PUSH          | Ev              | d64

        0F 0B                   | UD2           |
        0F 19                   | NOP           | Ev
        0F 1A                   | NOP           | Ev
        0F 1B                   | NOP           | Ev
        0F 1C                   | NOP           | Ev
        0F 1D                   | NOP           | Ev
        0F 1E                   | NOP           | Ev
        F3 0F 1E /1             | RDSSP         | Ry
        F3 0F 1E FA             | ENDBR64       |
        F3 0F 1E FB             | ENDBR32       |
        0F 1F                   | NOP           | Ev
        0F 40+cc                | CMOVCC        | Gv,Ev
        0F 80+cc                | JCC           | Jz              | f64
        0F 90+cc                | SETCC         | Eb
        0F A0                   | PUSH_SREG     | FS              | d64
        0F A1                   | POP_SREG      | FS              | d64
        0F A3                   | BT            | Ev,Gv
        0F A4                   | SHLD          | Ev,Gv,Ib
        0F A5                   | SHLD          | Ev,Gv,CL
        0F A8                   | PUSH_SREG     | GS              | d64
        0F A9                   | POP_SREG      | GS              | d64
        0F AB                   | BTS           | Ev,Gv           | lock
        0F AC                   | SHRD          | Ev,Gv,Ib
        0F AD                   | SHRD          | Ev,Gv,CL
        0F AF                   | IMUL          | Gv,Ev
        0F B0                   | CMPXCHG       | Eb,Gb           | lock
        0F B1                   | CMPXCHG       | Ev,Gv           | lock
        0F B2                   | LSS           | Gv,Mp
        0F B3                   | BTR           | Ev,Gv           | lock
        0F B4                   | LFS           | Gv,Mp
        0F B5                   | LGS           | Gv,Mp
        0F B6                   | MOVZX         | Gv,Eb
        0F B7                   | MOVZX         | Gv,Ew
        F3 0F B8                | POPCNT        | Gv,Ev
        0F B9                   | UD1           | Gv,Ev
        0F BA /4                | BT            | Ev,Ib
        0F BA /5                | BTS           | Ev,Ib           | lock
        0F BA /6                | BTR           | Ev,Ib           | lock
        0F BA /7                | BTC           | Ev,Ib           | lock
        0F BB                   | BTC           | Ev,Gv           | lock
        0F BC                   | BSF           | Gv,Ev
        F3 0F BC                | TZCNT         | Gv,Ev
        0F BD                   | BSR           | Gv,Ev
        F3 0F BD                | LZCNT         | Gv,Ev
        0F BE                   | MOVSX         | Gv,Eb
        0F BF                   | MOVSX         | Gv,Ew
        0F C0                   | XADD          | Eb,Gb           | lock
        0F C1                   | XADD          | Ev,Gv           | lock
        NP 0F C3                | MOVNTI        | My,Gy
        0F C7 /1                | CMPXCHG8B     | Mq              | lock
        REX.W 0F C7 /1          | CMPXCHG16B    | Mdq             | lock
        NFx 0F C7 /6            | RDRAND        | Rv
        NFx 0F C7 /7            | RDSEED        | Rv
        0F C8+r                 | BSWAP         | Zv
        0F FF                   | UD0           | Gv,Ev

        NFx 0F 38 F0            | MOVBE         | Gv,Mv
        NFx 0F 38 F1            | MOVBE         | Mv,Gv
        F2 0F 38 F0             | CRC32         | Gy,Eb
        F2 0F 38 F1             | CRC32         | Gy,Ev
        66 0F 38 F6             | ADCX          | Gy,Ey
        F3 0F 38 F6             | ADOX          | Gy,Ey
        66 0F 38 F8             | MOVDIR64B     | Ga,Mzmm
        NP 0F 38 F9             | MOVDIRI       | My,Gy

        VEX.NP.0F38 F2          | ANDN          | Gy,By,Ey
        VEX.NP.0F38 F3 /1       | BLSR          | By,Ey
        VEX.NP.0F38 F3 /2       | BLSMSK        | By,Ey
        VEX.NP.0F38 F3 /3       | BLSI          | By,Ey
        VEX.NP.0F38 F5          | BZHI          | Gy,Ey,By
        VEX.F2.0F38 F5          | PDEP          | Gy,By,Ey
        VEX.F3.0F38 F5          | PEXT          | Gy,By,Ey
        VEX.F2.0F38 F6          | MULX          | Gy,By,Ey
        VEX.NP.0F38 F7          | BEXTR         | Gy,Ey,By
        VEX.66.0F38 F7          | SHLX          | Gy,Ey,By
        VEX.F2.0F38 F7          | SHRX          | Gy,Ey,By
        VEX.F3.0F38 F7          | SARX          | Gy,Ey,By
        VEX.F2.0F3A F0          | RORX          | Gy,Ey,Ib
        """.stripTrailing(); // no constant, so that no other class keeps a copy

    private GeneralTable() {
    }
}
