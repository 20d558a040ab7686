/// The instruction emulator, over the machine interface that it declares.
package cloister.kvm.emulate;
