package org.taco4j.data;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.taco4j.common.Notices;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;
import org.taco4j.data.FolderScan.ClassFolder;
import org.taco4j.data.FolderScan.Found;
import org.taco4j.data.FolderScan.Part;

/**
 * Loads a task from image folders.
 *
 * <p>A data folder holds one folder of images a class, either directly or within {@code train} (or
 * {@code calibration}) and {@code test} (or {@code val}, {@code valid}, {@code validation}).
 * Without a test folder the images of each class are split by chance, from the seed. What is chosen
 * for a class depends on the seed, the class folder's name and its files' names only: not on the
 * file system, nor on other classes.
 *
 * <p>Which output of the model a class stands for is said by, in this order: the model's own
 * classes, where it has them (then nothing else is asked); the label list, where one is given;
 * {@code classes.tsv} in the data folder, parted by tabs, with the columns {@code folder}, {@code
 * model_index} and {@code name}; and, if there are exactly as many folders as outputs, alphabetical
 * order.
 */
public final class ImageFolders {
  private ImageFolders() {}

  /**
   * What to load.
   *
   * @param roots data folders; their classes are united, and the same folder name in two of them is
   *     one class
   * @param shots calibration images of each class at most; 0 for all
   * @param heldOut {@code auto} (up to as many images as are chosen for calibration, of those not
   *     chosen; where none at all are left, a quarter of the chosen ones is set aside), {@code
   *     none}, or a number of images per class
   * @param onlyClasses folders or names of the classes to keep; empty for all
   * @param labels a label list as {@link LabelList#read} takes it
   * @param modelOutputs number of the model's outputs
   * @param modelClasses the classes that the model itself names, a specialist's; their model index
   *     counts the outputs of that model
   * @param seed of every choice made here
   * @param testFraction share of each class's images that becomes test images where there is no
   *     test folder, 0 to 1; at least one image of a class with two or more, and, short of 1, never
   *     all
   * @param needCalibration false when the test images are all that is wanted; then {@code
   *     calibration} and {@code heldOut} stay empty
   */
  public record Request(
      List<Path> roots,
      int shots,
      String heldOut,
      List<String> onlyClasses,
      Optional<Path> labels,
      int modelOutputs,
      Optional<List<TaskClass>> modelClasses,
      long seed,
      double testFraction,
      boolean needCalibration) {
    /**
     * Checks the numbers.
     *
     * @throws TacoException of kind USAGE
     */
    public Request {
      roots = roots.stream().distinct().toList();
      onlyClasses = List.copyOf(onlyClasses);
      modelClasses = modelClasses.map(List::copyOf);
      if (roots.isEmpty()) {
        throw TacoException.usage("no data folder is given");
      }
      if (shots < 0) {
        throw TacoException.usage("shots must be at least 1, or 0 for all, not " + shots);
      }
      if (modelOutputs < 1) {
        throw TacoException.usage("the model has " + modelOutputs + " outputs");
      }
      if (!(testFraction >= 0 && testFraction <= 1)) {
        throw TacoException.usage("the test fraction must be in 0..1, not " + testFraction);
      }
      HeldOutPolicy.parse(heldOut);
    }

    /** All images of all classes: everything else at its default, seed 0. */
    public static Request of(List<Path> roots, int modelOutputs) {
      return new Request(
          roots,
          0,
          "auto",
          List.of(),
          Optional.empty(),
          modelOutputs,
          Optional.empty(),
          0,
          0.3,
          true);
    }

    /** This with another number of calibration images per class; 0 for all. */
    public Request withShots(int newShots) {
      return new Request(
          roots,
          newShots,
          heldOut,
          onlyClasses,
          labels,
          modelOutputs,
          modelClasses,
          seed,
          testFraction,
          needCalibration);
    }

    /** This with another policy for held-out images. */
    public Request withHeldOut(String newHeldOut) {
      return new Request(
          roots,
          shots,
          newHeldOut,
          onlyClasses,
          labels,
          modelOutputs,
          modelClasses,
          seed,
          testFraction,
          needCalibration);
    }

    /** This with the classes to keep, by folder or name; empty for all. */
    public Request withOnlyClasses(List<String> newOnlyClasses) {
      return new Request(
          roots,
          shots,
          heldOut,
          newOnlyClasses,
          labels,
          modelOutputs,
          modelClasses,
          seed,
          testFraction,
          needCalibration);
    }

    /** This with a label list. */
    public Request withLabels(Path newLabels) {
      return new Request(
          roots,
          shots,
          heldOut,
          onlyClasses,
          Optional.of(newLabels),
          modelOutputs,
          modelClasses,
          seed,
          testFraction,
          needCalibration);
    }

    /** This with the classes that the model names. */
    public Request withModelClasses(List<TaskClass> newModelClasses) {
      return new Request(
          roots,
          shots,
          heldOut,
          onlyClasses,
          labels,
          modelOutputs,
          Optional.of(newModelClasses),
          seed,
          testFraction,
          needCalibration);
    }

    /** This with another seed. */
    public Request withSeed(long newSeed) {
      return new Request(
          roots,
          shots,
          heldOut,
          onlyClasses,
          labels,
          modelOutputs,
          modelClasses,
          newSeed,
          testFraction,
          needCalibration);
    }

    /** This with another share of test images where there is no test folder. */
    public Request withTestFraction(double newTestFraction) {
      return new Request(
          roots,
          shots,
          heldOut,
          onlyClasses,
          labels,
          modelOutputs,
          modelClasses,
          seed,
          newTestFraction,
          needCalibration);
    }

    /** This for the test images only, or not. */
    public Request withNeedCalibration(boolean newNeedCalibration) {
      return new Request(
          roots,
          shots,
          heldOut,
          onlyClasses,
          labels,
          modelOutputs,
          modelClasses,
          seed,
          testFraction,
          newNeedCalibration);
    }
  }

