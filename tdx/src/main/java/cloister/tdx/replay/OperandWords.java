package cloister.tdx.replay;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import java.util.HashMap;
import java.util.Map;

/// What the registers of each function hold, for people. [TDX-ABI "Host-Side (SEAMCALL) Interface Functions", "Guest-Side (TDCALL)
/// Interface Functions"]
///
/// Names that other words are made from: `page` a GPA with a level, `entry` a Secure EPT entry, `info` its level and state, `field` the
/// identifier of a metadata field, `pagetype` a page type of the PAMT, `reason` an exit reason.
final class OperandWords {
    /// Function; input registers; output registers.
    private static final String HOST = """
            VP_ENTER           | rcx=TDVPR                                    | rcx=qualification rdx=extended r8=GPA r9=interruption
            MNG_ADDCX          | rcx=TDCX-page rdx=TDR                        |
            MEM_PAGE_ADD       | rcx=page rdx=TDR r8=HPA r9=source            | rcx=entry rdx=info
            MEM_SEPT_ADD       | rcx=page rdx=TDR r8=HPA                      | rcx=entry rdx=info
            VP_ADDCX           | rcx=TDCX-page rdx=TDVPR                      |
            MEM_PAGE_RELOCATE  | rcx=page rdx=TDR r8=HPA                      | rcx=entry rdx=info
            MEM_PAGE_AUG       | rcx=page rdx=TDR r8=HPA                      | rcx=entry rdx=info
            MEM_RANGE_BLOCK    | rcx=page rdx=TDR                             | rcx=entry rdx=info
            MNG_KEY_CONFIG     | rcx=TDR                                      |
            MNG_CREATE         | rcx=TDR rdx=KeyID                            |
            VP_CREATE          | rcx=TDVPR rdx=TDR                            |
            MNG_RD             | rcx=TDR rdx=field                            | rdx=field r8=value
            MEM_RD             | rcx=GPA rdx=TDR                              | rcx=entry rdx=info r8=value
            MNG_WR             | rcx=TDR rdx=field r8=value r9=mask           | r8=old-value
            MEM_WR             | rcx=GPA rdx=TDR r8=value                     | rcx=entry rdx=info r8=old-value
            MEM_PAGE_DEMOTE    | rcx=page rdx=TDR r8=HPA                      | rcx=entry rdx=info
            MR_EXTEND          | rcx=GPA rdx=TDR                              | rcx=entry rdx=info
            MR_FINALIZE        | rcx=TDR                                      |
            VP_FLUSH           | rcx=TDVPR                                    |
            MNG_VPFLUSHDONE    | rcx=TDR                                      |
            MNG_KEY_FREEID     | rcx=TDR                                      |
            MNG_INIT           | rcx=TDR rdx=TD_PARAMS                        | rcx=CPUID-leaf-and-subleaf
            VP_INIT            | rcx=TDVPR rdx=RCX-of-guest r8=x2APIC-ID      |
            MEM_PAGE_PROMOTE   | rcx=page rdx=TDR                             | rcx=entry rdx=info
            PHYMEM_PAGE_RDMD   | rcx=HPA                                      | rcx=pagetype rdx=owner r8=size r9=BEPOCH
            MEM_SEPT_RD        | rcx=page rdx=TDR                             | rcx=entry rdx=info
            VP_RD              | rcx=TDVPR rdx=field                          | rdx=field r8=value
            PHYMEM_PAGE_RECLAIM| rcx=HPA                                      | rcx=pagetype rdx=owner r8=size
            MEM_PAGE_REMOVE    | rcx=page rdx=TDR                             | rcx=entry rdx=info
            MEM_SEPT_REMOVE    | rcx=page rdx=TDR                             | rcx=entry rdx=info
            SYS_INFO           | rcx=TDSYSINFO rdx=size r8=CMRs r9=number     | rdx=size r9=number
            SYS_INIT           | rcx=attributes                               |
            SYS_RD             | rdx=field                                    | rdx=field r8=value
            SYS_TDMR_INIT      | rcx=TDMR                                     | rdx=next-to-initialise
            SYS_RDALL          | rdx=list rcx=field r8=field                  | rdx=field
            MEM_TRACK          | rcx=TDR                                      |
            MEM_RANGE_UNBLOCK  | rcx=page rdx=TDR                             | rcx=entry rdx=info
            PHYMEM_CACHE_WB    | rcx=resumed                                  |
            PHYMEM_PAGE_WBINVD | rcx=HPA                                      |
            VP_WR              | rcx=TDVPR rdx=field r8=value r9=mask         | r8=old-value
            SYS_CONFIG         | rcx=TDMR_INFO-list rdx=entries r8=global-KeyID |
            """;
    private static final String GUEST = """
            VP_VMCALL          | rcx=mask rbx=RBX r10=type r11=sub-function   |
            VP_INFO            |                                              | rcx=GPAW rdx=ATTRIBUTES r8=VCPUS r9=index r10=flags
            MR_RTMR_EXTEND     | rcx=GPA rdx=index                            |
            VP_VEINFO_GET      |                                              | rcx=reason rdx=qualification r8=GLA r9=GPA r10=instruction
            MR_REPORT          | rcx=report-GPA rdx=data-GPA r8=sub-type      |
            VP_CPUIDVE_SET     | rcx=flags                                    |
            MEM_PAGE_ACCEPT    | rcx=page                                     |
            VM_RD              | rdx=field                                    | rdx=field r8=value
            VM_WR              | rdx=field r8=value r9=mask                   | r8=old-value
            VP_RD              | rdx=field                                    | rdx=field r8=value
            VP_WR              | rdx=field r8=value r9=mask                   | r8=old-value
            SYS_RD             | rdx=field                                    | rdx=field r8=value
            SYS_RDALL          | rcx=list rdx=field                           | rdx=field
            MR_VERIFYREPORT    | rcx=GPA                                      |
            MEM_PAGE_ATTR_RD   | rcx=page                                     | rcx=page rdx=attributes
            MEM_PAGE_ATTR_WR   | rcx=page rdx=attributes r8=masks             | rcx=page rdx=attributes
            """;

