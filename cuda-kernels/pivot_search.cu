// The search for better masks by pivot swaps: a row, or a few that share their mask, exchanges a
// kept column for a removed one while that lowers the error ||dW X||^2, damping included. Weights
// are at any moment the least-squares fit to the support S, the columns kept.
//
// With H the damped Hessian and b = H w^T of the dense row, there are
//   G = (H_SS)^-1 and the weights w_S = G b_S;
//   of each removed column j the residual x_j = b_j - H_jS w_S and the Schur complement
//   D_j = H_jj - H_jS G H_Sj: to add j lowers the error by x_j^2 / D_j and moves the weights by
//   -c_j x_j / D_j, c_j = G H_Sj;
//   to remove i of S raises it by w_i^2 / G_ii.
// The columns with the largest gains are candidates, whose c, x and D are kept exact through every
// swap. What swaps do to x and D of all other columns is put off: each adds two vectors over the
// support, and after kSwaps of them one product with the rows of H brings all up to date. Then
// candidates are chosen anew. A swap is two pivots of the symmetric sweep tableau at once: G gets
// c c^T / D and loses v v^T / g, v = G_:i and g = G_ii after the addition.
//
// A block works on one set of rows, alone, in its slot of memory; sets that have converged make
// room for others between launches. What bounds it: to begin a set takes n^3 + n^2 cols operations
// (n kept columns) in float64, by tiles in shared memory and registers. A swap reads and writes G
// once, 16 n^2 bytes, from the second-level cache or memory, and 4 n^2 operations. The product
// after kSwaps swaps reads n rows of H, which all blocks share, and does some twenty
// multiplications with each element in a register. So where float64 has its full rate, memory is
// the limit of the search and operations that of its beginning; where it has a thirty-second (a
// T4) operations are the limit of all.
#include "common.cuh"
#include "inverse_factor.cuh"

namespace {

using namespace taco4j;

constexpr int kThreads = 256;
constexpr int kCandidates = 32;     // to add; a lane each
constexpr int kSwaps = 8;           // after which all columns learn of them
constexpr int kSteps = 2 * kSwaps;  // additions and removals of those
constexpr int kFreshSteps = 512;    // after which G is computed anew, before errors add up
constexpr int kReported = 8;        // gains and costs that are handed out
constexpr int kPanel = 32;          // columns that the factorisation eliminates at once
constexpr int kPanelRows = 8;       // of these that a thread computes at once
constexpr int kTile = 64;           // rows and columns of a product's tile, 4 x 4 a thread
constexpr int kDepth = 16;          // of a tile's factors in shared memory
constexpr int kVectors = 20;        // that a thread multiplies with an element of a matrix
constexpr int kTerms = 32;          // of these vectors in shared memory

// How large residuals of the support may be, measured by b, before G is computed anew.
constexpr double kDrift = 1e-8;
// Below this part of H_jj a Schur complement is rounding error.
constexpr double kDependent = 1e-10;

// Of a set, between launches.
constexpr int kWaiting = 0;
constexpr int kRunning = 1;
constexpr int kConverged = 2;
constexpr int kSingular = 3;

// Of a set's results: error, swaps, operations, then gains and costs.
constexpr int kResults = 3 + 2 * kReported;

// Lays out arrays one after the other; without memory it only counts.
template <typename T>
struct Layout {
  T* memory;
  long long size;

  __device__ T* take(long long count) {
    T* array = memory == nullptr ? nullptr : memory + size;
    size += count;
    return array;
  }
};

// A set of rows and the memory of its slot. It lies in shared memory: there are too many pointers
// for registers.
struct Search {
  const double* h;        // [cols, cols]
  int cols;
  int rows;
  const double* targets;  // B, [rows, cols]
  int capacity;           // row stride of what runs over the support
  int slot_stride;        // of `steps`

  // The support: position -> column, column -> position or -1.
  int size;
  int* columns;    // [capacity]
  int* positions;  // [cols]

  double* inverse;   // G, [capacity, capacity]
  double* diagonal;  // of G, [capacity]
  double* weights;   // [rows, capacity]
  // Of all columns, as they were before the pending steps; 0 for columns of the support.
  double* schur;      // D, [cols]
  double* residuals;  // x, [rows, cols]
  double* gains;      // [cols], of when candidates were chosen

  double* moves;                // c of the candidates, [kCandidates, capacity]
  double* candidate_residuals;  // x of the candidates, [kCandidates, rows]

  // Pending steps: vectors over slots, a slot being any column that was in the support since; and
  // behind them the weights over slots.
  int* slot_columns;  // [slot_stride]
  int* slot_of;       // [capacity]: the slot of a position
  double* steps;      // [kSteps + rows, slot_stride]

  // Of the swap in progress: c and v [capacity], H_S: of what is added [capacity], and by how much
  // rows move [rows].
  double* added;
  double* removed;
  double* coupling;
  double* row_added;
  double* row_removed;

  double* panel;  // of the inversion, [kPanel, capacity]

