package cloister.tdx.core;

/// How a lock is held.
public enum LockMode { NONE, SHARED, EXCLUSIVE }
