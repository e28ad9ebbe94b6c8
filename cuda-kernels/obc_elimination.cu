// Exact OBS over one inverse Hessian for many rows at once (Hassibi and Stork 1992; per row, Frantar
// and Alistarh 2022, "Optimal Brain Compression", algorithm 1): at each step the unit B of columns
// with the smallest Σ_r w_rB (A_BB)⁻¹ w_rBᵀ goes, A the current inverse, r the rows that share a
// mask, and weights and inverse follow.
//
// A is not updated at each step. With A_BB = L Lᵀ, V = A_:B L⁻ᵀ are the next vectors of U, and the
// current inverse is M − UᵀU. A step forms only the columns that it needs, M_:B − Uᵀ U_:B. When U is
// full, the columns that are gone are dropped and U is worked into the rest, M := (M − UᵀU)[kept,
// kept], as one symmetric product of which the upper triangle is computed and stored.
//
// One thread block works on one set of rows at a time, and fetches the next by a counter, so that
// nothing waits for the longest row. What bounds it:
// - the products, n³/3 operations a set, run from registers (4 x 4 elements a thread) on U in shared
//   memory where it fits, else in the caches; the old M is loaded while the product runs;
// - M is read and written once for each filling of U: 4/3 n³ / (rows of U) bytes a set, in float.
//   So the more rows of U the better, until forming a column costs as much: half of U's bytes a
//   step. Up to the first compaction all blocks read the same M, which stays in the L2 cache;
// - a step waits for three things one after another: the smallest score, a column of M from memory,
//   and barriers. Several blocks on a multiprocessor fill these gaps, each other's and the
//   products'.
// Where all steps fit into U nothing is ever compacted: few columns are one warp's work.
#include "common.cuh"

namespace {

using taco4j::Candidate;
using taco4j::ceil_div;
using taco4j::kAllLanes;
using taco4j::kWarp;

// Columns of a panel. M is stored in panels of its upper triangle, one after another: panel q holds
// columns q · 64 and on, row after row, down to the end of its diagonal block; so a panel is a column
// of square tiles of products.
constexpr int kTile = 64;
// Threads that a tile of a product takes, 4 x 4 elements each.
constexpr int kTileThreads = 256;
// Rows of U between compactions: at most, and in shared memory at least.
constexpr int kMostPending = 64;
constexpr int kLeastPending = 24;
constexpr int kNone = 0x7fffffff;

// Four neighbours in memory.
template <typename T>
struct Four {
  T x[4];
};

__device__ __forceinline__ Four<float> load4(const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  return {{v.x, v.y, v.z, v.w}};
}

__device__ __forceinline__ Four<double> load4(const double* from) {
  const double2 low = reinterpret_cast<const double2*>(from)[0];
  const double2 high = reinterpret_cast<const double2*>(from)[1];
  return {{low.x, low.y, high.x, high.y}};
}

__device__ __forceinline__ void store4(float* to, const Four<float>& v) {
  *reinterpret_cast<float4*>(to) = make_float4(v.x[0], v.x[1], v.x[2], v.x[3]);
}

__device__ __forceinline__ void store4(double* to, const Four<double>& v) {
  reinterpret_cast<double2*>(to)[0] = make_double2(v.x[0], v.x[1]);
  reinterpret_cast<double2*>(to)[1] = make_double2(v.x[2], v.x[3]);
}

template <typename T>
struct Limits;
template <>
struct Limits<float> {
  static constexpr float kMost = 3.402823466e+38f;
};
template <>
struct Limits<double> {
  static constexpr double kMost = 1.7976931348623157e+308;
};

template <typename T>
__device__ __forceinline__ T infinity() {
  return Limits<T>::kMost * 2;
}

template <typename T>
__device__ __forceinline__ T not_a_number() {
  return infinity<T>() - infinity<T>();
}

__host__ __device__ constexpr int round_up(int value, int to) {
  return (value + to - 1) / to * to;
}

__host__ __device__ constexpr int triangle(int i, int j) { return i * (i + 1) / 2 + j; }

// Where panel q begins. As int it serves up to 65,000 columns.
__host__ __device__ constexpr int panel_start(int q) { return kTile * kTile * (q * (q + 1) / 2); }

// Where element (0, j) stands, from which element (i, j) is i rows away, for i up to the end of j's
// panel.
__device__ __forceinline__ int column_start(int j) { return panel_start(j / kTile) + j % kTile; }

__device__ __forceinline__ int element(int i, int j) {
  const int low = i < j ? i : j;
  const int high = i < j ? j : i;
  return column_start(high) + low * kTile;
}

// What one launch works on; the parameters of the kernels below.
template <typename T>
struct Problem {
  const T* inverse;
  const T* least;
  const float* weights;
  int n;
  int rows;
  int set_rows;
  const int* sets;
  int count;
  int k;
  int group_size;
  int group_budget;
  int steps;
  T stop;
  int* next;
  T* scratch;
  long long scratch_stride;
  int vectors;
  int global_u;
  int shared_vectors;
  int shared_u;
  int* order;
  double* losses;
  int* taken;
};

// A block's state of one set of rows. Columns still there are renumbered at each compaction.
template <typename T>
struct State {
  const T* m;  // M, tiles; the given inverse until the first compaction
  T* own;      // M after that
  T* u;        // U, [capacity, ld]
  int ld;
  int capacity;
  int rank;    // rows of U that are there
  int active;  // columns of M

