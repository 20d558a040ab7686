/// The machine below all software: [cloister.platform.Platform] puts processors, memory, time and the TDX module together.
package cloister.platform;
