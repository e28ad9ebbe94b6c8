package org.taco4j.solve;

import java.util.Arrays;
import java.util.function.BooleanSupplier;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/**
 * The search for a better support S, the columns that a row keeps, or a few rows that share their
 * mask. Weights are at any moment the least-squares fit to the support.
 *
 * <p>With H the damped Hessian and b = H wᵀ of the dense row, there are
 *
 * <ul>
 *   <li>G = (H_SS)⁻¹ and the weights w_S = G b_S;
 *   <li>for each removed column j the residual x_j = b_j - H_jS w_S and the diagonal of the Schur
 *       complement D_j = H_jj - H_jS G H_Sj: to add j lowers the error by x_j² / D_j;
 *   <li>to remove i of S raises it by w_i² / G_ii.
 * </ul>
 *
 * To add j moves the weights by -c_j x_j / D_j, c_j = G H_Sj. A swap adds a column and removes the
 * cheapest one after that. The columns with the largest gains are the candidates; their c, x and D
 * are kept exact through every step, which costs a few products of length |S|. What the steps do to
 * x and D of all the other columns is put off: each step is a vector over the rows of H, and some
 * of them together are one matrix product. So the work of a step does not grow with the number of
 * columns, and H, shared by all rows, is read once for many steps.
 *
 * <p>The full symmetric sweep tableau (Goodnight 1979, "A Tutorial on the SWEEP Operator") holds
 * the same numbers, but all c_j with them: [cols, cols] to rewrite at each step.
 */
final class SupportSearch {
  /** Candidates to add. */
  private static final int CANDIDATES = 32;

  /** Steps after which the columns that are no candidates learn of them. */
  private static final int PENDING_STEPS = 16;

  /** Steps after which G is computed anew, before rounding errors add up. */
  private static final int FRESH_STEPS = 512;

  /** Moves that lower the error by less than this fraction are not worth their time. */
  static final double TOLERANCE = 1e-5;

  /** Kicks of random columns for each size, after the one of the best. */
  private static final int RANDOM_KICKS = 1;

  /** How large residuals of the support may be, measured by b, before G is computed anew. */
  private static final double DRIFT = 1e-8;

  /** Below this part of H_jj a Schur complement is rounding error. */
  private static final double DEPENDENT = 1e-10;

  /** What all rows of a layer share. */
  record Problem(String layer, DoubleMatrix hessian, @Nullable Groups groups, Backend backend) {}

  /**
   * The groups of N:M.
   *
   * @param columns [cols], group after group
   * @param groupOf [cols]: the group of each column
   */
  @SuppressWarnings("ArrayRecordComponent") // shared by all rows, never written
  record Groups(int[] columns, int[] groupOf, int kept, int size) {
    static Groups of(int[] order, Pattern.NM pattern) {
      int[] groupOf = new int[order.length];
      for (int i = 0; i < order.length; i++) {
        groupOf[order[i]] = i / pattern.groupSize();
      }
      return new Groups(order, groupOf, pattern.kept(), pattern.groupSize());
    }
  }

  private final Problem problem;
  private final Backend backend;
  private final DoubleMatrix h;
  private final int cols;
  private final int rows;

  /** B, [rows, cols]. */
  private final DoubleMatrix targets;

  /** wHwᵀ of the dense rows. */
  private final double energy;

  private final int capacity;

  // The support: position -> column, column -> position or -1.
  private int size;
  private final int[] columns;
  private final int[] positions;

  /** G, [capacity, capacity]. */
  private final DoubleMatrix inverse;

  /** The diagonal of G. */
  private final double[] diagonal;

  /** w_S, [rows, capacity]. */
  private final DoubleMatrix weights;

  private double error;

  // Of all columns, as they were before the pending steps; 0 for columns of the support.
  private final DoubleMatrix residuals;
  private final double[] schur;

  // The candidates: columns or -1; c [CANDIDATES, capacity], x [CANDIDATES, rows], D.
  private final int[] candidates = new int[CANDIDATES];
  private final DoubleMatrix moves;
  private final double[][] candidateResiduals;
  private final double[] candidateSchur = new double[CANDIDATES];

