package cloister.vmm.mmu;

import cloister.sim.Entropy;
import cloister.vmm.mmu.MmuStep.Access;
import cloister.vmm.mmu.MmuStep.Kind;
import cloister.vmm.mmu.MmuStep.Operation;
import java.util.ArrayList;
import java.util.List;

/// Draws steps that are likely to meet: the same few pages again and again, the borders of large pages, whole slots.
final class MmuGenerator {
    private static final int HOT = 12;
    private static final int LARGE = 512;
    /// Of 256 machines, how many have each variant.
    private static final int[][] ORDINARY_VARIANTS = {{MmuModel.MANUAL_PROTECT, 100}, {MmuModel.SLOTS_ALONE, 128}, {MmuModel.SHADOW, 64},
        {MmuModel.OTHER_TYPES, 80}, {MmuModel.NX, 64}, {MmuModel.RINGS, 64}, {MmuModel.WITH_NEIGHBOUR, 100}};
    private static final int[][] TD_VARIANTS = {{MmuModel.OTHER_TYPES, 64}, {MmuModel.RETRY, 64}, {MmuModel.NX, 32},
        {MmuModel.WITH_NEIGHBOUR, 64}};
    private static final Kind[] RARE = {Kind.REMAP, Kind.PROTECT, Kind.DMA, Kind.MTRR, Kind.CACHE_DISABLE, Kind.DELETE, Kind.GUEST_MTRR,
        Kind.GUEST_CACHE_DISABLE, Kind.POLICY, Kind.TIME, Kind.AGE, Kind.PROCESSOR, Kind.SIGNAL, Kind.NEIGHBOUR};
    private static final Kind[] COMMON = {Kind.CREATE, Kind.CREATE, Kind.CREATE, Kind.MOVE, Kind.FLAGS, Kind.ATTRIBUTES, Kind.ATTRIBUTES,
        Kind.PUNCH, Kind.ALLOCATE, Kind.DISCARD, Kind.DISCARD, Kind.HOST_WRITE, Kind.HOST_READ, Kind.GET_LOG, Kind.CLEAR_LOG,
        Kind.PREFAULT, Kind.HARVEST, Kind.MAP_GPA, Kind.AGE, Kind.SIGNAL};
    private static final int[] MEMORY_TYPES = {0, 1, 4, 5, 6};

    private final Entropy random;
    private final int type;
    private final int cpus;
    private final int processors;
    private final int variant;
    private final int[] hot = new int[HOT];

    MmuGenerator(Entropy random, MmuStep machine) {
        this.random = random;
        this.type = machine.operand(0);
        this.cpus = machine.operand(1);
        this.processors = machine.operand(2);
        this.variant = machine.operand(3);
        for (int i = 0; i < HOT; i++) {
            hot[i] = i < 4 ? (LARGE - 2) + i : random.nextInt(MmuModel.PAGES);
        }
    }

    /// The first step of a sequence.
    static MmuStep machine(Entropy random) {
        int cpus = 1 + random.nextInt(4);
        int[] types = {MmuModel.ORDINARY, MmuModel.ORDINARY, MmuModel.SOFTWARE_PROTECTED, MmuModel.TD, MmuModel.TD};
        int type = types[random.nextInt(types.length)];
        int variant = 0;
        for (int[] choice : type == MmuModel.TD ? TD_VARIANTS : ORDINARY_VARIANTS) {
            boolean possible = choice[0] != MmuModel.SHADOW || type == MmuModel.ORDINARY;
            variant |= random.nextInt(256) < choice[1] && possible ? choice[0] : 0;
        }
        return new MmuStep(Kind.MACHINE, new int[] {type, cpus, 1 + random.nextInt(3), variant}, 0, List.of());
    }

    MmuStep next(MmuModel model) {
        int schedule = random.nextInt(Integer.MAX_VALUE);
        if (random.nextInt(16) == 0) {
            hot[random.nextInt(HOT)] = random.nextInt(MmuModel.PAGES);
        }
        if (random.nextInt(3) == 0) {
            var a = access(true);
            return new MmuStep(Kind.ACCESS, new int[] {a.vcpu(), a.operation().ordinal(), a.page(), a.word()}, schedule, List.of());
        }
        var kind = kind(model);
        var meanwhile = new ArrayList<Access>();
        if (random.nextInt(type == MmuModel.TD ? 2 : 4) == 0) {
            for (int i = 0; i < guests(); i++) {
                var a = access(false);
                // What the TDX module serialises is what guests do with private pages.
                meanwhile.add(type == MmuModel.TD && model.isPrivate.get(a.page()) && random.nextInt(3) != 0
                        ? new Access(i, Operation.ACCEPT, a.page(), 0) : a);
            }
        }
        if (kind == Kind.CREATE && random.nextInt(8) != 0) {
            // Where a slot is, it goes when it has no memory any more, and now and then otherwise.
            int id = slot();
            var slot = model.slots[id];
            boolean goes = slot != null && (!slot.memory().mapped || random.nextInt(4) == 0);
            return slot != null && !goes ? next(model)
                    : goes ? new MmuStep(Kind.DELETE, new int[] {id}, schedule, inSlot(slot, meanwhile))
                    : new MmuStep(kind, create(id), schedule, meanwhile);
        }
        return new MmuStep(kind, operands(kind, model), schedule, meanwhile);
    }

