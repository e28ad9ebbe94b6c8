package org.taco4j.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.data.ImageFolders.Request;

class ImageFoldersTest {
  @TempDir Path root;
  private final Notices notices = new Notices();

  @ParameterizedTest
  @CsvSource({
    "cifar10, 10, 2000, 600",
    "cifar100-consensus, 100, 371, 349",
    "in1k-food, 1000, 57, 57",
    "in1k-household, 1000, 72, 72",
    "in1k-music, 1000, 45, 45",
    "tiny-food, 1000, 1280, 800",
    "tiny-vehicles, 1000, 1200, 750",
  })
  void realSetsLoad(String set, int outputs, int train, int test) {
    Request request =
        Request.of(List.of(Shared.at("real/images/" + set)), outputs).withHeldOut("none");
    ImageDataset data = ImageFolders.load(request, notices);
    assertEquals(train, data.calibration().size());
    assertEquals(test, data.test().size());
    assertEquals(List.of(), notices.list());
    List<Integer> indices = data.classes().stream().map(TaskClass::modelIndex).toList();
    assertEquals(indices.stream().sorted().toList(), indices);
    for (ImageFile file : data.test()) {
      assertEquals(
          data.classes().get(file.classIndex()).folder(),
          String.valueOf(file.path().getParent().getFileName()));
    }
  }

  @Test
  void testOnlySetIsForEvaluation() {
    Request request = Request.of(List.of(Shared.at("real/images/in1k-sample")), 1000);
    assertEquals(455, ImageFolders.load(request.withNeedCalibration(false), notices).test().size());
    Expect.data(() -> ImageFolders.load(request, notices), "calibration image", "tench");
  }

  @Test
  void twoFoldersMakeOneTask() {
    Request request =
        Request.of(
            List.of(
                Shared.at("real/images/in1k-food"),
                Shared.at("real/images/in1k-household"),
                Shared.at("real/images/tiny-food")),
            1000);
    ImageDataset data = ImageFolders.load(request, notices);
    // Seven of the sixteen tiny foods are among the nineteen.
    Set<String> folders =
        data.classes().stream().map(TaskClass::folder).collect(Collectors.toSet());
    assertEquals(data.classes().size(), folders.size());
    assertTrue(folders.size() > 43 && folders.size() < 59, "" + folders.size());
    assertEquals(57 + 72 + 800, data.test().size());
  }

  @Test
  void withoutTableTheOrderIsAlphabetical() throws IOException {
    for (String name : List.of("cat", "ant", "bee")) {
      images(root.resolve(name), 4);
    }
    ImageDataset data = load(3);
    assertEquals(
        List.of(
            new TaskClass("ant", 0, "ant"),
            new TaskClass("bee", 1, "bee"),
            new TaskClass("cat", 2, "cat")),
        data.classes());
    assertEquals(3, notice("classes-by-order").value());
    Expect.data(() -> load(4), "ant", "4 outputs", "classes.tsv", "--labels");
  }

  @Test
  void onlyClassesKeepTheirAlphabeticalIndex() throws IOException {
    for (String name : List.of("cat", "ant", "bee")) {
      images(root.resolve(name), 4);
    }
    ImageDataset data = load(request(3).withOnlyClasses(List.of("Cat")));
    assertEquals(List.of(new TaskClass("cat", 2, "cat")), data.classes());
  }

  @ParameterizedTest
  @ValueSource(strings = {"test", "val", "valid", "validation"})
  void trainAndTestFolders(String testName) throws IOException {
    images(root.resolve("train/a"), 6);
    images(root.resolve("train/b"), 6);
    images(root.resolve(testName + "/a"), 2);
    images(root.resolve(testName + "/b"), 3);
    ImageDataset data = load(request(2).withShots(2));
    assertEquals(4, data.calibration().size());
    assertEquals(4, data.heldOut().size());
    assertEquals(5, data.test().size());
    assertTrue(all(data.test()).stream().allMatch(name -> name.startsWith(testName)));
    assertEquals(8, new HashSet<>(all(data.calibration(), data.heldOut())).size());
  }

