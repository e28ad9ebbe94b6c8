package org.taco4j.compute.simd;

import java.util.Arrays;
import java.util.concurrent.ConcurrentLinkedDeque;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.ObsElimination;

/**
 * Exact OBS of whole blocks of k neighbouring columns over a {@link FloatLazyInverse}. With A_BB =
 * L Lᵀ of the block that goes, V = A_:B L⁻ᵀ are the next k rows of U.
 *
 * <p>Columns are ordered by their place in the block first, so that loops over all blocks run along
 * memory; in them the loop index is the block.
 */
final class FloatBlockElimination implements ObsElimination {
  private static final VectorSpecies<Float> SPECIES = FloatLazyInverse.SPECIES;
  private static final int LANES = FloatLazyInverse.LANES;
  private static final int PANEL = FloatLazyInverse.PANEL;

  /** Rows of U, if the blocks are not larger. */
  private static final int PERIOD = 64;

  private final int columns;
  private final int k;
  private final int blocks;
  private final float[] packed;
  private final double[] leastPivots;
  private final ConcurrentLinkedDeque<Run> idle = new ConcurrentLinkedDeque<>();

  /**
   * An elimination over the given inverse.
   *
   * @param inverse H⁻¹, [n, n], symmetric; copied
   * @param leastPivots [n]: what each pivot must at least be but for rounding
   */
  FloatBlockElimination(FloatMatrix inverse, double[] leastPivots, Units units) {
    units.check(inverse.rows());
    this.columns = inverse.rows();
    this.k = units.blockSize();
    this.blocks = columns / k;
    int[] order = new int[columns];
    for (int c = 0; c < k; c++) {
      for (int b = 0; b < blocks; b++) {
        order[c * blocks + b] = b * k + c;
      }
    }
    this.packed = FloatLazyInverse.pack(inverse, order);
    this.leastPivots = leastPivots;
  }

  @Override
  public int run(FloatMatrix weights, int steps, double stopLoss, int[] order, double[] losses) {
    Run run = idle.poll();
    if (run == null) {
      run = new Run();
    }
    int taken = run.eliminate(weights, steps, stopLoss, order, losses);
    idle.push(run);
    return taken;
  }

  /** Element (i, j), j &lt;= i, of a k x k triangle. */
  private static int triangle(int i, int j) {
    return i * (i + 1) / 2 + j;
  }

  /** The state of one elimination, used again for the next. Active blocks are renumbered. */
  private final class Run {
    private final FloatLazyInverse inverse =
        new FloatLazyInverse(packed, columns, Math.max(PERIOD, k));
    private final float[] ofM = FloatLazyInverse.vector(columns);
    private final float[] ofU = new float[Math.max(PERIOD, k)];

    /** A_BB of all blocks, and its factors: [k(k+1)/2][blocks]. */
    private final float[][] diagonal = new float[triangle(k, 0)][blocks];

    private final float[][] factor = new float[triangle(k, 0)][blocks];

    /** Columns of V, [k][size]; one of them by places in the block, [k][k][blocks]. */
    private final float[][] v = new float[k][FloatLazyInverse.vector(columns).length];

    private final float[][][] parts = new float[k][k][blocks];

    /** [rows][k][blocks]. */
    private float[][][] w = new float[0][][];

    private final float[][] z = new float[k][blocks];
    private final float[] scores = new float[blocks];
    private final int[] ids = new int[blocks];
    private final int[] keep = new int[columns];

    /** Of the block that goes. */
    private final float[] l = new float[triangle(k, 0)];

    private final float[] solved = new float[k];
    private int active;

    int eliminate(FloatMatrix weights, int steps, double stopLoss, int[] order, double[] losses) {
      begin(weights);
      for (int step = 0; step < steps; step++) {
        int best = best();
        if (best < 0 || !factorBlock(best)) {
          return -1 - step;
        }
        double loss = 0.5 * scores[best];
        if (loss > stopLoss) {
          return step;
        }
        order[step] = ids[best];
        losses[step] = loss;
        if (step + 1 < steps) {
          formColumns(best);
          update(best);
          if (inverse.isFull(k)) {
            compact();
          }
        }
      }
      return steps;
    }

