package cloister.vmm.mmu;

import cloister.kvm.Defect;
import cloister.kvm.GpaRange;
import cloister.kvm.KvmException;
import cloister.kvm.KvmPolicy;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.vmm.mmu.MmuModel.Place;
import cloister.vmm.mmu.MmuModel.Way;
import cloister.vmm.mmu.MmuStep.Access;
import cloister.vmm.mmu.MmuStep.Operation;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;

/// One sequence: carries out steps on the machine and on the model, and compares.
final class MmuRun {
    private static final int RECENT = 16;
    private static final int PROBES = 2;
    private static final long ALREADY_ACCEPTED = 0x00000b0a;
    private static final long OPERAND_BUSY = 0x80000200L;
    private static final long KVM_ENOSYS = 1000;

    /// Where steps come from.
    interface Source {
        /// The next step, or null at the end.
        MmuStep next(MmuModel model);
    }

    private final MmuRig rig;
    private final MmuModel model;
    private final MmuCoverage coverage;
    private final DirtyRings rings;
    private final MmuCheck check;
    private final Access[] recent = new Access[RECENT];
    private int recentCount;
    private long lastValue;
    private long[] log;
    private MmuModel.Slot deleted;

    /// An access that goes on while something else happens.
    private record Racing(Access access, boolean isPrivate, long written, Place before, long[] values, boolean accepted,
            boolean maybeAccepted) {
    }

    private MmuRun(MmuStep machine, TdStart start, Set<Defect> defects, MmuCoverage coverage) {
        this.model = new MmuModel(machine);
        this.coverage = coverage;
        this.rings = new DirtyRings(model);
        this.rig = new MmuRig(machine, start, defects, coverage, rings);
        rings.of(rig);
        this.check = new MmuCheck(rig, model);
        coverage.machine(machine);
    }

    /// Plays a sequence.
    ///
    /// @throws MmuFinding when something contradicts the model
    static void play(MmuStep machine, Source source, TdStart start, Set<Defect> defects, MmuCoverage coverage) {
        var run = new MmuRun(machine, start, defects, coverage);
        try {
            run.play(source);
        } finally {
            run.rig.close();
        }
    }

    private void play(Source source) {
        var scheduler = rig.platform.scheduler();
        var failure = new RuntimeException[1];
        var driver = scheduler.spawn("vmm", () -> {
            try {
                rig.lanes.forEach(Lane::boot);
                for (var step = source.next(model); step != null; step = source.next(model)) {
                    carryOut(step);
                }
                check.everything();
            } catch (RuntimeException e) {
                failure[0] = e;
            }
            rig.walk.restart(0);
            rig.lanes.forEach(Lane::stop);
        });
        for (var lane : rig.lanes) {
            lane.threads(scheduler.spawn("vcpu" + lane.id, lane), driver);
        }
        try {
            scheduler.run();
        } catch (RuntimeException e) {
            failure[0] = failure[0] == null ? e : failure[0];
        }
        if (failure[0] == null && scheduler.stalled()) {
            throw new MmuFinding("every thread waits for another");
        }
        if (failure[0] == null) {
            tearDown();
        } else if (failure[0] instanceof MmuFinding finding) {
            throw finding;
        } else {
            throw new MmuFinding(failure[0].toString(), failure[0]);
        }
    }

    private void tearDown() {
        coverage.busy(rig.vm.stats().busySeamcalls());
        rig.vm.close();
        if (rig.neighbour != null) {
            rig.neighbour.close();
        }
        require(rig.vm.stats().leakedPages() == 0, "pages were not given back: " + rig.vm.stats().leakedPages());
        require(rig.vm.stats().tdxPages() == 0, "the TDX module still has pages: " + rig.vm.stats().tdxPages());
        require(rig.file.allocatedPages() == 0, "a guest_memfd keeps frames: " + rig.file.allocatedPages());
        long left = rig.vm.inspect().framesInUse() - rig.user.residentPages();
        require(left == model.processors, left + " frames are left, for " + model.processors + " processors in VMX operation");
    }

    private static void require(boolean holds, String otherwise) {
        if (!holds) {
            throw new MmuFinding(otherwise);
        }
    }

    // --- a step

    private void carryOut(MmuStep step) {
        rig.walk.restart(step.schedule());
        log = null;
        rings.stepBegins();
        if (step.kind() == MmuStep.Kind.ACCESS) {
            access(step.access());
            check.nowAndThen();
        } else {
            change(step);
        }
    }