  int* saved;           // [kSaved]: candidates and the steps since G was computed
  double* saved_error;  // [1]: of when G was computed
};

// Where the search stands, the same in all threads.
struct Progress {
  int pending;  // steps
  int slots;    // of theirs
  int steps_since_build;
  double error;
  double built_error;  // of when G was computed
  bool stalled;        // nothing that was gained since has outlived rounding errors
  double flop;
};

constexpr int kSaved = kCandidates + 1;

// What the threads of a block share. Tiles double as the vectors of products.
struct __align__(16) Scratch {
  double a[kDepth * (kTile + 1)];
  double b[kDepth * kTile];
  double pivot[kPanel * (kPanel + 1)];
  double sums[kWarp];
  int indices[kWarp];
  int candidates[kCandidates];  // columns or -1
  double schur[kCandidates];    // their D
  double improvements[kCandidates];
  int removals[kCandidates];
  double along[kCandidates];    // by how much c of a candidate changes along c of the added one
  double back[kCandidates];     // and along v of the removed one
  double factors[kSteps];       // of pending steps
  int best[kCandidates];        // columns with the largest gains
  int fresh[kCandidates];       // those that were no candidates, and where they go
  int fresh_at[kCandidates];
  double largest[kReported];    // gains
};

static_assert(kTerms * kVectors <= kDepth * (kTile + 1), "vectors of products fit in a tile");
static_assert(kTerms <= kDepth * kTile, "and their rows' places in the other");
static_assert(kThreads == 16 * 16 && kTile == 4 * 16, "4 x 4 elements a thread");

// Hands the memory of a slot to a search; without memory it only counts.
__device__ void lay_out(Search& s, Layout<double>& doubles, Layout<int>& ints) {
  const long long n = s.capacity;
  s.inverse = doubles.take(n * n);
  s.diagonal = doubles.take(n);
  s.weights = doubles.take(s.rows * n);
  s.schur = doubles.take(s.cols);
  s.residuals = doubles.take((long long)s.rows * s.cols);
  s.gains = doubles.take(s.cols);
  s.moves = doubles.take(kCandidates * n);
  s.candidate_residuals = doubles.take((long long)kCandidates * s.rows);
  s.steps = doubles.take((long long)(kSteps + s.rows) * s.slot_stride);
  s.added = doubles.take(n);
  s.removed = doubles.take(n);
  s.coupling = doubles.take(n);
  s.row_added = doubles.take(s.rows);
  s.row_removed = doubles.take(s.rows);
  s.panel = doubles.take(kPanel * n);
  s.saved_error = doubles.take(1);
  s.columns = ints.take(n);
  s.positions = ints.take(s.cols);
  s.slot_columns = ints.take(s.slot_stride);
  s.slot_of = ints.take(n);
  s.saved = ints.take(kSaved);
}

// take(v, j, sum) with sum = sum over s < terms of coefficient(v, s) * row(s)[j], for all v <
// vectors and j < cols; a thread has a column j and gets its v in order. Begins with a barrier and
// ends without: what take writes is seen by the others after the next one.
template <typename Row, typename Coefficient, typename Take>
__device__ void product(Scratch& scratch, int vectors, int terms, int cols, Row row,
                        Coefficient coefficient, Take take) {
  double* staged = scratch.a;
  const double** rows = reinterpret_cast<const double**>(scratch.b);
  for (int first = 0; first < vectors; first += kVectors) {
    for (int start = 0; start < cols; start += kThreads) {
      const int j = start + threadIdx.x;
      double sums[kVectors] = {};
      for (int from = 0; from < terms; from += kTerms) {
        const int count = min(kTerms, terms - from);
        __syncthreads();
        // Neighbours among threads are neighbours among terms, as they are in memory.
        for (int e = threadIdx.x; e < kTerms * kVectors; e += kThreads) {
          const int term = e % kTerms;
          const int v = e / kTerms;
          staged[term * kVectors + v] = term < count && first + v < vectors
                                            ? coefficient(first + v, from + term)
                                            : 0.0;
        }
        if (threadIdx.x < count) rows[threadIdx.x] = row(from + threadIdx.x);
        __syncthreads();
        if (j < cols) {
#pragma unroll 4
          for (int term = 0; term < count; term++) {
            const double value = rows[term][j];
            const double2* pairs = reinterpret_cast<const double2*>(staged + term * kVectors);
#pragma unroll
            for (int v = 0; v < kVectors; v += 2) {
              const double2 pair = pairs[v / 2];
              sums[v] += pair.x * value;
              sums[v + 1] += pair.y * value;
            }
          }
        }
      }
      if (terms == 0) __syncthreads();
      if (j < cols) {
#pragma unroll
        for (int v = 0; v < kVectors; v++) {
          if (first + v < vectors) take(first + v, j, sums[v]);
        }
      }
    }
  }
}

// sums[r][c] += the product of the tiles in scratch: a is [kDepth, kTile] with a row stride of
// a_stride, b [kDepth, kTile]; element (y + 16 r, x + 16 c) of thread (x, y).
__device__ __forceinline__ void multiply_tiles(const Scratch& scratch, int a_stride,
                                               double (&sums)[4][4]) {
  const int x = threadIdx.x % 16;
  const int y = threadIdx.x / 16;
#pragma unroll 4
  for (int k = 0; k < kDepth; k++) {
    double left[4];
    double right[4];
#pragma unroll
    for (int r = 0; r < 4; r++) {
      left[r] = scratch.a[k * a_stride + y + 16 * r];
      right[r] = scratch.b[k * kTile + x + 16 * r];
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
#pragma unroll
      for (int c = 0; c < 4; c++) sums[r][c] += left[r] * right[c];
    }
  }
}

// L^-1 with H_SS = L L^T, into the lower triangle of s.inverse, kPanel columns at a time; as
// inverse_factor does it. False where H_SS is not positive definite.
__device__ __noinline__ bool factor(const Search& s, Scratch& scratch) {
  const int n = s.size;
  const int ld = s.capacity;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int x = threadIdx.x % 16;
  const int y = threadIdx.x / 16;
  constexpr int kPivotStride = kPanel + 1;
  for (int i = warp; i < n; i += kThreads / kWarp) {
    const double* row = s.h + index(s.columns[i], s.cols, 0);
    for (int j = lane; j <= i; j += kWarp) s.inverse[index(i, ld, j)] = row[s.columns[j]];
  }
  __syncthreads();
  for (int first = 0; first < n; first += kPanel) {
    const int width = min(kPanel, n - first);
    const int end = first + width;
    for (int i = warp; i < kPanel; i += kThreads / kWarp) {
      scratch.pivot[i * kPivotStride + lane] =
          lane <= i && i < width ? s.inverse[index(first + i, ld, first + lane)] : 0.0;
    }
    __syncthreads();
    if (!inverse_factor(scratch.pivot, kPivotStride, width)) return false;
    // The panel: before the pivot block M, rows of the inverse; then P, columns of the factor.
    for (int i = threadIdx.x; i < n; i += kThreads) {
      for (int start = 0; start < width; start += kPanelRows) {
        double sums[kPanelRows] = {};
        for (int l = 0; l < min(width, start + kPanelRows); l++) {
          double value = i == first + l ? 1.0 : 0.0;
          if (i < first) value = s.inverse[index(first + l, ld, i)];
          if (i >= end) value = s.inverse[index(i, ld, first + l)];
#pragma unroll
          for (int k = 0; k < kPanelRows; k++) {
            sums[k] += scratch.pivot[(start + k) * kPivotStride + l] * value;
          }
        }
#pragma unroll
        for (int k = 0; k < kPanelRows; k++) {
          if (start + k < width) s.panel[index(start + k, ld, i)] = sums[k];
        }
      }
    }
    __syncthreads();
    // Rows below the pivot block lose P times the panel.
    for (int top = end / kTile * kTile; top < n; top += kTile) {
      for (int left = 0; left <= top; left += kTile) {
        double sums[4][4] = {};
        for (int from = 0; from < width; from += kDepth) {
          for (int e = threadIdx.x; e < kDepth * kTile; e += kThreads) {
            const int k = from + e / kTile;
            const int i = top + e % kTile;
            const int j = left + e % kTile;
            scratch.a[e] = k < width && i < n ? s.panel[index(k, ld, i)] : 0.0;
            scratch.b[e] = k < width && j < n ? s.panel[index(k, ld, j)] : 0.0;
          }
          __syncthreads();
          multiply_tiles(scratch, kTile, sums);
          __syncthreads();
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
#pragma unroll
          for (int c = 0; c < 4; c++) {
            const int i = top + y + 16 * r;
            const int j = left + x + 16 * c;
            if (i >= end && i < n && j <= i) {
              const long long at = index(i, ld, j);
              s.inverse[at] = (j >= first && j < end ? 0.0 : s.inverse[at]) - sums[r][c];
            }
          }
        }
      }
    }
    for (int k = warp; k < width; k += kThreads / kWarp) {
      for (int j = lane; j <= first + k; j += kWarp) {
        s.inverse[index(first + k, ld, j)] = s.panel[index(k, ld, j)];
      }
    }
    __syncthreads();
  }
  return true;
}

// D_j = H_jj - ||M H_Sj||^2 with M = L^-1 in the lower triangle of s.inverse, by tiles of rows of M
// and columns j.
__device__ __noinline__ void reduce_schur(const Search& s, Scratch& scratch) {
  const int n = s.size;
  const int x = threadIdx.x % 16;
  const int y = threadIdx.x / 16;
  for (int left = 0; left < s.cols; left += kTile) {
    double squares[4] = {};
    for (int top = 0; top < n; top += kTile) {
      double sums[4][4] = {};
      for (int from = 0; from < min(n, top + kTile); from += kDepth) {
        for (int e = threadIdx.x; e < kDepth * kTile; e += kThreads) {
          const int i = top + e / kDepth;
          const int q = from + e % kDepth;
          scratch.a[e % kDepth * (kTile + 1) + e / kDepth] =
              i < n && q <= i ? s.inverse[index(i, s.capacity, q)] : 0.0;
          const int p = from + e / kTile;
          const int j = left + e % kTile;
          scratch.b[e] = p < n && j < s.cols ? s.h[index(s.columns[p], s.cols, j)] : 0.0;
        }
        __syncthreads();
        multiply_tiles(scratch, kTile + 1, sums);
        __syncthreads();
      }
#pragma unroll
      for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int c = 0; c < 4; c++) squares[c] += sums[r][c] * sums[r][c];
      }
    }
#pragma unroll
    for (int c = 0; c < 4; c++) scratch.a[y * kTile + x + 16 * c] = squares[c];
    __syncthreads();
    const int j = left + threadIdx.x;
    if (threadIdx.x < kTile && j < s.cols) {
      double sum = 0;
      for (int part = 0; part < 16; part++) sum += scratch.a[part * kTile + threadIdx.x];
      s.schur[j] = s.h[index(j, s.cols, j)] - sum;
    }
    __syncthreads();
  }
}

