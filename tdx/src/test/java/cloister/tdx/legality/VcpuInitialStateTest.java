package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import java.util.EnumMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/// All of a VCPU's state after TDH.VP.INIT, in TDVPS and in the VMCSs of the TD and its L2 VMs: what is not expected here is 0.
/// [TDX-ABI "TD VCPU State"], [TDX-ABI "TD VMCS"]
class VcpuInitialStateTest {
    private static final long KEY = 0x21L << 46;
    private static final long TDCX = 0x1_0000_1000L | KEY;
    private static final long TDVPR = RecordedTd.TDVPR | KEY;
    private static final long PAGE = 0x1000;
    private static final long INIT_RCX = 0x1234_5678_9abc_def0L;
    private static final int PAGES = 6;
    private static final int PAGES_PER_L2_VM = 3;
    private static final int TDCX_PAGES_AFTER = 0x106;
    private static final long CR0_OF_THE_MODULE = 0xffff_ffff_7ffa_ffe1L;
    private static final long CR4_OF_THE_MODULE = 0xffff_ffff_fc00_e040L;

    private record Td(long attributes, long xfam, int l2Vms, boolean monitor, boolean waitpkg, boolean pconfig) {
        boolean has(int attribute) {
            return ((attributes >>> attribute) & 1) != 0;
        }

        boolean xfam(int bits) {
            return (xfam & bits) == bits;
        }
    }

    @Test void ofASmallTd() {
        require(new Td(0, 3, 0, false, false, false), made -> { });
    }

    @Test void ofADebugTd() {
        require(new Td(1, 0xe7, 0, false, false, false), made -> { });
    }

    @Test void ofATdWithEverything() {
        require(new Td((1L << 63) | (1 << 30), 0x6_1be7, 0, true, true, false), made -> {
            made.cpuid(0, 2, 1 << 3);
            made.cpuid(5, 2, 1 << 5);
        });
    }

    @Test void ofATdWithL2Vms() {
        require(new Td(0, 0xe7, 3, true, false, false), made -> made.cpuid(0, 2, 1 << 3));
    }

    private static void require(Td td, Consumer<MadeTd> cpuid) {
        try (var made = new MadeTd()) {
            made.addTdcsPages(PAGES + td.l2Vms);
            made.attributes(td.attributes);
            made.xfam(td.xfam);
            made.param(18, 1, td.l2Vms);
            cpuid.accept(made);
            assertThat(made.init().get(0)).isZero();
            long tdvpr = made.createVcpu(0, PAGES + PAGES_PER_L2_VM * td.l2Vms);
            assertThat(made.td.seamcall(22, tdvpr, INIT_RCX, 0, 0).get(0)).isZero();
            assertThat(structure(made, td)).as("TDVPS").isEqualTo(expectedStructure(made, td));
            for (int vm = 0; vm <= td.l2Vms; vm++) {
                assertThat(vmcs(made, vm)).as("VMCS %d", vm).isEqualTo(expectedVmcs(made, td, vm));
            }
        }
    }

    // TDVPS

    /// The words of TDVPS that are not 0, without the pages of the L2 VMs.
    private static Map<String, String> structure(MadeTd made, Td td) {
        var vcpu = Tdvps.whole(made.td.machine.memory, RecordedTd.TDVPR, made.td.tdr.keyId(), td.l2Vms);
        var words = new TreeMap<Integer, Long>();
        for (int offset = 0; offset < PAGES * PAGE; offset += 8) {
            if (vcpu.u64(offset) != 0) {
                words.put(offset, vcpu.u64(offset));
            }
        }
        return hex(words);
    }

    private static Map<String, String> hex(Map<Integer, Long> words) {
        var text = new TreeMap<String, String>();
        words.forEach((offset, value) -> text.put(String.format("%04x", offset), Long.toHexString(value)));
        return text;
    }

