package cloister.kvm;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.firmware.FirmwareAccess;
import cloister.kvm.dev.DevKvm;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.ApicRegister;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/// What KVM has of a VM or TD is data: it can be named, compared, and later kept. [ADR 31]
final class StateTest {
    /// Fields that are no state of the guest, and why.
    private static final Map<String, String> NO_STATE = """
            Vm.host wiring
            Vm.extensions wiring
            Vm.memory wiring
            Vm.counters statistics
            Vm.lock free while every host thread is at the top of its loop
            Vm.vcpuMutexes wiring
            Vm.maxVcpus constant
            Vm.list wiring
            TdVm.tdx wiring
            TdVm.seam wiring
            TdVm.sept wiring; the tables are the TDX module's, and it declares none
            Vcpu.vm wiring
            Vcpu.host wiring
            Vcpu.cpus wiring
            Vcpu.scheduler wiring
            Vcpu.cpuidResult scratch
            Vcpu.mutex free while every host thread is at the top of its loop
            Vcpu.cpu the host's: any processor will do
            Vcpu.state LEAVING outside KVM_RUN
            Vcpu.exit the last one is in kvm_run
            Vcpu.mode OUTSIDE_GUEST_MODE outside KVM_RUN
            Vcpu.thread the host's
            Vcpu.blocked false outside KVM_RUN
            Vcpu.woken looked at while the vCPU blocks only
            VmxVcpu.injection wiring
            VmxVcpu.msrBitmapPa derived from CPUID and the APIC's mode
            VmxVcpu.vpid the host's: any number will do
            VmxVcpu.apicPagePa the host's: the content is the local APIC's
            VmxVcpu.apicv constant
            VmxVcpu.ept constant
            VmxVcpu.hostContext the host's
            VmxVcpu.guestStateOn null: reading the state brings all of it here
            VmxVcpu.entryStatus looked at behind an entry only
            VmxVcpu.exitReason looked at behind an entry only
            TdVcpu.td wiring
            TdVcpu.seam wiring
            TdVcpu.hostContext the host's
            TdVcpu.associatedWith the host's: any processor will do
            TdVcpu.guestStateLoaded false outside KVM_RUN
            TdExits.vcpu wiring
            TdExits.td wiring
            TdExits.args wiring
            TdExits.run wiring
            LocalApic.owner wiring
            LocalApic.bus wiring
            LocalApic.clock wiring
            ApicBus.apics derived from the vCPUs
            PostedInterruptDescriptor.memory wiring
            GuestMsrs.machine wiring
            GuestMsrs.apic wiring
            GuestMsrs.cpuid wiring
            GuestMsrs.archCapabilities the processor's
            ControlRegisters.vcpu wiring
            ControlRegisters.vmcs wiring
            ControlRegisters.cr4Allowed the processor's
            ControlRegisters.ept constant
            ControlRegisters.cr4GuestOwned constant
            UserProgramMsrs.cpuid wiring
            UserProgramMsrs.msrs wiring
            ControlFlowMsrs.vmcs wiring
            ControlFlowMsrs.cpuid wiring
            ControlFlowMsrs.lp null when the guest's state is on no processor
            LoadedVmcs.cpus wiring
            LoadedVmcs.activeOn the host's
            LoadedVmcs.lp the host's
            LoadedVmcs.launched the host's
            VmxExits.vcpu wiring
            VmxExits.vmcs wiring
            VmxExits.gprs wiring
            VmxExits.paging wiring
            VmxExits.invalidState wiring, and what is worked out again
            VmxVm.type constant
            InstructionEmulator.machine wiring
            InstructionEmulator.processor loaded for each instruction
            PendingAccesses.machine wiring
            PendingAccesses.processor wiring
            PendingAccesses.answered the length of the answers
            PendingAccesses.portItemCount the end of the port items
            PendingAccesses.portItemsUsed their beginning
            PendingAccesses.left the beginning of the writes
            PendingAccesses.writes their end
            MemSlots.mmu wiring
            Mmu.activeInvalidations zero while every host thread is at the top of its loop
            Mmu.invalidationsInProgress zero while every host thread is at the top of its loop
            Mmu.invalidFirst looked at during an invalidation only
            Mmu.invalidEnd looked at during an invalidation only
            Mmu.dirtyLog wiring; the bitmaps are the slots'
            MemoryTypes.mmu wiring
            MemoryTypes.policy derived from the policies of the VM
            Mmu.external wiring
            Mmu.faultIn wiring
            Mmu.hugePages wiring
            Mmu.nxHugePages wiring
            Mmu.shadow derived: faults rebuild shadow pages
            Mmu.tracking wiring
            Mmu.mapsForL1 derived from the policies of the VM
            Mmu.module wiring
            Mmu.privateMemory constant
            Mmu.vm wiring
            Mmu.lock free while every host thread is at the top of its loop
            Mmu.slotsLock free while every host thread is at the top of its loop
            Mmu.slotReaders none while every host thread is at the top of its loop
            VcpuMmu.mmu wiring
            VcpuMmu.owner wiring
            VcpuMmu.fault scratch
            VcpuMmu.faultGpa scratch
            VcpuMmu.mmioCache a cache
            VcpuMmu.shadow derived: faults rebuild shadow pages
            """.lines().collect(Collectors.toMap(line -> line.substring(0, line.indexOf(' ')), line -> line));