  T* u_shared;
  T* u_global;

  T* w;     // [set rows, stride]
  T* d;     // the diagonal of A, [stride]; or A_BB, [k (k + 1) / 2][units]. NaN: no choice any more
  T* factors;  // [set rows, k]: L⁻¹ w_B of the unit that goes
  T* l;        // [k (k + 1) / 2]: L of the unit that goes
  T* work;     // [k (k + 1) / 2 + k][units]: where blocks are too large for registers
  int* ids;    // [stride]: the columns that the active ones were to begin with
  int* keep;   // [stride]
  int* lost;   // [groups]
  int stride;  // n, rounded up to tiles
  int rows;    // of this set
};

// Cuts the block's memory; the host counts the same (CudaObsElimination).
template <typename T>
__device__ State<T> state_of(const Problem<T>& a, T* shared) {
  State<T> s;
  T* scratch = a.scratch + (long long)blockIdx.x * a.scratch_stride;
  T* vectors = a.shared_vectors ? shared : scratch;
  s.u_shared = shared + (a.shared_vectors ? a.vectors : 0);
  if (!a.shared_vectors) scratch += a.vectors;
  s.u_global = scratch;
  s.own = scratch + a.global_u;
  s.stride = round_up(a.n, kTile);
  const int units = s.stride / a.k;
  const int entries = triangle(a.k, 0);
  s.w = vectors;
  s.d = s.w + (long long)a.set_rows * s.stride;
  s.work = s.d + round_up(entries * units, 4);
  s.l = s.work + (a.k == 1 || a.k == 4 ? 0 : round_up((entries + a.k) * units, 4));
  s.factors = s.l + round_up(entries, 4);
  s.ids = reinterpret_cast<int*>(s.factors + round_up(a.set_rows * a.k, 4));
  s.keep = s.ids + s.stride;
  s.lost = s.keep + s.stride;
  return s;
}

// Where the next rows of U go, and how many of them there may be before a compaction.
template <typename T>
__device__ void begin_period(const Problem<T>& a, State<T>& s, int steps_left) {
  s.rank = 0;
  const int narrow = round_up(s.active, 4);
  const int rest = steps_left * a.k;
  s.u = s.u_shared;
  if (narrow > 0 && a.shared_u / narrow >= rest) {
    s.ld = narrow;  // never to be compacted again
    s.capacity = rest;
    return;
  }
  s.ld = round_up(s.active, kTile);
  const int most = a.k > kMostPending ? a.k : kMostPending;
  int in_shared = s.ld > 0 ? a.shared_u / s.ld : most;
  const int least = a.k > kLeastPending ? a.k : kLeastPending;
  if (a.global_u > 0 && in_shared < least) {
    s.u = s.u_global;
    in_shared = a.global_u / s.ld;
  }
  s.capacity = in_shared < most ? in_shared : most;
}

template <typename T>
__device__ void begin_set(const Problem<T>& a, State<T>& s, int set) {
  const int first = set * a.set_rows;
  s.rows = a.rows - first < a.set_rows ? a.rows - first : a.set_rows;
  s.m = a.inverse;
  s.active = a.n;
  for (int i = threadIdx.x; i < s.stride; i += blockDim.x) {
    s.ids[i] = i;
    for (int r = 0; r < s.rows; r++) {
      s.w[r * s.stride + i] = i < a.n ? T(a.weights[taco4j::index(first + r, a.n, i)]) : T(0);
    }
  }
  for (int g = threadIdx.x; g < a.n / a.group_size; g += blockDim.x) s.lost[g] = 0;
}

// row := row[keep], in place, by one warp; columns only move to the left. Up to end, which lies in
// the same tile as the last column kept, copies of that one follow.
template <typename V>
__device__ void gather(V* row, const int* keep, int kept, int end) {
  const int lane = threadIdx.x % kWarp;
  for (int base = 0; base < end; base += 4 * kWarp) {
    V x[4];
#pragma unroll
    for (int q = 0; q < 4; q++) {
      const int j = base + q * kWarp + lane;
      if (j < end) x[q] = row[keep[j < kept ? j : kept - 1]];
    }
    __syncwarp();
#pragma unroll
    for (int q = 0; q < 4; q++) {
      const int j = base + q * kWarp + lane;
      if (j < end) row[j] = x[q];
    }
    __syncwarp();
  }
}

// keep: the columns whose unit is still a choice, ascending; returns how many. counts: [32], shared.
template <typename T>
__device__ int find_kept(const State<T>& s, int k, int* counts) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  int kept = 0;
  for (int base = 0; base < s.active; base += blockDim.x) {
    const int i = base + threadIdx.x;
    const bool stays = i < s.active && !isnan(s.d[i / k]);
    const unsigned lanes = __ballot_sync(kAllLanes, stays);
    if (lane == 0) counts[warp] = __popc(lanes);
    __syncthreads();
    int before = kept;
    for (int other = 0; other < (int)blockDim.x / kWarp; other++) {
      before += other < warp ? counts[other] : 0;
      kept += counts[other];
    }
    if (stays) s.keep[before + __popc(lanes & ((1u << lane) - 1))] = i;
    __syncthreads();
  }
  return kept;
}

