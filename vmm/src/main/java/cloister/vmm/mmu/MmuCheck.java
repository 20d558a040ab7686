package cloister.vmm.mmu;

import cloister.kvm.KvmInspection;
import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.Ept;
import cloister.spec.x86.Pte;
import cloister.vmm.mmu.MmuModel.Place;
import cloister.vmm.mmu.MmuModel.Way;
import java.util.BitSet;
import java.util.List;

/// Looks behind guests and KVM: what processors could use now is what the model allows. Tables are read as a processor reads them, from
/// memory; of KVM only the roots are asked, the frames behind pages, and which of them are free.
final class MmuCheck {
    private static final int ENTRIES = 512;
    private static final int LARGE_LEVEL = 2;
    private static final long MISCONFIGURED = Ept.WRITE | Ept.EXECUTE;
    private static final int PAGES = MmuModel.PAGES;
    private static final long END_GPA = MmuRig.REGION_GPA + (PAGES * MmuRig.PAGE);
    /// The TDX module is inspected as a whole, which takes long: only after every so many steps.
    private static final int SECURE_EPT_EVERY = 200;
    /// How many steps that change nothing may follow each other unchecked.
    private static final int UNCHANGED_STEPS = 3;

    private final MmuRig rig;
    private final MmuModel model;
    private final PhysicalMemory memory;
    private final KvmInspection inspection;
    private final FrameOwners owners;
    private final BitSet[] inRings = new BitSet[MmuModel.SLOTS];
    private final int keyId;
    private final long sharedBit;
    private boolean stepFreed;
    private int untilNext;
    private int untilSecureEpt;
    private int mirrored;

    MmuCheck(MmuRig rig, MmuModel model) {
        this.rig = rig;
        this.model = model;
        this.memory = rig.platform.memory();
        this.inspection = rig.vm.inspect();
        this.owners = new FrameOwners(memory.size());
        this.keyId = rig.isTd() ? (int) rig.platform.inspectTdxModule().tds().getFirst().tdr().value("HKID") : 0;
        this.sharedBit = rig.isTd() ? AccessGuest.SHARED_BIT : 0;
        for (int i = 0; i < inRings.length; i++) {
            inRings[i] = new BitSet();
        }
        inspection.onFree(this::freed);
    }

    private static MmuFinding finding(String what) {
        return new MmuFinding(what);
    }

    // --- between steps

    /// The same as [#all] after one of a few steps: nothing but what a guest faulted in can have changed.
    void nowAndThen() {
        if (--untilNext < 0) {
            all();
        }
    }

    /// [#all] with what is otherwise looked at now and then.
    void everything() {
        untilSecureEpt = 0;
        all();
    }

    /// Nothing goes on.
    void all() {
        stepFreed = false;
        untilNext = UNCHANGED_STEPS;
        owners.begin();
        mirrored = 0;
        for (int page = 0; page < PAGES; page++) {
            own(inspection.frameAt(rig.userAddress + (page * MmuRig.PAGE)), FrameOwners.Kind.VMM_PAGE, page);
            own(inspection.frameOf(rig.file, page), FrameOwners.Kind.GUEST_MEMFD_PAGE, page);
        }
        collectRings();
        walk(inspection.roots(), false);
        if (rig.neighbour != null) {
            walk(rig.neighbour.inspect().roots(), true);
        }
        if (rig.isTd()) {
            privacy();
            if (--untilSecureEpt < 0) {
                untilSecureEpt = SECURE_EPT_EVERY;
                secureEpt();
            }
        }
    }

    private void collectRings() {
        if (model.is(MmuModel.RINGS)) {
            for (var pages : inRings) {
                pages.clear();
            }
            rig.rings.collect(inRings);
        }
    }

    private void own(long pa, FrameOwners.Kind kind, int number) {
        if (pa >= 0) {
            if (inspection.isFree(pa)) {
                throw finding("frame: 0x" + Long.toHexString(pa) + " is free, and " + kind + " " + number + " has it");
            }
            owners.own(pa, kind, number);
        }
    }

    private void ownTable(KvmInspection.Root root, long pa, int level) {
        own(pa, root.tables() == KvmInspection.Tables.SHADOW ? FrameOwners.Kind.SHADOW_PAGE : FrameOwners.Kind.PAGE_TABLE, level);
    }

    private void walk(List<KvmInspection.Root> roots, boolean neighbours) {
        for (var root : roots) {
            if (root.addressSpace() == 0) {
                long from = MmuRig.REGION_GPA | (root.tables() == KvmInspection.Tables.EPT && !neighbours ? sharedBit : 0);
                walk(root, root.tablePa(), root.level(), from, neighbours);
            }
        }
    }

