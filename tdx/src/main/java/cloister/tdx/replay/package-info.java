/// Replays recorded behaviour of the TDX module step by step.
package cloister.tdx.replay;
