package cloister.tdx.core;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.TdxStatus;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.replay.RecordedProcessor;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class SharexHpTest {
    private static final int HOST_PRIORITY = 2;
    private static final long BUSY = TdxStatus.OPERAND_BUSY.code();
    private static final long BACK_OFF = TdxStatus.OPERAND_BUSY_HOST_PRIORITY.code();

    private final ModuleState module = new ModuleState(null, new PlatformInfo(1, 1, List.of(), List.of()));
    private final LpState lp = new LpState(module, new RecordedProcessor(0, new RecordedProcessor.Clock(), (i, leaf, sub, out) -> {
    }, null, Map.of()));
    private final LockWord word = new LockWord.Own();

    @Test void readersShareAndKeepWritersOut() {
        assertThat(SharexHp.tryShared(lp, word, false)).isZero();
        assertThat(SharexHp.tryShared(lp, word, true)).isZero();
        assertThat(SharexHp.tryExclusive(lp, word, true)).isEqualTo(BUSY);
        assertThat(word.get() & HOST_PRIORITY).as("a guest asks for nothing").isZero();
        assertThat(SharexHp.tryExclusive(lp, word, false)).isEqualTo(BUSY);
        assertThat(word.get() & HOST_PRIORITY).as("a host that failed goes first").isNotZero();
        SharexHp.releaseShared(word);
        SharexHp.releaseShared(word);
        assertThat(word.get()).isEqualTo(HOST_PRIORITY);
    }

    @Test void guestsBackOffUntilTheHostWasServed() {
        SharexHp.tryExclusive(lp, word, true);
        assertThat(SharexHp.tryExclusive(lp, word, false)).isEqualTo(BUSY);
        SharexHp.releaseExclusive(word);
        assertThat(SharexHp.tryExclusive(lp, word, true)).isEqualTo(BACK_OFF);
        assertThat(SharexHp.tryShared(lp, word, true)).isEqualTo(BACK_OFF);
        assertThat(word.get()).as("the failed guests left nothing").isEqualTo(HOST_PRIORITY);
        assertThat(SharexHp.tryExclusive(lp, word, false)).isZero();
        SharexHp.releaseExclusive(word);
        assertThat(word.get()).isZero();
        assertThat(SharexHp.tryShared(lp, word, true)).isZero();
    }

    @Test void onlyTheLastReaderBecomesTheWriter() {
        SharexHp.tryShared(lp, word, false);
        SharexHp.tryShared(lp, word, false);
        assertThat(SharexHp.tryPromote(lp, word)).isEqualTo(BUSY);
        SharexHp.releaseShared(word);
        assertThat(SharexHp.tryPromote(lp, word)).isZero();
        assertThat(SharexHp.tryShared(lp, word, false)).isEqualTo(BUSY);
    }
}