    private void change(MmuStep step) {
        var racing = new ArrayList<Racing>();
        for (var access : step.meanwhile()) {
            consider(access, racing);
        }
        deleted = step.kind() == MmuStep.Kind.DELETE ? model.slots[step.operand(0)] : null;
        var memory = rig.userAddress;
        var expected = MmuChanges.apply(model, step);
        racing.removeIf(r -> step.kind() == MmuStep.Kind.HOST_READ || isPointless(step, r, racing));
        boolean interrupted = step.kind() == MmuStep.Kind.PREFAULT && rig.lanes.get(step.operand(0)).isSignalled();
        // The vCPU's thread may take the signal first.
        boolean mayGoOn = !interrupted || racing.stream().anyMatch(r -> r.access.vcpu() == step.operand(0));
        racing.forEach(r -> rig.lanes.get(r.access.vcpu()).start(r.access, linear(r), r.written));
        Errno got = null;
        try {
            operate(step, memory);
        } catch (KvmException e) {
            got = e.errno();
        }
        finish(racing);
        coverage.count(step.kind(), got);
        require((got == expected && mayGoOn) || (interrupted && got == Errno.EINTR),
                step + " gave " + (got == null ? "success" : got) + ", not " + (expected == null ? "success" : expected));
        if (log != null) {
            compareLog(step);
        }
        racing.stream().filter(r -> !needsSlot(r)).forEach(r -> compare(step, r, racing));
        racing.stream().filter(this::needsSlot).forEach(r -> bringBack(step, r));
        if (expected != null && racing.isEmpty()) {
            check.nowAndThen();
        } else {
            check.all();
        }
        probe(step.schedule());
    }

    private long linear(Racing r) {
        return MmuRig.linear(r.access.page(), model.isTd(r.access) && !r.isPrivate)
                + (r.access.operation() == Operation.ACCEPT ? 0 : r.access.word() * 8L);
    }

    private void finish(List<Racing> racing) {
        for (var r : racing) {
            rig.lanes.get(r.access.vcpu()).operationEnded();
        }
        for (var r : racing) {
            var lane = rig.lanes.get(r.access.vcpu());
            while (lane.isBusy()) {
                rig.platform.scheduler().park();
            }
            lane.rethrow();
        }
    }

    private void operate(MmuStep step, long memory) {
        int[] o = step.operands();
        long page = MmuRig.PAGE;
        switch (step.kind()) {
            case MAP_GPA, GUEST_MTRR, GUEST_CACHE_DISABLE -> byGuest(step);
            case MACHINE, ACCESS -> throw new MmuFinding(step.kind() + " in the middle");
            case CREATE -> rig.setSlot(o[0], o[5], o[1], o[2], memory, o[4] == 1 || rig.isTd() ? rig.file : null, o[3]);
            case MOVE, FLAGS -> changeSlot(step, memory);
            case DELETE -> rig.setSlot(o[0], 0, 0, 0, 0, null, 0);
            case ATTRIBUTES -> rig.vm.setMemoryAttributes(MmuRig.REGION_GPA + (o[0] * page), o[1] * page,
                    o[2] == 1 ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0);
            case PUNCH -> rig.file.punchHole(o[0] * page, o[1] * page);
            case ALLOCATE -> rig.file.allocate(o[0] * page, o[1] * page);
            case DISCARD -> rig.user.discard(memory + (o[0] * page), o[1] * page);
            case PROTECT -> rig.user.protect(memory, o[0] == 1);
            case REMAP -> rig.remap();
            case HOST_WRITE -> {
                lastValue += 0x100;
                rig.user.write(memory + (o[0] * page) + (Words.HOST * 8), 8, lastValue | 0xc3);
                model.user.words.set(o[0], Words.HOST, lastValue | 0xc3);
            }
            case HOST_READ -> {
                long value = rig.user.read(memory + (o[0] * page) + (o[1] * 8L), 8);
                check(model.user.words.at(o[0], o[1]), value, "the VMM read page " + o[0] + " of its memory, word " + o[1]);
                model.user.words.set(o[0], o[1], value);
            }
            case GET_LOG -> log = rig.dirtyLog(o[0]);
            case CLEAR_LOG -> clearLog(o);
            case PREFAULT -> prefault(o);
            case DMA -> rig.attach(o[0] == 1);
            case MTRR -> rig.setMtrr(o[0], o[1], o[2], o[3]);
            case CACHE_DISABLE -> rig.disableCaches(o[0], o[1] == 1);
            case HARVEST -> {
                rig.harvest();
                requireNothingDue();
            }
            case POLICY -> rig.vm.choose(KvmPolicy.PRE_FAULT, KvmPolicy.PRE_FAULT.choices().getFirst());
            case TIME -> rig.pass(o[0]);
            case AGE -> rig.user.clearAccessed(memory + (o[0] * page), memory + ((o[0] + o[1]) * page));
            case PROCESSOR -> rig.kvm.processorOnline(o[0], o[1] == 1);
            case SIGNAL -> rig.lanes.get(o[0]).signal();
            case NEIGHBOUR -> rig.neighbourSlot(o[0] == 1);
            case TAMPER -> tamper(o[0], o[1], o[2] == 1);
        }
    }

