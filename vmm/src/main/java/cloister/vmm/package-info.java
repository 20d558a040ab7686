/// See module-info.
package cloister.vmm;
