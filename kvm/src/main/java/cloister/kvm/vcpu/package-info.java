/// What every kind of VM and vCPU has: ioctls, the run loop over the guest entry that a kind provides, requests, CPUID, MSRs.
package cloister.kvm.vcpu;
