package cloister.isa;

import cloister.isa.DecodeNode.Selector;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// The decision trees of all opcodes, built once from the rows of [GeneralTable], [SystemTable], [X87Table] and
/// [SseTable]. Building checks the tables: every row parses, and no encoding belongs to two rows equally.
final class OpcodeTable {
    private static final DecodeNode[] TREES = build(rows());

    private OpcodeTable() {
    }

    /// The tree of `opcode` in `map` (MAP_ constants of [InstructionForm]).
    static DecodeNode tree(int map, int opcode) {
        return TREES[(map << 8) | opcode];
    }

    /// All rows of the manual's tables.
    static List<InstructionForm> rows() {
        List<InstructionForm> rows = new ArrayList<>();
        for (String table : List.of(GeneralTable.ROWS, SystemTable.ROWS, X87Table.ROWS, SseTable.ROWS)) {
            table.lines().filter(line -> !line.isBlank()).forEach(line -> rows.add(row(line)));
        }
        return rows;
    }

    private static InstructionForm row(String line) {
        try {
            return new InstructionForm(line);
        } catch (RuntimeException e) {
            throw new IllegalStateException("instruction table, row \"" + line + "\"", e);
        }
    }

    private static DecodeNode[] build(List<InstructionForm> rows) {
        List<List<InstructionForm>> byOpcode = new ArrayList<>();
        for (int i = 0; i < InstructionForm.MAPS << 8; i++) {
            byOpcode.add(new ArrayList<>());
        }
        for (InstructionForm row : rows) {
            for (int i = 0; i < row.opcodes; i++) {
                byOpcode.get(((row.map << 8) | row.opcode) + i).add(row);
            }
        }
        DecodeNode[] trees = new DecodeNode[InstructionForm.MAPS << 8];
        for (int i = 0; i < trees.length; i++) {
            trees[i] = tree(byOpcode.get(i), 0);
        }
        return trees;
    }

    private static DecodeNode tree(List<InstructionForm> candidates, int depth) {
        if (candidates.isEmpty()) {
            return DecodeNode.UNKNOWN;
        }
        if (depth == Selector.values().length) {
            return new DecodeNode(mostSpecific(candidates));
        }
        Selector selector = Selector.values()[depth];
        if (candidates.stream().noneMatch(row -> row.constrains(selector))) {
            return tree(candidates, depth + 1);
        }
        DecodeNode[] next = new DecodeNode[selector.values];
        Map<List<InstructionForm>, DecodeNode> known = new HashMap<>();
        for (int i = 0; i < next.length; i++) {
            int value = i;
            List<InstructionForm> admitted = candidates.stream().filter(row -> row.admits(selector, value)).toList();
            next[i] = known.computeIfAbsent(admitted, rows -> tree(rows, depth + 1));
        }
        return new DecodeNode(selector, next);
    }

    private static InstructionForm mostSpecific(List<InstructionForm> candidates) {
        InstructionForm best = null;
        boolean ambiguous = false;
        for (InstructionForm row : candidates) {
            int order = best == null ? 1 : Integer.compare(row.specificity(), best.specificity());
            ambiguous = order == 0 || (order < 0 && ambiguous);
            best = order > 0 ? row : best;
        }
        if (ambiguous) {
            throw new IllegalStateException("instruction table: " + best.op + " has an encoding of another row");
        }
        return best;
    }
}