// M := (M − UᵀU)[kept, kept], in place once M is the block's own: tile (i, j) is written when all
// that it overwrites has been read, as kept columns only move to the left and up. Takes kTileThreads
// threads.
template <typename T>
__device__ void multiply_out(const State<T>& s, int kept) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  // A warp covers 16 rows and 32 columns, so that neither side of it meets a bank conflict.
  const int row = 4 * (warp / 2 * 4 + lane / 8);
  const int col = 4 * (warp % 2 * 8 + lane % 8);
  const int tiles = ceil_div(kept, kTile);
  for (int tj = 0; tj < tiles; tj++) {
    const int j0 = tj * kTile + col;
    int from_col[4];
#pragma unroll
    for (int c = 0; c < 4; c++) from_col[c] = s.keep[j0 + c < kept ? j0 + c : kept - 1];
    for (int ti = 0; ti <= tj; ti++) {
      const int i0 = ti * kTile + row;
      T old[4][4];
#pragma unroll
      for (int r = 0; r < 4; r++) {
        const int i = s.keep[i0 + r < kept ? i0 + r : kept - 1];
#pragma unroll
        for (int c = 0; c < 4; c++) {
          // Elements below the diagonal are there only if their panel has not changed.
          old[r][c] = ti < tj ? s.m[column_start(from_col[c]) + i * kTile]
                              : s.m[element(i, from_col[c])];
        }
      }
      T sum[4][4] = {};
      const T* left = s.u + i0;
      const T* right = s.u + j0;
#pragma unroll(sizeof(T) == 4 ? 4 : 2)
      for (int t = 0; t < s.rank; t++) {
        const Four<T> x = load4(left);
        const Four<T> y = load4(right);
        left += s.ld;
        right += s.ld;
#pragma unroll
        for (int r = 0; r < 4; r++) {
#pragma unroll
          for (int c = 0; c < 4; c++) sum[r][c] = fma(x.x[r], y.x[c], sum[r][c]);
        }
      }
      __syncthreads();
      T* to = s.own + panel_start(tj) + i0 * kTile + col;
#pragma unroll
      for (int r = 0; r < 4; r++) {
        Four<T> v;
#pragma unroll
        for (int c = 0; c < 4; c++) v.x[c] = old[r][c] - sum[r][c];
        store4(to + r * kTile, v);
      }
    }
  }
}

