/// Ordinary VMs: their VMCS, their exits.
package cloister.kvm.vmx;
