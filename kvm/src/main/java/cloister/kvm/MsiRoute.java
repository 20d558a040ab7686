package cloister.kvm;

/// A KVM_IRQ_ROUTING_MSI entry: what a GSI sends.
///
/// @param gsi     global system interrupt number
/// @param address MSI address; bits 63:40 hold APIC id bits 31:8 when the X2APIC_API capability says so
/// @param data    MSI data
public record MsiRoute(int gsi, long address, int data) {
}
