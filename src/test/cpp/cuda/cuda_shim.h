// Runs the CUDA kernels of cuda-kernels on the CPU, for the tests: included by common.cuh where
// TACO4J_CPU_SHIM is defined.
//
//   g++ -x c++ -std=c++20 -O2 -DTACO4J_CPU_SHIM -Wno-unknown-pragmas
//       -I src/test/cpp/cuda -I cuda-kernels operation_test.cc
//   taco4j_shim::launch(taco4j_fill_f32, dim3(4), dim3(128), 0, to, 1.0f, count);
//
// What is emulated: blocks run one after the other in the order of the grid (x fastest), the
// threads of a block are fibers of one OS thread. A thread runs until it waits, and then the first
// one that can run does, in an order to be chosen: forward, backward, or shuffled anew from a seed
// for every block and every __syncthreads. So a kernel that lacks a barrier gives other bytes in
// another order; for_each_order runs a test in all of them. Memory that a kernel has not written
// is 0xff bytes (NaN, -1): shared memory in every block, and what poisoned() allocates.
//
// What ends a launch with LaunchError: threads that wait for ever, threads that return while others
// wait at __syncthreads (or before), __syncthreads of different source lines at once, different
// collectives or masks in the lanes of a warp, masks that name lanes that have returned or that the
// block does not have, writes past the end of dynamic shared memory, launches beyond a GPU's limits.
// A shuffle from a lane outside its mask gives 0xff bytes.
//
// What is not emulated: concurrency (atomics are plain operations; a thread that spins on what
// another one does never ends), the memory model (fences do nothing), timing, the GPU's rounding of
// approximate functions (rsqrt, __expf), contraction of a * b + c into fma, local and register
// limits. Passing here says nothing about data races inside one instruction, nor about speed.
//
// Static shared memory is thread_local, as that keeps it apart from all other variables and so
// lets it be overwritten: a program that includes this has no uninitialised thread_local variables
// of its own, and has those of the C and C++ libraries in shared ones. AddressSanitizer watches plain static arrays only; under it, static shared memory is
// that, and keeps what the block before left there.
#pragma once

#ifndef TACO4J_CPU_SHIM
#error "cuda_shim.h is for compilation with TACO4J_CPU_SHIM."
#endif

#ifdef __ELF__
#include <link.h>
#endif
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define TACO4J_SHIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TACO4J_SHIM_ASAN 1
#endif
#endif
#ifdef TACO4J_SHIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// ---- Words of the language ----------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#if defined(__ELF__) && !defined(TACO4J_SHIM_ASAN)
#define TACO4J_SHIM_THREAD_LOCAL 1
#define __shared__ static thread_local
#else
#define __shared__ static
#endif
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline uint3 threadIdx;
inline uint3 blockIdx;
inline dim3 blockDim;
inline dim3 gridDim;
constexpr int warpSize = 32;

// Vectors are aligned as on a GPU, where a load from elsewhere is an error; UBSan finds those.
#define TACO4J_SHIM_VECTORS(type, name)                                                         \
  struct alignas(2 * sizeof(type)) name##2 {                                                    \
    type x, y;                                                                                  \
  };                                                                                            \
  struct name##3 {                                                                              \
    type x, y, z;                                                                               \
  };                                                                                            \
  struct alignas(sizeof(type) == 8 ? 16 : 4 * sizeof(type)) name##4 {                           \
    type x, y, z, w;                                                                            \
  };                                                                                            \
  constexpr name##2 make_##name##2(type x, type y) { return {x, y}; }                           \
  constexpr name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                \
  constexpr name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
TACO4J_SHIM_VECTORS(float, float)
TACO4J_SHIM_VECTORS(double, double)
TACO4J_SHIM_VECTORS(int, int)
TACO4J_SHIM_VECTORS(long long, longlong)
TACO4J_SHIM_VECTORS(unsigned long long, ulonglong)
TACO4J_SHIM_VECTORS(short, short)
TACO4J_SHIM_VECTORS(signed char, char)
TACO4J_SHIM_VECTORS(unsigned char, uchar)
#undef TACO4J_SHIM_VECTORS
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
constexpr uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
constexpr uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
constexpr uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ---- The run of a block -------------------------------------------------------------------------

// void taco4j_shim_switch(void** save, void* to): keeps the registers that a function must keep on
// the stack and its address in *save, and goes on where `to` was saved. No system call, unlike
// swapcontext.
extern "C" void taco4j_shim_switch(void** save, void* to) __asm__("taco4j_shim_switch");

#ifdef __APPLE__
#define TACO4J_SHIM_WEAK                   \
  ".globl taco4j_shim_switch\n"            \
  ".weak_definition taco4j_shim_switch\n"  \
  ".private_extern taco4j_shim_switch\n"