    /// Takes a state down, and which objects declared which names.
    private static final class Reader implements StateSink {
        final Map<String, String> values = new LinkedHashMap<>();
        final Map<Persistent, Set<String>> declared = new LinkedHashMap<>();
        private Persistent current;
        private String path = "";

        static Reader of(Object object) {
            var reader = new Reader();
            reader.part((Persistent) object);
            return reader;
        }

        private void put(String name, String value) {
            declared.get(current).add(name);
            assertThat(values.put(path + name, value)).as("%s%s is declared twice", path, name).isNull();
        }

        @Override public void field(String name, long value) {
            put(name, Long.toHexString(value));
        }

        @Override public void words(String name, long... value) {
            put(name, Arrays.toString(value));
        }

        @Override public void text(String name, Object value) {
            put(name, String.valueOf(value));
        }

        @Override public void part(Persistent part) {
            String name = part.stateName();
            var outer = current;
            String outerPath = path;
            if (outer != null) {
                declared.get(outer).add(name);
            }
            current = part;
            declared.put(part, new HashSet<>());
            path = outerPath + name + ".";
            part.describe(this);
            current = outer;
            path = outerPath;
        }
    }

    /// The state of an ordinary VM at two quiescent points: an exit to the VMM that is not finished, then a timer that runs.
    private static List<Reader> ordinaryVm() {
        try (var guest = new ProtectedGuest()) {
            guest.load(ProtectedGuest.CODE, ProtectedGuest.end(ProtectedGuest.code().mov(EAX, 0x5a).in(AL, 0x60).out(DX, AL)
                    .mov(ECX, 0x1b).rdmsr().or(EAX, 1 << 10).wrmsr()
                    .mov(ECX, 0x832).mov(EAX, 0x51).xor(EDX, EDX).wrmsr().mov(ECX, 0x838).mov(EAX, 0x100_0000).wrmsr()).assemble());
            byte[] apic = guest.vcpu.getLapic();
            apic[ApicRegister.SPIV + 1] |= 1;
            guest.vcpu.setLapic(apic);
            var readers = new ArrayList<Reader>();
            guest.host.scheduler().spawn("vcpu", () -> {
                assertThat(guest.vcpu.run()).isInstanceOf(KvmExit.Io.class);
                readers.add(Reader.of(guest.vm));
                guest.vcpu.kvmRun().data[0] = 7;
                assertThat(guest.runOn()).isNull();
                readers.add(Reader.of(guest.vm));
            });
            guest.host.scheduler().run();
            return readers;
        }
    }