// Drops what is no choice any more, and empties U. counts: [32], shared.
template <typename T>
__device__ void compact(const Problem<T>& a, State<T>& s, int steps_left, int* counts) {
  __syncthreads();
  const int kept = find_kept(s, a.k, counts);
  if (kept > 0) {
    const int end = round_up(kept, kTile);
    const int warps = blockDim.x / kWarp;
    for (int task = threadIdx.x / kWarp; task < s.rank + s.rows + 1; task += warps) {
      if (task < s.rank) {
        gather(s.u + (long long)task * s.ld, s.keep, kept, end);
      } else if (task < s.rank + s.rows) {
        gather(s.w + (long long)(task - s.rank) * s.stride, s.keep, kept, end);
      } else {
        gather(s.ids, s.keep, kept, end);
      }
    }
    __syncthreads();
    multiply_out(s, kept);
  }
  __syncthreads();
  s.m = s.own;
  s.active = kept;
  begin_period(a, s, steps_left);
}

// The diagonal of M becomes that of A, when U is empty.
template <typename T>
__device__ void read_diagonal(const Problem<T>& a, const State<T>& s) {
  if (a.k == 1) {
    const int end = round_up(s.active, kTile);
    for (int i = threadIdx.x; i < end; i += blockDim.x) {
      s.d[i] = i < s.active && a.group_budget > 0 ? s.m[element(i, i)] : not_a_number<T>();
    }
    return;
  }
  const int units = s.stride / a.k;
  for (int b = threadIdx.x; b < s.active / a.k; b += blockDim.x) {
    for (int i = 0; i < a.k; i++) {
      for (int j = 0; j <= i; j++) {
        s.d[triangle(i, j) * units + b] = s.m[element(b * a.k + j, b * a.k + i)];
      }
    }
  }
}

// M_p,i … M_p,i+3; i is a multiple of 4.
template <typename T>
__device__ __forceinline__ Four<T> four_of_row(const T* m, int p, int i) {
  if (i / kTile >= p / kTile) return load4(m + column_start(i) + p * kTile);
  const T* at = m + column_start(p) + i * kTile;
  return {{at[0], at[kTile], at[2 * kTile], at[3 * kTile]}};
}

// Of a thread's columns the one that loses least. Scores of NaN are less than nothing.
template <typename T>
__device__ __forceinline__ void consider(Candidate<T>& best, T score, int index) {
  if (score < best.value) {
    best.value = score;
    best.index = index;
  }
}

// ---- Single columns ----

template <typename T>
__device__ Candidate<T> best_column(const State<T>& s) {
  Candidate<T> best{infinity<T>(), kNone};
  for (int i = 4 * threadIdx.x; i < s.active; i += 4 * blockDim.x) {
    const Four<T> d = load4(s.d + i);
    T squares[4] = {};
    for (int r = 0; r < s.rows; r++) {
      const Four<T> w = load4(s.w + r * s.stride + i);
#pragma unroll
      for (int x = 0; x < 4; x++) squares[x] = fma(w.x[x], w.x[x], squares[x]);
    }
#pragma unroll
    for (int x = 0; x < 4; x++) consider(best, squares[x] / d.x[x], i + x);
  }
  return best;
}

// Column p goes: v = A_:p / √d_p becomes a row of U, w -= factor · v, d -= v². Returns the thread's
// next candidate. group: whose columns are no choice any more, or -1.
template <typename T>
__device__ Candidate<T> remove_column(const Problem<T>& a, State<T>& s, int p, T scale, int group) {
  Candidate<T> best{infinity<T>(), kNone};
  T* v_row = s.u + (long long)s.rank * s.ld;
  for (int i = 4 * threadIdx.x; i < s.active; i += 4 * blockDim.x) {
    const Four<T> column = four_of_row(s.m, p, i);
    T sum[4] = {};
    const T* u = s.u;
#pragma unroll(sizeof(T) == 4 ? 4 : 2)
    for (int t = 0; t < s.rank; t++) {
      const T factor = u[p];
      const Four<T> x = load4(u + i);
      u += s.ld;
#pragma unroll
      for (int c = 0; c < 4; c++) sum[c] = fma(factor, x.x[c], sum[c]);
    }
    Four<T> v;
    Four<T> d = load4(s.d + i);
#pragma unroll
    for (int c = 0; c < 4; c++) {
      v.x[c] = (column.x[c] - sum[c]) * scale;
      d.x[c] = fma(-v.x[c], v.x[c], d.x[c]);
      if (i + c == p || (group >= 0 && s.ids[i + c] / a.group_size == group)) {
        d.x[c] = not_a_number<T>();
      }
    }
    store4(v_row + i, v);
    store4(s.d + i, d);
    T squares[4] = {};
    for (int r = 0; r < s.rows; r++) {
      const T factor = s.factors[r];
      Four<T> w = load4(s.w + r * s.stride + i);
#pragma unroll
      for (int c = 0; c < 4; c++) {
        w.x[c] = fma(-factor, v.x[c], w.x[c]);
        squares[c] = fma(w.x[c], w.x[c], squares[c]);
      }
      store4(s.w + r * s.stride + i, w);
    }
#pragma unroll
    for (int c = 0; c < 4; c++) consider(best, squares[c] / d.x[c], i + c);
  }
  s.rank++;
  return best;
}

