// The operators of domain taco4j for ONNX Runtime. All tensors are float32.
//
// SparseConv...(X, W, B[, Z]) = activation(Conv(X, W, B) [+ Z])
//   with Conv's attributes strides, pads, dilations and group, all four.
// SparseMatMul...(X, W, B[, Z]) = activation(MatMul(X, W) + B [+ Z])
// SparseMatMulLeft...(W, X, B[, Z]) = activation(MatMul(W, X) + B [+ Z])
//
// LayerNormalization(X, W, B) = W * normalized(X) + B over the last axis, with the attribute epsilon
//
// W and B are constants; B has one value for each output channel or feature, for SparseMatMulLeft
// as a column [O, 1] where X is no vector. The rest of the name says what is fused: nothing or Add,
// then nothing or Relu, Clip (with the attributes minimum and maximum), HardSwish, Silu or Gelu.
// There is one name for each form because each has another dense body in the model: a function of
// the same name, which a runtime without this library runs instead.
#include <algorithm>
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
#include "layer_normalization.h"
#include "onnxruntime_abi.h"
#include "sparse_conv.h"
#include "sparse_product.h"

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

enum class Product { kConv, kMatMul, kMatMulLeft, kLayerNormalization };

// One fused form.
struct SparseOp : OrtCustomOp {
  std::string name;
  Product product;
  Activation activation;
  bool adds;

  // Of W among the inputs.
  std::size_t weight_index() const { return product == Product::kMatMulLeft ? 0 : 1; }
};

Epilogue epilogue_of(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info) {
  Epilogue epilogue;
  epilogue.activation = op.activation;
  if (op.activation == Activation::kClip) {
    check_attribute(api, KernelInfoGetAttribute_float(api, info, "minimum", &epilogue.minimum),
                    "minimum");
    check_attribute(api, KernelInfoGetAttribute_float(api, info, "maximum", &epilogue.maximum),
                    "maximum");
  }
  return epilogue;
}

// The tensors of one call, without the constants.
struct Call {
  const float* input;
  Dims dims;              // of input
  const float* residual;  // null for none; else of the shape of output
  float* output;
  ParallelFor parallel_for;
};

// A node of a session.
class Kernel {
 public:
  Kernel(const SparseOp& op, const OrtApi* api, std::string label)
      : label_(std::move(label)), api_(api), input_index_(1 - op.weight_index()), adds_(op.adds) {}
  virtual ~Kernel() = default;

  const std::string& label() const { return label_; }
  const OrtApi* api() const { return api_; }

  void compute(OrtKernelContext* context) const {
    const OrtValue* input = nullptr;
    check(KernelContext_GetInput(api_, context, input_index_, &input));
    Call call{data_of(api_, input), dims_of(api_, input), nullptr, nullptr, {}};
    const Dims result = output_dims(call.dims);
    OrtValue* output = nullptr;
    // Before the output is asked for: an operand that does not fit is then known.
    std::vector<float> expanded;
    if (adds_) {
      const OrtValue* residual = nullptr;
      check(KernelContext_GetInput(api_, context, 3, &residual));
      const Dims dims = dims_of(api_, residual);
      if (!broadcasts_to(dims, result)) {
        throw std::invalid_argument("Z has the shape " + to_string(dims) +
                                    ", which cannot be added to " + to_string(result));
      }
      call.residual = data_of(api_, residual);
      // Add takes operands of different shapes, so the fused form has to. It is rare.
      if (dims != result) {
        expanded = broadcast(call.residual, dims, result);
        call.residual = expanded.data();
      }
    }
    check(KernelContext_GetOutput(api_, context, 0, result.data(), result.size(), &output));
    if (element_count(result) == 0) return;
    call.output = mutable_data(api_, output);
    RuntimePool pool(api_, context);
    call.parallel_for = pool.parallel_for();
    run(call);
    pool.check_status();
  }

 private:
  // Throws std::invalid_argument for an input that does not fit the weights.
  virtual Dims output_dims(const Dims& input) const = 0;

  virtual void run(const Call& call) const = 0;

  std::string label_;
  const OrtApi* api_;
  std::size_t input_index_;
  bool adds_;
};

