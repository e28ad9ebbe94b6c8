package org.taco4j.solve;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.Locale;
import java.util.regex.Matcher;
import org.taco4j.common.TacoException;

/** Which weights of a layer may be removed together, and how many. */
public sealed interface Pattern {
  /** The fraction of weights that the pattern removes. */
  double sparsity();

  /**
   * How many neighbouring columns stand and fall together or share a budget; 1 for single weights.
   */
  int groupSize();

  /** How many consecutive rows share one mask; the last ones of a layer may be fewer. */
  default int maskRows() {
    return 1;
  }

  /** Any weights: {@code ceil(rows * cols * sparsity)} of them. */
  record Unstructured(double sparsity) implements Pattern {
    /** Checks that the sparsity lies in [0, 1). */
    public Unstructured {
      checkSparsity(sparsity);
    }

    @Override
    public int groupSize() {
      return 1;
    }

    @Override
    public String toString() {
      return "unstructured:" + decimal(sparsity);
    }
  }

  /**
   * N:M, at most {@code kept} non-zeros in each {@code groupSize} neighbouring columns of a row:
   * 2:4 keeps two of four.
   */
  record NM(int kept, int groupSize) implements Pattern {
    /** Checks that 0 &lt; kept &lt;= groupSize. */
    public NM {
      if (kept < 1 || kept > groupSize) {
        throw TacoException.usage(
            "pattern %d:%d: N of N:M is the number of weights kept of each M, 1 <= N <= M"
                .formatted(kept, groupSize));
      }
    }

    @Override
    public double sparsity() {
      return 1 - (double) kept / groupSize;
    }

    @Override
    public String toString() {
      return kept + ":" + groupSize;
    }
  }

  /**
   * Blocks of {@code groupSize} neighbouring columns of a row are removed as a whole: {@code
   * ceil(blocks * sparsity)} of them.
   */
  record Block(int groupSize, double sparsity) implements Pattern {
    /** Checks that the size is positive and the sparsity lies in [0, 1). */
    public Block {
      if (groupSize < 1) {
        throw TacoException.usage("block size " + groupSize + ": must be at least 1");
      }
      checkSparsity(sparsity);
    }

    @Override
    public String toString() {
      return "block" + groupSize + ":" + decimal(sparsity);
    }
  }

  /**
   * Blocks of {@code rows} consecutive rows in one column are removed as a whole, so that these
   * rows share one mask: {@code ceil(blocks * sparsity)} blocks of a layer. The last set of rows is
   * smaller where {@code rows} does not divide them.
   */
  record RowBlock(int rows, double sparsity) implements Pattern {
    /** Checks that the size is positive and the sparsity lies in [0, 1). */
    public RowBlock {
      if (rows < 1) {
        throw TacoException.usage("row block size " + rows + ": must be at least 1");
      }
      checkSparsity(sparsity);
    }

    @Override
    public int groupSize() {
      return 1;
    }

    @Override
    public int maskRows() {
      return rows;
    }

    @Override
    public String toString() {
      return "rows" + rows + ":" + decimal(sparsity);
    }
  }

  /**
   * Groups of {@code groupSize} neighbouring columns are removed from all rows: structured pruning.
   * The number of groups is rounded to the nearest, half to even.
   */
  record Columns(double sparsity, int groupSize) implements Pattern {
    /** Checks that the size is positive and the sparsity lies in [0, 1). */
    public Columns {
      if (groupSize < 1) {
        throw TacoException.usage("column group size " + groupSize + ": must be at least 1");
      }
      checkSparsity(sparsity);
    }

    /** How many of {@code groups} groups are removed; never all of them. */
    public int removed(int groups) {
      return Math.min(groups - 1, (int) Math.rint(sparsity * groups));
    }

    @Override
    public String toString() {
      return "columns:" + decimal(sparsity) + (groupSize == 1 ? "" : ":group=" + groupSize);
    }
  }

  /**
   * The pattern that a text names: {@code "0.8"} or {@code "unstructured:0.8"}, {@code "2:4"},
   * {@code "block4:0.8"}, {@code "rows4:0.8"}, {@code "columns:0.5"}, {@code
   * "columns:0.5:group=9"}; {@link Object#toString} of a pattern gives it back.
   *
   * @throws TacoException of kind USAGE for anything else
   */
  static Pattern parse(String text) {
    Matcher matcher = Syntax.PATTERN.matcher(text.strip().toLowerCase(Locale.ROOT));
    if (!matcher.matches()) {
      throw TacoException.usage(
          ("pattern '%s': expected a sparsity such as 0.8, unstructured:0.8, 2:4, block4:0.8, rows4:0.8,"
                  + " columns:0.5 or columns:0.5:group=9")
              .formatted(text));
    }
    try {
      if (matcher.group("kept") != null) {
        return new NM(
            Integer.parseInt(matcher.group("kept")), Integer.parseInt(matcher.group("group")));
      }
      if (matcher.group("columns") != null) {
        String size = matcher.group("size");
        return new Columns(
            Double.parseDouble(matcher.group("columns")),
            size == null ? 1 : Integer.parseInt(size));
      }
      double sparsity = Double.parseDouble(matcher.group("sparsity"));
      if (matcher.group("rows") != null) {
        return new RowBlock(Integer.parseInt(matcher.group("rows")), sparsity);
      }
      return matcher.group("block") == null
          ? new Unstructured(sparsity)
          : new Block(Integer.parseInt(matcher.group("block")), sparsity);
    } catch (NumberFormatException e) {
      throw new TacoException(
          TacoException.Kind.USAGE, "pattern '%s': number out of range".formatted(text), e);
    }
  }

  /**
   * {@code ceil(count * sparsity)}, meant as in decimal arithmetic: 0.7 of 10 is 7, although the
   * double nearest to 0.7 times 10 may lie above it.
   */
  static long portion(long count, double sparsity) {
    return BigDecimal.valueOf(sparsity)
        .multiply(BigDecimal.valueOf(count))
        .setScale(0, RoundingMode.CEILING)
        .longValueExact();
  }

  private static void checkSparsity(double sparsity) {
    if (!(sparsity >= 0 && sparsity < 1)) {
      throw TacoException.usage(
          "sparsity %s: the fraction of weights to remove must be at least 0 and less than 1%s"
              .formatted(
                  decimal(sparsity),
                  sparsity > 1 && sparsity < Syntax.PERCENT
                      ? "; %s %% are %s"
                          .formatted(decimal(sparsity), decimal(sparsity / Syntax.PERCENT))
                      : ""));
    }
  }

  private static String decimal(double value) {
    return Double.isFinite(value)
        ? BigDecimal.valueOf(value).stripTrailingZeros().toPlainString()
        : Double.toString(value);
  }

  /** What {@link #parse} accepts. */
  final class Syntax {
    /** Who writes 60 means 0.6. */
    private static final double PERCENT = 100;

    private static final String NUMBER = "[-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[-+]?\\d+)?";

    private static final java.util.regex.Pattern PATTERN =
        java.util.regex.Pattern.compile(
            "(?<kept>\\d+):(?<group>\\d+)"
                + "|columns:(?<columns>"
                + NUMBER
                + ")(?::group=(?<size>\\d+))?"
                + "|(?:unstructured:|block(?<block>\\d+):|rows(?<rows>\\d+):)?(?<sparsity>"
                + NUMBER
                + ")");

    private Syntax() {}
  }
}
