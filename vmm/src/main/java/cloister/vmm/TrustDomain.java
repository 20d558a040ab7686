package cloister.vmm;

import cloister.kvm.Kvm;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemory;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.tdx.TdParams;
import java.util.ArrayList;
import java.util.List;

/// Builds a trust domain through the KVM_TDX_ life cycle. [LINUX Documentation/virt/kvm/x86/intel-tdx.rst]
final class TrustDomain {
    private static final int PHYSICAL_ADDRESS_LEAF = 0x80000008;
    private static final int GUEST_PHYSICAL_BITS_SHIFT = 16;
    private static final int GPAW = 48;
    /// Bytes that are added at once.
    private static final int PIECE = 2 << 20;
    private static final int HYPERVISOR_LEAVES = 0x400000;
    private static final int HYPERVISOR_LEAVES_SHIFT = 8;

    private TrustDomain() {
    }

    /// KVM_TDX_INIT_VM: every feature that can be had.
    ///
    /// @param septVeDisable EPT violations on pending pages are reported to the VMM's side, not to the guest
    static void init(Kvm kvm, KvmVm vm, int cpus, boolean septVeDisable) {
        var capabilities = new KvmTdxCmd.Capabilities();
        vm.memoryEncryptOp(KvmTdxCmd.capabilities(capabilities));
        var cpuid = configured(capabilities.cpuid.entries,
                GuestCpuid.forVcpu(kvm.supportedCpuid(), 0, cpus));
        long wanted = septVeDisable ? TdParams.ATTRIBUTE_SEPT_VE_DISABLE : 0;
        vm.memoryEncryptOp(KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(wanted & capabilities.supportedAttrs,
                capabilities.supportedXfam, new byte[48], new byte[48], new byte[48], cpuid)));
    }

    /// The values of the configurable bits: what an ordinary VM would be given.
    private static List<CpuidEntry> configured(List<CpuidEntry> configurable, List<CpuidEntry> wanted) {
        var result = new ArrayList<CpuidEntry>();
        for (var bits : configurable) {
            for (var value : wanted) {
                if (value.function() == bits.function() && value.index() == bits.index()) {
                    int eax = value.eax() & bits.eax();
                    if (bits.function() == PHYSICAL_ADDRESS_LEAF) {
                        eax = (eax & ~(0xff << GUEST_PHYSICAL_BITS_SHIFT)) | (GPAW << GUEST_PHYSICAL_BITS_SHIFT);
                    }
                    result.add(new CpuidEntry(bits.function(), bits.index(), value.flags(), eax, value.ebx() & bits.ebx(),
                            value.ecx() & bits.ecx(), value.edx() & bits.edx()));
                    break;
                }
            }
        }
        return result;
    }

    /// KVM_SET_CPUID2 with what the TDX module virtualises, then KVM_TDX_INIT_VCPU.
    static void initVcpu(Kvm kvm, KvmVcpu vcpu, int cpus) {
        var table = new KvmTdxCmd.CpuidTable(256);
        vcpu.memoryEncryptOp(KvmTdxCmd.getCpuid(table));
        var leaves = new ArrayList<>(table.entries);
        // The hypervisor's own leaves come by TDVMCALL; without them Linux refuses x2APIC without interrupt remapping.
        kvm.supportedCpuid().stream().filter(e -> e.function() >>> HYPERVISOR_LEAVES_SHIFT == HYPERVISOR_LEAVES).forEach(leaves::add);
        vcpu.setCpuid2(GuestCpuid.forVcpu(leaves, vcpu.id(), cpus));
        vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
    }

    /// Adds and, if asked, measures the initial image, in order of address, piece by piece: the pages on their way into the TD are
    /// the host's and cost memory.
    static void load(KvmVcpu vcpu, UserMemory user, GuestImage image, boolean measured) {
        byte[] piece = new byte[PIECE];
        long source = user.map(PIECE);
        for (var chunk : image.chunks()) {
            for (long at = 0; at < chunk.bytes(); at += PIECE) {
                int length = (int) Math.min(PIECE, chunk.bytes() - at);
                chunk.read(at, piece, length);
                user.write(source, piece, 0, length);
                vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(measured ? KvmAbi.TDX_MEASURE_MEMORY_REGION : 0,
                        new KvmTdxCmd.MemRegion(source, chunk.gpa() + at, length / GuestLayout.PAGE)));
            }
        }
        user.unmap(source);
    }
}