  // Pending steps: vectors over slots, a slot being any column that was in the support since.
  private int pending;
  private int slots;
  private final int[] slotColumns;
  private final int[] slotOfPosition;
  private final DoubleMatrix steps;
  private final double[] stepSchur;
  private final DoubleMatrix slotRows;
  private final DoubleMatrix stepProducts;

  private int stepsSinceBuild;
  private double flop;

  // Scratch memory.
  private final double[] one;
  private final double[] two;
  private final double[] products = new double[CANDIDATES];

  /**
   * Starts from a support.
   *
   * @param targets B, [rows, cols]: the dense rows times H; borrowed
   * @param energy tr(W H Wᵀ) of the dense rows
   * @param support the columns kept
   * @param room by how many columns the support may grow
   */
  SupportSearch(Problem problem, DoubleMatrix targets, double energy, int[] support, int room) {
    this.problem = problem;
    this.backend = problem.backend();
    this.h = problem.hessian();
    this.cols = h.cols();
    this.rows = targets.rows();
    this.targets = targets;
    this.energy = energy;
    this.size = support.length;
    this.capacity = Math.min(cols, size + room);
    this.columns = Arrays.copyOf(support, capacity);
    this.positions = new int[cols];
    this.inverse = DoubleMatrix.zeros(capacity, capacity);
    this.diagonal = new double[capacity];
    this.weights = DoubleMatrix.zeros(rows, capacity);
    this.residuals = DoubleMatrix.zeros(rows, cols);
    this.schur = new double[cols];
    this.moves = DoubleMatrix.zeros(CANDIDATES, capacity);
    this.candidateResiduals = new double[CANDIDATES][rows];
    int maxSteps = PENDING_STEPS + 2 * room;
    int maxSlots = capacity + maxSteps; // a column may come twice
    this.slotColumns = new int[maxSlots];
    this.slotOfPosition = new int[capacity];
    this.steps = DoubleMatrix.zeros(maxSteps + rows, maxSlots);
    this.stepSchur = new double[maxSteps];
    this.slotRows = DoubleMatrix.zeros(maxSlots, cols);
    this.stepProducts = DoubleMatrix.zeros(maxSteps + rows, cols);
    this.one = new double[capacity];
    this.two = new double[capacity];
    build();
  }

  /** The error of the rows: ‖ΔW X‖², damping included. */
  double error() {
    return error;
  }

  /** Floating-point operations so far. */
  double flop() {
    return flop;
  }

  /** The support, ascending. */
  int[] support() {
    int[] support = Arrays.copyOf(columns, size);
    Arrays.sort(support);
    return support;
  }

  /** Everything anew from the support. */
  private void build() {
    Arrays.fill(positions, -1);
    for (int p = 0; p < size; p++) {
      positions[columns[p]] = p;
      System.arraycopy(
          h.data(), h.index(columns[p], 0), slotRows.data(), slotRows.index(p, 0), cols);
    }
    for (int p = 0; p < size; p++) {
      for (int q = 0; q <= p; q++) {
        inverse.data()[inverse.index(p, q)] = slotRows.at(p, columns[q]);
      }
    }
    for (int j = 0; j < cols; j++) {
      schur[j] = h.at(j, j);
    }
    if (size > 0) {
      DoubleMatrix rowsOfSupport = slotRows.block(0, size, 0, cols);
      if (backend.invertAndReduce(active(inverse), rowsOfSupport, schur) >= 0) {
        throw TacoException.numerical(
            "layer %s: the Hessian of the %d columns that a row keeps is singular in spite of damping"
                .formatted(problem.layer(), size));
      }
    }
    for (int r = 0; r < rows; r++) {
      for (int p = 0; p < size; p++) {
        one[p] = targets.at(r, columns[p]);
      }
      backend.multiply(active(inverse), one, two);
      System.arraycopy(two, 0, weights.data(), weights.index(r, 0), size);
    }
    flop += (double) size * size * (cols + size) + 2.0 * rows * size * cols;
    copyDiagonal();
    Arrays.fill(candidates, -1);
    startSlots();
    stepsSinceBuild = 0;
    refreshResiduals(slotRows.block(0, size, 0, cols));
    measure();
    chooseCandidates();
  }

  /** e = wHwᵀ - b_Sᵀ w_S. */
  private void measure() {
    double explained = 0;
    for (int r = 0; r < rows; r++) {
      for (int p = 0; p < size; p++) {
        explained += targets.at(r, columns[p]) * weights.at(r, p);
      }
    }
    error = energy - explained;
  }

