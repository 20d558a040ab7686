/// The x87 FPU, MMX, SSE to SSE4.2, AES, PCLMULQDQ and SHA instructions, FXSAVE and the XSAVE family, and the registers
/// that they work on. Engines enter through [FpuInstructions], hosts through [FpuState] and [XsaveArea].
///
/// Arithmetic is exact: results, flags and NaNs for every rounding mode, precision and mask agree with silicon (the tests
/// hold recorded vectors). What is model rather than silicon:
///
/// - RCPSS, RCPPS, RSQRTSS, RSQRTPS return the result rounded to 12 significand bits. Intel's tables are not published; both
///   keep the architectural bound of 1.5 * 2^-12, the bits differ.
/// - The transcendental x87 instructions are correctly rounded but for rare cases; silicon may be one unit in the last
///   place away, and C1 differs with it. Where the manual leaves the result undefined (F2XM1 and FYL2XP1 out of
///   range) ours is F2XM1's operand and FYL2XP1's indefinite value.
/// - FPREM and FPREM1 reduce exponents that are 64 or more apart by 32 to 63 a step, as the manual allows.
/// - The modified optimisation of XSAVEOPT and XSAVES does not exist.
/// - An unmasked x87 exception with CR0.NE clear stops the run: FERR# and IGNNE# are not wired.
package cloister.cpu.fpu;