// G = M^T M in place, both triangles: the tiles of a row need M from this row on only.
__device__ __noinline__ void multiply_factors(const Search& s, Scratch& scratch) {
  const int n = s.size;
  const int ld = s.capacity;
  const int x = threadIdx.x % 16;
  const int y = threadIdx.x / 16;
  for (int top = 0; top < n; top += kTile) {
    // The tile on the diagonal, which the others of its row need, comes last.
    for (int left = 0; left <= top; left += kTile) {
      double sums[4][4] = {};
      for (int from = top; from < n; from += kDepth) {
        for (int e = threadIdx.x; e < kDepth * kTile; e += kThreads) {
          const int k = from + e / kTile;
          const int i = top + e % kTile;
          const int j = left + e % kTile;
          scratch.a[e] = k < n && i <= k ? s.inverse[index(k, ld, i)] : 0.0;
          scratch.b[e] = k < n && j <= k ? s.inverse[index(k, ld, j)] : 0.0;
        }
        __syncthreads();
        multiply_tiles(scratch, kTile, sums);
        __syncthreads();
      }
#pragma unroll
      for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
          const int i = top + y + 16 * r;
          const int j = left + x + 16 * c;
          if (i < n && j <= i) s.inverse[index(i, ld, j)] = sums[r][c];
        }
      }
      __syncthreads();
    }
  }
  for (int i = threadIdx.x / kWarp; i < n; i += kThreads / kWarp) {
    for (int j = threadIdx.x % kWarp; j <= i; j += kWarp) {
      const double value = s.inverse[index(i, ld, j)];
      s.inverse[index(j, ld, i)] = value;
      if (i == j) s.diagonal[i] = value;
    }
  }
  __syncthreads();
}