// One set of rows; returns the steps taken, or -1 - steps. values, indices: [32], shared.
template <typename T>
__device__ int eliminate_columns(const Problem<T>& a, State<T>& s, int* order, double* losses,
                                 T* values, int* indices) {
  begin_period(a, s, a.steps);
  read_diagonal(a, s);
  __syncthreads();
  Candidate<T> candidate = best_column(s);
  for (int step = 0; step < a.steps; step++) {
    const Candidate<T> best = taco4j::block_min(candidate, values, indices);
    const int p = best.index;
    if (p == kNone) return -1 - step;
    const T pivot = s.d[p];
    const int id = s.ids[p];
    // Written so that NaN fails too.
    if (!(pivot >= a.least[id] && pivot <= Limits<T>::kMost)) return -1 - step;
    const T loss = T(0.5) * best.value;
    if (loss > a.stop) return step;
    if (threadIdx.x == 0) {
      order[step] = id;
      losses[step] = loss;
      if (a.group_size > 1) s.lost[id / a.group_size]++;
    }
    if (step + 1 == a.steps) break;
    const T scale = T(1) / sqrt(pivot);
    for (int r = threadIdx.x; r < s.rows; r += blockDim.x) {
      s.factors[r] = s.w[r * s.stride + p] * scale;
    }
    __syncthreads();
    const int group = id / a.group_size;
    const bool full = a.group_size > 1 && s.lost[group] == a.group_budget;
    candidate = remove_column(a, s, p, scale, full ? group : -1);
    if (s.rank == s.capacity && step + 2 < a.steps) {
      compact(a, s, a.steps - step - 1, indices);
      read_diagonal(a, s);
      __syncthreads();
      candidate = best_column(s);
    }
  }
  return a.steps;
}

// ---- Blocks of k neighbouring columns ----

// Σ_r ‖L⁻¹ w_rB‖² of unit b, A_BB = L Lᵀ. K: k where it is known when compiling, else 0.
template <int K, typename T>
__device__ T score_of_block(const Problem<T>& a, const State<T>& s, int b) {
  const int k = K > 0 ? K : a.k;
  const int units = s.stride / k;
  T registers[K > 0 ? triangle(K, 0) + K : 1];
  T* l = K > 0 ? registers : s.work + b;
  const int step = K > 0 ? 1 : units;
  T* z = l + triangle(k, 0) * step;
#pragma unroll
  for (int i = 0; i < k; i++) {
#pragma unroll
    for (int j = 0; j <= i; j++) {
      T sum = s.d[triangle(i, j) * units + b];
#pragma unroll
      for (int c = 0; c < j; c++) {
        sum = fma(-l[triangle(i, c) * step], l[triangle(j, c) * step], sum);
      }
      // The diagonal of L is kept inverted.
      l[triangle(i, j) * step] = i == j ? T(1) / sqrt(sum) : sum * l[triangle(j, j) * step];
    }
  }
  T score = 0;
  for (int r = 0; r < s.rows; r++) {
    const T* w = s.w + r * s.stride + b * k;
#pragma unroll
    for (int i = 0; i < k; i++) {
      T sum = w[i];
#pragma unroll
      for (int c = 0; c < i; c++) sum = fma(-l[triangle(i, c) * step], z[c * step], sum);
      sum *= l[triangle(i, i) * step];
      z[i * step] = sum;
      score = fma(sum, sum, score);
    }
  }
  return score;
}

template <int K, typename T>
__device__ Candidate<T> best_block(const Problem<T>& a, const State<T>& s) {
  const int k = K > 0 ? K : a.k;
  Candidate<T> best{infinity<T>(), kNone};
  for (int b = threadIdx.x; b < s.active / k; b += blockDim.x) {
    consider(best, score_of_block<K>(a, s, b), b);
  }
  return best;
}

