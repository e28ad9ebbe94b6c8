// A libcuda.so.1 for tests on machines without a GPU: the functions of the CUDA driver API that the
// Java side uses, on memory of the host, with the kernels run by cuda_shim.h.
//
// Work is queued in streams and done as late as it may be: when a stream, an event or the context is
// waited for, or memory is freed. So a caller that reads too early, or writes into memory whose copy
// has not happened, finds out. What a GPU rejects is rejected: no current context, ranges outside
// allocations, launches beyond the limits of the compute capability. A kernel that writes beside an
// allocation, or that the shim finds wrong, fails its device until its context is released, as
// on a GPU, and says why on stderr. New memory is 0xff bytes.
//
// What the images of modules contain is never looked at: kernels are found by name.
//
// Settings, each by the environment or by taco4j_fake_set("devices", 2):
//   TACO4J_FAKE_CUDA_DEVICES          how many there are (1); 0: cuInit returns NO_DEVICE
//   TACO4J_FAKE_CUDA_INIT             what cuInit returns (0)
//   TACO4J_FAKE_CUDA_DRIVER           cuDriverGetVersion (13000)
//   TACO4J_FAKE_CUDA_MEMORY           bytes of each device (4 GiB)
//   TACO4J_FAKE_CUDA_CAPABILITY       70, 75, 80, 86, 89 or 90 (75)
//   TACO4J_FAKE_CUDA_MULTIPROCESSORS  how many (those of a T4, A100, A10, L4, H100)
//   TACO4J_FAKE_CUDA_FAIL_LAUNCH      the launch from now on, 1 for the next, that fails (0: none)
#include <cstdint>
#include <deque>
#include <set>

#include "fake_driver.h"
#include "fake_kernels.h"