    /// The tables on the way to the region, each a frame of its own.
    private void walk(KvmInspection.Root root, long tablePa, int level, long from, boolean neighbours) {
        ownTable(root, tablePa, level);
        if (level == LARGE_LEVEL) {
            for (int i = 0; i < PAGES / ENTRIES; i++) {
                directoryEntry(root, entry(tablePa, index(from, level) + i), i * ENTRIES, neighbours);
            }
            return;
        }
        long entry = entry(tablePa, index(from, level));
        if (isPresent(root, entry)) {
            walk(root, entry & Ept.ADDRESS, level - 1, from, neighbours);
        }
    }

    private void directoryEntry(KvmInspection.Root root, long entry, int first, boolean neighbours) {
        if (!isPresent(root, entry)) {
            return;
        }
        if ((entry & Ept.LARGE) != 0) {
            for (int i = 0; i < ENTRIES; i++) {
                leaf(root, entry, (entry & Ept.ADDRESS) + (i * MmuRig.PAGE), first + i, neighbours);
            }
            if (model.is(MmuModel.NX) && !neighbours && root.tables() == KvmInspection.Tables.EPT && (entry & Ept.EXECUTE) != 0) {
                throw finding("page table: a large page at page " + first + " is executable in spite of nx_huge_pages");
            }
            return;
        }
        long table = entry & Ept.ADDRESS;
        ownTable(root, table, 1);
        for (int i = 0; i < ENTRIES; i++) {
            long leaf = entry(table, i);
            if (isPresent(root, leaf)) {
                leaf(root, leaf, leaf & Ept.ADDRESS, first + i, neighbours);
            }
        }
    }

    private long entry(long tablePa, int index) {
        return memory.read(tablePa + (8L * index), 8);
    }

    private static int index(long address, int level) {
        return (int) (address >>> (12 + (9 * (level - 1)))) & (ENTRIES - 1);
    }

    /// Whether a processor would use the entry.
    private static boolean isPresent(KvmInspection.Root root, long entry) {
        long rights = entry & Ept.PERMISSIONS;
        return root.tables() == KvmInspection.Tables.SHADOW ? (entry & Pte.P) != 0 : rights != 0 && rights != MISCONFIGURED;
    }

    private void leaf(KvmInspection.Root root, long entry, long pa, int page, boolean neighbours) {
        if (inspection.isFree(pa)) {
            throw finding("frame: 0x" + Long.toHexString(pa) + " is free, and page " + page + " is mapped to it by " + root);
        }
        if (root.invalid()) {
            throw finding("page table: page " + page + " is still mapped by " + root);
        }
        boolean mirror = root.tables() == KvmInspection.Tables.MIRROR;
        mirrored += mirror ? 1 : 0;
        boolean wrongKind = rig.isTd() && !neighbours && mirror != model.isPrivate.get(page);
        translation("page table: " + root.tables(), page, pa, (entry & Ept.WRITE) != 0, wrongKind, neighbours);
    }

    /// A translation that somebody can use.
    private void translation(String where, int page, long pa, boolean writable, boolean wrongKind, boolean neighbours) {
        Place place = neighbours ? model.neighboursPlace(page) : model.place(page);
        if (place.way() != Way.MEMORY || wrongKind) {
            throw finding(where + " has page " + page + " at 0x" + Long.toHexString(pa) + ", where "
                    + (wrongKind ? "it is of the other kind" : "there is " + place.way()));
        }
        long frame = frameOf(place);
        if (frame != pa) {
            throw finding(where + " has page " + page + " at 0x" + Long.toHexString(pa) + " instead of 0x" + Long.toHexString(frame));
        }
        if (writable && place.write() != Way.MEMORY) {
            throw finding(where + " has page " + page + " writable, where a write meets " + place.write());
        }
        if (writable && place.slot() >= 0 && model.slots[place.slot()].logs() && !isReported(place.slot(), page)) {
            throw finding(where + " has page " + page + " writable, and no log will tell of a write");
        }
    }

    private boolean isReported(int slot, int page) {
        int index = page - model.slots[slot].first();
        return model.is(MmuModel.RINGS) ? inRings[slot].get(index) : inspection.isLogged(MmuRig.slotNumber(slot), index);
    }

    private long frameOf(Place place) {
        return place.memory() == model.file ? inspection.frameOf(rig.file, place.index())
                : place.memory() == model.user ? inspection.frameAt(rig.userAddress + (place.index() * MmuRig.PAGE)) : -1;
    }

