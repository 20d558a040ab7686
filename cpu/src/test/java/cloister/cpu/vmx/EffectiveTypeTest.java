package cloister.cpu.vmx;

import static cloister.isa.Operands.*;
import static cloister.spec.vmx.VmcsField.*;
import static cloister.spec.x86.MemoryType.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.CachedTranslation;
import cloister.cpu.MixedType;
import cloister.cpu.core.Cpu;
import cloister.cpu.core.Translation;
import cloister.cpu.core.Walker;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.cpu.sys.EffectiveType;
import cloister.cpu.sys.PageWalker;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitReason;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.MemoryType;
import cloister.spec.x86.Msr;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The memory type of each translation, from EPT, the guest's PAT and tables, and the MTRRs.
class EffectiveTypeTest {
    private static final long PAGE = VmxGuest.DATA;
    private static final long ALIAS = VmxGuest.DATA + 0x1000;

    /// A guest whose large page has the PAT entry 0, which is `pat`; two pages are mapped to one frame.
    private static VmxGuest guest(MemoryType pat, MemoryType ept, boolean ignorePat, MemoryType aliasEpt) {
        var guest = new VmxGuest().code(a -> a.mov(EAX, mem(RBX)).mov(EAX, mem(RCX)).hlt());
        guest.vmcs.write(VM_ENTRY_CONTROLS, guest.vmcs.read(VM_ENTRY_CONTROLS) | Controls.ENTRY_LOAD_PAT);
        guest.vmcs.write(GUEST_PAT, 0x0007_0406_0007_0400L | pat.encoding());
        guest.lp.gprs()[3] = PAGE;
        guest.lp.gprs()[1] = ALIAS;
        map(guest, PAGE, ept, ignorePat);
        map(guest, ALIAS, aliasEpt, ignorePat);
        return guest;
    }

    private static void map(VmxGuest guest, long gpa, MemoryType type, boolean ignorePat) {
        guest.memory.write(VmxGuest.leafAt(gpa), 8, (VmxGuest.FRAMES + PAGE) | Ept.PERMISSIONS
                | ((long) type.encoding() << Ept.MEMORY_TYPE_SHIFT) | (ignorePat ? Ept.IGNORE_PAT : 0) | Ept.SUPPRESS_VE);
    }

    private static CachedTranslation at(VmxGuest guest, long linear) {
        return guest.lp.translations(FirmwareAccess.SEAM).stream().filter(t -> t.linear() == linear).findFirst().orElseThrow();
    }

    /// Rows of the manual's table with the type of EPT in the place of the MTRRs'.
    @ParameterizedTest
    @CsvSource({"UC, UC, UC", "UC, UC_MINUS, UC", "UC, WC, WC", "UC, WT, UC", "UC, WB, UC", "UC, WP, UC",
        "WC, UC, UC", "WC, UC_MINUS, WC", "WC, WC, WC", "WC, WT, UC", "WC, WB, WC", "WC, WP, UC",
        "WT, UC, UC", "WT, UC_MINUS, UC", "WT, WC, WC", "WT, WT, WT", "WT, WB, WT", "WT, WP, WP",
        "WP, UC, UC", "WP, UC_MINUS, WC", "WP, WC, WC", "WP, WT, WT", "WP, WB, WP", "WP, WP, WP",
        "WB, UC, UC", "WB, UC_MINUS, UC", "WB, WC, WC", "WB, WT, WT", "WB, WB, WB", "WB, WP, WP"})
    void eptAndPatMakeTheType(MemoryType ept, MemoryType pat, MemoryType effective) {
        var guest = guest(pat, ept, false, ept);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(at(guest, PAGE).memoryType()).isEqualTo(effective);
        var ignoring = guest(pat, ept, true, ept);
        ignoring.run();
        assertThat(at(ignoring, PAGE).memoryType()).as("with IPAT").isEqualTo(ept);
        assertThat(at(ignoring, PAGE).hpa()).isEqualTo(VmxGuest.FRAMES + PAGE);
    }