  private DoubleMatrix active(DoubleMatrix square) {
    return square.block(0, size, 0, size);
  }

  private void copyDiagonal() {
    for (int p = 0; p < size; p++) {
      diagonal[p] = inverse.at(p, p);
    }
  }

  private void startSlots() {
    pending = 0;
    slots = size;
    System.arraycopy(columns, 0, slotColumns, 0, size);
    for (int p = 0; p < size; p++) {
      slotOfPosition[p] = p;
    }
  }

  /** x = b - H_:S w of all columns, where no step is pending. */
  private void refreshResiduals(DoubleMatrix rowsOfSupport) {
    backend.gemmTile(-1, weights.block(0, rows, 0, size), rowsOfSupport, 0, residuals);
    for (int i = 0; i < residuals.data().length; i++) {
      residuals.data()[i] += targets.data()[targets.offset() + i];
    }
    clearSupport();
  }

  private void clearSupport() {
    for (int p = 0; p < size; p++) {
      schur[columns[p]] = 0;
      for (int r = 0; r < rows; r++) {
        residuals.data()[residuals.index(r, columns[p])] = 0;
      }
    }
  }

  /** Lets all columns know of the pending steps, and chooses the candidates anew. */
  private void flush() {
    if (stepsSinceBuild > FRESH_STEPS) {
      build();
      return;
    }
    if (pending > 0) {
      for (int s = 0; s < slots; s++) {
        System.arraycopy(
            h.data(), h.index(slotColumns[s], 0), slotRows.data(), slotRows.index(s, 0), cols);
      }
      for (int r = 0; r < rows; r++) {
        int row = steps.index(pending + r, 0);
        Arrays.fill(steps.data(), row, row + slots, 0);
        for (int p = 0; p < size; p++) {
          steps.data()[row + slotOfPosition[p]] = weights.at(r, p);
        }
      }
      DoubleMatrix result = stepProducts.block(0, pending + rows, 0, cols);
      backend.gemmTile(
          1,
          steps.block(0, pending + rows, 0, slots),
          slotRows.block(0, slots, 0, cols),
          0,
          result);
      flop += 2.0 * (pending + rows) * slots * cols;
      for (int q = 0; q < pending; q++) {
        int from = result.index(q, 0);
        for (int j = 0; j < cols; j++) {
          double product = result.data()[from + j];
          schur[j] += stepSchur[q] * product * product;
        }
      }
      // Not updated but computed from the weights, so that errors do not add up.
      for (int r = 0; r < rows; r++) {
        int from = result.index(pending + r, 0);
        int to = residuals.index(r, 0);
        int target = targets.index(r, 0);
        for (int j = 0; j < cols; j++) {
          residuals.data()[to + j] = targets.data()[target + j] - result.data()[from + j];
        }
      }
      startSlots();
      if (isDrifted()) {
        build();
        return;
      }
      clearSupport();
    }
    chooseCandidates();
  }

  /** Whether the weights do not solve the normal equations any more, for rounding errors. */
  private boolean isDrifted() {
    double largest = 0;
    double worst = 0;
    for (int r = 0; r < rows; r++) {
      for (int p = 0; p < size; p++) {
        largest = Math.max(largest, Math.abs(targets.at(r, columns[p])));
        worst = Math.max(worst, Math.abs(residuals.at(r, columns[p])));
      }
    }
    // Written so that NaN is drift too.
    return !(worst <= DRIFT * largest);
  }

  /** What the addition of a column would gain, by the figures of all columns; 0 for none. */
  private double gain(int column) {
    double d = schur[column];
    if (positions[column] >= 0 || !(d > DEPENDENT * h.at(column, column))) {
      return 0;
    }
    double squares = 0;
    for (int r = 0; r < rows; r++) {
      double x = residuals.at(r, column);
      squares += x * x;
    }
    return squares / d;
  }

