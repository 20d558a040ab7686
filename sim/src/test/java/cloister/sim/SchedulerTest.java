package cloister.sim;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(20)
class SchedulerTest {
    private enum Kind { ONLY }

    private final VirtualClock clock = new VirtualClock(1_000_000_000);
    private final Scheduler scheduler = new Scheduler(clock, new RoundRobin(), Scheduler.IdlePace.SKIP);
    private final List<String> seen = new ArrayList<>();

    @Test void slicesAlternateAndOtherPointsDoNot() {
        for (String name : new String[] {"a", "b"}) {
            scheduler.spawn(name, () -> {
                for (int i = 0; i < 3; i++) {
                    seen.add(name + i);
                    scheduler.switchPoint(SwitchPoint.TRY_LOCK);
                    scheduler.switchPoint(SwitchPoint.GUEST_SLICE);
                }
            });
        }
        scheduler.run();
        assertThat(seen).containsExactly("a0", "b0", "a1", "b1", "a2", "b2");
        assertThat(scheduler.stalled()).isFalse();
    }

    @Test void whoYieldsGivesWay() {
        for (String name : new String[] {"a", "b", "c"}) {
            scheduler.spawn(name, () -> {
                for (int i = 0; i < 2; i++) {
                    seen.add(name + i);
                    scheduler.switchPoint(SwitchPoint.LOCK, this, 0);
                    scheduler.switchPoint(SwitchPoint.YIELD);
                }
            });
        }
        scheduler.run();
        assertThat(seen).containsExactly("a0", "b0", "c0", "a1", "b1", "c1");
    }

    @Test void theObserverHearsWhatEachPointIsAbout() {
        var lock = new Object();
        scheduler.observer((thread, kind, owner, where) -> seen.add(thread + " " + kind + " " + (owner == lock) + " " + where));
        scheduler.spawn("a", () -> {
            scheduler.switchPoint(SwitchPoint.TRY_LOCK, lock, 0x1000);
            scheduler.switchPoint(SwitchPoint.YIELD);
        });
        scheduler.run();
        assertThat(seen).containsExactly("a TRY_LOCK true 4096", "a YIELD false 0");
    }

