/// Every source of nondeterminism: virtual clock, entropy, scheduler of host threads.
module cloister.sim {
    requires transitive cloister.spec;
    exports cloister.sim;
}
