package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.vmx.VmxCapabilities;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Op;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// CPUID, control registers, state components, MSRs, VMX capabilities and the decoder agree on every feature. The table is written
/// from the SDM, not from the product's tables: what each feature brings. [SDM Vol. 2 CPUID; Vol. 3 "Control Registers"; Vol. 4]
class FeatureAgreementTest {
    /// name | leaf.subleaf register bit | CR4 bit or - | XCR0 or XSS component or - | MSRs or - | an encoding (64-bit mode) or -
    private static final String FEATURES = """
            FPU            | 1.0 edx 0   | -    | xcr0:0      | -                        | d9c9
            VME            | 1.0 edx 1   | 0    | -           | -                        | -
            DE             | 1.0 edx 2   | 3    | -           | -                        | -
            PSE            | 1.0 edx 3   | 4    | -           | -                        | -
            TSC            | 1.0 edx 4   | 2    | -           | 10                       | 0f31
            MSR            | 1.0 edx 5   | -    | -           | -                        | 0f32
            PAE            | 1.0 edx 6   | 5    | -           | -                        | -
            MCE            | 1.0 edx 7   | 6    | -           | -                        | -
            CX8            | 1.0 edx 8   | -    | -           | -                        | 0fc708
            SEP            | 1.0 edx 11  | -    | -           | 174 175 176              | 0f34
            MTRR           | 1.0 edx 12  | -    | -           | fe 2ff 200 250           | -
            PGE            | 1.0 edx 13  | 7    | -           | -                        | -
            MCA            | 1.0 edx 14  | -    | -           | 179 17a                  | -
            PAT            | 1.0 edx 16  | -    | -           | 277                      | -
            CLFSH          | 1.0 edx 19  | -    | -           | -                        | 0fae38
            DS             | 1.0 edx 21  | -    | -           | 600                      | -
            MMX            | 1.0 edx 23  | -    | -           | -                        | 0ffcc1
            FXSR           | 1.0 edx 24  | 9    | -           | -                        | 0fae00
            SSE            | 1.0 edx 25  | 10   | xcr0:1      | -                        | 0f58c1
            SSE2           | 1.0 edx 26  | -    | -           | -                        | 660f58c1
            SSE3           | 1.0 ecx 0   | -    | -           | -                        | f20fd0c1
            PCLMULQDQ      | 1.0 ecx 1   | -    | -           | -                        | 660f3a44c100
            MONITOR        | 1.0 ecx 3   | -    | -           | -                        | 0f01c8
            VMX            | 1.0 ecx 5   | 13   | -           | 480 48d 492              | 0f01c2
            SMX            | 1.0 ecx 6   | 14   | -           | 3a                       | 0f37
            SSSE3          | 1.0 ecx 9   | -    | -           | -                        | 660f3800c1
            CMPXCHG16B     | 1.0 ecx 13  | -    | -           | -                        | 480fc708
            PDCM           | 1.0 ecx 15  | -    | -           | 345                      | -
            PCID           | 1.0 ecx 17  | 17   | -           | -                        | -
            SSE4.1         | 1.0 ecx 19  | -    | -           | -                        | 660f3817c1
            SSE4.2         | 1.0 ecx 20  | -    | -           | -                        | 660f3837c1
            X2APIC         | 1.0 ecx 21  | -    | -           | 802 80b 830              | -
            MOVBE          | 1.0 ecx 22  | -    | -           | -                        | 0f38f000
            POPCNT         | 1.0 ecx 23  | -    | -           | -                        | f30fb8c1
            TSC_DEADLINE   | 1.0 ecx 24  | -    | -           | 6e0                      | -
            AES            | 1.0 ecx 25  | -    | -           | -                        | 660f38dcc1
            XSAVE          | 1.0 ecx 26  | 18   | -           | -                        | 0f01d0
            AVX            | 1.0 ecx 28  | -    | xcr0:2      | -                        | c5f458c1
            RDRAND         | 1.0 ecx 30  | -    | -           | -                        | 0fc7f0
            FSGSBASE       | 7.0 ebx 0   | 16   | -           | -                        | f30faec0
            TSC_ADJUST     | 7.0 ebx 1   | -    | -           | 3b                       | -
            BMI1           | 7.0 ebx 3   | -    | -           | -                        | c4e278f2c1
            AVX2           | 7.0 ebx 5   | -    | -           | -                        | c5f5fcc1
            HLE            | 7.0 ebx 4   | -    | -           | 122                      | 0f01d6
            RTM            | 7.0 ebx 11  | -    | -           | 122                      | c7f800000000
            SMEP           | 7.0 ebx 7   | 20   | -           | -                        | -
            BMI2           | 7.0 ebx 8   | -    | -           | -                        | c4e37bf0c101
            INVPCID        | 7.0 ebx 10  | -    | -           | -                        | 660f388208
            AVX512F        | 7.0 ebx 16  | -    | xcr0:5      | -                        | 62f17448ffc1
            RDSEED         | 7.0 ebx 18  | -    | -           | -                        | 0fc7f8
            ADX            | 7.0 ebx 19  | -    | -           | -                        | 660f38f6c1
            SMAP           | 7.0 ebx 20  | 21   | -           | -                        | 0f01ca
            CLFLUSHOPT     | 7.0 ebx 23  | -    | -           | -                        | 660fae38
            CLWB           | 7.0 ebx 24  | -    | -           | -                        | 660fae30
            SHA            | 7.0 ebx 29  | -    | -           | -                        | 0f38c8c1
            UMIP           | 7.0 ecx 2   | 11   | -           | -                        | -
            PKU            | 7.0 ecx 3   | 22   | xcr0:9      | -                        | 0f01ee
            WAITPKG        | 7.0 ecx 5   | -    | -           | e1                       | f30faef0
            SHSTK          | 7.0 ecx 7   | 23   | xss:11,12   | 6a0 6a2 6a4 6a5 6a6 6a7 6a8 | f30f01e8
            LA57           | 7.0 ecx 16  | 12   | -           | -                        | -
            RDPID          | 7.0 ecx 22  | -    | -           | c0000103                 | f30fc7f8
            KL             | 7.0 ecx 23  | 19   | -           | d90                      | -
            MOVDIRI        | 7.0 ecx 27  | -    | -           | -                        | 0f38f908
            MOVDIR64B      | 7.0 ecx 28  | -    | -           | -                        | 660f38f808
            PKS            | 7.0 ecx 31  | 24   | -           | 6e1                      | -
            UINTR          | 7.0 edx 5   | 25   | xss:14      | 985                      | f30f01ec
            SERIALIZE      | 7.0 edx 14  | -    | -           | -                        | 0f01e8
            PCONFIG        | 7.0 edx 18  | -    | -           | -                        | -
            ARCH_LBR       | 7.0 edx 19  | -    | -           | 14ce 14cf 1200 1500 1600 | -
            IBT            | 7.0 edx 20  | 23   | xss:11,12   | 6a0 6a2                  | f30f1efa
            AMX            | 7.0 edx 24  | -    | xcr0:17,18  | -                        | -
            SPEC_CTRL      | 7.0 edx 26  | -    | -           | 48 49                    | -
            L1D_FLUSH      | 7.0 edx 28  | -    | -           | 10b                      | -
            ARCH_CAP       | 7.0 edx 29  | -    | -           | 10a                      | -
            CORE_CAP       | 7.0 edx 30  | -    | -           | cf                       | -
            LASS           | 7.1 eax 6   | 27   | -           | -                        | -
            LAM            | 7.1 eax 26  | 28   | -           | -                        | -
            XSAVEOPT       | d.1 eax 0   | -    | -           | -                        | 0fae30
            XSAVEC         | d.1 eax 1   | -    | -           | -                        | 0fc720
            XSAVES         | d.1 eax 3   | -    | -           | da0                      | 0fc728
            XFD            | d.1 eax 4   | -    | -           | 1c4 1c5                  | -
            SYSCALL        | 80000001.0 edx 11 | - | -        | c0000081 c0000082 c0000084 | 0f05
            NX             | 80000001.0 edx 20 | - | -        | -                        | -
            RDTSCP         | 80000001.0 edx 27 | - | -        | c0000103                 | 0f01f9
            LM             | 80000001.0 edx 29 | - | -        | c0000080 c0000100 c0000101 c0000102 | -
            LZCNT          | 80000001.0 ecx 5 | - | -         | -                        | f30fbdc1
            WBNOINVD       | 80000008.0 ebx 9 | - | -         | -                        | f30f09
            """;
    private static final long CR4_FIXED1 = VmxCapabilities.read(0x489);
    private final CetMachine m = new CetMachine();
    private final Cpu cpu = m.cpu;