  /** The columns with the largest gains become candidates; those that were one keep their c. */
  private void chooseCandidates() {
    int[] best = new int[CANDIDATES];
    double[] gains = new double[CANDIDATES];
    int count = 0;
    for (int j = 0; j < cols; j++) {
      double gain = gain(j);
      if (gain > (count < CANDIDATES ? 0 : gains[CANDIDATES - 1])) {
        int at = count < CANDIDATES ? count++ : CANDIDATES - 1;
        for (; at > 0 && gains[at - 1] < gain; at--) {
          gains[at] = gains[at - 1];
          best[at] = best[at - 1];
        }
        gains[at] = gain;
        best[at] = j;
      }
    }
    int[] fresh = new int[CANDIDATES];
    int freshCount = 0;
    boolean[] stays = new boolean[CANDIDATES];
    for (int b = 0; b < count; b++) {
      int at = find(best[b]);
      if (at >= 0) {
        stays[at] = true;
      } else {
        fresh[freshCount++] = best[b];
      }
    }
    DoubleMatrix rowsOfFresh = DoubleMatrix.zeros(freshCount, size);
    for (int f = 0; f < freshCount; f++) {
      int row = h.index(fresh[f], 0);
      for (int p = 0; p < size; p++) {
        rowsOfFresh.data()[rowsOfFresh.index(f, p)] = h.data()[row + columns[p]];
      }
    }
    DoubleMatrix freshMoves = DoubleMatrix.zeros(freshCount, size);
    if (freshCount > 0 && size > 0) {
      backend.gemmTile(1, rowsOfFresh, active(inverse), 0, freshMoves);
      flop += 2.0 * freshCount * size * size;
    }
    int next = 0;
    for (int t = 0; t < CANDIDATES; t++) {
      if (!stays[t]) {
        candidates[t] = -1;
        if (next < freshCount) {
          for (int p = 0; p < size; p++) {
            moves.data()[moves.index(t, p)] = freshMoves.at(next, p);
          }
          candidates[t] = fresh[next++];
        }
      }
      if (candidates[t] >= 0) {
        candidateSchur[t] = schur[candidates[t]];
        for (int r = 0; r < rows; r++) {
          candidateResiduals[t][r] = residuals.at(r, candidates[t]);
        }
      }
    }
  }

  private int find(int column) {
    for (int t = 0; t < CANDIDATES; t++) {
      if (candidates[t] == column) {
        return t;
      }
    }
    return -1;
  }

  private double candidateGain(int t) {
    double d = candidateSchur[t];
    if (candidates[t] < 0 || !(d > DEPENDENT * h.at(candidates[t], candidates[t]))) {
      return 0;
    }
    double squares = 0;
    for (double x : candidateResiduals[t]) {
      squares += x * x;
    }
    return squares / d;
  }

  /** Adds candidate t to the support. */
  private void add(int t) {
    int column = candidates[t];
    double d = candidateSchur[t];
    double[] c = one;
    System.arraycopy(moves.data(), moves.index(t, 0), c, 0, size);

    int step = startStep(-1 / d);
    int slot = slots++;
    slotColumns[slot] = column;
    steps.data()[steps.index(step, slot)] = 1;
    for (int p = 0; p < size; p++) {
      steps.data()[steps.index(step, slotOfPosition[p])] = -c[p];
    }

    // The other candidates: v = H_tj - H_jS c_t.
    double[] coupling = two;
    int row = h.index(column, 0);
    for (int p = 0; p < size; p++) {
      coupling[p] = h.data()[row + columns[p]];
    }
    backend.multiply(moves.block(0, CANDIDATES, 0, size), coupling, products);
    for (int other = 0; other < CANDIDATES; other++) {
      boolean moved = other != t && candidates[other] >= 0;
      double v = moved ? h.data()[row + candidates[other]] - products[other] : 0;
      for (int r = 0; r < rows && moved; r++) {
        candidateResiduals[other][r] -= v * candidateResiduals[t][r] / d;
      }
      candidateSchur[other] -= moved ? v * v / d : 0;
      products[other] = v / d;
      moves.data()[moves.index(other, size)] = v / d;
    }
    backend.rankOne(-1, products, c, moves.block(0, CANDIDATES, 0, size));

    backend.rankOne(1 / d, c, c, active(inverse));
    for (int p = 0; p < size; p++) {
      inverse.data()[inverse.index(p, size)] = -c[p] / d;
      inverse.data()[inverse.index(size, p)] = -c[p] / d;
    }
    inverse.data()[inverse.index(size, size)] = 1 / d;
    for (int r = 0; r < rows; r++) {
      double weight = candidateResiduals[t][r] / d;
      int to = weights.index(r, 0);
      for (int p = 0; p < size; p++) {
        weights.data()[to + p] -= c[p] * weight;
      }
      weights.data()[to + size] = weight;
    }
    flop += (4.0 * CANDIDATES + 2.0 * size) * size;
    columns[size] = column;
    positions[column] = size;
    slotOfPosition[size] = slot;
    size++;
    copyDiagonal();
    candidates[t] = -1;
  }

