package cloister.isa;

/// MMX, SSE to SSE4.2, AES and SHA instructions, in the notation of [OpcodeTable]. [SDM Vol. 2 "Opcode Map"]
final class SseTable {
    static final String ROWS = """
        NP 0F 10                | MOVUPS        | Vps,Wps
        66 0F 10                | MOVUPD        | Vpd,Wpd
        F3 0F 10                | MOVSS         | Vss,Wss
        F2 0F 10                | MOVSD_XMM     | Vsd,Wsd
        NP 0F 11                | MOVUPS        | Wps,Vps
        66 0F 11                | MOVUPD        | Wpd,Vpd
        F3 0F 11                | MOVSS         | Wss,Vss
        F2 0F 11                | MOVSD_XMM     | Wsd,Vsd
        NP 0F 12                | MOVLPS        | Vq,Mq
        NP 0F 12                | MOVHLPS       | Vq,Uq
        66 0F 12                | MOVLPD        | Vq,Mq
        F3 0F 12                | MOVSLDUP      | Vps,Wps
        F2 0F 12                | MOVDDUP       | Vpd,Wq
        NP 0F 13                | MOVLPS        | Mq,Vq
        66 0F 13                | MOVLPD        | Mq,Vq
        NP 0F 14                | UNPCKLPS      | Vps,Wps
        66 0F 14                | UNPCKLPD      | Vpd,Wpd
        NP 0F 15                | UNPCKHPS      | Vps,Wps
        66 0F 15                | UNPCKHPD      | Vpd,Wpd
        NP 0F 16                | MOVHPS        | Vq,Mq
        NP 0F 16                | MOVLHPS       | Vq,Uq
        66 0F 16                | MOVHPD        | Vq,Mq
        F3 0F 16                | MOVSHDUP      | Vps,Wps
        NP 0F 17                | MOVHPS        | Mq,Vq
        66 0F 17                | MOVHPD        | Mq,Vq
        NP 0F 28                | MOVAPS        | Vps,Wps
        66 0F 28                | MOVAPD        | Vpd,Wpd
        NP 0F 29                | MOVAPS        | Wps,Vps
        66 0F 29                | MOVAPD        | Wpd,Vpd
        NP 0F 2A                | CVTPI2PS      | Vps,Qq
        66 0F 2A                | CVTPI2PD      | Vpd,Qq
        F3 0F 2A                | CVTSI2SS      | Vss,Ey
        F2 0F 2A                | CVTSI2SD      | Vsd,Ey
        NP 0F 2B                | MOVNTPS       | Mps,Vps
        66 0F 2B                | MOVNTPD       | Mpd,Vpd
        NP 0F 2C                | CVTTPS2PI     | Pq,Wq
        66 0F 2C                | CVTTPD2PI     | Pq,Wpd
        F3 0F 2C                | CVTTSS2SI     | Gy,Wss
        F2 0F 2C                | CVTTSD2SI     | Gy,Wsd
        NP 0F 2D                | CVTPS2PI      | Pq,Wq
        66 0F 2D                | CVTPD2PI      | Pq,Wpd
        F3 0F 2D                | CVTSS2SI      | Gy,Wss
        F2 0F 2D                | CVTSD2SI      | Gy,Wsd
        NP 0F 2E                | UCOMISS       | Vss,Wss
        66 0F 2E                | UCOMISD       | Vsd,Wsd
        NP 0F 2F                | COMISS        | Vss,Wss
        66 0F 2F                | COMISD        | Vsd,Wsd
        NP 0F 50                | MOVMSKPS      | Gd,Ups
        66 0F 50                | MOVMSKPD      | Gd,Upd
        NP 0F 51                | SQRTPS        | Vps,Wps
        66 0F 51                | SQRTPD        | Vpd,Wpd
        F3 0F 51                | SQRTSS        | Vss,Wss
        F2 0F 51                | SQRTSD        | Vsd,Wsd
        NP 0F 52                | RSQRTPS       | Vps,Wps
        F3 0F 52                | RSQRTSS       | Vss,Wss
        NP 0F 53                | RCPPS         | Vps,Wps
        F3 0F 53                | RCPSS         | Vss,Wss
        NP 0F 54                | ANDPS         | Vps,Wps
        66 0F 54                | ANDPD         | Vpd,Wpd
        NP 0F 55                | ANDNPS        | Vps,Wps
        66 0F 55                | ANDNPD        | Vpd,Wpd
        NP 0F 56                | ORPS          | Vps,Wps
        66 0F 56                | ORPD          | Vpd,Wpd
        NP 0F 57                | XORPS         | Vps,Wps
        66 0F 57                | XORPD         | Vpd,Wpd
        NP 0F 58                | ADDPS         | Vps,Wps
        66 0F 58                | ADDPD         | Vpd,Wpd
        F3 0F 58                | ADDSS         | Vss,Wss
        F2 0F 58                | ADDSD         | Vsd,Wsd
        NP 0F 59                | MULPS         | Vps,Wps
        66 0F 59                | MULPD         | Vpd,Wpd
        F3 0F 59                | MULSS         | Vss,Wss
        F2 0F 59                | MULSD         | Vsd,Wsd
        NP 0F 5A                | CVTPS2PD      | Vpd,Wq
        66 0F 5A                | CVTPD2PS      | Vps,Wpd
        F3 0F 5A                | CVTSS2SD      | Vsd,Wss
        F2 0F 5A                | CVTSD2SS      | Vss,Wsd
        NP 0F 5B                | CVTDQ2PS      | Vps,Wdq
        66 0F 5B                | CVTPS2DQ      | Vdq,Wps
        F3 0F 5B                | CVTTPS2DQ     | Vdq,Wps
        NP 0F 5C                | SUBPS         | Vps,Wps
        66 0F 5C                | SUBPD         | Vpd,Wpd
        F3 0F 5C                | SUBSS         | Vss,Wss
        F2 0F 5C                | SUBSD         | Vsd,Wsd
        NP 0F 5D                | MINPS         | Vps,Wps
        66 0F 5D                | MINPD         | Vpd,Wpd
        F3 0F 5D                | MINSS         | Vss,Wss
        F2 0F 5D                | MINSD         | Vsd,Wsd
        NP 0F 5E                | DIVPS         | Vps,Wps
        66 0F 5E                | DIVPD         | Vpd,Wpd
        F3 0F 5E                | DIVSS         | Vss,Wss
        F2 0F 5E                | DIVSD         | Vsd,Wsd
        NP 0F 5F                | MAXPS         | Vps,Wps
        66 0F 5F                | MAXPD         | Vpd,Wpd
        F3 0F 5F                | MAXSS         | Vss,Wss
        F2 0F 5F                | MAXSD         | Vsd,Wsd
        NP 0F 60                | PUNPCKLBW     | Pq,Qd
        66 0F 60                | PUNPCKLBW     | Vdq,Wdq
        NP 0F 61                | PUNPCKLWD     | Pq,Qd
        66 0F 61                | PUNPCKLWD     | Vdq,Wdq
        NP 0F 62                | PUNPCKLDQ     | Pq,Qd
        66 0F 62                | PUNPCKLDQ     | Vdq,Wdq
        NP 0F 63                | PACKSSWB      | Pq,Qq
        66 0F 63                | PACKSSWB      | Vdq,Wdq
        NP 0F 64                | PCMPGTB       | Pq,Qq
        66 0F 64                | PCMPGTB       | Vdq,Wdq
        NP 0F 65                | PCMPGTW       | Pq,Qq
        66 0F 65                | PCMPGTW       | Vdq,Wdq
        NP 0F 66                | PCMPGTD       | Pq,Qq
        66 0F 66                | PCMPGTD       | Vdq,Wdq
        NP 0F 67                | PACKUSWB      | Pq,Qq
        66 0F 67                | PACKUSWB      | Vdq,Wdq
        NP 0F 68                | PUNPCKHBW     | Pq,Qq
        66 0F 68                | PUNPCKHBW     | Vdq,Wdq
        NP 0F 69                | PUNPCKHWD     | Pq,Qq
        66 0F 69                | PUNPCKHWD     | Vdq,Wdq
        NP 0F 6A                | PUNPCKHDQ     | Pq,Qq
        66 0F 6A                | PUNPCKHDQ     | Vdq,Wdq
        NP 0F 6B                | PACKSSDW      | Pq,Qq
        66 0F 6B                | PACKSSDW      | Vdq,Wdq
        66 0F 6C                | PUNPCKLQDQ    | Vdq,Wdq
        66 0F 6D                | PUNPCKHQDQ    | Vdq,Wdq
        NP 0F 6E                | MOVD          | Pd,Ed
        NP REX.W 0F 6E          | MOVQ          | Pq,Eq
        66 0F 6E                | MOVD          | Vd,Ed
        66 REX.W 0F 6E          | MOVQ          | Vq,Eq
        NP 0F 6F                | MOVQ          | Pq,Qq
        66 0F 6F                | MOVDQA        | Vdq,Wdq
        F3 0F 6F                | MOVDQU        | Vdq,Wdq
        NP 0F 70                | PSHUFW        | Pq,Qq,Ib
        66 0F 70                | PSHUFD        | Vdq,Wdq,Ib
        F3 0F 70                | PSHUFHW       | Vdq,Wdq,Ib
        F2 0F 70                | PSHUFLW       | Vdq,Wdq,Ib
        NP 0F 71 /2             | PSRLW         | Nq,Ib
        66 0F 71 /2             | PSRLW         | Udq,Ib
        NP 0F 71 /4             | PSRAW         | Nq,Ib
        66 0F 71 /4             | PSRAW         | Udq,Ib
        NP 0F 71 /6             | PSLLW         | Nq,Ib
        66 0F 71 /6             | PSLLW         | Udq,Ib
        NP 0F 72 /2             | PSRLD         | Nq,Ib
        66 0F 72 /2             | PSRLD         | Udq,Ib
        NP 0F 72 /4             | PSRAD         | Nq,Ib
        66 0F 72 /4             | PSRAD         | Udq,Ib
        NP 0F 72 /6             | PSLLD         | Nq,Ib
        66 0F 72 /6             | PSLLD         | Udq,Ib
        NP 0F 73 /2             | PSRLQ         | Nq,Ib
        66 0F 73 /2             | PSRLQ         | Udq,Ib
        NP 0F 73 /6             | PSLLQ         | Nq,Ib
        66 0F 73 /6             | PSLLQ         | Udq,Ib
        66 0F 73 /3             | PSRLDQ        | Udq,Ib
        66 0F 73 /7             | PSLLDQ        | Udq,Ib
        NP 0F 74                | PCMPEQB       | Pq,Qq
        66 0F 74                | PCMPEQB       | Vdq,Wdq
        NP 0F 75                | PCMPEQW       | Pq,Qq
        66 0F 75                | PCMPEQW       | Vdq,Wdq
        NP 0F 76                | PCMPEQD       | Pq,Qq
        66 0F 76                | PCMPEQD       | Vdq,Wdq
        NP 0F 77                | EMMS          |
        66 0F 7C                | HADDPD        | Vpd,Wpd
        F2 0F 7C                | HADDPS        | Vps,Wps
        66 0F 7D                | HSUBPD        | Vpd,Wpd
        F2 0F 7D                | HSUBPS        | Vps,Wps
        NP 0F 7E                | MOVD          | Ed,Pd
        NP REX.W 0F 7E          | MOVQ          | Eq,Pq
        66 0F 7E                | MOVD          | Ed,Vd
        66 REX.W 0F 7E          | MOVQ          | Eq,Vq
        F3 0F 7E                | MOVQ          | Vq,Wq
        NP 0F 7F                | MOVQ          | Qq,Pq
        66 0F 7F                | MOVDQA        | Wdq,Vdq
        F3 0F 7F                | MOVDQU        | Wdq,Vdq
        NP 0F AE /2             | LDMXCSR       | Md
        NP 0F AE /3             | STMXCSR       | Md
        NP 0F C2                | CMPPS         | Vps,Wps,Ib
        66 0F C2                | CMPPD         | Vpd,Wpd,Ib
        F3 0F C2                | CMPSS         | Vss,Wss,Ib
        F2 0F C2                | CMPSD_XMM     | Vsd,Wsd,Ib
        NP 0F C4                | PINSRW        | Pq,RdMw,Ib
        66 0F C4                | PINSRW        | Vdq,RdMw,Ib
        NP 0F C5                | PEXTRW        | Gd,Nq,Ib
        66 0F C5                | PEXTRW        | Gd,Udq,Ib
        NP 0F C6                | SHUFPS        | Vps,Wps,Ib
        66 0F C6                | SHUFPD        | Vpd,Wpd,Ib
        66 0F D0                | ADDSUBPD      | Vpd,Wpd
        F2 0F D0                | ADDSUBPS      | Vps,Wps
        66 0F D6                | MOVQ          | Wq,Vq
        F3 0F D6                | MOVQ2DQ       | Vdq,Nq
        F2 0F D6                | MOVDQ2Q       | Pq,Uq
        NP 0F D7                | PMOVMSKB      | Gd,Nq
        66 0F D7                | PMOVMSKB      | Gd,Udq
        NP 0F D1                | PSRLW         | Pq,Qq
        66 0F D1                | PSRLW         | Vdq,Wdq
        NP 0F D2                | PSRLD         | Pq,Qq
        66 0F D2                | PSRLD         | Vdq,Wdq
        NP 0F D3                | PSRLQ         | Pq,Qq
        66 0F D3                | PSRLQ         | Vdq,Wdq
        NP 0F D4                | PADDQ         | Pq,Qq
        66 0F D4                | PADDQ         | Vdq,Wdq
        NP 0F D5                | PMULLW        | Pq,Qq
        66 0F D5                | PMULLW        | Vdq,Wdq
        NP 0F D8                | PSUBUSB       | Pq,Qq
        66 0F D8                | PSUBUSB       | Vdq,Wdq
        NP 0F D9                | PSUBUSW       | Pq,Qq
        66 0F D9                | PSUBUSW       | Vdq,Wdq
        NP 0F DA                | PMINUB        | Pq,Qq
        66 0F DA                | PMINUB        | Vdq,Wdq
        NP 0F DB                | PAND          | Pq,Qq
        66 0F DB                | PAND          | Vdq,Wdq
        NP 0F DC                | PADDUSB       | Pq,Qq
        66 0F DC                | PADDUSB       | Vdq,Wdq
        NP 0F DD                | PADDUSW       | Pq,Qq
        66 0F DD                | PADDUSW       | Vdq,Wdq
        NP 0F DE                | PMAXUB        | Pq,Qq
        66 0F DE                | PMAXUB        | Vdq,Wdq
        NP 0F DF                | PANDN         | Pq,Qq
        66 0F DF                | PANDN         | Vdq,Wdq
        NP 0F E0                | PAVGB         | Pq,Qq
        66 0F E0                | PAVGB         | Vdq,Wdq
        NP 0F E1                | PSRAW         | Pq,Qq
        66 0F E1                | PSRAW         | Vdq,Wdq
        NP 0F E2                | PSRAD         | Pq,Qq
        66 0F E2                | PSRAD         | Vdq,Wdq
        NP 0F E3                | PAVGW         | Pq,Qq
        66 0F E3                | PAVGW         | Vdq,Wdq
        NP 0F E4                | PMULHUW       | Pq,Qq
        66 0F E4                | PMULHUW       | Vdq,Wdq
        NP 0F E5                | PMULHW        | Pq,Qq
        66 0F E5                | PMULHW        | Vdq,Wdq
        NP 0F E8                | PSUBSB        | Pq,Qq
        66 0F E8                | PSUBSB        | Vdq,Wdq
        NP 0F E9                | PSUBSW        | Pq,Qq
        66 0F E9                | PSUBSW        | Vdq,Wdq
        NP 0F EA                | PMINSW        | Pq,Qq
        66 0F EA                | PMINSW        | Vdq,Wdq
        NP 0F EB                | POR           | Pq,Qq
        66 0F EB                | POR           | Vdq,Wdq
        NP 0F EC                | PADDSB        | Pq,Qq
        66 0F EC                | PADDSB        | Vdq,Wdq
        NP 0F ED                | PADDSW        | Pq,Qq
        66 0F ED                | PADDSW        | Vdq,Wdq
        NP 0F EE                | PMAXSW        | Pq,Qq
        66 0F EE                | PMAXSW        | Vdq,Wdq
        NP 0F EF                | PXOR          | Pq,Qq
        66 0F EF                | PXOR          | Vdq,Wdq
        NP 0F F1                | PSLLW         | Pq,Qq
        66 0F F1                | PSLLW         | Vdq,Wdq
        NP 0F F2                | PSLLD         | Pq,Qq
        66 0F F2                | PSLLD         | Vdq,Wdq
        NP 0F F3                | PSLLQ         | Pq,Qq
        66 0F F3                | PSLLQ         | Vdq,Wdq
        NP 0F F4                | PMULUDQ       | Pq,Qq
        66 0F F4                | PMULUDQ       | Vdq,Wdq
        NP 0F F5                | PMADDWD       | Pq,Qq
        66 0F F5                | PMADDWD       | Vdq,Wdq
        NP 0F F6                | PSADBW        | Pq,Qq
        66 0F F6                | PSADBW        | Vdq,Wdq
        NP 0F F8                | PSUBB         | Pq,Qq
        66 0F F8                | PSUBB         | Vdq,Wdq
        NP 0F F9                | PSUBW         | Pq,Qq
        66 0F F9                | PSUBW         | Vdq,Wdq
        NP 0F FA                | PSUBD         | Pq,Qq
        66 0F FA                | PSUBD         | Vdq,Wdq
        NP 0F FB                | PSUBQ         | Pq,Qq
        66 0F FB                | PSUBQ         | Vdq,Wdq
        NP 0F FC                | PADDB         | Pq,Qq
        66 0F FC                | PADDB         | Vdq,Wdq
        NP 0F FD                | PADDW         | Pq,Qq
        66 0F FD                | PADDW         | Vdq,Wdq
        NP 0F FE                | PADDD         | Pq,Qq
        66 0F FE                | PADDD         | Vdq,Wdq
        66 0F E6                | CVTTPD2DQ     | Vdq,Wpd
        F3 0F E6                | CVTDQ2PD      | Vpd,Wq
        F2 0F E6                | CVTPD2DQ      | Vdq,Wpd
        NP 0F E7                | MOVNTQ        | Mq,Pq
        66 0F E7                | MOVNTDQ       | Mdq,Vdq
        F2 0F F0                | LDDQU         | Vdq,Mdq
        NP 0F F7                | MASKMOVQ      | Pq,Nq
        66 0F F7                | MASKMOVDQU    | Vdq,Udq

        NP 0F 38 00             | PSHUFB        | Pq,Qq
        66 0F 38 00             | PSHUFB        | Vdq,Wdq
        NP 0F 38 01             | PHADDW        | Pq,Qq
        66 0F 38 01             | PHADDW        | Vdq,Wdq
        NP 0F 38 02             | PHADDD        | Pq,Qq
        66 0F 38 02             | PHADDD        | Vdq,Wdq
        NP 0F 38 03             | PHADDSW       | Pq,Qq
        66 0F 38 03             | PHADDSW       | Vdq,Wdq
        NP 0F 38 04             | PMADDUBSW     | Pq,Qq
        66 0F 38 04             | PMADDUBSW     | Vdq,Wdq
        NP 0F 38 05             | PHSUBW        | Pq,Qq
        66 0F 38 05             | PHSUBW        | Vdq,Wdq
        NP 0F 38 06             | PHSUBD        | Pq,Qq
        66 0F 38 06             | PHSUBD        | Vdq,Wdq
        NP 0F 38 07             | PHSUBSW       | Pq,Qq
        66 0F 38 07             | PHSUBSW       | Vdq,Wdq
        NP 0F 38 08             | PSIGNB        | Pq,Qq
        66 0F 38 08             | PSIGNB        | Vdq,Wdq
        NP 0F 38 09             | PSIGNW        | Pq,Qq
        66 0F 38 09             | PSIGNW        | Vdq,Wdq
        NP 0F 38 0A             | PSIGND        | Pq,Qq
        66 0F 38 0A             | PSIGND        | Vdq,Wdq
        NP 0F 38 0B             | PMULHRSW      | Pq,Qq
        66 0F 38 0B             | PMULHRSW      | Vdq,Wdq
        NP 0F 38 1C             | PABSB         | Pq,Qq
        66 0F 38 1C             | PABSB         | Vdq,Wdq
        NP 0F 38 1D             | PABSW         | Pq,Qq
        66 0F 38 1D             | PABSW         | Vdq,Wdq
        NP 0F 38 1E             | PABSD         | Pq,Qq
        66 0F 38 1E             | PABSD         | Vdq,Wdq
        66 0F 38 10             | PBLENDVB      | Vdq,Wdq,XMM0
        66 0F 38 14             | BLENDVPS      | Vdq,Wdq,XMM0
        66 0F 38 15             | BLENDVPD      | Vdq,Wdq,XMM0
        66 0F 38 17             | PTEST         | Vdq,Wdq
        66 0F 38 20             | PMOVSXBW      | Vdq,Wq
        66 0F 38 21             | PMOVSXBD      | Vdq,Wd
        66 0F 38 22             | PMOVSXBQ      | Vdq,Ww
        66 0F 38 23             | PMOVSXWD      | Vdq,Wq
        66 0F 38 24             | PMOVSXWQ      | Vdq,Wd
        66 0F 38 25             | PMOVSXDQ      | Vdq,Wq
        66 0F 38 30             | PMOVZXBW      | Vdq,Wq
        66 0F 38 31             | PMOVZXBD      | Vdq,Wd
        66 0F 38 32             | PMOVZXBQ      | Vdq,Ww
        66 0F 38 33             | PMOVZXWD      | Vdq,Wq
        66 0F 38 34             | PMOVZXWQ      | Vdq,Wd
        66 0F 38 35             | PMOVZXDQ      | Vdq,Wq
        66 0F 38 28             | PMULDQ        | Vdq,Wdq
        66 0F 38 29             | PCMPEQQ       | Vdq,Wdq
        66 0F 38 2B             | PACKUSDW      | Vdq,Wdq
        66 0F 38 37             | PCMPGTQ       | Vdq,Wdq
        66 0F 38 38             | PMINSB        | Vdq,Wdq
        66 0F 38 39             | PMINSD        | Vdq,Wdq
        66 0F 38 3A             | PMINUW        | Vdq,Wdq
        66 0F 38 3B             | PMINUD        | Vdq,Wdq
        66 0F 38 3C             | PMAXSB        | Vdq,Wdq
        66 0F 38 3D             | PMAXSD        | Vdq,Wdq
        66 0F 38 3E             | PMAXUW        | Vdq,Wdq
        66 0F 38 3F             | PMAXUD        | Vdq,Wdq
        66 0F 38 40             | PMULLD        | Vdq,Wdq
        66 0F 38 41             | PHMINPOSUW    | Vdq,Wdq
        66 0F 38 2A             | MOVNTDQA      | Vdq,Mdq
        NP 0F 38 C8             | SHA1NEXTE     | Vdq,Wdq
        NP 0F 38 C9             | SHA1MSG1      | Vdq,Wdq
        NP 0F 38 CA             | SHA1MSG2      | Vdq,Wdq
        NP 0F 38 CB             | SHA256RNDS2   | Vdq,Wdq,XMM0
        NP 0F 38 CC             | SHA256MSG1    | Vdq,Wdq
        NP 0F 38 CD             | SHA256MSG2    | Vdq,Wdq
        66 0F 38 DB             | AESIMC        | Vdq,Wdq
        66 0F 38 DC             | AESENC        | Vdq,Wdq
        66 0F 38 DD             | AESENCLAST    | Vdq,Wdq
        66 0F 38 DE             | AESDEC        | Vdq,Wdq
        66 0F 38 DF             | AESDECLAST    | Vdq,Wdq

        66 0F 3A 08             | ROUNDPS       | Vps,Wps,Ib
        66 0F 3A 09             | ROUNDPD       | Vpd,Wpd,Ib
        66 0F 3A 0A             | ROUNDSS       | Vss,Wss,Ib
        66 0F 3A 0B             | ROUNDSD       | Vsd,Wsd,Ib
        66 0F 3A 0C             | BLENDPS       | Vps,Wps,Ib
        66 0F 3A 0D             | BLENDPD       | Vpd,Wpd,Ib
        66 0F 3A 0E             | PBLENDW       | Vdq,Wdq,Ib
        NP 0F 3A 0F             | PALIGNR       | Pq,Qq,Ib
        66 0F 3A 0F             | PALIGNR       | Vdq,Wdq,Ib
        66 0F 3A 14             | PEXTRB        | RdMb,Vdq,Ib
        66 0F 3A 15             | PEXTRW        | RdMw,Vdq,Ib
        66 0F 3A 16             | PEXTRD        | Ed,Vdq,Ib
        66 REX.W 0F 3A 16       | PEXTRQ        | Eq,Vdq,Ib
        66 0F 3A 17             | EXTRACTPS     | Ed,Vdq,Ib
        66 0F 3A 20             | PINSRB        | Vdq,RdMb,Ib
        66 0F 3A 21             | INSERTPS      | Vdq,Wd,Ib
        66 0F 3A 22             | PINSRD        | Vdq,Ed,Ib
        66 REX.W 0F 3A 22       | PINSRQ        | Vdq,Eq,Ib
        66 0F 3A 40             | DPPS          | Vdq,Wdq,Ib
        66 0F 3A 41             | DPPD          | Vdq,Wdq,Ib
        66 0F 3A 42             | MPSADBW       | Vdq,Wdq,Ib
        66 0F 3A 44             | PCLMULQDQ     | Vdq,Wdq,Ib
        66 0F 3A 60             | PCMPESTRM     | Vdq,Wdq,Ib
        66 0F 3A 61             | PCMPESTRI     | Vdq,Wdq,Ib
        66 0F 3A 62             | PCMPISTRM     | Vdq,Wdq,Ib
        66 0F 3A 63             | PCMPISTRI     | Vdq,Wdq,Ib
        NP 0F 3A CC             | SHA1RNDS4     | Vdq,Wdq,Ib
        66 0F 3A DF             | AESKEYGENASSIST| Vdq,Wdq,Ib
        """.stripTrailing(); // no constant, so that no other class keeps a copy

    private SseTable() {
    }
}
