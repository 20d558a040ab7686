package cloister.tdx.core;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.FieldId;
import java.util.HashSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class FieldCursorTest {
    private static FieldCursor first(int context, FieldAccess access, boolean debug) {
        var cursor = new FieldCursor(context, FieldId.withContext(FieldId.NONE, context), 3);
        cursor.advance(true, access, debug);
        return cursor;
    }

    @ParameterizedTest
    @ValueSource(ints = {FieldId.CONTEXT_SYS, FieldId.CONTEXT_TD, FieldId.CONTEXT_VP})
    void aWalkNamesEveryElementOnceAndEnds(int context) {
        var seen = new HashSet<Long>();
        boolean debug = context != FieldId.CONTEXT_SYS; // the module has no debug mode
        var cursor = first(context, FieldAccess.HOST_READ, debug);
        while (!cursor.isEnd()) {
            assertThat(seen.add(cursor.id())).as("%x again", cursor.id()).isTrue();
            assertThat(FieldId.isSingleElement(cursor.id())).isTrue();
            assertThat(FieldAccess.HOST_READ.readMask(cursor.field(), debug)).as("%x", cursor.id()).isNotZero();
            var again = new FieldCursor(context, cursor.id(), 3);
            assertThat(again.field()).as("%x by its own", cursor.id()).isSameAs(cursor.field());
            cursor.advance(true, FieldAccess.HOST_READ, debug);
        }
        assertThat(seen).hasSizeGreaterThan(50);
    }

    @Test void aProductionTdShowsLessThanADebugTd() {
        int production = 0;
        int debug = 0;
        for (var c = first(FieldId.CONTEXT_VP, FieldAccess.HOST_READ, false); !c.isEnd();
                c.advance(true, FieldAccess.HOST_READ, false)) {
            production++;
        }
        for (var c = first(FieldId.CONTEXT_VP, FieldAccess.HOST_READ, true); !c.isEnd();
                c.advance(true, FieldAccess.HOST_READ, true)) {
            debug++;
        }
        assertThat(production).isPositive().isLessThan(debug);
    }
}
