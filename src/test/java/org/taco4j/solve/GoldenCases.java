package org.taco4j.solve;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.data.NpyFile;

/** The layer problems of the golden files, and what the reference made of them. */
final class GoldenCases {
  private static final Path GOLDEN = Path.of("..", "shared", "golden", "solvers");

  private GoldenCases() {}

  /** One answer of a reference to one problem. */
  record Answer(String name, JsonNode problem, JsonNode result, float[] weights, double[] hessian) {
    int rows() {
      return problem.get("rows").asInt();
    }

    int cols() {
      return problem.get("cols").asInt();
    }

    String setting() {
      return result.get("setting").asText();
    }

    double error() {
      return result.get("rel_err").asDouble();
    }

    /** The problem with a pattern and a damping; groups run along input channels. */
    SolveRequest request(Pattern pattern, double damping) {
      int cols = cols();
      int[] order = SolveRequest.naturalOrder(cols);
      if (problem.hasNonNull("conv_kernel") && pattern.groupSize() > 1) {
        int kernel = problem.get("conv_kernel").asInt();
        int area = kernel * kernel;
        int channels = cols / area;
        for (int i = 0; i < cols; i++) {
          order[i] = i % channels * area + i / channels;
        }
      }
      Hessian h = new Hessian(DoubleMatrix.of(hessian, cols, cols), problem.get("N").asLong());
      return new SolveRequest(name, weights, rows(), cols, h, order, pattern, damping);
    }

    /** The reference's mask. */
    boolean[] kept() throws IOException {
      byte[] mask = NpyFile.read(GOLDEN.resolve(result.get("mask").asText())).bytes();
      boolean[] kept = new boolean[mask.length];
      for (int i = 0; i < mask.length; i++) {
        kept[i] = mask[i] == 1;
      }
      return kept;
    }
  }

  /** All answers of a solver of the reference. */
  static List<Answer> answers(String solver) throws IOException {
    assumeTrue(Files.isDirectory(GOLDEN), "no golden cases at " + GOLDEN);
    JsonNode cases =
        new ObjectMapper().readTree(GOLDEN.resolve("index.json").toFile()).get("cases");
    List<Answer> answers = new ArrayList<>();
    for (Map.Entry<String, JsonNode> entry : cases.properties()) {
      Path folder = GOLDEN.resolve(entry.getKey());
      float[] weights = NpyFile.read(folder.resolve("W.npy")).floats();
      float[] h = NpyFile.read(folder.resolve("H.npy")).floats();
      double[] hessian = new double[h.length];
      for (int i = 0; i < h.length; i++) {
        hessian[i] = h[i];
      }
      for (JsonNode result : entry.getValue().get("results")) {
        if (result.get("solver").asText().equals(solver)) {
          answers.add(new Answer(entry.getKey(), entry.getValue(), result, weights, hessian));
        }
      }
    }
    return answers;
  }
}
