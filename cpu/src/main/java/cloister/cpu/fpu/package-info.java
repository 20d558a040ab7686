/// The x87 FPU, MMX, SSE to SSE4.2, AES, PCLMULQDQ and SHA instructions, FXSAVE and the XSAVE family, and the registers
/// that they work on.
package cloister.cpu.fpu;
