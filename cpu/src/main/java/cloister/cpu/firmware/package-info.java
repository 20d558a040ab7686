/// What firmware may do with a logical processor and an operating system may not.
package cloister.cpu.firmware;