  /** Whether a data folder has a folder of test images, and none of images to calibrate on. */
  public static boolean hasTestImagesOnly(Path root) {
    return FolderScan.TEST_NAMES.stream().anyMatch(name -> Files.isDirectory(root.resolve(name)))
        && FolderScan.TRAIN_NAMES.stream().noneMatch(name -> Files.isDirectory(root.resolve(name)));
  }

  /** The files of one class; {@code train} and {@code test} are sorted by name. */
  private record Pool(TaskClass taskClass, List<Path> train, List<Path> test) {}

  /** The train files of one class, dealt out. */
  private record Deal(List<Path> calibration, List<Path> heldOut) {}

  /**
   * The image files (by their extension) in a folder and its subfolders, in the order of their
   * paths; hidden ones are passed over.
   *
   * @throws TacoException of kind DATA when the folder cannot be read
   */
  public static List<Path> imagesIn(Path folder) {
    return FolderScan.imagesIn(folder, file -> {});
  }

  /**
   * Loads the lists; no image is decoded. Noted are: classes with fewer images than shots ({@code
   * few-shots}), without test images ({@code class-untested}), images set aside ({@code
   * held-out-from-calibration}) or missing ({@code no-held-out}, {@code few-held-out}), files and
   * folders that are ignored ({@code files-ignored}, {@code folders-ignored}), a split by chance
   * ({@code split-by-seed}), and classes taken by order ({@code classes-by-order}).
   *
   * @throws TacoException of kind DATA when a class is empty, without calibration image, listed but
   *     missing, unknown to the model, or unknown at all; when a file is in both the calibration
   *     and the test images; or when files cannot be read
   */
  public static ImageDataset load(Request request, Notices notices) {
    Map<String, Found> found = FolderScan.classes(request.roots(), notices);
    List<TaskClass> classes =
        new ClassResolver(
                found,
                request.modelClasses(),
                request.labels().map(file -> LabelList.read(file, request.modelOutputs())),
                request.modelOutputs())
            .resolve(request.onlyClasses(), notices);
    return load(request, found, classes, notices);
  }

