/// Guest-side leaf functions, one class each. [TDX-ABI "Guest-Side (TDCALL) Interface Functions"]
package cloister.tdx.tdcall;
