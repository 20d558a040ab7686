package cloister.spec.vmx;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.HashSet;
import org.junit.jupiter.api.Test;

class VmcsFieldTest {
    @Test void encodingsAreEvenAndUnique() {
        var seen = new HashSet<Integer>();
        for (var field : VmcsField.values()) {
            assertThat(field.encoding() & 1).as(field.name()).isZero();
            assertThat(seen.add(field.encoding())).as(field.name()).isTrue();
        }
    }

    @Test void namesAgreeWithTheTypeInTheEncoding() {
        for (var field : VmcsField.values()) {
            boolean host = field.type() == VmcsField.Type.HOST_STATE;
            assertThat(host).as(field.name()).isEqualTo(field.name().startsWith("HOST_"));
        }
    }

    @Test void bothEncodingsOfA64BitFieldNameIt() {
        assertThat(VmcsField.ofEncoding(0x201a)).isEqualTo(VmcsField.EPTP);
        assertThat(VmcsField.ofEncoding(0x201b)).isEqualTo(VmcsField.EPTP);
        assertThat(VmcsField.isHighAccess(0x201b)).isTrue();
        assertThat(VmcsField.ofEncoding(0x4001)).isNull();
        assertThat(VmcsField.ofEncoding(-1)).isNull();
        assertThat(VmcsField.ofEncoding(1L << 40)).isNull();
    }

    @Test void segmentSiblingsLieInRegisterOrder() {
        assertThat(VmcsField.ofSegment(VmcsField.GUEST_ES_SELECTOR, 7)).isEqualTo(VmcsField.GUEST_TR_SELECTOR);
        assertThat(VmcsField.ofSegment(VmcsField.GUEST_ES_BASE, 6)).isEqualTo(VmcsField.GUEST_LDTR_BASE);
        assertThat(VmcsField.ofSegment(VmcsField.GUEST_ES_LIMIT, 1)).isEqualTo(VmcsField.GUEST_CS_LIMIT);
        assertThat(VmcsField.ofSegment(VmcsField.GUEST_ES_ACCESS_RIGHTS, 2)).isEqualTo(VmcsField.GUEST_SS_ACCESS_RIGHTS);
    }

    @Test void masksFollowTheWidth() {
        assertThat(VmcsField.VPID.mask()).isEqualTo(0xffff);
        assertThat(VmcsField.EXIT_REASON.mask()).isEqualTo(0xffff_ffffL);
        assertThat(VmcsField.GUEST_CR3.mask()).isEqualTo(-1);
    }

    @Test void exitReasonsHaveNames() {
        assertThat(ExitReason.name(ExitReason.TDCALL)).isEqualTo("TDCALL");
        assertThat(ExitReason.name(ExitReason.EPT_VIOLATION | ExitReason.ENTRY_FAILURE)).isEqualTo("EPT_VIOLATION");
        assertThat(ExitReason.name(ExitReason.PCONFIG)).isEqualTo("PCONFIG");
        assertThat(ExitReason.name(999)).isEqualTo("999");
    }
}