    private static final Map<SeamcallLeaf, Map<String, String>> HOST_IN = new HashMap<>();
    private static final Map<SeamcallLeaf, Map<String, String>> HOST_OUT = new HashMap<>();
    private static final Map<TdcallLeaf, Map<String, String>> GUEST_IN = new HashMap<>();
    private static final Map<TdcallLeaf, Map<String, String>> GUEST_OUT = new HashMap<>();

    static {
        HOST.lines().map(line -> line.split("\\|", 3)).forEach(row -> {
            var leaf = SeamcallLeaf.valueOf(row[0].strip());
            HOST_IN.put(leaf, words(row[1]));
            HOST_OUT.put(leaf, words(row[2]));
        });
        GUEST.lines().map(line -> line.split("\\|", 3)).forEach(row -> {
            var leaf = TdcallLeaf.valueOf(row[0].strip());
            GUEST_IN.put(leaf, words(row[1]));
            GUEST_OUT.put(leaf, words(row[2]));
        });
    }

    private OperandWords() {
    }

    private static Map<String, String> words(String text) {
        var words = new HashMap<String, String>();
        for (var pair : text.strip().split(" +")) {
            int equals = pair.indexOf('=');
            if (equals > 0) {
                words.put(pair.substring(0, equals), pair.substring(equals + 1).replace('-', ' '));
            }
        }
        return words;
    }

    /// What an input register holds; empty when nothing is known of it.
    static String input(SeamcallLeaf leaf, String register) {
        return HOST_IN.getOrDefault(leaf, Map.of()).getOrDefault(register, "");
    }

    /// What an input register of the guest holds.
    static String input(TdcallLeaf leaf, String register) {
        return GUEST_IN.getOrDefault(leaf, Map.of()).getOrDefault(register, "");
    }

    /// What an output register holds.
    static String output(SeamcallLeaf leaf, String register) {
        return HOST_OUT.getOrDefault(leaf, Map.of()).getOrDefault(register, "");
    }

    /// What an output register of the guest holds.
    static String output(TdcallLeaf leaf, String register) {
        return GUEST_OUT.getOrDefault(leaf, Map.of()).getOrDefault(register, "");
    }
}
