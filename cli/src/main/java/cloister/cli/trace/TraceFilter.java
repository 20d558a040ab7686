package cloister.cli.trace;

import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.util.Arrays;
import java.util.Locale;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/// One word of `--trace`: a kind, or a kind and a name such as `seamcall:MEM.PAGE.AUG`. A star at the end of the name stands for the rest.
///
/// @param kind   the kind
/// @param name   the name in capitals, without TDH. or TDG.; empty for all
/// @param prefix whether the name is only a beginning
public record TraceFilter(TraceKind kind, String name, boolean prefix) {
    /// What has no name is told by its number.
    private static final Pattern UNNAMED = Pattern.compile("(?:SEAMCALL |TDCALL |0X)?[0-9A-F]*[0-9][0-9A-F]*\\*?");

    /// @throws IllegalArgumentException with a message for people when `text` is none
    public static TraceFilter of(String text) {
        int colon = text.indexOf(':');
        String kind = colon < 0 ? text : text.substring(0, colon);
        var found = Arrays.stream(TraceKind.values()).filter(k -> k.label().equalsIgnoreCase(kind)).findFirst().orElseThrow(()
                -> new IllegalArgumentException("there is no kind of trace '" + kind + "': choose of "
                        + Arrays.stream(TraceKind.values()).map(TraceKind::label).collect(Collectors.joining(", "))));
        if (colon < 0) {
            return new TraceFilter(found, "", true);
        }
        String name = bare(text.substring(colon + 1).toUpperCase(Locale.ROOT));
        boolean prefix = name.endsWith("*");
        if (name.isEmpty()) {
            throw new IllegalArgumentException("'" + text + "' names nothing after the colon: leave the colon out for all");
        }
        var filter = new TraceFilter(found, prefix ? name.substring(0, name.length() - 1) : name, prefix);
        var names = found.names();
        if (!names.isEmpty() && !UNNAMED.matcher(name).matches() && names.stream().noneMatch(filter::isNamed)) {
            throw new IllegalArgumentException("there is no " + found.label() + " '" + name + "': choose of " + these(names));
        }
        return filter;
    }

    private static String these(Set<String> names) {
        return names.stream().map(TraceFilter::bare).filter(n -> !UNNAMED.matcher(n).matches()).sorted().collect(Collectors.joining(", "));
    }

    private static String bare(String name) {
        return name.startsWith("TDH.") || name.startsWith("TDG.") ? name.substring(4) : name;
    }

    /// Whether the event is wanted.
    public boolean matches(TraceEvent event) {
        boolean kindMatches = switch (kind) {
            case SEPT -> event instanceof TraceEvent.SeamcallEntry || event instanceof TraceEvent.SeamcallReturn;
            case TDCALL -> event.kind() == TraceKind.TDCALL || event.kind() == TraceKind.VMCALL;
            case LOCK -> event.kind() == TraceKind.LOCK || (event instanceof TraceEvent.SeamcallReturn call && call.busy());
            case SEAMCALL, VMCALL, EXITS, SCHED, CONSOLE, USER -> event.kind() == kind;
        };
        if (!kindMatches || (kind == TraceKind.SEPT && !event.name().startsWith("TDH.MEM."))) {
            return false;
        }
        return isNamed(event.name());
    }

    private boolean isNamed(String full) {
        String bare = bare(full);
        return prefix ? bare.regionMatches(true, 0, name, 0, name.length()) : bare.equalsIgnoreCase(name);
    }

    /// Whether events of `other` must be heard for this filter.
    public boolean needs(TraceKind other) {
        return other == kind || (kind == TraceKind.LOCK && other == TraceKind.SEAMCALL)
                || (kind == TraceKind.TDCALL && other == TraceKind.VMCALL);
    }
}