    private static Map<String, String> expectedStructure(MadeTd made, Td td) {
        int pages = PAGES + PAGES_PER_L2_VM * td.l2Vms;
        var words = new TreeMap<Integer, Long>();
        words.put(0x100, 2 | ((long) pages << 56)); // READY, VCPU 0
        for (int i = 0; i < pages; i++) {
            words.put(0x108 + 8 * i, TDVPR + i * PAGE);
        }
        words.put(0x1e0, made.td.machine.clock.tsc);
        words.put(0x1f0, td.xfam);
        words.put(0x208, 1L << 48); // LAST_SEAMDB_INDEX
        int proc2 = 0x173c_b3fa;
        int l2Proc2 = 0x1738_b3fa;
        for (int vm = 0; vm <= td.l2Vms; vm++) {
            for (int nullAddress : new int[] {0x268, 0x3c0, 0x3e0, 0x400, 0x460, 0x480}) {
                words.put(nullAddress + 8 * vm, -1L);
            }
            words.put(0x2c8 + 8 * vm, vm == 0 ? CR0_OF_THE_MODULE : -1L);
            words.put(0x308 + 8 * vm, vm == 0 ? CR4_OF_THE_MODULE | hiddenCr4(td) : -1L);
            words.merge(0x3b0 + 8 * (vm / 2), (vm == 0 ? proc2 : l2Proc2) * (1L << (vm % 2 * 32)), Long::sum);
        }
        words.put(0x2e8, 0x8000_0021L);
        words.put(0x328, 0x40L);
        words.put(0x2a8, CR0_OF_THE_MODULE & ~1L);
        words.put(0x2b0, 0x20L);
        words.put(0x2b8, ~(0x1bff_1fbfL & 0x3ff_dfffL & ~hiddenCr4(td)));
        words.put(0x2c0, 0x2040L);
        words.put(0x358, -1L);
        words.put(0x378, 0x3fL);
        words.put(0x3a8, 0xffffL);
        words.put(0x988, INIT_RCX);
        words.put(0x990, 0x806f8L);
        words.put(0x998, 48L);
        words.put(0x9c0, INIT_RCX);
        words.put(0xa20, 0xffff_0ff0L);
        words.put(0xa28, 1L);
        words.put(0xc98, 0x2_0200L);
        words.put(0x3208, 1L << 63);
        return hex(words);
    }

    private static long hiddenCr4(Td td) {
        return (1 << 19) | (td.xfam(1 << 9) ? 0 : 1 << 22) | (td.xfam(3 << 11) ? 0 : 1 << 23) | (td.has(30) ? 0 : 1 << 24)
                | (td.xfam(1 << 14) ? 0 : 1 << 25) | (td.has(27) ? 0 : 1 << 27);
    }

    // VMCS

    private static Map<VmcsField, String> vmcs(MadeTd made, int vm) {
        var vmcs = made.td.machine.core.module.vcpu(RecordedTd.TDVPR).vmcs()[vm];
        var fields = new EnumMap<VmcsField, String>(VmcsField.class);
        for (var field : VmcsField.values()) {
            if (vmcs.read(field) != 0) {
                fields.put(field, Long.toHexString(vmcs.read(field)));
            }
        }
        return fields;
    }

    private static Map<VmcsField, String> expectedVmcs(MadeTd made, Td td, int vm) {
        var fields = new EnumMap<VmcsField, Long>(VmcsField.class);
        guest(td, fields);
        for (var field : new VmcsField[] {VmcsField.APIC_ACCESS_ADDRESS, VmcsField.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
            VmcsField.IO_BITMAP_A, VmcsField.IO_BITMAP_B, VmcsField.EPTP_LIST_ADDRESS, VmcsField.VMREAD_BITMAP,
            VmcsField.VMWRITE_BITMAP, VmcsField.ENCLS_EXITING_BITMAP, VmcsField.ENCLV_EXITING_BITMAP,
            VmcsField.PCONFIG_EXITING_BITMAP, VmcsField.PML_ADDRESS, VmcsField.EXECUTIVE_VMCS_POINTER,
            VmcsField.EXIT_MSR_STORE_ADDRESS, VmcsField.EXIT_MSR_LOAD_ADDRESS, VmcsField.ENTRY_MSR_LOAD_ADDRESS,
            VmcsField.VMCS_LINK_POINTER, VmcsField.GUEST_PDPTE0, VmcsField.GUEST_PDPTE1, VmcsField.GUEST_PDPTE2,
            VmcsField.GUEST_PDPTE3}) {
            fields.put(field, -1L);
        }
        fields.put(VmcsField.POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xffffL);
        fields.put(VmcsField.EXCEPTION_BITMAP, 1L << 18);
        for (var field : new VmcsField[] {VmcsField.LOW_PASID_DIRECTORY, VmcsField.HIGH_PASID_DIRECTORY, VmcsField.SHARED_EPTP}) {
            fields.put(field, TDCX + 4 * PAGE);
        }
        fields.put(VmcsField.GUEST_TD_HKID, 0x21L);
        fields.put(VmcsField.VPID, (0x21L << 2) | vm);
        fields.put(VmcsField.TSC_MULTIPLIER, made.td.tdcs.u64(Tdcs.TSC_MULTIPLIER));
        fields.put(VmcsField.TSC_OFFSET, made.td.tdcs.u64(Tdcs.TSC_OFFSET));
        controls(td, vm, fields);
        addresses(vm, fields);
        var host = made.td.machine.cpus[0].seamVmcs();
        for (var field : new VmcsField[] {VmcsField.HOST_CR0, VmcsField.HOST_CR3, VmcsField.HOST_CR4}) {
            fields.put(field, host.read(field));
        }
        var text = new EnumMap<VmcsField, String>(VmcsField.class);
        fields.forEach((field, value) -> text.put(field, Long.toHexString(value & field.mask())));
        return text;
    }

