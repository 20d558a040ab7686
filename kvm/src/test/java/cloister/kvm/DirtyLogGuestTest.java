package cloister.kvm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// A real-mode guest writes; the VMM learns which pages, through the uAPI.
final class DirtyLogGuestTest {
    private static final int PAGE = 0x1000;
    private static final int MEMORY = 1 << 20;
    private static final int CODE = 0x1010;
    private static final int LOG = KvmAbi.MEM_LOG_DIRTY_PAGES;
    /// Writes to 0x5000 and 0x7000, then to port 0x3f8, for ever.
    private static final byte[] TWO_PAGES = bytes(0xc6, 6, 0, 0x50, 1, 0xc6, 6, 0, 0x70, 1, 0xba, 0xf8, 3, 0xee, 0xeb, 0xf0);
    /// mov ds, ax; mov [0], al; add ax, 0x100; jmp: one page after the other.
    private static final byte[] ALL_PAGES = bytes(0x8e, 0xd8, 0xa2, 0, 0, 5, 0, 1, 0xeb, 0xf6);
    private final TestHost host = new TestHost(1);
    private final Kvm kvm = DevKvm.open(host.environment());
    private final KvmVm vm = kvm.createVm(VmType.DEFAULT);
    private final long user = kvm.userMemory().map(MEMORY);

    private static byte[] bytes(int... values) {
        byte[] result = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            result[i] = (byte) values[i];
        }
        return result;
    }

    @AfterEach void release() {
        host.close();
    }

    private void run(byte[] code, Consumer<KvmVcpu> vmm) {
        host.scheduler().spawn("vcpu", () -> {
            vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            vm.setUserMemoryRegion2(new UserMemoryRegion(0, LOG, 0, MEMORY, user, null, 0));
            kvm.userMemory().write(user + CODE, code, 0, code.length);
            var vcpu = vm.createVcpu(0);
            vcpu.setCpuid2(kvm.supportedCpuid());
            var sregs = vcpu.getSregs();
            sregs.cs = KvmSegment.realMode(0, 0xb);
            sregs.ss = KvmSegment.realMode(0, 3);
            sregs.ds = KvmSegment.realMode(0, 3);
            vcpu.setSregs(sregs);
            var regs = vcpu.getRegs();
            regs.rip = CODE;
            vcpu.setRegs(regs);
            vmm.accept(vcpu);
        });
        host.scheduler().run();
    }

    @Test void everyRoundOfWritesIsInTheLog() {
        int[] rounds = {0};
        run(TWO_PAGES, vcpu -> {
            vcpu.run();
            assertThat(vm.getDirtyLog(0)[0]).as("code, stack of nothing, both pages").isEqualTo((1L << 1) | (1L << 5) | (1L << 7));
            while (rounds[0]++ < 5) {
                assertThat(vcpu.run()).isInstanceOf(KvmExit.Io.class);
                assertThat(vm.getDirtyLog(0)[0]).isEqualTo((1L << 5) | (1L << 7));
            }
            kvm.userMemory().discard(user + (5 * PAGE), PAGE);
            vcpu.run();
            assertThat(vm.getDirtyLog(0)[0]).isEqualTo((1L << 5) | (1L << 7));
        });
        assertThat(rounds[0]).isEqualTo(6);
    }

    @Test void fullRingSendsTheVcpuToTheVmm() {
        vm.enableCap(KvmCap.DIRTY_LOG_RING, 4096);
        long[] taken = {0};
        run(ALL_PAGES, vcpu -> {
            var ring = vcpu.dirtyRing();
            var seen = new boolean[MEMORY / PAGE];
            int next = 0;
            for (int round = 0; round < 4; round++) {
                assertThat(vcpu.run()).isEqualTo(new KvmExit.DirtyRingFull());
                assertThat(vcpu.run()).as("still full").isEqualTo(new KvmExit.DirtyRingFull());
                while (ring.flags(next & (ring.size() - 1)) == DirtyGfnRing.FLAG_DIRTY) {
                    int index = next++ & (ring.size() - 1);
                    seen[(int) ring.offset(index)] = true;
                    ring.harvested(index);
                }
                if (round == 0) {
                    vcpu.kick();
                    assertThat(vm.resetDirtyRings()).as("a signal waits").isZero();
                    assertThat(vcpu.run()).isEqualTo(new KvmExit.Intr());
                }
                taken[0] += vm.resetDirtyRings();
            }
            assertThat(seen).doesNotContain(false);
        });
        assertThat(taken[0]).isEqualTo(4 * 192);
    }
}
