/// The host's side of TDX: SEAMCALL wrappers and the bring-up of the TDX module. [LINUX arch/x86/virt/vmx/tdx]
package cloister.kvm.td;
