// The operators of domain taco4j for ONNX Runtime. Tensors are float32, except where it says so.
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
//
// SparseQLinearConv(X, x_scale, x_zero_point, W, w_scale, w_zero_point, y_scale, y_zero_point, B)
//   = QLinearConv, with Conv's attributes, all four.
// SparseQLinearConvAdd(X, x_scale, x_zero_point, W, w_scale, w_zero_point, c_scale, c_zero_point, B,
//     Z, z_scale, z_zero_point, y_scale, y_zero_point)
//   = QuantizeLinear(DequantizeLinear(QLinearConv(X, W, B) on the grid c) + DequantizeLinear(Z)).
//
// SparseQLinearMatMul(X, x_scale, x_zero_point, W, w_scale, w_zero_point, y_scale, y_zero_point, B)
//   = QLinearMatMul with a bias
//
// X, Y and Z of these are unsigned bytes, W signed ones, B 32-bit integers. Scales and zero points
// are scalars, those of W one for each output channel and its zero points 0. All but X and Z are
// constants.
//
// SparseMatMulInteger...(X, x_scale, x_zero_point, W, w_scale, w_zero_point, B[, Z])
//   = activation(MatMulInteger(X, W) * (x_scale * w_scale) + B [+ Z])
//   with B, Z and the result of float32, and names as those of SparseMatMul
//
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
#include <type_traits>
#include <utility>
#include <vector>

#include "dims.h"
#include "layer_normalization.h"
#include "onnxruntime_abi.h"
#include "sparse_conv.h"
#include "sparse_product.h"
#include "sparse_qconv.h"

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

template <typename T = float>
T* mutable_data(const OrtApi* api, OrtValue* value) {
  void* data = nullptr;
  check(GetTensorMutableData(api, value, &data));
  return static_cast<T*>(data);
}

