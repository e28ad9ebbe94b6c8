// The operators of domain taco4j for ONNX Runtime.
//
// SparseConv[Add][Relu|Clip|HardSwish|Silu|Gelu]: X, W, B[, Z] -> Y, all float32.
//   Y = activation(Conv(X, W, B) [+ Z]), with Conv's attributes strides, pads, dilations and group
//   (all four are there), and minimum and maximum for Clip. W [O, I / group, kh, kw] and B [O] are
//   constants. One name for each fused form, because each has another dense body in the model: a
//   function of the same name, which a runtime without this library runs instead.
#include <array>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dims.h"
#include "onnxruntime_abi.h"
#include "sparse_conv.h"

namespace taco4j {
namespace {

using namespace ort;

// A status on its way back to the runtime, which releases it.
struct StatusException {
  OrtStatus* status;
};

void check(OrtStatus* status) {
  if (status != nullptr) throw StatusException{status};
}

// Nothing that is thrown leaves the library.
template <typename Body>
OrtStatus* guarded(const OrtApi* api, const std::string& where, const Body& body) noexcept {
  try {
    try {
      body();
      return nullptr;
    } catch (const StatusException& e) {
      return e.status;
    } catch (const std::invalid_argument& e) {
      return CreateStatus(api, kInvalidArgument, (where + ": " + e.what()).c_str());
    } catch (const std::bad_alloc&) {
      return CreateStatus(api, kFail, (where + ": out of memory").c_str());
    } catch (const std::exception& e) {
      return CreateStatus(api, kFail, (where + ": " + e.what()).c_str());
    }
  } catch (...) {
    // No memory for the message, either.
    return CreateStatus(api, kFail, "taco4j: out of memory");
  }
}

Dims dims_of(const OrtApi* api, const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  check(GetTensorTypeAndShape(api, value, &raw));
  const auto release = [api](OrtTensorTypeAndShapeInfo* info) {
    ReleaseTensorTypeAndShapeInfo(api, info);
  };
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(release)> info(raw, release);
  std::size_t count = 0;
  check(GetDimensionsCount(api, info.get(), &count));
  Dims dims(count);
  check(GetDimensions(api, info.get(), dims.data(), count));
  return dims;
}

float* mutable_data(const OrtApi* api, OrtValue* value) {
  void* data = nullptr;
  check(GetTensorMutableData(api, value, &data));
  return static_cast<float*>(data);
}

// The runtime has one function for both; an input is not written to.
const float* data_of(const OrtApi* api, const OrtValue* value) {
  return mutable_data(api, const_cast<OrtValue*>(value));
}

std::string node_name(const OrtApi* api, const OrtKernelInfo* info) {
  std::size_t size = 0;
  check(KernelInfo_GetNodeName(api, info, nullptr, &size));
  std::string name(size, '\0');
  check(KernelInfo_GetNodeName(api, info, name.data(), &size));
  name.resize(std::strlen(name.c_str()));
  return name;
}

// The runtime's own message names neither the node nor the attribute.
void check_attribute(const OrtApi* api, OrtStatus* status, const char* name) {
  if (status == nullptr) return;
  ReleaseStatus(api, status);
  throw std::invalid_argument(std::string("the attribute ") + name +
                              " is missing, or of another type");
}

template <std::size_t count>
std::array<std::int64_t, count> integers(const OrtApi* api, const OrtKernelInfo* info,
                                         const char* name) {
  std::array<std::int64_t, count> values{};
  std::size_t found = 0;
  check_attribute(api, KernelInfoGetAttributeArray_int64(api, info, name, nullptr, &found), name);
  if (found != count) {
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(found) +
                                " values, not " + std::to_string(count));
  }
  check(KernelInfoGetAttributeArray_int64(api, info, name, values.data(), &found));
  return values;
}

struct ConstantTensor {
  Dims dims;
  const float* data;
};

ConstantTensor constant_input(const OrtApi* api, const OrtKernelInfo* info, std::size_t index,
                              const char* name) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(KernelInfoGetConstantInput_tensor(api, info, index, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) {
    throw std::invalid_argument(std::string(name) + " is not a constant of the model");
  }
  return {dims_of(api, value), data_of(api, value)};
}

// ONNX Runtime's own threads, for the time of one call.
class RuntimePool {
 public:
  RuntimePool(const OrtApi* api, const OrtKernelContext* context) : api_(api), context_(context) {}

  ParallelFor parallel_for() { return {run, this}; }

  // What the pool itself failed with.
  void check_status() const { check(status_); }