  @ParameterizedTest
  @CsvSource({"0.3, 10, 3", "0.3, 2, 1", "0.01, 10, 1", "0.99, 10, 9", "0, 10, 0", "0.3, 1, 0"})
  void withoutTestFolderTheImagesAreSplit(double fraction, int count, int expected)
      throws IOException {
    images(root.resolve("train/a"), count);
    images(root.resolve("train/b"), 10);
    ImageDataset data = load(request(2).withTestFraction(fraction).withHeldOut("none"));
    assertEquals(expected, data.test().stream().filter(file -> file.classIndex() == 0).count());
    assertEquals(
        count - expected,
        data.calibration().stream().filter(file -> file.classIndex() == 0).count());
    if (expected == 0) {
      assertEquals("a", notice("class-untested").subject());
    }
    if (fraction > 0) {
      assertEquals(data.test().size(), notice("split-by-seed").value());
    }
  }

  @Test
  void evaluationSeesTheSameSplit() throws IOException {
    images(root.resolve("a"), 9);
    images(root.resolve("b"), 9);
    ImageDataset both = load(request(2));
    ImageDataset testOnly = load(request(2).withNeedCalibration(false));
    assertEquals(both.test(), testOnly.test());
    assertEquals(List.of(), testOnly.calibration());
    ImageDataset everything = load(request(2).withNeedCalibration(false).withTestFraction(1));
    assertEquals(18, everything.test().size());
  }

  @Test
  void drawsDependOnSeedAndNamesOnly() throws IOException {
    List<Integer> order = new ArrayList<>(IntStream.range(0, 20).boxed().toList());
    images(root.resolve("one/a"), order);
    images(root.resolve("one/b"), order);
    Collections.reverse(order);
    images(root.resolve("two/b"), order);
    images(root.resolve("two/a"), order);
    images(root.resolve("two/another"), order);
    Request one = Request.of(List.of(root.resolve("one")), 2).withShots(5).withSeed(3);
    ImageDataset first = load(one);
    Request two = Request.of(List.of(root.resolve("two")), 3).withShots(5).withSeed(3);
    ImageDataset second = load(two.withOnlyClasses(List.of("b", "a")));
    assertEquals(names(first.calibration()), names(second.calibration()));
    assertEquals(names(first.heldOut()), names(second.heldOut()));
    assertEquals(names(first.test()), names(second.test()));
    assertNotEquals(names(first.calibration()), names(load(one.withSeed(4)).calibration()));
    // Fewer shots are the first of more shots.
    assertEquals(
        names(first.calibration()).subList(0, 2),
        names(load(one.withShots(2)).calibration()).subList(0, 2));
    // The draw is part of what a seed promises: it does not change from release to release.
    assertEquals(List.of("a/10.png", "a/18.png"), names(first.calibration()).subList(0, 2));
  }

  @Test
  void heldOutAutoTakesWhatIsLeft() throws IOException {
    images(root.resolve("train/a"), 7);
    images(root.resolve("train/b"), 5);
    images(root.resolve("test/a"), 1);
    images(root.resolve("test/b"), 1);
    ImageDataset data = load(request(2).withShots(5));
    assertEquals(10, data.calibration().size());
    assertEquals(2, data.heldOut().size());
    ImageDataset few = load(request(2).withShots(6));
    assertEquals(11, few.calibration().size());
    assertEquals(5, notice("few-shots").value());
    assertEquals("b", notice("few-shots").subject());
  }

  @ParameterizedTest
  @CsvSource({"8, 4, 9, 3", "3, 3, 4, 2", "1, 1, 2, 0", "2, 1, 2, 1"})
  void heldOutAutoSetsAQuarterAside(int a, int b, int calibration, int heldOut) throws IOException {
    images(root.resolve("train/a"), a);
    images(root.resolve("train/b"), b);
    images(root.resolve("test/a"), 1);
    images(root.resolve("test/b"), 1);
    ImageDataset data = load(2);
    assertEquals(heldOut, data.heldOut().size());
    assertEquals(calibration, data.calibration().size());
    assertEquals(a + b, new HashSet<>(all(data.calibration(), data.heldOut())).size());
    if (heldOut == 0) {
      assertEquals(0, notice("no-held-out").value());
    } else {
      assertEquals(heldOut, notice("held-out-from-calibration").value());
    }
  }

