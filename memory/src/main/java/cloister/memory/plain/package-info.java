/// Access behind the memory controller, for the modules that model silicon.
package cloister.memory.plain;
