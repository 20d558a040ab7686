package cloister.isa;

/// The system instructions, in the notation of [OpcodeTable]. [SDM Vol. 2 "Opcode Map"]
final class SystemTable {
    static final String ROWS = """
        0F 00 /0                | SLDT          | RvMw
        0F 00 /1                | STR           | RvMw
        0F 00 /2                | LLDT          | Ew
        0F 00 /3                | LTR           | Ew
        0F 00 /4                | VERR          | Ew
        0F 00 /5                | VERW          | Ew
        0F 01 /0                | SGDT          | Ms              | f64
        0F 01 /1                | SIDT          | Ms              | f64
        0F 01 /2                | LGDT          | Ms              | f64
        0F 01 /3                | LIDT          | Ms              | f64
        0F 01 /4                | SMSW          | RvMw
        F3 0F 01 /5             | RSTORSSP      | Mq
        0F 01 /6                | LMSW          | Ew
        0F 01 /7                | INVLPG        | Mb
        NP 0F 01 C0             | ENCLV         |
        NP 0F 01 C1             | VMCALL        |
        NP 0F 01 C2             | VMLAUNCH      |
        NP 0F 01 C3             | VMRESUME      |
        NP 0F 01 C4             | VMXOFF        |
        NP 0F 01 C5             | PCONFIG       |
        NP 0F 01 C8             | MONITOR       |
        NP 0F 01 C9             | MWAIT         |
        NP 0F 01 CA             | CLAC          |
        NP 0F 01 CB             | STAC          |
        66 0F 01 CC             | TDCALL        |
        66 0F 01 CD             | SEAMRET       |
        66 0F 01 CE             | SEAMOPS       |
        NP 0F 01 CF             | ENCLS         |
        66 0F 01 CF             | SEAMCALL      |
        NP 0F 01 D0             | XGETBV        |
        NP 0F 01 D1             | XSETBV        |
        NP 0F 01 D5             | XEND          |
        NP 0F 01 D6             | XTEST         |
        NP 0F 01 D4             | VMFUNC        |
        NP 0F 01 D7             | ENCLU         |
        NP 0F 01 E8             | SERIALIZE     |
        F3 0F 01 E8             | SETSSBSY      |
        F3 0F 01 EA             | SAVEPREVSSP   |
        NP 0F 01 EE             | RDPKRU        |
        NP 0F 01 EF             | WRPKRU        |
        0F 01 F8                | SWAPGS        |                 | o64
        0F 01 F9                | RDTSCP        |
        0F 02                   | LAR           | Gv,Ew
        0F 03                   | LSL           | Gv,Ew
        0F 05                   | SYSCALL       |                 | o64
        0F 06                   | CLTS          |
        0F 07                   | SYSRET        |                 | o64
        0F 08                   | INVD          |
        0F 09                   | WBINVD        |
        F3 0F 09                | WBNOINVD      |
        0F 0D                   | NOP           | Ev
        0F 0D /1                | PREFETCHW     | Mb
        0F 18                   | NOP           | Ev
        0F 18 /0                | PREFETCHNTA   | Mb
        0F 18 /1                | PREFETCHT0    | Mb
        0F 18 /2                | PREFETCHT1    | Mb
        0F 18 /3                | PREFETCHT2    | Mb
        NP 0F 1C /0             | CLDEMOTE      | Mb
        0F 20                   | MOV_CR        | Ry,Cy           | f64
        0F 21                   | MOV_DR        | Ry,Dy           | f64
        0F 22                   | MOV_CR        | Cy,Ry           | f64
        0F 23                   | MOV_DR        | Dy,Ry           | f64
        0F 30                   | WRMSR         |
        0F 31                   | RDTSC         |
        0F 32                   | RDMSR         |
        0F 33                   | RDPMC         |
        0F 34                   | SYSENTER      |
        0F 35                   | SYSEXIT       |
        NP 0F 37                | GETSEC        |
        NP 0F 78                | VMREAD        | Ey,Gy           | f64
        NP 0F 79                | VMWRITE       | Gy,Ey           | f64
        0F A2                   | CPUID         |
        0F AA                   | RSM           |
        NP 0F AE /0             | FXSAVE        | Mfx
        NP 0F AE /1             | FXRSTOR       | Mfx
        NP 0F AE /4             | XSAVE         | M
        NP 0F AE /5             | XRSTOR        | M
        NP 0F AE /6             | XSAVEOPT      | M
        NP 0F AE /7             | CLFLUSH       | Mb
        66 0F AE /6             | CLWB          | Mb
        66 0F AE /7             | CLFLUSHOPT    | Mb
        NP 0F AE E8+i           | LFENCE        |
        NP 0F AE F0+i           | MFENCE        |
        NP 0F AE F8+i           | SFENCE        |
        F3 0F AE /0             | RDFSBASE      | Ry              | o64
        F3 0F AE /1             | RDGSBASE      | Ry              | o64
        F3 0F AE /2             | WRFSBASE      | Ry              | o64
        F3 0F AE /3             | WRGSBASE      | Ry              | o64
        F3 0F AE /5             | INCSSP        | Ry
        F3 0F AE /6             | CLRSSBSY      | Mq
        F3 0F AE /6             | UMONITOR      | Ra
        F2 0F AE /6             | UMWAIT        | Rd
        66 0F AE /6             | TPAUSE        | Rd
        NP 0F C7 /3             | XRSTORS       | M
        NP 0F C7 /4             | XSAVEC        | M
        NP 0F C7 /5             | XSAVES        | M
        NP 0F C7 /6             | VMPTRLD       | Mq
        66 0F C7 /6             | VMCLEAR       | Mq
        F3 0F C7 /6             | VMXON         | Mq
        NP 0F C7 /7             | VMPTRST       | Mq
        F3 0F C7 /7             | RDPID         | Ry              | f64
        66 0F 38 80             | INVEPT        | Gy,Mdq          | f64
        66 0F 38 81             | INVVPID       | Gy,Mdq          | f64
        66 0F 38 82             | INVPCID       | Gy,Mdq          | f64
        66 0F 38 F5             | WRUSS         | My,Gy
        NP 0F 38 F6             | WRSS          | My,Gy
        F4                      | HLT           |
        """.stripTrailing(); // no constant, so that no other class keeps a copy

    private SystemTable() {
    }
}
