package cloister.cpu;

import cloister.memory.PhysicalMemory;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;

/// One frame that is used with two memory types at a time, one of which caches it and the other not: without self-snoop, and for
/// devices that do not snoop, its content is then not what either user thinks. [SDM Vol. 3 "Programming the PAT"]
///
/// @param framePa    the frame
/// @param cached     a translation through which it may be cached
/// @param notCached  one through which it is not
public record MixedType(long framePa, CachedTranslation cached, CachedTranslation notCached) {
    /// The frames with mixed types among the translations of any number of processors, in the order in which they are met, each once.
    public static List<MixedType> find(Collection<CachedTranslation> translations) {
        var first = new HashMap<Long, CachedTranslation>();
        var mixed = new HashMap<Long, MixedType>();
        var result = new ArrayList<MixedType>();
        for (var translation : translations) {
            long frame = PhysicalMemory.pa(translation.hpa());
            var other = first.putIfAbsent(frame, translation);
            if (other != null && other.isCacheable() != translation.isCacheable() && !mixed.containsKey(frame)) {
                var found = other.isCacheable() ? new MixedType(frame, other, translation) : new MixedType(frame, translation, other);
                mixed.put(frame, found);
                result.add(found);
            }
        }
        return List.copyOf(result);
    }
}