    private void begin(FloatMatrix weights) {
      inverse.reset();
      active = blocks;
      if (w.length != weights.rows()) {
        w = new float[weights.rows()][k][blocks];
      }
      for (int b = 0; b < blocks; b++) {
        ids[b] = b;
        for (int r = 0; r < w.length; r++) {
          for (int c = 0; c < k; c++) {
            w[r][c][b] = weights.at(r, b * k + c);
          }
        }
      }
      readDiagonal();
    }

    private void readDiagonal() {
      for (int i = 0; i < k; i++) {
        for (int j = 0; j <= i; j++) {
          for (int b = 0; b < active; b++) {
            diagonal[triangle(i, j)][b] = inverse.at(j * active + b, i * active + b);
          }
        }
      }
    }

    /** The block with the smallest Σ_r ‖L⁻¹ w_rB‖²; -1 where there is none. */
    private int best() {
      for (int j = 0; j < k; j++) {
        for (int i = j; i < k; i++) {
          float[] to = factor[triangle(i, j)];
          System.arraycopy(diagonal[triangle(i, j)], 0, to, 0, active);
          for (int c = 0; c < j; c++) {
            subtractProducts(factor[triangle(i, c)], factor[triangle(j, c)], to, active);
          }
          if (i == j) {
            reciprocalRoots(to, active);
          } else {
            multiply(factor[triangle(j, j)], to, active);
          }
        }
      }
      Arrays.fill(scores, 0, active, 0);
      for (float[][] row : w) {
        for (int i = 0; i < k; i++) {
          System.arraycopy(row[i], 0, z[i], 0, active);
          for (int c = 0; c < i; c++) {
            subtractProducts(factor[triangle(i, c)], z[c], z[i], active);
          }
          multiply(factor[triangle(i, i)], z[i], active);
          addSquares(z[i], scores, active);
        }
      }
      int best = -1;
      float least = Float.POSITIVE_INFINITY;
      for (int b = 0; b < active; b++) {
        // A block that is gone has NaN.
        if (scores[b] < least) {
          least = scores[b];
          best = b;
        }
      }
      return best;
    }

    /** The factor of one block; false where a pivot is none. */
    private boolean factorBlock(int block) {
      for (int i = 0; i < k; i++) {
        for (int j = 0; j <= i; j++) {
          float sum = diagonal[triangle(i, j)][block];
          for (int c = 0; c < j; c++) {
            sum -= l[triangle(i, c)] * l[triangle(j, c)];
          }
          if (i > j) {
            l[triangle(i, j)] = sum / l[triangle(j, j)];
          } else if (sum >= 0.5 * leastPivots[ids[block] * k + i] && sum <= Float.MAX_VALUE) {
            l[triangle(i, i)] = (float) Math.sqrt(sum);
          } else {
            return false;
          }
        }
      }
      return true;
    }

    /** The next k rows of U. */
    private void formColumns(int block) {
      int size = inverse.size();
      int panels = FloatLazyInverse.panels(size);
      for (int c = 0; c < k; c++) {
        inverse.column(c * active + block, ofM, ofU);
        form(panels, inverse.u(), inverse.panelStride(), inverse.rank(), ofM, ofU, v[c]);
        for (int e = 0; e < c; e++) {
          subtractMultiple(l[triangle(c, e)], v[e], v[c], size);
        }
        scale(1 / l[triangle(c, c)], v[c], size);
      }
      for (int c = 0; c < k; c++) {
        for (int q = 0; q < panels; q++) {
          int to = q * inverse.panelStride() + inverse.rank() * PANEL;
          System.arraycopy(v[c], q * PANEL, inverse.u(), to, PANEL);
        }
        inverse.append();
      }
    }