// No step is pending any more. Ends without a barrier.
__device__ void start_slots(const Search& s, Progress& progress) {
  progress.pending = 0;
  progress.slots = s.size;
  for (int p = threadIdx.x; p < s.size; p += kThreads) {
    s.slot_columns[p] = s.columns[p];
    s.slot_of[p] = p;
  }
}

// Columns of the support gain nothing. Ends without a barrier.
__device__ void clear_support(const Search& s) {
  for (int p = threadIdx.x; p < s.size; p += kThreads) {
    s.schur[s.columns[p]] = 0;
    for (int r = 0; r < s.rows; r++) s.residuals[index(r, s.cols, s.columns[p])] = 0;
  }
}

// D and x of the candidates from those of all columns. Begins and ends with a barrier.
__device__ void load_candidates(const Search& s, Scratch& scratch) {
  __syncthreads();
  for (int e = threadIdx.x; e < kCandidates * s.rows; e += kThreads) {
    const int column = scratch.candidates[e / s.rows];
    if (column >= 0) {
      s.candidate_residuals[e] = s.residuals[index(e % s.rows, s.cols, column)];
      scratch.schur[e / s.rows] = s.schur[column];
    }
  }
  __syncthreads();
}

// The columns with the largest gains become candidates; those that were one keep their c.
__device__ __noinline__ void choose_candidates(const Search& s, Progress& progress,
                                               Scratch& scratch) {
  __syncthreads();
  for (int j = threadIdx.x; j < s.cols; j += kThreads) {
    const double d = s.schur[j];
    double gain = 0;
    if (s.positions[j] < 0 && d > kDependent * s.h[index(j, s.cols, j)]) {
      for (int r = 0; r < s.rows; r++) {
        const double x = s.residuals[index(r, s.cols, j)];
        gain += x * x;
      }
      gain /= d;
    }
    s.gains[j] = gain;
  }
  // Each thread reads only the gains that it has written.
  Candidate<double> last{-INFINITY, -1};
  int count = 0;
  while (count < kCandidates) {
    Candidate<double> best{0, s.cols};
    for (int j = threadIdx.x; j < s.cols; j += kThreads) {
      const Candidate<double> candidate{-s.gains[j], j};
      if (candidate.value < 0 && last.before(candidate) && candidate.before(best)) best = candidate;
    }
    best = block_min(best, scratch.sums, scratch.indices);
    if (threadIdx.x == 0 && count < kReported) scratch.largest[count] = -best.value;
    if (!(best.value < 0)) break;
    if (threadIdx.x == 0) scratch.best[count] = best.index;
    last = best;
    count++;
    __syncthreads();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int k = count; k < kReported; k++) scratch.largest[k] = 0;
  }
  if (threadIdx.x < kWarp) {
    const int lane = threadIdx.x;
    const int wanted = lane < count ? scratch.best[lane] : -1;
    const int current = scratch.candidates[lane];
    bool is_candidate = false;
    bool stays = false;
    for (int other = 0; other < kWarp; other++) {
      const int their_current = __shfl_sync(kAllLanes, current, other);
      const int their_wanted = __shfl_sync(kAllLanes, wanted, other);
      is_candidate |= their_current == wanted;
      stays |= current >= 0 && their_wanted == current;
    }
    const unsigned before = (1u << lane) - 1;
    const unsigned fresh = __ballot_sync(kAllLanes, wanted >= 0 && !is_candidate);
    const unsigned free = __ballot_sync(kAllLanes, !stays);
    if (fresh >> lane & 1) scratch.fresh[__popc(fresh & before)] = wanted;
    __syncwarp();
    if (!stays) {
      const int rank = __popc(free & before);
      const bool used = rank < __popc(fresh);
      scratch.candidates[lane] = used ? scratch.fresh[rank] : -1;
      if (used) scratch.fresh_at[rank] = lane;
    }
    if (lane == 0) scratch.removals[0] = __popc(fresh);
  }
  __syncthreads();
  const int fresh = scratch.removals[0];
  product(
      scratch, fresh, s.size, s.size, [&](int p) { return s.inverse + index(p, s.capacity, 0); },
      [&](int f, int p) { return s.h[index(scratch.fresh[f], s.cols, s.columns[p])]; },
      [&](int f, int p, double sum) {
        s.moves[index(scratch.fresh_at[f], s.capacity, p)] = sum;
      });
  progress.flop += 2.0 * fresh * s.size * s.size;
  load_candidates(s, scratch);
}

