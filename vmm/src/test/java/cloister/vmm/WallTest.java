package cloister.vmm;

import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static cloister.isa.Operands.ESP;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.mem;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.LogicalProcessor;
import cloister.devices.AcpiPm;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Operands;
import cloister.kvm.KvmRun;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemory;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.tdx.inspect.SeptTable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// A trust domain writes a secret into a private page. Whatever a hypervisor, or the VMM above it, then calls, with any address of that
/// page: nothing gives the secret away. What the hypervisor can reach at all is `checks/ReachTest`'s.
final class WallTest {
    private static final long SECRET = 0x5ec2e7_c0ffee_1235L;
    private static final long SECRET_GPA = 0x500000;
    private static final long FIRST_USER_ADDRESS = 0x7f00_0000_0000L;
    private static final int STACK_TOP = 0x9f000;
    private static final int POWER_OFF = (1 << 13) | (AcpiPm.S5_SLEEP_TYPE << 10);
    /// Would run the trust domain for ever.
    private static final int VP_ENTER = 0;
    private static final int MNG_RD = 11;
    private static final int VP_RD = 26;
    /// An unknown leaf is an error; those beyond it are none of 1.5.06's.
    private static final int LEAVES = 200;
    /// They end something, run it, or take a size.
    private static final List<String> NOT_ABOUT_ADDRESSES = List.of("close", "createVm", "run", "map", "mapHuge", "createFile",
            "createGuestMemfd");

    private Machine machine;
    private Host host;
    private long secretPa;
    private int keyId;
    private final List<String> leaks = new ArrayList<>();
    private final TreeSet<String> tried = new TreeSet<>();

    private static byte[] keeper() {
        var code = new Assembler(CodeMode.BITS64, GuestLayout.HIGH_LOADING_START);
        code.mov(ESP, STACK_TOP).mov(RAX, SECRET).mov(EBX, SECRET_GPA);
        for (int i = 0; i < 512; i++) {
            code.mov(mem(RBX, 8 * i), RAX);
        }
        for (var register : List.of(Operands.RCX, Operands.RDX, Operands.RSI, Operands.RDI)) {
            code.mov(register, RAX);
        }
        code.xor(EAX, EAX);
        TdCalls.writePort(code.mov(Operands.R15D, POWER_OFF), AcpiPm.CONTROL_BLOCK, 2);
        var halt = code.label();
        code.label(halt).pause().jmp(halt);
        return code.assemble();
    }

    @BeforeEach void build() {
        var config = new MachineConfig().vmType(VmType.TDX).program(keeper()).memoryBytes(32 << 20).cpus(1);
        host = Host.create(config);
        machine = new Machine(config, host);
    }

    private void keepASecret() {
        assertThat(machine.runHere()).isEqualTo(new Outcome.PowerOff());
        var td = machine.inspect().tds().getFirst();
        keyId = (int) td.tdr().value("HKID");
        secretPa = pageOf(td.secureEpt());
        assertThat(host.platform().memory().read(PhysicalMemory.hpa(secretPa, keyId), 8)).as("the secret").isEqualTo(SECRET);
    }

    @AfterEach void end() {
        machine.close();
    }

    private static long pageOf(SeptTable root) {
        return root.tables().flatMap(table -> table.entries().stream())
                .filter(range -> range.table() == null && range.gpa() <= SECRET_GPA && SECRET_GPA < range.end())
                .mapToLong(range -> range.hpaOf(SECRET_GPA)).findFirst().orElseThrow();
    }

    /// Every way to name the page.
    private long[] addresses() {
        var result = new ArrayList<Long>();
        for (int key = 0; key < 1 << PhysicalMemory.KEY_ID_BITS; key++) {
            result.add(PhysicalMemory.hpa(secretPa, key));
        }
        result.addAll(List.of(SECRET_GPA, SECRET_GPA | (1L << 47), SECRET_GPA | (1L << 51), secretPa >>> 12, SECRET_GPA >>> 12, 0L, 1L));
        return result.stream().mapToLong(Long::longValue).toArray();
    }

    @Test void memoryOfTheHostShowsNothingOfIt() {
        var memory = host.platform().hostMemory();
        inHost(() -> {
            for (var target : List.of(memory, memory.atomics())) {
                for (var method : target.getClass().getMethods()) {
                    attack(target, method);
                }
            }
        });
        assertThat(leaks).isEmpty();
        assertThat(tried).contains("HostMemory.read", "HostMemory.fill", "AtomicWords.compareAndExchange").hasSizeGreaterThan(9);
        assertThat(host.platform().memory().ownerOfLine(secretPa)).as("a host can destroy the page, not read it").isNotEqualTo(keyId);
        assertThat(memory.read(secretPa, 8)).isNotEqualTo(SECRET);
    }

