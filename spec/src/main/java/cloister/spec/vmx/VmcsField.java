package cloister.spec.vmx;

/// The fields of a VMCS with their encodings. [SDM Vol. 3 "Field Encoding in VMCS"] The fields that only SEAM mode has are in
/// [TDX-CPU "VMX extensions in SEAM"].
///
/// The encoding tells width (bits 14:13) and type (bits 11:10). 64-bit fields have a second encoding, one higher, that
/// accesses bits 63:32; [#ofEncoding] finds the field for both.
public enum VmcsField {
    // 16-bit control fields
    VPID(0x0000),
    POSTED_INTERRUPT_NOTIFICATION_VECTOR(0x0002),
    EPTP_INDEX(0x0004),
    HLAT_PREFIX_SIZE(0x0006),
    LAST_PID_POINTER_INDEX(0x0008),
    // 16-bit guest-state fields
    GUEST_ES_SELECTOR(0x0800),
    GUEST_CS_SELECTOR(0x0802),
    GUEST_SS_SELECTOR(0x0804),
    GUEST_DS_SELECTOR(0x0806),
    GUEST_FS_SELECTOR(0x0808),
    GUEST_GS_SELECTOR(0x080A),
    GUEST_LDTR_SELECTOR(0x080C),
    GUEST_TR_SELECTOR(0x080E),
    GUEST_INTERRUPT_STATUS(0x0810),
    PML_INDEX(0x0812),
    GUEST_UINV(0x0814),
    // 16-bit host-state fields
    HOST_ES_SELECTOR(0x0C00),
    HOST_CS_SELECTOR(0x0C02),
    HOST_SS_SELECTOR(0x0C04),
    HOST_DS_SELECTOR(0x0C06),
    HOST_FS_SELECTOR(0x0C08),
    HOST_GS_SELECTOR(0x0C0A),
    HOST_TR_SELECTOR(0x0C0C),
    // 64-bit control fields
    IO_BITMAP_A(0x2000),
    IO_BITMAP_B(0x2002),
    MSR_BITMAP(0x2004),
    EXIT_MSR_STORE_ADDRESS(0x2006),
    EXIT_MSR_LOAD_ADDRESS(0x2008),
    ENTRY_MSR_LOAD_ADDRESS(0x200A),
    EXECUTIVE_VMCS_POINTER(0x200C),
    PML_ADDRESS(0x200E),
    TSC_OFFSET(0x2010),
    VIRTUAL_APIC_ADDRESS(0x2012),
    APIC_ACCESS_ADDRESS(0x2014),
    POSTED_INTERRUPT_DESCRIPTOR_ADDRESS(0x2016),
    VM_FUNCTION_CONTROLS(0x2018),
    EPTP(0x201A),
    EOI_EXIT_BITMAP_0(0x201C),
    EOI_EXIT_BITMAP_1(0x201E),
    EOI_EXIT_BITMAP_2(0x2020),
    EOI_EXIT_BITMAP_3(0x2022),
    EPTP_LIST_ADDRESS(0x2024),
    VMREAD_BITMAP(0x2026),
    VMWRITE_BITMAP(0x2028),
    VE_INFORMATION_ADDRESS(0x202A),
    XSS_EXITING_BITMAP(0x202C),
    ENCLS_EXITING_BITMAP(0x202E),
    SPP_TABLE_POINTER(0x2030),
    TSC_MULTIPLIER(0x2032),
    TERTIARY_PROC_BASED_CONTROLS(0x2034),
    ENCLV_EXITING_BITMAP(0x2036),
    LOW_PASID_DIRECTORY(0x2038),
    HIGH_PASID_DIRECTORY(0x203A),
    /// The EPT that translates shared guest-physical addresses of a TD; SEAM only.
    SHARED_EPTP(0x203C),
    PCONFIG_EXITING_BITMAP(0x203E),
    HLAT_POINTER(0x2040),
    PID_POINTER_TABLE(0x2042),
    SECONDARY_EXIT_CONTROLS(0x2044),
    SPEC_CTRL_MASK(0x204A),
    SPEC_CTRL_SHADOW(0x204C),
    // 64-bit read-only data
    GUEST_PHYSICAL_ADDRESS(0x2400),
    // 64-bit guest-state fields
    VMCS_LINK_POINTER(0x2800),
    GUEST_DEBUGCTL(0x2802),
    GUEST_PAT(0x2804),
    GUEST_EFER(0x2806),
    GUEST_PERF_GLOBAL_CTRL(0x2808),
    GUEST_PDPTE0(0x280A),
    GUEST_PDPTE1(0x280C),
    GUEST_PDPTE2(0x280E),
    GUEST_PDPTE3(0x2810),
    GUEST_BNDCFGS(0x2812),
    GUEST_RTIT_CTL(0x2814),
    GUEST_LBR_CTL(0x2816),
    GUEST_PKRS(0x2818),
    // 64-bit host-state fields
    HOST_PAT(0x2C00),
    HOST_EFER(0x2C02),
    HOST_PERF_GLOBAL_CTRL(0x2C04),
    HOST_PKRS(0x2C06),
    // 32-bit control fields
    PIN_BASED_CONTROLS(0x4000),
    PROC_BASED_CONTROLS(0x4002),
    EXCEPTION_BITMAP(0x4004),
    PAGE_FAULT_ERROR_CODE_MASK(0x4006),
    PAGE_FAULT_ERROR_CODE_MATCH(0x4008),
    CR3_TARGET_COUNT(0x400A),
    VM_EXIT_CONTROLS(0x400C),
    EXIT_MSR_STORE_COUNT(0x400E),
    EXIT_MSR_LOAD_COUNT(0x4010),
    VM_ENTRY_CONTROLS(0x4012),
    ENTRY_MSR_LOAD_COUNT(0x4014),
    ENTRY_INTERRUPTION_INFO(0x4016),
    ENTRY_EXCEPTION_ERROR_CODE(0x4018),
    ENTRY_INSTRUCTION_LENGTH(0x401A),
    TPR_THRESHOLD(0x401C),
    SECONDARY_PROC_BASED_CONTROLS(0x401E),
    PLE_GAP(0x4020),
    PLE_WINDOW(0x4022),
    NOTIFY_WINDOW(0x4024),
    /// The KeyID through which a TD's private memory and Secure EPT are accessed; SEAM only.
    GUEST_TD_HKID(0x4026),
    // 32-bit read-only data
    VM_INSTRUCTION_ERROR(0x4400),
    EXIT_REASON(0x4402),
    EXIT_INTERRUPTION_INFO(0x4404),
    EXIT_INTERRUPTION_ERROR_CODE(0x4406),
    IDT_VECTORING_INFO(0x4408),
    IDT_VECTORING_ERROR_CODE(0x440A),
    EXIT_INSTRUCTION_LENGTH(0x440C),
    EXIT_INSTRUCTION_INFO(0x440E),
    // 32-bit guest-state fields
    GUEST_ES_LIMIT(0x4800),
    GUEST_CS_LIMIT(0x4802),
    GUEST_SS_LIMIT(0x4804),
    GUEST_DS_LIMIT(0x4806),
    GUEST_FS_LIMIT(0x4808),
    GUEST_GS_LIMIT(0x480A),
    GUEST_LDTR_LIMIT(0x480C),
    GUEST_TR_LIMIT(0x480E),
    GUEST_GDTR_LIMIT(0x4810),
    GUEST_IDTR_LIMIT(0x4812),
    GUEST_ES_ACCESS_RIGHTS(0x4814),
    GUEST_CS_ACCESS_RIGHTS(0x4816),
    GUEST_SS_ACCESS_RIGHTS(0x4818),
    GUEST_DS_ACCESS_RIGHTS(0x481A),
    GUEST_FS_ACCESS_RIGHTS(0x481C),
    GUEST_GS_ACCESS_RIGHTS(0x481E),
    GUEST_LDTR_ACCESS_RIGHTS(0x4820),
    GUEST_TR_ACCESS_RIGHTS(0x4822),
    GUEST_INTERRUPTIBILITY_STATE(0x4824),
    GUEST_ACTIVITY_STATE(0x4826),
    GUEST_SMBASE(0x4828),
    GUEST_SYSENTER_CS(0x482A),
    PREEMPTION_TIMER_VALUE(0x482E),
    // 32-bit host-state field
    HOST_SYSENTER_CS(0x4C00),
    // Natural-width control fields
    CR0_GUEST_HOST_MASK(0x6000),
    CR4_GUEST_HOST_MASK(0x6002),
    CR0_READ_SHADOW(0x6004),
    CR4_READ_SHADOW(0x6006),
    CR3_TARGET_0(0x6008),
    CR3_TARGET_1(0x600A),
    CR3_TARGET_2(0x600C),
    CR3_TARGET_3(0x600E),
    // Natural-width read-only data
    EXIT_QUALIFICATION(0x6400),
    IO_RCX(0x6402),
    IO_RSI(0x6404),
    IO_RDI(0x6406),
    IO_RIP(0x6408),
    GUEST_LINEAR_ADDRESS(0x640A),
    // Natural-width guest-state fields
    GUEST_CR0(0x6800),
    GUEST_CR3(0x6802),
    GUEST_CR4(0x6804),
    GUEST_ES_BASE(0x6806),
    GUEST_CS_BASE(0x6808),
    GUEST_SS_BASE(0x680A),
    GUEST_DS_BASE(0x680C),
    GUEST_FS_BASE(0x680E),
    GUEST_GS_BASE(0x6810),
    GUEST_LDTR_BASE(0x6812),
    GUEST_TR_BASE(0x6814),
    GUEST_GDTR_BASE(0x6816),
    GUEST_IDTR_BASE(0x6818),
    GUEST_DR7(0x681A),
    GUEST_RSP(0x681C),
    GUEST_RIP(0x681E),
    GUEST_RFLAGS(0x6820),
    GUEST_PENDING_DEBUG_EXCEPTIONS(0x6822),
    GUEST_SYSENTER_ESP(0x6824),
    GUEST_SYSENTER_EIP(0x6826),
    GUEST_S_CET(0x6828),
    GUEST_SSP(0x682A),
    GUEST_INTERRUPT_SSP_TABLE(0x682C),
    // Natural-width host-state fields
    HOST_CR0(0x6C00),
    HOST_CR3(0x6C02),
    HOST_CR4(0x6C04),
    HOST_FS_BASE(0x6C06),
    HOST_GS_BASE(0x6C08),
    HOST_TR_BASE(0x6C0A),
    HOST_GDTR_BASE(0x6C0C),
    HOST_IDTR_BASE(0x6C0E),
    HOST_SYSENTER_ESP(0x6C10),
    HOST_SYSENTER_EIP(0x6C12),
    HOST_RSP(0x6C14),
    HOST_RIP(0x6C16),
    HOST_S_CET(0x6C18),
    HOST_SSP(0x6C1A),
    HOST_INTERRUPT_SSP_TABLE(0x6C1C);

