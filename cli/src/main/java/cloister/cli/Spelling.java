package cloister.cli;

import java.util.Collection;
import java.util.Comparator;
import java.util.Optional;

/// Guesses which word was meant by a misspelt one.
final class Spelling {
    private Spelling() {
    }

    /// The word nearest to `typed`, when it is near enough: one slip, or two in a word of five letters or more.
    static Optional<String> nearest(String typed, Collection<String> words) {
        int bearable = bare(typed).length() < 5 ? 1 : 2;
        return words.stream().filter(word -> distance(bare(typed), bare(word)) <= bearable)
                .min(Comparator.comparingInt((String word) -> distance(bare(typed), bare(word))).thenComparing(word -> word));
    }

    private static String bare(String word) {
        return word.replaceFirst("^-+", "");
    }

    /// How many letters are left out, added, replaced, or exchanged with their neighbour.
    private static int distance(String a, String b) {
        var d = new int[a.length() + 1][b.length() + 1];
        for (int i = 0; i <= a.length(); i++) {
            for (int j = 0; j <= b.length(); j++) {
                if (i == 0 || j == 0) {
                    d[i][j] = i + j;
                    continue;
                }
                int replaced = d[i - 1][j - 1] + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
                d[i][j] = Math.min(replaced, Math.min(d[i - 1][j], d[i][j - 1]) + 1);
                if (i > 1 && j > 1 && a.charAt(i - 1) == b.charAt(j - 2) && a.charAt(i - 2) == b.charAt(j - 1)) {
                    d[i][j] = Math.min(d[i][j], d[i - 2][j - 2] + 1);
                }
            }
        }
        return d[a.length()][b.length()];
    }
}