#define TACO4J_SHIM_TEXT ".text\n"
#define TACO4J_SHIM_PREVIOUS ""
#else
#define TACO4J_SHIM_WEAK         \
  ".weak taco4j_shim_switch\n"   \
  ".hidden taco4j_shim_switch\n"
#define TACO4J_SHIM_TEXT ".pushsection .text\n"
#define TACO4J_SHIM_PREVIOUS ".popsection\n"
#endif

#if defined(__x86_64__)
__asm__(TACO4J_SHIM_TEXT ".p2align 4\n" TACO4J_SHIM_WEAK
        "taco4j_shim_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n" TACO4J_SHIM_PREVIOUS);
#elif defined(__aarch64__)
__asm__(TACO4J_SHIM_TEXT ".p2align 4\n" TACO4J_SHIM_WEAK
        "taco4j_shim_switch:\n"
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
        "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  mov x2, sp\n  str x2, [x0]\n  mov sp, x1\n"
        "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
        "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n"
        "  ret\n" TACO4J_SHIM_PREVIOUS);
#else
#error "cuda_shim.h knows how to switch fibers on x86-64 and AArch64 only."
#endif

namespace taco4j_shim {

constexpr int kMaxThreads = 1024;
constexpr int kMaxWarps = kMaxThreads / 32;
// That of compute capability 9.0, the largest there is.
constexpr size_t kMaxSharedBytes = 232448;
constexpr unsigned char kPoison = 0xff;

// What a kernel or its launch has done wrong.
class LaunchError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Direction { kForward, kBackward, kShuffle };

// In which order threads of a block run.
struct Order {
  Direction direction = Direction::kForward;
  unsigned seed = 0;
};

// "forward", "backward", or "shuffle:" and a seed.
inline Order parse_order(const std::string& text) {
  if (text == "forward") return {Direction::kForward, 0};
  if (text == "backward") return {Direction::kBackward, 0};
  const std::string shuffle = "shuffle:";
  if (text.compare(0, shuffle.size(), shuffle) == 0) {
    char* end;
    const unsigned seed = static_cast<unsigned>(std::strtoul(text.c_str() + shuffle.size(), &end, 10));
    if (end != text.c_str() + shuffle.size() && *end == 0) return {Direction::kShuffle, seed};
  }
  throw LaunchError("TACO4J_SHIM_ORDER is forward, backward or shuffle:SEED, not " + text);
}

namespace internal {

// Where in the kernel a thread waits.
struct Site {
  const char* file = nullptr;
  int line = 0;

  bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
  std::string text() const {
    const char* name = std::strrchr(file, '/');
    return std::string(name == nullptr ? file : name + 1) + ":" + std::to_string(line);
  }
};

enum class Wait : uint8_t {
  kNothing,
  kReturned,
  kSyncthreads,
  kSyncthreadsAnd,
  kSyncthreadsOr,
  kSyncthreadsCount,
  kSyncwarp,
  kShuffle,
  kBallot,
  kAny,
  kAll,
};

inline const char* name(Wait wait) {
  static const char* const names[] = {
      "runs",          "has returned",   "__syncthreads", "__syncthreads_and", "__syncthreads_or",
      "__syncthreads_count", "__syncwarp", "__shfl_sync", "__ballot_sync",     "__any_sync",
      "__all_sync"};
  return names[static_cast<int>(wait)];
}

struct Fiber {
  void* stack_pointer = nullptr;
  uint3 index{};  // threadIdx
  int id = 0;     // in the block, x fastest
  int slot = 0;   // its place in the order
  Wait wait = Wait::kNothing;
  Site site;
  unsigned mask = 0;         // of the collective that it waits at
  int source = 0;            // the lane to shuffle from; -1: none
  unsigned long long value = 0;   // what it brings to the collective
  unsigned long long result = 0;  // and what it takes away
#ifdef TACO4J_SHIM_ASAN
  void* fake_stack = nullptr;
  const void* stack = nullptr;
#endif
};

#ifdef TACO4J_SHIM_THREAD_LOCAL
// In the static shared memory of the program or library that this is part of.
inline thread_local char static_shared_marker;
#endif

// The static shared memory of this thread: what is thread_local here and not initialised.
class StaticShared {
 public:
  StaticShared() {
#ifdef TACO4J_SHIM_THREAD_LOCAL
    static_shared_marker = 0;  // from here on this thread has such memory
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* pointer) {
          StaticShared& self = *static_cast<StaticShared*>(pointer);
          unsigned char* begin = static_cast<unsigned char*>(info->dlpi_tls_data);
          unsigned char* marker = reinterpret_cast<unsigned char*>(&static_shared_marker);
          for (int i = 0; begin != nullptr && i < info->dlpi_phnum; i++) {
            const auto& header = info->dlpi_phdr[i];
            if (header.p_type != PT_TLS || marker < begin || marker >= begin + header.p_memsz) continue;
            self.begin_ = begin + header.p_filesz;
            self.bytes_ = header.p_memsz - header.p_filesz;
            return 1;
          }
          return 0;
        },
        this);
#endif
  }

