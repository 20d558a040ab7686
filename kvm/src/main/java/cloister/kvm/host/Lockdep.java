package cloister.kvm.host;

import cloister.sim.HostThread;
import cloister.sim.Scheduler;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// Checks the order of locks as they are taken, whether or not this run deadlocks, and knows who holds and who waits for what.
/// [LINUX Documentation/locking/lockdep-design.rst]
///
/// Each (class, subclass) is a node; taking b while a is held is an edge. An edge that closes a cycle on which every wait can block
/// is a defect: the second thread's chain is in the message beside the first one's. Reading under [Srcu] never waits, so a cycle
/// through a section that only readers hold and enter is none.
public final class Lockdep {
    // Kinds of an edge: how the first lock was held, how the second is taken.
    private static final int HELD_EXCLUSIVE = 0;
    private static final int HELD_SHARED = 1;
    private static final int TAKEN_RECURSIVELY = 2;
    private static final int KINDS = 4;

    private final Scheduler scheduler;
    private final Map<String, LockClass> byName = new HashMap<>();
    private final List<LockClass> classes = new ArrayList<>();
    /// What each host thread holds, by its id + 1; element 0 for code outside of every host thread.
    private final List<HeldLocks> threads = new ArrayList<>();
    /// For each node the kinds of edges to each node, one bit for each kind.
    private byte[][] edges = new byte[0][];
    /// Who first made an edge, for messages.
    private final Map<Long, String> witnesses = new HashMap<>();

    /// Nothing is held, no order known.
    public Lockdep(Scheduler scheduler) {
        this.scheduler = scheduler;
    }

    /// The class of sleeping locks with this name. [LINUX mutex, rwsem]
    public LockClass sleeping(String name) {
        return lockClass(name, false);
    }

    /// The class of spinning locks with this name: no sleeping lock may be taken under one. [LINUX spinlock_t, rwlock_t]
    public LockClass spinning(String name) {
        return lockClass(name, true);
    }

    private LockClass lockClass(String name, boolean spins) {
        var known = byName.get(name);
        if (known == null) {
            known = new LockClass(classes.size(), name, spins);
            classes.add(known);
            byName.put(name, known);
            int nodes = classes.size() * LockClass.SUBCLASSES;
            int before = edges.length;
            edges = Arrays.copyOf(edges, nodes);
            for (int i = 0; i < nodes; i++) {
                edges[i] = i < before ? Arrays.copyOf(edges[i], nodes) : new byte[nodes];
            }
        } else if (known.spins != spins) {
            throw new IllegalArgumentException("the class " + name + " exists and " + (spins ? "sleeps" : "spins"));
        }
        return known;
    }

    Scheduler scheduler() {
        return scheduler;
    }

    // --- what the locks tell

    /// `lock` is about to be taken.
    ///
    /// @param recursive it is a read section, which may nest and waits for nobody
    /// @param nested    others of its class may be held: an outer lock orders them
    void beforeAcquire(HostLock lock, int subclass, boolean recursive, boolean nested) {
        var mine = mine();
        int node = node(lock, subclass);
        for (int i = mine.depth - 1; i >= 0; i--) {
            if (mine.locks[i] == lock && !(recursive && mine.shared[i])) {
                throw violation("is taken by its holder", lock, mine, "");
            }
            if (mine.locks[i].lockClass.spins && !lock.lockClass.spins) {
                throw violation("sleeps and is taken under " + mine.locks[i].name() + ", which spins", lock, mine, "");
            }
            if (mine.nodes[i] == node) {
                if (!nested && !recursive) {
                    throw violation("is taken under another lock of its class without a subclass", lock, mine, "");
                }
                continue;
            }
            int kind = (mine.shared[i] ? HELD_SHARED : HELD_EXCLUSIVE) + (recursive ? TAKEN_RECURSIVELY : 0);
            if ((edges[mine.nodes[i]][node] & (1 << kind)) == 0) {
                addEdge(mine, mine.nodes[i], node, kind, lock);
            }
        }
    }

    void acquired(HostLock lock, int subclass, boolean shared) {
        mine().push(lock, node(lock, subclass), shared);
    }

    void released(HostLock lock, boolean shared) {
        if (!mine().remove(lock, shared)) {
            throw new IllegalStateException(lock.name() + " is released by " + me() + ", who does not hold it");
        }
    }

    /// The current host thread waits for `lock`; null: not any more.
    void waiting(HostLock lock) {
        mine().waitsFor = lock;
    }

    boolean isHeldByMe(HostLock lock) {
        return mine().holds(lock);
    }

    List<HostThread> holders(HostLock lock) {
        var result = new ArrayList<HostThread>();
        for (int i = 1; i < threads.size(); i++) {
            if (threads.get(i).holds(lock)) {
                result.add(scheduler.threads().get(i - 1));
            }
        }
        return result;
    }

    // --- what others ask

    /// The locks that a host thread holds, in the order in which it took them.
    ///
    /// @param thread null for code outside of every host thread
    public List<HostLock> heldBy(HostThread thread) {
        var held = held(thread);
        return List.of(Arrays.copyOf(held.locks, held.depth));
    }

    /// Every host thread that holds or awaits a lock, one a line; empty when none does.
    public String report() {
        var text = new StringBuilder();
        for (int i = 0; i < threads.size(); i++) {
            var held = threads.get(i);
            if (held.depth != 0 || held.waitsFor != null) {
                text.append(i == 0 ? "outside" : scheduler.threads().get(i - 1).name()).append(" holds ").append(held.chain());
                if (held.waitsFor != null) {
                    text.append(", waits for ").append(held.waitsFor.name());
                }
                text.append('\n');
            }
        }
        return text.toString();
    }