// Everything anew from the support. False where H_SS is singular.
__device__ __noinline__ bool build(const Search& s, Progress& progress, Scratch& scratch,
                                   double energy) {
  __syncthreads();
  for (int j = threadIdx.x; j < s.cols; j += kThreads) s.positions[j] = -1;
  __syncthreads();
  for (int p = threadIdx.x; p < s.size; p += kThreads) s.positions[s.columns[p]] = p;
  if (!factor(s, scratch)) return false;
  reduce_schur(s, scratch);
  multiply_factors(s, scratch);
  // w = G b_S, and w += G x_S for what rounding errors have left of the residuals there.
  for (int round = 0; round < 2; round++) {
    product(
        scratch, s.rows, s.size, s.size,
        [&](int p) { return s.inverse + index(p, s.capacity, 0); },
        [&](int r, int p) {
          return (round == 0 ? s.targets : s.residuals)[index(r, s.cols, s.columns[p])];
        },
        [&](int r, int p, double sum) {
          const long long at = index(r, s.capacity, p);
          s.weights[at] = round == 0 ? sum : s.weights[at] + sum;
        });
    __syncthreads();
    product(
        scratch, s.rows, s.size, s.cols,
        [&](int p) { return s.h + index(s.columns[p], s.cols, 0); },
        [&](int r, int p) { return s.weights[index(r, s.capacity, p)]; },
        [&](int r, int j, double sum) {
          s.residuals[index(r, s.cols, j)] = s.targets[index(r, s.cols, j)] - sum;
        });
    __syncthreads();
  }
  // e = w H w^T - b_S^T w_S
  double explained = 0;
  for (int r = 0; r < s.rows; r++) {
    for (int p = threadIdx.x; p < s.size; p += kThreads) {
      explained += s.targets[index(r, s.cols, s.columns[p])] * s.weights[index(r, s.capacity, p)];
    }
  }
  progress.error = energy - block_sum(explained, scratch.sums);
  progress.built_error = progress.error;
  progress.flop += (double)s.size * s.size * (s.cols + s.size) + 2.0 * s.rows * s.size * s.cols;
  progress.steps_since_build = 0;
  start_slots(s, progress);
  clear_support(s);
  if (threadIdx.x < kCandidates) scratch.candidates[threadIdx.x] = -1;
  choose_candidates(s, progress, scratch);
  return true;
}

// build() of a support that was swapped together. Where H is nearly singular, gains may be nothing
// but rounding errors, and swaps go round in circles; the error from scratch tells.
__device__ __noinline__ bool rebuild(const Search& s, Progress& progress, Scratch& scratch,
                                     double energy) {
  const double before = progress.built_error;
  if (!build(s, progress, scratch, energy)) return false;
  progress.stalled = !(progress.error < before);
  return true;
}

