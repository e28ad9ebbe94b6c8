package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.jsoup.Jsoup;
import org.jsoup.nodes.Document;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.data.ImageDecoder;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessor;
import org.taco4j.data.TaskClass;
import org.taco4j.export.SparseOperators;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.report.ReportFiles;
import org.taco4j.report.Reports;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.OperatorLibrary;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * The programs in the documentation and in report.html that load a specialist do run, and say what
 * {@link Specialist} says. Each runs in a folder with {@code specialist/model.onnx}, {@code
 * photo.jpg} and {@code photo.f32} (the preprocessed image), and prints name and probability.
 */
class SnippetsTest {
  /**
   * All run the same model in ONNX Runtime, perhaps of different versions or after normalising in
   * double; that changes scores, of float32, in their sixth digit.
   */
  private static final double TOLERANCE = 1e-4;

  private static final List<Path> DOCUMENTS =
      List.of(Path.of("README.md"), Path.of("docs", "use-the-model.md"));

  private static final Pattern BLOCK =
      Pattern.compile("^```(\\w+)\\n(.*?)^```$", Pattern.MULTILINE | Pattern.DOTALL);

  /**
   * A program in the documentation.
   *
   * @param document where it stands
   */
  private record Snippet(Path document, String text) {}

  /**
   * A folder that programs run in, and what is to come out.
   *
   * @param page report.html of a run that made the model, in {@code specialist/}
   */
  private record Case(Path folder, Document page, Specialist.Prediction expected) {}

  @TempDir static Path shared;
  private static final List<Case> CASES = new ArrayList<>();

  @TempDir Path folder;

  @BeforeAll
  static void makeCases() throws IOException {
    Path dense = TinyTask.convNet(shared.resolve("dense.onnx"), TinyTask.Input.FREE);
    OnnxModel model = unsure(dense);
    List<TaskClass> classes =
        IntStream.range(0, TinyTask.CLASSES)
            .mapToObj(i -> new TaskClass("n0" + i, i, "class " + i + ", a \"(b)\" one"))
            .toList();
    Preprocessing preprocessing = TinyTask.preprocessing(false);
    // A photo that is resized and cropped, and a thumbnail that goes straight to the input's size.
    addCase("large", model, classes, preprocessing, photo(new Random(1), 200, 141));
    addCase("thumbnail", model, classes, preprocessing, photo(new Random(2), 7, 11));
    addCase(
        "exact",
        model,
        classes,
        preprocessing
            .withResize(new Preprocessing.Resize.Exact(13, 10))
            .withFilter(Preprocessing.Filter.BICUBIC)
            .withOrder(Preprocessing.ChannelOrder.BGR)
            .withMean(List.of(0.1f, 0.5f, 0.7f)),
        photo(new Random(3), 150, 90));
    Path nhwc = TinyTask.convNet(shared.resolve("nhwc.onnx"), new TinyTask.Input(-1, true));
    addCase(
        "nhwc",
        unsure(nhwc),
        classes,
        TinyTask.preprocessing(true),
        photo(new Random(4), 120, 100));
    Path real = Path.of("../shared/real/models/imagenet-mobilenetv2.onnx");
    if (Files.exists(real)) {
      addRealCase(OnnxModel.read(real));
    }
  }

  /** The network with scores so near each other that probabilities show small changes. */
  private static OnnxModel unsure(Path file) {
    OnnxModel model = OnnxModel.read(file);
    Map<String, TensorProto> smaller = new HashMap<>();
    for (TensorProto tensor : model.index().graph().getInitializerList()) {
      if (tensor.getName().equals("w4") || tensor.getName().equals("b4")) {
        float[] values = TensorData.floats(tensor);
        for (int i = 0; i < values.length; i++) {
          values[i] *= 0.1f;
        }
        long[] dims = tensor.getDimsList().stream().mapToLong(d -> d).toArray();
        smaller.put(tensor.getName(), ModelBuilder.tensor(tensor.getName(), dims, values));
      }
    }
    model.setConstants(smaller);
    return model;
  }