  /**
   * The same for a model that is yet to get outputs for these classes: the folders that are kept,
   * in alphabetical order, are the outputs 0, 1, … What the request says of the model's outputs and
   * labels is not looked at; a {@code classes.tsv} gives display names only.
   */
  public static ImageDataset loadForNewClassifier(Request request, Notices notices) {
    Map<String, Found> found = new TreeMap<>(FolderScan.classes(request.roots(), notices));
    found.values().removeIf(each -> each.folders().isEmpty());
    List<TaskClass> all = new ArrayList<>();
    for (Found each : found.values()) {
      String name = each.listed().map(FolderScan.Listed::name).orElse(each.folder());
      all.add(new TaskClass(each.folder(), all.size(), name));
    }
    List<TaskClass> classes = new ArrayList<>();
    for (TaskClass kept :
        new ClassResolver(found, Optional.of(all), Optional.empty(), all.size())
            .resolve(request.onlyClasses(), notices)) {
      classes.add(new TaskClass(kept.folder(), classes.size(), kept.name()));
    }
    return load(request, found, classes, notices);
  }

  private static ImageDataset load(
      Request request, Map<String, Found> found, List<TaskClass> classes, Notices notices) {
    List<Pool> pools = pools(request, found, classes, notices);
    checkTest(request, pools, notices);
    List<Deal> deals = List.of();
    if (request.needCalibration()) {
      checkTrain(pools);
      checkNothingShared(pools);
      deals = deal(request, pools, notices);
    }
    List<ImageFile> calibration = new ArrayList<>();
    List<ImageFile> heldOut = new ArrayList<>();
    List<ImageFile> test = new ArrayList<>();
    for (int i = 0; i < pools.size(); i++) {
      if (request.needCalibration()) {
        addAll(calibration, deals.get(i).calibration(), i);
        addAll(heldOut, deals.get(i).heldOut(), i);
      }
      addAll(test, pools.get(i).test(), i);
    }
    return new ImageDataset(classes, calibration, heldOut, test);
  }

  private static void addAll(List<ImageFile> files, List<Path> paths, int classIndex) {
    for (Path path : paths) {
      files.add(new ImageFile(path, classIndex));
    }
  }

  private static List<Pool> pools(
      Request request, Map<String, Found> found, List<TaskClass> classes, Notices notices) {
    Map<Path, Integer> ignored = new TreeMap<>();
    List<Pool> pools = new ArrayList<>();
    int split = 0;
    for (TaskClass each : classes) {
      List<Path> train = new ArrayList<>();
      List<Path> test = new ArrayList<>();
      List<Path> unsplit = new ArrayList<>();
      Found at = found.get(each.folder());
      for (ClassFolder folder : at == null ? List.<ClassFolder>of() : at.folders()) {
        if (folder.part() == Part.TRAIN && !request.needCalibration()) {
          continue;
        }
        List<Path> images = FolderScan.images(folder, ignored);
        switch (folder.part()) {
          case TRAIN -> train.addAll(images);
          case TEST -> test.addAll(images);
          case UNSPLIT -> unsplit.addAll(images);
        }
      }
      int testCount = testCount(unsplit.size(), request.testFraction());
      Set<Path> forTest =
          Set.copyOf(
              shuffled(unsplit, request.seed(), "split", each.folder()).subList(0, testCount));
      // Both parts stay in the order of their names.
      for (Path path : unsplit) {
        (forTest.contains(path) ? test : train).add(path);
      }
      split += testCount;
      pools.add(new Pool(each, List.copyOf(train), List.copyOf(test)));
    }
    ignored.forEach(
        (root, count) ->
            notices.add(
                "files-ignored",
                root.toString(),
                count + " files are no images by their extension and are ignored",
                count));
    if (split > 0 && request.testFraction() < 1) {
      notices.add(
          "split-by-seed",
          "test images",
          "there is no test folder: "
              + split
              + " images were drawn as test images by the seed "
              + request.seed(),
          split);
    }
    return pools;
  }

