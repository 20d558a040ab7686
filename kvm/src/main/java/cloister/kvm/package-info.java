/// See module-info.
package cloister.kvm;