// L of unit p, its diagonal inverted, and L⁻¹ w_B of its rows; false where a pivot shows that A is
// spoilt. One thread's work.
template <typename T>
__device__ bool factor_block(const Problem<T>& a, const State<T>& s, int p) {
  const int k = a.k;
  const int units = s.stride / k;
  const int first = s.ids[p * k];
  for (int i = 0; i < k; i++) {
    for (int j = 0; j <= i; j++) {
      T sum = s.d[triangle(i, j) * units + p];
      for (int c = 0; c < j; c++) sum = fma(-s.l[triangle(i, c)], s.l[triangle(j, c)], sum);
      if (i > j) {
        s.l[triangle(i, j)] = sum * s.l[triangle(j, j)];
      } else if (sum >= a.least[first + i] && sum <= Limits<T>::kMost) {
        s.l[triangle(i, i)] = T(1) / sqrt(sum);
      } else {
        return false;
      }
    }
  }
  for (int r = 0; r < s.rows; r++) {
    T* z = s.factors + r * k;
    for (int i = 0; i < k; i++) {
      T sum = s.w[r * s.stride + p * k + i];
      for (int c = 0; c < i; c++) sum = fma(-s.l[triangle(i, c)], z[c], sum);
      z[i] = sum * s.l[triangle(i, i)];
    }
  }
  return true;
}

// M_BC of units p and b: v[c][i] = M_pk+c,bk+i, v of the given distance of rows.
template <int K, typename T>
__device__ __forceinline__ void load_block(const T* m, int k, int p, int b, T* v, int step) {
  if constexpr (K == 4) {
    // Panels end where blocks end.
    const bool right = b * K / kTile >= p * K / kTile;
    const T* from = right ? m + column_start(b * K) + p * K * kTile
                          : m + column_start(p * K) + b * K * kTile;
    Four<T> x[K];
#pragma unroll
    for (int c = 0; c < K; c++) x[c] = load4(from + c * kTile);
#pragma unroll
    for (int c = 0; c < K; c++) {
#pragma unroll
      for (int i = 0; i < K; i++) v[c * K + i] = right ? x[c].x[i] : x[i].x[c];
    }
  } else {
    for (int c = 0; c < k; c++) {
      for (int i = 0; i < k; i++) v[c * step + i] = m[element(p * k + c, b * k + i)];
    }
  }
}

// v[c][i] -= u_pk+c u_bk+i, u a row of U.
template <int K, typename T>
__device__ __forceinline__ void subtract_row(const T* u, int k, int p, int b, T* v, int step) {
  if constexpr (K == 4) {
    const Four<T> left = load4(u + p * K);
    const Four<T> right = load4(u + b * K);
#pragma unroll
    for (int c = 0; c < K; c++) {
#pragma unroll
      for (int i = 0; i < K; i++) v[c * K + i] = fma(-left.x[c], right.x[i], v[c * K + i]);
    }
  } else {
    for (int c = 0; c < k; c++) {
      const T factor = -u[p * k + c];
      for (int i = 0; i < k; i++) v[c * step + i] = fma(factor, u[b * k + i], v[c * step + i]);
    }
  }
}

// Unit p goes: V = A_:B L⁻ᵀ becomes k rows of U, w -= (L⁻¹ w_B)ᵀ Vᵀ, A_CC -= V_C V_Cᵀ of each other
// unit C. Returns the thread's next candidate.
template <int K, typename T>
__device__ Candidate<T> remove_block(const Problem<T>& a, State<T>& s, int p) {
  const int k = K > 0 ? K : a.k;
  const int units = s.stride / k;
  Candidate<T> best{infinity<T>(), kNone};
  T registers[K > 0 ? K * K : 1];
  for (int b = threadIdx.x; b < s.active / k; b += blockDim.x) {
    T* to = s.u + (long long)s.rank * s.ld + b * k;
    // V_Cᵀ, [k, k].
    T* v = K > 0 ? registers : to;
    const int step = K > 0 ? K : s.ld;
    load_block<K>(s.m, k, p, b, v, step);
    const T* u = s.u;
    for (int t = 0; t < s.rank; t++) {
      subtract_row<K>(u, k, p, b, v, step);
      u += s.ld;
    }
#pragma unroll
    for (int c = 0; c < k; c++) {
#pragma unroll
      for (int i = 0; i < k; i++) {
        T sum = v[c * step + i];
#pragma unroll
        for (int e = 0; e < c; e++) sum = fma(-s.l[triangle(c, e)], v[e * step + i], sum);
        v[c * step + i] = sum * s.l[triangle(c, c)];
      }
      if constexpr (K == 4) {
        store4(to + c * s.ld, Four<T>{{v[c * K], v[c * K + 1], v[c * K + 2], v[c * K + 3]}});
      }
    }
    for (int r = 0; r < s.rows; r++) {
      T* w = s.w + r * s.stride + b * k;
#pragma unroll
      for (int i = 0; i < k; i++) {
        T sum = w[i];
#pragma unroll
        for (int c = 0; c < k; c++) sum = fma(-s.factors[r * k + c], v[c * step + i], sum);
        w[i] = sum;
      }
    }
#pragma unroll
    for (int i = 0; i < k; i++) {
#pragma unroll
      for (int j = 0; j <= i; j++) {
        T sum = s.d[triangle(i, j) * units + b];
#pragma unroll
        for (int c = 0; c < k; c++) sum = fma(-v[c * step + i], v[c * step + j], sum);
        s.d[triangle(i, j) * units + b] = sum;
      }
    }
    if (b == p) s.d[b] = not_a_number<T>();
    consider(best, score_of_block<K>(a, s, b), b);
  }
  s.rank += k;
  return best;
}

