package org.taco4j.common;

import java.util.Collection;
import java.util.Comparator;
import java.util.Locale;
import java.util.Optional;

/** What somebody may have meant who wrote a word that there is not. */
public final class Suggestions {
  /** A word is near where no more than one letter in so many, begun or whole, is another. */
  private static final int LETTERS_PER_MISTAKE = 3;

  private Suggestions() {}

  /**
   * The nearest of the words: by edit distance (Levenshtein), without regard to case, and no
   * further than a third of the word's letters; a word that begins with what was written is near,
   * too.
   */
  public static Optional<String> nearest(String written, Collection<String> words) {
    String wanted = written.toLowerCase(Locale.ROOT);
    int most = Math.ceilDiv(wanted.length(), LETTERS_PER_MISTAKE);
    Optional<String> near =
        words.stream()
            .filter(word -> distance(wanted, word.toLowerCase(Locale.ROOT)) <= most)
            .min(
                Comparator.comparingInt(
                    (String word) -> distance(wanted, word.toLowerCase(Locale.ROOT))));
    return near.or(
        () ->
            words.stream()
                .filter(
                    word ->
                        wanted.length() >= LETTERS_PER_MISTAKE
                            && word.toLowerCase(Locale.ROOT).startsWith(wanted))
                .findFirst());
  }

  /** {@code " (did you mean 'obc'?)"}, or nothing where no word is near. */
  public static String didYouMean(String written, Collection<String> words) {
    return nearest(written, words).map(word -> " (did you mean '" + word + "'?)").orElse("");
  }

  /** Levenshtein's distance: insertions, deletions and substitutions. */
  public static int distance(String a, String b) {
    int[] row = new int[b.length() + 1];
    for (int j = 0; j <= b.length(); j++) {
      row[j] = j;
    }
    for (int i = 1; i <= a.length(); i++) {
      int diagonal = row[0];
      row[0] = i;
      for (int j = 1; j <= b.length(); j++) {
        int replaced = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
        diagonal = row[j];
        row[j] = Math.min(replaced, 1 + Math.min(row[j], row[j - 1]));
      }
    }
    return row[b.length()];
  }
}
