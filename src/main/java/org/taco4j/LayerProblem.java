package org.taco4j;

import java.nio.file.Path;
import java.util.regex.Matcher;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.SolverOptions;

/**
 * One layer problem in NumPy files, for {@link Taco#solveLayer}.
 *
 * @param weights W: [rows, cols], float32 or float64; a convolution unfolded, columns in the order
 *     (channel, ky, kx)
 * @param hessian H = 2/N · XᵀX, undamped: [cols, cols], float32 or float64
 * @param heldOut the same of samples that are not calibrated on, to measure the error there; null
 *     for none
 * @param solver name of the layer solver
 * @param pattern what may be removed, and how much
 * @param damping λ, or how it is to be chosen
 * @param options of the solver, quantisation among them
 * @param samples N, which choosing λ needs; null where that is not known
 * @param kernel of a convolution: groups of N:M and blocks then run along its input channels; null
 *     for other layers
 * @param backend {@code auto}, {@code scalar}, {@code simd} or {@code cuda}
 * @param gpuMemory of the GPU that {@code cuda} may use, such as {@code 8g}; null for most of what
 *     is free
 * @param threads to compute with
 * @param outputs what to write
 */
public record LayerProblem(
    Path weights,
    Path hessian,
    @Nullable Path heldOut,
    String solver,
    Pattern pattern,
    Damping damping,
    SolverOptions options,
    @Nullable Long samples,
    @Nullable Kernel kernel,
    String backend,
    @Nullable String gpuMemory,
    int threads,
    Outputs outputs) {

  /** The size of a convolution's kernel. */
  public record Kernel(int height, int width) {
    private static final java.util.regex.Pattern SYNTAX =
        java.util.regex.Pattern.compile("([1-9]\\d{0,3})x([1-9]\\d{0,3})");

    /**
     * Reads {@code "3x3"}.
     *
     * @throws TacoException of kind USAGE for anything else
     */
    public static Kernel parse(String text) {
      Matcher matcher = SYNTAX.matcher(text);
      if (!matcher.matches()) {
        throw TacoException.usage(
            "--conv-kernel is height x width such as 3x3, not '" + text + "'");
      }
      return new Kernel(Integer.parseInt(matcher.group(1)), Integer.parseInt(matcher.group(2)));
    }

    int positions() {
      return height * width;
    }

    @Override
    public String toString() {
      return height + "x" + width;
    }
  }

  /**
   * The {@code .npy} files to write; null for those that are not wanted.
   *
   * @param weights Ŵ: [rows, cols], float32
   * @param mask [rows, cols], uint8, 1 for weights that were kept
   * @param scale [rows], float32: of quantised weights, Ŵ = scale · (code - zero)
   * @param zero [rows], int32: the code of 0
   */
  public record Outputs(
      @Nullable Path weights, @Nullable Path mask, @Nullable Path scale, @Nullable Path zero) {}
}
