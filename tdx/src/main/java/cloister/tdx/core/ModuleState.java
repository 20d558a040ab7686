package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.port.Vmcs;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// The module's data region: everything that is not per LP and not in pages of a TD.
public final class ModuleState {
    /// Module states. [TDX-BASE "Intel TDX Module Lifecycle"]
    public enum SysState { INIT_PENDING, INIT_DONE, CONFIG_DONE, READY, SHUTDOWN }

    static final int MAX_PACKAGES = 8;
    public static final int MAX_PA = 52;
    /// "No physical address".
    public static final long NULL_PA = -1L;

    public final PhysicalMemory memory;
    private final byte[] pattern = new byte[(int) PhysicalMemory.FRAME_SIZE];
    private long patternWord;
    public final PlatformInfo platform;
    public final LockWord.Own globalLock = new LockWord.Own();
    public final KeyOwnership keys = new KeyOwnership();
    public final CacheWriteBack[] writeBack = new CacheWriteBack[MAX_PACKAGES];
    public final PlatformConfig config = new PlatformConfig();
    public final Pamt pamt = new Pamt(this);
    public SysState sysState = SysState.INIT_PENDING;
    public List<Tdmr> tdmrs = new ArrayList<>();
    public int initializedLps;
    public int initializedPackages;
    public int packageConfigBitmap;
    public int globalKeyId;
    /// LPs that execute a SEAMCALL now.
    public int busyLps;

    /// What a TD keeps outside memory: the running hash of its build. Keyed by TDR page.
    private final Map<Long, Measurement> measurements = new HashMap<>();
    /// What a VCPU keeps outside memory: its VMCSs. Keyed by TDVPR page.
    private final Map<Long, VcpuObjects> vcpus = new HashMap<>();

    /// @param vmcs the VMCS of each VM, 0 the L1
    public record VcpuObjects(Vmcs[] vmcs) {
    }

    public ModuleState(PhysicalMemory memory, PlatformInfo platform) {
        this.memory = memory;
        this.platform = platform;
        for (int i = 0; i < MAX_PACKAGES; i++) {
            writeBack[i] = new CacheWriteBack();
        }
    }

    /// Locks the whole module.
    public Sharex.Held lockGlobal(LpState lp, LockMode mode) throws LeafFailure {
        return Sharex.hold(lp, globalLock, mode, TdxStatus.SYS_BUSY.code());
    }

    /// The running measurement of a TD that is being built.
    public Measurement measurement(long tdrPa) {
        return measurements.get(tdrPa);
    }

    public void measurement(long tdrPa, Measurement measurement) {
        measurements.put(tdrPa, measurement);
    }

    public VcpuObjects vcpu(long tdvprPa) {
        return vcpus.get(tdvprPa);
    }

    public void vcpu(long tdvprPa, VcpuObjects objects) {
        vcpus.put(tdvprPa, objects);
    }

    /// The page left its TD.
    public void forget(long pa) {
        measurements.remove(pa);
        vcpus.remove(pa);
    }

    // Addresses

    public boolean isPrivateKeyId(int keyId) {
        return Integer.compareUnsigned(keyId, config.privateKeyIdMin) >= 0
                && Integer.compareUnsigned(keyId, config.privateKeyIdMax) <= 0;
    }

    public int keyId(long hpa) {
        return (int) ((hpa & config.keyIdMask) >>> config.keyIdShift);
    }

    static boolean belowMaxPa(long pa) {
        return pa >>> MAX_PA == 0;
    }

    /// Whether `pa` may be the address of a private page: aligned, no KeyID, within the address width.
    public boolean isPageAddress(long pa, long alignment) {
        return (pa & (alignment - 1)) == 0 && keyId(pa) == 0 && belowMaxPa(pa);
    }

    /// Whether a range may be accessed with a shared KeyID: not beyond the address width, not SEAM memory under any KeyID.
    public boolean isSharedHpa(long hpa, long bytes) {
        return belowMaxPa(hpa) && !overlaps(hpa & ~config.keyIdMask, bytes, config.seamrrBase, config.seamrrSize)
                && Integer.compareUnsigned(keyId(hpa), config.privateKeyIdMin) < 0;
    }

    /// Checks an operand that must be a shared physical address with a power-of-two alignment and size.
    public void requireShared(long hpa, long bytes, int operand) throws LeafFailure {
        if ((hpa & (bytes - 1)) != 0 || !isSharedHpa(hpa, bytes)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, operand);
        }
    }

    public static boolean overlaps(long base, long size, long base2, long size2) {
        return Long.compareUnsigned(base, base2 + size2) < 0 && Long.compareUnsigned(base2, base + size) < 0;
    }

    public static boolean wraps(long base, long size) {
        return Long.compareUnsigned(base, -1L - size) > 0;
    }

    // Structures

    /// The TDR at `pa`.
    public Tdr tdr(long pa) {
        return new Tdr(memory, pa, globalKeyId);
    }

    /// Locks the TDR page named by an operand.
    public LockedPage lockTdr(LpState lp, long pa, LockMode mode, int operand) throws LeafFailure {
        return pamt.lock(lp, pa, Pamt.SIZE_4K, mode, PageType.TDR, operand);
    }

    /// Locks the TDR of a page that a leaf already holds.
    public LockedPage lockOwner(LpState lp, LockedPage page, LockMode mode) throws LeafFailure {
        return pamt.lockImplicit(lp, page.entry().ownerPa(), Pamt.SIZE_4K, mode, OperandId.TDR);
    }

    /// Locks a free 4 KiB page named by an operand.
    public LockedPage lockFree(LpState lp, long pa, int operand) throws LeafFailure {
        return pamt.lock(lp, pa, Pamt.SIZE_4K, LockMode.EXCLUSIVE, PageType.NDA, operand);
    }

    /// Locks the TDVPR page named by an operand.
    public LockedPage lockTdvpr(LpState lp, long pa, LockMode mode, int operand) throws LeafFailure {
        return pamt.lock(lp, pa, Pamt.SIZE_4K, mode, PageType.TDVPR, operand);
    }

    /// Fills a page with a repeated 64-bit word, as MOVDIR64B does: no old content is read.
    public void fillPage(long hpa, long word) {
        if (word == 0) {
            memory.clearLines(hpa, PhysicalMemory.LINES_PER_FRAME);
            return;
        }
        if (word != patternWord) {
            for (int i = 0; i < pattern.length; i++) {
                pattern[i] = (byte) (word >>> (8 * (i & 7)));
            }
            patternWord = word;
        }
        memory.movdir64b(hpa, pattern, 0, pattern.length / PhysicalMemory.LINE_SIZE);
    }

    /// Copies a page, as MOVDIR64B does.
    public void copyPage(long from, long to) {
        memory.copyFrame(from, to);
    }
}