    private void byGuest(MmuStep step) {
        int[] o = step.operands();
        var lane = rig.lanes.get(o[0]);
        switch (step.kind()) {
            case MAP_GPA -> {
                long gpa = (MmuRig.REGION_GPA + (o[1] * MmuRig.PAGE)) | (rig.isTd() && o[3] == 0 ? AccessGuest.SHARED_BIT : 0);
                long answer = lane.convert(gpa, o[2] * MmuRig.PAGE, o[3] == 1);
                require(answer == (model.hasAttributes() ? 0 : -KVM_ENOSYS), step + " was answered 0x" + Long.toHexString(answer));
            }
            case GUEST_MTRR -> MmuRig.mtrr(o[1], o[2], o[3]).forEach(e -> lane.told(Operation.WRMSR, e.index(), e.data()));
            default -> lane.told(Operation.CACHES, 0, o[1] == 1 ? MmuRig.CR0_CD : 0);
        }
    }

    private void changeSlot(MmuStep step, long memory) {
        var slot = model.slots[step.operand(0)];
        // The model has what is wanted now, or what was there when Linux is expected to refuse.
        var wanted = MmuChanges.wanted(model, step);
        if (wanted != null) {
            rig.setSlot(step.operand(0), wanted.flags(), wanted.first(), wanted.pages(), memory, slot.file() == null ? null : rig.file,
                    wanted.backing());
        } else {
            rig.setSlot(step.operand(0), 0, 0, 0, memory, null, 0);
        }
    }

    private void prefault(int[] o) {
        var range = new GpaRange(MmuRig.REGION_GPA + (o[1] * MmuRig.PAGE), o[2] * MmuRig.PAGE);
        int wanted = MmuChanges.populated(model, o[1], o[2]);
        if (wanted < o[2]) {
            wasMmio(o[1] + wanted, model.place(o[1] + wanted).way());
        }
        rig.lanes.get(o[0]).vcpu.preFaultMemory(range);
        require(range.size == (o[2] - wanted) * MmuRig.PAGE, "pre-fault of " + o[2] + " pages from " + o[1] + " left 0x"
                + Long.toHexString(range.size) + " bytes, not " + (o[2] - wanted) + " pages");
    }

    // --- logs

    private void clearLog(int[] o) {
        long[] bits = rig.dirtyLog(o[0]);
        var slot = model.slots[o[0]];
        requireLogged(o[0], bits);
        int first = Math.min(o[1], bits.length - 1) * 64;
        int pages = Math.min(o[2] * 64, slot.pages() - first);
        rig.clearDirtyLog(o[0], first, pages, Arrays.copyOfRange(bits, first / 64, (first + pages + 63) / 64));
        if (rig.manualProtect()) {
            model.dirty[o[0]].clear(first, first + pages);
        } else {
            model.dirty[o[0]].clear();
        }
        log = bits;
    }

    private void requireLogged(int id, long[] bits) {
        var must = model.dirty[id];
        for (int page = must.nextSetBit(0); page >= 0; page = must.nextSetBit(page + 1)) {
            require(((bits[page / 64] >>> page) & 1) != 0, "page " + page + " of slot " + id + " was written, and its log does not say so");
        }
    }

    private void compareLog(MmuStep step) {
        if (step.kind() == MmuStep.Kind.GET_LOG) {
            requireLogged(step.operand(0), log);
            if (!rig.manualProtect()) {
                model.dirty[step.operand(0)].clear();
            }
        }
    }

