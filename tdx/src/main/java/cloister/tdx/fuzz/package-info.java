/// The fuzzer of the TDX module: random calls, invariants after each, shrinking.
package cloister.tdx.fuzz;