class SparseConvKernel final : public Kernel {
 public:
  SparseConvKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                   std::string label)
      : Kernel(op, api, std::move(label)) {
    const ConstantTensor weights = constant_input(api, info, op.weight_index(), "W");
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
    packed_ = create_sparse_conv(choose_isa(), shape_, weights.data, bias.data,
                                 epilogue_of(op, api, info));
  }

 private:
  Dims output_dims(const Dims& input) const override {
    if (input.size() != 4 || input[1] != shape_.input_channels) {
      throw std::invalid_argument("X has the shape " + to_string(input) + "; it must be [N, " +
                                  std::to_string(shape_.input_channels) + ", H, W]");
    }
    check_image(shape_, input[0], input[2], input[3]);
    return {input[0], shape_.output_channels, shape_.output_height(input[2]),
            shape_.output_width(input[3])};
  }

  void run(const Call& call) const override {
    packed_->run(call.input, call.residual, call.output, call.dims[0], call.dims[2], call.dims[3],
                 call.parallel_for);
  }

  ConvShape shape_;
  std::unique_ptr<SparseConv> packed_;
};

class SparseMatMulKernel final : public Kernel {
 public:
  SparseMatMulKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                     std::string label)
      : Kernel(op, api, std::move(label)), left_(op.product == Product::kMatMulLeft) {
    const ConstantTensor weights = constant_input(api, info, op.weight_index(), "W");
    const ConstantTensor bias = constant_input(api, info, 2, "B");
    if (weights.dims.size() != 2) {
      throw std::invalid_argument("W has the shape " + to_string(weights.dims) +
                                  "; it must be a matrix");
    }
    inputs_ = weights.dims[left_ ? 1 : 0];
    outputs_ = weights.dims[left_ ? 0 : 1];
    const bool column = left_ && bias.dims == Dims{outputs_, 1};
    if (!column && bias.dims != Dims{outputs_}) {
      throw std::invalid_argument("B has the shape " + to_string(bias.dims) + "; it must have " +
                                  std::to_string(outputs_) + " values" +
                                  (left_ ? ", in a column" : ""));
    }
    product_ = std::make_unique<SparseProduct>(
        left_ ? ConstantSide::kLeft : ConstantSide::kRight, choose_isa(), inputs_, outputs_,
        weights.data, bias.data, epilogue_of(op, api, info));
  }

 private:
  // The axis that is summed over.
  std::size_t axis(const Dims& input) const {
    return input.size() - (left_ && input.size() > 1 ? 2 : 1);
  }

  Dims output_dims(const Dims& input) const override {
    if (input.empty() || input[axis(input)] != inputs_) {
      throw std::invalid_argument(
          "X has the shape " + to_string(input) + "; it must be " +
          (left_ ? "[..., " + std::to_string(inputs_) + ", tokens]"
                 : "[..., tokens, " + std::to_string(inputs_) + "]"));
    }
    Dims output = input;
    output[axis(input)] = outputs_;
    return output;
  }

  void run(const Call& call) const override {
    // Leading axes are a batch.
    const std::size_t summed = axis(call.dims);
    std::int64_t batch = 1;
    for (std::size_t i = 0; i < summed; ++i) batch *= call.dims[i];
    const std::int64_t tokens = left_ && call.dims.size() > 1 ? call.dims.back() : 1;
    product_->run(call.input, call.residual, call.output, left_ ? batch : 1,
                  left_ ? tokens : batch, call.parallel_for);
  }

  bool left_;
  std::int64_t inputs_ = 0;
  std::int64_t outputs_ = 0;
  std::unique_ptr<SparseProduct> product_;
};

class LayerNormalizationKernel final : public Kernel {
 public:
  LayerNormalizationKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                           std::string label)
      : Kernel(op, api, std::move(label)), run_(layer_normalization(choose_isa())) {
    const ConstantTensor scale = constant_input(api, info, 1, "W");
    const ConstantTensor bias = constant_input(api, info, 2, "B");
    if (scale.dims.size() != 1 || scale.dims[0] < 1 || bias.dims != scale.dims) {
      throw std::invalid_argument("W and B have the shapes " + to_string(scale.dims) + " and " +
                                  to_string(bias.dims) + "; both must be [features]");
    }
    check_attribute(api, KernelInfoGetAttribute_float(api, info, "epsilon", &epsilon_), "epsilon");
    scale_.assign(scale.data, scale.data + scale.dims[0]);
    bias_.assign(bias.data, bias.data + bias.dims[0]);
  }

 private:
  // Of one task.
  static constexpr std::int64_t kRows = 32;

  std::int64_t features() const { return static_cast<std::int64_t>(scale_.size()); }

  Dims output_dims(const Dims& input) const override {
    if (input.empty() || input.back() != features()) {
      throw std::invalid_argument("X has the shape " + to_string(input) + "; it must be [..., " +
                                  std::to_string(features()) + "]");
    }
    return input;
  }

  void run(const Call& call) const override {
    const std::int64_t rows = element_count(call.dims) / features();
    call.parallel_for(static_cast<std::size_t>((rows + kRows - 1) / kRows), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * kRows;
      run_(call.input + first * features(), scale_.data(), bias_.data(), epsilon_,
           call.output + first * features(), std::min(kRows, rows - first), features());
    });
  }

  LayerNormalization run_;
  float epsilon_ = 0.0f;
  std::vector<float> scale_;  // [features]
  std::vector<float> bias_;   // [features]
};

