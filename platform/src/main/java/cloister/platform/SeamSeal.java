package cloister.platform;

import cloister.sim.Entropy;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Arrays;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/// The package's report key and what SEAMREPORT says about the module: REPORTMACSTRUCT and TEE_TCB_INFO. [TDX-ABI "REPORTMACSTRUCT",
/// "TEE_TCB_INFO"]
///
/// DEVIATION: the MAC is HMAC-SHA-256 with a key from the run's seed; versions and measurements are constants of this model.
final class SeamSeal {
    static final int MAC_STRUCT_SIZE = 256;
    static final int TCB_INFO_SIZE = 256;
    private static final int CPU_SVN = 16;
    private static final int TCB_INFO_HASH = 32;
    private static final int TEE_INFO_HASH = 80;
    private static final int REPORT_DATA = 128;
    private static final int MAC = 224;
    private static final int MAC_SIZE = 32;
    private static final int TEE_TCB_SVN = 8;
    private static final int MR_SEAM = 24;
    /// VERIFYREPORT: the MAC does not match.
    private static final int BAD_MAC = 5;

    private final SecretKeySpec key;

    SeamSeal(Entropy entropy) {
        var bytes = new byte[MAC_SIZE];
        entropy.fill(bytes);
        key = new SecretKeySpec(bytes, "HmacSHA256");
    }

    /// REPORTMACSTRUCT followed by TEE_TCB_INFO.
    byte[] report(byte[] type, byte[] reportData, byte[] teeInfoHash) {
        var out = new byte[MAC_STRUCT_SIZE + TCB_INFO_SIZE];
        System.arraycopy(type, 0, out, 0, type.length);
        Arrays.fill(out, CPU_SVN, CPU_SVN + 16, (byte) 1);
        byte[] info = tcbInfo();
        System.arraycopy(info, 0, out, MAC_STRUCT_SIZE, info.length);
        System.arraycopy(sha384(info), 0, out, TCB_INFO_HASH, 48);
        System.arraycopy(teeInfoHash, 0, out, TEE_INFO_HASH, teeInfoHash.length);
        System.arraycopy(reportData, 0, out, REPORT_DATA, reportData.length);
        System.arraycopy(mac(out), 0, out, MAC, MAC_SIZE);
        return out;
    }

    /// 0 when the MAC of a REPORTMACSTRUCT is ours, else the failure code.
    int verify(byte[] macStruct) {
        return MessageDigest.isEqual(mac(macStruct), Arrays.copyOfRange(macStruct, MAC, MAC + MAC_SIZE)) ? 0 : BAD_MAC;
    }

    private static byte[] tcbInfo() {
        var info = new byte[TCB_INFO_SIZE];
        info[0] = (byte) 0xff; // VALID: fields 0-8
        info[1] = 1;
        info[TEE_TCB_SVN] = 6;
        info[TEE_TCB_SVN + 1] = 1;
        byte[] measurement = sha384("Cloister TDX module 1.5.06".getBytes(StandardCharsets.US_ASCII));
        System.arraycopy(measurement, 0, info, MR_SEAM, measurement.length);
        return info;
    }

    private byte[] mac(byte[] macStruct) {
        try {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(key);
            mac.update(macStruct, 0, MAC);
            return mac.doFinal();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException("the JDK lacks HMAC-SHA-256", e);
        }
    }

    private static byte[] sha384(byte[] data) {
        try {
            return MessageDigest.getInstance("SHA-384").digest(data);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException("the JDK lacks SHA-384", e);
        }
    }
}