  /** Removes the column at position i from the support; it becomes a candidate if there is room. */
  private void remove(int i) {
    int column = columns[i];
    double g = inverse.at(i, i);
    double[] v = one;
    System.arraycopy(inverse.data(), inverse.index(i, 0), v, 0, size);

    int step = startStep(1 / g);
    for (int p = 0; p < size; p++) {
      steps.data()[steps.index(step, slotOfPosition[p])] = v[p];
    }
    for (int t = 0; t < CANDIDATES; t++) {
      double move = candidates[t] >= 0 ? moves.at(t, i) : 0;
      for (int r = 0; r < rows; r++) {
        candidateResiduals[t][r] += move * weights.at(r, i) / g;
      }
      candidateSchur[t] += move * move / g;
      products[t] = move / g;
    }
    backend.rankOne(-1, products, v, moves.block(0, CANDIDATES, 0, size));
    int free = find(-1);
    if (free >= 0) {
      candidates[free] = column;
      candidateSchur[free] = 1 / g;
      for (int r = 0; r < rows; r++) {
        candidateResiduals[free][r] = weights.at(r, i) / g;
      }
      for (int p = 0; p < size; p++) {
        moves.data()[moves.index(free, p)] = -v[p] / g;
      }
    }
    backend.rankOne(-1 / g, v, v, active(inverse));
    for (int r = 0; r < rows; r++) {
      double factor = weights.at(r, i) / g;
      int to = weights.index(r, 0);
      for (int p = 0; p < size; p++) {
        weights.data()[to + p] -= v[p] * factor;
      }
    }
    flop += (2.0 * CANDIDATES + 2.0 * size) * size;
    moveLast(i);
    positions[column] = -1;
    size--;
    copyDiagonal();
  }

  /** Puts the last position of the support in the place of position i. */
  private void moveLast(int i) {
    int last = size - 1;
    columns[i] = columns[last];
    positions[columns[i]] = i;
    slotOfPosition[i] = slotOfPosition[last];
    System.arraycopy(
        inverse.data(), inverse.index(last, 0), inverse.data(), inverse.index(i, 0), size);
    for (int p = 0; p < size; p++) {
      inverse.data()[inverse.index(p, i)] = inverse.at(p, last);
    }
    for (int r = 0; r < rows; r++) {
      weights.data()[weights.index(r, i)] = weights.at(r, last);
    }
    for (int t = 0; t < CANDIDATES; t++) {
      moves.data()[moves.index(t, i)] = moves.at(t, last);
    }
  }

  private int startStep(double schurFactor) {
    int step = pending++;
    int row = steps.index(step, 0);
    Arrays.fill(steps.data(), row, row + steps.cols(), 0);
    stepSchur[step] = schurFactor;
    stepsSinceBuild++;
    return step;
  }

  /**
   * Swaps while that lowers the error.
   *
   * @param expired whether the time is up; asked now and then
   * @return how many swaps
   */
  int swap(BooleanSupplier expired) {
    int swaps = 0;
    boolean current = pending == 0;
    while (size > 0 && error > 0) {
      if (swapBest()) {
        swaps++;
        current = false;
        if (pending + 2 > PENDING_STEPS) {
          flush();
          current = true;
          if (expired.getAsBoolean()) {
            break;
          }
        }
      } else if (current) {
        break;
      } else {
        flush();
        current = true;
      }
    }
    return swaps;
  }

