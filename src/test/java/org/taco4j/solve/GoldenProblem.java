package org.taco4j.solve;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.data.NpyFile;
import org.taco4j.data.Shared;

/**
 * One of the golden layer problems. Tests that ask for one are skipped where the files are missing.
 *
 * @param kernel side of a convolution's kernel; 1 for other layers
 * @param index what the index says of it
 */
public record GoldenProblem(
    String name, float[] weights, int rows, int cols, int kernel, Hessian hessian, JsonNode index) {

  /** What a reference implementation made of a problem. */
  public record Answer(GoldenProblem problem, JsonNode result) {
    /** How the solver was set. */
    public String setting() {
      return result.get("setting").asText();
    }

    /** The layer-wise error. */
    public double error() {
      return result.get("rel_err").asDouble();
    }

    /** Whether there is a file of that key. */
    public boolean has(String key) {
      return result.has(key);
    }

    /** The file of a key, such as {@code weights}. */
    public float[] floats(String key) {
      return read(result.get(key)).floats();
    }

    boolean[] kept() {
      byte[] mask = read(result.get("mask")).bytes();
      boolean[] kept = new boolean[mask.length];
      for (int i = 0; i < mask.length; i++) {
        kept[i] = mask[i] == 1;
      }
      return kept;
    }

    /** In how many entries a mask is the reference's. */
    int equalEntries(boolean[] mask) {
      boolean[] kept = kept();
      int same = 0;
      for (int i = 0; i < kept.length; i++) {
        same += kept[i] == mask[i] ? 1 : 0;
      }
      return same;
    }

    @Override
    public String toString() {
      return problem.name + " " + setting();
    }
  }

  static List<GoldenProblem> all() {
    List<GoldenProblem> problems = new ArrayList<>();
    cases().fieldNames().forEachRemaining(name -> problems.add(named(name)));
    return problems;
  }

  /** The problem of that name. */
  public static GoldenProblem named(String name) {
    JsonNode index = cases().get(name);
    int cols = index.get("cols").asInt();
    return new GoldenProblem(
        name,
        file(name + "/W.npy").floats(),
        index.get("rows").asInt(),
        cols,
        index.path("conv_kernel").asInt(1),
        hessian(name + "/H.npy", cols, index.get("N").asLong()),
        index);
  }

  /** Where a file of the problem lies, such as {@code W.npy}. */
  public Path path(String file) {
    return Shared.at("golden/solvers").resolve(name).resolve(file);
  }

  private static JsonNode cases() {
    Path index = Shared.at("golden/solvers/index.json");
    try {
      return new ObjectMapper().readTree(Files.readAllBytes(index)).get("cases");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static NpyFile file(String name) {
    return NpyFile.read(Shared.at("golden/solvers").resolve(name));
  }

  private static NpyFile read(JsonNode name) {
    return file(name.asText());
  }

  private static Hessian hessian(String file, int cols, long samples) {
    return new Hessian(DoubleMatrix.of(file(file).doubles(), cols, cols), samples);
  }

  /** The Hessian of samples that the solver does not see; not every problem has one. */
  Hessian heldOut() {
    return hessian(name + "/H_heldout.npy", cols, hessian.samples());
  }

  /** One of the problem's own files, by its key in the index. */
  NpyFile ownFile(String key) {
    return read(index.get("files").get(key));
  }

  /** All answers of a solver of the reference to all problems. */
  static List<Answer> answersOf(String solver) {
    return all().stream().flatMap(problem -> problem.answers(solver).stream()).toList();
  }

  /** The answers of a solver of the reference. */
  public List<Answer> answers(String solver) {
    List<Answer> answers = new ArrayList<>();
    for (JsonNode result : index.get("results")) {
      if (result.get("solver").asText().equals(solver)) {
        answers.add(new Answer(this, result));
      }
    }
    return answers;
  }

  /** The problem with its columns, and groups of them, in their natural order. */
  SolveRequest request(Pattern pattern, double damping) {
    int[] order = SolveRequest.naturalOrder(cols);
    return new SolveRequest(name, weights, rows, cols, hessian, order, pattern, damping);
  }

  /** The problem with groups along input channels, as OBC's reference has them. */
  SolveRequest requestByChannels(Pattern pattern, double damping) {
    int positions = kernel * kernel;
    int[] order =
        pattern.groupSize() > 1
            ? SolveRequest.channelOrder(cols / positions, positions)
            : SolveRequest.naturalOrder(cols);
    return new SolveRequest(name, weights, rows, cols, hessian, order, pattern, damping);
  }

  /** The layer-wise error on the samples of the problem. */
  double error(float[] solved, Backend backend) {
    return LayerError.relative(weights, solved, rows, cols, hessian, backend);
  }
}