    /// How wide a field is, in encoding order.
    public enum Width { BITS16, BITS64, BITS32, NATURAL }

    /// What a field is for, in encoding order.
    public enum Type { CONTROL, READ_ONLY_DATA, GUEST_STATE, HOST_STATE }

    private static final Width[] WIDTHS = Width.values();
    private static final Type[] TYPES = Type.values();
    private static final VmcsField[] BY_ENCODING = new VmcsField[0x8000];

    static {
        for (var field : values()) {
            BY_ENCODING[field.encoding] = field;
            if (field.width() == Width.BITS64) {
                BY_ENCODING[field.encoding + 1] = field;
            }
        }
    }

    private final int encoding;

    VmcsField(int encoding) {
        this.encoding = encoding;
    }

    /// The (full-access) encoding.
    public int encoding() {
        return encoding;
    }

    /// The width; natural width is 64 bits here.
    public Width width() {
        return WIDTHS[(encoding >>> 13) & 3];
    }

    /// The type.
    public Type type() {
        return TYPES[(encoding >>> 10) & 3];
    }

    /// The bits that the field can hold.
    public long mask() {
        return switch (width()) {
            case BITS16 -> 0xffffL;
            case BITS32 -> 0xffff_ffffL;
            case BITS64, NATURAL -> -1L;
        };
    }

    /// Whether `encoding` names the upper half of a 64-bit field.
    public static boolean isHighAccess(int encoding) {
        return (encoding & 1) != 0;
    }

    /// The field that an encoding, full or high, names; null when there is none.
    public static VmcsField ofEncoding(long encoding) {
        return encoding >= 0 && encoding < BY_ENCODING.length ? BY_ENCODING[(int) encoding] : null;
    }

    /// The field of segment `segment` (0 ES, 1 CS, 2 SS, 3 DS, 4 FS, 5 GS, 6 LDTR, 7 TR) whose ES sibling is `es`; the
    /// siblings lie in this order in every group.
    public static VmcsField ofSegment(VmcsField es, int segment) {
        return BY_ENCODING[es.encoding + 2 * segment];
    }
}