  /** The best swap among the candidates, if it is worth it. */
  private boolean swapBest() {
    double best = TOLERANCE * error;
    int added = -1;
    int removed = -1;
    double[] change = new double[rows];
    for (int t = 0; t < CANDIDATES; t++) {
      double gain = candidateGain(t);
      if (gain > best) {
        double d = candidateSchur[t];
        for (int r = 0; r < rows; r++) {
          change[r] = candidateResiduals[t][r] / d;
        }
        int i = cheapestRemoval(t, change, d);
        double improvement = i < 0 ? 0 : gain - removalCost(i, t, change, d);
        if (improvement > best) {
          best = improvement;
          added = t;
          removed = i;
        }
      }
    }
    if (added < 0) {
      return false;
    }
    add(added);
    remove(removed);
    error -= best;
    return true;
  }

  private int cheapestRemoval(int t, double[] change, double d) {
    flop += (4.0 + 3 * rows) * size;
    Groups groups = problem.groups();
    if (groups == null) {
      return backend.cheapestRemoval(
          weights.block(0, rows, 0, size), diagonal, moves.block(t, 1, 0, size), change, 1 / d);
    }
    int cheapest = -1;
    double least = Double.POSITIVE_INFINITY;
    int from = groups.groupOf[candidates[t]] * groups.size;
    for (int c = from; c < from + groups.size; c++) {
      int i = positions[groups.columns[c]];
      double cost = i < 0 ? Double.POSITIVE_INFINITY : removalCost(i, t, change, d);
      if (cost < least) {
        least = cost;
        cheapest = i;
      }
    }
    return cheapest;
  }

  /** What the removal of position i costs once candidate t has been added. */
  private double removalCost(int i, int t, double[] change, double d) {
    double c = moves.at(t, i);
    double squares = 0;
    for (int r = 0; r < rows; r++) {
      double weight = weights.at(r, i) - c * change[r];
      squares += weight * weight;
    }
    return squares / (diagonal[i] + c * c / d);
  }

  /**
   * Kicks the support out of its local optimum: adds the best columns at once, removes as many of
   * the cheapest, swaps again, and goes back where that did not help. A kick that fails is repeated
   * with random candidates; after these the kicks are half the size.
   *
   * @param largest how many columns the first kick adds; at most the room
   * @param expired whether the time is up; asked now and then
   */
  Kicks kick(int largest, RandomGenerator random, BooleanSupplier expired) {
    Snapshot snapshot = new Snapshot();
    int kicks = 0;
    int swaps = 0;
    int count = largest;
    int failures = 0;
    while (count > 0 && error > 0 && !expired.getAsBoolean()) {
      snapshot.take();
      perturb(count, failures == 0 ? null : random);
      int swapped = swap(expired);
      if (error < snapshot.error * (1 - TOLERANCE)) {
        kicks++;
        swaps += swapped;
        count = failures == 0 ? largest : count;
        failures = 0;
      } else {
        snapshot.restore();
        failures++;
        if (failures > RANDOM_KICKS) {
          failures = 0;
          count /= 2;
        }
      }
    }
    return new Kicks(kicks, swaps);
  }

  /** Kicks that helped, and the swaps after them. */
  record Kicks(int kicks, int swaps) {}

  /** Adds the best candidates, or random ones, and removes as many columns. */
  private void perturb(int count, @Nullable RandomGenerator random) {
    int added = 0;
    for (; added < count; added++) {
      int candidate = candidate(random);
      if (candidate < 0) {
        break;
      }
      add(candidate);
    }
    for (int q = 0; q < added; q++) {
      remove(cheapest());
    }
    flush();
    measure();
  }

  /** The candidate with the largest gain, or a random one; -1 for none. */
  private int candidate(@Nullable RandomGenerator random) {
    int best = -1;
    double most = 0;
    for (int t = 0; t < CANDIDATES; t++) {
      double gain = candidateGain(t);
      double score = gain > 0 && random != null ? 1 - random.nextDouble() : gain;
      if (score > most) {
        most = score;
        best = t;
      }
    }
    return best;
  }

  /**
   * Adds (where positive) or removes so many columns, one best at a time. Where there are not as
   * many that have an effect, fewer.
   */
  void resize(int change) {
    for (int i = 0; i < Math.abs(change); i++) {
      int candidate = candidate(null);
      if (change > 0 && candidate >= 0) {
        add(candidate);
      } else if (change < 0) {
        remove(cheapest());
      }
      if (pending == PENDING_STEPS) {
        flush();
      }
    }
    flush();
    measure();
  }

