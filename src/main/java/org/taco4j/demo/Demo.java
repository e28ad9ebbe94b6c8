package org.taco4j.demo;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import org.taco4j.PreprocessingOptions;
import org.taco4j.Progress;
import org.taco4j.Taco;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.report.RunReport;

/**
 * What {@code taco demo} does: the embedded generalist becomes a specialist of one family of drawn
 * things, at three sparsities and in two ways, through the same calls that any user makes. Nothing
 * is computed in advance: pictures, models and numbers are of this run.
 */
public final class Demo {
  private static final long OTHER_SEED = 1_000_003;

  private static final String TUNE = "taco-tmlr";

  private static final String MODEL = "generalist.onnx";
  private static final String PICTURES = "pictures";
  private static final String CHART = "accuracy.svg";
  private static final String PAGE = "report.html";
  private static final String LAYERWISE = "-layerwise";
  private static final String SEQUENTIAL = "-sequential";

  private final Request request;
  private final Size size;
  private final Progress progress;

  private Demo(Request request, Size size, Progress progress) {
    this.request = request;
    this.size = size;
    this.progress = progress;
  }

  /**
   * How much is shown.
   *
   * @param sparsities of the specialists, rising
   * @param shots calibration pictures of a class
   * @param heldOut pictures of a class on which layers are checked
   * @param testPictures of a class of the family
   * @param genericPictures of each class of all families, to calibrate PTC with
   * @param genericTestPictures of each class of all families, to measure the generalist on
   */
  record Size(
      List<Double> sparsities,
      int shots,
      int heldOut,
      int testPictures,
      int genericPictures,
      int genericTestPictures,
      int tunePasses) {

    /** Some hundred test pictures, for intervals of a few points, in some minutes. */
    static final Size USUAL = new Size(List.of(0.8, 0.9, 0.95), 10, 5, 60, 5, 20, 10);
  }

  /**
   * What to show.
   *
   * @param out folder that is written: model and pictures, a run folder for each specialist, and
   *     the page {@code report.html} over all of them
   * @param overwrite whether an earlier demo's folder is replaced
   * @param family whose classes the specialist keeps
   * @param seed of pictures and runs
   * @param threads to compute with
   */
  public record Request(Path out, boolean overwrite, Family family, long seed, int threads) {}

  /**
   * The two specialists of one sparsity.
   *
   * @param sparsity that was asked for
   * @param layerwise each layer solved on its own by FastOBC, then corrected
   * @param sequential by the default solver, sequentially, tuned, with PTC beside it
   */
  public record Specialists(double sparsity, RunReport layerwise, RunReport sequential) {

    /** The dense model on the family. */
    public RunReport.TopOne dense() {
      return measured(sequential.dense());
    }

    /** Each layer on its own. */
    public RunReport.TopOne layerByLayer() {
      return measured(layerwise.compressed());
    }

    /** Sequentially, before tuning. */
    public RunReport.TopOne untuned() {
      return sequential.untuned() == null
          ? measured(sequential.compressed())
          : sequential.untuned();
    }

    /** Sequentially and tuned, unless the trial was better without. */
    public RunReport.TopOne tuned() {
      return measured(sequential.compressed());
    }

    /** The same on generic pictures. */
    public RunReport.TopOne ptc() {
      return Objects.requireNonNull(sequential.ptc()).task().ptc();
    }
  }

  /**
   * What came out.
   *
   * @param generalist the dense model on all classes of all families
   * @param specialists by rising sparsity
   * @param page over all runs
   * @param chart accuracy against sparsity, an SVG file
   */
  public record Result(
      Taco.EvalResult generalist,
      List<Specialists> specialists,
      Path page,
      Path chart,
      double seconds) {}

  /**
   * Runs the demo.
   *
   * @throws TacoException of kind USAGE for a folder that is there; of kind RUNTIME where the file
   *     system refuses or libtorch does not load
   */
  public static Result run(Request request, Progress progress) {
    return run(request, Size.USUAL, progress);
  }

  /** {@link #run(Request, Progress)} of another size. */
  static Result run(Request request, Size size, Progress progress) {
    return new Demo(request, size, progress).run();
  }