 private:
  static void run(void* pool, ParallelFor::Task task, void* task_context, std::size_t count) {
    RuntimePool& self = *static_cast<RuntimePool*>(pool);
    OrtStatus* status =
        KernelContext_ParallelFor(self.api_, self.context_, task, count, 0, task_context);
    if (status == nullptr) return;
    if (self.status_ == nullptr) {
      self.status_ = status;
    } else {
      ReleaseStatus(self.api_, status);
    }
  }

  const OrtApi* api_;
  const OrtKernelContext* context_;
  OrtStatus* status_ = nullptr;
};

// One fused form.
struct SparseConvOp : OrtCustomOp {
  const char* name;
  Activation activation;
  bool adds;
};

class SparseConvKernel {
 public:
  SparseConvKernel(const SparseConvOp& op, const OrtApi* api, const OrtKernelInfo* info,
                   std::string label)
      : label_(std::move(label)), api_(api), adds_(op.adds) {
    const ConstantTensor weights = constant_input(api, info, 1, "W");
    const ConstantTensor bias = constant_input(api, info, 2, "B");
    if (weights.dims.size() != 4) {
      throw std::invalid_argument("W has the shape " + to_string(weights.dims) +
                                  "; it must be [O, I / group, kh, kw]");
    }
    if (bias.dims != Dims{weights.dims[0]}) {
      throw std::invalid_argument("B has the shape " + to_string(bias.dims) + "; it must be [" +
                                  std::to_string(weights.dims[0]) + "]");
    }
    const auto strides = integers<2>(api, info, "strides");
    const auto dilations = integers<2>(api, info, "dilations");
    const auto pads = integers<4>(api, info, "pads");
    check_attribute(api, KernelInfoGetAttribute_int64(api, info, "group", &shape_.groups),
                    "group");
    // Before anything is multiplied with it.
    if (shape_.groups < 1 || shape_.groups > weights.dims[0]) {
      throw std::invalid_argument("group is " + std::to_string(shape_.groups) + " for " +
                                  std::to_string(weights.dims[0]) + " output channels");
    }
    shape_.output_channels = weights.dims[0];
    shape_.input_channels = weights.dims[1] * shape_.groups;
    shape_.kernel_height = weights.dims[2];
    shape_.kernel_width = weights.dims[3];
    shape_.stride_height = strides[0];
    shape_.stride_width = strides[1];
    shape_.dilation_height = dilations[0];
    shape_.dilation_width = dilations[1];
    shape_.pad_top = pads[0];
    shape_.pad_left = pads[1];
    shape_.pad_bottom = pads[2];
    shape_.pad_right = pads[3];
    check_shape(shape_);
    epilogue_.activation = op.activation;
    if (op.activation == Activation::kClip) {
      check_attribute(
          api, KernelInfoGetAttribute_float(api, info, "minimum", &epilogue_.minimum), "minimum");
      check_attribute(
          api, KernelInfoGetAttribute_float(api, info, "maximum", &epilogue_.maximum), "maximum");
    }
    packed_ = create_sparse_conv(choose_isa(), shape_, weights.data, bias.data, epilogue_);
  }

  const std::string& label() const { return label_; }
  const OrtApi* api() const { return api_; }

  void compute(OrtKernelContext* context) const {
    const OrtValue* input = nullptr;
    check(KernelContext_GetInput(api_, context, 0, &input));
    const Dims dims = dims_of(api_, input);
    if (dims.size() != 4 || dims[1] != shape_.input_channels) {
      throw std::invalid_argument("X has the shape " + to_string(dims) + "; it must be [N, " +
                                  std::to_string(shape_.input_channels) + ", H, W]");
    }
    check_image(shape_, dims[0], dims[2], dims[3]);
    const Dims convolved{dims[0], shape_.output_channels, shape_.output_height(dims[2]),
                         shape_.output_width(dims[3])};
    const OrtValue* residual = nullptr;
    if (adds_) check(KernelContext_GetInput(api_, context, 3, &residual));
    const Dims added = residual == nullptr ? convolved : dims_of(api_, residual);
    if (!broadcasts_to(added, convolved)) {
      throw std::invalid_argument("Z has the shape " + to_string(added) +
                                  ", which cannot be added to " + to_string(convolved));
    }

    OrtValue* output = nullptr;
    check(KernelContext_GetOutput(api_, context, 0, convolved.data(), convolved.size(), &output));
    if (element_count(convolved) == 0) return;
    const float* addend = residual == nullptr ? nullptr : data_of(api_, residual);
    // Add takes operands of different shapes, so the fused form has to. It is rare.
    std::vector<float> expanded;
    if (added != convolved) {
      expanded = broadcast(addend, added, convolved);
      addend = expanded.data();
    }
    RuntimePool pool(api_, context);
    packed_->run(data_of(api_, input), addend, mutable_data(api_, output), dims[0], dims[2],
                 dims[3], pool.parallel_for());
    pool.check_status();
  }

