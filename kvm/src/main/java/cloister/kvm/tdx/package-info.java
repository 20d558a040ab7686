/// Trust domains: SEAMCALL wrappers, the TDX module's bring-up, the Secure EPT, TDs and their vCPUs.
package cloister.kvm.tdx;