    /// Each ring was emptied: what was written before the step is no longer due.
    private void requireNothingDue() {
        for (int id = 0; id < MmuModel.SMM_SLOT; id++) {
            require(model.slots[id] == null || !model.slots[id].logs() || model.dirty[id].isEmpty(),
                    "pages " + model.dirty[id] + " of slot " + id + " were written, and no ring says so");
        }
    }

    private void tamper(int page, int word, boolean same) {
        long pa = rig.vm.inspect().frameOf(rig.file, page);
        long value = same ? model.file.words.at(page, word)[0] : 1;
        rig.platform.memory().write(pa + (word * 8L), 8, value);
    }

    private void wrote(MmuStep step, int page, Place place) {
        int id = place.slot();
        if (id < 0 || !model.slots[id].logs()) {
            return;
        }
        int index = page - model.slots[id].first();
        boolean reported = rings.wasTaken(id, index)
                || (log != null && step.operand(0) == id && ((log[index / 64] >>> index) & 1) != 0);
        if (!reported) {
            model.dirty[id].set(index);
        }
    }

    // --- accesses alone

    private void probe(int seed) {
        int count = Math.min(recentCount, RECENT);
        for (int i = 0; i < Math.min(PROBES, count); i++) {
            // Counted from the last one, so that a sequence made shorter probes the same.
            var access = recent[(recentCount - 1 - (((seed >>> (4 * i)) & (RECENT - 1)) % count)) % RECENT];
            access(new Access(access.vcpu(), Operation.READ, access.page(), access.word()));
        }
    }

    private void access(Access a) {
        var lane = rig.lanes.get(a.vcpu());
        boolean isPrivate = model.isPrivate(a);
        var place = model.place(a);
        boolean td = model.isTd(a);
        boolean lost = td && place.way() != Way.MEMORY && place.way() != Way.MMIO;
        if (!model.isPossible(a) || lost || (td && a.operation() == Operation.ACCEPT && !isPrivate)) {
            return;
        }
        if (td && a.operation() == Operation.WRITE && lost(place.write())) {
            return;
        }
        if (td && isPrivate && !accept(lane, a.page(), place)) {
            return;
        }
        if (a.operation() == Operation.ACCEPT || a.operation() == Operation.POPULATE
                || (a.operation() == Operation.FETCH && !canFetch(a, place, isPrivate))) {
            return;
        }
        recent[recentCount++ % RECENT] = a;
        lastValue += 0x100;
        long value = lastValue | 0xc3;
        if (!model.isNeighbours(a)) {
            wasMmio(a.page(), place.way());
        }
        lane.perform(a, MmuRig.linear(a.page(), td && !isPrivate) + (a.word() * 8L), value);
        check.translations(a);
        compareAlone(a, lane, place, value);
    }

    private void compareAlone(Access a, Lane lane, Place place, long value) {
        var way = a.operation() == Operation.WRITE ? place.write() : place.way();
        if (lane.outcome == Lane.Outcome.VE && wasMmio(a.page(), place.way())) {
            return;
        }
        if (lane.outcome == Lane.Outcome.FAULT && place.way() == Way.FAULT) {
            // Also what is to be a write to read-only memory: from a stale MMIO entry KVM does not learn that it is one.
            rig.skipAccess(lane);
            return;
        }
        if (lane.outcome == Lane.Outcome.MMIO && isPrivateMmio(a, place)) {
            return;
        }
        if (lane.outcome == Lane.Outcome.FAULT && isStalePrivate(a, place)) {
            rig.skipAccess(lane);
            return;
        }
        require(lane.outcome == outcome(a, way), a + " ended as " + lane.outcome + ", not " + outcome(a, way));
        if (lane.outcome == Lane.Outcome.FAULT || lane.outcome == Lane.Outcome.PRIVATE_FAULT) {
            rig.skipAccess(lane);
        } else if (way == Way.MEMORY && a.operation() == Operation.WRITE) {
            place.memory().words.set(place.index(), a.word(), value);
            if (place.slot() >= 0 && model.slots[place.slot()].logs()) {
                model.dirty[place.slot()].set(a.page() - model.slots[place.slot()].first());
            }
        } else if (way == Way.MEMORY && a.operation() == Operation.READ) {
            check(place.memory().words.at(place.index(), a.word()), lane.value, a.toString());
            place.memory().words.set(place.index(), a.word(), lane.value);
        } else if (lane.outcome == Lane.Outcome.MMIO && a.operation() == Operation.READ) {
            check(new long[] {mmio(a)}, lane.value, a.toString());
        }
    }