  /** A real photo on a real network. */
  private static void addRealCase(OnnxModel model) throws IOException {
    List<TaskClass> classes =
        IntStream.range(0, 1000).mapToObj(i -> new TaskClass("f" + i, i, "class " + i)).toList();
    Path images = Path.of("../shared/real/images/in1k-food");
    try (Stream<Path> files = Files.walk(images)) {
      Path photo =
          files
              .filter(file -> file.toString().toLowerCase(java.util.Locale.ROOT).endsWith(".jpg"))
              .sorted()
              .findFirst()
              .orElseThrow();
      addCase(
          "real",
          model,
          classes,
          PreprocessingOptions.none().resolve(model, ModelInput.of(model)),
          Files.readAllBytes(photo));
    }
  }

  private static void addCase(
      String name,
      OnnxModel model,
      List<TaskClass> classes,
      Preprocessing preprocessing,
      byte[] photo)
      throws IOException {
    Path at = Files.createDirectories(shared.resolve(name).resolve("specialist")).getParent();
    OnnxModel specialist = model.copy();
    specialist.setMetadata(PreprocessingOptions.METADATA_KEY, preprocessing.toJson());
    specialist.setMetadata(TaskClasses.METADATA_KEY, TaskClasses.toJson(classes));
    Path file = at.resolve("specialist").resolve("model.onnx");
    specialist.write(file);
    Path image = Files.write(at.resolve("photo.jpg"), photo);
    // Programs in a page stand in the run folder.
    Files.copy(image, file.resolveSibling("photo.jpg"));
    ReportFiles.write(
        file.getParent(),
        Reports.of(
            classes.stream().map(TaskClass::name).toList(),
            ModelContract.of(preprocessing, specialist)));
    Document page = Jsoup.parse(Files.readString(file.resolveSibling(ReportFiles.PAGE)));
    try (Specialist opened = Specialist.open(file)) {
      CASES.add(new Case(at, page, opened.classify(image)));
    }
    Preprocessing pixels =
        preprocessing
            .withMean(List.of(0f, 0f, 0f))
            .withStd(List.of(1f, 1f, 1f))
            .withOrder(Preprocessing.ChannelOrder.RGB)
            .withLayout(Preprocessing.Layout.NHWC);
    float[] rgb = preprocess(pixels, image);
    byte[] rounded = new byte[rgb.length];
    for (int i = 0; i < rgb.length; i++) {
      rounded[i] = (byte) Math.round(255 * rgb[i]);
    }
    Files.write(file.resolveSibling("photo.rgb"), rounded);
    float[] tensor = preprocess(preprocessing, image);
    ByteBuffer bytes =
        ByteBuffer.allocate(Float.BYTES * tensor.length).order(ByteOrder.nativeOrder());
    bytes.asFloatBuffer().put(tensor);
    Files.write(at.resolve("photo.f32"), bytes.array());
  }

  private static float[] preprocess(Preprocessing preprocessing, Path image) throws IOException {
    Preprocessor preprocessor = new Preprocessor(preprocessing);
    float[] tensor = new float[preprocessor.length()];
    try {
      preprocessor.apply(ImageDecoder.decode(image), tensor, 0);
    } catch (org.taco4j.data.UnreadableImageException e) {
      throw new IOException(e);
    }
    return tensor;
  }

  /** The program in a language that a page shows. */
  private static String inPage(Case c, String language) {
    return c.page().select("h3:containsWholeOwnText(" + language + ") + pre").text();
  }

  /** A JPEG with slopes and edges. */
  private static byte[] photo(Random random, int width, int height) throws IOException {
    BufferedImage image = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = image.createGraphics();
    graphics.drawImage(TinyTask.picture(random), 0, 0, width, height, null);
    graphics.fillOval(width / 4, height / 5, width / 3, height / 4);
    graphics.dispose();
    java.io.ByteArrayOutputStream out = new java.io.ByteArrayOutputStream();
    ImageIO.write(image, "jpg", out);
    return out.toByteArray();
  }

  /** All programs of a language in which {@code word} occurs. */
  private static List<Snippet> snippets(String language, String word) throws IOException {
    List<Snippet> snippets = new ArrayList<>();
    for (Path document : DOCUMENTS) {
      Matcher matcher = BLOCK.matcher(Files.readString(document));
      while (matcher.find()) {
        boolean session = matcher.group(2).contains("taco4j_ops");
        if (matcher.group(1).equals(language)
            && matcher.group(2).contains(word)
            && session == word.equals("taco4j_ops")) {
          snippets.add(new Snippet(document, matcher.group(2)));
        }
      }
    }
    assertTrue(
        snippets.stream().anyMatch(snippet -> snippet.document().equals(DOCUMENTS.getFirst())),
        DOCUMENTS.getFirst() + " has a program in " + language);
    return snippets;
  }

