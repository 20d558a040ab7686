/// Traces of runs: what is wanted, and how it is written.
package cloister.cli.trace;