    /// Whether a TD's guest may find MMIO at a page, which it is told by #VE.
    private boolean wasMmio(int page, Way way) {
        if (way == Way.MMIO) {
            model.wasMmio.set(page);
        }
        return model.wasMmio.get(page);
    }

    /// The same for an access of whichever VM while a step may change the page.
    private boolean mayBeMmio(Access a, Place before, Place after) {
        boolean mmio = before.way() == Way.MMIO || after.way() == Way.MMIO || isPrivateMmio(a, before) || isPrivateMmio(a, after);
        return mmio || (model.isTd(a) && wasMmio(a.page(), before.way()));
    }

    /// Whether an access meets private memory without a slot: where MMIO was before, the cached entry of a software-protected VM makes it
    /// MMIO still. [LINUX kvm_mmu_page_fault, "emulated MMIO is shared-only"]
    private boolean isPrivateMmio(Access a, Place place) {
        return model.type == MmuModel.SOFTWARE_PROTECTED && place.slot() == -1 && model.isPrivate(a);
    }

    /// Whether an access to private memory may end as one to shared memory: where MMIO was before, its entry is of old slots. No fault of
    /// it counts as private, and conversions leave it where it is. [LINUX kvm_mmu_page_fault, tdp_mmu_zap_leafs]
    private boolean isStalePrivate(Access a, Place place) {
        return model.type == MmuModel.SOFTWARE_PROTECTED && model.isPrivate(a) && wasMmio(a.page(), place.way());
    }

    private static long mmio(Access a) {
        return Lane.mmioValue(MmuRig.REGION_GPA + (a.page() * MmuRig.PAGE) + (a.word() * 8L));
    }

    private Lane.Outcome outcome(Access a, Way way) {
        return switch (way) {
            case MEMORY -> Lane.Outcome.DONE;
            case MMIO -> model.isTd(a) ? Lane.Outcome.VE : Lane.Outcome.MMIO;
            case FAULT -> Lane.Outcome.FAULT;
            case ATTRIBUTE_FAULT -> Lane.Outcome.PRIVATE_FAULT;
        };
    }

    /// A guest can only execute what it wrote: each value begins with RET.
    private boolean canFetch(Access a, Place place, boolean isPrivate) {
        return place.way() == Way.MEMORY && (!model.isTd(a) || isPrivate)
                && Arrays.stream(place.memory().words.at(place.index(), a.word())).allMatch(v -> (v & 0xff) == 0xc3);
    }

    /// Sees to it that the guest of a TD has accepted a private page.
    private boolean accept(Lane lane, int page, Place place) {
        if (place.way() != Way.MEMORY) {
            return false;
        }
        if (model.accepted.get(page)) {
            return true;
        }
        lane.perform(new Access(lane.id, Operation.ACCEPT, page, 0), MmuRig.linear(page, false), 0);
        boolean already = lane.value >>> 32 == ALREADY_ACCEPTED;
        require(lane.outcome == Lane.Outcome.DONE && (lane.value == 0 || (already && model.maybeAccepted.get(page))),
                "accepting page " + page + " gave " + lane.outcome + ", 0x" + Long.toHexString(lane.value));
        accepted(page, place, !already);
        return true;
    }

    private void accepted(int page, Place place, boolean fresh) {
        model.accepted.set(page);
        model.maybeAccepted.clear(page);
        if (fresh) {
            place.memory().words.clear(place.index(), place.index() + 1);
        }
    }

    private static void check(long[] possible, long value, String what) {
        require(Arrays.stream(possible).anyMatch(v -> v == value), what + ": 0x" + Long.toHexString(value) + " instead of "
                + String.join(" or ", Arrays.stream(possible).mapToObj(v -> "0x" + Long.toHexString(v)).toList()));
    }

    // --- accesses at the same time

    private void consider(Access a, List<Racing> racing) {
        if (racing.stream().anyMatch(r -> r.access.vcpu() == a.vcpu())) {
            return;
        }
        boolean isPrivate = model.isPrivate(a);
        lastValue += 0x100;
        var place = model.place(a);
        long[] values = place.way() == Way.MEMORY ? place.memory().words.at(place.index(), a.word()) : new long[0];
        racing.add(new Racing(a, isPrivate, lastValue | 0xc3, place, values, model.accepted.get(a.page()),
                model.maybeAccepted.get(a.page())));
    }

