package cloister.kvm.irq;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.TestHost;
import cloister.spec.vmx.PostedInterrupts;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Notifications of a posted-interrupt descriptor: suppressed until the vCPU has a processor. [LINUX vmx_vcpu_pi_load]
final class PostedInterruptDescriptorTest {
    private static final long PA = 0x5000;
    private final TestHost host = new TestHost(1);
    private final PostedInterruptDescriptor pi = new PostedInterruptDescriptor(host.environment().memory(), PA, 0xf2);

    @AfterEach void release() {
        host.close();
    }

    private long control() {
        return host.memory().read(PA + PostedInterrupts.CONTROL, 8);
    }

    @Test void nobodyIsNotifiedBeforeTheFirstProcessor() {
        assertThat(control()).isEqualTo(PostedInterrupts.SUPPRESS | (0xf2L << 16));
        pi.load(3);
        assertThat(control()).isEqualTo((3L << 32) | (0xf2L << 16));
    }

    /// Whoever posted while notifications were suppressed told nobody.
    @Test void whatWasPostedMeanwhileIsOutstanding() {
        pi.post(0x41);
        assertThat(pi.isOutstanding()).isFalse();
        pi.load(0);
        assertThat(pi.isOutstanding()).isTrue();
    }

    @Test void aLoadOnTheSameProcessorChangesNothing() {
        pi.load(0);
        pi.post(0x41);
        pi.load(0);
        assertThat(pi.isOutstanding()).as("the vector's sender notifies").isFalse();
        pi.load(1);
        assertThat(pi.isOutstanding()).as("the old processor may have got the notification").isTrue();
    }
}