  // A library of all kernels has too much of it for every block: then it is for the first only.
  void poison(long long block) {
    if (bytes_ > 0 && (bytes_ <= (64 << 10) || block == 0)) std::memset(begin_, kPoison, bytes_);
  }

 private:
  unsigned char* begin_ = nullptr;
  size_t bytes_ = 0;
};

// The one run at a time: the threads of a block, where they stand, and their stacks.
class Run {
 public:
  static constexpr size_t kGuard = 64;  // bytes after dynamic shared memory that are not to change
#ifdef TACO4J_SHIM_ASAN
  static constexpr size_t kStack = 256 << 10;
#else
  static constexpr size_t kStack = 64 << 10;
#endif

  using Invoke = void (*)(const void* arguments);

  static Run& instance() {
    static Run run;
    return run;
  }

  void* shared() { return shared_; }

  void set_order(Order order) { order_ = order; }
  Order order() const { return order_; }

  void launch(dim3 grid, dim3 block, size_t shared_bytes, Invoke invoke, const void* arguments) {
    const unsigned long long threads = 1ull * block.x * block.y * block.z;
    if (threads == 0 || threads > kMaxThreads || block.z > 64) {
      throw LaunchError("A block of " + std::to_string(block.x) + " x " + std::to_string(block.y) +
                        " x " + std::to_string(block.z) + " threads");
    }
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
        grid.z > 65535) {
      throw LaunchError("A grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) +
                        " x " + std::to_string(grid.z) + " blocks");
    }
    if (shared_bytes > kMaxSharedBytes) {
      throw LaunchError(std::to_string(shared_bytes) + " bytes of dynamic shared memory");
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    invoke_ = invoke;
    arguments_ = arguments;
    threads_ = static_cast<int>(threads);
    gridDim = grid;
    blockDim = block;
    SharedMemory memory(shared_bytes);
    shared_ = memory.data();
    StaticShared static_shared;
    prepare_fibers();
    long long number = 0;
    for (unsigned z = 0; z < grid.z; z++) {
      for (unsigned y = 0; y < grid.y; y++) {
        for (unsigned x = 0; x < grid.x; x++) {
          blockIdx = {x, y, z};
          memory.poison();
          static_shared.poison(number);
          run_block();
          if (failure_.empty() && memory.overrun()) {
            failure_ = "Block " + text(blockIdx) + " wrote past dynamic shared memory";
          }
          if (!failure_.empty()) {
            std::string failure;
            failure.swap(failure_);
            throw LaunchError(failure);
          }
          number++;
        }
      }
    }
    shared_ = nullptr;
  }

  // A rendezvous of the threads of the block; the sum, or the like, of the values they bring.
  unsigned long long wait_block(Wait wait, unsigned long long value, Site site) {
    Fiber& self = *current_;
    if (returned_ > 0) fail(name(wait), site, "after other threads of the block have returned");
    if (block_waiting_ > 0 && (wait != block_wait_ || !(site == block_site_))) {
      fail(name(wait), site,
           std::string("while other threads wait at ") + name(block_wait_) + " at " +
               block_site_.text());
    }
    if (block_waiting_ == 0) {
      block_wait_ = wait;
      block_site_ = site;
      block_sum_ = 0;
    }
    block_waiting_++;
    block_sum_ += value;
    self.wait = wait;
    self.site = site;
    if (block_waiting_ == threads_) {
      unsigned long long result = block_sum_;
      if (wait == Wait::kSyncthreadsAnd) result = block_sum_ == 1ull * threads_;
      if (wait == Wait::kSyncthreadsOr) result = block_sum_ != 0;
      block_waiting_ = 0;
      for (int i = 0; i < threads_; i++) {
        fibers_[i].wait = Wait::kNothing;
        fibers_[i].result = result;
      }
      all_ready();
    } else {
      not_ready(self.slot);
    }
    run_next();
    return self.result;
  }