    private record Feature(String name, int leaf, int subleaf, int register, int bit, String cr4, String components, String msrs,
            String encoding) {
        static Feature parse(String row) {
            String[] column = row.split("\\|");
            String[] cpuid = column[1].strip().split("[. ]+");
            return new Feature(column[0].strip(), Integer.parseUnsignedInt(cpuid[0], 16), Integer.parseInt(cpuid[1]),
                    "eax ebx ecx edx".indexOf(cpuid[2]) / 4, Integer.parseInt(cpuid[3]), column[2].strip(), column[3].strip(),
                    column[4].strip(), column[5].strip());
        }

        @Override public String toString() {
            return name;
        }
    }

    static Stream<Feature> features() {
        return FEATURES.lines().map(Feature::parse);
    }

    @BeforeEach
    void in64BitMode() {
        m.level(0); // where SYSCALL is shown
    }

    @AfterEach
    void close() {
        m.close();
    }

    private boolean shown(Feature f) {
        int[] out = new int[4];
        ProcessorQueries.query(cpu, f.leaf, f.subleaf, out);
        return ((out[f.register] >>> f.bit) & 1) != 0;
    }

    /// Whether any feature that is shown brings what `is` looks for: some things belong to two features.
    private boolean anyShown(Predicate<Feature> is) {
        return features().filter(is).anyMatch(this::shown);
    }