  /**
   * What 1, 2, … more columns would gain at most, by the figures of each alone; no step may be
   * pending.
   */
  double[] gains(int count) {
    double[] gains = new double[cols];
    for (int j = 0; j < cols; j++) {
      gains[j] = -gain(j);
    }
    return sumsOfSmallest(gains, count, -1);
  }

  /** What the loss of 1, 2, … columns would cost at least, by the figures of each alone. */
  double[] costs(int count) {
    double[] costs = new double[size];
    for (int p = 0; p < size; p++) {
      costs[p] = cost(p);
    }
    return sumsOfSmallest(costs, count, 1);
  }

  private static double[] sumsOfSmallest(double[] values, int count, int sign) {
    Arrays.sort(values);
    double[] sums = new double[Math.min(count, values.length)];
    double sum = 0;
    for (int i = 0; i < sums.length; i++) {
      sum += sign * values[i];
      sums[i] = sum;
    }
    return sums;
  }

  /** The position whose removal costs least, of a group with too many where there are groups. */
  private int cheapest() {
    int cheapest = -1;
    double least = Double.POSITIVE_INFINITY;
    for (int p = 0; p < size; p++) {
      double cost = cost(p);
      if (cost < least && isRemovable(p)) {
        least = cost;
        cheapest = p;
      }
    }
    return cheapest;
  }

  private boolean isRemovable(int position) {
    Groups groups = problem.groups();
    if (groups == null) {
      return true;
    }
    int from = groups.groupOf[columns[position]] * groups.size;
    int count = 0;
    for (int c = from; c < from + groups.size; c++) {
      count += positions[groups.columns[c]] >= 0 ? 1 : 0;
    }
    return count > groups.kept;
  }

  /** What the removal of a position costs. */
  private double cost(int position) {
    double squares = 0;
    for (int r = 0; r < rows; r++) {
      double weight = weights.at(r, position);
      squares += weight * weight;
    }
    return squares / diagonal[position];
  }

  /** A state without pending steps to come back to. */
  private final class Snapshot {
    private int size;
    private double error;
    private int[] columns = {};
    private int[] positions = {};
    private double[] diagonal = {};
    private double[] weights = {};
    private double[] residuals = {};
    private double[] schur = {};
    private int[] candidates = {};
    private double[] candidateSchur = {};
    private final double[][] candidateResiduals = new double[CANDIDATES][];
    private final double[] moves = new double[CANDIDATES * capacity];
    private final double[] inverse = new double[capacity * capacity];

    void take() {
      SupportSearch now = SupportSearch.this;
      size = now.size;
      error = now.error;
      columns = now.columns.clone();
      positions = now.positions.clone();
      diagonal = now.diagonal.clone();
      weights = now.weights.data().clone();
      residuals = now.residuals.data().clone();
      schur = now.schur.clone();
      candidates = now.candidates.clone();
      candidateSchur = now.candidateSchur.clone();
      for (int t = 0; t < CANDIDATES; t++) {
        candidateResiduals[t] = now.candidateResiduals[t].clone();
      }
      System.arraycopy(now.moves.data(), 0, moves, 0, moves.length);
      System.arraycopy(now.inverse.data(), 0, inverse, 0, inverse.length);
    }

    void restore() {
      SupportSearch now = SupportSearch.this;
      now.size = size;
      now.error = error;
      System.arraycopy(columns, 0, now.columns, 0, columns.length);
      System.arraycopy(positions, 0, now.positions, 0, positions.length);
      System.arraycopy(diagonal, 0, now.diagonal, 0, diagonal.length);
      System.arraycopy(weights, 0, now.weights.data(), 0, weights.length);
      System.arraycopy(residuals, 0, now.residuals.data(), 0, residuals.length);
      System.arraycopy(schur, 0, now.schur, 0, schur.length);
      System.arraycopy(inverse, 0, now.inverse.data(), 0, inverse.length);
      System.arraycopy(candidates, 0, now.candidates, 0, CANDIDATES);
      System.arraycopy(candidateSchur, 0, now.candidateSchur, 0, CANDIDATES);
      for (int t = 0; t < CANDIDATES; t++) {
        System.arraycopy(candidateResiduals[t], 0, now.candidateResiduals[t], 0, rows);
      }
      System.arraycopy(moves, 0, now.moves.data(), 0, moves.length);
      startSlots();
    }
  }
}
