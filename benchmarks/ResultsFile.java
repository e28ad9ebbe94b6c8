import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.compute.cuda.Verification;

/**
 * Gathers what benchmarks have printed into {@code <folder>/<date>-<cpu>-<gpu>.json}, with the
 * machine they ran on, and prints a table of our solvers beside PyTorch's loops where both were
 * timed. What is in the file already stays, unless it was measured again.
 *
 * <p>Arguments: a folder; files, of which {@code *.jsonl} have a measurement a line, {@code *.json}
 * are JMH's, and of others each line is kept as text. Prints the name of the file it wrote last.
 * Run from the repository root: {@code TACO_MAIN=benchmarks/ResultsFile.java ./taco
 * benchmarks/results target/bench/*}.
 */
public final class ResultsFile {
  private static final ObjectMapper JSON = new ObjectMapper();

  /** What issue and README ask for: how many times as fast as PyTorch's loop. */
  private static final Map<String, Double> TARGETS = Map.of("fastobc", 5.0, "obc", 50.0);

  /** Of the rate of cuBLAS's SGEMM. */
  private static final double GRAM_TARGET = 0.7;

  private ResultsFile() {}

  public static void main(String[] arguments) throws IOException {
    CudaProbe.Findings cuda = CudaProbe.examine();
    String gpu = cuda.gpus().isEmpty() ? "none" : slug(cuda.gpus().getFirst().name());
    String cpu = processor();
    ObjectNode result = JSON.createObjectNode();
    String date = LocalDate.now(ZoneOffset.UTC).toString();
    result.put("date", date);
    result.put("commit", commit());
    ObjectNode machine = result.putObject("machine");
    machine.put("cpu", cpu);
    machine.put("cores", Runtime.getRuntime().availableProcessors());
    machine.put("os", System.getProperty("os.name") + " " + System.getProperty("os.arch"));
    machine.put("java", Runtime.version().toString());
    machine.set("cuda", JSON.valueToTree(cuda.parts()));
    machine.set("gpus", JSON.valueToTree(cuda.gpus()));
    machine.put("kernels", Verification.describe());
    ArrayNode measurements = result.putArray("measurements");
    for (int i = 1; i < arguments.length; i++) {
      read(Path.of(arguments[i]), measurements);
    }
    compare(measurements);
    Path file =
        Files.createDirectories(Path.of(arguments[0]))
            .resolve("%s-%s-%s.json".formatted(date, slug(cpu), gpu));
    keepOthers(file, measurements);
    Files.writeString(
        file, JSON.writerWithDefaultPrettyPrinter().writeValueAsString(result) + "\n");
    System.out.println(file);
  }

  /** Its name; the architecture where Linux does not say one. */
  private static String processor() throws IOException {
    Path info = Path.of("/proc/cpuinfo");
    Optional<String> name = Optional.empty();
    if (Files.isReadable(info)) {
      name =
          Files.readAllLines(info).stream()
              .filter(line -> line.startsWith("model name"))
              .map(line -> line.substring(line.indexOf(':') + 1).strip())
              .findFirst();
    } else if (System.getProperty("os.name").startsWith("Mac")) {
      Process process =
          new ProcessBuilder("sysctl", "-n", "machdep.cpu.brand_string")
              .redirectErrorStream(true)
              .start();
      name = Optional.of(new String(process.getInputStream().readAllBytes()).strip());
    }
    return name.filter(text -> !text.isEmpty()).orElse(System.getProperty("os.arch"));
  }

  /** Lower case letters and digits, in words. */
  private static String slug(String name) {
    String words =
        name.toLowerCase(Locale.ROOT)
            .replaceAll("\\((r|tm)\\)|@.*| (cpu|processor)\\b|\\d+-core", " ")
            .replaceAll("[^a-z0-9]+", "-")
            .replaceAll("^-|-$", "");
    return words.isEmpty() ? "unknown" : words;
  }

  private static String commit() throws IOException {
    Path head = Path.of(".git", "HEAD");
    if (!Files.isReadable(head)) {
      return "unknown"; // a worktree's, or no checkout at all
    }
    String text = Files.readString(head).strip();
    if (!text.startsWith("ref: ")) {
      return text;
    }
    Path ref = Path.of(".git", text.substring("ref: ".length()));
    return Files.isReadable(ref) ? Files.readString(ref).strip() : text;
  }

