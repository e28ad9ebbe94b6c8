// The shim itself: that collectives compute what a GPU's do, that what a kernel does wrong shows,
// and that it goes on after that.
#include <cstdio>
#include <functional>
#include <set>
#include <thread>

#include "common.cuh"

namespace {

int failures = 0;

void check(bool right, const std::string& what) {
  if (right) return;
  std::printf("%s\n", what.c_str());
  failures++;
}

// ---- What is right --------------------------------------------------------------------------

// out: [15, threads]; one warp after another, the last with as many lanes as there are.
TACO4J_KERNEL collectives(long long* out) {
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  const int id = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int lane = id % 32;
  const int left = threads - id / 32 * 32;
  const unsigned mask = left >= 32 ? 0xffffffffu : (1u << left) - 1;
  const int count = min(left, 32);
  int row = 0;
  auto put = [&](long long value) { out[row++ * threads + id] = value; };
  put(__shfl_sync(mask, id * 10, 0));
  put(__shfl_sync(mask, id * 10ll << 32, (lane + 1) % count));
  put(__shfl_up_sync(mask, static_cast<unsigned>(id), 3));
  const float down = __shfl_down_sync(mask, id * 0.5f, 2, 8);
  put(lane % 8 + 2 < 8 && lane + 2 >= count ? -1 : static_cast<long long>(down * 2));
  const double exchanged = __shfl_xor_sync(mask, id * 0.25, 5);
  put((lane ^ 5) >= count ? -1 : static_cast<long long>(exchanged * 4));
  put(__ballot_sync(mask, id % 3 == 0));
  put(__any_sync(mask, lane == count - 1));
  put(__any_sync(mask, 0));
  put(__all_sync(mask, 1));
  put(__all_sync(mask, lane != 0));
  __syncwarp(mask);
  put(__syncthreads_count(id % 7 == 0));
  put(__syncthreads_and(id != threads - 1));
  put(__syncthreads_and(1));
  put(__syncthreads_or(id == threads - 1));
  put(__syncthreads_or(0));
}

void check_collectives(dim3 block) {
  const int threads = block.x * block.y * block.z;
  std::vector<long long> expected(15 * threads);
  for (int id = 0; id < threads; id++) {
    const int first = id / 32 * 32;
    const int lane = id % 32;
    const int count = std::min(32, threads - first);
    unsigned thirds = 0;
    for (int i = 0; i < count; i++) thirds |= ((first + i) % 3 == 0 ? 1u : 0u) << i;
    const int down = lane % 8 + 2 < 8 ? id + 2 : id;
    const long long values[] = {first * 10,
                                (first + (lane + 1) % count) * 10ll << 32,
                                lane >= 3 ? id - 3 : id,
                                down - first >= count ? -1 : down,
                                (lane ^ 5) >= count ? -1 : first + (lane ^ 5),
                                thirds,
                                1,
                                0,
                                1,
                                0,
                                (threads + 6) / 7,
                                0,
                                1,
                                1,
                                0};
    for (int row = 0; row < 15; row++) expected[row * threads + id] = values[row];
  }
  taco4j_shim::for_each_order([&](const char* order) {
    auto out = taco4j_shim::poisoned<long long>(expected.size());
    taco4j_shim::launch(collectives, dim3(1), block, 0, out.data());
    for (size_t i = 0; i < out.size(); i++) {
      if (out[i] == expected[i]) continue;
      check(false, "collective " + std::to_string(i / threads) + " of thread " +
                       std::to_string(i % threads) + " of " + std::to_string(threads) + ", " +
                       order + ": " + std::to_string(out[i]) + " for " +
                       std::to_string(expected[i]));
      return;
    }
  });
}

// Both halves of a warp on their own, one of them more often. out: [32]
TACO4J_KERNEL halves(int* out) {
  const int lane = threadIdx.x;
  const unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  int value = lane;
  for (int offset = lane < 16 ? 8 : 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(mask, value, offset);
  }
  out[lane] = value;
}

// out: [gridDim.x * 2], the sum and the smallest over a block of in: [gridDim.x, blockDim.x]
TACO4J_KERNEL reductions(const float* in, float* out) {
  __shared__ float scratch[32];
  __shared__ int indices[32];
  const float value = in[blockIdx.x * blockDim.x + threadIdx.x];
  const float sum = taco4j::block_sum(value, scratch);
  __syncthreads();
  const auto smallest = taco4j::block_min(
      taco4j::Candidate<float>{value, static_cast<int>(threadIdx.x)}, scratch, indices);
  if (threadIdx.x == 0) {
    out[blockIdx.x * 2] = sum;
    out[blockIdx.x * 2 + 1] = smallest.index;
  }
}

void check_reductions() {
  for (const int threads : {32, 64, 256, 1024}) {
    const int blocks = 5;
    std::vector<float> in(blocks * threads);
    for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<float>(i * 7919 % 251);
    std::vector<float> expected;
    for (int b = 0; b < blocks; b++) {
      const float* row = in.data() + b * threads;
      expected.push_back(std::accumulate(row, row + threads, 0.0f));
      expected.push_back(static_cast<float>(std::min_element(row, row + threads) - row));
    }
    taco4j_shim::for_each_order([&](const char* order) {
      auto out = taco4j_shim::poisoned<float>(2 * blocks);
      taco4j_shim::launch(reductions, dim3(blocks), dim3(threads), 0, in.data(), out.data());
      check(out == expected, "reductions over " + std::to_string(threads) + " threads, " + order);
    });
  }
}

// out: [4, gridDim.x * gridDim.y * gridDim.z]: its number, then blockIdx
TACO4J_KERNEL grid_order(unsigned* counter, unsigned* out) {
  const unsigned number = atomicAdd(counter, 1u);
  const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
  out[number] = number;
  out[blocks + number] = blockIdx.x;
  out[2 * blocks + number] = blockIdx.y;
  out[3 * blocks + number] = blockIdx.z;
}

void check_grid() {
  unsigned counter = 0;
  std::vector<unsigned> out(4 * 24);
  taco4j_shim::launch(grid_order, dim3(2, 3, 4), dim3(1), 0, &counter, out.data());
  check(counter == 24, "24 blocks");
  for (unsigned i = 0; i < 24; i++) {
    check(out[i] == i && out[24 + i] == i % 2 && out[48 + i] == i / 2 % 3 && out[72 + i] == i / 6,
          "block " + std::to_string(i));
  }
}

// What shared memory holds at the start of a block. Every block spoils it. bad: [1]
template <typename T>
__device__ void read_unwritten(int* bad) {
  __shared__ T scratch[64];
  TACO4J_DYNAMIC_SHARED(T, dynamic);
  const int i = threadIdx.x;
  if (scratch[i] == scratch[i]) atomicAdd(bad, 1);
  if (dynamic[i] == dynamic[i]) atomicAdd(bad, 1000);
  __syncthreads();
  scratch[i] = dynamic[i] = T(i);
}
TACO4J_KERNEL unwritten_f32(int* bad) { read_unwritten<float>(bad); }
TACO4J_KERNEL unwritten_f64(int* bad) { read_unwritten<double>(bad); }

void check_unwritten() {
  int bad = 0;
  taco4j_shim::launch(unwritten_f32, dim3(3), dim3(64), 64 * sizeof(float), &bad);
  taco4j_shim::launch(unwritten_f64, dim3(3), dim3(64), 64 * sizeof(double), &bad);
#ifndef TACO4J_SHIM_ASAN
  check(bad % 1000 == 0, "static shared memory is NaN before it is written");
#endif
  check(bad / 1000 == 0, "dynamic shared memory is NaN before it is written");
}

// out: [20]
TACO4J_KERNEL functions(int* out) {
  int i = 0;
  out[i++] = __popc(0xf0f0u) == 8 && __popcll(1ull << 63 | 1) == 2;
  out[i++] = __ffs(0) == 0 && __ffs(8) == 4 && __ffsll(1ll << 40) == 41;
  out[i++] = __clz(0) == 32 && __clz(1) == 31 && __clzll(1) == 63;
  out[i++] = __brev(1u) == 1u << 31;
  out[i++] = __float_as_int(1.0f) == 0x3f800000 && __int_as_float(0x3f800000) == 1.0f;
  out[i++] = __double_as_longlong(2.0) == 0x4000000000000000ll;
  out[i++] = __float2int_rn(2.5f) == 2 && __float2int_rn(1e20f) == 2147483647;
  out[i++] = __float2int_rn(NAN) == 0 && __float2int_rz(-1e20f) == -2147483647 - 1;
  out[i++] = min(3, 4u) == 3u && max(-1ll, 2ll) == 2 && min(1.0f, NAN) == 1.0f;
  out[i++] = fmaf(3.0f, 4.0f, 5.0f) == 17.0f && fma(3.0, 4.0, 5.0) == 17.0;
  out[i++] = rsqrtf(4.0f) == 0.5f && rsqrt(16.0) == 0.25 && sqrt(9.0f) == 3.0f;
  out[i++] = isnan(NAN) && !isfinite(INFINITY) && fabs(-2.0f) == 2.0f;
  int word = 5;
  out[i++] = atomicMax(&word, 9) == 5 && atomicMin(&word, 2) == 9 && word == 2;
  out[i++] = atomicCAS(&word, 2, 6) == 2 && atomicCAS(&word, 2, 7) == 6 && word == 6;
  out[i++] = atomicOr(&word, 1) == 6 && atomicAnd(&word, 5) == 7 && word == 5;
  out[i++] = atomicExch(&word, 1) == 5 && atomicSub(&word, 3) == 1 && word == -2;
  unsigned long long wide = 1ull << 40;
  out[i++] = atomicAdd(&wide, 2ull) == 1ull << 40 && wide == (1ull << 40) + 2;
  const float4 four = make_float4(1, 2, 3, 4);
  out[i++] = __ldg(&four).w == 4 && sizeof(float4) == 16 && alignof(float4) == 16;
  out[i++] = alignof(double2) == 16 && alignof(float2) == 8 && sizeof(float3) == 12;
  out[i++] = __umulhi(1u << 31, 4u) == 2 && warpSize == 32;
}

void check_functions() {
  std::vector<int> out(20);
  taco4j_shim::launch(functions, dim3(1), dim3(1), 0, out.data());
  for (int i = 0; i < 20; i++) check(out[i] == 1, "functions, line " + std::to_string(i));
}

// ---- What is wrong --------------------------------------------------------------------------

// A barrier is missing between the writes and the reads of others. out: [blockDim.x]
TACO4J_KERNEL without_barrier(int* out) {
  __shared__ int scratch[1024];
  scratch[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = scratch[blockDim.x - 1 - threadIdx.x];
}

// One is missing between two sums in the same scratch. out: [blockDim.x]
TACO4J_KERNEL without_second_barrier(float* out) {
  __shared__ float scratch[32];
  const float first = taco4j::block_sum(1.0f, scratch);
  const float second = taco4j::block_sum(static_cast<float>(threadIdx.x), scratch);
  out[threadIdx.x] = first + second;
}

// One is missing in a warp. out: [blockDim.x]
TACO4J_KERNEL without_syncwarp(int* out) {
  __shared__ int scratch[1024];
  scratch[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = scratch[threadIdx.x ^ 1];
}

template <typename T>
void check_orders_differ(void (*kernel)(T*), const char* name) {
  std::set<std::string> seen;
  taco4j_shim::for_each_order([&](const char*) {
    auto out = taco4j_shim::poisoned<T>(256);
    taco4j_shim::launch(kernel, dim3(1), dim3(256), 0, out.data());
    seen.emplace(reinterpret_cast<const char*>(out.data()), out.size() * sizeof(T));
  });
  check(seen.size() > 1, std::string(name) + " gives the same bytes in all orders");
}

void check_fails(const std::function<void()>& launch, const std::string& why) {
  taco4j_shim::for_each_order([&](const char* order) {
    try {
      launch();
      check(false, "no error: " + why + ", " + order);
    } catch (const taco4j_shim::LaunchError& error) {
      check(std::string(error.what()).find(why) != std::string::npos,
            std::string(error.what()) + ", for: " + why + ", " + order);
    }
    // What is left of the failed block does no harm.
    std::vector<int> out(64);
    taco4j_shim::launch(halves, dim3(1), dim3(32), 0, out.data());
    check(out[0] == 120 && out[31] == 118, "a launch after " + why);
  });
}

TACO4J_KERNEL divergent_barrier() {
  if (threadIdx.x != 5) __syncthreads();
}
TACO4J_KERNEL two_barriers() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
TACO4J_KERNEL barrier_and_shuffle(int* out) {
  if (threadIdx.x != 0) *out = __shfl_sync(0xffffffffu, 1, 0);
  __syncthreads();
}
TACO4J_KERNEL returned_lanes(int* out) {
  if (threadIdx.x >= 16) return;
  *out = __shfl_sync(0xffffffffu, 1, 0);
}
TACO4J_KERNEL full_mask() { __syncwarp(); }
TACO4J_KERNEL mask_without_caller() { __syncwarp(0xffff0000u); }
TACO4J_KERNEL different_collectives(int* out) {
  if (threadIdx.x < 16) {
    *out = __ballot_sync(0xffffffffu, 1);
  } else {
    *out = __any_sync(0xffffffffu, 1);
  }
}
TACO4J_KERNEL different_masks() { __syncwarp(threadIdx.x < 16 ? 0xffffffffu : 0xffff0000u); }
TACO4J_KERNEL past_dynamic_shared() {
  TACO4J_DYNAMIC_SHARED(int, values);
  values[threadIdx.x] = 0;
}

void check_failures() {
  using taco4j_shim::launch;
  int out;
  check_fails([] { launch(divergent_barrier, dim3(2), dim3(64), 0); }, "__syncthreads");
  check_fails([] { launch(two_barriers, dim3(1), dim3(64), 0); },
              "while other threads wait at __syncthreads at shim_test.cc:");
  check_fails([&] { launch(barrier_and_shuffle, dim3(1), dim3(64), 0, &out); }, "wait for ever");
  check_fails([&] { launch(returned_lanes, dim3(1), dim3(32), 0, &out); }, "__shfl_sync");
  check_fails([] { launch(full_mask, dim3(1), dim3(45), 0); }, "the block does not have");
  check_fails([] { launch(mask_without_caller, dim3(1), dim3(32), 0); },
              "a mask without the calling lane");
  check_fails([&] { launch(different_collectives, dim3(1), dim3(32), 0, &out); },
              "while other lanes of the warp wait at __");
  check_fails([] { launch(different_masks, dim3(1), dim3(32), 0); }, "__syncwarp at");
#ifndef TACO4J_SHIM_ASAN
  check_fails([] { launch(past_dynamic_shared, dim3(2), dim3(33), 128); },
              "past dynamic shared memory");
#endif
  check_fails([] { launch(full_mask, dim3(1), dim3(1025), 0); }, "A block of 1025 x 1 x 1");
  check_fails([] { launch(full_mask, dim3(1), dim3(0), 0); }, "A block of 0");
  check_fails([] { launch(full_mask, dim3(1, 65536), dim3(32), 0); }, "A grid of 1 x 65536 x 1");
  check_fails([] { launch(full_mask, dim3(1), dim3(32), 232449); }, "232449 bytes");
  check_fails([] { taco4j_shim::set_order("sideways"); }, "not sideways");
  check_fails([] { taco4j_shim::set_order("shuffle:x"); }, "not shuffle:x");
}

// Launches from several threads take turns.
void check_threads() {
  std::vector<std::thread> threads;
  std::vector<std::vector<int>> outs(4, std::vector<int>(32));
  for (auto& out : outs) {
    threads.emplace_back([&out] {
      for (int i = 0; i < 100; i++) taco4j_shim::launch(halves, dim3(3), dim3(32), 0, out.data());
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& out : outs) check(out == outs[0] && out[0] == 120, "launches of several threads");
}

}  // namespace

int main() {
  check_functions();
  for (const dim3 block : {dim3(1), dim3(3), dim3(17), dim3(32), dim3(33), dim3(127), dim3(4, 8),
                           dim3(5, 7, 3), dim3(1021), dim3(1024), dim3(8, 8, 16)}) {
    check_collectives(block);
  }
  check_reductions();
  check_grid();
  check_unwritten();
  check_orders_differ(without_barrier, "without_barrier");
  check_orders_differ(without_second_barrier, "without_second_barrier");
  check_orders_differ(without_syncwarp, "without_syncwarp");
  check_failures();
  check_threads();
  return failures == 0 ? 0 : 1;
}