 private:
  std::string label_;
  const OrtApi* api_;
  bool adds_;
  ConvShape shape_;
  Epilogue epilogue_;
  std::unique_ptr<SparseConv> packed_;
};

OrtStatus* create_sparse_conv_kernel(const OrtCustomOp* base, const OrtApi* api,
                                     const OrtKernelInfo* info, void** kernel) {
  const auto& op = *static_cast<const SparseConvOp*>(base);
  std::string label = std::string("taco4j.") + op.name;
  return guarded(api, label, [&] {
    label += " '" + node_name(api, info) + "'";
    *kernel = new SparseConvKernel(op, api, info, label);
  });
}

OrtStatus* compute_sparse_conv(void* kernel, OrtKernelContext* context) {
  const auto& conv = *static_cast<const SparseConvKernel*>(kernel);
  return guarded(conv.api(), conv.label(), [&] { conv.compute(context); });
}

SparseConvOp sparse_conv_op(const char* name, Activation activation, bool adds) {
  SparseConvOp op{};
  op.version = kApiVersion;
  op.name = name;
  op.activation = activation;
  op.adds = adds;
  op.GetName = [](const OrtCustomOp* self) { return static_cast<const SparseConvOp*>(self)->name; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp*, std::size_t) { return kFloat; };
  op.GetInputTypeCount = [](const OrtCustomOp* self) -> std::size_t {
    return static_cast<const SparseConvOp*>(self)->adds ? 4 : 3;
  };
  op.GetOutputType = [](const OrtCustomOp*, std::size_t) { return kFloat; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<SparseConvKernel*>(kernel); };
  op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return kRequired; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return kRequired; };
  op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return kDefaultMemory; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create_sparse_conv_kernel;
  op.KernelComputeV2 = compute_sparse_conv;
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return std::numeric_limits<int>::max(); };
  return op;
}

// Made once and never released: sessions keep pointers into it, and the library stays loaded.
OrtCustomOpDomain* operator_domain(const OrtApi* api) {
  static const SparseConvOp ops[] = {
      sparse_conv_op("SparseConv", Activation::kNone, false),
      sparse_conv_op("SparseConvRelu", Activation::kRelu, false),
      sparse_conv_op("SparseConvClip", Activation::kClip, false),
      sparse_conv_op("SparseConvHardSwish", Activation::kHardSwish, false),
      sparse_conv_op("SparseConvSilu", Activation::kSilu, false),
      sparse_conv_op("SparseConvGelu", Activation::kGelu, false),
      sparse_conv_op("SparseConvAdd", Activation::kNone, true),
      sparse_conv_op("SparseConvAddRelu", Activation::kRelu, true),
      sparse_conv_op("SparseConvAddClip", Activation::kClip, true),
      sparse_conv_op("SparseConvAddHardSwish", Activation::kHardSwish, true),
      sparse_conv_op("SparseConvAddSilu", Activation::kSilu, true),
      sparse_conv_op("SparseConvAddGelu", Activation::kGelu, true),
  };
  // Where this throws, the next registration tries again.
  static OrtCustomOpDomain* const domain = [api] {
    OrtCustomOpDomain* made = nullptr;
    check(CreateCustomOpDomain(api, "taco4j", &made));
    for (const SparseConvOp& op : ops) check(CustomOpDomain_Add(api, made, &op));
    return made;
  }();
  return domain;
}

}  // namespace
}  // namespace taco4j

// The one symbol that ONNX Runtime looks for.
extern "C" __attribute__((visibility("default"))) taco4j::ort::OrtStatus* RegisterCustomOps(
    taco4j::ort::OrtSessionOptions* options, const taco4j::ort::OrtApiBase* base) {
  const taco4j::ort::OrtApi* api = base->GetApi(taco4j::ort::kApiVersion);
  if (api == nullptr) {
    // The first version of the table is in every runtime, and enough for an error.
    return taco4j::ort::CreateStatus(base->GetApi(1), taco4j::ort::kFail,
                                     "the taco4j operators need ONNX Runtime 1.17 or newer");
  }
  return taco4j::guarded(api, "taco4j", [&] {
    taco4j::choose_isa();  // a TACO4J_ISA that cannot be had is an error here, and at no node
    taco4j::check(
        taco4j::ort::AddCustomOpDomain(api, options, taco4j::operator_domain(api)));
  });
}