    @ParameterizedTest
    @MethodSource("features")
    void cr4AllowsWhatCpuidShows(Feature f) {
        if (f.cr4.equals("-")) {
            return;
        }
        long bit = 1L << Integer.parseInt(f.cr4);
        boolean expected = anyShown(other -> other.cr4.equals(f.cr4));
        assertThat(ControlRegisters.supportedCr4(bit)).as("CR4").isEqualTo(expected);
        assertThat((CR4_FIXED1 & bit) != 0).as("IA32_VMX_CR4_FIXED1").isEqualTo(expected);
    }

    @ParameterizedTest
    @MethodSource("features")
    void componentsFollow(Feature f) {
        if (f.components.equals("-")) {
            return;
        }
        boolean user = f.components.startsWith("xcr0:");
        int[] out = new int[4];
        ProcessorQueries.query(cpu, 0xd, user ? 0 : 1, out);
        int enumerated = user ? out[0] : out[2];
        for (String number : f.components.substring(f.components.indexOf(':') + 1).split(",")) {
            long component = 1L << Integer.parseInt(number);
            boolean expected = anyShown(other -> other.components.equals(f.components));
            assertThat((enumerated & component) != 0).as("CPUID.0DH component " + number).isEqualTo(expected);
            boolean accepted = user ? ControlRegisters.legalXcr0(component | 1) : accepts(0xda0, component);
            assertThat(accepted).as("register, component " + number).isEqualTo(expected);
            ProcessorQueries.query(cpu, 0xd, Integer.parseInt(number), out);
            assertThat(Integer.parseInt(number) < 2 || (out[0] != 0) == expected).as("sub-leaf " + number).isTrue();
        }
    }

    private boolean accepts(int msr, long value) {
        try {
            cpu.msrs.write(msr, value);
            return true;
        } catch (GuestFault fault) {
            return false;
        }
    }

    @ParameterizedTest
    @MethodSource("features")
    void msrsExistWithTheFeature(Feature f) {
        if (f.msrs.equals("-")) {
            return;
        }
        for (String number : f.msrs.split(" +")) {
            int msr = Integer.parseUnsignedInt(number, 16);
            boolean exists = cpu.msrs.exists(msr) || VmxCapabilities.handles(msr);
            assertThat(exists).as("MSR " + number).isEqualTo(anyShown(other -> Arrays.asList(other.msrs.split(" +")).contains(number)));
        }
    }

    @ParameterizedTest
    @MethodSource("features")
    void instructionsDecodeWithTheFeature(Feature f) {
        if (f.encoding.equals("-")) {
            return;
        }
        byte[] code = Arrays.copyOf(HexFormat.of().parseHex(f.encoding), 15);
        var insn = new Decoder().decode(CodeMode.BITS64, code, 0, 15);
        assertThat(insn.op != Op.UNKNOWN).as(insn.op.toString()).isEqualTo(shown(f));
    }
}