namespace {

// What is in cuda.h: the ABI of the driver.
using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;

constexpr CUresult kSuccess = 0;
constexpr CUresult kInvalidValue = 1;
constexpr CUresult kOutOfMemory = 2;
constexpr CUresult kNotInitialized = 3;
constexpr CUresult kNoDevice = 100;
constexpr CUresult kInvalidDevice = 101;
constexpr CUresult kInvalidContext = 201;
constexpr CUresult kInvalidHandle = 400;
constexpr CUresult kNotFound = 500;
constexpr CUresult kIllegalAddress = 700;
constexpr CUresult kLaunchFailed = 719;

struct ErrorName {
  CUresult code;
  const char* name;
  const char* text;
};
const ErrorName kErrors[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

// What differs between GPUs.
struct Model {
  int capability;
  int multiprocessors;
  int shared_per_block_optin;
  int shared_per_multiprocessor;
  int threads_per_multiprocessor;
  int clock_khz;
  int memory_clock_khz;
  int bus_bits;
  int l2_bytes;
};
const Model kModels[] = {
    {70, 80, 98304, 98304, 2048, 1530000, 877000, 4096, 6 << 20},           // V100: too old
    {75, 40, 65536, 65536, 1024, 1590000, 5001000, 256, 4 << 20},           // T4
    {80, 108, 166912, 167936, 2048, 1410000, 1215000, 5120, 40 << 20},      // A100
    {86, 72, 101376, 102400, 1536, 1695000, 6251000, 384, 6 << 20},         // A10
    {89, 58, 101376, 102400, 1536, 2040000, 6251000, 192, 48 << 20},        // L4
    {90, 132, 232448, 233472, 2048, 1980000, 2619000, 5120, 50 << 20},      // H100
};

struct Settings {
  long long devices = 1;
  long long init = 0;
  long long driver = 13000;
  long long memory = 4ll << 30;
  long long capability = 75;
  long long multiprocessors = 0;
  long long fail_launch = 0;
  long long kernel_timeout = 0;

  Settings() {
    for (const char* name :
         {"devices", "init", "driver", "memory", "capability", "multiprocessors", "fail_launch",
          "kernel_timeout"}) {
      std::string variable = std::string("TACO4J_FAKE_CUDA_") + name;
      for (char& c : variable) c = static_cast<char>(std::toupper(c));
      const char* value = std::getenv(variable.c_str());
      if (value != nullptr && *value != 0) *find(name) = std::atoll(value);
    }
  }

  long long* find(const std::string& name) {
    if (name == "devices") return &devices;
    if (name == "init") return &init;
    if (name == "driver") return &driver;
    if (name == "memory") return &memory;
    if (name == "capability") return &capability;
    if (name == "multiprocessors") return &multiprocessors;
    if (name == "fail_launch") return &fail_launch;
    if (name == "kernel_timeout") return &kernel_timeout;
    return nullptr;
  }

  const Model& model() const {
    for (const Model& model : kModels) {
      if (model.capability == capability) return model;
    }
    return kModels[1];
  }
};

// A primary context and its device.
struct Context {
  int ordinal;
  int references = 0;
  long long used = 0;
  CUresult error = kSuccess;  // of work that failed; all that follows fails
};

// The work of a stream, in order.
struct Stream {
  Context* context;
  std::deque<std::function<CUresult()>> work;
  long long queued = 0;
  long long done = 0;
};

struct Event {
  Stream* stream = nullptr;  // nullptr: not recorded, or what it waits for is done
  long long number = 0;      // of the stream's work that it waits for
};

struct Function {
  const taco4j_fake::Kernel* kernel;
  std::string name;
  // Without asking 48 KiB less the kernel's static shared memory, which is not known here.
  long long max_dynamic_shared = 47 << 10;
};

struct Module {
  Context* context;
  std::map<std::string, Function> functions;
  std::string image;  // what nvcc has made of its file; empty where there is no nvcc
};

struct Allocation {
  size_t bytes;
  Context* context;  // nullptr: pinned memory of the host
};

// Around each allocation of a device, not to be written.
constexpr size_t kFence = 256;
constexpr unsigned char kFenceByte = 0xa5;

// The context that is current in this thread. Not all zeros, so that it is not among the static
// shared memory that cuda_shim.h overwrites.
Context* const kNone = reinterpret_cast<Context*>(1);
thread_local Context* current_context = reinterpret_cast<Context*>(uintptr_t{1});

struct Driver {
  std::recursive_mutex mutex;
  Settings settings;
  bool initialized = false;
  std::deque<Context> contexts;  // one a device
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::set<Module*> modules;
  std::map<uintptr_t, Allocation> allocations;  // by their first byte

  // The allocation that has all of these bytes, or nullptr.
  const Allocation* find(uintptr_t from, size_t bytes) const {
    auto after = allocations.upper_bound(from);
    if (after == allocations.begin()) return nullptr;
    --after;
    const size_t offset = from - after->first;
    if (offset > after->second.bytes || bytes > after->second.bytes - offset) return nullptr;
    return &after->second;
  }

  bool is_device(CUdeviceptr from, size_t bytes) const {
    const Allocation* allocation = find(from, bytes);
    return allocation != nullptr && allocation->context != nullptr;
  }

  bool fences_hold(const Context* context) const {
    bool hold = true;
    for (const auto& [address, allocation] : allocations) {
      if (allocation.context == context) hold = hold && fence_holds(address, allocation.bytes);
    }
    return hold;
  }

  static bool fence_holds(uintptr_t address, size_t bytes) {
    const unsigned char* data = reinterpret_cast<const unsigned char*>(address);
    unsigned char wrong = 0;
    for (size_t i = 1; i <= kFence; i++) {
      wrong |= (data[-static_cast<ptrdiff_t>(i)] ^ kFenceByte) | (data[bytes + i - 1] ^ kFenceByte);
    }
    return wrong == 0;
  }

  // Does the work of a stream up to and with that of this number.
  CUresult drain(Stream* stream, long long number) {
    while (stream->done < number && !stream->work.empty()) {
      auto work = std::move(stream->work.front());
      stream->work.pop_front();
      stream->done++;
      Context* context = stream->context;
      if (context->error != kSuccess) continue;
      const CUresult code = work();
      if (code != kSuccess && context->error == kSuccess) context->error = code;
    }
    return stream->context->error;
  }

  CUresult drain(Stream* stream) { return drain(stream, stream->queued); }

  CUresult drain_all(Context* context) {
    for (Stream* stream : streams) {
      if (stream->context == context) drain(stream);
    }
    return context->error;
  }

  // Of the default stream, when all others are done; at once.
  CUresult enqueue(Stream* stream, std::function<CUresult()> work) {
    Context* context = current_context;
    if (stream == nullptr) {
      if (drain_all(context) == kSuccess) context->error = work();
      return context->error;
    }
    if (stream->context->error != kSuccess) return stream->context->error;
    stream->work.push_back(std::move(work));
    stream->queued++;
    return kSuccess;
  }
};

// Never destroyed: threads of the JVM may call until the end.
Driver& driver() {
  static Driver* driver = new Driver();
  return *driver;
}

// What a call of the API begins with.
class Call {
 public:
  explicit Call(bool needs_context = true) : lock_(driver().mutex) {
    if (!driver().initialized) {
      code_ = kNotInitialized;
    } else if (needs_context && (current_context == kNone || current_context->references == 0)) {
      code_ = kInvalidContext;
    } else if (needs_context) {
      code_ = current_context->error;
    }
  }

  explicit operator bool() const { return code_ != kSuccess; }
  CUresult code() const { return code_; }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  CUresult code_ = kSuccess;
};

bool is_stream(void* stream) {
  return stream == nullptr || driver().streams.count(static_cast<Stream*>(stream)) > 0;
}

void complain(const std::string& what, const std::string& why) {
  std::fprintf(stderr, "taco4j fake CUDA: %s: %s\n", what.c_str(), why.c_str());
}

// A copy whose ends were right when it was queued, and must still be when it is done.
CUresult copy(uintptr_t to, bool to_device, uintptr_t from, bool from_device, size_t bytes,
              Stream* stream, bool wait) {
  Driver& cuda = driver();
  const bool to_pinned = cuda.find(to, bytes) != nullptr;
  const bool from_pinned = cuda.find(from, bytes) != nullptr;
  if ((to_device && !cuda.is_device(to, bytes)) || (from_device && !cuda.is_device(from, bytes)) ||
      to == 0 || from == 0) {
    return bytes == 0 ? kSuccess : kInvalidValue;
  }
  const CUresult code = cuda.enqueue(stream, [=, &cuda]() -> CUresult {
    if ((to_device && !cuda.is_device(to, bytes)) || (from_device && !cuda.is_device(from, bytes)) ||
        (to_pinned && cuda.find(to, bytes) == nullptr) ||
        (from_pinned && cuda.find(from, bytes) == nullptr)) {
      complain("copy", "of memory that has been freed before it was done");
      return kIllegalAddress;
    }
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    return kSuccess;
  });
  // Memory that is not pinned cannot be copied behind the caller's back.
  if (code == kSuccess && stream != nullptr && (wait || !to_pinned || !from_pinned)) {
    return cuda.drain(stream);
  }
  return code;
}

template <typename T>
CUresult set(CUdeviceptr to, T value, size_t count, Stream* stream) {
  Driver& cuda = driver();
  if (!cuda.is_device(to, count * sizeof(T)) || to % sizeof(T) != 0) return kInvalidValue;
  return cuda.enqueue(stream, [=, &cuda]() -> CUresult {
    if (!cuda.is_device(to, count * sizeof(T))) {
      complain("memset", "of memory that has been freed before it was done");
      return kIllegalAddress;
    }
    T* values = reinterpret_cast<T*>(to);
    std::fill(values, values + count, value);
    return kSuccess;
  });
}

CUresult free_memory(CUdeviceptr address) {
  Driver& cuda = driver();
  if (cuda.allocations.count(address) == 0) return kInvalidValue;
  Context* context = cuda.allocations[address].context;
  if (context == nullptr) return kInvalidValue;
  cuda.drain_all(context);
  const auto found = cuda.allocations.find(address);
  if (found == cuda.allocations.end()) return kInvalidValue;  // freed by what was queued
  if (!Driver::fence_holds(address, found->second.bytes)) {
    complain("cuMemFree", "something has been written beside the allocation");
    context->error = kIllegalAddress;
  }
  context->used -= static_cast<long long>(found->second.bytes);
  std::free(reinterpret_cast<unsigned char*>(address) - kFence);
  cuda.allocations.erase(found);
  return context->error;
}

// CUDA_MEMCPY2D.
struct Copy2d {
  size_t source_x, source_y;
  int source_type;  // 1: host, 2: device, 4: by the address
  const void* source_host;
  CUdeviceptr source_device;
  void* source_array;
  size_t source_pitch;
  size_t target_x, target_y;
  int target_type;
  void* target_host;
  CUdeviceptr target_device;
  void* target_array;
  size_t target_pitch;
  size_t width, height;
};

CUresult copy_2d(const Copy2d* what, Stream* stream, bool wait) {
  const Copy2d c = *what;
  if (c.source_type == 3 || c.target_type == 3) return 801;
  if (c.source_type < 1 || c.source_type > 4 || c.target_type < 1 || c.target_type > 4 ||
      (c.source_pitch != 0 && c.source_pitch < c.source_x + c.width) ||
      (c.target_pitch != 0 && c.target_pitch < c.target_x + c.width)) {
    return kInvalidValue;
  }
  const uintptr_t from = (c.source_type == 1 ? reinterpret_cast<uintptr_t>(c.source_host)
                                             : static_cast<uintptr_t>(c.source_device)) +
                         c.source_y * c.source_pitch + c.source_x;
  const uintptr_t to = (c.target_type == 1 ? reinterpret_cast<uintptr_t>(c.target_host)
                                           : static_cast<uintptr_t>(c.target_device)) +
                       c.target_y * c.target_pitch + c.target_x;
  for (size_t row = 0; row < c.height; row++) {
    const CUresult code = copy(to + row * c.target_pitch, c.target_type == 2,
                               from + row * c.source_pitch, c.source_type == 2, c.width, stream, wait);
    if (code != kSuccess) return code;
  }
  return kSuccess;
}

}  // namespace

// ---- What tests ask for -------------------------------------------------------------------------

// 0, or 1 where there is no such setting.
TACO4J_FAKE_API int taco4j_fake_set(const char* name, long long value) {
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  long long* setting = driver().settings.find(name);
  if (setting == nullptr) return 1;
  *setting = value;
  // What cuInit answers may be another thing now.
  if (setting == &driver().settings.devices || setting == &driver().settings.init) {
    driver().initialized = false;
  }
  return 0;
}

// The order in which threads of blocks run: that of cuda_shim.h. 0, or 1 where it is none.
TACO4J_FAKE_API int taco4j_fake_set_order(const char* order) {
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  try {
    taco4j_shim::set_order(std::string(order));
    return 0;
  } catch (const taco4j_shim::LaunchError&) {
    return 1;
  }
}

// Memory of all devices that is allocated, without that of the host.
TACO4J_FAKE_API long long taco4j_fake_live_bytes() {
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  long long bytes = 0;
  for (const auto& [address, allocation] : driver().allocations) {
    if (allocation.context != nullptr) bytes += static_cast<long long>(allocation.bytes);
  }
  return bytes;
}

// Allocations of devices and of pinned memory, streams, events, modules and retained contexts that
// are still there.
TACO4J_FAKE_API long long taco4j_fake_live_allocations() {
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  const Driver& cuda = driver();
  size_t live = cuda.allocations.size() + cuda.streams.size() + cuda.events.size() + cuda.modules.size();
  for (const Context& context : cuda.contexts) live += static_cast<size_t>(context.references);
  return static_cast<long long>(live);
}

// Throws away all of these, work that is queued, and what failed.
TACO4J_FAKE_API void taco4j_fake_reset() {
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  Driver& cuda = driver();
  for (Stream* stream : cuda.streams) delete stream;
  for (Event* event : cuda.events) delete event;
  for (Module* module : cuda.modules) delete module;
  for (const auto& [address, allocation] : cuda.allocations) {
    const size_t fence = allocation.context == nullptr ? 0 : kFence;
    std::free(reinterpret_cast<unsigned char*>(address) - fence);
  }
  cuda.streams.clear();
  cuda.events.clear();
  cuda.modules.clear();
  cuda.allocations.clear();
  for (Context& context : cuda.contexts) {
    context.references = 0;
    context.used = 0;
    context.error = kSuccess;
  }
}

TACO4J_FAKE_API int taco4j_fake_enqueue(void* stream, int (*run)(void* data),
                                        void (*drop)(void* data), void* data) {
  const std::shared_ptr<void> owned(data, drop);
  Call call;
  if (call) return call.code();
  if (!is_stream(stream)) return kInvalidHandle;
  return driver().enqueue(static_cast<Stream*>(stream), [run, owned] { return run(owned.get()); });
}

TACO4J_FAKE_API int taco4j_fake_is_device(const void* pointer, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  return driver().is_device(reinterpret_cast<uintptr_t>(pointer), bytes);
}

// ---- Devices and contexts -----------------------------------------------------------------------

TACO4J_FAKE_API CUresult cuInit(unsigned flags) {
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  Driver& cuda = driver();
  if (flags != 0) return kInvalidValue;
  if (cuda.settings.init != 0) return static_cast<CUresult>(cuda.settings.init);
  if (cuda.settings.devices <= 0) return kNoDevice;
  while (static_cast<long long>(cuda.contexts.size()) < cuda.settings.devices) {
    cuda.contexts.push_back({static_cast<int>(cuda.contexts.size())});
  }
  cuda.initialized = true;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr) return kInvalidValue;
  const std::lock_guard<std::recursive_mutex> lock(driver().mutex);
  *version = static_cast<int>(driver().settings.driver);
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuDeviceGetCount(int* count) {
  Call call(false);
  if (call) return call.code();
  if (count == nullptr) return kInvalidValue;
  *count = static_cast<int>(driver().settings.devices);
  return kSuccess;
}

static bool is_device(CUdevice device) {
  return device >= 0 && device < driver().settings.devices;
}

TACO4J_FAKE_API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  Call call(false);
  if (call) return call.code();
  if (device == nullptr) return kInvalidValue;
  if (!is_device(ordinal)) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuDeviceGetName(char* name, int bytes, CUdevice device) {
  Call call(false);
  if (call) return call.code();
  if (!is_device(device)) return kInvalidDevice;
  if (name == nullptr || bytes <= 0) return kInvalidValue;
  std::snprintf(name, static_cast<size_t>(bytes), "taco4j fake GPU");
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuDeviceGetUuid_v2(unsigned char* uuid, CUdevice device) {
  Call call(false);
  if (call) return call.code();
  if (!is_device(device)) return kInvalidDevice;
  if (uuid == nullptr) return kInvalidValue;
  for (int i = 0; i < 16; i++) uuid[i] = static_cast<unsigned char>(i + device);
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuDeviceGetUuid(unsigned char* uuid, CUdevice device) {
  return cuDeviceGetUuid_v2(uuid, device);
}

TACO4J_FAKE_API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  Call call(false);
  if (call) return call.code();
  if (!is_device(device)) return kInvalidDevice;
  if (bytes == nullptr) return kInvalidValue;
  *bytes = static_cast<size_t>(driver().settings.memory);
  return kSuccess;
}

static int multiprocessors() {
  const Settings& settings = driver().settings;
  return settings.multiprocessors > 0 ? static_cast<int>(settings.multiprocessors)
                                      : settings.model().multiprocessors;
}

TACO4J_FAKE_API CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  Call call(false);
  if (call) return call.code();
  if (!is_device(device)) return kInvalidDevice;
  if (value == nullptr) return kInvalidValue;
  const Model& model = driver().settings.model();
  switch (attribute) {
    case 1: *value = 1024; break;             // MAX_THREADS_PER_BLOCK
    case 2: case 3: *value = 1024; break;     // MAX_BLOCK_DIM_X, Y
    case 4: *value = 64; break;               // MAX_BLOCK_DIM_Z
    case 5: *value = 2147483647; break;       // MAX_GRID_DIM_X
    case 6: case 7: *value = 65535; break;    // MAX_GRID_DIM_Y, Z
    case 8: *value = 49152; break;            // MAX_SHARED_MEMORY_PER_BLOCK
    case 9: *value = 65536; break;            // TOTAL_CONSTANT_MEMORY
    case 10: *value = 32; break;              // WARP_SIZE
    case 12: case 82: *value = 65536; break;  // MAX_REGISTERS_PER_BLOCK, _PER_MULTIPROCESSOR
    case 13: *value = model.clock_khz; break;
    case 15: *value = 1; break;               // GPU_OVERLAP
    case 16: *value = multiprocessors(); break;
    case 17: *value = static_cast<int>(driver().settings.kernel_timeout); break;  // KERNEL_EXEC_TIMEOUT
    case 18: case 20: *value = 0; break;      // INTEGRATED, COMPUTE_MODE
    case 19: case 31: case 41: *value = 1; break;  // CAN_MAP_HOST_MEMORY, CONCURRENT_KERNELS, UVA
    case 32: *value = 1; break;               // ECC_ENABLED
    case 36: *value = model.memory_clock_khz; break;
    case 37: *value = model.bus_bits; break;
    case 38: *value = model.l2_bytes; break;
    case 39: *value = model.threads_per_multiprocessor; break;
    case 40: *value = 2; break;               // ASYNC_ENGINE_COUNT
    case 75: *value = model.capability / 10; break;
    case 76: *value = model.capability % 10; break;
    case 81: *value = model.shared_per_multiprocessor; break;
    case 97: *value = model.shared_per_block_optin; break;
    case 111: *value = model.capability >= 80 ? 1024 : 0; break;  // RESERVED_SHARED_MEMORY_PER_BLOCK
    case 115: *value = 1; break;              // MEMORY_POOLS_SUPPORTED
    default: return kInvalidValue;
  }
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuDevicePrimaryCtxRetain(void** context, CUdevice device) {
  Call call(false);
  if (call) return call.code();
  if (context == nullptr) return kInvalidValue;
  if (!is_device(device)) return kInvalidDevice;
  Context& primary = driver().contexts[device];
  primary.references++;
  *context = &primary;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  Call call(false);
  if (call) return call.code();
  if (!is_device(device)) return kInvalidDevice;
  Driver& cuda = driver();
  Context& primary = cuda.contexts[device];
  if (primary.references == 0) return kInvalidContext;
  if (--primary.references > 0) return kSuccess;
  // The context goes, and with it what it had but memory, whose leaks tests look for.
  cuda.drain_all(&primary);
  primary.error = kSuccess;
  return kSuccess;
}

// How threads wait is nothing to a driver that has none.
TACO4J_FAKE_API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice, unsigned) { return kSuccess; }
TACO4J_FAKE_API CUresult cuDevicePrimaryCtxSetFlags(CUdevice, unsigned) { return kSuccess; }

TACO4J_FAKE_API CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  return cuDevicePrimaryCtxRelease_v2(device);
}