  // A rendezvous of the lanes of a warp that the mask names. Shuffles give the value of lane
  // `source`, the others the bits of the lanes whose value is not 0.
  unsigned long long wait_warp(Wait wait, unsigned mask, unsigned long long value, int source,
                               Site site) {
    Fiber& self = *current_;
    const int warp = self.id / 32;
    const int first = warp * 32;
    const unsigned bit = 1u << (self.id % 32);
    if ((mask & bit) == 0) fail(name(wait), site, "with a mask without the calling lane");
    if ((mask & ~lanes(warp)) != 0) {
      fail(name(wait), site, "with a mask that names lanes that the block does not have");
    }
    if ((mask & warp_returned_[warp]) != 0) {
      fail(name(wait), site, "with a mask that names lanes that have returned");
    }
    for (unsigned rest = warp_waiting_[warp]; rest != 0; rest &= rest - 1) {
      const Fiber& other = fibers_[first + __builtin_ctz(rest)];
      if ((other.mask & mask) == 0) continue;
      if (other.wait != wait || other.mask != mask || !(other.site == site)) {
        fail(name(wait), site,
             "with mask " + hex(mask) + ", while other lanes of the warp wait at " +
                 name(other.wait) + " at " + other.site.text() + " with mask " + hex(other.mask));
      }
      break;  // its lanes have been compared with one another
    }
    self.wait = wait;
    self.site = site;
    self.mask = mask;
    self.value = value;
    self.source = source;
    warp_waiting_[warp] |= bit;
    if ((warp_waiting_[warp] & mask) == mask) {
      warp_waiting_[warp] &= ~mask;
      unsigned ballot = 0;
      for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        if (fibers_[first + lane].value != 0) ballot |= 1u << lane;
      }
      for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        Fiber& fiber = fibers_[first + __builtin_ctz(rest)];
        fiber.wait = Wait::kNothing;
        if (wait != Wait::kShuffle) {
          fiber.result = ballot;
        } else if (fiber.source >= 0 && (mask >> fiber.source & 1) != 0) {
          fiber.result = fibers_[first + fiber.source].value;
        } else {
          fiber.result = ~0ull;
        }
        ready(fiber.slot);
      }
    } else {
      not_ready(self.slot);
    }
    run_next();
    return self.result;
  }

  [[noreturn]] void fail(const std::string& what, Site site, const std::string& why) {
    throw LaunchError(what + " at " + site.text() + " in thread " + text(current_->index) +
                      " of block " + text(blockIdx) + " " + why);
  }

 private:
  // Of exactly the bytes asked for, so that AddressSanitizer finds accesses beyond; with a guard
  // behind where there is no such.
  class SharedMemory {
   public:
    explicit SharedMemory(size_t bytes) : bytes_(bytes) {
#ifdef TACO4J_SHIM_ASAN
      guard_ = 0;
#endif
      void* data = nullptr;
      if (posix_memalign(&data, 128, std::max<size_t>(bytes + guard_, 1)) != 0) throw std::bad_alloc();
      data_ = static_cast<unsigned char*>(data);
      std::memset(data_ + bytes_, 0xa5, guard_);
    }
    ~SharedMemory() { std::free(data_); }
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;

    void* data() { return data_; }
    void poison() { std::memset(data_, kPoison, bytes_); }
    bool overrun() const {
      for (size_t i = 0; i < guard_; i++) {
        if (data_[bytes_ + i] != 0xa5) return true;
      }
      return false;
    }

   private:
    size_t bytes_;
    size_t guard_ = kGuard;
    unsigned char* data_;
  };

  Run() : fibers_(kMaxThreads), permutation_(kMaxThreads), slots_(kMaxThreads) {
    const char* order = std::getenv("TACO4J_SHIM_ORDER");
    if (order != nullptr && *order != 0) order_ = parse_order(order);
  }

  static std::string hex(unsigned value) {
    char text[16];
    std::snprintf(text, sizeof text, "0x%08x", value);
    return text;
  }

  static std::string text(uint3 index) {
    return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
           std::to_string(index.z) + ")";
  }

  // The lanes that a warp has.
  unsigned lanes(int warp) const {
    const int count = threads_ - warp * 32;
    return count >= 32 ? ~0u : (1u << count) - 1;
  }

  void ready(int slot) {
    ready_[slot / 64] |= 1ull << (slot % 64);
    ready_words_ |= 1u << (slot / 64);
  }

  void not_ready(int slot) {
    ready_[slot / 64] &= ~(1ull << (slot % 64));
    if (ready_[slot / 64] == 0) ready_words_ &= ~(1u << (slot / 64));
  }

  // Every thread of the block can run; a shuffled order is drawn anew.
  void all_ready() {
    if (order_.direction == Direction::kShuffle) draw_order();
    for (int word = 0; word * 64 < threads_; word++) {
      const int count = threads_ - word * 64;
      ready_[word] = count >= 64 ? ~0ull : (1ull << count) - 1;
      ready_words_ |= 1u << word;
    }
  }

  void draw_order() {
    for (int i = threads_ - 1; i > 0; i--) {
      std::swap(permutation_[i], permutation_[random_() % (i + 1)]);
    }
    assign_slots();
  }

  void assign_slots() {
    for (int slot = 0; slot < threads_; slot++) {
      slots_[slot] = &fibers_[permutation_[slot]];
      slots_[slot]->slot = slot;
    }
  }

  void prepare_fibers() {
    for (int i = 0; i < threads_; i++) {
      Fiber& fiber = fibers_[i];
      fiber.id = i;
      fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
      if (i >= started_) start(i);
    }
    started_ = std::max(started_, threads_);
    std::iota(permutation_.begin(), permutation_.begin() + threads_, 0);
    if (order_.direction == Direction::kBackward) {
      std::reverse(permutation_.begin(), permutation_.begin() + threads_);
    }
    random_.seed(order_.seed + 1);
    assign_slots();
  }

  // A stack on which a fiber waits for its first block, each between pages that are no memory.
  void start(int i) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t pitch = kStack + page;
    if (stacks_ == nullptr) {
      void* memory = mmap(nullptr, pitch * kMaxThreads + page, PROT_NONE,
                          MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) throw LaunchError("No address space for the stacks of fibers");
      stacks_ = static_cast<unsigned char*>(memory);
    }
    unsigned char* bottom = stacks_ + page + pitch * i;
    if (i >= mapped_) {
      if (mprotect(bottom, kStack, PROT_READ | PROT_WRITE) != 0) {
        throw LaunchError("No memory for the stacks of fibers");
      }
      mapped_ = i + 1;
    }
    // Not all stacks on the same lines of the cache.
    uintptr_t top = reinterpret_cast<uintptr_t>(bottom) + kStack - i % 16 * 256;
