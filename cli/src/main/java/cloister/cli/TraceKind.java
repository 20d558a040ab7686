package cloister.cli;

/// What `--trace` can show.
enum TraceKind {
    seamcall, tdcall, exits, sept, user
}