  private static void read(Path file, ArrayNode measurements) throws IOException {
    String name = file.getFileName().toString();
    if (name.endsWith(".json")) {
      for (JsonNode benchmark : JSON.readTree(Files.readString(file))) {
        // Forks and flags; not the thousand numbers of each iteration.
        ObjectNode copy = ((ObjectNode) benchmark).deepCopy();
        if (copy.get("primaryMetric") instanceof ObjectNode metric) {
          metric.remove(List.of("rawData", "rawDataHistogram"));
        }
        copy.put("side", "jmh");
        measurements.add(copy);
      }
      return;
    }
    for (String line : Files.readAllLines(file)) {
      if (name.endsWith(".jsonl")) {
        if (line.startsWith("{")) {
          measurements.add(JSON.readTree(line));
        }
      } else if (!line.isBlank()) {
        measurements.addObject().put("side", name).put("text", line);
      }
    }
  }

  /** Other benchmarks of the same day and machine stay in the file. */
  private static void keepOthers(Path file, ArrayNode measurements) throws IOException {
    if (!Files.exists(file)) {
      return;
    }
    Set<String> measured = new HashSet<>();
    measurements.forEach(line -> measured.add(key(line)));
    for (JsonNode line : JSON.readTree(Files.readString(file)).path("measurements")) {
      if (!measured.contains(key(line))) {
        measurements.add(line);
      }
    }
  }

  /** What a line is about. */
  private static String key(JsonNode line) {
    List<String> parts = new ArrayList<>();
    for (String name :
        List.of("side", "operation", "rows", "cols", "backend", "benchmark", "params")) {
      parts.add(line.path(name).toString());
    }
    return String.join(" ", parts);
  }

  /** Our times beside PyTorch's, by operation and shape. */
  private static void compare(ArrayNode measurements) {
    Map<String, JsonNode> ours = new LinkedHashMap<>();
    Map<String, JsonNode> torch = new LinkedHashMap<>();
    for (JsonNode line : measurements) {
      String key =
          "%s | %sx%s"
              .formatted(
                  line.path("operation").asText(),
                  line.path("rows").asText(),
                  line.path("cols").asText());
      if (line.path("side").asText().equals("torch")) {
        torch.put(key, line);
      } else if (line.has("seconds") && line.path("backend").asText().equals("cuda")) {
        ours.put(key, line);
      }
    }
    if (ours.isEmpty()) {
      return;
    }
    List<String> rows = new ArrayList<>();
    for (Map.Entry<String, JsonNode> entry : ours.entrySet()) {
      rows.add(row(entry.getKey(), entry.getValue(), torch.get(entry.getKey())));
    }
    System.out.println(
        "| operation | shape | ms | of them copies | GFLOP/s | of the GPU's limit | PyTorch ms | ratio"
            + " | target | check |\n|---|---|---|---|---|---|---|---|---|---|");
    rows.forEach(System.out::println);
  }

  private static String row(String key, JsonNode line, JsonNode torch) {
    String operation = line.path("operation").asText();
    double seconds = line.path("seconds").asDouble();
    String theirs = "";
    String ratio = "";
    String target = "";
    if (torch != null) {
      double other = torch.path("seconds").asDouble();
      double value = other / seconds;
      Double wanted = TARGETS.get(operation);
      if (operation.equals("gram")) {
        // Rates, as a Gram matrix needs half of the products of an SGEMM.
        value = line.path("gflops").asDouble() / (torch.path("gflop").asDouble() / other);
        wanted = GRAM_TARGET;
      }
      theirs = number(1e3 * other) + (torch.path("note").asText().contains("measured") ? "*" : "");
      ratio = number(value);
      target = wanted == null ? "" : number(wanted) + (value >= wanted ? ": met" : ": missed");
    }
    return "| %s | %s | %s | %s | %s | %s | %s | %s | %s |"
        .formatted(
            key,
            number(1e3 * seconds),
            number(1e3 * line.path("copySeconds").asDouble()),
            number(line.path("gflops").asDouble()),
            number(100 * line.path("ofLimit").asDouble()) + " %",
            theirs,
            ratio,
            target,
            line.path("check").asText());
  }

  private static String number(double value) {
    return String.format(Locale.ROOT, value >= 100 ? "%.0f" : value >= 1 ? "%.2f" : "%.3f", value);
  }
}
