/// Recorded behaviour of the TDX module, replayed on ours. [VECTORS]
package cloister.tdx.vectors;