// As eliminate_columns.
template <int K, typename T>
__device__ int eliminate_blocks(const Problem<T>& a, State<T>& s, int* order, double* losses,
                                T* values, int* indices) {
  begin_period(a, s, a.steps);
  read_diagonal(a, s);
  __syncthreads();
  Candidate<T> candidate = best_block<K>(a, s);
  for (int step = 0; step < a.steps; step++) {
    const Candidate<T> best = taco4j::block_min(candidate, values, indices);
    if (best.index == kNone) return -1 - step;
    const T loss = T(0.5) * best.value;
    int bad = 0;
    if (threadIdx.x == 0) {
      bad = !factor_block(a, s, best.index);
      if (!bad && !(loss > a.stop)) {
        order[step] = s.ids[best.index * a.k] / a.k;
        losses[step] = loss;
      }
    }
    if (__syncthreads_or(bad)) return -1 - step;
    if (loss > a.stop) return step;
    if (step + 1 == a.steps) break;
    candidate = remove_block<K>(a, s, best.index);
    if (s.rank + a.k > s.capacity && step + 2 < a.steps) {
      compact(a, s, a.steps - step - 1, indices);
      read_diagonal(a, s);  // of the thread's own units
      candidate = best_block<K>(a, s);
    }
  }
  return a.steps;
}

template <bool Blocks, typename T>
__device__ void eliminate(const Problem<T>& a) {
  TACO4J_DYNAMIC_SHARED(T, shared);
  __shared__ T values[kWarp];
  __shared__ int indices[kWarp];
  __shared__ int claimed;
  State<T> s = state_of(a, shared);
  for (;;) {
    // All have read it: an elimination has barriers.
    if (threadIdx.x == 0) claimed = atomicAdd(a.next, 1);
    __syncthreads();
    const int task = claimed;
    if (task >= a.count) return;
    const int set = a.sets[task];
    begin_set(a, s, set);
    int* order = a.order + taco4j::index(set, a.steps, 0);
    double* losses = a.losses + taco4j::index(set, a.steps, 0);
    int taken;
    if (!Blocks) {
      taken = eliminate_columns(a, s, order, losses, values, indices);
    } else if (a.k == 4) {
      taken = eliminate_blocks<4>(a, s, order, losses, values, indices);
    } else {
      taken = eliminate_blocks<0>(a, s, order, losses, values, indices);
    }
    if (threadIdx.x == 0) a.taken[set] = taken;
  }
}

template <typename From, typename T>
__device__ void pack(const From* matrix, int n, int ld, T* panels) {
  const int q = blockIdx.x;
  T* to = panels + panel_start(q);
  for (int e = threadIdx.x; e < (q + 1) * kTile * kTile; e += blockDim.x) {
    const int i = e / kTile;
    const int j = q * kTile + e % kTile;
    to[e] = i < n && j < n ? T(matrix[taco4j::index(i, ld, j)]) : T(0);
  }
}

}  // namespace

