/// Random guest programs.
package cloister.vmm.fuzz;