// Lets all columns know of the pending steps, and chooses the candidates anew. False where H_SS
// has become singular.
__device__ __noinline__ bool flush(const Search& s, Progress& progress, Scratch& scratch,
                                   double energy) {
  if (progress.steps_since_build > kFreshSteps) return rebuild(s, progress, scratch, energy);
  if (progress.pending == 0) {
    choose_candidates(s, progress, scratch);
    return true;
  }
  for (int r = 0; r < s.rows; r++) {
    double* row = s.steps + index(progress.pending + r, s.slot_stride, 0);
    for (int slot = threadIdx.x; slot < progress.slots; slot += kThreads) row[slot] = 0;
  }
  __syncthreads();
  for (int r = 0; r < s.rows; r++) {
    double* row = s.steps + index(progress.pending + r, s.slot_stride, 0);
    for (int p = threadIdx.x; p < s.size; p += kThreads) {
      row[s.slot_of[p]] = s.weights[index(r, s.capacity, p)];
    }
  }
  __syncthreads();
  const int pending = progress.pending;
  product(
      scratch, pending + s.rows, progress.slots, s.cols,
      [&](int slot) { return s.h + index(s.slot_columns[slot], s.cols, 0); },
      [&](int v, int slot) { return s.steps[index(v, s.slot_stride, slot)]; },
      [&](int v, int j, double sum) {
        if (v < pending) {
          s.schur[j] += scratch.factors[v] * sum * sum;
        } else {
          // Not updated but computed from the weights, so that errors do not add up.
          const long long at = index(v - pending, s.cols, j);
          s.residuals[at] = s.targets[at] - sum;
        }
      });
  __syncthreads();
  progress.flop += 2.0 * (pending + s.rows) * progress.slots * s.cols;
  start_slots(s, progress);
  // Whether the weights do not solve the normal equations any more, for rounding errors.
  double largest = 0;
  double worst = 0;
  for (int r = 0; r < s.rows; r++) {
    for (int p = threadIdx.x; p < s.size; p += kThreads) {
      const double x = fabs(s.residuals[index(r, s.cols, s.columns[p])]);
      largest = fmax(largest, fabs(s.targets[index(r, s.cols, s.columns[p])]));
      worst = isnan(x) ? INFINITY : fmax(worst, x);
    }
  }
  largest = -block_min(Candidate<double>{-largest, 0}, scratch.sums, scratch.indices).value;
  __syncthreads();
  worst = -block_min(Candidate<double>{-worst, 0}, scratch.sums, scratch.indices).value;
  if (!(worst <= kDrift * largest)) return rebuild(s, progress, scratch, energy);
  clear_support(s);
  choose_candidates(s, progress, scratch);
  return true;
}

// What the removal of position i costs once a candidate has been added whose c is `move`, D is d
// and x is `residuals`.
__device__ __forceinline__ double removal_cost(const Search& s, int i, double move,
                                               double inverse_d, const double* residuals) {
  double squares = 0;
  for (int r = 0; r < s.rows; r++) {
    const double weight = s.weights[index(r, s.capacity, i)] - move * (residuals[r] * inverse_d);
    squares += weight * weight;
  }
  return squares / (s.diagonal[i] + move * move * inverse_d);
}

// The best swap among the candidates that lowers the error by more than `least`: the candidate, or
// -1 for none; a warp looks at a candidate. For N:M, a column makes way for one of its group.
__device__ __noinline__ int best_swap(const Search& s, Scratch& scratch,
                                      const int* group_columns, const int* group_of,
                                      int group_size, double least) {
  const int lane = threadIdx.x % kWarp;
  for (int t = threadIdx.x / kWarp; t < kCandidates; t += kThreads / kWarp) {
    const int column = scratch.candidates[t];
    const double d = scratch.schur[t];
    const double* residuals = s.candidate_residuals + (long long)t * s.rows;
    double gain = 0;
    if (column >= 0 && d > kDependent * s.h[index(column, s.cols, column)]) {
      for (int r = 0; r < s.rows; r++) gain += residuals[r] * residuals[r];
      gain /= d;
    }
    double improvement = 0;
    int removal = -1;
    if (gain > least) {  // the same in all lanes
      const double inverse_d = 1 / d;
      const double* move = s.moves + index(t, s.capacity, 0);
      Candidate<double> cheapest{INFINITY, 0x7fffffff};
      if (group_size == 0) {
        for (int i = lane; i < s.size; i += kWarp) {
          const Candidate<double> candidate{removal_cost(s, i, move[i], inverse_d, residuals), i};
          if (candidate.before(cheapest)) cheapest = candidate;
        }
      } else {
        const int* group = group_columns + (long long)group_of[column] * group_size;
        for (int k = lane; k < group_size; k += kWarp) {
          const int i = s.positions[group[k]];
          if (i < 0) continue;
          const Candidate<double> candidate{removal_cost(s, i, move[i], inverse_d, residuals), i};
          if (candidate.before(cheapest)) cheapest = candidate;
        }
      }
      cheapest = warp_min(cheapest);
      if (cheapest.value < INFINITY) {
        improvement = gain - cheapest.value;
        removal = cheapest.index;
      }
    }
    if (lane == 0) {
      scratch.improvements[t] = improvement;
      scratch.removals[t] = removal;
    }
  }
  __syncthreads();
  int best = -1;
  for (int t = 0; t < kCandidates; t++) {
    if (scratch.improvements[t] > least) {
      least = scratch.improvements[t];
      best = t;
    }
  }
  return best;
}