OrtStatus* create_kernel(const OrtCustomOp* base, const OrtApi* api, const OrtKernelInfo* info,
                         void** kernel) {
  const auto& op = *static_cast<const SparseOp*>(base);
  std::string label;
  return guarded(api, label, [&] {
    label = "taco4j." + op.name;
    label += " '" + node_name(api, info) + "'";
    std::unique_ptr<Kernel> made;
    if (op.product == Product::kConv) {
      made = std::make_unique<SparseConvKernel>(op, api, info, label);
    } else if (op.product == Product::kLayerNormalization) {
      made = std::make_unique<LayerNormalizationKernel>(op, api, info, label);
    } else {
      made = std::make_unique<SparseMatMulKernel>(op, api, info, label);
    }
    *kernel = made.release();
  });
}

OrtStatus* compute_kernel(void* raw, OrtKernelContext* context) {
  const auto& kernel = *static_cast<const Kernel*>(raw);
  return guarded(kernel.api(), kernel.label(), [&] { kernel.compute(context); });
}

SparseOp sparse_op(Product product, std::string name, Activation activation, bool adds) {
  SparseOp op{};
  op.version = kApiVersion;
  op.name = std::move(name);
  op.product = product;
  op.activation = activation;
  op.adds = adds;
  op.GetName = [](const OrtCustomOp* self) {
    return static_cast<const SparseOp*>(self)->name.c_str();
  };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp*, std::size_t) { return kFloat; };
  op.GetInputTypeCount = [](const OrtCustomOp* self) -> std::size_t {
    return static_cast<const SparseOp*>(self)->adds ? 4 : 3;
  };
  op.GetOutputType = [](const OrtCustomOp*, std::size_t) { return kFloat; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return kRequired; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return kRequired; };
  op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return kDefaultMemory; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = compute_kernel;
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return std::numeric_limits<int>::max(); };
  return op;
}

std::vector<SparseOp> all_ops() {
  constexpr std::pair<Product, const char*> kProducts[] = {
      {Product::kConv, "SparseConv"},
      {Product::kMatMul, "SparseMatMul"},
      {Product::kMatMulLeft, "SparseMatMulLeft"},
  };
  constexpr std::pair<Activation, const char*> kActivations[] = {
      {Activation::kNone, ""},
      {Activation::kRelu, "Relu"},
      {Activation::kClip, "Clip"},
      {Activation::kHardSwish, "HardSwish"},
      {Activation::kSilu, "Silu"},
      {Activation::kGelu, "Gelu"},
  };
  std::vector<SparseOp> ops;
  for (const auto& [product, name] : kProducts) {
    for (const bool adds : {false, true}) {
      for (const auto& [activation, suffix] : kActivations) {
        ops.push_back(
            sparse_op(product, std::string(name) + (adds ? "Add" : "") + suffix, activation, adds));
      }
    }
  }
  ops.push_back(sparse_op(Product::kLayerNormalization, "LayerNormalization", Activation::kNone,
                          false));
  return ops;
}

// Made once and never released: sessions keep pointers into it, and the library stays loaded.
// Where this throws, the next registration tries again.
OrtCustomOpDomain* operator_domain(const OrtApi* api) {
  static const std::vector<SparseOp>* const ops = new std::vector<SparseOp>(all_ops());
  static OrtCustomOpDomain* const domain = [api] {
    OrtCustomOpDomain* made = nullptr;
    check(CreateCustomOpDomain(api, "taco4j", &made));
    for (const SparseOp& op : *ops) check(CustomOpDomain_Add(api, made, &op));
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
