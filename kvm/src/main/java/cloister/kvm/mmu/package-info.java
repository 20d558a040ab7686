/// The MMU of the hypervisor: memory slots, memory attributes, and the two-dimensional-paging page tables.
package cloister.kvm.mmu;
