package cloister.spec.kvm;

/// The Linux error numbers that the KVM uAPI returns. [LINUX include/uapi/asm-generic/errno-base.h]
public enum Errno {
    EPERM(1), ENOENT(2), EINTR(4), EIO(5), ENXIO(6), E2BIG(7), EBADF(9), EAGAIN(11), ENOMEM(12), EACCES(13), EFAULT(14),
    EBUSY(16), EEXIST(17), ENODEV(19), EINVAL(22), EFBIG(27), ENOSPC(28), ENOTTY(25), ERANGE(34), EHWPOISON(133), EOPNOTSUPP(95);

    private final int number;

    Errno(int number) {
        this.number = number;
    }

    /// The error with the positive number `number`.
    ///
    /// @throws IllegalArgumentException when there is none
    public static Errno of(int number) {
        for (var errno : values()) {
            if (errno.number == number) {
                return errno;
            }
        }
        throw new IllegalArgumentException("error number " + number);
    }

    /// The positive number.
    public int number() {
        return number;
    }
}
