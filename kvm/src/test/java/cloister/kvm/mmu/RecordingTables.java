package cloister.kvm.mmu;

import java.util.ArrayList;
import java.util.List;

/// External tables that say what they are told to, and keep a record.
final class RecordingTables implements ExternalPageTables {
    final List<String> calls = new ArrayList<>();
    Result answer = Result.DONE;
    boolean gives = true;

    @Override public Result linkTable(long gfn, int level, long tablePa) {
        calls.add("link " + gfn + " at " + level);
        return answer;
    }

    @Override public Result mapLeaf(long gfn, int level, long pa) {
        calls.add("map " + gfn);
        return answer;
    }

    @Override public boolean removeLeaf(long gfn, int level, long pa) {
        calls.add("remove " + gfn);
        return gives;
    }

    @Override public boolean reclaimTable(long tablePa) {
        calls.add("reclaim");
        return gives;
    }
}
