/// What can be seen of a run from outside: events for traces, costs for statistics. Nothing here takes part in the run.
package cloister.vmm.observe;