    /// Without paging the PAT does not count, CR0.CD does.
    @Test void cr0CdMakesEverythingUncacheable() {
        try (var memory = new PhysicalMemory(4 << 20, 32)) {
            var walker = new PageWalker();
            var cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), walker);
            var out = new Translation();
            cpu.pat = 0;
            cpu.cr0 = Cr0.PE;
            walker.walk(cpu, 0x20_0000, Walker.READ, Walker.SUPERVISOR, out);
            assertThat(EffectiveType.of(cpu, out.typeIngredients, out.hpa)).isEqualTo(WB);
            cpu.cr0 = Cr0.PE | Cr0.CD;
            walker.walk(cpu, 0x20_0000, Walker.READ, Walker.SUPERVISOR, out);
            assertThat(EffectiveType.of(cpu, out.typeIngredients, out.hpa)).isEqualTo(UC);
        }
    }

    @Test void oneFrameWithTwoTypesIsFound() {
        var guest = guest(WB, WB, true, UC);
        guest.run();
        var all = guest.lp.translations(FirmwareAccess.SEAM);
        assertThat(MixedType.find(all)).singleElement().satisfies(mixed -> {
            assertThat(mixed.framePa()).isEqualTo(VmxGuest.FRAMES + PAGE);
            assertThat(mixed.cached().linear()).isEqualTo(PAGE);
            assertThat(mixed.notCached().linear()).isEqualTo(ALIAS);
        });
        var same = guest(WB, WB, true, WB);
        same.run();
        assertThat(MixedType.find(same.lp.translations(FirmwareAccess.SEAM))).isEmpty();
    }

    @Test void invalidatedTranslationsAreNotShown() {
        var guest = guest(WB, WB, true, UC);
        guest.run();
        guest.lp.invept(Ept.INVEPT_SINGLE_CONTEXT, guest.vmcs.read(EPTP));
        assertThat(guest.lp.translations(FirmwareAccess.SEAM)).noneMatch(t -> t.linear() == PAGE);
    }

    /// Each range register at its edges, the precedence of overlapping ranges, and both enable bits.
    @Test void theMtrrsOfTheProcessor() {
        try (var memory = new PhysicalMemory(4 << 20, 32)) {
            var cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());
            cpu.msrs.write(Msr.IA32_MTRR_DEF_TYPE, 0xc06);
            cpu.msrs.write(Msr.IA32_MTRR_FIX64K_00000, 0x0606_0606_0606_0500L);
            cpu.msrs.write(Msr.IA32_MTRR_FIX16K_80000, 0x0406_0606_0606_0606L);
            cpu.msrs.write(Msr.IA32_MTRR_FIX16K_A0000, 0x0606_0606_0606_0601L);
            cpu.msrs.write(Msr.IA32_MTRR_FIX4K_C0000 + 7, 0x0006_0606_0606_0606L);
            assertTypes(cpu, new Object[][] {{0L, UC}, {0xffffL, UC}, {0x1_0000L, WP}, {0x2_0000L, WB}, {0x9_bfffL, WB}, {0x9_c000L, WT},
                {0xa_0000L, WC}, {0xa_4000L, WB}, {0xf_efffL, WB}, {0xf_f000L, UC}, {0x10_0000L, WB}});
            range(cpu, 0, 0x20_0000, 0x10_0000, WT);
            range(cpu, 1, 0x28_0000, 0x8_0000, WB);
            range(cpu, 2, 0x2c_0000, 0x4_0000, UC);
            range(cpu, 3, 0x28_0000, 0x1000, WC);
            assertTypes(cpu, new Object[][] {{0x1f_ffffL, WB}, {0x20_0000L, WT}, {0x28_1000L, WT}, {0x2c_0000L, UC}, {0x30_0000L, WB},
                {0x28_0000L, UC}});
            cpu.msrs.write(Msr.IA32_MTRR_DEF_TYPE, 0x806);
            assertTypes(cpu, new Object[][] {{0L, WB}, {0xf_f000L, WB}});
            cpu.msrs.write(Msr.IA32_MTRR_DEF_TYPE, 0x406);
            assertTypes(cpu, new Object[][] {{0x1_0000L, UC}, {0x20_0000L, UC}, {0x10_0000L, UC}});
        }
    }

    private static void range(Cpu cpu, int number, long base, long size, MemoryType type) {
        cpu.msrs.write(Msr.IA32_MTRR_PHYSBASE0 + (2 * number), base | type.encoding());
        cpu.msrs.write(Msr.IA32_MTRR_PHYSBASE0 + (2 * number) + 1, (-size & 0x000f_ffff_ffff_f000L) | 0x800);
    }

    private static void assertTypes(Cpu cpu, Object[][] expected) {
        for (var row : expected) {
            assertThat(EffectiveType.mtrr(cpu, (long) row[0])).as("0x%x", row[0]).isEqualTo(row[1]);
        }
    }
}