    /// Whether nothing can be said about an access, or the guest of a TD would be lost by it.
    private boolean isPointless(MmuStep step, Racing r, List<Racing> racing) {
        int page = r.access.page();
        var operation = r.access.operation();
        boolean busy = step.isByGuest() && step.operand(0) == r.access.vcpu();
        if (busy || operation == Operation.FETCH || (operation == Operation.ACCEPT && !r.isPrivate) || !model.isPossible(r.access)) {
            return true;
        }
        if (!model.isTd(r.access) || operation == Operation.POPULATE) {
            return operation == Operation.ACCEPT;
        }
        var after = model.place(r.access);
        if (operation == Operation.ACCEPT && r.before.way() == Way.MEMORY && deleted != null && deleted.has(page)) {
            return racing.stream().anyMatch(other -> other != r && other.access.page() == page);
        }
        if (r.isPrivate != model.isPrivate(r.access) || lost(r.before.way()) || lost(after.way()) || lost(r.before.write())
                || lost(after.write())) {
            return true;
        }
        if (!r.isPrivate) {
            return false;
        }
        return operation == Operation.ACCEPT ? racing.stream().anyMatch(other -> other != r && other.access.page() == page)
                : !(r.accepted && model.accepted.get(page));
    }

    private static boolean lost(Way way) {
        return way == Way.FAULT || way == Way.ATTRIBUTE_FAULT;
    }

    private void compare(MmuStep step, Racing r, List<Racing> racing) {
        var lane = rig.lanes.get(r.access.vcpu());
        var after = model.place(r.access);
        var whose = model.isNeighbours(r.access) ? "neighbour " : !rig.isTd() ? "" : r.isPrivate ? "TD private " : "TD shared ";
        coverage.race(whose + r.access.operation() + " " + lane.outcome);
        if (model.type == MmuModel.SOFTWARE_PROTECTED && !model.isNeighbours(r.access)) {
            model.wasMmio.set(r.access.page(), r.access.page() + r.access.touched());
        }
        if (lane.outcome == Lane.Outcome.FAULT && isStalePrivate(r.access, after)) {
            rig.skipAccess(lane);
            return;
        }
        if (lane.outcome == Lane.Outcome.FAULT || lane.outcome == Lane.Outcome.PRIVATE_FAULT) {
            var way = r.access.operation() == Operation.WRITE ? after.write() : after.way();
            require(lane.outcome == outcome(r.access, way) || (lane.outcome == outcome(r.access, after.way()) && after.way() == Way.FAULT),
                    r.access + " during " + step + " ended as " + lane.outcome);
            rig.skipAccess(lane);
            return;
        }
        switch (r.access.operation()) {
            case READ -> compareRead(step, r, after, lane, racing);
            case WRITE -> compareWrite(step, r, after, lane);
            case ACCEPT -> compareAccept(step, r, after, lane);
            case POPULATE -> {
                comparePopulate(step, r, after, lane);
                return;
            }
            case FETCH -> throw new IllegalStateException("not made at the same time");
        }
        if (lane.outcome == Lane.Outcome.VE) {
            model.wasMmio.set(r.access.page());
        }
        recent[recentCount++ % RECENT] = r.access;
    }

    private void comparePopulate(MmuStep step, Racing r, Place after, Lane lane) {
        int page = r.access.page();
        if (lane.outcome == Lane.Outcome.MMIO) {
            require(mayBeMmio(r.access, r.before, after) || step.kind() == MmuStep.Kind.MOVE,
                    r.access + " during " + step + " found nothing");
        }
        // Where the rest of the range is MMIO, or was for a moment, it may have an entry for that.
        if (model.isTd(r.access)) {
            model.wasMmio.set(page, page + r.access.touched());
        }
    }

    private boolean needsSlot(Racing r) {
        return deleted != null && rig.isTd() && r.access.operation() == Operation.ACCEPT && deleted.has(r.access.page());
    }