    // --- the graph

    private void addEdge(HeldLocks mine, int from, int to, int kind, HostLock lock) {
        var back = pathBack(to, from, kind);
        if (back != null) {
            throw violation("is taken in an order that can deadlock", lock, mine, back);
        }
        edges[from][to] |= (byte) (1 << kind);
        witnesses.putIfAbsent(((long) from << 32) | to, me() + " took " + nodeName(to) + " while it held " + mine.chain());
    }

    /// Searches a way along which `to` leads back to `from` so that every lock on the cycle can block: a lock that is entered
    /// recursively does not block on one that is held shared.
    ///
    /// @return the witnesses of the way, or null when there is none
    private String pathBack(int to, int from, int newKind) {
        // A state is a node and whether it was entered recursively; the first is `to` as the new edge enters it.
        int start = 2 * to + (newKind >= TAKEN_RECURSIVELY ? 1 : 0);
        boolean newHoldsShared = (newKind & HELD_SHARED) != 0;
        int[] cameFrom = new int[2 * edges.length];
        Arrays.fill(cameFrom, -1);
        var open = new ArrayDeque<Integer>();
        open.add(start);
        cameFrom[start] = start;
        while (!open.isEmpty()) {
            int state = open.poll();
            int node = state >> 1;
            boolean enteredRecursively = (state & 1) != 0;
            for (int next = 0; next < edges.length; next++) {
                for (int kind = 0; kind < KINDS; kind++) {
                    if ((edges[node][next] & (1 << kind)) == 0 || (enteredRecursively && (kind & HELD_SHARED) != 0)) {
                        continue;
                    }
                    boolean recursively = kind >= TAKEN_RECURSIVELY;
                    if (next == from && !(recursively && newHoldsShared)) {
                        return wayTo(state, next, cameFrom);
                    }
                    int reached = (2 * next) + (recursively ? 1 : 0);
                    if (cameFrom[reached] < 0) {
                        cameFrom[reached] = state;
                        open.add(reached);
                    }
                }
            }
        }
        return null;
    }

    private String wayTo(int state, int end, int[] cameFrom) {
        var text = new StringBuilder();
        int to = end;
        for (int at = state;; at = cameFrom[at]) {
            text.insert(0, "\n  before: " + witnesses.get(((long) (at >> 1) << 32) | to));
            to = at >> 1;
            if (cameFrom[at] == at) {
                return text.toString();
            }
        }
    }

    private LockOrderViolation violation(String what, HostLock lock, HeldLocks mine, String before) {
        return new LockOrderViolation(lock.name() + " " + what + "\n  now: " + me() + " takes " + lock.name() + " while it holds "
                + mine.chain() + before);
    }

    private static int node(HostLock lock, int subclass) {
        if (subclass < 0 || subclass >= LockClass.SUBCLASSES) {
            throw new IllegalArgumentException("subclass " + subclass + " of " + lock.name());
        }
        return lock.lockClass.id * LockClass.SUBCLASSES + subclass;
    }

    private String nodeName(int node) {
        int subclass = node % LockClass.SUBCLASSES;
        return classes.get(node / LockClass.SUBCLASSES).name() + (subclass == 0 ? "" : "/" + subclass);
    }

    private String me() {
        var self = scheduler.current();
        return self == null ? "code outside of every host thread" : self.name();
    }

    private HeldLocks mine() {
        return held(scheduler.current());
    }

    private HeldLocks held(HostThread thread) {
        int at = thread == null ? 0 : thread.id() + 1;
        while (threads.size() <= at) {
            threads.add(new HeldLocks());
        }
        return threads.get(at);
    }

    /// What one host thread holds, in order.
    private static final class HeldLocks {
        HostLock[] locks = new HostLock[8];
        int[] nodes = new int[8];
        boolean[] shared = new boolean[8];
        int depth;
        HostLock waitsFor;

        void push(HostLock lock, int node, boolean isShared) {
            if (depth == locks.length) {
                locks = Arrays.copyOf(locks, 2 * depth);
                nodes = Arrays.copyOf(nodes, 2 * depth);
                shared = Arrays.copyOf(shared, 2 * depth);
            }
            locks[depth] = lock;
            nodes[depth] = node;
            shared[depth] = isShared;
            depth++;
        }

        boolean remove(HostLock lock, boolean isShared) {
            for (int i = depth - 1; i >= 0; i--) {
                if (locks[i] == lock && shared[i] == isShared) {
                    depth--;
                    System.arraycopy(locks, i + 1, locks, i, depth - i);
                    System.arraycopy(nodes, i + 1, nodes, i, depth - i);
                    System.arraycopy(shared, i + 1, shared, i, depth - i);
                    locks[depth] = null;
                    return true;
                }
            }
            return false;
        }

        boolean holds(HostLock lock) {
            for (int i = 0; i < depth; i++) {
                if (locks[i] == lock) {
                    return true;
                }
            }
            return false;
        }

        String chain() {
            if (depth == 0) {
                return "nothing";
            }
            var text = new StringBuilder();
            for (int i = 0; i < depth; i++) {
                text.append(i == 0 ? "" : ", ").append(locks[i].name()).append(shared[i] ? " (shared)" : "");
            }
            return text.toString();
        }
    }
}