    @Test void noInstructionOfTheProcessorShowsIt() {
        var lp = host.platform().processors().getFirst();
        inHost(() -> {
            for (var method : LogicalProcessor.class.getMethods()) {
                if (Arrays.stream(method.getParameterTypes()).noneMatch(type -> type.getSimpleName().equals("FirmwareAccess"))) {
                    attack(lp, method);
                }
            }
        });
        assertThat(leaks).isEmpty();
        assertThat(tried).contains("LogicalProcessor.rdmsr", "LogicalProcessor.vmptrld", "LogicalProcessor.vmread",
                "LogicalProcessor.gprs", "LogicalProcessor.fpu", "LogicalProcessor.xsaves");
    }

    /// TDH.MEM.RD, TDH.PHYMEM.PAGE.RDMD and all others, with the page and the trust domain where they take them.
    @Test void noFunctionOfTheTdxModuleShowsIt() {
        var lp = host.platform().processors().getFirst();
        long buffer = host.platform().freeEndPa() - PhysicalMemory.FRAME_SIZE; // which nobody uses
        inHost(() -> {
            var td = machine.inspect().tds().getFirst();
            long vp = td.vps().getFirst().tdvprPage();
            for (int leaf = 0; leaf < LEAVES; leaf++) {
                if (leaf == VP_ENTER) {
                    continue;
                }
                // Functions that write to the address in RCX, such as TDH.SYS.INFO, would destroy a page of the module's, and end it.
                long own = leaf == MNG_RD ? td.tdrPage() : leaf == VP_RD ? vp : secretPa;
                for (long first : new long[] {SECRET_GPA, secretPa, PhysicalMemory.hpa(secretPa, keyId), own}) {
                    for (long second : new long[] {td.tdrPage(), vp, secretPa, buffer}) {
                        var regs = new SeamRegs();
                        regs.set(SeamRegs.RAX, leaf);
                        regs.set(SeamRegs.RCX, first);
                        regs.set(SeamRegs.RDX, second);
                        regs.set(SeamRegs.R8, buffer);
                        lp.seamcall(regs);
                        look("leaf " + leaf, regs.array());
                        look("registers after leaf " + leaf, lp.gprs());
                    }
                }
            }
        });
        assertThat(leaks).isEmpty();
    }

    @Test void noCallOfTheHypervisorShowsIt() {
        inHost(() -> {
            var vcpu = machine.firstVcpu();
            for (var target : List.of(host.kvm(), machine.vm(), vcpu, vcpu.kvmRun(), host.kvm().userMemory())) {
                for (var face : List.of(cloister.kvm.Kvm.class, KvmVm.class, KvmVcpu.class, KvmRun.class, UserMemory.class)) {
                    if (face.isInstance(target)) {
                        Arrays.stream(face.getMethods()).filter(method -> !NOT_ABOUT_ADDRESSES.contains(method.getName()))
                                .forEach(method -> attack(target, method));
                    }
                }
            }
        });
        assertThat(leaks).isEmpty();
        assertThat(tried).contains("Vcpu.getRegs", "Vcpu.getMsrs", "ProcessMemory.read", "Vm.getDirtyLog");
    }

    /// The VMM has mapped all of the guest's memory: what it sees there is what is shared.
    @Test void theVmmsOwnMappingShowsNothingOfIt() {
        var user = host.kvm().userMemory();
        byte[] content = new byte[1 << 20];
        var seen = new int[1];
        inHost(() -> {
            for (long address = FIRST_USER_ADDRESS; address < FIRST_USER_ADDRESS + (1L << 32); address += content.length) {
                try {
                    user.read(address, content, 0, content.length);
                    seen[0]++;
                    look("user memory at " + Long.toHexString(address), content);
                } catch (RuntimeException notMapped) {
                    // The next.
                }
            }
        });
        assertThat(leaks).isEmpty();
        assertThat(seen[0]).as("MiB that the VMM has mapped").isGreaterThan(31);
    }

    private void inHost(Runnable attack) {
        host.scheduler().spawn("attacker", () -> {
            keepASecret();
            attack.run();
        });
        host.scheduler().run();
    }