    private static void guest(Td td, Map<VmcsField, Long> fields) {
        fields.put(VmcsField.GUEST_DR7, 0x400L);
        fields.put(VmcsField.GUEST_RIP, 0xffff_fff0L);
        fields.put(VmcsField.GUEST_RFLAGS, 2L);
        for (var segment : new String[] {"CS", "DS", "ES", "FS", "GS", "SS"}) {
            fields.put(VmcsField.valueOf("GUEST_" + segment + "_LIMIT"), 0xffff_ffffL);
            fields.put(VmcsField.valueOf("GUEST_" + segment + "_ACCESS_RIGHTS"), segment.equals("CS") ? 0xc09bL : 0xc093L);
        }
        fields.put(VmcsField.GUEST_LDTR_LIMIT, 0xffffL);
        fields.put(VmcsField.GUEST_LDTR_ACCESS_RIGHTS, 0x1_0082L);
        fields.put(VmcsField.GUEST_TR_LIMIT, 0xffffL);
        fields.put(VmcsField.GUEST_TR_ACCESS_RIGHTS, 0x8bL);
        fields.put(VmcsField.GUEST_GDTR_LIMIT, 0xffffL);
        fields.put(VmcsField.GUEST_PERF_GLOBAL_CTRL, td.has(63) ? 0xffL : 1L << 32);
        fields.put(VmcsField.GUEST_PAT, 0x0007_0406_0007_0406L);
        fields.put(VmcsField.GUEST_EFER, 0x901L);
        fields.put(VmcsField.GUEST_CR0, 0x21L);
        fields.put(VmcsField.GUEST_CR4, 0x2040L);
    }

    private static void controls(Td td, int vm, Map<VmcsField, Long> fields) {
        fields.put(VmcsField.PIN_BASED_CONTROLS, 0x3fL);
        fields.put(VmcsField.PROC_BASED_CONTROLS, 0x9522_61faL | (td.monitor ? 0 : (1 << 10) | (1 << 29)) | (td.has(63) ? 0 : 1 << 11));
        fields.put(VmcsField.SECONDARY_PROC_BASED_CONTROLS, (vm == 0 ? 0x133c_b3faL : 0x1338_b3faL) | (td.waitpkg ? 1 << 26 : 0)
                | (td.pconfig ? 1 << 27 : 0));
        fields.put(VmcsField.VM_EXIT_CONTROLS, 0x1f3f_ffffL | (td.has(63) || td.has(0) ? 1 << 30 : 0));
        fields.put(VmcsField.VM_ENTRY_CONTROLS, 0x3e_f1ffL | (td.has(30) || td.has(0) ? 1 << 22 : 0));
        fields.put(VmcsField.CR0_GUEST_HOST_MASK, vm == 0 ? CR0_OF_THE_MODULE : -1L);
        fields.put(VmcsField.CR4_GUEST_HOST_MASK, vm == 0 ? CR4_OF_THE_MODULE | hiddenCr4(td) : -1L);
        fields.put(VmcsField.CR0_READ_SHADOW, vm == 0 ? 0x8000_0021L : 0x21L);
        fields.put(VmcsField.CR4_READ_SHADOW, vm == 0 ? 0x40L : 0x2040L);
    }

    private static void addresses(int vm, Map<VmcsField, Long> fields) {
        if (vm == 0) {
            fields.put(VmcsField.VIRTUAL_APIC_ADDRESS, TDVPR + 2 * PAGE);
            fields.put(VmcsField.VE_INFORMATION_ADDRESS, TDVPR);
            fields.put(VmcsField.MSR_BITMAP, TDCX + 2 * PAGE);
            fields.put(VmcsField.EPTP, ((TDCX + 3 * PAGE) & ~KEY) | 0x1e);
        } else {
            fields.put(VmcsField.VIRTUAL_APIC_ADDRESS, -1L);
            fields.put(VmcsField.VE_INFORMATION_ADDRESS, -1L);
            fields.put(VmcsField.MSR_BITMAP, TDVPR + (PAGES + PAGES_PER_L2_VM * (vm - 1) + 1) * PAGE);
            fields.put(VmcsField.EPTP, (RecordedTd.TDVPR + (TDCX_PAGES_AFTER + vm - 1) * PAGE) | 0x1e);
        }
    }
}
