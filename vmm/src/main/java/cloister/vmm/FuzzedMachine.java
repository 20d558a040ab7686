package cloister.vmm;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.PlatformObserver;
import cloister.cpu.vmx.Vmcs;
import cloister.devices.AcpiPm;
import cloister.kvm.KvmRegs;
import cloister.kvm.KvmSegment;
import cloister.kvm.KvmVcpu;
import cloister.kvm.UserMemory;
import cloister.sim.TimerOwner;
import cloister.sim.VirtualClock;
import cloister.vmm.fuzz.GuestProgram;
import cloister.vmm.fuzz.ProgramImage;
import java.util.Arrays;

/// Runs programs of the fuzzer one after the other on one host and looks whether anything broke.
final class FuzzedMachine {
    /// Virtual time that a program gets, in ticks: retired instructions and skipped waits.
    private static final long BUDGET_TICKS = 10_000;
    /// VM exits that a program gets.
    private static final long EXITS = 1_000;
    /// Switch points that a program gets.
    private static final long SWITCH_POINTS = 50_000;
    private static final long MEMORY_BYTES = 2 << 20;
    private static final long HOST_BYTES = 96 << 20;
    private static final int CANARY_BYTES = 0x4000;

    private final Host host;
    private final byte[] canary = new byte[CANARY_BYTES];
    private final byte[] seen = new byte[CANARY_BYTES];
    private final long[] canaries = new long[2];
    private long exitsLeft;
    private long switchPointsLeft;
    private Machine running;

    /// @param host runs nothing else
    FuzzedMachine(Host host) {
        this.host = host;
        host.observer(new PlatformObserver() {
            @Override public void vmExit(LogicalProcessor lp, Vmcs vmcs) {
                if (--exitsLeft == 0 && running != null) {
                    running.end(new Outcome.TimedOut());
                }
            }
        });
        host.scheduler().observer((thread, point, owner, where) -> {
            if (--switchPointsLeft == 0 && running != null) { // a MapGPA of terabytes has many, and takes no virtual time
                running.end(new Outcome.TimedOut());
            }
        });
        for (int n = 0; n < CANARY_BYTES; n++) {
            canary[n] = (byte) (n * 31 + 7);
        }
        canaries[0] = newCanary();
    }

    private UserMemory user() {
        return host.kvm().userMemory();
    }

    private long newCanary() {
        long address = user().map(CANARY_BYTES);
        user().write(address, canary, 0, CANARY_BYTES);
        return address;
    }

    /// Ends a machine whose time is up.
    private record Budget(Machine machine) implements TimerOwner<Budget.Kind> {
        enum Kind {
            SPENT
        }

        @Override public void timerFired(Kind kind) {
            machine.end(new Outcome.TimedOut());
        }
    }

    /// A host for [#FuzzedMachine(Host)].
    static Host host() {
        return Host.createSmall(config(GuestProgram.Start.TD), HOST_BYTES);
    }

    private static MachineConfig config(GuestProgram.Start start) {
        var config = new MachineConfig().vmType(start.isTd() ? VmType.TDX : VmType.DEFAULT).memoryBytes(MEMORY_BYTES);
        config.septVeDisable = start == GuestProgram.Start.TD;
        config.measured = false; // nothing that a guest can do depends on it, and it takes half the time
        return config;
    }

    /// Runs `program`.
    ///
    /// @return how it ended; [FuzzVerdict#broken] tells what no program may do
    FuzzVerdict run(GuestProgram program) {
        var machine = new Machine(config(program.start()), image(program), host);
        switch (program.start()) {
            case PROTECTED -> startProtected(machine.firstVcpu());
            case REAL -> startReal(machine.firstVcpu());
            case TD, TD_VE, LONG -> { }
        }
        canaries[1] = newCanary();
        VirtualClock clock = host.clock();
        var budget = clock.schedule(clock.now() + BUDGET_TICKS, new Budget(machine), Budget.Kind.SPENT);
        exitsLeft = EXITS;
        switchPointsLeft = SWITCH_POINTS;
        running = machine;
        var outcome = machine.runHere();
        running = null;
        budget.cancel();
        long leaked = machine.tearDown();
        long kept = machine.release();
        String broken = switch (outcome) {
            case Outcome.InternalError(String text) -> text;
            case Outcome.MissingFeature(String text) when !MissingFeatures.isNamed(text) -> text;
            // Linux reclaims a dead TD's pages once its KeyID is free; our KVM blocks and removes them first, which a dead TD refuses.
            case Outcome.GuestFault(String text) when text.contains(GuestFaults.CANNOT_BE_ENTERED) -> null;
            default -> leaked != 0 ? leaked + " pages were not reclaimed"
                : kept != 0 ? kept + " pages are still the TDX module's" : null;
        };
        if (broken == null && !canariesLive()) {
            broken = "the guest changed the host's memory";
        }
        user().unmap(canaries[1]);
        return new FuzzVerdict(outcome, broken);
    }

    private boolean canariesLive() {
        for (long address : canaries) {
            user().read(address, seen, 0, CANARY_BYTES);
            if (!Arrays.equals(seen, canary)) {
                return false;
            }
        }
        return true;
    }

    private static GuestImage image(GuestProgram program) {
        var image = GuestImage.withOwnReset(ProgramImage.ENTRY_GPA);
        for (var part : ProgramImage.of(program, AcpiPm.CONTROL_BLOCK)) {
            image.add("program", part.gpa(), part.bytes());
        }
        return image;
    }

    private static void startProtected(KvmVcpu vcpu) {
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.flat(ProgramImage.CODE32, 0xb);
        sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = KvmSegment.flat(ProgramImage.DATA, 3);
        sregs.gdtBase = ProgramImage.GDT_GPA;
        sregs.gdtLimit = ProgramImage.GDT_LIMIT;
        sregs.idtBase = ProgramImage.IDT_GPA;
        sregs.idtLimit = 0x7ff;
        sregs.tr = new KvmSegment(ProgramImage.TASK32_BASE, 0x67, ProgramImage.TASK32, 0xb, true, 0, false, false, false, false,
                false, false);
        sregs.cr0 = 0x31;
        sregs.cr3 = 0;
        sregs.cr4 = 0;
        sregs.efer = 0;
        vcpu.setSregs(sregs);
        var regs = new KvmRegs();
        regs.rip = ProgramImage.ENTRY_GPA + 0x100;
        vcpu.setRegs(regs);
    }

    private static void startReal(KvmVcpu vcpu) {
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.realMode(ProgramImage.REAL_SEGMENT, 0xb);
        sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = KvmSegment.realMode(0x2000, 3);
        sregs.idtBase = 0;
        sregs.idtLimit = 0x3ff;
        sregs.cr0 = 0x30;
        sregs.cr3 = 0;
        sregs.cr4 = 0;
        sregs.efer = 0;
        vcpu.setSregs(sregs);
        var regs = new KvmRegs();
        regs.rsp = 0xfff0;
        vcpu.setRegs(regs);
    }
}
