/// Interrupt controllers in the kernel: local APICs, the bus between them, posted interrupts.
package cloister.kvm.irq;