  @Test
  void heldOutByNumber() throws IOException {
    images(root.resolve("train/a"), 8);
    images(root.resolve("train/b"), 2);
    images(root.resolve("test/a"), 1);
    images(root.resolve("test/b"), 1);
    ImageDataset data = load(request(2).withHeldOut("2"));
    assertEquals(6 + 1, data.calibration().size());
    assertEquals(2 + 1, data.heldOut().size());
    assertEquals(1, notice("few-held-out").value());
    ImageDataset shots = load(request(2).withHeldOut("2").withShots(2));
    assertEquals(4, shots.calibration().size());
    assertEquals(2, shots.heldOut().size());
    Expect.usage(() -> request(2).withHeldOut("some"), "some");
    Expect.usage(() -> request(2).withHeldOut("-1"), "-1");
  }

  @Test
  void otherFilesAreNotedAndHiddenOnesNot() throws IOException {
    images(root.resolve("a"), 4);
    images(root.resolve("b"), 4);
    Files.writeString(root.resolve("a/notes.txt"), "x");
    Files.writeString(root.resolve("b/noextension"), "x");
    Files.writeString(root.resolve("b/.hidden.png"), "x");
    Files.createDirectories(root.resolve(".git"));
    Files.writeString(root.resolve("b/UPPER.JPEG"), "x");
    images(root.resolve("b/nested/.cache"), 2);
    images(root.resolve("b/nested"), 2);
    ImageDataset data = load(2);
    assertEquals(
        4 + 4 + 1 + 2, data.calibration().size() + data.heldOut().size() + data.test().size());
    assertEquals(2, notice("files-ignored").value());
  }

  @Test
  void aClassMayBeCalledTrain() throws IOException {
    images(root.resolve("bus"), 4);
    images(root.resolve("train"), 4);
    ImageDataset data = load(2);
    assertEquals(List.of("bus", "train"), data.classes().stream().map(TaskClass::name).toList());
  }

  @Test
  void foldersBesideTrainAndTestAreNoted() throws IOException {
    images(root.resolve("train/a"), 2);
    images(root.resolve("test/a"), 2);
    images(root.resolve("val/a"), 2);
    images(root.resolve("extra"), 2);
    load(1);
    List<String> ignored =
        notices.list().stream()
            .filter(notice -> notice.code().equals("folders-ignored"))
            .map(notice -> String.valueOf(Path.of(notice.subject()).getFileName()))
            .toList();
    assertEquals(List.of("val", "extra"), ignored);
  }

  @Test
  void classesTable() throws IOException {
    images(root.resolve("train/n1"), 2);
    images(root.resolve("train/n2"), 2);
    images(root.resolve("train/n3"), 2);
    images(root.resolve("test/n1"), 1);
    images(root.resolve("test/n2"), 1);
    table("\ufefffolder\tsuper\tmodel_index\tname\r\nn1\tx\t7\tegg plant\r\nn2\ty\t3\tfig\r\n\r\n");
    ImageDataset data = load(8);
    assertEquals(
        List.of(new TaskClass("n2", 3, "fig"), new TaskClass("n1", 7, "egg plant")),
        data.classes());
    assertEquals(1, notice("folders-ignored").value());
    assertEquals(
        List.of(new TaskClass("n1", 7, "egg plant")),
        load(request(8).withOnlyClasses(List.of("Egg-Plant"))).classes());
    Expect.data(() -> load(request(8).withOnlyClasses(List.of("fog"))), "'fog'", "nearest are fig");
    Expect.data(() -> load(7), "egg plant", "index is 7", "0 to 6");

    table("folder\tmodel_index\tname\nn1\t7\ta\nn2\t7\tb\n");
    Expect.data(() -> load(8), "n1", "n2", "output 7");
    table("folder\tmodel_index\tname\nn1\t7\ta\nn9\t3\tgone\n");
    Expect.data(() -> load(8), "gone", "n9", "missing");
    assertEquals(1, load(request(8).withOnlyClasses(List.of("n1"))).classes().size());
    table("folder\tmodel_index\nn1\tseven\n");
    Expect.data(() -> load(8), "classes.tsv:2", "seven");
    table("folder\tindex\nn1\t7\n");
    Expect.data(() -> load(8), "model_index");
    table("folder\tmodel_index\nn1\t7\nn1\t8\n");
    Expect.data(() -> load(8), "classes.tsv:3", "twice");
    table("");
    Expect.data(() -> load(8), "empty");
    table("folder\tmodel_index\nn1\t-1\n");
    Expect.data(() -> load(8), "index is -1");
  }

