package cloister.tdx.core;

/// How a lock is held.
enum LockMode { NONE, SHARED, EXCLUSIVE }