    private Kind kind(MmuModel model) {
        while (true) {
            var kind = random.nextInt(12) == 0 ? RARE[random.nextInt(RARE.length)] : COMMON[random.nextInt(COMMON.length)];
            boolean likely = switch (kind) {
                case CACHE_DISABLE, GUEST_CACHE_DISABLE, GUEST_MTRR -> type != MmuModel.TD;
                case ATTRIBUTES, MAP_GPA -> type != MmuModel.ORDINARY;
                case HARVEST -> (variant & MmuModel.RINGS) != 0;
                case GET_LOG, CLEAR_LOG -> (variant & MmuModel.RINGS) == 0 && loggingSlot(model) >= 0;
                case MOVE, FLAGS -> existingSlot(model) >= 0;
                case NEIGHBOUR -> (variant & MmuModel.WITH_NEIGHBOUR) != 0;
                default -> true;
            };
            if (likely || (kind != Kind.NEIGHBOUR && random.nextInt(16) == 0 && !(type == MmuModel.TD && isOfRegisters(kind)))) {
                return kind;
            }
        }
    }

    private static boolean isOfRegisters(Kind kind) {
        return kind == Kind.CACHE_DISABLE || kind == Kind.GUEST_CACHE_DISABLE || kind == Kind.GUEST_MTRR;
    }

    private int loggingSlot(MmuModel model) {
        int from = random.nextInt(MmuModel.SMM_SLOT);
        for (int i = 0; i < MmuModel.SMM_SLOT; i++) {
            int id = (from + i) % MmuModel.SMM_SLOT;
            if (model.slots[id] != null && model.slots[id].logs()) {
                return id;
            }
        }
        return -1;
    }

    private int existingSlot(MmuModel model) {
        int from = random.nextInt(MmuModel.SLOTS);
        for (int i = 0; i < MmuModel.SLOTS; i++) {
            int id = (from + i) % MmuModel.SLOTS;
            if (model.slots[id] != null) {
                return id;
            }
        }
        return -1;
    }

    /// One that exists, or now and then any.
    private int slot(MmuModel model) {
        int id = existingSlot(model);
        return id < 0 || random.nextInt(8) == 0 ? slot() : id;
    }

    private int logSlot(MmuModel model) {
        int id = loggingSlot(model);
        return id < 0 || random.nextInt(16) == 0 ? random.nextInt(MmuModel.SMM_SLOT) : id;
    }

    /// While a slot goes, the vCPUs of a TD accept pages of it; others populate it now and then.
    private List<Access> inSlot(MmuModel.Slot slot, List<Access> otherwise) {
        if (type != MmuModel.TD && random.nextInt(2) == 0) {
            return otherwise;
        }
        var operation = type == MmuModel.TD && random.nextInt(4) != 0 ? Operation.ACCEPT : Operation.POPULATE;
        var accesses = new ArrayList<Access>();
        for (int i = 0; i < cpus; i++) {
            accesses.add(new Access(i, operation, slot.first() + random.nextInt(slot.pages()),
                    operation == Operation.ACCEPT ? 0 : random.nextInt(4)));
        }
        return accesses;
    }

    /// vCPUs, that of the VM beside this one included.
    private int guests() {
        return (variant & MmuModel.WITH_NEIGHBOUR) != 0 ? cpus + 1 : cpus;
    }

    private Access access(boolean alone) {
        int vcpu = random.nextInt(guests());
        int draw = random.nextInt(10);
        var operation = draw < 5 ? Operation.READ : draw < 8 ? Operation.WRITE
                : !alone && draw == 8 ? Operation.POPULATE : alone && draw == 9 ? Operation.FETCH : Operation.ACCEPT;
        boolean own = operation == Operation.WRITE || random.nextInt(2) == 0;
        int word = vcpu == cpus ? Words.NEIGHBOUR : vcpu;
        if (operation == Operation.POPULATE) {
            word = random.nextInt(4);
        }
        return new Access(vcpu, operation, page(), own || operation == Operation.POPULATE ? word : random.nextInt(cpus));
    }

