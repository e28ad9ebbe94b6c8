package org.taco4j.cli;

import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Specialist;
import org.taco4j.common.TacoException;
import org.taco4j.data.ImageFolders;
import org.taco4j.report.ReportFiles;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco classify}. */
@Command(
    name = "classify",
    description = {
      "Say what a specialist sees in images, with probabilities.",
      "An image that cannot be read is named on standard error; the others are classified, and the"
          + " exit code is 4."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example:",
      "  ${ROOT-COMMAND-NAME} classify specialist/model.onnx photo.jpg more-photos"
    })
final class ClassifyCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "MODEL", description = "the model.onnx of a run folder")
  @Nullable Path model;

  @Parameters(
      index = "1..*",
      arity = "1..*",
      paramLabel = "IMAGE",
      description = "image files, and folders, of which all images are taken")
  @Nullable List<Path> images;

  @Option(
      names = "--top",
      paramLabel = "N",
      description = "how many classes to print for an image, the most probable first (3)")
  int top = 3;

  @Option(names = "--threads", paramLabel = "N", description = "threads (all processors)")
  int threads = Runtime.getRuntime().availableProcessors();

  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  /** What {@code --json} prints. */
  private record Result(String model, List<Entry> images) {}

  /**
   * One image.
   *
   * @param classes all of them; null for an image that cannot be read
   * @param error why it cannot be read, or null
   */
  private record Entry(
      String file, @Nullable List<Specialist.ClassProbability> classes, @Nullable String error) {}

  @Override
  public Integer call() {
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    PrintWriter out = commandLine.getOut();
    if (top < 1) {
      throw TacoException.usage("--top must be at least 1, not " + top);
    }
    int exitCode = 0;
    List<Entry> entries = new ArrayList<>();
    try (Specialist specialist = Specialist.open(Objects.requireNonNull(model), threads)) {
      List<Path> files = new ArrayList<>();
      for (Path image : Objects.requireNonNull(images)) {
        List<Path> inside =
            Files.isDirectory(image) ? ImageFolders.imagesIn(image) : List.of(image);
        if (inside.isEmpty()) {
          String error = image + ": no image file in this folder (jpg, jpeg, png, webp, bmp)";
          exitCode = TacoException.Kind.DATA.exitCode();
          entries.add(new Entry(image.toString(), null, error));
          Main.complain(commandLine, error);
        }
        files.addAll(inside);
      }
      int fileWidth = longest(files);
      int nameWidth = longest(specialist.classes());
      for (Path file : files) {
        try {
          Specialist.Prediction prediction = specialist.classify(file);
          entries.add(new Entry(file.toString(), prediction.classes(), null));
          if (!json) {
            out.println(line(file, fileWidth, nameWidth, prediction));
            out.flush();
          }
        } catch (TacoException e) {
          if (e.kind() != TacoException.Kind.DATA) {
            throw e;
          }
          exitCode = e.kind().exitCode();
          entries.add(new Entry(file.toString(), null, e.getMessage()));
          Main.complain(commandLine, String.valueOf(e.getMessage()));
        }
      }
      if (json) {
        out.print(ReportFiles.toJson(new Result(String.valueOf(model), entries)));
        out.flush();
      }
    }
    return exitCode;
  }

  private static int longest(List<?> texts) {
    return texts.stream().mapToInt(text -> text.toString().length()).max().orElse(0);
  }

  /** The file, then probability and name of each class, in columns. */
  private String line(Path file, int fileWidth, int nameWidth, Specialist.Prediction prediction) {
    StringBuilder line = new StringBuilder(file.toString());
    line.repeat(' ', fileWidth - line.length());
    for (Specialist.ClassProbability c :
        prediction.classes().subList(0, Math.min(top, prediction.classes().size()))) {
      line.append(String.format(Locale.ROOT, "  %5.1f %% ", 100 * c.probability()));
      line.append(c.name()).repeat(' ', nameWidth - c.name().length());
    }
    return line.toString().stripTrailing();
  }
}