// The panels of a symmetric matrix that the eliminations begin with.
//
// matrix: [n, n] stride ld, both triangles; n at most 65,000
// panels: [64 · 64 · t (t + 1) / 2] with t = ceil(n / 64): panel q is [64 (q + 1), 64], rows 0 and on
//   of columns 64 q and on; beyond n zeros
// grid: t; block: 256
TACO4J_KERNEL taco4j_obc_pack_f32(const float* matrix, int n, int ld, float* panels) {
  pack(matrix, n, ld, panels);
}
TACO4J_KERNEL taco4j_obc_pack_f64(const double* matrix, int n, int ld, double* panels) {
  pack(matrix, n, ld, panels);
}
TACO4J_KERNEL taco4j_obc_pack_f64_f32(const double* matrix, int n, int ld, float* panels) {
  pack(matrix, n, ld, panels);
}

// Eliminates units of columns from sets of rows. Columns (k = 1) and blocks (k > 1) are kernels of
// their own, so that neither takes the other's registers.
//
// inverse: panels of H⁻¹ as packed above, not written
// least: [n]: a column's pivot must at least be that; half of 1 / H_pp, as no column explains more
//   of p than all of it, and rounding may take a little
// weights: [rows, n]
// set_rows: set s is rows s · set_rows and on, as many, the last set perhaps fewer
// sets: [count]: which sets to eliminate; of the others nothing is written
// k: columns of a block, divides n; 1 in the kernels of columns
// group_size, group_budget: so many of each so many neighbouring columns may go; 1, 1 where any may;
//   only in the kernels of columns
// steps: most steps for each set, at least 1 and no more than units can go
// stop: a set ends before the first step that loses more
// next: [1], 0 at the launch
// scratch: [gridDim.x, scratch_stride], not initialised: the vectors where those are not shared, the
//   rows of U in global memory, and the panels of M where anything is compacted
// scratch_stride: a multiple of 4
// vectors: elements of a set's vectors, a multiple of 4. With c = 64 · t, b = c / k in whole numbers,
//   e = k (k + 1) / 2, and all terms rounded up to 4 elements: set_rows · c + e b + (k is 1 or 4 ? 0
//   : (e + k) b) + e + set_rows · k, and 2 c + n / group_size ints
// global_u: elements of U in scratch, a multiple of 4; 0 where shared memory holds U at any time,
//   else c · max(64, k)
// shared_vectors: 1 where the vectors are in shared memory, else 0
// shared_u: elements of U in shared memory, a multiple of 4; where global_u is 0 at least c · k, or
//   enough for all steps: steps · k rows of n rounded up to 4
// order: [all sets, steps] out: the units of each set's steps
// losses: [all sets, steps] out: what each step adds to the half squared error
// taken: [all sets] out: the number of steps; or -1 - steps, where the next pivot shows that rounding
//   has destroyed the inverse
// grid: as many blocks as are resident, at most count; block: 256, or where all steps fit into
//   shared_u any multiple of 32 up to 256; dynamic shared memory: (shared_vectors ? vectors : 0) +
//   shared_u elements
#define TACO4J_OBC_PARAMETERS(T)                                                                 \
  const T *inverse, const T *least, const float *weights, int n, int rows, int set_rows,          \
      const int *sets, int count, int k, int group_size, int group_budget, int steps, T stop,     \
      int *next, T *scratch, long long scratch_stride, int vectors, int global_u,                 \
      int shared_vectors, int shared_u, int *order, double *losses, int *taken
#define TACO4J_OBC_PROBLEM(T)                                                                     \
  Problem<T> {                                                                                    \
    inverse, least, weights, n, rows, set_rows, sets, count, k, group_size, group_budget, steps,  \
        stop, next, scratch, scratch_stride, vectors, global_u, shared_vectors, shared_u, order,  \
        losses, taken                                                                             \
  }

TACO4J_KERNEL __launch_bounds__(kTileThreads, 2)
    taco4j_obc_columns_f32(TACO4J_OBC_PARAMETERS(float)) {
  eliminate<false>(TACO4J_OBC_PROBLEM(float));
}
TACO4J_KERNEL __launch_bounds__(kTileThreads, 2)
    taco4j_obc_columns_f64(TACO4J_OBC_PARAMETERS(double)) {
  eliminate<false>(TACO4J_OBC_PROBLEM(double));
}
TACO4J_KERNEL __launch_bounds__(kTileThreads, 2)
    taco4j_obc_blocks_f32(TACO4J_OBC_PARAMETERS(float)) {
  eliminate<true>(TACO4J_OBC_PROBLEM(float));
}
TACO4J_KERNEL __launch_bounds__(kTileThreads, 2)
    taco4j_obc_blocks_f64(TACO4J_OBC_PARAMETERS(double)) {
  eliminate<true>(TACO4J_OBC_PROBLEM(double));
}