TACO4J_FAKE_API CUresult cuCtxSetCurrent(void* context) {
  Call call(false);
  if (call) return call.code();
  if (context == nullptr) {
    current_context = kNone;
    return kSuccess;
  }
  for (Context& primary : driver().contexts) {
    if (&primary == context && primary.references > 0) {
      current_context = &primary;
      return kSuccess;
    }
  }
  return kInvalidContext;
}

TACO4J_FAKE_API CUresult cuCtxGetCurrent(void** context) {
  Call call(false);
  if (call) return call.code();
  if (context == nullptr) return kInvalidValue;
  *context = current_context == kNone ? nullptr : current_context;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuCtxGetDevice(CUdevice* device) {
  Call call;
  if (call) return call.code();
  if (device == nullptr) return kInvalidValue;
  *device = current_context->ordinal;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuCtxSynchronize() {
  Call call;
  if (call) return call.code();
  return driver().drain_all(current_context);
}

// ---- Modules and kernels ------------------------------------------------------------------------

// What nvcc has compiled: a header of 16 bytes, whose last 8 are the length of what follows. Empty
// for the modules that stand in for it.
static std::string fatbin(const void* image) {
  constexpr uint32_t kMagic = 0xba55ed50;
  uint32_t magic;
  std::memcpy(&magic, image, sizeof magic);
  if (magic != kMagic) return "";
  uint64_t size;
  std::memcpy(&size, static_cast<const char*>(image) + 8, sizeof size);
  return std::string(static_cast<const char*>(image), 16 + size);
}

TACO4J_FAKE_API CUresult cuModuleLoadData(void** module, const void* image) {
  Call call;
  if (call) return call.code();
  if (module == nullptr || image == nullptr) return kInvalidValue;
  Module* loaded = new Module{current_context, {}, fatbin(image)};
  driver().modules.insert(loaded);
  *module = loaded;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuModuleLoadDataEx(void** module, const void* image, unsigned, void*,
                                            void**) {
  return cuModuleLoadData(module, image);
}

TACO4J_FAKE_API CUresult cuModuleLoadFatBinary(void** module, const void* image) {
  return cuModuleLoadData(module, image);
}

TACO4J_FAKE_API CUresult cuModuleUnload(void* module) {
  Call call;
  if (call.code() != kSuccess && call.code() < kIllegalAddress) return call.code();
  Module* loaded = static_cast<Module*>(module);
  if (driver().modules.erase(loaded) == 0) return kInvalidHandle;
  driver().drain_all(loaded->context);
  delete loaded;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuModuleGetFunction(void** function, void* module, const char* name) {
  Call call;
  if (call) return call.code();
  if (function == nullptr || name == nullptr) return kInvalidValue;
  Module* loaded = static_cast<Module*>(module);
  if (driver().modules.count(loaded) == 0) return kInvalidHandle;
  const auto& kernels = taco4j_fake::kernels();
  const auto kernel = kernels.find(name);
  if (kernel == kernels.end()) return kNotFound;
  // The names of a file's kernels stand in its module, each with a zero at its end.
  if (!loaded->image.empty() &&
      loaded->image.find(std::string(name) + '\0') == std::string::npos) {
    return kNotFound;
  }
  Function& made = loaded->functions[name];
  made.kernel = &kernel->second;
  made.name = name;
  *function = &made;
  return kSuccess;
}

static Function* find_function(void* function) {
  for (Module* module : driver().modules) {
    for (auto& [name, candidate] : module->functions) {
      if (&candidate == function && module->context == current_context) return &candidate;
    }
  }
  return nullptr;
}

TACO4J_FAKE_API CUresult cuFuncSetAttribute(void* function, int attribute, int value) {
  Call call;
  if (call) return call.code();
  Function* found = find_function(function);
  if (found == nullptr) return kInvalidHandle;
  if (attribute == 9) return kSuccess;  // PREFERRED_SHARED_MEMORY_CARVEOUT
  if (attribute != 8 || value < 0 || value > driver().settings.model().shared_per_block_optin) {
    return kInvalidValue;
  }
  found->max_dynamic_shared = value;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuFuncGetAttribute(int* value, int attribute, void* function) {
  Call call;
  if (call) return call.code();
  if (value == nullptr) return kInvalidValue;
  Function* found = find_function(function);
  if (found == nullptr) return kInvalidHandle;
  switch (attribute) {
    case 0: *value = 1024; break;  // MAX_THREADS_PER_BLOCK
    case 1: case 2: case 3: *value = 0; break;  // SHARED_, CONST_, LOCAL_SIZE_BYTES: not known here
    case 4: *value = 32; break;  // NUM_REGS
    case 5: case 6: *value = driver().settings.model().capability; break;
    case 8: *value = static_cast<int>(found->max_dynamic_shared); break;
    case 9: *value = -1; break;
    default: return kInvalidValue;
  }
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function,
                                                                     int block_size,
                                                                     size_t dynamic_shared) {
  Call call;
  if (call) return call.code();
  if (blocks == nullptr || block_size <= 0) return kInvalidValue;
  if (find_function(function) == nullptr) return kInvalidHandle;
  const Model& model = driver().settings.model();
  int most = model.capability == 75 ? 16 : 32;
  most = std::min(most, model.threads_per_multiprocessor / block_size);
  if (dynamic_shared > 0) {
    const size_t fit = static_cast<size_t>(model.shared_per_multiprocessor) / dynamic_shared;
    most = static_cast<int>(std::min<size_t>(static_cast<size_t>(most), fit));
  }
  *blocks = most;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y,
                                        unsigned grid_z, unsigned block_x, unsigned block_y,
                                        unsigned block_z, unsigned shared_bytes, void* stream,
                                        void** parameters, void** extra) {
  Call call;
  if (call) return call.code();
  Driver& cuda = driver();
  Function* found = find_function(function);
  if (found == nullptr || !is_stream(stream)) return kInvalidHandle;
  if (extra != nullptr) return 801;
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_x > 0x7fffffffu || grid_y > 65535 ||
      grid_z > 65535 || block_x == 0 || block_y == 0 || block_z == 0 || block_x > 1024 ||
      block_y > 1024 || block_z > 64 || 1ull * block_x * block_y * block_z > 1024 ||
      static_cast<long long>(shared_bytes) > found->max_dynamic_shared) {
    return kInvalidValue;
  }
  const std::string name = found->name;
  Context* context = current_context;
  taco4j_fake::Launch launch =
      (*found->kernel)(parameters, dim3(grid_x, grid_y, grid_z), dim3(block_x, block_y, block_z),
                       shared_bytes);
  const bool fails = cuda.settings.fail_launch > 0 && --cuda.settings.fail_launch == 0;
  return cuda.enqueue(static_cast<Stream*>(stream), [=, &cuda]() -> CUresult {
    if (fails) return kLaunchFailed;
    try {
      launch();
    } catch (const taco4j_shim::LaunchError& error) {
      complain(name, error.what());
      return kLaunchFailed;
    }
    if (!cuda.fences_hold(context)) {
      complain(name, "writes beside an allocation");
      return kIllegalAddress;
    }
    return kSuccess;
  });
}

// ---- Memory -------------------------------------------------------------------------------------

TACO4J_FAKE_API CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  Call call;
  if (call) return call.code();
  if (address == nullptr || bytes == 0) return kInvalidValue;
  Driver& cuda = driver();
  Context* context = current_context;
  const long long free = cuda.settings.memory - context->used;
  void* data = nullptr;
  if (free < 0 || bytes > static_cast<size_t>(free) ||
      posix_memalign(&data, kFence, bytes + 2 * kFence) != 0) {
    return kOutOfMemory;
  }
  unsigned char* first = static_cast<unsigned char*>(data) + kFence;
  std::memset(data, kFenceByte, kFence);
  std::memset(first, taco4j_shim::kPoison, bytes);
  std::memset(first + bytes, kFenceByte, kFence);
  context->used += static_cast<long long>(bytes);
  *address = reinterpret_cast<uintptr_t>(first);
  cuda.allocations[*address] = {bytes, context};
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuMemFree_v2(CUdeviceptr address) {
  Call call;
  // Memory can be freed after a failure, so that tests can tell leaks.
  if (call.code() != kSuccess && call.code() < kIllegalAddress) return call.code();
  return address == 0 ? kSuccess : free_memory(address);
}

TACO4J_FAKE_API CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, void* stream) {
  Call call;
  if (call) return call.code();
  if (!is_stream(stream)) return kInvalidHandle;
  return cuMemAlloc_v2(address, bytes);
}

TACO4J_FAKE_API CUresult cuMemFreeAsync(CUdeviceptr address, void* stream) {
  Call call;
  if (call.code() != kSuccess && call.code() < kIllegalAddress) return call.code();
  if (!is_stream(stream)) return kInvalidHandle;
  if (!driver().is_device(address, 0)) return kInvalidValue;
  if (current_context->error != kSuccess) return free_memory(address);
  return driver().enqueue(static_cast<Stream*>(stream), [=] {
    // Of its stream only: what others still do with it is the caller's mistake.
    Driver& cuda = driver();
    const auto found = cuda.allocations.find(address);
    if (found == cuda.allocations.end()) return kInvalidValue;
    found->second.context->used -= static_cast<long long>(found->second.bytes);
    std::free(reinterpret_cast<unsigned char*>(address) - kFence);
    cuda.allocations.erase(found);
    return kSuccess;
  });
}

TACO4J_FAKE_API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  Call call;
  if (call) return call.code();
  if (free == nullptr || total == nullptr) return kInvalidValue;
  const long long memory = driver().settings.memory;
  *total = static_cast<size_t>(memory);
  *free = static_cast<size_t>(std::max(0ll, memory - current_context->used));
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  Call call;
  if (call) return call.code();
  if (pointer == nullptr || bytes == 0) return kInvalidValue;
  void* data = nullptr;
  if (posix_memalign(&data, 4096, bytes) != 0) return kOutOfMemory;
  std::memset(data, taco4j_shim::kPoison, bytes);
  driver().allocations[reinterpret_cast<uintptr_t>(data)] = {bytes, nullptr};
  *pointer = data;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuMemAllocHost_v2(void** pointer, size_t bytes) {
  return cuMemHostAlloc(pointer, bytes, 0);
}

TACO4J_FAKE_API CUresult cuMemFreeHost(void* pointer) {
  Call call;
  if (call.code() != kSuccess && call.code() < kIllegalAddress) return call.code();
  Driver& cuda = driver();
  const auto found = cuda.allocations.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == cuda.allocations.end() || found->second.context != nullptr) return kInvalidValue;
  cuda.drain_all(current_context);
  cuda.allocations.erase(found);
  std::free(pointer);
  return kSuccess;
}

#define TACO4J_COPY(name, To, to_device, From, from_device)                                      \
  TACO4J_FAKE_API CUresult name##Async_v2(To to, From from, size_t bytes, void* stream) {        \
    Call call;                                                                                   \
    if (call) return call.code();                                                                \
    if (!is_stream(stream)) return kInvalidHandle;                                               \
    return copy((uintptr_t)to, to_device, (uintptr_t)from, from_device, bytes,                   \
                static_cast<Stream*>(stream), false);                                            \
  }                                                                                              \
  TACO4J_FAKE_API CUresult name##_v2(To to, From from, size_t bytes) {                           \
    Call call;                                                                                   \
    if (call) return call.code();                                                                \
    return copy((uintptr_t)to, to_device, (uintptr_t)from, from_device, bytes, nullptr, true);   \
  }
