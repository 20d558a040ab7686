package cloister.vmm.fuzz;

import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

/// A guest program of the fuzzer: pieces of code that run one after the other, whatever exceptions they raise.
///
/// @param start how the guest starts
public record GuestProgram(Start start, List<Piece> pieces) {
    /// The processor's mode when the first piece runs.
    public enum Start {
        /// 64-bit mode of a trust domain that does not survive touching memory that it has not accepted (SEPT_VE_DISABLE).
        TD,
        /// 64-bit mode of a trust domain that gets #VE then.
        TD_VE,
        /// 64-bit mode of an ordinary VM.
        LONG,
        /// Protected mode of an ordinary VM, without paging.
        PROTECTED,
        /// Real-address mode of an ordinary VM.
        REAL;

        /// Whether the guest is a trust domain.
        public boolean isTd() {
            return this == TD || this == TD_VE;
        }
    }

    /// Some instructions.
    ///
    /// @param what what they try, in a word
    /// @param code at most [ProgramImage#PIECE_BYTES] bytes
    public record Piece(String what, byte[] code) {
    }

    /// The lines that [#parse] reads.
    public List<String> lines() {
        var lines = new ArrayList<String>();
        lines.add("start " + start);
        for (var piece : pieces) {
            lines.add(piece.what + " " + HexFormat.of().formatHex(piece.code));
        }
        return lines;
    }

    /// Reads a program of [#lines]; empty lines and what is behind # do not count.
    ///
    /// @throws IllegalArgumentException when they are none
    public static GuestProgram parse(List<String> lines) {
        Start start = null;
        var pieces = new ArrayList<Piece>();
        for (var line : lines) {
            var text = line.replaceFirst("#.*", "").trim();
            if (text.isEmpty()) {
                continue;
            }
            var words = text.split(" +");
            if (words.length != 2) {
                throw new IllegalArgumentException("not two words: " + line);
            }
            if (words[0].equals("start")) {
                start = Start.valueOf(words[1]);
                continue;
            }
            byte[] code = HexFormat.of().parseHex(words[1]);
            if (code.length > ProgramImage.PIECE_BYTES) {
                throw new IllegalArgumentException("more than " + ProgramImage.PIECE_BYTES + " bytes: " + line);
            }
            pieces.add(new Piece(words[0], code));
        }
        if (start == null || pieces.size() > ProgramImage.MAX_PIECES) {
            throw new IllegalArgumentException("no start, or more than " + ProgramImage.MAX_PIECES + " pieces");
        }
        return new GuestProgram(start, List.copyOf(pieces));
    }

    /// The program without piece `index`.
    public GuestProgram without(int index) {
        var fewer = new ArrayList<>(pieces);
        fewer.remove(index);
        return new GuestProgram(start, List.copyOf(fewer));
    }
}