  private Result run() {
    long start = System.nanoTime();
    Path out = request.out();
    prepare(out, request.overwrite());
    List<DrawnClass> family =
        Stream.of(DrawnClass.values()).filter(c -> c.family() == request.family()).toList();
    Path task = out.resolve(PICTURES).resolve(request.family().toString());
    Path everything = out.resolve(PICTURES).resolve("everything");
    // First, as it marks the folder as a demo's.
    Path model = out.resolve(MODEL);
    Generalist.write(model);
    progress.stage("drawing pictures", 0);
    try (Workers workers = new Workers(request.threads())) {
      DrawnImages.write(
          task,
          family,
          request.seed(),
          size.shots() + size.heldOut(),
          size.testPictures(),
          workers);
      // Of another seed, so that no picture of the task's test is among them.
      DrawnImages.write(
          everything,
          List.of(DrawnClass.values()),
          request.seed() + OTHER_SEED,
          size.genericPictures(),
          size.genericTestPictures(),
          workers);
    }
    progress.stage("measuring the generalist", 0);
    Taco.EvalResult generalist = measure(model, everything);
    progress.message(
        String.format(
            Locale.ROOT,
            "the generalist knows %d classes; of %d new pictures it gets %.1f %% right",
            generalist.classes(),
            generalist.images(),
            100 * generalist.top1()));

    progress.stage("specialists", 2 * size.sparsities().size());
    List<Specialists> specialists = new ArrayList<>();
    List<Path> runs = new ArrayList<>();
    for (double sparsity : size.sparsities()) {
      String percent = String.format(Locale.ROOT, "%.0f", 100 * sparsity);
      Path layerwise = out.resolve(percent + LAYERWISE);
      RunReport papers =
          specialize(specialization(model, task, sparsity).solver("fast"), layerwise);
      Path sequential = out.resolve(percent + SEQUENTIAL);
      RunReport ours =
          specialize(
              specialization(model, task, sparsity)
                  .tune(TUNE, size.tunePasses())
                  .comparePtc(everything),
              sequential);
      runs.addAll(List.of(layerwise, sequential));
      specialists.add(new Specialists(sparsity, papers, ours));
    }
    progress.stage("writing the report", 0);
    Path chart = out.resolve(CHART);
    Taco.overviewChart(runs, chart);
    Path page = out.resolve(PAGE);
    Taco.overview(
        runs,
        page,
        "taco demo: specialists of " + request.family(),
        String.format(
            Locale.ROOT,
            "A general model of %d drawn things (right on %.1f %% of new pictures) became"
                + " specialists of %d of them, with %d pictures of each. PTC is the same compression"
                + " on generic pictures, of all %d things, instead of the task's. All pictures were"
                + " drawn, and all numbers measured, in this run.",
            generalist.classes(),
            100 * generalist.top1(),
            family.size(),
            size.shots(),
            generalist.classes()));
    return new Result(generalist, specialists, page, chart, (System.nanoTime() - start) / 1e9);
  }

  private Taco.Specialization specialization(Path model, Path task, double sparsity) {
    return Taco.specialize(model)
        .data(task)
        .shots(size.shots())
        .sparsity(sparsity)
        .seed(request.seed())
        .threads(request.threads());
  }

  private RunReport specialize(Taco.Specialization specialization, Path folder) {
    String name = folder.getFileName().toString();
    RunReport report = specialization.progress(new RunProgress(progress, name)).to(folder);
    progress.step(
        String.format(
            Locale.ROOT, "%s: %.1f %% right", name, 100 * measured(report.compressed()).top1()));
    return report;
  }

  /** The accuracy; there are test pictures in every run of the demo. */
  private static RunReport.TopOne measured(RunReport.ModelResult result) {
    return Objects.requireNonNull(result.accuracy());
  }

  private Taco.EvalResult measure(Path model, Path pictures) {
    return Taco.evaluate(
        new Taco.EvalRequest(
            model,
            List.of(pictures),
            List.of(),
            Optional.empty(),
            PreprocessingOptions.none(),
            Optional.empty(),
            Optional.empty(),
            request.threads()),
        new RunProgress(progress, "generalist"));
  }

  /** Makes the folder; of an earlier demo's only what that wrote is deleted. */
  private static void prepare(Path out, boolean overwrite) {
    try {
      if (Files.exists(out) && !isEmptyFolder(out)) {
        if (!Files.isRegularFile(out.resolve(MODEL))) {
          throw TacoException.usage(
              out + ": is there already, and no earlier demo's; name another folder with --out");
        }
        if (!overwrite) {
          throw TacoException.usage(
              out + ": is an earlier demo's; name another folder with --out, or add --overwrite");
        }
        try (Stream<Path> files = Files.walk(out)) {
          for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
            if (isOfADemo(out.relativize(file))) {
              Files.delete(file);
            }
          }
        }
      }
      Files.createDirectories(out.resolve(PICTURES));
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, out + ": cannot be written: " + e, e);
    }
  }

  private static boolean isEmptyFolder(Path path) throws IOException {
    if (!Files.isDirectory(path)) {
      return false;
    }
    try (Stream<Path> files = Files.list(path)) {
      return files.findAny().isEmpty();
    }
  }

  private static boolean isOfADemo(Path file) {
    String top = file.getName(0).toString();
    return Set.of(MODEL, PICTURES, CHART, PAGE).contains(top)
        || top.matches("\\.?\\d+" + LAYERWISE + "(\\.part)?")
        || top.matches("\\.?\\d+" + SEQUENTIAL + "(\\.part)?");
  }
}