TACO4J_COPY(cuMemcpyHtoD, CUdeviceptr, true, const void*, false)
TACO4J_COPY(cuMemcpyDtoH, void*, false, CUdeviceptr, true)
TACO4J_COPY(cuMemcpyDtoD, CUdeviceptr, true, CUdeviceptr, true)

TACO4J_FAKE_API CUresult cuMemcpy2DAsync_v2(const Copy2d* what, void* stream) {
  Call call;
  if (call) return call.code();
  if (what == nullptr) return kInvalidValue;
  if (!is_stream(stream)) return kInvalidHandle;
  return copy_2d(what, static_cast<Stream*>(stream), false);
}

TACO4J_FAKE_API CUresult cuMemcpy2D_v2(const Copy2d* what) {
  Call call;
  if (call) return call.code();
  if (what == nullptr) return kInvalidValue;
  return copy_2d(what, nullptr, true);
}

#define TACO4J_SET(name, T)                                                             \
  TACO4J_FAKE_API CUresult name##Async(CUdeviceptr to, T value, size_t count, void* stream) { \
    Call call;                                                                          \
    if (call) return call.code();                                                       \
    if (!is_stream(stream)) return kInvalidHandle;                                      \
    return set<T>(to, value, count, static_cast<Stream*>(stream));                      \
  }                                                                                     \
  TACO4J_FAKE_API CUresult name##_v2(CUdeviceptr to, T value, size_t count) {           \
    Call call;                                                                          \
    if (call) return call.code();                                                       \
    return set<T>(to, value, count, nullptr);                                           \
  }
