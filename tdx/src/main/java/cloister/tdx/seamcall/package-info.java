/// Host-side leaf functions, one class each. [TDX-ABI "Host-Side (SEAMCALL) Interface Functions"]
package cloister.tdx.seamcall;
