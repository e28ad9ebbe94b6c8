package org.taco4j.solve;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/**
 * The damping λ by two-fold cross-validation: the samples are cut in halves, the layer is solved on
 * each half, and the λ is sought whose solutions err least on the half that they have not seen.
 *
 * <p>A λ of 1e-4 … 1 is tried at each power of ten and, around the best of these, at steps of a
 * third of one. Errors of neighbouring λ differ by chance, as other weights go; and half of the
 * samples want more damping than all of them. So of all λ whose error is within {@value
 * #INDIFFERENCE} of the least, the one nearest to {@link Damping#USUAL} is taken: where the samples
 * determine the layer well, nothing changes.
 */
public final class CrossValidatedDamping {
  private static final double[] POWERS = {1e-4, 1e-3, Damping.USUAL, 1e-1, 1};
  private static final double THIRD = Math.cbrt(10);
  private static final double INDIFFERENCE = 0.05;

  /** Of a layer with more rows, so many that are evenly spread are solved; fewer of wide ones. */
  private static final int SAMPLE_ROWS = 64;

  private static final int SAMPLE_ROWS_OF_WIDE = 32;
  private static final int WIDE_COLUMNS = 512;

  private CrossValidatedDamping() {}

  /**
   * What a λ is worth.
   *
   * @param damping λ
   * @param error layer-wise error on the halves not seen, relative to the outputs' energy there
   */
  public record Point(double damping, double error) {}

  /**
   * The choice and what it was made from.
   *
   * @param damping the λ chosen
   * @param curve the λ that were tried, ascending
   * @param solver what solved the halves
   * @param rows how many rows were solved
   * @param splits how many pairs of halves
   * @param seconds wall time
   */
  public record Choice(
      double damping, List<Point> curve, String solver, int rows, int splits, double seconds) {}

  /**
   * Chooses λ for a layer problem, with the solver itself: FastOBC in the place of OBC, which would
   * be cheaper, wants more damping than OBC where samples are many. {@link Solver#probe} says what
   * solves the rows that are tried: a search is left out.
   *
   * @param request its damping and its Hessian are not looked at
   * @param solver for which λ is sought
   * @param splits pairs of halves of the calibration samples, at least one
   */
  public static Choice choose(
      SolveRequest request, Solver solver, List<SplitHessian> splits, Backend backend) {
    long start = System.nanoTime();
    Solver probe = solver.probe(request);
    int[] rows = sampleRows(request);
    float[] weights = new float[rows.length * request.cols()];
    for (int i = 0; i < rows.length; i++) {
      System.arraycopy(
          request.weights(), rows[i] * request.cols(), weights, i * request.cols(), request.cols());
    }
    Trial trial = new Trial(request, weights, rows.length, probe, splits, backend);
    List<Point> curve = new ArrayList<>();
    for (double damping : POWERS) {
      curve.add(trial.at(damping));
    }
    double best = least(curve).damping();
    for (double step : new double[] {1 / THIRD / THIRD, 1 / THIRD, THIRD, THIRD * THIRD}) {
      double damping = best * step;
      if (damping > POWERS[0] && damping < 1) {
        curve.add(trial.at(damping));
      }
    }
    curve.sort(Comparator.comparingDouble(Point::damping));
    return new Choice(
        choice(curve),
        List.copyOf(curve),
        probe.name(),
        rows.length,
        splits.size(),
        (System.nanoTime() - start) / 1e9);
  }

  private static Point least(List<Point> curve) {
    return curve.stream().min(Comparator.comparingDouble(Point::error)).orElseThrow();
  }

  private static double choice(List<Point> curve) {
    double bound = least(curve).error() * (1 + INDIFFERENCE);
    return curve.stream()
        .filter(point -> point.error() <= bound)
        .min(
            Comparator.comparingDouble(
                point -> Math.abs(Math.log(point.damping() / Damping.USUAL))))
        .orElseThrow()
        .damping();
  }

  /** Evenly spread rows; whole sets of rows where they share a mask. */
  private static int[] sampleRows(SolveRequest request) {
    int set = request.pattern().maskRows();
    int sets = request.rows() / set;
    int most = request.cols() <= WIDE_COLUMNS ? SAMPLE_ROWS : SAMPLE_ROWS_OF_WIDE;
    int wanted = Math.max(1, most / set);
    if (sets <= wanted) {
      return SolveRequest.naturalOrder(request.rows());
    }
    int[] rows = new int[wanted * set];
    for (int i = 0; i < rows.length; i++) {
      rows[i] = (int) ((long) (i / set) * sets / wanted) * set + i % set;
    }
    return rows;
  }

  /** Solves on one half and measures on the other. */
  @SuppressWarnings("ArrayRecordComponent") // private, and never compared
  private record Trial(
      SolveRequest request,
      float[] weights,
      int rows,
      Solver solver,
      List<SplitHessian> splits,
      Backend backend) {

    Point at(double damping) {
      double error = 0;
      double energy = 0;
      for (SplitHessian split : splits) {
        error += error(split.first(), split.second(), damping);
        error += error(split.second(), split.first(), damping);
        energy += form(weights, split.first()) + form(weights, split.second());
      }
      return new Point(damping, error == 0 ? 0 : error / energy);
    }

    private double error(Hessian seen, Hessian unseen, double damping) {
      float[] solved =
          solver
              .solve(
                  new SolveRequest(
                      request.layer(),
                      weights,
                      rows,
                      request.cols(),
                      seen,
                      request.order(),
                      request.pattern(),
                      damping),
                  backend)
              .weights();
      for (int i = 0; i < solved.length; i++) {
        solved[i] -= weights[i];
      }
      // Rounding may leave a change without effect a little below 0.
      return Math.max(0, form(solved, unseen));
    }

    private double form(float[] matrix, Hessian hessian) {
      return backend.quadraticForm(FloatMatrix.of(matrix, rows, request.cols()), hessian.values());
    }
  }
}
