package cloister.vmm;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.zip.GZIPOutputStream;

/// Packs the root file system of a guest: busybox, an `/init` of ours, and files of the caller.
///
/// `/init` mounts proc, sysfs and devtmpfs. Without a command it starts a shell on ttyS0 and powers off when the shell ends. With a
/// command it runs that with standard input and output at ttyS1 and standard error at ttyS2, reports the exit status at ttyS1 (see
/// [ExecChannel]) and powers off; the kernel's own messages stay on ttyS0.
public final class Initramfs {
    /// The init of [#commandFor], for the kernel's `rdinit=`.
    public static final String COMMAND_INIT = "/cloister/init";

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
                . /cloister/run
            fi
            setsid -c sh -l </dev/ttyS0 >/dev/ttyS0 2>&1
            sleep 0.1
            poweroff -f
            """;

    /// Before the init of another archive, whose tools may be few: what is mounted is left alone.
    private static final String FOREIGN_INIT = """
            #!/bin/sh
            export PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/cloister/bin HOME=/root TERM=${TERM:-vt100}
            for busybox in /bin/busybox /sbin/busybox /usr/bin/busybox; do
                if [ -x $busybox ]; then
                    $busybox mkdir -p /proc /cloister/bin
                    $busybox mount -t proc proc /proc # busybox finds itself there
                    $busybox --install -s /cloister/bin
                fi
            done
            mkdir -p /proc /sys /dev
            [ -e /proc/self ] || mount -t proc proc /proc
            [ -e /sys/kernel ] || mount -t sysfs sysfs /sys
            [ -c /dev/ttyS1 ] || mount -t devtmpfs devtmpfs /dev
            cd /root 2>/dev/null || cd /
            . /cloister/run
            """;

    /// Runs the command. The tty must be raw before the host sends anything, so it waits for a word. `stty` returns when everything is
    /// sent, whoever else has the tty open.
    private static final String RUN = """
            input=/dev/null
            exec 3<>/dev/ttyS1
            if stty -F /dev/ttyS2 raw -echo 2>/dev/null; then exec 4>/dev/ttyS2; else exec 4>&3; fi
            if stty -F /dev/ttyS1 raw -echo crtscts 2>/dev/null && mkfifo /cloister/input 2>/dev/null; then
                input=/cloister/input
                printf '\\001cloister-ready\\001' >&3
                while read -r length && [ "$length" != 0 ]; do
                    dd bs="$length" count=1 iflag=fullblock 2>/dev/null
                done <&3 >$input 3>&- 4>&- &
            fi
            sh /cloister/command <$input >&3 2>&4 3>&- 4>&-
            status=$?
            stty -F /dev/ttyS2 raw 2>/dev/null
            printf '\\001cloister-exit %d\\001' $status >&3
            stty -F /dev/ttyS1 raw 2>/dev/null || sleep 1
            poweroff -f 2>/dev/null || echo o >/proc/sysrq-trigger
            sleep 10
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
        addCommand(cpio, command);
        return this;
    }

    private static void addCommand(CpioWriter cpio, String command) {
        cpio.file("cloister/command", 0644, (command + "\n").getBytes(StandardCharsets.UTF_8));
        cpio.file("cloister/run", 0644, RUN.getBytes(StandardCharsets.UTF_8));
    }

    /// An archive to be unpacked before one of somebody else's that has a shell: with `rdinit=`[#COMMAND_INIT] the guest runs one shell
    /// command and powers off.
    public static byte[] commandFor(String command) {
        var cpio = new CpioWriter();
        cpio.directory("cloister");
        cpio.directory("dev");
        cpio.characterDevice("dev/console", 0600, 5, 1);
        cpio.file("cloister/init", 0755, FOREIGN_INIT.getBytes(StandardCharsets.UTF_8));
        addCommand(cpio, command);
        return cpio.finish();
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
