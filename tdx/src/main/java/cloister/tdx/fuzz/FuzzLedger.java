package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzFinding.check;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/// What the fuzzer itself records of each TD's life, to compute the module's sums again: the measurement, the number of VCPUs.
final class FuzzLedger {
    private static final int BLOCK = 128;
    private static final int CHUNK = 256;
    private static final int HASH_BYTES = 48;

    /// One TD.
    private static final class Record {
        final ByteArrayOutputStream measured = new ByteArrayOutputStream();
        /// VCPU numbers that a failing TDH.VP.INIT used up.
        int lostVcpus;
        /// Whether calls that measure overlapped, so that only the module knows their order.
        boolean unordered;
        /// MRTD, once finalised.
        byte[] mrtd;
    }

    private final FuzzMachine machine;
    private final Map<Long, Record> records = new HashMap<>();

    FuzzLedger(FuzzMachine machine) {
        this.machine = machine;
    }

    /// A SEAMCALL ended.
    void completed(FuzzStep step) {
        long rax = machine.registers(step.lp).get(SeamRegs.RAX);
        if (step.leaf() == null) {
            return;
        }
        long[] o = step.operands;
        boolean good = rax == 0;
        switch (step.leaf()) {
            case MNG_INIT -> {
                if (good) {
                    records.put(o[1], new Record());
                }
            }
            case MEM_PAGE_ADD -> {
                if (good) {
                    order(step, o[2]);
                    measure(o[2], "MEM.PAGE.ADD", o[1] & SeptEntry.HPA);
                }
            }
            case MR_EXTEND -> {
                if (good) {
                    order(step, o[2]);
                    measure(o[2], "MR.EXTEND", o[1]);
                    if (!machine.stoppedAtWrites[step.lp]) {
                        content(o[2], o[1]);
                    }
                }
            }
            case MR_FINALIZE -> {
                if (good) {
                    order(step, o[1]);
                    finish(o[1]);
                }
            }
            case VP_INIT -> {
                if (TdxStatus.X2APIC_ID_NOT_UNIQUE.matches(rax) || TdxStatus.INCONSISTENT_MSR.matches(rax)) {
                    record(machine.pamt(o[1], 0).ownerPa()).lostVcpus++;
                }
            }
            default -> {
            }
        }
    }

    private static boolean measures(FuzzStep step, long tdr) {
        return step.leaf() != null && switch (step.leaf()) {
            case MEM_PAGE_ADD, MR_EXTEND -> step.operands[2] == tdr;
            case MR_FINALIZE -> step.operands[1] == tdr;
            default -> false;
        };
    }

    private void order(FuzzStep step, long tdr) {
        record(tdr).unordered |= machine.stoppedAtWrites[step.lp];
        for (var other : machine.doing) {
            record(tdr).unordered |= other != null && other != step && measures(other, tdr);
        }
    }

    private Record record(long tdr) {
        return records.computeIfAbsent(tdr, k -> new Record());
    }

    private void measure(long tdr, String function, long gpa) {
        var block = new byte[BLOCK];
        var name = function.getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(name, 0, block, 0, name.length);
        for (int i = 0; i < 8; i++) {
            block[16 + i] = (byte) (gpa >> (8 * i));
        }
        record(tdr).measured.writeBytes(block);
    }

    private void content(long tdrPa, long gpa) {
        var tdr = machine.module.tdr(tdrPa);
        var slot = new Sept(machine.memory, tdr.keyId()).walk(new Tdcs(machine.memory, tdr).eptp(), gpa, 0);
        var chunk = new byte[CHUNK];
        machine.memory.read(PhysicalMemory.hpa(SeptEntry.leafPa(slot.value(), gpa, 0), tdr.keyId()), chunk, 0, CHUNK);
        record(tdrPa).measured.writeBytes(chunk);
    }

    private void finish(long tdrPa) {
        try {
            record(tdrPa).mrtd = MessageDigest.getInstance("SHA-384").digest(record(tdrPa).measured.toByteArray());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
        record(tdrPa).measured.reset();
        mrtd(tdrPa, new Tdcs(machine.memory, machine.module.tdr(tdrPa)));
    }

    /// MRTD is what was measured.
    void mrtd(long tdrPa, Tdcs tdcs) {
        check(!knowsMrtd(tdrPa) || Arrays.equals(tdcs.bytes(Tdcs.MRTD, HASH_BYTES), record(tdrPa).mrtd),
                "MRTD of TD 0x%x is not the hash of its build", tdrPa);
    }

    /// Whether a TD is measured, by calls one after the other.
    boolean knowsMrtd(long tdrPa) {
        return record(tdrPa).mrtd != null && !record(tdrPa).unordered;
    }

    /// VCPU numbers of a TD that no VCPU has.
    int lostVcpus(long tdrPa) {
        return record(tdrPa).lostVcpus;
    }

    /// The module was loaded anew.
    void clear() {
        records.clear();
    }
}