    /** w -= (L⁻¹ w_B)ᵀ Vᵀ and A_BB -= V Vᵀ, all blocks; the one that goes is marked. */
    private void update(int block) {
      for (int c = 0; c < k; c++) {
        for (int i = 0; i < k; i++) {
          System.arraycopy(v[c], i * active, parts[c][i], 0, active);
        }
      }
      for (float[][] row : w) {
        for (int c = 0; c < k; c++) {
          float sum = row[c][block];
          for (int e = 0; e < c; e++) {
            sum -= l[triangle(c, e)] * solved[e];
          }
          solved[c] = sum / l[triangle(c, c)];
        }
        for (int c = 0; c < k; c++) {
          for (int i = 0; i < k; i++) {
            subtractMultiple(solved[c], parts[c][i], row[i], active);
          }
        }
      }
      for (int c = 0; c < k; c++) {
        for (int i = 0; i < k; i++) {
          for (int j = 0; j <= i; j++) {
            subtractProducts(parts[c][i], parts[c][j], diagonal[triangle(i, j)], active);
          }
        }
      }
      diagonal[0][block] = Float.NaN;
    }

    private void compact() {
      int kept = 0;
      for (int b = 0; b < active; b++) {
        if (!Float.isNaN(diagonal[0][b])) {
          ids[kept] = ids[b];
          keep[kept++] = b;
        }
      }
      for (float[][] row : w) {
        for (float[] component : row) {
          for (int b = 0; b < kept; b++) {
            component[b] = component[keep[b]];
          }
        }
      }
      for (int c = 1; c < k; c++) {
        for (int b = 0; b < kept; b++) {
          keep[c * kept + b] = c * active + keep[b];
        }
      }
      inverse.compact(keep, k * kept);
      active = kept;
      readDiagonal();
    }
  }

  /** One column of A = M − UᵀU. */
  private static void form(
      int panels, float[] u, int panelStride, int rank, float[] ofM, float[] ofU, float[] to) {
    for (int j = 0; j < panels * PANEL; j += FloatLazyInverse.TILE_COLS) {
      int q = j / PANEL;
      int panel = q * panelStride + j - q * PANEL;
      FloatVector s0 = FloatVector.zero(SPECIES);
      FloatVector s1 = s0;
      FloatVector s2 = s0;
      for (int b = 0; b < rank; b++) {
        int at = panel + b * PANEL;
        FloatVector factor = FloatVector.broadcast(SPECIES, ofU[b]);
        s0 = factor.fma(FloatVector.fromArray(SPECIES, u, at), s0);
        s1 = factor.fma(FloatVector.fromArray(SPECIES, u, at + LANES), s1);
        s2 = factor.fma(FloatVector.fromArray(SPECIES, u, at + 2 * LANES), s2);
      }
      FloatVector.fromArray(SPECIES, ofM, j).sub(s0).intoArray(to, j);
      FloatVector.fromArray(SPECIES, ofM, j + LANES).sub(s1).intoArray(to, j + LANES);
      FloatVector.fromArray(SPECIES, ofM, j + 2 * LANES).sub(s2).intoArray(to, j + 2 * LANES);
    }
  }

  // Loops that C2 turns into vector instructions.

  private static void subtractProducts(float[] a, float[] b, float[] to, int count) {
    for (int i = 0; i < count; i++) {
      to[i] -= a[i] * b[i];
    }
  }

  private static void subtractMultiple(float factor, float[] a, float[] to, int count) {
    for (int i = 0; i < count; i++) {
      to[i] -= factor * a[i];
    }
  }

  private static void multiply(float[] a, float[] to, int count) {
    for (int i = 0; i < count; i++) {
      to[i] *= a[i];
    }
  }

  private static void scale(float factor, float[] to, int count) {
    for (int i = 0; i < count; i++) {
      to[i] *= factor;
    }
  }

  private static void addSquares(float[] a, float[] to, int count) {
    for (int i = 0; i < count; i++) {
      to[i] += a[i] * a[i];
    }
  }

  private static void reciprocalRoots(float[] to, int count) {
    for (int i = 0; i < count; i++) {
      to[i] = 1 / (float) Math.sqrt(to[i]);
    }
  }
}
