/// The typed KVM uAPI: what /dev/kvm, its VM and vCPU file descriptors offer, as interfaces and records. Names, checks and
/// error numbers follow upstream Linux. [LINUX Documentation/virt/kvm/api.rst]
package cloister.kvm;
