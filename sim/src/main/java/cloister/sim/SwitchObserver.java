package cloister.sim;

/// Sees every switch point before the strategy is asked, for traces and for exploration, which must know what a step is about.
/// It looks and changes nothing.
@FunctionalInterface
public interface SwitchObserver {
    /// A host thread reached a point.
    ///
    /// @param thread who; null outside a run
    /// @param kind   what it is about to do or has done
    /// @param owner  whose point it is: two points are about the same thing when owner and `where` are equal; null for nobody's
    /// @param where  tells the parts of `owner` apart (a physical address, a leaf number), 0 when it has none
    void reached(HostThread thread, SwitchPoint kind, Object owner, long where);
}
