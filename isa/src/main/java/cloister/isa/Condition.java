package cloister.isa;

/// Condition codes in encoding order. [SDM Vol. 2 "Condition Codes"]
public enum Condition {
    O, NO, B, AE, E, NE, BE, A, S, NS, P, NP, L, GE, LE, G
}
