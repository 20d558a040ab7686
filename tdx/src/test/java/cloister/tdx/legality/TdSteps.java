package cloister.tdx.legality;

import java.util.Locale;

/// The steps that build a TD with one VCPU from power-on: as many L2 VMs as wanted, debug or not, running or not.
final class TdSteps {
    static final long TDVPR = 0x1_0002_0000L;
    private static final long PAGE = 0x1000;
    private static final long PARAMETERS = 0x21_0000;
    private static final int TDCS_PAGES = 6;
    private static final int TDVPS_PAGES = 6;
    private static final int TDVPS_PAGES_PER_L2_VM = 3;

    private TdSteps() {
    }

    /// Up to TDH.VP.INIT.
    ///
    /// @param attributes TD_PARAMS.ATTRIBUTES
    /// @param xfam       TD_PARAMS.XFAM
    static String ready(long attributes, long xfam, int l2Vms) {
        var steps = new StringBuilder("{\"op\":\"include\",\"file\":\"setup/boot.jsonl\"}\n");
        call(steps, 9, RecordedTd.TDR, 0x21);
        call(steps, 8, RecordedTd.TDR, 0);
        for (int i = 1; i <= TDCS_PAGES + l2Vms; i++) {
            call(steps, 1, RecordedTd.TDR + i * PAGE, RecordedTd.TDR);
        }
        steps.append(String.format("{\"op\":\"host_write\",\"pa\":\"0x%x\",\"fill\":\"00\",\"len\":1024}%n", PARAMETERS));
        steps.append(String.format("{\"op\":\"host_write\",\"pa\":\"0x%x\",\"hex\":\"%016x%016x0400%02x00000000001e%s64\"}%n", PARAMETERS,
                Long.reverseBytes(attributes), Long.reverseBytes(xfam), l2Vms, "00".repeat(15)));
        steps.append(String.format("{\"op\":\"seamcall\",\"leaf\":21,\"in\":{\"rcx\":\"0x%x\",\"rdx\":\"0x%x\"},"
                + "\"out\":{\"rax\":\"0x0\",\"rcx\":\"0x0\"}}%n", RecordedTd.TDR, PARAMETERS));
        call(steps, 10, TDVPR, RecordedTd.TDR);
        for (int i = 1; i < TDVPS_PAGES + TDVPS_PAGES_PER_L2_VM * l2Vms; i++) {
            call(steps, 4, TDVPR + i * PAGE, TDVPR);
        }
        call(steps, 22, TDVPR, 0x1234);
        return steps.toString();
    }

    /// Up to TDH.VP.ENTER; the guest is in 64-bit mode.
    static String running(long attributes, long xfam, int l2Vms) {
        var steps = new StringBuilder(ready(attributes, xfam, l2Vms));
        call(steps, 17, RecordedTd.TDR, 0);
        steps.append(String.format(Locale.ROOT, "{\"op\":\"seamcall\",\"leaf\":0,\"in\":{\"rcx\":\"0x%x\"},\"guest\":{\"gpr\":"
                + "{\"rcx\":\"0x1234\",\"rdx\":\"0x806f8\",\"rbx\":\"0x30\",\"r8\":\"0x1234\"}}}%n", TDVPR));
        return steps.append("{\"op\":\"guest_state\",\"set\":{\"cs_ar\":\"0xa09b\",\"efer\":\"0xd01\",\"cr0\":\"0x80000031\"}}").toString();
    }

    private static void call(StringBuilder steps, int leaf, long rcx, long rdx) {
        steps.append(String.format("{\"op\":\"seamcall\",\"leaf\":%d,\"in\":{\"rcx\":\"0x%x\",\"rdx\":\"0x%x\"},"
                + "\"out\":{\"rax\":\"0x0\"}}%n", leaf, rcx, rdx));
    }
}
