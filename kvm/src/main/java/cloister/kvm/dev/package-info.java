/// The loaded module: /dev/kvm, which knows the kinds of VM.
package cloister.kvm.dev;