#ifdef TACO4J_SHIM_ASAN
    __asan_unpoison_memory_region(bottom, kStack);
    fibers_[i].stack = bottom;
    fibers_[i].fake_stack = nullptr;
#endif
#if defined(__x86_64__)
    // Six registers, where to go on, and where the first function would return to.
    uintptr_t* stack = reinterpret_cast<uintptr_t*>(top) - 8;
    std::memset(stack, 0, 8 * sizeof *stack);
    stack[6] = reinterpret_cast<uintptr_t>(&fiber_main);
#else
    uintptr_t* stack = reinterpret_cast<uintptr_t*>(top) - 20;
    std::memset(stack, 0, 20 * sizeof *stack);
    stack[11] = reinterpret_cast<uintptr_t>(&fiber_main);
#endif
    fibers_[i].stack_pointer = stack;
  }

  [[noreturn]] static void fiber_main() {
    Run& run = instance();
    run.arrived(*run.current_);
    for (;;) {
      try {
        run.invoke_(run.arguments_);
        run.finish();
      } catch (const LaunchError& error) {
        run.failure_ = error.what();
      }
      if (!run.failure_.empty()) run.abandon();
    }
  }

  void run_block() {
    returned_ = 0;
    block_waiting_ = 0;
    std::fill(std::begin(warp_waiting_), std::end(warp_waiting_), 0);
    std::fill(std::begin(warp_returned_), std::end(warp_returned_), 0);
    std::fill(std::begin(ready_), std::end(ready_), 0);
    ready_words_ = 0;
    for (int i = 0; i < threads_; i++) fibers_[i].wait = Wait::kNothing;
    all_ready();
    current_ = slots_[0];
    threadIdx = current_->index;
#ifdef TACO4J_SHIM_ASAN
    void* fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, current_->stack, kStack);
    taco4j_shim_switch(&launcher_, current_->stack_pointer);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
    taco4j_shim_switch(&launcher_, current_->stack_pointer);