  private record Outcome(int exitCode, String output) {}

  private static Outcome run(Path in, List<String> command) throws IOException {
    Process process =
        new ProcessBuilder(command).directory(in.toFile()).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    try {
      return new Outcome(process.waitFor(), output);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  private static String succeed(Path in, List<String> command) throws IOException {
    Outcome outcome = run(in, command);
    assertEquals(0, outcome.exitCode(), command + ": " + outcome.output());
    return outcome.output();
  }

  /**
   * Runs a program in folders.
   *
   * @param escapes what the program may print in names besides them
   */
  private static void check(Snippet snippet, List<String> command, List<Case> cases, String escapes)
      throws IOException {
    for (Case c : cases) {
      check(snippet.document(), c, c.folder(), command, escapes);
    }
  }

  private static void check(
      Path document, Case c, Path folder, List<String> command, String escapes) throws IOException {
    String output = succeed(folder, command);
    String line = output.lines().reduce((first, last) -> last).orElse("");
    String what = document + " in " + c.folder().getFileName() + ": " + output;
    int space = line.lastIndexOf(' ');
    assertTrue(space > 0, what);
    String name = line.substring(0, space);
    assertEquals(c.expected().name(), name.replace(escapes, ""), what);
    assertEquals(
        c.expected().probability(), Double.parseDouble(line.substring(space + 1)), TOLERANCE, what);
  }

  @Test
  void thePicturesTellPreprocessingsApart() {
    // Were one class certain everywhere, wrong preprocessing would not be seen.
    assertTrue(
        CASES.stream().filter(c -> c.expected().probability() < 0.99).count() >= 4,
        () -> CASES.toString());
  }

  @Test
  void java() throws IOException {
    JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    String classPath =
        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    for (Snippet snippet : snippets("java", "Specialist")) {
      String imports =
          snippet
              .text()
              .lines()
              .filter(l -> l.startsWith("import "))
              .collect(Collectors.joining("\n"));
      String statements =
          snippet
              .text()
              .lines()
              .filter(l -> !l.startsWith("import "))
              .collect(Collectors.joining("\n"));
      Path source =
          Files.writeString(
              folder.resolve("Snippet.java"),
              imports
                  + "\nclass Snippet {\n  public static void main(String[] arguments) {\n"
                  + statements
                  + "\n  }\n}\n");
      StringWriter messages = new StringWriter();
      try (StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null)) {
        boolean compiled =
            compiler
                .getTask(
                    messages,
                    files,
                    null,
                    List.of("-cp", classPath, "-d", folder.toString(), "-proc:none"),
                    null,
                    files.getJavaFileObjects(source))
                .call();
        assertTrue(compiled, snippet.document() + ": " + messages);
      }
      // In a file: ONNX Runtime 1.29 crashes where the command line has more than 4096 bytes.
      Path classPathFile =
          Files.writeString(
              folder.resolve("class-path"),
              "-cp \"%s%s%s\""
                  .formatted(folder, java.io.File.pathSeparator, classPath)
                  .replace("\\", "\\\\"));
      // Once, as it does nothing but call the API; without flags, so warnings come before the line.
      check(
          snippet,
          List.of(
              Path.of(System.getProperty("java.home"), "bin", "java").toString(),
              "@" + classPathFile,
              "Snippet"),
          CASES.subList(0, 1),
          "");
    }
  }

  /** Makes {@code fast/} with a model that runs with the library only; gives its first score. */
  private float makeFast() throws IOException {
    assumeTrue(OperatorLibrary.isAvailable(), "no operator library was built: no cmake?");
    Path fast = folder.resolve("fast");
    String name = OperatorLibrary.writeTo(fast).getFileName().toString();
    assumeTrue(name.equals("libtaco4j_ops.so"), "the programs name the library of Linux");
    OnnxModel model =
        OnnxModel.read(TinyTask.convNet(folder.resolve("dense.onnx"), TinyTask.Input.FREE));
    SparseOperators.rewrite(model, layer -> layer.groups() == 1);
    // Without the functions that stand in for the operators nothing else can run it.
    OnnxModel bare =
        OnnxModel.of(
            "fast", ModelProto.parseFrom(model.toBytes()).toBuilder().clearFunctions().build());
    bare.write(fast.resolve("model.onnx"));
    Map<String, Tensor> feed =
        ModelInput.of(bare).feed(new float[3 * 8 * 8], 1, new long[] {1, 3, 8, 8});
    try (Session session = Session.open(bare, 1)) {
      Map<String, Tensor> results = session.run(feed);
      float score = results.get("logits").floats()[0];
      results.values().forEach(Tensor::close);
      return score;
    } finally {
      feed.values().forEach(Tensor::close);
    }
  }

  private void assertPrints(float score, List<String> command) throws IOException {
    String line = succeed(folder, command).lines().reduce((a, b) -> b).orElse("");
    assertEquals(score, Float.parseFloat(line), TOLERANCE, line);
  }

  @Test
  void javaWithTheLibrary() throws IOException {
    float score = makeFast();
    String classPath =
        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    for (Snippet snippet : snippets("java", "OperatorLibrary")) {
      Map<Boolean, String> lines =
          snippet
              .text()
              .lines()
              .collect(
                  Collectors.partitioningBy(
                      line -> line.startsWith("import "), Collectors.joining("\n")));
      Path source =
          Files.writeString(
              folder.resolve("Fast.java"),
              lines.get(true)
                  + "\nclass Fast {\n  public static void main(String[] a) throws Exception {\n"
                  + lines.get(false)
                  + """

                      var image =
                          ai.onnxruntime.OnnxTensor.createTensor(
                              OrtEnvironment.getEnvironment(),
                              java.nio.FloatBuffer.wrap(new float[192]),
                              new long[] {1, 3, 8, 8});
                      var result = session.run(java.util.Map.of("images", image));
                      System.out.println(((float[][]) result.get(0).getValue())[0][0]);
                    }
                  }
                  """);
      Path arguments =
          Files.writeString(folder.resolve("class-path"), "-cp \"%s\"".formatted(classPath));
      assertPrints(
          score,
          List.of(
              Path.of(System.getProperty("java.home"), "bin", "java").toString(),
              "@" + arguments,
              source.toString()));
    }
  }

  @Test
  void pythonWithTheLibrary() throws IOException {
    assumeTrue(
        works("python3", "-c", "import onnxruntime, numpy"),
        "python3 with the packages onnxruntime and numpy is not on PATH: the lines in Python are"
            + " not run");
    float score = makeFast();
    for (Snippet snippet : snippets("python", "taco4j_ops")) {
      Path script =
          Files.writeString(
              folder.resolve("fast.py"),
              "import numpy as np, onnxruntime as ort\n"
                  + snippet.text()
                  + "print(session.run(None, {'images': np.zeros((1, 3, 8, 8), np.float32)})[0][0, 0])\n");
      assertPrints(score, List.of("python3", script.toString()));
    }
  }

  @Test
  void cppWithTheLibrary() throws IOException {
    assumeTrue(works("g++", "--version"), "g++ is not on PATH: the C++ lines are not compiled");
    List<String> flags = onnxRuntimeFlags().orElse(null);
    assumeTrue(flags != null, "the C++ headers of ONNX Runtime are not here: ONNXRUNTIME_HOME");
    float score = makeFast();
    for (Snippet snippet : snippets("cpp", "taco4j_ops")) {
      Path source =
          Files.writeString(
              folder.resolve("fast.cpp"),
              """
              #include <iostream>
              #include <vector>
              #include <onnxruntime_cxx_api.h>
              int main() {
                Ort::Env env;
                %s
                std::vector<float> x(192);
                std::vector<int64_t> shape{1, 3, 8, 8};
                auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
                auto image =
                    Ort::Value::CreateTensor<float>(memory, x.data(), 192, shape.data(), 4);
                const char *inputs[] = {"images"}, *outputs[] = {"logits"};
                auto results = session.Run(Ort::RunOptions(), inputs, &image, 1, outputs, 1);
                std::cout << results[0].GetTensorData<float>()[0] << std::endl;
              }
              """
                  .formatted(snippet.text()));
      Path program = folder.resolve("fast-program");
      List<String> command =
          new ArrayList<>(
              List.of("g++", "-std=c++17", source.toString(), "-o", program.toString()));
      command.addAll(flags);
      succeed(folder, command);
      assertPrints(score, List.of(program.toString()));
    }
  }

  @Test
  void python() throws IOException {
    assumeTrue(
        works("python3", "-c", "import onnxruntime, numpy, PIL"),
        "python3 with the packages onnxruntime, numpy and Pillow is not on PATH: the Python program"
            + " is not run");
    for (Snippet snippet : snippets("python", "onnxruntime")) {
      Path script = Files.writeString(folder.resolve("snippet.py"), snippet.text());
      check(snippet, List.of("python3", script.toString()), CASES, "");
    }
    for (Case c : CASES) {
      // It prints the name only; the probability shows wrong preprocessing sooner.
      Path script =
          Files.writeString(
              folder.resolve("page.py"),
              inPage(c, "Python")
                  + """

                  p = np.exp(scores - scores.max())
                  print(classes[scores.argmax()], p.max() / p.sum())
                  """);
      check(
          Path.of(ReportFiles.PAGE),
          c,
          c.folder().resolve("specialist"),
          List.of("python3", script.toString()),
          "");
    }
  }

  @Test
  void cpp() throws IOException {
    assumeTrue(works("g++", "--version"), "g++ is not on PATH: the C++ program is not compiled");
    List<String> flags = onnxRuntimeFlags().orElse(null);
    assumeTrue(
        flags != null,
        "the C++ headers of ONNX Runtime are not here: set ONNXRUNTIME_HOME to the folder of a"
            + " release of it (with include/ and lib/) to run the C++ program");
    for (Snippet snippet : snippets("cpp", "Ort::")) {
      Path source = Files.writeString(folder.resolve("snippet.cpp"), snippet.text());
      Path program = folder.resolve("snippet");
      List<String> command =
          new ArrayList<>(
              List.of("g++", "-std=c++17", source.toString(), "-o", program.toString()));
      command.addAll(flags);
      succeed(folder, command);
      // The program prints names as JSON has them, with escapes.
      check(snippet, List.of(program.toString()), CASES, "\\");
    }
    for (Case c : CASES) {
      Path source = Files.writeString(folder.resolve("page.cpp"), pageProgram(c));
      Path program = folder.resolve("page");
      List<String> command =
          new ArrayList<>(
              List.of("g++", "-std=c++17", source.toString(), "-o", program.toString()));
      command.addAll(flags);
      succeed(folder, command);
      check(
          Path.of(ReportFiles.PAGE),
          c,
          c.folder().resolve("specialist"),
          List.of(program.toString()),
          "");
    }
  }

  /** What a page shows in C++, with a main function, and the probability before it returns. */
  private static String pageProgram(Case c) {
    String shown = inPage(c, "C++");
    int outputs = c.expected().classes().size();
    String end = "  return int(std::max_element(scores, scores + " + outputs + ")";
    assertTrue(shown.contains(end), shown);
    return """
        #include <cmath>
        #include <fstream>
        #include <iostream>
        #include <iterator>
        static double probability;
        """
        + shown.replace(
            end,
            """
              const float top = *std::max_element(scores, scores + %1$d);
              double sum = 0;
              for (int i = 0; i < %1$d; i++) sum += std::exp(double(scores[i]) - top);
              probability = 1 / sum;
            """
                    .formatted(outputs)
                + end)
        + """

        int main() {
          std::ifstream file("photo.rgb", std::ios::binary);
          std::string rgb((std::istreambuf_iterator<char>(file)), {});
          int best = classify(session, reinterpret_cast<const unsigned char*>(rgb.data()));
          std::cout << %s << " " << probability << std::endl;
        }
        """
            .formatted(
                shown.contains("classes[]")
                    ? "classes[best]"
                    : "\"class \" + std::to_string(best)");
  }

  private static boolean works(String... command) {
    try {
      return run(Path.of("."), List.of(command)).exitCode() == 0;
    } catch (IOException e) {
      return false;
    }
  }

  /** What g++ needs to find ONNX Runtime. */
  private static Optional<List<String>> onnxRuntimeFlags() throws IOException {
    String home = System.getenv("ONNXRUNTIME_HOME");
    if (home != null) {
      Path lib = Path.of(home, "lib").toAbsolutePath();
      return Optional.of(
          List.of(
              "-I" + Path.of(home, "include").toAbsolutePath(),
              "-L" + lib,
              "-Wl,-rpath," + lib,
              "-lonnxruntime"));
    }
    if (!works("pkg-config", "--exists", "libonnxruntime")) {
      return Optional.empty();
    }
    String flags =
        run(Path.of("."), List.of("pkg-config", "--cflags", "--libs", "libonnxruntime")).output();
    return Optional.of(List.of(flags.strip().split("\\s+")));
  }
}