  private static int testCount(int images, double fraction) {
    if (fraction == 0 || fraction == 1 || images < 2) {
      return fraction == 1 ? images : 0;
    }
    return Math.clamp(Math.round(fraction * images), 1, images - 1);
  }

  private static void checkTest(Request request, List<Pool> pools, Notices notices) {
    if (!request.needCalibration() && pools.stream().allMatch(pool -> pool.test().isEmpty())) {
      throw TacoException.data(
          request.roots() + ": there are no test images; add a test folder, or raise the fraction");
    }
    for (Pool pool : pools) {
      if (pool.test().isEmpty()) {
        notices.add(
            "class-untested",
            pool.taskClass().folder(),
            "the class '" + pool.taskClass().name() + "' has no test images",
            0);
      }
    }
  }

  private static void checkTrain(List<Pool> pools) {
    for (Pool pool : pools) {
      if (pool.train().isEmpty()) {
        throw TacoException.data(
            "the class '"
                + pool.taskClass().name()
                + "' (folder '"
                + pool.taskClass().folder()
                + "') has no calibration image; it needs at least 1 in a train folder, or leave the"
                + " class out");
      }
    }
  }

  /**
   * Looks for a test image among all train images, chosen ones or not: such a data set is broken
   * whatever is drawn from it. Only files of equal size are read.
   */
  private static void checkNothingShared(List<Pool> pools) {
    Map<Long, List<Path>> testBySize = new HashMap<>();
    for (Pool pool : pools) {
      for (Path path : pool.test()) {
        testBySize.computeIfAbsent(DataFiles.size(path), size -> new ArrayList<>()).add(path);
      }
    }
    Map<Path, String> hashes = new HashMap<>();
    for (Pool pool : pools) {
      for (Path path : pool.train()) {
        for (Path other : testBySize.getOrDefault(DataFiles.size(path), List.of())) {
          String hash = hashes.computeIfAbsent(path, DataFiles::sha256);
          if (hashes.computeIfAbsent(other, DataFiles::sha256).equals(hash)) {
            throw TacoException.data(
                "the calibration image "
                    + path
                    + " and the test image "
                    + other
                    + " are the same file; accuracy on it would mean nothing: remove one of them");
          }
        }
      }
    }
  }

  private static List<Deal> deal(Request request, List<Pool> pools, Notices notices) {
    HeldOutPolicy policy = HeldOutPolicy.parse(request.heldOut());
    List<Deal> deals = new ArrayList<>();
    for (Pool pool : pools) {
      deals.add(deal(request, policy, pool, notices));
    }
    noteFewShots(request.shots(), pools, notices);
    boolean nothingLeft = deals.stream().allMatch(each -> each.heldOut().isEmpty());
    if (policy instanceof HeldOutPolicy.Auto && nothingLeft) {
      deals = setAside(request.seed(), pools, deals, notices);
    }
    if (!(policy instanceof HeldOutPolicy.None)
        && deals.stream().allMatch(each -> each.heldOut().isEmpty())) {
      notices.add(
          "no-held-out",
          "calibration images",
          "there are too few images to hold any out: layer errors are known on the calibration"
              + " images only",
          0);
    }
    return deals;
  }

  /** One notice for all classes with fewer images than were asked for. */
  private static void noteFewShots(int shots, List<Pool> pools, Notices notices) {
    List<Pool> few = pools.stream().filter(pool -> pool.train().size() < shots).toList();
    if (few.isEmpty()) {
      return;
    }
    notices.add(
        "few-shots",
        few.size() == 1 ? few.getFirst().taskClass().folder() : few.size() + " classes",
        "have fewer than the %d calibration images asked for: %s"
            .formatted(
                shots,
                few.stream()
                    .map(pool -> pool.taskClass().name() + " " + pool.train().size())
                    .collect(Collectors.joining(", "))),
        few.stream().mapToInt(pool -> pool.train().size()).min().orElse(0));
  }