#endif
  }

  // The kernel has returned in this thread. Returns when the next block starts.
  void finish() {
    Fiber& self = *current_;
    if (block_waiting_ > 0) {
      fail("Return", block_site_, std::string("while others wait there at ") + name(block_wait_));
    }
    const int warp = self.id / 32;
    for (unsigned rest = warp_waiting_[warp]; rest != 0; rest &= rest - 1) {
      const Fiber& other = fibers_[warp * 32 + __builtin_ctz(rest)];
      if ((other.mask >> (self.id % 32) & 1) != 0) {
        fail("Return", other.site, std::string("while others wait for it there at ") +
                                       name(other.wait));
      }
    }
    self.wait = Wait::kReturned;
    warp_returned_[warp] |= 1u << (self.id % 32);
    returned_++;
    not_ready(self.slot);
    run_next();
  }

  // Goes on with the first thread that can, maybe this one, and with the launcher when all are done.
  void run_next() {
    Fiber& self = *current_;
    if (ready_words_ == 0) {
      if (returned_ != threads_) fail_waiting();
      switch_to_launcher(self);
      return;
    }
    const int word = __builtin_ctz(ready_words_);
    Fiber* next = slots_[word * 64 + __builtin_ctzll(ready_[word])];
    if (next == &self) return;
    current_ = next;
    threadIdx = next->index;
#ifdef TACO4J_SHIM_ASAN
    __sanitizer_start_switch_fiber(&self.fake_stack, next->stack, kStack);
#endif
    taco4j_shim_switch(&self.stack_pointer, next->stack_pointer);
    arrived(self);
  }

  void switch_to_launcher(Fiber& self) {
#ifdef TACO4J_SHIM_ASAN
    __sanitizer_start_switch_fiber(&self.fake_stack, launcher_stack_, launcher_stack_bytes_);
#endif
    taco4j_shim_switch(&self.stack_pointer, launcher_);
    arrived(self);
  }

  void arrived([[maybe_unused]] Fiber& self) {
#ifdef TACO4J_SHIM_ASAN
    const void* from;
    size_t bytes;
    __sanitizer_finish_switch_fiber(self.fake_stack, &from, &bytes);
    // The launcher's stack is the one that is none of a fiber's.
    if (from < stacks_ || from >= stacks_ + (kStack + (64 << 10)) * kMaxThreads) {
      launcher_stack_ = from;
      launcher_stack_bytes_ = bytes;
    }
#endif
  }

  [[noreturn]] void fail_waiting() {
    std::string text = "Threads of block " + Run::text(blockIdx) + " wait for ever:";
    int listed = 0;
    for (int i = 0; i < threads_; i++) {
      const Fiber& fiber = fibers_[i];
      if (fiber.wait == Wait::kReturned) continue;
      int same = 1;
      while (i + same < threads_ && fibers_[i + same].wait == fiber.wait &&
             fibers_[i + same].site == fiber.site) {
        same++;
      }
      if (++listed > 8) {
        text += " ...";
        break;
      }
      text += (listed > 1 ? ";" : "") + std::string(" ") + std::to_string(same) + " from thread " +
              Run::text(fiber.index) + " on at " + name(fiber.wait) + " at " + fiber.site.text();
      i += same - 1;
    }
    throw LaunchError(text);
  }

  // Back to the launcher for good: what is on the stacks of the block's other fibers is left there.
  [[noreturn]] void abandon() {
    Fiber& self = *current_;
    started_ = 0;
    switch_to_launcher(self);
    std::abort();
  }

  std::mutex mutex_;
  Order order_;
  Invoke invoke_ = nullptr;
  const void* arguments_ = nullptr;
  void* shared_ = nullptr;
  std::string failure_;
  int threads_ = 0;

  std::vector<Fiber> fibers_;       // by id
  std::vector<int> permutation_;    // ids by slot
  std::vector<Fiber*> slots_;       // fibers by slot
  std::mt19937 random_;
  unsigned long long ready_[kMaxThreads / 64] = {};  // slots of the threads that can run
  unsigned ready_words_ = 0;                         // words of ready_ that are not 0
  Fiber* current_ = nullptr;
  void* launcher_ = nullptr;  // the stack pointer of who launched

  int returned_ = 0;
  int block_waiting_ = 0;
  Wait block_wait_ = Wait::kNothing;
  Site block_site_;
  unsigned long long block_sum_ = 0;
  unsigned warp_waiting_[kMaxWarps] = {};
  unsigned warp_returned_[kMaxWarps] = {};

  unsigned char* stacks_ = nullptr;
  int mapped_ = 0;   // stacks that are memory
  int started_ = 0;  // fibers that wait for a block
#ifdef TACO4J_SHIM_ASAN
  const void* launcher_stack_ = nullptr;
  size_t launcher_stack_bytes_ = 0;
#endif
};

template <typename T>
struct Identity {
  using type = T;
};

template <typename T>
unsigned long long bits(T value) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "int, unsigned, long long, float and double are shuffled");
  unsigned long long bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <typename T>
T shuffle(unsigned mask, T value, int source, Site site) {
  const unsigned long long result =
      Run::instance().wait_warp(Wait::kShuffle, mask, bits(value), source, site);
  std::memcpy(&value, &result, sizeof value);
  return value;
}

// The lane of a thread in its warp.
inline int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}

}  // namespace internal

// The order of the launches that follow; TACO4J_SHIM_ORDER, or forward, until it is set.
inline void set_order(Order order) { internal::Run::instance().set_order(order); }
inline void set_order(const std::string& order) { set_order(parse_order(order)); }
inline Order order() { return internal::Run::instance().order(); }

// Calls test(name) in each order that a test of a kernel should go through: the bytes that the
// kernel leaves must be the same in all of them.
template <typename Test>
void for_each_order(Test test) {
  const Order before = order();
  for (const char* name : {"forward", "backward", "shuffle:1", "shuffle:2"}) {
    set_order(name);
    test(name);
  }
  set_order(before);
}