    /// The list that strategies see is kept up to date by hand: after any mixture of waits and ends it is the runnable threads, in order.
    @Test void theRunnableThreadsStayInOrderOfCreation() {
        var random = new Entropy(3);
        var threads = new ArrayList<HostThread>();
        var checking = new Scheduler(clock, new SchedulingStrategy() {
            @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where,
                    List<HostThread> runnable) {
                return next(current, runnable);
            }

            @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
                assertThat(runnable).hasSizeGreaterThan(1).isEqualTo(
                        threads.stream().filter(t -> t.state == HostThread.State.RUNNABLE).toList());
                return runnable.get(random.nextInt(runnable.size()));
            }
        }, Scheduler.IdlePace.SKIP);
        for (int n = 0; n < 5; n++) {
            threads.add(checking.spawn("t" + n, () -> {
                for (int i = 0; i < 40; i++) {
                    checking.unpark(threads.get(random.nextInt(5)));
                    checking.switchPoint(SwitchPoint.ATOMIC);
                    if (random.nextInt(3) == 0 && threads.stream().filter(t -> t.state == HostThread.State.RUNNABLE).count() > 1) {
                        checking.park();
                    }
                }
                threads.forEach(checking::unpark);
                seen.add("ended");
            }));
        }
        checking.run();
        assertThat(seen).hasSize(5);
    }

    @Test void aRandomWalkRepeatsItselfAndVisitsMoreThanOneOrder() {
        var orders = new HashSet<List<String>>();
        for (long seed = 0; seed < 8; seed++) {
            var first = walk(seed);
            assertThat(walk(seed)).isEqualTo(first);
            orders.add(first);
        }
        assertThat(orders).hasSizeGreaterThan(4);
    }

    private static List<String> walk(long seed) {
        var order = new ArrayList<String>();
        var walking = new Scheduler(new VirtualClock(1), new RandomWalk(seed, 2), Scheduler.IdlePace.SKIP);
        for (String name : new String[] {"a", "b", "c"}) {
            walking.spawn(name, () -> {
                for (int i = 0; i < 4; i++) {
                    order.add(name + i);
                    walking.switchPoint(i == 2 ? SwitchPoint.YIELD : SwitchPoint.LOCK);
                }
            });
        }
        walking.run();
        return order;
    }

    /// To strategies that do not explore there are no points where the TDX module holds a lock: no one is asked, no one is told.
    @Test void heldLocksArePointsForExplorersOnly() {
        for (var strategy : List.of(new RoundRobin(), new RandomWalk(1, 1), new ContendedRoundRobin())) {
            var points = new ArrayList<SwitchPoint>();
            var order = new ArrayList<String>();
            var one = new Scheduler(new VirtualClock(1), strategy, Scheduler.IdlePace.SKIP);
            one.observer((thread, kind, owner, where) -> points.add(kind));
            for (String name : new String[] {"a", "b"}) {
                one.spawn(name, () -> {
                    for (int i = 0; i < 20; i++) {
                        order.add(name);
                        one.locked(this, i);
                    }
                });
            }
            one.run();
            boolean explores = !(strategy instanceof RoundRobin);
            assertThat(points).hasSize(explores ? 40 : 0).allMatch(point -> point == SwitchPoint.LOCKED);
            assertThat(order.indexOf("b")).as(strategy.toString()).isLessThanOrEqualTo(20);
            if (strategy instanceof RandomWalk) {
                assertThat(order.indexOf("b")).isLessThan(20);
            }
        }
    }

    /// Before the later thread tries a lock, the earlier one takes it: the later never finds it free.
    @Test void theContendedScheduleLetsEarlierThreadsHaveTheLockFirst() {
        var contended = new Scheduler(clock, new ContendedRoundRobin(), Scheduler.IdlePace.SKIP);
        var held = new boolean[1];
        var lock = new Object();
        contended.spawn("earlier", () -> {
            for (int i = 0; i < 20; i++) {
                contended.switchPoint(SwitchPoint.TRY_LOCK, lock, 8);
                held[0] = true;
                contended.locked(lock, 8);
                held[0] = false;
                contended.switchPoint(SwitchPoint.YIELD);
            }
        });
        contended.spawn("later", () -> {
            for (int i = 0; i < 10; i++) {
                contended.switchPoint(SwitchPoint.TRY_LOCK, lock, 8);
                seen.add(held[0] ? "busy" : "free");
                contended.switchPoint(SwitchPoint.YIELD);
            }
        });
        contended.run();
        assertThat(seen).hasSize(10).containsOnly("busy");
    }

    @Test void timeSkipsWhenAllWait() {
        var waiter = new HostThread[1];
        waiter[0] = scheduler.spawn("a", () -> {
            clock.schedule(5_000, _ -> scheduler.unpark(waiter[0]), Kind.ONLY);
            scheduler.park();
            seen.add("woken at " + clock.now());
        });
        scheduler.run();
        assertThat(seen).containsExactly("woken at 5000");
    }

    @Test void aLookEndsNoWaitAndNoTime() {
        var waiter = new HostThread[1];
        scheduler.lookAt(1_000, () -> seen.add("look at " + clock.now()));
        scheduler.lookAt(9_000, () -> seen.add("too late"));
        waiter[0] = scheduler.spawn("a", () -> {
            clock.schedule(5_000, _ -> scheduler.unpark(waiter[0]), Kind.ONLY);
            scheduler.park();
            seen.add("woken at " + clock.now());
        });
        scheduler.run();
        assertThat(seen).containsExactly("look at 5000", "woken at 5000");
    }

    @Test void everyChangeOfTheBatonIsSeen() {
        scheduler.batonObserver((from, to, waits) -> seen.add(from + ">" + to + (waits ? " waits" : "")));
        for (String name : new String[] {"a", "b"}) {
            scheduler.spawn(name, () -> {
                scheduler.switchPoint(SwitchPoint.GUEST_SLICE);
                scheduler.switchPoint(SwitchPoint.TRY_LOCK);
            });
        }
        scheduler.run();
        assertThat(seen).containsExactly("null>a waits", "a>b", "b>a", "a>b waits");
    }

    @Test void aWakeUpBeforeTheWaitIsNotLost() {
        scheduler.spawn("a", () -> {
            scheduler.unpark(scheduler.current());
            scheduler.park();
            seen.add("on");
        });
        scheduler.run();
        assertThat(seen).containsExactly("on");
    }

    @Test void waitingForNothingIsAStall() {
        scheduler.spawn("a", scheduler::park);
        scheduler.run();
        assertThat(scheduler.stalled()).isTrue();
    }

    @Test void theOutsideCanWakeAParkedPlatform() {
        scheduler.expectOutside(true);
        var waiter = scheduler.spawn("a", () -> {
            scheduler.park();
            seen.add("woken");
        });
        Thread.ofVirtual().start(() -> scheduler.post(() -> scheduler.unpark(waiter)));
        scheduler.run();
        assertThat(seen).containsExactly("woken");
    }

    @Test void aFailureEndsTheRun() {
        scheduler.spawn("a", () -> {
            throw new IllegalStateException("broken");
        });
        scheduler.spawn("b", scheduler::park);
        assertThatThrownBy(scheduler::run).hasMessage("broken");
    }

    @Test void entropyStreamsDependOnSeedAndNameOnly() {
        var one = new Entropy(7);
        var other = new Entropy(7);
        other.nextLong();
        assertThat(one.stream("rdrand").nextLong()).isEqualTo(new Entropy(7).stream("rdrand").nextLong())
                .isNotEqualTo(one.stream("keys").nextLong()).isNotEqualTo(new Entropy(8).stream("rdrand").nextLong());
    }
}