    /// A slot was deleted under a TD's guest that accepts a page of it. The guest cannot go on until the slot is there again.
    private void bringBack(MmuStep step, Racing r) {
        var lane = rig.lanes.get(r.access.vcpu());
        if (lane.outcome == Lane.Outcome.DONE) {
            return;
        }
        require(lane.outcome == Lane.Outcome.PRIVATE_FAULT, r.access + " during " + step + " ended as " + lane.outcome);
        int id = step.operand(0);
        if (model.slots[id] == null) {
            var again = new MmuModel.Slot(deleted.first(), deleted.pages(), deleted.backing(), model.user, deleted.file(), 0);
            require(model.create(id, again) == null, "the slot cannot come back");
            rig.setSlot(id, 0, again.first(), again.pages(), rig.userAddress, rig.file, again.backing());
        }
        long status = lane.goOn();
        require(lane.outcome == Lane.Outcome.DONE && status == 0, r.access + " after " + step + " gave " + lane.outcome + ", 0x"
                + Long.toHexString(status));
        accepted(r.access.page(), model.place(r.access.page()), true);
    }

    private void compareRead(MmuStep step, Racing r, Place after, Lane lane, List<Racing> racing) {
        var a = r.access;
        if (lane.outcome == Lane.Outcome.VE || lane.outcome == Lane.Outcome.MMIO) {
            require(mayBeMmio(a, r.before, after) || step.kind() == MmuStep.Kind.MOVE,
                    a + " during " + step + " found MMIO where there is none");
            return;
        }
        long[] now = after.way() == Way.MEMORY ? after.memory().words.at(after.index(), a.word()) : new long[0];
        long[] written = racing.stream().filter(w -> w.access.operation() == Operation.WRITE && w.access.page() == a.page()
                && w.access.word() == a.word()).mapToLong(w -> w.written).toArray();
        check(concat(r.values, now, written), lane.value, a + " during " + step);
    }

    private static long[] concat(long[]... parts) {
        return Arrays.stream(parts).flatMapToLong(Arrays::stream).toArray();
    }

    private void compareWrite(MmuStep step, Racing r, Place after, Lane lane) {
        if (lane.outcome != Lane.Outcome.DONE) {
            require(r.before.write() == Way.MMIO || after.write() == Way.MMIO || step.kind() == MmuStep.Kind.MOVE
                    || isPrivateMmio(r.access, r.before) || isPrivateMmio(r.access, after)
                    || (lane.outcome == Lane.Outcome.VE && mayBeMmio(r.access, r.before, after)),
                    r.access + " during " + step + " found MMIO where there is none");
            return;
        }
        require(r.before.write() == Way.MEMORY || after.write() == Way.MEMORY, r.access + " during " + step + " was not refused");
        boolean same = r.before.memory() == after.memory() && r.before.index() == after.index();
        if (same && r.before.write() == Way.MEMORY && !MmuChanges.destroys(model, step, after, r.access.page())) {
            after.memory().words.set(after.index(), r.access.word(), r.written);
            if (step.kind() != MmuStep.Kind.FLAGS && step.kind() != MmuStep.Kind.MOVE && step.kind() != MmuStep.Kind.CLEAR_LOG) {
                wrote(step, r.access.page(), after);
            }
            return;
        }
        for (var place : List.of(r.before, after)) {
            if (place.memory() != null) {
                place.memory().words.add(place.index(), r.access.word(), r.written);
            }
        }
    }

    private void compareAccept(MmuStep step, Racing r, Place after, Lane lane) {
        int page = r.access.page();
        boolean destroyed = MmuChanges.destroys(model, step, after, r.access.page()) || !r.before.equals(after);
        long status = lane.value >>> 32;
        boolean possible = lane.value == 0 || status == OPERAND_BUSY || (status == ALREADY_ACCEPTED && (r.accepted
                || r.maybeAccepted || model.maybeAccepted.get(page)));
        coverage.race("TD ACCEPT 0x" + Long.toHexString(status));
        require(lane.outcome == Lane.Outcome.DONE && possible, r.access + " during " + step + " gave " + lane.outcome + ", 0x"
                + Long.toHexString(lane.value));
        require(!r.accepted || destroyed || lane.value != 0, r.access + " during " + step + ": the page that it had is gone");
        if (destroyed || status == OPERAND_BUSY) {
            model.accepted.clear(page);
            model.maybeAccepted.set(page);
            if (lane.value == 0) {
                after.memory().words.clear(after.index(), after.index() + 1);
            }
        } else {
            accepted(page, after, lane.value == 0);
        }
    }
}
