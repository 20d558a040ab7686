package cloister.cpu.vmx;

import static cloister.isa.Operands.*;
import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Op;
import cloister.memory.AccessObserver;
import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.ExitReason;
import cloister.spec.x86.ExceptionVector;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class EptTest {
    private static final long PAGE = VmxGuest.DATA;

    private static VmxGuest reads() {
        var guest = new VmxGuest().code(a -> a.mov(EAX, mem(RBX)).hlt());
        guest.lp.gprs()[3] = PAGE;
        return guest;
    }

    private static VmxGuest writes() {
        var guest = new VmxGuest().code(a -> a.mov(mem(RBX), EAX).hlt());
        guest.lp.gprs()[3] = PAGE;
        return guest;
    }

    private static VmxGuest fetches() {
        var guest = new VmxGuest().code(a -> a.jmp(RBX));
        guest.write(PAGE, 1, 0xf4);
        guest.lp.gprs()[3] = PAGE;
        return guest;
    }

    /// Every combination of permissions in the leaf, for each kind of access. 010 and 110 are misconfigurations, 000 is not present.
    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 3, 4, 5, 6, 7})
    void permissions(int rights) {
        check(reads(), rights, Ept.READ, ExitQualification.EPT_READ);
        check(writes(), rights, Ept.WRITE, ExitQualification.EPT_WRITE);
        check(fetches(), rights, Ept.EXECUTE, ExitQualification.EPT_FETCH);
    }

    private static void check(VmxGuest guest, int rights, long needed, long accessBit) {
        guest.map(PAGE, VmxGuest.FRAMES + PAGE, rights);
        int reason = guest.run();
        if ((rights & 3) == 2) {
            assertThat(reason).isEqualTo(ExitReason.EPT_MISCONFIGURATION);
        } else if ((rights & needed) != 0) {
            assertThat(reason).isEqualTo(ExitReason.HLT);
            return;
        } else {
            assertThat(reason).isEqualTo(ExitReason.EPT_VIOLATION);
            assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(accessBit | ((long) rights << 3)
                    | ExitQualification.EPT_LINEAR_VALID | ExitQualification.EPT_TRANSLATED);
            assertThat(guest.read(GUEST_LINEAR_ADDRESS)).isEqualTo(PAGE);
        }
        assertThat(guest.read(GUEST_PHYSICAL_ADDRESS)).isEqualTo(PAGE);
    }

    @Test void permissionsOfAllLevelsAreAnded() {
        var guest = writes();
        guest.memory.write(VmxGuest.EPT_ROOT + 0x2000, 8, VmxGuest.EPT_LEAVES | Ept.READ | Ept.EXECUTE);
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
        // The guest's own accessed flag is written first: that fails already.
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(ExitQualification.EPT_WRITE | (5 << 3)
                | ExitQualification.EPT_LINEAR_VALID);
    }

    @Test void pageTableAccessIsNotTheTranslatedAddress() {
        var guest = reads();
        guest.map(VmxGuest.PML4 + 0x1000, 0, 0);
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
        assertThat(guest.read(EXIT_QUALIFICATION) & ExitQualification.EPT_TRANSLATED).isZero();
        assertThat(guest.read(GUEST_PHYSICAL_ADDRESS) & ~0xfffL).isEqualTo(VmxGuest.PML4 + 0x1000);
    }

    @ParameterizedTest
    @CsvSource({"2, true", "3, true", "7, true", "0, false", "1, false", "4, false", "5, false", "6, false"})
    void memoryTypes(int type, boolean misconfigured) {
        var guest = reads();
        guest.memory.write(VmxGuest.leafAt(PAGE), 8, (VmxGuest.FRAMES + PAGE) | 7 | ((long) type << 3));
        assertThat(guest.run()).isEqualTo(misconfigured ? ExitReason.EPT_MISCONFIGURATION : ExitReason.HLT);
    }

    @Test void reservedBitsOfTables() {
        var guest = reads();
        guest.memory.write(VmxGuest.EPT_ROOT, 8, (VmxGuest.EPT_ROOT + 0x1000) | 7 | (1 << 7));
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_MISCONFIGURATION);
    }

    @Test void largePage() {
        var guest = reads();
        guest.memory.write(VmxGuest.EPT_ROOT + 0x2000, 8, VmxGuest.FRAMES | 7 | (6 << 3) | Ept.LARGE);
        guest.write(PAGE, 4, 0x12345678);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.lp.gprs()[0]).isEqualTo(0x12345678);
    }

    @Test void misalignedLargePageIsAMisconfiguration() {
        var guest = reads();
        guest.memory.write(VmxGuest.EPT_ROOT + 0x2000, 8, (VmxGuest.FRAMES + 0x1000) | 7 | (6 << 3) | Ept.LARGE);
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_MISCONFIGURATION);
    }

    /// A host that zaps the entry between the walk and the accessed flag: the walk begins again and finds no page.
    @Test void anEntryThatChangesUnderTheWalkIsReadAgain() {
        var guest = reads();
        guest.set(EPTP, Ept.EPTP_ACCESSED_DIRTY);
        long leafAt = VmxGuest.leafAt(PAGE);
        int[] reads = {0};
        guest.memory.observe(new AccessObserver() {
            @Override public void beforeRead(long pa, long bytes) {
                if (pa == leafAt && ++reads[0] == 2) {
                    guest.memory.write(leafAt, 8, Ept.SUPPRESS_VE);
                }
            }

            @Override public void afterWrite(long pa, long bytes) {
            }
        });
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
        guest.memory.observe(null);
        assertThat(guest.memory.read(leafAt, 8)).isEqualTo(Ept.SUPPRESS_VE);
    }

    @Test void accessedAndDirtyFlags() {
        var guest = new VmxGuest().code(a -> a.mov(EAX, mem(RBX)).hlt().mov(mem(RBX), EAX).hlt());
        guest.lp.gprs()[3] = PAGE;
        guest.set(EPTP, Ept.EPTP_ACCESSED_DIRTY);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        long leaf = guest.memory.read(VmxGuest.leafAt(PAGE), 8);
        assertThat(leaf & (Ept.ACCESSED | Ept.DIRTY)).isEqualTo(Ept.ACCESSED);
        // The guest's paging structures count as written.
        assertThat(guest.memory.read(VmxGuest.leafAt(VmxGuest.PML4), 8) & Ept.DIRTY).isNotZero();
        assertThat(guest.skip().run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.memory.read(VmxGuest.leafAt(PAGE), 8) & Ept.DIRTY).isNotZero();
    }

    @Test void cachedTranslationLastsUntilInvept() {
        var guest = new VmxGuest().code(a -> a.mov(EAX, mem(RBX)).hlt().mov(EAX, mem(RBX)).hlt().mov(EAX, mem(RBX)));
        guest.lp.gprs()[3] = PAGE;
        guest.run();
        guest.map(PAGE, 0, 0);
        assertThat(guest.skip().run()).isEqualTo(ExitReason.HLT);
        guest.lp.invept(Ept.INVEPT_SINGLE_CONTEXT, guest.read(EPTP));
        assertThat(guest.skip().run()).isEqualTo(ExitReason.EPT_VIOLATION);
    }

    @Test void violationWithoutSuppressBecomesVe() {
        var guest = reads().set(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_EPT_VIOLATION_VE);
        guest.memory.write(VmxGuest.leafAt(PAGE), 8, 0);
        guest.run();
        assertThat(guest.inHandler(ExceptionVector.VE)).isTrue();
        assertThat(guest.memory.read(VmxGuest.VE_INFO_PA + Ept.VE_REASON, 4)).isEqualTo(ExitReason.EPT_VIOLATION);
        assertThat(guest.memory.read(VmxGuest.VE_INFO_PA + Ept.VE_BUSY, 4)).isEqualTo(0xffff_ffffL);
        assertThat(guest.memory.read(VmxGuest.VE_INFO_PA + Ept.VE_PHYSICAL_ADDRESS, 8)).isEqualTo(PAGE);
        assertThat(guest.memory.read(VmxGuest.VE_INFO_PA + Ept.VE_LINEAR_ADDRESS, 8)).isEqualTo(PAGE);
        assertThat(guest.memory.read(VmxGuest.VE_INFO_PA + Ept.VE_QUALIFICATION, 8)).isEqualTo(0x181);

        // While the area is busy the violation exits.
        guest.vmcs.write(GUEST_RIP, VmxGuest.CODE);
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
        // So it does with suppress-#VE.
        guest.memory.write(VmxGuest.VE_INFO_PA + Ept.VE_BUSY, 4, 0);
        guest.memory.write(VmxGuest.leafAt(PAGE), 8, Ept.SUPPRESS_VE);
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
    }

    @Test void violationDuringDeliveryReportsTheEvent() {
        var guest = new VmxGuest().code(a -> a.op(Op.UD2));
        guest.map(VmxGuest.IDT, 0, 0);
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
        assertThat((int) guest.read(IDT_VECTORING_INFO)).isEqualTo(0x8000_0306);
    }

    @Test void trustDomainGpasGoToTheirEptAndKeyId() {
        int hkid = 40;
        var guest = new VmxGuest().code(a -> a.mov(EAX, mem(RBX)).mov(ECX, mem(RDX)).hlt());
        var memory = guest.memory;
        // The whole guest becomes private: frames and EPT pages of the TD's KeyID, entries without KeyID.
        memory.takeOwnership(VmxGuest.FRAMES, 0x20_0000, hkid);
        memory.takeOwnership(VmxGuest.EPT_ROOT, 0x4000, hkid);
        memory.write(PhysicalMemory.hpa(VmxGuest.FRAMES + PAGE, hkid), 4, 0x5ec4e7);
        memory.takeOwnership(VmxGuest.MSR_BITMAP_PA, 0x1000, hkid);
        // Shared EPT: SHARED is bit 47; a frame outside the guest.
        long root = 0x4_0000;
        memory.write(root + 256 * 8, 8, (root + 0x1000) | 7);
        memory.write(root + 0x1000, 8, (root + 0x2000) | 7);
        memory.write(root + 0x2000, 8, (root + 0x3000) | 7);
        memory.write(root + 0x3000 + 0x11 * 8, 8, 0x5_0000 | 7 | (6 << 3));
        memory.write(0x5_0000, 4, 0x600d);
        guest.vmcs.write(SHARED_EPTP, root);
        guest.vmcs.write(GUEST_TD_HKID, hkid);
        // Linear 0x40_0000_0000 maps the shared gigabyte: PML4 entry 0, PDPT entry 256.
        memory.write(PhysicalMemory.hpa(VmxGuest.FRAMES + VmxGuest.PML4 + 0x1000 + 0x8000 + 0, hkid), 8, 0x87);
        memory.write(PhysicalMemory.hpa(VmxGuest.FRAMES + VmxGuest.PML4 + 0x1000 + 8, hkid), 8, (1L << 47) | 0x87);
        guest.lp.gprs()[3] = PAGE;
        guest.lp.gprs()[2] = 0x4000_0000L + 0x1_1000;
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.lp.gprs()[0]).isEqualTo(0x5ec4e7);
        assertThat(guest.lp.gprs()[1]).isEqualTo(0x600d);
    }
}
