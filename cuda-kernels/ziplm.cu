// ZipLM's elimination of groups of columns (Kurtic et al. 2023, "ZipLM: Inference-Aware Structured
// Pruning of Language Models", section 3.1), all steps without a word from the host.
//
// With A the damped Hessian, Q = (A_RR)^-1 over the columns R that remain, W the weights as updated
// so far and S = W^T W, removing a group G of g columns costs tr((Q_GG)^-1 S_GG). With
// Q_GG = L L^T, U = Q_:G L^-T, C = L^-1 S_GG L^-T and T = S_:G L^-T - U C / 2, a removal is
//
//   Q -= U U^T    S -= U T^T + T U^T
//
// U and T are gathered ("pending") as rows; Q and S are rewritten only when the host says so, after
// some steps, by matrix products over what is left. Between, a step reads 2 pending * active
// doubles, so the limit of a step is the bandwidth of the second-level cache, or of launching it:
// which group goes is written to device memory, where the kernels of the step read it, and the host
// queues all steps at once. Products are the limit of the whole, in float64: 2 cols^3, which is
// little on data-center GPUs and slow on those that have a thirty-second of the rate (a T4).
//
// A step is: choose (one block), append, and, where g > 1, costs. Every so many steps: positions,
// gather of Q, S, U and T, three products (Q -= U^T U, S -= U^T T, S -= T^T U), blocks.
//
// Words: a position is a place among the active columns; groups lie at positions
// [b * g, (b + 1) * g), b < groups = active / g. All matrices are row-major with the row stride ld.
#include "common.cuh"
#include "inverse_factor.cuh"