    private int page() {
        return random.nextInt(6) == 0 ? random.nextInt(MmuModel.PAGES) : hot[random.nextInt(HOT)];
    }

    private int[] range() {
        return switch (random.nextInt(6)) {
            case 0 -> new int[] {0, MmuModel.PAGES};
            case 1 -> new int[] {LARGE * random.nextInt(2), LARGE};
            case 2 -> {
                int first = random.nextInt(MmuModel.PAGES);
                yield new int[] {first, 1 + random.nextInt(MmuModel.PAGES - first)};
            }
            case 3 -> {
                int first = page();
                yield new int[] {first, Math.min(16 + random.nextInt(200), MmuModel.PAGES - first)};
            }
            default -> {
                int first = page();
                yield new int[] {first, Math.min(1 + random.nextInt(3), MmuModel.PAGES - first)};
            }
        };
    }

    private int slot() {
        return random.nextInt(type == MmuModel.ORDINARY ? MmuModel.SLOTS : MmuModel.SMM_SLOT);
    }

    private int[] operands(Kind kind, MmuModel model) {
        int[] r = range();
        return switch (kind) {
            case MACHINE, ACCESS, REMAP, HARVEST, POLICY, TAMPER -> new int[0];
            case CREATE -> create(slot());
            case MOVE -> {
                int id = slot(model);
                int room = model.slots[id] == null ? 1 : MmuModel.PAGES - model.slots[id].pages() + 1;
                yield new int[] {id, (random.nextInt(2) == 0) ? 0 : random.nextInt(room)};
            }
            case FLAGS -> new int[] {slot(model), random.nextInt(8) == 0 ? random.nextInt(4) : random.nextInt(4) == 0 ? 0 : 1};
            case DELETE -> new int[] {slot(model)};
            case ATTRIBUTES -> new int[] {r[0], r[1], random.nextInt(3) == 0 ? 0 : 1};
            case PUNCH, ALLOCATE, DISCARD, AGE -> r;
            case PROTECT, DMA, NEIGHBOUR -> new int[] {random.nextInt(3) == 0 ? 0 : 1};
            case HOST_WRITE -> new int[] {page(), 0};
            case HOST_READ -> new int[] {page(), (random.nextInt(2) == 0) ? Words.HOST : random.nextInt(cpus)};
            case GET_LOG -> new int[] {logSlot(model)};
            case CLEAR_LOG -> new int[] {logSlot(model), random.nextInt(16), 1 + random.nextInt(16)};
            case PREFAULT -> new int[] {random.nextInt(cpus), r[0], r[1]};
            case MAP_GPA -> new int[] {random.nextInt(cpus), r[0], r[1], random.nextInt(2)};
            case TIME -> new int[] {1 + random.nextInt(20)};
            case PROCESSOR -> new int[] {random.nextInt(processors), (random.nextInt(3) == 0) ? 0 : 1};
            case SIGNAL -> new int[] {random.nextInt(cpus)};
            case MTRR, GUEST_MTRR -> new int[] {random.nextInt(cpus), page(), random.nextInt(11),
                MEMORY_TYPES[random.nextInt(MEMORY_TYPES.length)]};
            case CACHE_DISABLE, GUEST_CACHE_DISABLE -> new int[] {random.nextInt(cpus), random.nextInt(2)};
        };
    }

    /// Most slots are aligned to what is behind them, so that large pages are possible.
    private int[] create(int id) {
        int first = random.nextInt(3) == 0 ? random.nextInt(MmuModel.PAGES) : LARGE * random.nextInt(2);
        int pages = random.nextInt(3) == 0 ? 1 + random.nextInt(MmuModel.PAGES - first)
                : Math.min(MmuModel.PAGES - first, LARGE * (1 + random.nextInt(2)));
        int backing = random.nextInt(3) == 0 ? random.nextInt(MmuModel.PAGES - pages + 1) : Math.min(first, MmuModel.PAGES - pages);
        int file = random.nextInt(4) == 0 || (type == MmuModel.SOFTWARE_PROTECTED && random.nextInt(2) == 0) ? 1 : 0;
        int flags = random.nextInt(12) == 0 ? random.nextInt(4) : type != MmuModel.TD && random.nextInt(3) == 0 ? 1 + random.nextInt(2) : 0;
        return new int[] {id, first, pages, backing, file, flags};
    }
}
