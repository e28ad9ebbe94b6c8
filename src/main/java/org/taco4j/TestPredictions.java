package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.taco4j.bench.Evaluator.Prediction;
import org.taco4j.common.AtomicFiles;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Thumbnails;
import org.taco4j.data.UnreadableImageException;
import org.taco4j.report.RunReport;

/**
 * What dense and compressed model took each test image for: confusion matrices, and a few images
 * that show where the two differ and where they agree.
 */
final class TestPredictions {
  /** Images in the report at most. */
  private static final int EXAMPLES = 12;

  /** Pixels of a thumbnail's long side. */
  private static final int THUMBNAIL = 160;

  /** An image and what both models took it for. */
  private record Pair(Prediction dense, Prediction compressed) {
    ImageFile file() {
      return dense.file();
    }
  }

  private final List<Pair> pairs = new ArrayList<>();

  private TestPredictions(List<Prediction> dense, List<Prediction> compressed) {
    Map<ImageFile, Prediction> byFile = new HashMap<>();
    compressed.forEach(prediction -> byFile.put(prediction.file(), prediction));
    for (Prediction prediction : dense) {
      Prediction other = byFile.get(prediction.file());
      if (other != null) {
        pairs.add(new Pair(prediction, other));
      }
    }
  }

  /**
   * The report's part on single images; writes the thumbnails. Null where nothing was classified.
   */
  static RunReport.@Nullable Predictions report(
      List<Prediction> dense, List<Prediction> compressed, RunFolder folder) {
    TestPredictions all = new TestPredictions(dense, compressed);
    if (all.pairs.isEmpty()) {
      return null;
    }
    List<RunReport.Example> examples = new ArrayList<>();
    for (Pair pair : all.examples()) {
      String thumbnail = String.format(Locale.ROOT, "examples/%02d.jpg", examples.size() + 1);
      try {
        byte[] jpeg = Thumbnails.jpeg(pair.file().path(), THUMBNAIL);
        folder.write(thumbnail, file -> AtomicFiles.write(file, out -> out.write(jpeg)));
      } catch (UnreadableImageException e) {
        continue; // It has gone since the models saw it.
      }
      examples.add(
          new RunReport.Example(
              name(pair.file().path()),
              thumbnail,
              pair.file().classIndex(),
              guess(pair.dense()),
              guess(pair.compressed())));
    }
    return new RunReport.Predictions(
        all.count(true, true),
        all.count(true, false),
        all.count(false, true),
        all.count(false, false),
        confusion(all.pairs.stream().map(Pair::dense).toList()),
        confusion(all.pairs.stream().map(Pair::compressed).toList()),
        examples);
  }

  private int count(boolean dense, boolean compressed) {
    return (int) pairs.stream().filter(is(dense, compressed)).count();
  }

  private static Predicate<Pair> is(boolean dense, boolean compressed) {
    return pair -> pair.dense().isRight() == dense && pair.compressed().isRight() == compressed;
  }

  /**
   * Images that tell something: first those that compression lost, then those that it gained and
   * those that both get wrong, and for the rest images that both get right; of many classes, the
   * surest answers first.
   */
  private List<Pair> examples() {
    List<Pair> chosen = new ArrayList<>();
    Map<Integer, Integer> shown = new HashMap<>();
    choose(is(true, false), EXAMPLES / 2 - 1, chosen, shown);
    choose(is(false, true), 2, chosen, shown);
    choose(is(false, false), 2, chosen, shown);
    choose(is(true, true), EXAMPLES - chosen.size(), chosen, shown);
    // Where too few images are right, more that are wrong.
    choose(pair -> true, EXAMPLES - chosen.size(), chosen, shown);
    return chosen;
  }

  /** Chooses up to {@code most} images, each time of a class that was shown least. */
  private void choose(
      Predicate<Pair> which, int most, List<Pair> chosen, Map<Integer, Integer> shown) {
    List<Pair> candidates = new ArrayList<>(pairs.stream().filter(which).toList());
    candidates.removeAll(chosen);
    candidates.sort(
        Comparator.comparingDouble((Pair pair) -> -pair.compressed().probability())
            .thenComparing(pair -> pair.file().path()));
    for (int i = 0; i < most && !candidates.isEmpty(); i++) {
      Pair next = candidates.getFirst();
      for (Pair pair : candidates) {
        if (timesShown(pair, shown) < timesShown(next, shown)) {
          next = pair;
        }
      }
      candidates.remove(next);
      chosen.add(next);
      shown.merge(next.file().classIndex(), 1, Integer::sum);
    }
  }

  private static int timesShown(Pair pair, Map<Integer, Integer> shown) {
    return shown.getOrDefault(pair.file().classIndex(), 0);
  }

  /** By actual and predicted class, without zeros. */
  private static List<RunReport.Confusion> confusion(List<Prediction> predictions) {
    Map<Integer, TreeMap<Integer, Integer>> counts = new TreeMap<>();
    for (Prediction prediction : predictions) {
      counts
          .computeIfAbsent(prediction.file().classIndex(), c -> new TreeMap<>())
          .merge(prediction.predicted(), 1, Integer::sum);
    }
    List<RunReport.Confusion> cells = new ArrayList<>();
    counts.forEach(
        (actual, row) ->
            row.forEach(
                (predicted, count) ->
                    cells.add(new RunReport.Confusion(actual, predicted, count))));
    return cells;
  }

  private static RunReport.Guess guess(Prediction prediction) {
    return new RunReport.Guess(prediction.predicted(), prediction.probability());
  }

  /** Class folder and name. */
  private static String name(Path file) {
    int names = file.getNameCount();
    return file.subpath(Math.max(0, names - 2), names).toString().replace('\\', '/');
  }
}
