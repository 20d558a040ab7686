package cloister.kvm.irq;

import cloister.memory.HostMemory;

/// The 64 words of a local APIC's register file: in a platform frame, where the processor virtualises them as the virtual-APIC
/// page, or KVM's own.
public interface ApicPage {
    int WORDS = 64;

    /// The register at `offset`, a multiple of 16.
    int read(int offset);

    /// Sets it.
    void write(int offset, int value);

    /// Registers that no processor looks at.
    static ApicPage own() {
        int[] words = new int[WORDS];
        return new ApicPage() {
            @Override public int read(int offset) {
                return words[offset >> 4];
            }

            @Override public void write(int offset, int value) {
                words[offset >> 4] = value;
            }
        };
    }

    /// Registers in the frame at `pa`.
    static ApicPage at(HostMemory memory, long pa) {
        return new ApicPage() {
            @Override public int read(int offset) {
                return (int) memory.read(pa + offset, 4);
            }

            @Override public void write(int offset, int value) {
                memory.write(pa + offset, 4, value);
            }
        };
    }
}