    /// What a TD has accepted belongs to its KeyID, and the host, which has another, does not read it.
    private void privacy() {
        for (int page = model.accepted.nextSetBit(0); page >= 0; page = model.accepted.nextSetBit(page + 1)) {
            var place = model.place(page);
            long pa = place.way() == Way.MEMORY ? frameOf(place) : -1;
            if (pa < 0) {
                continue;
            }
            for (int word = 0; word < model.cpus; word++) {
                long[] values = place.memory().words.at(place.index(), word);
                long seen = values.length == 1 && values[0] != 0 ? memory.read(pa + (8L * word), 8) : 0;
                if (seen != 0 && seen == values[0]) {
                    throw finding("privacy: the host reads word " + word + " of private page " + page);
                }
            }
            if (memory.ownerOfLine(pa) != keyId) {
                throw finding("KeyID: private page " + page + " has KeyID " + memory.ownerOfLine(pa) + ", not " + keyId);
            }
        }
    }

    /// What the processor has of a TD's private memory is what KVM's mirror has.
    private void secureEpt() {
        var tables = rig.platform.inspectTdxModule().tds().getFirst().secureEpt().tables();
        var mapped = tables.filter(table -> table.level().equals("PT")).flatMap(table -> table.entries().stream())
                .filter(range -> range.hpa() != 0 && range.gpa() >= MmuRig.REGION_GPA && range.gpa() < END_GPA).toList();
        int count = 0;
        for (var range : mapped) {
            for (long at = range.gpa(); at < range.end(); at += MmuRig.PAGE) {
                int page = (int) ((at - MmuRig.REGION_GPA) / MmuRig.PAGE);
                translation("Secure EPT: " + range.state(), page, range.hpaOf(at), false, !model.isPrivate.get(page), false);
                boolean pending = range.state().equals("PENDING");
                if (pending ? model.accepted.get(page) : !range.state().equals("MAPPED")) {
                    throw finding("Secure EPT: page " + page + " is " + range.state());
                }
                count++;
            }
        }
        if (count != mirrored) {
            throw finding("Secure EPT: " + count + " pages, and " + mirrored + " in KVM's mirror");
        }
    }

    // --- after a VM entry

    /// An access of a vCPU has ended: what its processor has kept of its memory since is true.
    void translations(MmuStep.Access access) {
        collectRings();
        boolean neighbours = model.isNeighbours(access);
        boolean td = model.isTd(access);
        for (var cached : rig.platform.translations(rig.enteredOn, rig.enteredVpid, rig.enteredEptp)) {
            boolean shared = td && cached.linear() >= AccessGuest.WINDOW;
            long page = (cached.linear() - MmuRig.linear(0, shared)) >> 12;
            if (page < 0 || page >= PAGES) {
                continue;
            }
            boolean wrongKind = td && shared == model.isPrivate.get((int) page);
            int key = PhysicalMemory.keyId(cached.hpa());
            if (key != (td && !shared ? keyId : 0)) {
                throw finding("TLB: page " + page + " is used with KeyID " + key);
            }
            translation("TLB of processor " + rig.enteredOn, (int) page, PhysicalMemory.pa(cached.hpa()), cached.writable(), wrongKind,
                    neighbours);
        }
    }

    // --- while something goes on

    /// Frames are about to be freed: nobody's tables map them any more. The first of each step are looked for.
    private void freed(long pa, long frames) {
        if (stepFreed) {
            return;
        }
        stepFreed = true;
        mapped(inspection.roots(), pa, frames, sharedBit);
        if (rig.neighbour != null) {
            mapped(rig.neighbour.inspect().roots(), pa, frames, 0);
        }
    }

    private void mapped(List<KvmInspection.Root> roots, long pa, long frames, long shared) {
        for (var root : roots) {
            long from = MmuRig.REGION_GPA | (root.tables() == KvmInspection.Tables.EPT ? shared : 0);
            long table = root.tablePa();
            for (int level = root.level(); level > LARGE_LEVEL && table >= 0; level--) {
                long entry = entry(table, index(from, level));
                table = isPresent(root, entry) ? entry & Ept.ADDRESS : -1;
            }
            for (int i = 0; i < PAGES / ENTRIES && table >= 0; i++) {
                mappedBelow(root, entry(table, index(from, LARGE_LEVEL) + i), pa, frames);
            }
        }
    }

    private void mappedBelow(KvmInspection.Root root, long entry, long pa, long frames) {
        if (!isPresent(root, entry)) {
            return;
        }
        long end = pa + (frames * MmuRig.PAGE);
        boolean large = (entry & Ept.LARGE) != 0;
        long first = entry & Ept.ADDRESS;
        if (large && first < end && pa < first + (ENTRIES * MmuRig.PAGE)) {
            throw finding("frame: 0x" + Long.toHexString(pa) + " is being freed, and " + root + " maps it by a large page");
        }
        for (int i = 0; !large && i < ENTRIES; i++) {
            long leaf = entry(first, i);
            long frame = leaf & Ept.ADDRESS;
            if (isPresent(root, leaf) && frame >= pa && frame < end) {
                throw finding("frame: 0x" + Long.toHexString(frame) + " is being freed, and " + root + " maps it");
            }
        }
    }
}
