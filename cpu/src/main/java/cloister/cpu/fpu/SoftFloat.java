package cloister.cpu.fpu;
final class SoftFloat { static final int IE=1, DE=2, ZE=4, OE=8, UE=16, PE=32; }
