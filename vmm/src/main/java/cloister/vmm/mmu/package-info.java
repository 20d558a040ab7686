/// The fuzzer of KVM's memory side: random operations of the VMM, accesses by real guests, and a model that says what each must see.
package cloister.vmm.mmu;