    private void attack(Object target, Method method) {
        if (Modifier.isStatic(method.getModifiers()) || method.getDeclaringClass() == Object.class || method.getName().equals("close")) {
            return;
        }
        for (long address : addresses()) {
            for (int size : new int[] {1, 2, 4, 8}) {
                Object[] arguments = arguments(method, address, size);
                if (arguments == null) {
                    return;
                }
                tried.add(target.getClass().getSimpleName().replace("TdVcpu", "Vcpu").replace("TdVm", "Vm") + "." + method.getName());
                try {
                    Object result = method.invoke(target, arguments);
                    look(method.toString(), result);
                } catch (InvocationTargetException refused) {
                    // An error is no content.
                } catch (IllegalAccessException e) {
                    throw new AssertionError(e);
                }
                for (Object argument : arguments) {
                    look(method.toString(), argument);
                }
                if (method.getParameterCount() == 0) {
                    return;
                }
            }
        }
    }

    /// Null when a parameter is of a type that says nothing about addresses.
    private static Object[] arguments(Method method, long address, int size) {
        var types = method.getParameterTypes();
        var result = new Object[types.length];
        int longs = 0;
        for (int i = 0; i < types.length; i++) {
            if (types[i] == long.class) {
                result[i] = longs++ == 0 ? address : size;
            } else if (types[i] == int.class) {
                result[i] = types.length > i + 1 && i > 1 ? 0 : size;
            } else if (types[i] == byte.class) {
                result[i] = (byte) 0x11;
            } else if (types[i] == boolean.class) {
                result[i] = true;
            } else if (types[i] == byte[].class) {
                result[i] = new byte[4096];
            } else if (types[i] == int[].class) {
                result[i] = new int[4];
            } else if (types[i] == long[].class) {
                result[i] = new long[] {address};
            } else if (types[i] == List.class) {
                result[i] = List.of();
            } else if (types[i] == java.lang.foreign.MemorySegment.class) {
                result[i] = java.lang.foreign.MemorySegment.ofArray(new long[1024]);
            } else if (types[i] == SeamRegs.class) {
                result[i] = new SeamRegs();
            } else if (types[i].isEnum()) {
                result[i] = types[i].getEnumConstants()[size % types[i].getEnumConstants().length];
            } else {
                return null;
            }
        }
        return result;
    }

    private void look(String where, Object found) {
        look(where, found, new IdentityHashMap<>());
    }

    private void look(String where, Object found, Map<Object, Object> seen) {
        if (found == null || seen.put(found, found) != null) {
            return;
        }
        Consumer<Long> compare = value -> {
            if (value == SECRET || (int) (long) value == (int) SECRET || value == SECRET >>> 16 || value == (SECRET & 0xffff_ffffL)) {
                leaks.add(where);
            }
        };
        switch (found) {
            case Long value -> compare.accept(value);
            case Integer value -> compare.accept((long) value);
            case long[] values -> Arrays.stream(values).forEach(compare::accept);
            case int[] values -> Arrays.stream(values).forEach(value -> compare.accept((long) value));
            case byte[] bytes -> {
                for (int i = 0; i + 4 <= bytes.length; i += 4) {
                    compare.accept((bytes[i] & 0xffL) | ((bytes[i + 1] & 0xffL) << 8) | ((bytes[i + 2] & 0xffL) << 16)
                            | ((bytes[i + 3] & 0xffL) << 24));
                }
            }
            case java.lang.foreign.MemorySegment segment -> look(where, segment.toArray(java.lang.foreign.ValueLayout.JAVA_BYTE), seen);
            case Iterable<?> many -> many.forEach(one -> look(where, one, seen));
            case HostMemory _ -> { }
            default -> fields(where, found, seen);
        }
    }

    /// What an object that a call returned shows by its public fields and record components.
    private void fields(String where, Object found, Map<Object, Object> seen) {
        try {
            if (found.getClass().isRecord()) {
                for (var component : found.getClass().getRecordComponents()) {
                    component.getAccessor().setAccessible(true);
                    look(where, component.getAccessor().invoke(found), seen);
                }
            } else if (found.getClass().getPackageName().startsWith("cloister.")) {
                for (var field : found.getClass().getFields()) {
                    if (!Modifier.isStatic(field.getModifiers()) && Modifier.isPublic(found.getClass().getModifiers())) {
                        look(where, field.get(found), seen);
                    }
                }
            }
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(e);
        }
    }
}