namespace {

using namespace taco4j;

constexpr int kColumns = 32;  // of a block of append
constexpr int kSlices = 8;    // of the pending rows, summed side by side there

// Distance of rows of a group's scratch matrix: odd, so that columns lie in different banks.
__host__ __device__ constexpr int scratch_stride(int group) { return group | 1; }

__device__ __forceinline__ double not_a_number() {
  return __longlong_as_double(0x7ff8000000000000LL);
}

// The rows of U and T that removing the chosen group brings, for kColumns columns of a block.
// kRows of the group's rows are formed at a time.
template <int kRows>
__device__ void append(const double* q, const double* s, int ld, int active, int group, int at,
                       const double* l_inverse, const double* half, double* raw_q, double* raw_s,
                       double* u, double* t, int pending) {
  __shared__ double partial[2][kSlices][kRows][kColumns];
  const int lane = threadIdx.x;
  const int slice = threadIdx.y;
  const int col = blockIdx.x * kColumns + lane;
  const bool inside = col < active;
  // Q_G: and S_G: as they are now, raw_q and raw_s: [g, active].
  for (int first = 0; first < group; first += kRows) {
    double sum_q[kRows] = {};
    double sum_s[kRows] = {};
    if (inside) {
#pragma unroll 4
      for (int j = slice; j < pending; j += kSlices) {
        const double u_col = u[index(j, ld, col)];
        const double t_col = t[index(j, ld, col)];
#pragma unroll
        for (int i = 0; i < kRows; i++) {
          const int row = at + min(first + i, group - 1);
          const double u_row = u[index(j, ld, row)];
          sum_q[i] += u_row * u_col;
          sum_s[i] += u_row * t_col + t[index(j, ld, row)] * u_col;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; i++) {
      partial[0][slice][i][lane] = sum_q[i];
      partial[1][slice][i][lane] = sum_s[i];
    }
    __syncthreads();
    for (int i = slice; i < kRows; i += kSlices) {
      if (inside && first + i < group) {
        double now_q = q[index(at + first + i, ld, col)];
        double now_s = s[index(at + first + i, ld, col)];
        for (int k = 0; k < kSlices; k++) {
          now_q -= partial[0][k][i][lane];
          now_s -= partial[1][k][i][lane];
        }
        raw_q[index(first + i, ld, col)] = now_q;
        raw_s[index(first + i, ld, col)] = now_s;
      }
    }
    __syncthreads();
  }
  // U = L^-1 Q_G: and L^-1 S_G:, row by row.
  for (int i = slice; i < group; i += kSlices) {
    double sum_q = 0;
    double sum_s = 0;
    for (int k = 0; inside && k <= i; k++) {
      const double factor = l_inverse[index(i, group, k)];
      sum_q += factor * raw_q[index(k, ld, col)];
      sum_s += factor * raw_s[index(k, ld, col)];
    }
    if (inside) {
      u[index(pending + i, ld, col)] = sum_q;
      t[index(pending + i, ld, col)] = sum_s;
    }
  }
  __syncthreads();
  for (int i = slice; i < group; i += kSlices) {
    double sum = 0;
    for (int k = 0; inside && k < group; k++) {
      sum += half[index(i, group, k)] * u[index(pending + k, ld, col)];
    }
    if (inside) t[index(pending + i, ld, col)] -= sum;
  }
}

}  // namespace

// The group that costs least, of equals the first; and, of its diagonal blocks, L^-1 and C / 2.
// Marks it as gone. A NaN must not pass for expensive: it is chosen, and the step has failed.
//   grid 1, block 32 .. 1024, a multiple of 32; dynamic shared: g * (g | 1) doubles where in_shared
// cost: [groups]; gone: [groups]; q_blocks, s_blocks: [active, g]
// scratch: [g, g | 1], not used where in_shared
// l_inverse, half: [g, g] out; product: [g, g] scratch
// group_at: [groups], the group at each block; order: [steps], order[step] out
// state: [2]: the block that was chosen, out; 1 is written where the step has failed: what follows
// is then meaningless, but touches no other memory
TACO4J_KERNEL __launch_bounds__(1024)
    taco4j_ziplm_choose_f64(const double* cost, int* gone, int groups, int group,
                            const double* q_blocks, const double* s_blocks, double* scratch,
                            int in_shared, double* l_inverse, double* half, double* product,
                            const int* group_at, int* order, int step, int* state) {
  __shared__ double values[kWarp];
  __shared__ int indices[kWarp];
  TACO4J_DYNAMIC_SHARED(double, shared);
  double* w = in_shared ? shared : scratch;
  const int ld = scratch_stride(group);

  Candidate<double> best{INFINITY, 0x7fffffff};
  for (int b = threadIdx.x; b < groups; b += blockDim.x) {
    if (gone[b]) continue;
    const Candidate<double> candidate{isnan(cost[b]) ? -INFINITY : cost[b], b};
    if (candidate.before(best)) best = candidate;
  }
  best = block_min(best, values, indices);
  const int chosen = best.index;
  const double* q_block = q_blocks + index(chosen * group, group, 0);
  const double* s_block = s_blocks + index(chosen * group, group, 0);
  for (int i = threadIdx.x; i < group * group; i += blockDim.x) {
    w[index(i / group, ld, i % group)] = q_block[i];
  }
  __syncthreads();
  const bool definite = inverse_factor(w, ld, group);
  if (threadIdx.x == 0) {
    gone[chosen] = 1;
    order[step] = group_at[chosen];
    state[0] = chosen;
    if (!isfinite(best.value) || !definite) state[1] = 1;
  }
  for (int e = threadIdx.x; e < group * group; e += blockDim.x) {
    const int i = e / group;
    l_inverse[e] = e % group <= i ? w[index(i, ld, e % group)] : 0;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < group * group; e += blockDim.x) {
    const int i = e / group;
    double sum = 0;
    for (int k = 0; k <= i; k++) {
      sum += l_inverse[index(i, group, k)] * s_block[index(k, group, e % group)];
    }
    product[e] = sum;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < group * group; e += blockDim.x) {
    const int j = e % group;
    double sum = 0;
    for (int k = 0; k <= j; k++) {
      sum += product[index(e / group, group, k)] * l_inverse[index(j, group, k)];
    }
    half[e] = sum / 2;
  }
}

// The rows pending .. pending + g - 1 of U and T; where g is 1, the diagonals and costs too.
//   grid ceil(active / 32), block (32, 8)
// q, s: [active, active] stride ld, as of the last compaction
// u, t: [pending + g, active] stride ld
// l_inverse, half: [g, g], raw_q, raw_s: [g, active] stride ld scratch; state: of choose
// gone, q_blocks, s_blocks, cost: as in costs; read and written where g is 1
TACO4J_KERNEL taco4j_ziplm_append_f64(const double* q, const double* s, int ld, int active,
                                      int group, const int* state, const double* l_inverse,
                                      const double* half, double* raw_q, double* raw_s, double* u,
                                      double* t, int pending, const int* gone, double* q_blocks,
                                      double* s_blocks, double* cost) {
  const int at = state[0] * group;
  if (group > 1) {
    append<4>(q, s, ld, active, group, at, l_inverse, half, raw_q, raw_s, u, t, pending);
    return;
  }
  append<1>(q, s, ld, active, group, at, l_inverse, half, raw_q, raw_s, u, t, pending);
  const int col = blockIdx.x * kColumns + threadIdx.x;
  // Slice 0 has written this column of the only new row itself.
  if (threadIdx.y == 0 && col < active && !gone[col]) {
    const double u_col = u[index(pending, ld, col)];
    const double q_now = q_blocks[col] - u_col * u_col;
    const double s_now = s_blocks[col] - 2 * u_col * t[index(pending, ld, col)];
    q_blocks[col] = q_now;
    s_blocks[col] = s_now;
    cost[col] = q_now > 0 ? s_now / q_now : not_a_number();
  }
}

// Takes rows first .. first + count - 1 of U and T off the diagonal blocks, and judges the groups
// anew: cost = tr((Q_GG)^-1 S_GG), NaN where Q_GG is not positive definite.
//   grid groups, block 32 .. 1024, a multiple of 32; dynamic shared: g * (g | 1) doubles where
//   in_shared
// u, t: [first + count, active] stride ld; gone: [groups]; q_blocks, s_blocks: [active, g]
// cost: [groups]; scratch: [groups, g, g | 1], not used where in_shared
TACO4J_KERNEL __launch_bounds__(1024)
    taco4j_ziplm_costs_f64(const double* u, const double* t, int ld, int first, int count, int group,
                           const int* gone, double* q_blocks, double* s_blocks, double* cost,
                           double* scratch, int in_shared) {
  __shared__ double sums[kWarp];
  TACO4J_DYNAMIC_SHARED(double, shared);
  const int block = blockIdx.x;
  if (gone[block]) return;
  const int stride = scratch_stride(group);
  double* w = in_shared ? shared : scratch + index(block, group * stride, 0);
  const int at = block * group;
  double* q_block = q_blocks + index(at, group, 0);
  double* s_block = s_blocks + index(at, group, 0);
  for (int e = threadIdx.x; e < group * group; e += blockDim.x) {
    const int i = e / group;
    const int j = e % group;
    double q_sum = 0;
    double s_sum = 0;
    for (int k = first; k < first + count; k++) {
      const double u_i = u[index(k, ld, at + i)];
      const double u_j = u[index(k, ld, at + j)];
      q_sum += u_i * u_j;
      s_sum += u_i * t[index(k, ld, at + j)] + t[index(k, ld, at + i)] * u_j;
    }
    q_block[e] -= q_sum;
    s_block[e] -= s_sum;
    w[index(i, stride, j)] = q_block[e];
  }
  __syncthreads();
  const bool definite = inverse_factor(w, stride, group);
  // The sum over (Q_GG)^-1 o S_GG; with M = L^-1, (Q_GG)^-1 = M^T M.
  double trace = 0;
  for (int e = threadIdx.x; definite && e < group * group; e += blockDim.x) {
    const int i = e / group;
    const int j = e % group;
    if (j > i) continue;
    double element = 0;
    for (int k = i; k < group; k++) element += w[index(k, stride, i)] * w[index(k, stride, j)];
    trace += (i == j ? 1 : 2) * element * s_block[index(i, group, j)];
  }
  trace = block_sum(trace, sums);
  if (threadIdx.x == 0) {
    cost[block] = definite ? trace : not_a_number();
  }
}

// Drops what is gone from the lists, and says where the rest was.
//   grid 1, block 32 .. 1024, a multiple of 32
// gone, group_at, cost: [groups] in, [groups that remain] out
// from: [groups that remain] out: the block of each before
TACO4J_KERNEL __launch_bounds__(1024)
    taco4j_ziplm_positions_f64(int* gone, int groups, int* group_at, double* cost, int* from) {
  __shared__ int counts[kWarp];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  int remaining = 0;
  for (int start = 0; start < groups; start += blockDim.x) {
    const int b = start + threadIdx.x;
    const bool stays = b < groups && !gone[b];
    const int id = stays ? group_at[b] : 0;
    const double price = stays ? cost[b] : 0;
    const unsigned ballot = __ballot_sync(kAllLanes, stays);
    if (lane == 0) counts[warp] = __popc(ballot);
    __syncthreads();
    int to = remaining + __popc(ballot & ((1u << lane) - 1));
    for (int other = 0; other < blockDim.x / kWarp; other++) {
      if (other < warp) to += counts[other];
      remaining += counts[other];
    }
    // All of this chunk has been read, and nothing is written beyond it.
    if (stays) {
      gone[to] = 0;
      group_at[to] = id;
      cost[to] = price;
      from[to] = b;
    }
    __syncthreads();
  }
}

// to[i, j] = from[i', j'], the positions that remain: columns, and rows too where gather_rows.
//   grid (ceil(cols / 256), up to rows), block 256
// map: of positions; matrix: [.., ..] stride ld; to: [rows, cols] stride ld, other memory
TACO4J_KERNEL taco4j_ziplm_gather_f64(const double* matrix, int ld, const int* map, int group,
                                      int rows, int cols, int gather_rows, double* to) {
  const int col = blockIdx.x * blockDim.x + threadIdx.x;
  if (col >= cols) return;
  const int source = map[col / group] * group + col % group;
  for (int row = blockIdx.y; row < rows; row += gridDim.y) {
    const int line = gather_rows ? map[row / group] * group + row % group : row;
    to[index(row, ld, col)] = matrix[index(line, ld, source)];
  }
}

// The diagonal blocks of Q and S.
//   grid ceil(active * g / 256), block 256
// q, s: [active, active] stride ld; q_blocks, s_blocks: [active, g] out
TACO4J_KERNEL taco4j_ziplm_blocks_f64(const double* q, const double* s, int ld, int active,
                                      int group, double* q_blocks, double* s_blocks) {
  const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= (long long)active * group) return;
  const int at = (int)(e / group);
  const long long from = index(at, ld, at / group * group + (int)(e % group));
  q_blocks[e] = q[from];
  s_blocks[e] = s[from];
}
