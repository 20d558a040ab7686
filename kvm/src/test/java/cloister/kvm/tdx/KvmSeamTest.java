package cloister.kvm.tdx;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.SeamFirmware;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.kvm.TestHost;
import cloister.kvm.host.Host;
import cloister.kvm.vcpu.SeamCounters;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import org.junit.jupiter.api.Test;

/// Wrappers that nothing calls yet pass the registers that the ABI names. [TDX-ABI]
final class KvmSeamTest {
    private static final long TDR = 0x10_0000;
    private static final long GPA = 0x4000_0000;
    private static final long PAGE = 0x20_0000;

    /// Keeps the registers of the last call.
    private static final class Last implements SeamFirmware {
        final long[] in = new long[16];

        @Override public void seamcall(LogicalProcessor lp, SeamRegs regs) {
            for (int i = 0; i < in.length; i++) {
                in[i] = regs.get(i);
            }
            regs.set(SeamRegs.RAX, 0);
        }
    }

    @Test void memoryLeavesTakeAddressLevelAndPages() {
        try (var host = new TestHost(1)) {
            var last = new Last();
            host.processors().getFirst().installSeam(FirmwareAccess.SEAM, last);
            var kernel = new Host(host.environment());
            kernel.enableVirtualization();
            var seam = new KvmSeam(kernel, new SeamCounters());
            var out = new SeamRegs();
            assertThat(seam.memSeptRemove(TDR, GPA, 3, out)).isZero();
            check(last, SeamcallLeaf.MEM_SEPT_REMOVE, GPA | 2, TDR);
            seam.memRangeUnblock(TDR, GPA, 1, out);
            check(last, SeamcallLeaf.MEM_RANGE_UNBLOCK, GPA, TDR);
            seam.memPagePromote(TDR, GPA, 2, out);
            check(last, SeamcallLeaf.MEM_PAGE_PROMOTE, GPA | 1, TDR);
            seam.memPageDemote(TDR, GPA, 2, PAGE, out);
            check(last, SeamcallLeaf.MEM_PAGE_DEMOTE, GPA | 1, TDR);
            assertThat(last.in[SeamRegs.R8]).isEqualTo(PAGE);
            seam.memPageRelocate(TDR, GPA, PAGE, out);
            check(last, SeamcallLeaf.MEM_PAGE_RELOCATE, GPA, TDR);
            assertThat(last.in[SeamRegs.R8]).isEqualTo(PAGE);
            seam.phymemPageRdmd(PAGE, out);
            check(last, SeamcallLeaf.PHYMEM_PAGE_RDMD, PAGE, 0);
        }
    }

    private static void check(Last last, SeamcallLeaf leaf, long rcx, long rdx) {
        assertThat(last.in[SeamRegs.RAX]).isEqualTo(leaf.number());
        assertThat(last.in[SeamRegs.RCX]).isEqualTo(rcx);
        assertThat(last.in[SeamRegs.RDX]).isEqualTo(rdx);
    }
}
