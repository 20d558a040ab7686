/// VMs and vCPUs of the x86 architecture: run loop, interrupt controllers, MSRs, CPUID, instruction emulation, VMX.
package cloister.kvm.x86;