// The runtime has one function for both; an input is not written to.
template <typename T = float>
const T* data_of(const OrtApi* api, const OrtValue* value) {
  return mutable_data<T>(api, const_cast<OrtValue*>(value));
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

template <typename T>
struct ConstantTensor {
  Dims dims;
  const T* data;
};

template <typename T = float>
ConstantTensor<T> constant_input(const OrtApi* api, const OrtKernelInfo* info, std::size_t index,
                              const char* name) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(KernelInfoGetConstantInput_tensor(api, info, index, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) {
    throw std::invalid_argument(std::string(name) + " is not a constant of the model");
  }
  return {dims_of(api, value), data_of<T>(api, value)};
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

// One that is a scalar; ONNX allows a vector of one value, too.
template <typename T>
T constant_scalar(const OrtApi* api, const OrtKernelInfo* info, std::size_t index,
                  const char* name) {
  const ConstantTensor<T> tensor = constant_input<T>(api, info, index, name);
  if (element_count(tensor.dims) != 1) {
    throw std::invalid_argument(std::string(name) + " has the shape " + to_string(tensor.dims) +
                                "; it must be a scalar");
  }
  return *tensor.data;
}

enum class Product { kConv, kMatMul, kMatMulLeft, kQConv, kQMatMul, kMatMulInteger,
                     kLayerNormalization };

// One fused form.
struct SparseOp : OrtCustomOp {
  std::string name;
  Product product;
  Activation activation;
  bool adds;
  std::vector<int> input_types;
  int output_type;

  // Of X, W and Z among the inputs.
  std::size_t input_index() const { return product == Product::kMatMulLeft ? 1 : 0; }
  std::size_t weight_index() const { return 1 - input_index(); }
  std::size_t residual_index() const {
    return input_types.size() - (product == Product::kQConv ? 5 : 1);
  }
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

// A node of a session.
class Kernel {
 public:
  Kernel(const OrtApi* api, std::string label) : label_(std::move(label)), api_(api) {}
  virtual ~Kernel() = default;

  const std::string& label() const { return label_; }
  const OrtApi* api() const { return api_; }

  virtual void compute(OrtKernelContext* context) const = 0;

 private:
  std::string label_;
  const OrtApi* api_;
};

// One whose input, residual and output have these elements.
template <typename X, typename Z, typename Y>
class KernelOf : public Kernel {
 public:
  KernelOf(const SparseOp& op, const OrtApi* api, std::string label)
      : Kernel(api, std::move(label)),
        input_index_(op.input_index()),
        residual_index_(op.residual_index()),
        adds_(op.adds) {}

  void compute(OrtKernelContext* context) const override {
    const OrtValue* input = nullptr;
    check(KernelContext_GetInput(api(), context, input_index_, &input));
    Call call{data_of<X>(api(), input), dims_of(api(), input), nullptr, nullptr, {}};
    const Dims result = output_dims(call.dims);
    OrtValue* output = nullptr;
    // Before the output is asked for: an operand that does not fit is then known.
    std::vector<Z> expanded;
    if (adds_) {
      const OrtValue* residual = nullptr;
      check(KernelContext_GetInput(api(), context, residual_index_, &residual));
      const Dims dims = dims_of(api(), residual);
      if (!broadcasts_to(dims, result)) {
        throw std::invalid_argument("Z has the shape " + to_string(dims) +
                                    ", which cannot be added to " + to_string(result));
      }
      call.residual = data_of<Z>(api(), residual);
      // Add takes operands of different shapes, so the fused form has to. It is rare.
      if (dims != result) {
        expanded = broadcast(call.residual, dims, result);
        call.residual = expanded.data();
      }
    }
    check(KernelContext_GetOutput(api(), context, 0, result.data(), result.size(), &output));
    if (element_count(result) == 0) return;
    call.output = mutable_data<Y>(api(), output);
    RuntimePool pool(api(), context);
    call.parallel_for = pool.parallel_for();
    run(call);
    pool.check_status();
  }

 protected:
  // The tensors of one call, without the constants.
  struct Call {
    const X* input;
    Dims dims;          // of input
    const Z* residual;  // null for none; else of the shape of output
    Y* output;
    ParallelFor parallel_for;
  };

 private:
  // Throws std::invalid_argument for an input that does not fit the weights.
  virtual Dims output_dims(const Dims& input) const = 0;

  virtual void run(const Call& call) const = 0;

  std::size_t input_index_;
  std::size_t residual_index_;
  bool adds_;
};

using FloatKernel = KernelOf<float, float, float>;

// From a node's attributes and the dims of its weight and bias. Throws std::invalid_argument for what
// cannot be.
ConvShape conv_shape(const OrtApi* api, const OrtKernelInfo* info, const Dims& weights,
                     const Dims& bias) {
  if (weights.size() != 4) {
    throw std::invalid_argument("W has the shape " + to_string(weights) +
                                "; it must be [O, I / group, kh, kw]");
  }
  if (bias != Dims{weights[0]}) {
    throw std::invalid_argument("B has the shape " + to_string(bias) + "; it must be [" +
                                std::to_string(weights[0]) + "]");
  }
  ConvShape shape;
  const auto strides = integers<2>(api, info, "strides");
  const auto dilations = integers<2>(api, info, "dilations");
  const auto pads = integers<4>(api, info, "pads");
  check_attribute(api, KernelInfoGetAttribute_int64(api, info, "group", &shape.groups),
                  "group");
  // Before anything is multiplied with it.
  if (shape.groups < 1 || shape.groups > weights[0]) {
    throw std::invalid_argument("group is " + std::to_string(shape.groups) + " for " +
                                std::to_string(weights[0]) + " output channels");
  }
  shape.output_channels = weights[0];
  shape.input_channels = weights[1] * shape.groups;
  shape.kernel_height = weights[2];
  shape.kernel_width = weights[3];
  shape.stride_height = strides[0];
  shape.stride_width = strides[1];
  shape.dilation_height = dilations[0];
  shape.dilation_width = dilations[1];
  shape.pad_top = pads[0];
  shape.pad_left = pads[1];
  shape.pad_bottom = pads[2];
  shape.pad_right = pads[3];
  check_shape(shape);
  return shape;
}

// Of the output of a convolution; throws std::invalid_argument for an input that does not fit.
Dims conv_output_dims(const ConvShape& shape, const Dims& input) {
  if (input.size() != 4 || input[1] != shape.input_channels) {
    throw std::invalid_argument("X has the shape " + to_string(input) + "; it must be [N, " +
                                std::to_string(shape.input_channels) + ", H, W]");
  }
  check_image(shape, input[0], input[2], input[3]);
  return {input[0], shape.output_channels, shape.output_height(input[2]),
          shape.output_width(input[3])};
}

class SparseConvKernel final : public FloatKernel {
 public:
  SparseConvKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                   std::string label)
      : FloatKernel(op, api, std::move(label)) {
    const ConstantTensor<float> weights = constant_input(api, info, op.weight_index(), "W");
    const ConstantTensor<float> bias = constant_input(api, info, 2, "B");
    shape_ = conv_shape(api, info, weights.dims, bias.dims);
    packed_ = create_sparse_conv(choose_isa(), shape_, weights.data, bias.data,
                                 epilogue_of(op, api, info));
  }

 private:
  Dims output_dims(const Dims& input) const override {
    return conv_output_dims(shape_, input);
  }

  void run(const Call& call) const override {
    packed_->run(call.input, call.residual, call.output, call.dims[0], call.dims[2], call.dims[3],
                 call.parallel_for);
  }

  ConvShape shape_;
  std::unique_ptr<SparseConv> packed_;
};

class SparseMatMulKernel final : public FloatKernel {
 public:
  SparseMatMulKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                     std::string label)
      : FloatKernel(op, api, std::move(label)), left_(op.product == Product::kMatMulLeft) {
    const ConstantTensor<float> weights = constant_input(api, info, op.weight_index(), "W");
    const ConstantTensor<float> bias = constant_input(api, info, 2, "B");
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

class LayerNormalizationKernel final : public FloatKernel {
 public:
  LayerNormalizationKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                           std::string label)
      : FloatKernel(op, api, std::move(label)), run_(layer_normalization(choose_isa())) {
    const ConstantTensor<float> scale = constant_input(api, info, 1, "W");
    const ConstantTensor<float> bias = constant_input(api, info, 2, "B");
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

Quantization quantization(const OrtApi* api, const OrtKernelInfo* info, std::size_t index,
                          const char* scale, const char* zero_point) {
  return {constant_scalar<float>(api, info, index, scale),
          constant_scalar<std::uint8_t>(api, info, index + 1, zero_point)};
}

// One value for each output channel, or one for all.
template <typename T>
std::vector<T> constant_channels(const OrtApi* api, const OrtKernelInfo* info, std::size_t index,
                                 const char* name, std::int64_t channels) {
  const ConstantTensor<T> tensor = constant_input<T>(api, info, index, name);
  if (element_count(tensor.dims) == 1) {
    return std::vector<T>(static_cast<std::size_t>(channels), *tensor.data);
  }
  if (tensor.dims != Dims{channels}) {
    throw std::invalid_argument(std::string(name) + " has the shape " + to_string(tensor.dims) +
                                "; it must be [" + std::to_string(channels) + "], or a scalar");
  }
  return std::vector<T>(tensor.data, tensor.data + channels);
}

// Scales of W, whose zero points are all 0.
std::vector<float> weight_scales(const OrtApi* api, const OrtKernelInfo* info,
                                 std::int64_t channels) {
  for (const std::int8_t zero_point :
       constant_channels<std::int8_t>(api, info, 5, "w_zero_point", channels)) {
    if (zero_point != 0) {
      throw std::invalid_argument("w_zero_point has the value " + std::to_string(zero_point) +
                                  "; it must be 0, so that zeros are zeros");
    }
  }
  return constant_channels<float>(api, info, 4, "w_scale", channels);
}

class SparseQConvKernel final : public KernelOf<std::uint8_t, std::uint8_t, std::uint8_t> {
 public:
  SparseQConvKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                    std::string label)
      : KernelOf(op, api, std::move(label)) {
    const ConstantTensor<std::int8_t> weights = constant_input<std::int8_t>(api, info, 3, "W");
    const ConstantTensor<std::int32_t> bias = constant_input<std::int32_t>(api, info, 8, "B");
    QuantizedConv conv;
    conv.shape = shape_ = conv_shape(api, info, weights.dims, bias.dims);
    const std::vector<float> scales = weight_scales(api, info, shape_.output_channels);
    conv.weights = weights.data;
    conv.weight_scales = scales.data();
    conv.bias = bias.data;
    conv.input = quantization(api, info, 1, "x_scale", "x_zero_point");
    conv.product = op.adds ? quantization(api, info, 6, "c_scale", "c_zero_point")
                           : quantization(api, info, 6, "y_scale", "y_zero_point");
    conv.adds = op.adds;
    if (op.adds) {
      conv.residual = quantization(api, info, 10, "z_scale", "z_zero_point");
      conv.output = quantization(api, info, 12, "y_scale", "y_zero_point");
    }
    check_quantized_conv(conv);
    packed_ = choose_qconv_kernels().create(conv);
  }

 private:
  Dims output_dims(const Dims& input) const override { return conv_output_dims(shape_, input); }

  void run(const Call& call) const override {
    packed_->run(call.input, call.residual, call.output, call.dims[0], call.dims[2], call.dims[3],
                 call.parallel_for);
  }

  ConvShape shape_;
  std::unique_ptr<SparseQConv> packed_;
};

template <typename Y>
class SparseQMatMulKernel final : public KernelOf<std::uint8_t, float, Y> {
 public:
  SparseQMatMulKernel(const SparseOp& op, const OrtApi* api, const OrtKernelInfo* info,
                      std::string label)
      : KernelOf<std::uint8_t, float, Y>(op, api, std::move(label)) {
    constexpr bool kBytes = std::is_same_v<Y, std::uint8_t>;
    const ConstantTensor<std::int8_t> weights = constant_input<std::int8_t>(api, info, 3, "W");
    if (weights.dims.size() != 2) {
      throw std::invalid_argument("W has the shape " + to_string(weights.dims) +
                                  "; it must be a matrix");
    }
    QuantizedProduct product;
    product.inputs = inputs_ = weights.dims[0];
    product.outputs = outputs_ = weights.dims[1];
    product.weights = weights.data;
    using Bias = std::conditional_t<kBytes, std::int32_t, float>;
    const ConstantTensor<Bias> bias = constant_input<Bias>(api, info, kBytes ? 8 : 6, "B");
    if (bias.dims != Dims{outputs_}) {
      throw std::invalid_argument("B has the shape " + to_string(bias.dims) + "; it must be [" +
                                  std::to_string(outputs_) + "]");
    }
    const std::vector<float> scales = weight_scales(api, info, outputs_);
    product.weight_scales = scales.data();
    product.input = quantization(api, info, 1, "x_scale", "x_zero_point");
    if constexpr (kBytes) {
      product.bias = bias.data;
      product.output = quantization(api, info, 6, "y_scale", "y_zero_point");
    } else {
      product.result = QuantizedProduct::Result::kFloats;
      product.float_bias = bias.data;
      product.epilogue = epilogue_of(op, api, info);
    }
    check_quantized_product(product);
    packed_ = choose_qconv_kernels().create_product(product);
  }

 private:
  using Call = typename KernelOf<std::uint8_t, float, Y>::Call;

  Dims output_dims(const Dims& input) const override {
    if (input.empty() || input.back() != inputs_) {
      throw std::invalid_argument("X has the shape " + to_string(input) +
                                  "; it must be [..., tokens, " + std::to_string(inputs_) + "]");
    }
    Dims output = input;
    output.back() = outputs_;
    return output;
  }

  void run(const Call& call) const override {
    packed_->run(call.input, call.residual, call.output, element_count(call.dims) / inputs_,
                 call.parallel_for);
  }

  std::int64_t inputs_ = 0;
  std::int64_t outputs_ = 0;
  std::unique_ptr<SparseQProduct> packed_;
};

OrtStatus* create_kernel(const OrtCustomOp* base, const OrtApi* api, const OrtKernelInfo* info,
                         void** kernel) {
  const auto& op = *static_cast<const SparseOp*>(base);
  std::string label;
  return guarded(api, label, [&] {
    label = "taco4j." + op.name;
    label += " '" + node_name(api, info) + "'";
    std::unique_ptr<Kernel> made;
    switch (op.product) {
      case Product::kConv:
        made = std::make_unique<SparseConvKernel>(op, api, info, label);
        break;
      case Product::kMatMul:
      case Product::kMatMulLeft:
        made = std::make_unique<SparseMatMulKernel>(op, api, info, label);
        break;
      case Product::kLayerNormalization:
        made = std::make_unique<LayerNormalizationKernel>(op, api, info, label);
        break;
      case Product::kQConv:
        made = std::make_unique<SparseQConvKernel>(op, api, info, label);
        break;
      case Product::kQMatMul:
        made = std::make_unique<SparseQMatMulKernel<std::uint8_t>>(op, api, info, label);
        break;
      case Product::kMatMulInteger:
        made = std::make_unique<SparseQMatMulKernel<float>>(op, api, info, label);
        break;
    }
    *kernel = made.release();
  });
}

OrtStatus* compute_kernel(void* raw, OrtKernelContext* context) {
  const auto& kernel = *static_cast<const Kernel*>(raw);
  return guarded(kernel.api(), kernel.label(), [&] { kernel.compute(context); });
}

SparseOp sparse_op(Product product, std::string name, Activation activation, bool adds,
                   std::vector<int> input_types, int output_type) {
  SparseOp op{};
  op.version = kApiVersion;
  op.name = std::move(name);
  op.product = product;
  op.activation = activation;
  op.adds = adds;
  op.input_types = std::move(input_types);
  op.output_type = output_type;
  op.GetName = [](const OrtCustomOp* self) {
    return static_cast<const SparseOp*>(self)->name.c_str();
  };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp* self, std::size_t index) {
    return static_cast<const SparseOp*>(self)->input_types[index];
  };
  op.GetInputTypeCount = [](const OrtCustomOp* self) {
    return static_cast<const SparseOp*>(self)->input_types.size();
  };
  op.GetOutputType = [](const OrtCustomOp* self, std::size_t) {
    return static_cast<const SparseOp*>(self)->output_type;
  };
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
        ops.push_back(sparse_op(product, std::string(name) + (adds ? "Add" : "") + suffix,
                                activation, adds, std::vector<int>(adds ? 4 : 3, kFloat), kFloat));
      }
    }
  }
  ops.push_back(sparse_op(Product::kLayerNormalization, "LayerNormalization", Activation::kNone,
                          false, std::vector<int>(3, kFloat), kFloat));
  // X and W; then the grid of the product, bias, residual and the grid of the result.
  const std::vector<int> operands{kUint8, kFloat, kUint8, kInt8, kFloat, kInt8};
  std::vector<int> types = operands;
  types.insert(types.end(), {kFloat, kUint8, kInt32});
  ops.push_back(sparse_op(Product::kQConv, "SparseQLinearConv", Activation::kNone, false, types,
                          kUint8));
  ops.push_back(sparse_op(Product::kQMatMul, "SparseQLinearMatMul", Activation::kNone, false,
                          types, kUint8));
  types.insert(types.end(), {kUint8, kFloat, kUint8, kFloat, kUint8});
  ops.push_back(sparse_op(Product::kQConv, "SparseQLinearConvAdd", Activation::kNone, true, types,
                          kUint8));
  for (const bool adds : {false, true}) {
    types = operands;
    types.insert(types.end(), adds ? 2 : 1, kFloat);
    for (const auto& [activation, suffix] : kActivations) {
      ops.push_back(sparse_op(Product::kMatMulInteger,
                              std::string("SparseMatMulInteger") + (adds ? "Add" : "") + suffix,
                              activation, adds, types, kFloat));
    }
  }
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
