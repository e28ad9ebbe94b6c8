// The C ABI: checks what comes from outside, and turns exceptions into statuses.
#include "taco4j.h"

#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "sparse_conv.h"
#include "sparse_qconv.h"

struct taco4j_conv {
  taco4j::ConvShape shape;
  std::unique_ptr<taco4j::SparseConv> packed;
};

struct taco4j_qconv {
  taco4j::ConvShape shape;
  bool adds;
  std::unique_ptr<taco4j::SparseQConv> packed;
};

namespace {

using taco4j::Activation;

// A buffer, and no std::string: noting that memory ran out must need none.
thread_local char error_message[512] = "";

taco4j_status fail(taco4j_status status, const char* message) {
  std::size_t length = 0;
  for (; message[length] != '\0' && length + 1 < sizeof(error_message); ++length) {
    error_message[length] = message[length];
  }
  error_message[length] = '\0';
  return status;
}

template <typename Body>
taco4j_status guarded(const Body& body) {
  try {
    body();
    return TACO4J_OK;
  } catch (const std::invalid_argument& e) {
    return fail(TACO4J_INVALID_ARGUMENT, e.what());
  } catch (const std::bad_alloc&) {
    return fail(TACO4J_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return fail(TACO4J_FAILED, e.what());
  } catch (...) {
    return fail(TACO4J_FAILED, "an unknown exception");
  }
}

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// The numbers of taco4j.h are those of the enumeration.
static_assert(static_cast<int>(Activation::kNone) == TACO4J_NONE);
static_assert(static_cast<int>(Activation::kRelu) == TACO4J_RELU);
static_assert(static_cast<int>(Activation::kClip) == TACO4J_CLIP);
static_assert(static_cast<int>(Activation::kHardSwish) == TACO4J_HARD_SWISH);
static_assert(static_cast<int>(Activation::kSilu) == TACO4J_SILU);
static_assert(static_cast<int>(Activation::kGelu) == TACO4J_GELU);

taco4j::ConvShape shape_of(const taco4j_conv_options& options) {
  return {
      .output_channels = options.output_channels,
      .input_channels = options.input_channels,
      .groups = options.groups,
      .kernel_height = options.kernel_height,
      .kernel_width = options.kernel_width,
      .stride_height = options.stride_height,
      .stride_width = options.stride_width,
      .dilation_height = options.dilation_height,
      .dilation_width = options.dilation_width,
      .pad_top = options.pad_top,
      .pad_left = options.pad_left,
      .pad_bottom = options.pad_bottom,
      .pad_right = options.pad_right,
  };
}

void check_struct_size(bool same, const char* init) {
  if (same) return;
  throw std::invalid_argument(std::string("struct_size is not that of this library: call ") + init +
                              ", and compile with this library's header");
}

taco4j::Quantization quantization_of(const taco4j_quantization& quantization) {
  return {quantization.scale, quantization.zero_point};
}

}  // namespace

extern "C" {

const char* taco4j_error_message(void) { return error_message; }

const char* taco4j_available_isas(void) {
  static const std::string names = [] {
    std::string joined;
    for (taco4j::Isa isa : taco4j::available_isas()) {
      joined += joined.empty() ? "" : ",";
      joined += taco4j::isa_name(isa);
    }
    return joined;
  }();
  return names.c_str();
}

void taco4j_conv_options_init(taco4j_conv_options* options) {
  if (options == nullptr) return;
  *options = {};
  options->struct_size = sizeof(*options);
  options->groups = 1;
  options->kernel_height = options->kernel_width = 1;
  options->stride_height = options->stride_width = 1;
  options->dilation_height = options->dilation_width = 1;
}

taco4j_status taco4j_conv_create(const taco4j_conv_options* options, const float* weights,
                                 const float* bias, taco4j_conv** conv) {
  return guarded([&] {
    require(options != nullptr && weights != nullptr && conv != nullptr,
            "options, weights and conv must not be null");
    *conv = nullptr;
    check_struct_size(options->struct_size == sizeof(*options), "taco4j_conv_options_init");
    require(options->activation >= TACO4J_NONE && options->activation <= TACO4J_GELU,
            "activation is no taco4j_activation");
    const taco4j::ConvShape shape = shape_of(*options);
    taco4j::check_shape(shape);
    const taco4j::Epilogue epilogue{static_cast<Activation>(options->activation),
                                    options->minimum, options->maximum};
    auto created = std::make_unique<taco4j_conv>();
    created->shape = shape;
    created->packed =
        taco4j::create_sparse_conv(taco4j::choose_isa(), shape, weights, bias, epilogue);
    *conv = created.release();
  });
}

taco4j_status taco4j_conv_output_size(const taco4j_conv* conv, int64_t height, int64_t width,
                                      int64_t* output_height, int64_t* output_width) {
  return guarded([&] {
    require(conv != nullptr && output_height != nullptr && output_width != nullptr,
            "conv, output_height and output_width must not be null");
    taco4j::check_image(conv->shape, 1, height, width);
    *output_height = conv->shape.output_height(height);
    *output_width = conv->shape.output_width(width);
  });
}

taco4j_status taco4j_conv_run(const taco4j_conv* conv, const float* input, const float* residual,
                              float* output, int64_t batch, int64_t height, int64_t width,
                              taco4j_parallel_for parallel_for, void* pool) {
  return guarded([&] {
    require(conv != nullptr, "conv must not be null");
    taco4j::check_image(conv->shape, batch, height, width);
    if (batch == 0) return;
    require(input != nullptr && output != nullptr, "input and output must not be null");
    conv->packed->run(input, residual, output, batch, height, width, {parallel_for, pool});
  });
}

void taco4j_conv_free(taco4j_conv* conv) { delete conv; }

void taco4j_qconv_options_init(taco4j_qconv_options* options) {
  if (options == nullptr) return;
  *options = {};
  options->struct_size = sizeof(*options);
  taco4j_conv_options_init(&options->conv);
  options->input.scale = options->product.scale = 1.0f;
  options->residual.scale = options->output.scale = 1.0f;
}

taco4j_status taco4j_qconv_create(const taco4j_qconv_options* options, const int8_t* weights,
                                  const float* weight_scales, const int32_t* bias,
                                  taco4j_qconv** conv) {
  return guarded([&] {
    require(options != nullptr && weights != nullptr && weight_scales != nullptr &&
                conv != nullptr,
            "options, weights, weight_scales and conv must not be null");
    *conv = nullptr;
    check_struct_size(options->struct_size == sizeof(*options) &&
                          options->conv.struct_size == sizeof(options->conv),
                      "taco4j_qconv_options_init");
    require(options->conv.activation == TACO4J_NONE,
            "a convolution of bytes has no activation: its output's range is that");
    taco4j::QuantizedConv quantized;
    quantized.shape = shape_of(options->conv);
    quantized.weights = weights;
    quantized.weight_scales = weight_scales;
    quantized.bias = bias;
    quantized.input = quantization_of(options->input);
    quantized.product = quantization_of(options->product);
    quantized.adds = options->adds != 0;
    quantized.residual = quantization_of(options->residual);
    quantized.output = quantization_of(options->output);
    taco4j::check_quantized_conv(quantized);
    auto created = std::make_unique<taco4j_qconv>();
    created->shape = quantized.shape;
    created->adds = quantized.adds;
    created->packed = taco4j::choose_qconv_kernels().create(quantized);
    *conv = created.release();
  });
}

taco4j_status taco4j_qconv_run(const taco4j_qconv* conv, const uint8_t* input,
                               const uint8_t* residual, uint8_t* output, int64_t batch,
                               int64_t height, int64_t width, taco4j_parallel_for parallel_for,
                               void* pool) {
  return guarded([&] {
    require(conv != nullptr, "conv must not be null");
    taco4j::check_image(conv->shape, batch, height, width);
    if (batch == 0) return;
    require(input != nullptr && output != nullptr, "input and output must not be null");
    require((residual != nullptr) == conv->adds,
            "residual must be null exactly where the convolution adds none");
    conv->packed->run(input, residual, output, batch, height, width, {parallel_for, pool});
  });
}

void taco4j_qconv_free(taco4j_qconv* conv) { delete conv; }

}  // extern "C"
