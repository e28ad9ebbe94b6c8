package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.bench.Accuracy;
import org.taco4j.bench.Evaluator;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.DataFingerprint;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageDataset;
import org.taco4j.data.ImageFile;
import org.taco4j.data.ImageFolders;
import org.taco4j.data.TaskClass;
import org.taco4j.onnx.HeadGraft;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;

/**
 * TACO beside PTC: a second copy of the dense model is compressed in the same way on as many
 * generic images as the task has for calibration, and both are measured on the task and off it.
 */
final class PtcComparison {
  private final Path folder;
  private final List<ImageFile> calibration;
  private final List<ImageFile> offTask;
  private final List<TaskClass> genericClasses;
  private final List<TaskClass> taskClasses;

  private PtcComparison(
      Path folder,
      List<ImageFile> calibration,
      List<ImageFile> offTask,
      List<TaskClass> genericClasses,
      List<TaskClass> taskClasses) {
    this.folder = folder;
    this.calibration = calibration;
    this.offTask = offTask;
    this.genericClasses = genericClasses;
    this.taskClasses = taskClasses;
  }

  /**
   * Chooses generic images: to calibrate as many as the task has, spread over all classes of the
   * folder; off the task all others of classes that the task does not have.
   *
   * @param request how the folder's classes are found in the model that came in
   */
  static PtcComparison load(
      Path folder, ImageFolders.Request request, ImageDataset task, Notices notices) {
    // Of a folder with test images only, those calibrate.
    boolean testOnly = ImageFolders.hasTestImagesOnly(folder);
    ImageDataset generic;
    try {
      generic = ImageFolders.load(request.withNeedCalibration(!testOnly), notices);
    } catch (TacoException e) {
      throw new TacoException(e.kind(), "--compare-ptc: " + e.getMessage(), e);
    }
    Random random = new Random(request.seed());
    // By class, each in random order: one of each class, then a second one of each, ...
    TreeMap<Integer, List<ImageFile>> byClass = new TreeMap<>();
    List<ImageFile> pool = testOnly ? generic.test() : generic.calibration();
    pool.forEach(f -> byClass.computeIfAbsent(f.classIndex(), c -> new ArrayList<>()).add(f));
    byClass.values().forEach(files -> Collections.shuffle(files, random));
    List<Integer> classes = new ArrayList<>(byClass.keySet());
    Collections.shuffle(classes, random);
    int wanted = task.calibration().size();
    List<ImageFile> chosen = new ArrayList<>();
    for (int round = 0; chosen.size() < wanted; round++) {
      boolean any = false;
      for (int c : classes) {
        List<ImageFile> files = Objects.requireNonNull(byClass.get(c));
        if (round < files.size()) {
          any = true;
          // The task's own test images are for testing only.
          if (chosen.size() < wanted && !isIn(task.test(), files.get(round))) {
            chosen.add(files.get(round));
          }
        }
      }
      if (!any) {
        break;
      }
    }
    if (chosen.isEmpty()) {
      throw TacoException.data(folder + ": no generic images to calibrate on");
    }
    if (chosen.size() < wanted) {
      notices.add(
          "fewer-generic-images",
          folder.toString(),
          "there are only %d generic images, and %d of the task: the comparison is not even"
              .formatted(chosen.size(), wanted),
          chosen.size());
    }
    Set<Integer> ofTask =
        task.classes().stream().map(TaskClass::modelIndex).collect(Collectors.toSet());
    List<ImageFile> offTask = new ArrayList<>(testOnly ? List.of() : generic.test());
    pool.stream().filter(file -> !chosen.contains(file)).forEach(offTask::add);
    offTask.removeIf(
        file -> ofTask.contains(generic.classes().get(file.classIndex()).modelIndex()));
    // In the order of the files, so that batches do not depend on the draw.
    chosen.sort(Comparator.comparing(ImageFile::path));
    return new PtcComparison(folder, chosen, offTask, generic.classes(), task.classes());
  }

  private static boolean isIn(List<ImageFile> files, ImageFile file) {
    return files.stream().anyMatch(other -> other.path().equals(file.path()));
  }

  /** The generic images that calibrate. */
  List<ImageFile> calibration() {
    return calibration;
  }

  /**
   * What is compared.
   *
   * @param whole the dense model with all classes
   * @param dense the dense model of the task
   * @param taco the specialist
   * @param ptc the copy compressed on generic images
   */
  record Models(OnnxModel whole, OnnxModel dense, OnnxModel taco, OnnxModel ptc) {}

  /**
   * Measures on the task's test images and off the task; {@code batches} makes batches of files.
   */
  RunReport.PtcComparison measure(
      Models models,
      List<ImageFile> test,
      Function<List<ImageFile>, ImageBatches> batches,
      Workers workers,
      RunReport.@Nullable Tuning tuning,
      double seconds) {
    ModelInput input = ModelInput.of(models.dense());
    List<Integer> ofTask = IntStream.range(0, taskClasses.size()).boxed().toList();
    List<Integer> taskOutputs = taskClasses.stream().map(TaskClass::modelIndex).toList();
    List<Integer> outputs = genericClasses.stream().map(TaskClass::modelIndex).toList();
    RunReport.Versus task =
        new RunReport.Versus(
            topOne(models.dense(), input, batches.apply(test), ofTask, workers),
            topOne(models.taco(), input, batches.apply(test), ofTask, workers),
            topOne(models.ptc(), input, batches.apply(test), ofTask, workers));
    Optional<OnnxModel> taco = HeadGraft.graft(models.taco(), models.dense(), models.whole());
    Optional<OnnxModel> ptc = HeadGraft.graft(models.ptc(), models.dense(), models.whole());
    RunReport.Versus fullHead = null;
    RunReport.Versus off = null;
    if (taco.isPresent() && ptc.isPresent()) {
      fullHead =
          new RunReport.Versus(
              topOne(models.whole(), input, batches.apply(test), taskOutputs, workers),
              topOne(taco.get(), input, batches.apply(test), taskOutputs, workers),
              topOne(ptc.get(), input, batches.apply(test), taskOutputs, workers));
      if (!offTask.isEmpty()) {
        off =
            new RunReport.Versus(
                topOne(models.whole(), input, batches.apply(offTask), outputs, workers),
                topOne(taco.get(), input, batches.apply(offTask), outputs, workers),
                topOne(ptc.get(), input, batches.apply(offTask), outputs, workers));
      }
    }
    return new RunReport.PtcComparison(
        folder.toString(),
        calibration.size(),
        DataFingerprint.of(genericClasses, calibration),
        task,
        fullHead,
        off,
        tuning,
        seconds);
  }

  /** Over all outputs of the model. */
  private static RunReport.TopOne topOne(
      OnnxModel model,
      ModelInput input,
      ImageBatches images,
      List<Integer> outputs,
      Workers workers) {
    try (Session session = Session.open(model, 1)) {
      Accuracy all = Evaluator.evaluate(session, input, images, outputs, workers).all();
      return new RunReport.TopOne(all.top1(), all.top1Low(), all.top1High(), all.images());
    }
  }
}
