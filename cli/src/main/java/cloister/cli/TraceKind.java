package cloister.cli;

import cloister.vmm.MachineObserver;

/// What `--trace` can show.
enum TraceKind {
    seamcall, tdcall, exits, sept, user;

    static TraceKind of(MachineObserver.Kind kind) {
        return switch (kind) {
            case SEAMCALL -> seamcall;
            case TDCALL -> tdcall;
            case VM_EXIT -> exits;
            case SEPT -> sept;
            case USER_EXIT -> user;
        };
    }
}
