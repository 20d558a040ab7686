package cloister.cli;

import cloister.tdx.inspect.ModuleSnapshot;
import cloister.vmm.Machine;
import cloister.vmm.observe.MemoryTypes;

/// What a dump shows of a platform at one moment.
///
/// @param module      what the TDX module knows
/// @param memoryTypes how the processors use memory
record Dump(ModuleSnapshot module, MemoryTypes memoryTypes) {
    /// Taken as [Machine#inspect] says.
    static Dump of(Machine machine) {
        return new Dump(machine.inspect(), machine.memoryTypes());
    }
}
