package cloister.vmm;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.zip.GZIPOutputStream;

/// Packs the root file system of a guest: busybox, an `/init` of ours, and files of the caller.
///
/// `/init` mounts proc, sysfs and devtmpfs. Without a command it starts a shell on ttyS0 and powers off when the
/// shell ends. With a command it runs it with ttyS1 as standard output and error, reports the exit status
/// there (see [ExecChannel]) and powers off; the kernel's own messages stay on ttyS0.
public final class Initramfs {
    private static final String INIT = """
            #!/bin/busybox sh
            export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-vt100}
            /bin/busybox mount -t proc proc /proc
            /bin/busybox mount -t sysfs sysfs /sys
            /bin/busybox mount -t devtmpfs devtmpfs /dev
            /bin/busybox --install -s /bin
            mkdir -p /dev/pts /dev/shm /tmp /run
            mount -t devpts devpts /dev/pts
            mount -t tmpfs tmpfs /tmp
            hostname cloister
            cd /root
            if [ -f /cloister/command ]; then
                stty -F /dev/ttyS1 raw -echo
                exec 3>/dev/ttyS1
                sh /cloister/command </dev/null >&3 2>&3
                status=$?
                printf '\\001cloister-exit %d\\001' $status >&3
                exec 3>&-
            else
                setsid -c sh -l </dev/ttyS0 >/dev/ttyS0 2>&1
                sleep 0.1
            fi
            poweroff -f
            """;

    private final CpioWriter cpio = new CpioWriter();

    /// @param busybox a statically linked busybox binary for x86-64
    public Initramfs(byte[] busybox) {
        for (String directory : new String[] {"bin", "dev", "proc", "sys", "root", "etc"}) {
            cpio.directory(directory);
        }
        cpio.characterDevice("dev/console", 0600, 5, 1);
        cpio.file("bin/busybox", 0755, busybox);
        cpio.symlink("bin/sh", "busybox");
        cpio.file("init", 0755, INIT.getBytes(StandardCharsets.UTF_8));
    }

    /// Adds a file; directories above it are made.
    ///
    /// @param path        absolute in the guest
    /// @param permissions the low twelve mode bits, such as `0755`
    public Initramfs file(String path, int permissions, byte[] content) {
        cpio.file(path, permissions, content);
        return this;
    }

    /// Makes the guest run one shell command and power off.
    public Initramfs command(String command) {
        cpio.file("cloister/command", 0644, (command + "\n").getBytes(StandardCharsets.UTF_8));
        return this;
    }

    /// Ends packing.
    ///
    /// @return an uncompressed archive: unpacking would cost the guest more instructions than reading does
    public byte[] pack() {
        return cpio.finish();
    }

    /// Ends packing with gzip.
    public byte[] packGzip() {
        var out = new ByteArrayOutputStream();
        try (var gzip = new GZIPOutputStream(out)) {
            gzip.write(cpio.finish());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return out.toByteArray();
    }
}