// Runs a kernel, and returns when it is done. Pointers are to memory of the CPU. LaunchError.
template <typename... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            typename internal::Identity<Parameters>::type... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  const Call call{kernel, {arguments...}};
  internal::Run::instance().launch(
      grid, block, shared_bytes,
      [](const void* pointer) {
        const Call& call = *static_cast<const Call*>(pointer);
        std::apply(call.kernel, call.arguments);
      },
      &call);
}

// [count], memory as a kernel finds it that nobody has written.
template <typename T>
std::vector<T> poisoned(size_t count) {
  std::vector<T> values(count);
  if (count > 0) std::memset(static_cast<void*>(values.data()), kPoison, count * sizeof(T));
  return values;
}

}  // namespace taco4j_shim

inline void* taco4j_dynamic_shared() { return taco4j_shim::internal::Run::instance().shared(); }

// ---- Barriers and warp collectives --------------------------------------------------------------
// The last two parameters are where the call stands.

#define TACO4J_SHIM_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  Run::instance().wait_block(Wait::kSyncthreads, 0, {file, line});
}

inline int __syncthreads_and(int predicate, TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  return static_cast<int>(
      Run::instance().wait_block(Wait::kSyncthreadsAnd, predicate != 0, {file, line}));
}

inline int __syncthreads_or(int predicate, TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  return static_cast<int>(
      Run::instance().wait_block(Wait::kSyncthreadsOr, predicate != 0, {file, line}));
}

inline int __syncthreads_count(int predicate, TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  return static_cast<int>(
      Run::instance().wait_block(Wait::kSyncthreadsCount, predicate != 0, {file, line}));
}

inline void __syncwarp(unsigned mask = 0xffffffffu, TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  Run::instance().wait_warp(Wait::kSyncwarp, mask, 0, -1, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  return static_cast<unsigned>(
      Run::instance().wait_warp(Wait::kBallot, mask, predicate != 0, -1, {file, line}));
}

inline int __any_sync(unsigned mask, int predicate, TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  return Run::instance().wait_warp(Wait::kAny, mask, predicate != 0, -1, {file, line}) != 0;
}

inline int __all_sync(unsigned mask, int predicate, TACO4J_SHIM_SITE) {
  using namespace taco4j_shim::internal;
  return Run::instance().wait_warp(Wait::kAll, mask, predicate != 0, -1, {file, line}) == mask;
}

// width: a power of two up to 32; lanes shuffle in groups of so many.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, TACO4J_SHIM_SITE) {
  const int lane = taco4j_shim::internal::lane();
  const int from = (lane & ~(width - 1)) | (source & (width - 1));
  return taco4j_shim::internal::shuffle(mask, value, from, {file, line});
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, TACO4J_SHIM_SITE) {
  const int lane = taco4j_shim::internal::lane();
  const int from = lane - static_cast<int>(delta);
  return taco4j_shim::internal::shuffle(mask, value, from < (lane & ~(width - 1)) ? lane : from,
                                        {file, line});
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, TACO4J_SHIM_SITE) {
  const int lane = taco4j_shim::internal::lane();
  const int from = lane + static_cast<int>(delta);
  return taco4j_shim::internal::shuffle(mask, value, from > (lane | (width - 1)) ? lane : from,
                                        {file, line});
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, TACO4J_SHIM_SITE) {
  const int lane = taco4j_shim::internal::lane();
  const int from = lane ^ lanes;
  return taco4j_shim::internal::shuffle(mask, value, from > (lane | (width - 1)) ? lane : from,
                                        {file, line});
}

#undef TACO4J_SHIM_SITE

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// ---- Atomics: plain operations, as only one thread runs -----------------------------------------

#define TACO4J_SHIM_ATOMICS(type)                                                               \
  inline type atomicAdd(type* to, type value) { type old = *to; *to = old + value; return old; } \
  inline type atomicExch(type* to, type value) { type old = *to; *to = value; return old; }     \
  inline type atomicCAS(type* to, type compare, type value) {                                   \
    type old = *to;                                                                             \
    if (old == compare) *to = value;                                                            \
    return old;                                                                                 \
  }                                                                                             \
  TACO4J_SHIM_ATOMIC_BITS(type)
#define TACO4J_SHIM_ATOMIC_BITS(type)                                                           \
  inline type atomicMin(type* to, type value) { type old = *to; *to = std::min(old, value); return old; } \
  inline type atomicMax(type* to, type value) { type old = *to; *to = std::max(old, value); return old; } \
  inline type atomicAnd(type* to, type value) { type old = *to; *to = old & value; return old; } \
  inline type atomicOr(type* to, type value) { type old = *to; *to = old | value; return old; } \
  inline type atomicXor(type* to, type value) { type old = *to; *to = old ^ value; return old; }