TACO4J_SET(cuMemsetD8, unsigned char)
TACO4J_SET(cuMemsetD16, unsigned short)
TACO4J_SET(cuMemsetD32, unsigned)

// ---- Streams and events -------------------------------------------------------------------------

TACO4J_FAKE_API CUresult cuStreamCreate(void** stream, unsigned) {
  Call call;
  if (call) return call.code();
  if (stream == nullptr) return kInvalidValue;
  Stream* made = new Stream{current_context, {}, 0, 0};
  driver().streams.insert(made);
  *stream = made;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuStreamCreateWithPriority(void** stream, unsigned flags, int) {
  return cuStreamCreate(stream, flags);
}

TACO4J_FAKE_API CUresult cuStreamDestroy_v2(void* stream) {
  Call call;
  if (call.code() != kSuccess && call.code() < kIllegalAddress) return call.code();
  Stream* destroyed = static_cast<Stream*>(stream);
  if (driver().streams.count(destroyed) == 0) return kInvalidHandle;
  const CUresult code = driver().drain(destroyed);
  driver().streams.erase(destroyed);
  for (Event* event : driver().events) {
    if (event->stream == destroyed) event->stream = nullptr;
  }
  delete destroyed;
  return code;
}

TACO4J_FAKE_API CUresult cuStreamSynchronize(void* stream) {
  Call call;
  if (call) return call.code();
  if (!is_stream(stream)) return kInvalidHandle;
  return stream == nullptr ? driver().drain_all(current_context)
                           : driver().drain(static_cast<Stream*>(stream));
}

TACO4J_FAKE_API CUresult cuStreamQuery(void* stream) { return cuStreamSynchronize(stream); }

static bool is_event(void* event) { return driver().events.count(static_cast<Event*>(event)) > 0; }

TACO4J_FAKE_API CUresult cuStreamWaitEvent(void* stream, void* event, unsigned) {
  Call call;
  if (call) return call.code();
  if (!is_stream(stream) || !is_event(event)) return kInvalidHandle;
  const Event recorded = *static_cast<Event*>(event);
  if (recorded.stream == nullptr) return kSuccess;
  return driver().enqueue(static_cast<Stream*>(stream), [recorded] {
    Driver& cuda = driver();
    if (cuda.streams.count(recorded.stream) == 0) return kSuccess;  // destroyed, so done
    return cuda.drain(recorded.stream, recorded.number);
  });
}

TACO4J_FAKE_API CUresult cuEventCreate(void** event, unsigned) {
  Call call;
  if (call) return call.code();
  if (event == nullptr) return kInvalidValue;
  Event* made = new Event();
  driver().events.insert(made);
  *event = made;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuEventDestroy_v2(void* event) {
  Call call;
  if (call.code() != kSuccess && call.code() < kIllegalAddress) return call.code();
  if (!is_event(event)) return kInvalidHandle;
  driver().events.erase(static_cast<Event*>(event));
  delete static_cast<Event*>(event);
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuEventRecord(void* event, void* stream) {
  Call call;
  if (call) return call.code();
  if (!is_event(event) || !is_stream(stream)) return kInvalidHandle;
  Event& recorded = *static_cast<Event*>(event);
  recorded.stream = static_cast<Stream*>(stream);
  if (stream == nullptr) return driver().drain_all(current_context);
  recorded.number = recorded.stream->queued;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuEventSynchronize(void* event) {
  Call call;
  if (call) return call.code();
  if (!is_event(event)) return kInvalidHandle;
  Event& recorded = *static_cast<Event*>(event);
  return recorded.stream == nullptr ? current_context->error
                                    : driver().drain(recorded.stream, recorded.number);
}

TACO4J_FAKE_API CUresult cuEventQuery(void* event) { return cuEventSynchronize(event); }

// Nothing here takes a time that would mean anything.
TACO4J_FAKE_API CUresult cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
  Call call;
  if (call) return call.code();
  if (milliseconds == nullptr) return kInvalidValue;
  if (!is_event(start) || !is_event(end)) return kInvalidHandle;
  *milliseconds = 1.0f;
  return kSuccess;
}

TACO4J_FAKE_API CUresult cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}

// ---- Errors -------------------------------------------------------------------------------------

TACO4J_FAKE_API CUresult cuGetErrorName(CUresult code, const char** name) {
  for (const ErrorName& error : kErrors) {
    if (error.code == code) {
      *name = error.name;
      return kSuccess;
    }
  }
  *name = nullptr;
  return kInvalidValue;
}

TACO4J_FAKE_API CUresult cuGetErrorString(CUresult code, const char** text) {
  for (const ErrorName& error : kErrors) {
    if (error.code == code) {
      *text = error.text;
      return kSuccess;
    }
  }
  *text = nullptr;
  return kInvalidValue;
}