  @Test
  void labelsGiveTheIndex() throws IOException {
    images(root.resolve("n02"), 2);
    images(root.resolve("fig"), 2);
    Path table = root.resolve("labels.tsv");
    Files.writeString(table, "model_index\twnid\tname\n4\tn01\tfig\n2\tn02\tegg\n0\tn03\thut\n");
    Request request = request(5).withLabels(table);
    assertEquals(
        List.of(new TaskClass("n02", 2, "egg"), new TaskClass("fig", 4, "fig")),
        load(request).classes());
    Path plain = root.resolve("labels.txt");
    Files.writeString(plain, "hut\nfig\nn02\n");
    assertEquals(
        List.of(new TaskClass("fig", 1, "fig"), new TaskClass("n02", 2, "n02")),
        load(request(3).withLabels(plain)).classes());
    Files.writeString(plain, "hut\nfog\nn02\n");
    Expect.data(() -> load(request(3).withLabels(plain)), "'fig'", "labels.txt", "fog");
    Files.writeString(plain, "fig\nfig\nn02\n");
    Expect.data(() -> load(request(3).withLabels(plain)), "'fig'", "0 and 1");
    Expect.data(() -> load(request(3).withLabels(root.resolve("no.txt"))), "no.txt");
  }

  @Test
  void imageNetLabelsResolveRealFolders() {
    LabelList labels = LabelList.read(Shared.at("real/labels/imagenet1k.tsv"), 1000);
    assertEquals(1000, labels.labels().size());
    assertEquals(0, labels.find("n01440764").orElseThrow().modelIndex());
    assertEquals(1, labels.find("goldfish").orElseThrow().modelIndex());
  }

  @Test
  void synsetTextFiles() throws IOException {
    Path file = root.resolve("synset.txt");
    Files.writeString(file, "n01440764 tench, Tinca tinca\nn01443537 goldfish\n");
    Expect.data(() -> LabelList.read(file, 1000), "synset.txt", "2 lines", "1000 outputs");
    LabelList labels = LabelList.read(file, 2);
    assertEquals("tench, Tinca tinca", labels.find("n01440764").orElseThrow().name());
    assertEquals(1, labels.find("goldfish").orElseThrow().modelIndex());
  }

  @Test
  void aSpecialistsOwnClassesCount() throws IOException {
    images(root.resolve("train/n1"), 2);
    images(root.resolve("train/n2"), 2);
    images(root.resolve("test/n1"), 1);
    images(root.resolve("test/n2"), 1);
    table("folder\tmodel_index\tname\nn1\t900\tegg\nn2\t300\tfig\n");
    Request request =
        request(2)
            .withModelClasses(List.of(new TaskClass("n2", 0, "fig"), new TaskClass("x", 1, "egg")));
    assertEquals(
        List.of(new TaskClass("n2", 0, "fig"), new TaskClass("n1", 1, "egg")),
        load(request).classes());
    Request other = request(1).withModelClasses(List.of(new TaskClass("n2", 0, "fig")));
    Expect.data(() -> load(other), "egg", "n1", "fig");
    assertEquals(1, load(other.withOnlyClasses(List.of("fig"))).classes().size());
  }

  @Test
  void emptyClassFoldersAreErrors() throws IOException {
    images(root.resolve("a"), 2);
    Files.createDirectories(root.resolve("b"));
    Expect.data(() -> load(2), "'b'", "no image file");
    Files.writeString(root.resolve("b/readme.txt"), "x");
    Expect.data(() -> load(2), "'b'", "no image file");
    assertEquals(1, load(request(2).withOnlyClasses(List.of("a"))).classes().size());
  }

  @Test
  void classWithoutCalibrationImageIsAnError() throws IOException {
    images(root.resolve("train/a"), 2);
    images(root.resolve("test/a"), 2);
    images(root.resolve("test/b"), 2);
    Expect.data(() -> load(2), "'b'", "calibration image");
    assertEquals(4, load(request(2).withNeedCalibration(false)).test().size());
  }

