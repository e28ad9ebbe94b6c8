/* Sparse layers for programs without ONNX Runtime: pack weights that have zeros, run, free.
 *
 * Plain C; float32, or bytes with integer sums (taco4j_qconv). Functions return a status and never throw or exit; taco4j_error_message() says
 * what was wrong. Kernels are chosen when weights are packed: the best that the processor has, or
 * what the environment variable TACO4J_ISA names (scalar, avx2, avx512, neon; with what came later
 * for bytes: avxvnni, avx512vnni, avx512vbmi2, neondot). */
#ifndef TACO4J_H_
#define TACO4J_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TACO4J_API __attribute__((visibility("default")))
#else
#define TACO4J_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum taco4j_status {
  TACO4J_OK = 0,
  TACO4J_INVALID_ARGUMENT = 1, /* the caller's mistake; nothing was done */
  TACO4J_OUT_OF_MEMORY = 2,
  TACO4J_FAILED = 3 /* anything else */
} taco4j_status;

/* What was wrong in this thread's last call that did not return TACO4J_OK. Valid until the thread's
 * next call; never null. */
TACO4J_API const char* taco4j_error_message(void);

/* The instruction sets that this library has kernels for and this processor runs, best first:
 * "avx512,avx2,scalar". */
TACO4J_API const char* taco4j_available_isas(void);

typedef enum taco4j_activation {
  TACO4J_NONE = 0,
  TACO4J_RELU = 1,       /* max(x, 0) */
  TACO4J_CLIP = 2,       /* min(max(x, minimum), maximum) */
  TACO4J_HARD_SWISH = 3, /* x * min(max(x / 6 + 0.5, 0), 1) */
  TACO4J_SILU = 4,       /* x * sigmoid(x) */
  TACO4J_GELU = 5        /* x / 2 * (1 + erf(x / sqrt(2))) */
} taco4j_activation;

/* A 2-D convolution, in the terms of ONNX's Conv. */
typedef struct taco4j_conv_options {
  size_t struct_size; /* sizeof(taco4j_conv_options), for later versions of this struct */
  int64_t output_channels;
  int64_t input_channels; /* of all groups */
  int64_t groups;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t dilation_height, dilation_width;
  int64_t pad_top, pad_left, pad_bottom, pad_right;
  int32_t activation;     /* a taco4j_activation */
  float minimum, maximum; /* of TACO4J_CLIP */
} taco4j_conv_options;

/* Sets struct_size, everything that has a usual value (one group, kernel, strides and dilations of
 * 1, no padding, no activation), and channels to 0, which the caller replaces. */
TACO4J_API void taco4j_conv_options_init(taco4j_conv_options* options);

/* Packed weights. Immutable: any number of threads may run one object at the same time. */
typedef struct taco4j_conv taco4j_conv;

/* Packs weights.
 * weights: [output_channels, input_channels / groups, kernel_height, kernel_width], row-major,
 *   zeros included; copied. Zeros are skipped at run time, so that they may hide a NaN or an infinity
 *   of the input that the dense product would show. Which ones do depends on the kernel: where nearly
 *   all weights come in blocks of four output channels, the few zeros inside of blocks are multiplied.
 * bias: [output_channels], copied; or null for none.
 * conv: receives the object; the caller frees it. */
TACO4J_API taco4j_status taco4j_conv_create(const taco4j_conv_options* options,
                                            const float* weights, const float* bias,
                                            taco4j_conv** conv);

/* The size of the output for images of a size. */
TACO4J_API taco4j_status taco4j_conv_output_size(const taco4j_conv* conv, int64_t height,
                                                 int64_t width, int64_t* output_height,
                                                 int64_t* output_width);

/* Calls task(task_context, i) once for each i in [0, count), on any threads in any order, and
 * returns when all calls have returned. pool is what the caller gave beside the function. */
typedef void (*taco4j_task)(void* task_context, size_t index);
typedef void (*taco4j_parallel_for)(void* pool, taco4j_task task, void* task_context,
                                    size_t count);

/* output = activation(convolution(input) + bias + residual).
 * input: [batch, input_channels, height, width]
 * residual: null, or the shape of output; it may be output itself
 * output: [batch, output_channels, output_height, output_width]; does not overlap input
 * parallel_for: null for one thread, the calling one
 * The result is the same to the bit whatever the threads. */
TACO4J_API taco4j_status taco4j_conv_run(const taco4j_conv* conv, const float* input,
                                         const float* residual, float* output, int64_t batch,
                                         int64_t height, int64_t width,
                                         taco4j_parallel_for parallel_for, void* pool);

/* Frees; null is fine. */
TACO4J_API void taco4j_conv_free(taco4j_conv* conv);

/* What a byte stands for: (byte - zero_point) * scale. Scales are positive and finite. */
typedef struct taco4j_quantization {
  float scale;
  uint8_t zero_point;
} taco4j_quantization;

/* A convolution of bytes, in the terms of ONNX's QLinearConv, whose results it gives to the bit.
 * (ONNX Runtime itself may saturate sums of two products in 16 bits on x86 without VNNI.) */
typedef struct taco4j_qconv_options {
  size_t struct_size;       /* sizeof(taco4j_qconv_options) */
  taco4j_conv_options conv; /* without an activation: where results saturate is that */
  taco4j_quantization input;
  taco4j_quantization product; /* to which sums are rounded; without a residual that of the output */
  int32_t adds;                /* whether a residual is added; if so: */
  taco4j_quantization residual;
  taco4j_quantization output; /* to which the sum of product and residual is rounded */
} taco4j_qconv_options;

/* As taco4j_conv_options_init; scales are 1, zero points 0, and there is no residual. */
TACO4J_API void taco4j_qconv_options_init(taco4j_qconv_options* options);

/* Packed weights; immutable. */
typedef struct taco4j_qconv taco4j_qconv;

/* Packs weights.
 * weights: as for taco4j_conv_create, in signed bytes. Those of four consecutive input channels, for
 *   one tap of the kernel, are skipped where all four are zero.
 * weight_scales: [output_channels], not negative
 * bias: [output_channels], in units of the input's scale times the weight's; or null for none */
TACO4J_API taco4j_status taco4j_qconv_create(const taco4j_qconv_options* options,
                                             const int8_t* weights, const float* weight_scales,
                                             const int32_t* bias, taco4j_qconv** conv);

/* As taco4j_conv_run, with bytes. residual: null exactly where the options add none. For the size of
 * the output: floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1. */
TACO4J_API taco4j_status taco4j_qconv_run(const taco4j_qconv* conv, const uint8_t* input,
                                          const uint8_t* residual, uint8_t* output, int64_t batch,
                                          int64_t height, int64_t width,
                                          taco4j_parallel_for parallel_for, void* pool);

/* Frees; null is fine. */
TACO4J_API void taco4j_qconv_free(taco4j_qconv* conv);

#ifdef __cplusplus
}
#endif

#endif /* TACO4J_H_ */