// Adds candidate t to the support in the place of position i, which becomes a candidate.
__device__ __noinline__ void swap(const Search& s, Progress& progress, Scratch& scratch, int t,
                                  int i) {
  const int n = s.size;
  const int ld = s.capacity;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int column = scratch.candidates[t];
  const int old = s.columns[i];
  const double d = scratch.schur[t];
  const double c_i = s.moves[index(t, ld, i)];
  const double g = s.diagonal[i] + c_i * c_i / d;
  const double* row = s.h + index(column, s.cols, 0);
  double* step = s.steps + index(progress.pending, s.slot_stride, 0);
  double* next_step = step + s.slot_stride;
  for (int slot = threadIdx.x; slot < s.slot_stride; slot += kThreads) {
    step[slot] = 0;
    next_step[slot] = 0;
  }
  for (int p = threadIdx.x; p < n; p += kThreads) {
    const double c = s.moves[index(t, ld, p)];
    s.added[p] = c;
    s.removed[p] = p == i ? g : s.inverse[index(i, ld, p)] + c * c_i / d;
    s.coupling[p] = row[s.columns[p]];
  }
  for (int r = threadIdx.x; r < s.rows; r += kThreads) {
    const double change = s.candidate_residuals[(long long)t * s.rows + r] / d;
    s.row_added[r] = change;
    s.row_removed[r] = (s.weights[index(r, ld, i)] - c_i * change) / g;
  }
  __syncthreads();
  // The other candidates see c_t and v.
  for (int other = warp; other < kCandidates; other += kThreads / kWarp) {
    const int their = scratch.candidates[other];
    if (other == t || their < 0) continue;
    const double* move = s.moves + index(other, ld, 0);
    double sum = 0;
    for (int p = lane; p < n; p += kWarp) sum += s.coupling[p] * move[p];
    sum = warp_sum(sum);
    if (lane == 0) {
      const double along = (row[their] - sum) / d;
      scratch.along[other] = along;
      scratch.back[other] = (move[i] - along * c_i) / g;
    }
  }
  for (int p = threadIdx.x; p < n; p += kThreads) {
    step[s.slot_of[p]] = -s.added[p];
    next_step[s.slot_of[p]] = s.removed[p];
  }
  __syncthreads();
  // From here on position i is the new column: c = -1 and v = -c_i / d there.
  if (threadIdx.x == 0) {
    step[progress.slots] = 1;
    next_step[progress.slots] = -c_i / d;
    scratch.factors[progress.pending] = -1 / d;
    scratch.factors[progress.pending + 1] = 1 / g;
    s.added[i] = -1;
    s.removed[i] = -c_i / d;
    s.columns[i] = column;
    s.positions[column] = i;
    s.positions[old] = -1;
    s.slot_columns[progress.slots] = column;
    s.slot_of[i] = progress.slots;
  }
  __syncthreads();
  for (int p = warp; p < n; p += kThreads / kWarp) {
    const double c = s.added[p] / d;
    const double v = s.removed[p] / g;
    double* line = s.inverse + index(p, ld, 0);
    for (int q = lane; q < n; q += kWarp) {
      const double before = p == i || q == i ? 0.0 : line[q];
      const double now = before + c * s.added[q] - v * s.removed[q];
      line[q] = now;
      if (p == q) s.diagonal[p] = now;
    }
  }
  for (int p = threadIdx.x; p < n; p += kThreads) {
    const double c = s.added[p];
    const double v = s.removed[p];
    for (int r = 0; r < s.rows; r++) {
      const long long at = index(r, ld, p);
      s.weights[at] = (p == i ? 0.0 : s.weights[at]) - c * s.row_added[r] - v * s.row_removed[r];
    }
    for (int other = 0; other < kCandidates; other++) {
      const long long at = index(other, ld, p);
      if (other == t) {
        s.moves[at] = -v / g;
      } else if (scratch.candidates[other] >= 0) {
        s.moves[at] =
            (p == i ? 0.0 : s.moves[at]) - scratch.along[other] * c - scratch.back[other] * v;
      }
    }
  }
  for (int e = threadIdx.x; e < kCandidates * s.rows; e += kThreads) {
    const int other = e / s.rows;
    const int r = e % s.rows;
    // At position i stood v: the removed weight was g times row_removed.
    if (other == t) {
      s.candidate_residuals[e] = s.row_removed[r];
    } else if (scratch.candidates[other] >= 0) {
      s.candidate_residuals[e] += scratch.back[other] * g * s.row_removed[r] -
                                  scratch.along[other] * d * s.row_added[r];
    }
  }
  __syncthreads();
  if (threadIdx.x < kCandidates) {
    const int other = threadIdx.x;
    if (other == t) {
      scratch.candidates[t] = old;
      scratch.schur[t] = 1 / g;
    } else if (scratch.candidates[other] >= 0) {
      const double along = scratch.along[other];
      const double back = scratch.back[other];
      scratch.schur[other] += back * back * g - along * along * d;
    }
  }
  progress.slots++;
  progress.pending += 2;
  progress.steps_since_build += 2;
  progress.flop += (6.0 * kCandidates + 4.0 * n) * n + kCandidates * (4.0 + 3 * s.rows) * n;
  __syncthreads();
}

// The smallest of what the loss of each column of the support would cost.
// results: [kReported] out, infinite where there are fewer
__device__ __noinline__ void report_costs(const Search& s, Scratch& scratch, double* results) {
  Candidate<double> last{-INFINITY, -1};
  for (int k = 0; k < kReported; k++) {
    Candidate<double> best{INFINITY, 0x7fffffff};
    for (int p = threadIdx.x; p < s.size; p += kThreads) {
      double squares = 0;
      for (int r = 0; r < s.rows; r++) {
        const double weight = s.weights[index(r, s.capacity, p)];
        squares += weight * weight;
      }
      const Candidate<double> candidate{squares / s.diagonal[p], p};
      if (last.before(candidate) && candidate.before(best)) best = candidate;
    }
    last = block_min(best, scratch.sums, scratch.indices);
    if (threadIdx.x == 0) results[k] = last.value;
    __syncthreads();
  }
}

}  // namespace

