package cloister.tdx.replay;

import cloister.tdx.core.Measurement;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/// SEAM reports of the vectors' platform.
public record RecordedReport(String cpuSvn, String macKey, int verifyFailCode) {
    private static final int MAC = 224;

    public byte[] create(byte[] type, byte[] reportData, byte[] teeInfoHash) {
        var out = new byte[512];
        var tcb = new byte[256];
        tcb[0] = (byte) 0xff;
        tcb[1] = 1;
        Arrays.fill(tcb, 8, 24, (byte) 1);
        Arrays.fill(tcb, 24, 72, (byte) 0xa1);
        System.arraycopy(type, 0, out, 0, 4);
        System.arraycopy(HexFormat.of().parseHex(cpuSvn), 0, out, 16, 16);
        System.arraycopy(Measurement.sha384(tcb), 0, out, 32, 48);
        System.arraycopy(teeInfoHash, 0, out, 80, 48);
        System.arraycopy(reportData, 0, out, 128, 64);
        System.arraycopy(mac(out), 0, out, MAC, 32);
        System.arraycopy(tcb, 0, out, 256, 256);
        return out;
    }

    public int verify(byte[] macStruct) {
        return Arrays.equals(mac(macStruct), Arrays.copyOfRange(macStruct, MAC, 256)) ? 0 : verifyFailCode;
    }

    private byte[] mac(byte[] struct) {
        try {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(macKey.getBytes(StandardCharsets.US_ASCII), "HmacSHA256"));
            mac.update(struct, 0, MAC);
            return mac.doFinal();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }
}