  private static Deal deal(Request request, HeldOutPolicy policy, Pool pool, Notices notices) {
    String folder = pool.taskClass().folder();
    List<Path> shuffled = shuffled(pool.train(), request.seed(), "shots", folder);
    int shots = request.shots();
    int chosen = shots == 0 ? shuffled.size() : Math.min(shots, shuffled.size());
    int left = shuffled.size() - chosen;
    int heldOut =
        switch (policy) {
          case HeldOutPolicy.None none -> 0;
          case HeldOutPolicy.Auto auto -> Math.min(chosen, left);
          case HeldOutPolicy.Fixed fixed -> {
            if (shots == 0) {
              // All images are on offer: the held-out ones are taken first, but never the last.
              chosen = Math.max(1, shuffled.size() - fixed.perClass());
              left = shuffled.size() - chosen;
            }
            if (left < fixed.perClass()) {
              notices.add(
                  "few-held-out",
                  folder,
                  "the class '"
                      + pool.taskClass().name()
                      + "' has "
                      + left
                      + " held-out images instead of "
                      + fixed.perClass(),
                  left);
            }
            yield Math.min(fixed.perClass(), left);
          }
        };
    return new Deal(shuffled.subList(0, chosen), shuffled.subList(chosen, chosen + heldOut));
  }

  /** Takes about a quarter of the calibration images, where no others are left. */
  private static List<Deal> setAside(
      long seed, List<Pool> pools, List<Deal> deals, Notices notices) {
    int total = 0;
    Map<String, Integer> counts = new TreeMap<>();
    List<String> donors = new ArrayList<>();
    for (int i = 0; i < deals.size(); i++) {
      String folder = pools.get(i).taskClass().folder();
      int size = deals.get(i).calibration().size();
      total += size;
      if (size >= 4) {
        counts.put(folder, size / 4);
      }
      if (size >= 2) {
        donors.add(folder);
      }
    }
    if (counts.isEmpty() && !donors.isEmpty()) {
      Collections.sort(donors);
      int wanted = Math.clamp(Math.round(total / 4.0), 1, donors.size());
      for (String folder : shuffled(donors, seed, "held-out", "").subList(0, wanted)) {
        counts.put(folder, 1);
      }
    }
    List<Deal> changed = new ArrayList<>();
    int taken = 0;
    for (int i = 0; i < deals.size(); i++) {
      List<Path> images = deals.get(i).calibration();
      int count = counts.getOrDefault(pools.get(i).taskClass().folder(), 0);
      int kept = images.size() - count;
      changed.add(new Deal(images.subList(0, kept), images.subList(kept, images.size())));
      taken += count;
    }
    if (taken > 0) {
      notices.add(
          "held-out-from-calibration",
          "calibration images",
          taken
              + " of the "
              + total
              + " calibration images are held out, because no others are left; give fewer shots,"
              + " more images, or hold none out",
          taken);
    }
    return changed;
  }

  /**
   * A shuffled copy, by {@link Random} and {@link Collections#shuffle}, both of which are specified
   * to the bit. The seed of each purpose and folder is its own, so that one class's draw does not
   * depend on another's.
   */
  private static <T> List<T> shuffled(List<T> items, long seed, String purpose, String folder) {
    String hash = Sha256.hex(seed + "/" + purpose + "/" + folder);
    long mixed = ByteBuffer.wrap(HexFormat.of().parseHex(hash)).getLong();
    List<T> copy = new ArrayList<>(items);
    Collections.shuffle(copy, new Random(mixed));
    return copy;
  }
}
