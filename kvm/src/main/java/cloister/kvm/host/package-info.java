/// What KVM needs of the host kernel: page frames, the VMM's virtual memory, guest_memfd files.
package cloister.kvm.host;