TACO4J_SHIM_ATOMICS(int)
TACO4J_SHIM_ATOMICS(unsigned)
TACO4J_SHIM_ATOMICS(unsigned long long)
TACO4J_SHIM_ATOMIC_BITS(long long)
#undef TACO4J_SHIM_ATOMIC_BITS
#undef TACO4J_SHIM_ATOMICS
inline int atomicSub(int* to, int value) { return atomicAdd(to, -value); }
inline unsigned atomicSub(unsigned* to, unsigned value) { return atomicAdd(to, 0u - value); }
// The sum would depend on the order of the threads.
float atomicAdd(float*, float) = delete;
double atomicAdd(double*, double) = delete;

// ---- Functions ----------------------------------------------------------------------------------

template <typename T>
T __ldg(const T* from) { return *from; }
template <typename T>
T __ldcg(const T* from) { return *from; }
template <typename T>
T __ldcs(const T* from) { return *from; }
template <typename T>
void __stcg(T* to, T value) { *to = value; }
template <typename T>
void __stcs(T* to, T value) { *to = value; }

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline int __clzll(long long value) {
  return value == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(value));
}
inline unsigned __brev(unsigned value) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; bit++) reversed |= (value >> bit & 1u) << (31 - bit);
  return reversed;
}
inline int __mul24(int a, int b) { return a * b; }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}

namespace taco4j_shim::internal {

template <typename To, typename From>
To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &value, sizeof to);
  return to;
}

// As a GPU converts: values beyond the range to its end, NaN to 0.
inline int to_int(double value) {
  if (std::isnan(value)) return 0;
  return static_cast<int>(std::min(std::max(value, -2147483648.0), 2147483647.0));
}

}  // namespace taco4j_shim::internal

inline int __float_as_int(float value) { return taco4j_shim::internal::bit_cast<int>(value); }
inline unsigned __float_as_uint(float value) { return taco4j_shim::internal::bit_cast<unsigned>(value); }
inline float __int_as_float(int value) { return taco4j_shim::internal::bit_cast<float>(value); }
inline float __uint_as_float(unsigned value) { return taco4j_shim::internal::bit_cast<float>(value); }
inline long long __double_as_longlong(double value) {
  return taco4j_shim::internal::bit_cast<long long>(value);
}
inline double __longlong_as_double(long long value) {
  return taco4j_shim::internal::bit_cast<double>(value);
}
inline int __float2int_rn(float value) { return taco4j_shim::internal::to_int(std::nearbyint(value)); }
inline int __float2int_rz(float value) { return taco4j_shim::internal::to_int(std::trunc(value)); }
inline int __float2int_rd(float value) { return taco4j_shim::internal::to_int(std::floor(value)); }
inline int __float2int_ru(float value) { return taco4j_shim::internal::to_int(std::ceil(value)); }
inline int __double2int_rn(double value) { return taco4j_shim::internal::to_int(std::nearbyint(value)); }
inline int __double2int_rz(double value) { return taco4j_shim::internal::to_int(std::trunc(value)); }
inline float __int2float_rn(int value) { return static_cast<float>(value); }
inline float __double2float_rn(double value) { return static_cast<float>(value); }

// Rounded on their own: never contracted into fma.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return ::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return ::fma(a, b, c); }

inline float rsqrtf(float value) { return 1.0f / sqrtf(value); }
inline double rsqrt(double value) { return 1.0 / ::sqrt(value); }
inline float rsqrt(float value) { return rsqrtf(value); }
inline float __frsqrt_rn(float value) { return static_cast<float>(1.0 / ::sqrt(static_cast<double>(value))); }
inline float __expf(float value) { return expf(value); }
inline float __logf(float value) { return logf(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float value) { return value >= 0.0f ? fminf(value, 1.0f) : 0.0f; }

// The overloads of CUDA, and no others: what is ambiguous for nvcc is so here.
#define TACO4J_SHIM_MIN_MAX(type)                                              \
  constexpr type min(type a, type b) { return b < a ? b : a; }                 \
  constexpr type max(type a, type b) { return a < b ? b : a; }
TACO4J_SHIM_MIN_MAX(int)
TACO4J_SHIM_MIN_MAX(unsigned)
TACO4J_SHIM_MIN_MAX(long)
TACO4J_SHIM_MIN_MAX(unsigned long)
TACO4J_SHIM_MIN_MAX(long long)
TACO4J_SHIM_MIN_MAX(unsigned long long)
#undef TACO4J_SHIM_MIN_MAX
constexpr unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
constexpr unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
constexpr unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
constexpr unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return ::fmin(a, b); }
inline double max(double a, double b) { return ::fmax(a, b); }
inline double min(float a, double b) { return ::fmin(a, b); }
inline double min(double a, float b) { return ::fmin(a, b); }
inline double max(float a, double b) { return ::fmax(a, b); }
inline double max(double a, float b) { return ::fmax(a, b); }