// The memory of a slot: sizes[0] doubles, sizes[1] ints.
//   grid 1, block 1
// rows: of the largest set; capacity: columns of the largest support
TACO4J_KERNEL taco4j_pivot_search_sizes(int cols, int rows, int capacity, int* sizes) {
  Search s{};
  s.cols = cols;
  s.rows = rows;
  s.capacity = capacity;
  s.slot_stride = capacity + kSwaps;
  Layout<double> doubles{nullptr, 0};
  Layout<int> ints{nullptr, 0};
  lay_out(s, doubles, ints);
  sizes[0] = (int)doubles.size;
  sizes[1] = (int)ints.size;
}

// Goes on with the sets in the slots: begins those that wait, and swaps.
//   grid slots, block 256
// hessian: H damped, [cols, cols]
// targets: B, [total_rows, cols]; set k has rows k * set_rows .. of it, the last set perhaps fewer
// energies: [sets]: tr(W H W^T) of the dense rows
// starts: [sets + 1]; supports: [starts[sets]], the columns kept by set k from starts[k], in, out
// group_columns: [cols], group after group; group_of: [cols]; group_size: m of N:M, or 0 for no
//   groups: the arrays are then not read
// slot_sets: [slots]: the set in each slot, or -1
// status: [sets]: 0 waiting, 1 running, 2 converged, 3 H_SS is singular
// results: [sets, 19] out: error, swaps, operations, the 8 largest gains of one more column (0 for
//   none), the 8 smallest costs of one less (infinite for none)
// doubles, ints: [slots, sizes of taco4j_pivot_search_sizes], kept from launch to launch
// tolerance: swaps that lower the error by a smaller part are not made
// most: swaps after which a set stops, to go on in the next launch; a multiple of 8 is meant
TACO4J_KERNEL __launch_bounds__(kThreads, 2) taco4j_pivot_search_f64(
    const double* hessian, int cols, const double* targets, int total_rows, int set_rows,
    const double* energies, const int* starts, int* supports, const int* group_columns,
    const int* group_of, int group_size, const int* slot_sets, int* status, double* results,
    int capacity, double* doubles, int doubles_per_slot, int* ints, int ints_per_slot,
    double tolerance, int most) {
  __shared__ Scratch scratch;
  __shared__ Search s;
  const int set = slot_sets[blockIdx.x];
  if (set < 0) return;
  if (threadIdx.x == 0) {
    s.h = hessian;
    s.cols = cols;
    s.rows = set_rows;
    s.capacity = capacity;
    s.slot_stride = capacity + kSwaps;
    Layout<double> double_memory{doubles + index(blockIdx.x, doubles_per_slot, 0), 0};
    Layout<int> int_memory{ints + index(blockIdx.x, ints_per_slot, 0), 0};
    lay_out(s, double_memory, int_memory);
    s.rows = min(set_rows, total_rows - set * set_rows);
    s.targets = targets + index((long long)set * set_rows, cols, 0);
    s.size = starts[set + 1] - starts[set];
  }
  __syncthreads();
  Progress progress{};
  int* support = supports + starts[set];
  double* result = results + (long long)set * kResults;
  const double energy = energies[set];

  bool regular = true;
  int swaps = 0;
  if (status[set] == kWaiting) {
    for (int p = threadIdx.x; p < s.size; p += kThreads) s.columns[p] = support[p];
    regular = build(s, progress, scratch, energy);
  } else {
    progress.error = result[0];
    progress.built_error = *s.saved_error;
    swaps = (int)result[1];
    progress.flop = result[2];
    progress.steps_since_build = s.saved[kCandidates];
    if (threadIdx.x < kCandidates) scratch.candidates[threadIdx.x] = s.saved[threadIdx.x];
    if (threadIdx.x < kReported) scratch.largest[threadIdx.x] = result[3 + threadIdx.x];
    start_slots(s, progress);
    load_candidates(s, scratch);
  }
  const int end = swaps + most;
  int now = kRunning;
  bool current = true;  // whether all columns know of all steps
  while (regular && now == kRunning) {
    int t = -1;
    if (s.size > 0 && progress.error > 0) {
      t = best_swap(s, scratch, group_columns, group_of, group_size, tolerance * progress.error);
    }
    if (t >= 0) {
      progress.error -= scratch.improvements[t];
      swap(s, progress, scratch, t, scratch.removals[t]);
      swaps++;
      current = false;
      if (progress.pending < kSteps) continue;
    } else if (current) {
      now = kConverged;
      break;
    }
    regular = flush(s, progress, scratch, energy);
    current = true;
    if (progress.stalled) now = kConverged;
    if (swaps >= end) break;
  }
  __syncthreads();
  if (regular) {
    report_costs(s, scratch, result + 3 + kReported);
    for (int p = threadIdx.x; p < s.size; p += kThreads) support[p] = s.columns[p];
    if (threadIdx.x < kReported) result[3 + threadIdx.x] = scratch.largest[threadIdx.x];
    if (threadIdx.x < kCandidates) s.saved[threadIdx.x] = scratch.candidates[threadIdx.x];
  }
  if (threadIdx.x == 0) {
    s.saved[kCandidates] = progress.steps_since_build;
    *s.saved_error = progress.built_error;
    status[set] = regular ? now : kSingular;
    result[0] = progress.error;
    result[1] = swaps;
    result[2] = progress.flop;
  }
}
