package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

final class TinyGuestTest {
    @Test void programsFitAPageAndAreDeterministic() {
        assertThat(TinyGuest.trustDomain()).hasSizeLessThan(4096).isEqualTo(TinyGuest.trustDomain());
        assertThat(TinyGuest.ordinaryVm()).hasSizeLessThan(4096).isEqualTo(TinyGuest.ordinaryVm());
    }
}