    /// That of a TD: as it is built, and with a MapGPA that the VMM has not answered.
    private static List<Reader> trustDomain() {
        try (var host = new TestHost(1)) {
            var module = new ScriptedModule();
            host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
            var kvm = DevKvm.open(host.environment());
            var vm = kvm.createVm(VmType.TDX);
            vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            vm.enableCap(KvmCap.EXIT_HYPERCALL, 1L << KvmAbi.HC_MAP_GPA_RANGE);
            vm.memoryEncryptOp(KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(1L << 28, 3, new byte[48], new byte[48], new byte[48],
                    List.of(new CpuidEntry(0x8000_0008, 0, 0, 48 << 16, 0, 0, 0)))));
            var vcpu = vm.createVcpu(0);
            vcpu.setCpuid2(kvm.supportedCpuid());
            vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
            vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
            var readers = new ArrayList<Reader>();
            readers.add(Reader.of(vm));
            module.exits.add(ScriptedModule.tdvmcall(30, 4, 0, 0x3f8));
            host.scheduler().spawn("vcpu", () -> {
                assertThat(vcpu.run()).isInstanceOf(KvmExit.Io.class);
                readers.add(Reader.of(vm));
            });
            host.scheduler().run();
            return readers;
        }
    }

    @Test void twoRunsHaveTheSameStateAtEachQuiescentPoint() {
        compare(ordinaryVm(), ordinaryVm());
        compare(trustDomain(), trustDomain());
    }

    private static void compare(List<Reader> first, List<Reader> second) {
        assertThat(first).hasSize(2);
        for (int i = 0; i < 2; i++) {
            assertThat(second.get(i).values).isEqualTo(first.get(i).values);
        }
        assertThat(first.get(1).values).as("what happened in between is in the state").isNotEqualTo(first.get(0).values);
    }

    @Test void theStateSaysWhatWaits() {
        var vm = ordinaryVm();
        assertThat(vm.getFirst().values.values()).contains("PortRead[size=1]");
        assertThat(vm.get(1).values).anySatisfy((name, value) -> {
            assertThat(name).endsWith(".timer");
            assertThat(value).isNotEqualTo("ffffffffffffffff");
        });
        assertThat(trustDomain().get(1).values).anySatisfy((name, value) -> {
            assertThat(name).endsWith(".pending");
            assertThat(value).contains("[");
        });
    }

    /// Every field of an object that has state is declared, or is none for a reason.
    @Test void everyFieldIsDeclaredOrNoState() {
        var missing = new TreeSet<String>();
        var known = new HashSet<String>();
        for (var reader : List.of(ordinaryVm().get(1), trustDomain().get(1))) {
            reader.declared.forEach((object, names) -> {
                for (var field : fields(object)) {
                    String name = field.getDeclaringClass().getSimpleName() + "." + field.getName();
                    known.add(name);
                    if (names.contains(field.getName()) == NO_STATE.containsKey(name)) {
                        missing.add(name);
                    }
                }
            });
        }
        assertThat(missing).as("neither declared nor without state, or both").isEmpty();
        assertThat(known).as("the list names fields that exist").containsAll(NO_STATE.keySet());
    }

    /// No state is code: an exit that waits, a timer or a request is a value.
    @Test void noStateIsALambda() {
        for (var reader : List.of(ordinaryVm().getFirst(), trustDomain().get(1))) {
            reader.declared.forEach((object, names) -> {
                for (var field : fields(object)) {
                    if (names.contains(field.getName()) && object.getClass().getPackageName().startsWith("cloister.kvm")) {
                        assertThat(isCode(object, field)).as("%s", field).isFalse();
                    }
                }
            });
        }
    }

    private static boolean isCode(Persistent object, Field field) {
        try {
            field.setAccessible(true);
            var value = field.get(object);
            return value != null && (value.getClass().isHidden() || value instanceof Runnable);
        } catch (IllegalAccessException e) {
            throw new AssertionError(e);
        }
    }

    private static List<Field> fields(Persistent object) {
        var result = new ArrayList<Field>();
        for (Class<?> c = object.getClass(); c != Object.class; c = c.getSuperclass()) {
            for (var field : c.getDeclaredFields()) {
                if (!Modifier.isStatic(field.getModifiers()) && !field.isSynthetic()) {
                    result.add(field);
                }
            }
        }
        return result;
    }
}