  @Test
  void missingAndEmptyRootsAreErrors() throws IOException {
    Request gone = Request.of(List.of(root.resolve("gone")), 2);
    Expect.data(() -> load(gone), "gone");
    Expect.data(() -> load(2), root.toString(), "no class folders");
    Expect.usage(() -> Request.of(List.of(), 2), "no data folder");
    Expect.usage(() -> request(2).withShots(-1), "-1");
    Expect.usage(() -> request(2).withTestFraction(Double.NaN), "NaN");
    images(root.resolve("train/a"), 2);
    Expect.data(
        () -> load(request(1).withNeedCalibration(false).withTestFraction(0)), "no test images");
  }

  @Test
  void sharedContentIsRefused() throws IOException {
    images(root.resolve("train/a"), 9);
    images(root.resolve("train/b"), 9);
    images(root.resolve("test/a"), 2);
    images(root.resolve("test/b"), 2);
    Files.copy(root.resolve("train/b/3.png"), root.resolve("test/a/copy.png"));
    // Refused whether or not the image is drawn.
    Expect.data(
        () -> load(request(2).withShots(1)),
        Path.of("train", "b", "3.png").toString(),
        Path.of("test", "a", "copy.png").toString());
  }

  @Test
  void conflictingTablesAreErrors() throws IOException {
    images(root.resolve("one/a"), 2);
    images(root.resolve("two/a"), 2);
    Files.writeString(root.resolve("one/classes.tsv"), "folder\tmodel_index\na\t1\n");
    Files.writeString(root.resolve("two/classes.tsv"), "folder\tmodel_index\na\t2\n");
    Request both = Request.of(List.of(root.resolve("one"), root.resolve("two")), 5);
    Expect.data(() -> load(both), "'a'", "1", "2");
    Files.writeString(root.resolve("two/classes.tsv"), "folder\tmodel_index\na\t1\n");
    ImageDataset data = load(both);
    assertEquals(4, data.calibration().size() + data.heldOut().size() + data.test().size());
  }

  @Test
  void fingerprintGoesByNamesAndContent() throws IOException {
    images(root.resolve("one/a"), 3);
    images(root.resolve("two/a"), 3);
    List<TaskClass> classes = List.of(new TaskClass("a", 0, "a"));
    List<ImageFile> files = new ArrayList<>();
    List<ImageFile> elsewhere = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      files.add(new ImageFile(root.resolve("one/a/" + i + ".png"), 0));
      Path other = root.resolve("two/a/" + i + ".png");
      Files.writeString(other, Files.readString(files.getLast().path()));
      elsewhere.addFirst(new ImageFile(other, 0));
    }
    String hash = DataFingerprint.of(classes, files);
    assertEquals(64, hash.length());
    assertEquals(hash, DataFingerprint.of(classes, elsewhere));
    assertNotEquals(hash, DataFingerprint.of(classes, files.subList(0, 2)));
    Files.writeString(elsewhere.getFirst().path(), "changed");
    assertNotEquals(hash, DataFingerprint.of(classes, elsewhere));
  }

  private Request request(int outputs) {
    return Request.of(List.of(root), outputs);
  }

  private ImageDataset load(int outputs) {
    return load(request(outputs));
  }

  private ImageDataset load(Request request) {
    return ImageFolders.load(request, notices);
  }

  private Notice notice(String code) {
    return notices.list().stream()
        .filter(notice -> notice.code().equals(code))
        .findFirst()
        .orElseThrow(() -> new AssertionError(code + " is not in " + notices.list()));
  }

  private void table(String text) throws IOException {
    Files.writeString(root.resolve("classes.tsv"), text);
  }

  /** Loading does not decode, so any content does; each file's differs. */
  private static void images(Path folder, int count) throws IOException {
    images(folder, IntStream.range(0, count).boxed().toList());
  }

  private static void images(Path folder, List<Integer> numbers) throws IOException {
    Files.createDirectories(folder);
    for (int number : numbers) {
      Path file = folder.resolve(number + ".png");
      Files.writeString(file, file.toString());
    }
  }

  private List<String> all(List<ImageFile> files) {
    return files.stream().map(file -> root.relativize(file.path()).toString()).toList();
  }

  private List<String> all(List<ImageFile> a, List<ImageFile> b) {
    List<String> names = new ArrayList<>(all(a));
    names.addAll(all(b));
    return names;
  }

  private static List<String> names(List<ImageFile> files) {
    return files.stream()
        .map(file -> file.path().getParent().getFileName() + "/" + file.path().getFileName())
        .toList();
  }
}
