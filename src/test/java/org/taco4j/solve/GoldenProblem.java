package org.taco4j.solve;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.StreamSupport;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.data.NpyFile;

/** One of the golden layer problems, with the answers of the reference implementations. */
record GoldenProblem(
    String name, float[] weights, int rows, int cols, Hessian hessian, List<JsonNode> results) {
  private static final Path GOLDEN = Path.of("..", "shared", "golden", "solvers");

  /** All of them; skips the test where they are not there. */
  static List<GoldenProblem> all() {
    assumeTrue(Files.isDirectory(GOLDEN), "no golden cases at " + GOLDEN);
    List<GoldenProblem> problems = new ArrayList<>();
    try {
      JsonNode cases =
          new ObjectMapper().readTree(GOLDEN.resolve("index.json").toFile()).get("cases");
      for (Map.Entry<String, JsonNode> entry : cases.properties()) {
        problems.add(read(entry.getKey(), entry.getValue()));
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return problems;
  }

  private static GoldenProblem read(String name, JsonNode golden) {
    int cols = golden.get("cols").asInt();
    return new GoldenProblem(
        name,
        floats(name + "/W.npy"),
        golden.get("rows").asInt(),
        cols,
        hessian(name + "/H.npy", cols, golden.get("N").asLong()),
        StreamSupport.stream(golden.get("results").spliterator(), false).toList());
  }

  /** The Hessian of samples that the solver does not see; null where there is none. */
  Hessian heldOut() {
    Path file = Path.of(name, "H_heldout.npy");
    return Files.exists(GOLDEN.resolve(file))
        ? hessian(file.toString(), cols, hessian.samples())
        : null;
  }

  private static Hessian hessian(String file, int cols, long samples) {
    float[] h = floats(file);
    double[] values = new double[h.length];
    for (int i = 0; i < h.length; i++) {
      values[i] = h[i];
    }
    return new Hessian(DoubleMatrix.of(values, cols, cols), samples);
  }

  static float[] floats(String file) {
    return NpyFile.read(GOLDEN.resolve(file)).floats();
  }

  static byte[] bytes(String file) {
    return NpyFile.read(GOLDEN.resolve(file)).bytes();
  }

  SolveRequest request(Pattern pattern) {
    int[] order = SolveRequest.naturalOrder(cols);
    return new SolveRequest(name, weights, rows, cols, hessian, order, pattern, 0.01);
  }

  double error(float[] solved, Backend backend) {
    return LayerError.relative(weights, solved, rows, cols, hessian, backend);
  }

  /** The results of a solver of the reference. */
  List<JsonNode> resultsOf(String solver) {
    return results.stream().filter(r -> r.get("solver").asText().equals(solver)).toList();
  }
}
