/* taco4j.h as a C program uses it: results, threads, errors. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "taco4j.h"

static int failures = 0;

static void expect(int condition, const char* what, int line) {
  if (condition) return;
  fprintf(stderr, "line %d: %s; last error: %s\n", line, what, taco4j_error_message());
  ++failures;
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

/* Runs tasks backwards on this thread, and counts them. */
static void backwards(void* pool, taco4j_task task, void* task_context, size_t count) {
  *(size_t*)pool += count;
  while (count-- > 0) task(task_context, count);
}

static float sample(size_t i) { return (float)((i * 37 + 11) % 101) / 50.0f - 1.0f; }

/* Worked out by hand: a 2x2 kernel with one zero over a 3x3 image. */
static void test_by_hand(void) {
  const float weights[] = {1.0f, 0.0f, -1.0f, 2.0f};
  const float bias[] = {-3.0f};
  const float input[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const float residual[] = {0, 0, 0, -100};
  /* a - d + 2e - 3 at each position gives 4, 6, 10, 12; the residual takes the last below 0. */
  const float expected[] = {4, 6, 10, 0};
  float output[4];
  taco4j_conv_options options;
  taco4j_conv* conv = NULL;
  int64_t height = 0, width = 0;
  int i;
  taco4j_conv_options_init(&options);
  options.input_channels = options.output_channels = 1;
  options.kernel_height = options.kernel_width = 2;
  options.activation = TACO4J_RELU;
  EXPECT(taco4j_conv_create(&options, weights, bias, &conv) == TACO4J_OK);
  EXPECT(taco4j_conv_output_size(conv, 3, 3, &height, &width) == TACO4J_OK);
  EXPECT(height == 2 && width == 2);
  EXPECT(taco4j_conv_run(conv, input, residual, output, 1, 3, 3, NULL, NULL) == TACO4J_OK);
  for (i = 0; i < 4; ++i) EXPECT(output[i] == expected[i]);
  taco4j_conv_free(conv);
}

/* The caller's threads, and the residual in the output's place, change no bit. */
static void test_threads(void) {
  enum { kChannels = 12, kOutputs = 20, kSize = 9, kBatch = 3 };
  static float weights[kOutputs * kChannels * 9], bias[kOutputs];
  static float input[kBatch * kChannels * kSize * kSize];
  static float residual[kBatch * kOutputs * kSize * kSize];
  static float alone[kBatch * kOutputs * kSize * kSize];
  taco4j_conv_options options;
  taco4j_conv* conv = NULL;
  size_t i, tasks = 0;
  for (i = 0; i < sizeof(weights) / sizeof(float); ++i) weights[i] = i % 4 == 0 ? sample(i) : 0;
  for (i = 0; i < sizeof(bias) / sizeof(float); ++i) bias[i] = sample(i);
  for (i = 0; i < sizeof(input) / sizeof(float); ++i) input[i] = sample(i + 5);
  for (i = 0; i < sizeof(residual) / sizeof(float); ++i) residual[i] = sample(i + 7);
  taco4j_conv_options_init(&options);
  options.input_channels = kChannels;
  options.output_channels = kOutputs;
  options.kernel_height = options.kernel_width = 3;
  options.pad_top = options.pad_left = options.pad_bottom = options.pad_right = 1;
  options.activation = TACO4J_GELU;
  EXPECT(taco4j_conv_create(&options, weights, bias, &conv) == TACO4J_OK);
  EXPECT(taco4j_conv_run(conv, input, residual, alone, kBatch, kSize, kSize, NULL, NULL) ==
         TACO4J_OK);
  EXPECT(taco4j_conv_run(conv, input, residual, residual, kBatch, kSize, kSize, backwards,
                         &tasks) == TACO4J_OK);
  EXPECT(tasks > 0);
  EXPECT(memcmp(alone, residual, sizeof(alone)) == 0);
  taco4j_conv_free(conv);
}

/* A pool whose thread runs another layer before a loop ends, as one does that steals work. */
typedef struct busy_pool {
  taco4j_conv* conv;
  taco4j_qconv* qconv;
  int busy;
} busy_pool;

enum { kBusyChannels = 256, kBusySize = 14, kBusyPixels = kBusySize * kBusySize };
static float floats_in[2][kBusyChannels * kBusyPixels];
static float floats_out[3][kBusyChannels * kBusyPixels];
static uint8_t bytes_in[2][kBusyChannels * kBusyPixels];
static uint8_t bytes_out[3][kBusyChannels * kBusyPixels];

static void run_and_do_other_work(void* pool, taco4j_task task, void* task_context, size_t count) {
  busy_pool* self = pool;
  size_t i;
  for (i = 0; i < count; ++i) task(task_context, i);
  if (self->busy) return;
  self->busy = 1;
  EXPECT(taco4j_conv_run(self->conv, floats_in[1], NULL, floats_out[2], 1, kBusySize, kBusySize,
                         run_and_do_other_work, pool) == TACO4J_OK);
  EXPECT(taco4j_qconv_run(self->qconv, bytes_in[1], NULL, bytes_out[2], 1, kBusySize, kBusySize,
                          run_and_do_other_work, pool) == TACO4J_OK);
  self->busy = 0;
}

static void test_pool_with_other_work(void) {
  enum { kWeights = kBusyChannels * kBusyChannels * 9 };
  static float weights[kWeights], scales[kBusyChannels];
  static int8_t byte_weights[kWeights];
  taco4j_conv_options options;
  taco4j_qconv_options byte_options;
  busy_pool pool = {NULL, NULL, 0};
  size_t i;
  for (i = 0; i < kWeights; ++i) {
    weights[i] = i % 10 == 0 ? sample(i) : 0;
    byte_weights[i] = (int8_t)(i / 4 % 10 == 0 ? i % 101 : 0);
  }
  for (i = 0; i < kBusyChannels; ++i) scales[i] = 0.001f;
  for (i = 0; i < kBusyChannels * kBusyPixels; ++i) {
    floats_in[0][i] = sample(i);
    floats_in[1][i] = sample(i + 3);
    bytes_in[0][i] = (uint8_t)(i * 37 % 251);
    bytes_in[1][i] = (uint8_t)(i * 41 % 253);
  }
  taco4j_conv_options_init(&options);
  options.input_channels = options.output_channels = kBusyChannels;
  options.kernel_height = options.kernel_width = 3;
  options.pad_top = options.pad_left = options.pad_bottom = options.pad_right = 1;
  taco4j_qconv_options_init(&byte_options);
  byte_options.conv = options;
  byte_options.product.scale = 5;
  EXPECT(taco4j_conv_create(&options, weights, NULL, &pool.conv) == TACO4J_OK);
  EXPECT(taco4j_qconv_create(&byte_options, byte_weights, scales, NULL, &pool.qconv) == TACO4J_OK);
  EXPECT(taco4j_conv_run(pool.conv, floats_in[0], NULL, floats_out[0], 1, kBusySize, kBusySize,
                         NULL, NULL) == TACO4J_OK);
  EXPECT(taco4j_conv_run(pool.conv, floats_in[0], NULL, floats_out[1], 1, kBusySize, kBusySize,
                         run_and_do_other_work, &pool) == TACO4J_OK);
  EXPECT(memcmp(floats_out[0], floats_out[1], sizeof(floats_out[0])) == 0);
  EXPECT(taco4j_qconv_run(pool.qconv, bytes_in[0], NULL, bytes_out[0], 1, kBusySize, kBusySize,
                          NULL, NULL) == TACO4J_OK);
  EXPECT(taco4j_qconv_run(pool.qconv, bytes_in[0], NULL, bytes_out[1], 1, kBusySize, kBusySize,
                          run_and_do_other_work, &pool) == TACO4J_OK);
  EXPECT(memcmp(bytes_out[0], bytes_out[1], sizeof(bytes_out[0])) == 0);
  taco4j_conv_free(pool.conv);
  taco4j_qconv_free(pool.qconv);
}

static void test_errors(void) {
  const float weights[4] = {1, 1, 1, 1};
  float output[4] = {0};
  int64_t height = 0, width = 0;
  taco4j_conv_options options;
  taco4j_conv* conv = NULL;
  EXPECT(strlen(taco4j_available_isas()) > 0);
  taco4j_conv_options_init(&options);
  EXPECT(taco4j_conv_create(&options, weights, NULL, &conv) == TACO4J_INVALID_ARGUMENT);
  EXPECT(strstr(taco4j_error_message(), "output channels") != NULL);
  options.input_channels = 3;
  options.output_channels = 4;
  options.groups = 2;
  EXPECT(taco4j_conv_create(&options, weights, NULL, &conv) == TACO4J_INVALID_ARGUMENT);
  EXPECT(strstr(taco4j_error_message(), "groups") != NULL);
  options.groups = 1;
  options.kernel_height = options.kernel_width = INT32_MAX;
  EXPECT(taco4j_conv_create(&options, weights, NULL, &conv) == TACO4J_INVALID_ARGUMENT);
  options.kernel_height = options.kernel_width = 1;
  options.pad_left = -1;
  EXPECT(taco4j_conv_create(&options, weights, NULL, &conv) == TACO4J_INVALID_ARGUMENT);
  options.pad_left = 0;
  options.activation = 17;
  EXPECT(taco4j_conv_create(&options, weights, NULL, &conv) == TACO4J_INVALID_ARGUMENT);
  options.activation = TACO4J_NONE;
  options.struct_size = 8;
  EXPECT(taco4j_conv_create(&options, weights, NULL, &conv) == TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_conv_create(NULL, weights, NULL, &conv) == TACO4J_INVALID_ARGUMENT);
  EXPECT(conv == NULL);

  taco4j_conv_options_init(&options);
  options.input_channels = options.output_channels = 1;
  options.kernel_height = options.kernel_width = 2;
  EXPECT(taco4j_conv_create(&options, weights, NULL, &conv) == TACO4J_OK);
  /* Smaller than the kernel, empty, and larger than memory can be. */
  EXPECT(taco4j_conv_run(conv, weights, NULL, output, 1, 1, 1, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(strstr(taco4j_error_message(), "smaller than the kernel") != NULL);
  EXPECT(taco4j_conv_run(conv, weights, NULL, output, 1, 0, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_conv_run(conv, weights, NULL, output, -1, 2, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_conv_run(conv, weights, NULL, output, INT32_MAX, INT32_MAX, INT32_MAX, NULL,
                         NULL) == TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_conv_run(conv, NULL, NULL, output, 1, 2, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_conv_run(NULL, weights, NULL, output, 1, 2, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_conv_output_size(conv, 1, 1, &height, &width) == TACO4J_INVALID_ARGUMENT);
  /* Nothing to do is no mistake. */
  EXPECT(taco4j_conv_run(conv, NULL, NULL, NULL, 0, 2, 2, NULL, NULL) == TACO4J_OK);
  taco4j_conv_free(conv);
  taco4j_conv_free(NULL);
}

/* One channel of 2 x 2 pixels, doubled, on grids of steps 0.5; then with a residual. */
static void test_bytes(void) {
  const int8_t weights[1] = {4};
  const float scales[1] = {0.5f}, negative[1] = {-1.0f};
  const int32_t bias[1] = {3};
  const uint8_t input[4] = {10, 11, 12, 255};
  const uint8_t residual[4] = {5, 6, 7, 255};
  uint8_t output[4] = {0};
  taco4j_qconv_options options;
  taco4j_qconv* conv = NULL;
  taco4j_qconv_options_init(&options);
  options.conv.input_channels = options.conv.output_channels = 1;
  options.input.zero_point = 10;
  options.product.scale = 0.5f;
  options.product.zero_point = 2;
  EXPECT(taco4j_qconv_create(&options, weights, scales, bias, &conv) == TACO4J_OK);
  EXPECT(taco4j_qconv_run(conv, input, NULL, output, 1, 2, 2, NULL, NULL) == TACO4J_OK);
  /* ((x - 10) * 4 + 3) * (1 * 0.5 / 0.5) + 2 */
  EXPECT(output[0] == 5 && output[1] == 9 && output[2] == 13 && output[3] == 255);
  EXPECT(taco4j_qconv_run(conv, input, residual, output, 1, 2, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_qconv_run(conv, input, NULL, output, 1, 0, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_qconv_run(conv, NULL, NULL, output, 1, 2, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_qconv_run(conv, NULL, NULL, NULL, 0, 2, 2, NULL, NULL) == TACO4J_OK);
  taco4j_qconv_free(conv);

  options.adds = 1;
  options.residual.zero_point = 5;
  options.output.scale = 1.0f;
  EXPECT(taco4j_qconv_create(&options, weights, scales, bias, &conv) == TACO4J_OK);
  EXPECT(taco4j_qconv_run(conv, input, NULL, output, 1, 2, 2, NULL, NULL) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_qconv_run(conv, input, residual, output, 1, 2, 2, NULL, NULL) == TACO4J_OK);
  /* 1.5 + 0, 3.5 + 1, 5.5 + 2, 126.5 + 250 of steps 1: halves go to the even neighbour. */
  EXPECT(output[0] == 2 && output[1] == 4 && output[2] == 8 && output[3] == 255);
  taco4j_qconv_free(conv);

  conv = NULL;
  EXPECT(taco4j_qconv_create(&options, weights, negative, bias, &conv) ==
         TACO4J_INVALID_ARGUMENT);
  EXPECT(taco4j_qconv_create(&options, weights, NULL, bias, &conv) == TACO4J_INVALID_ARGUMENT);
  options.output.scale = 0.0f;
  EXPECT(taco4j_qconv_create(&options, weights, scales, bias, &conv) == TACO4J_INVALID_ARGUMENT);
  EXPECT(strstr(taco4j_error_message(), "scale of the output") != NULL);
  options.output.scale = 1.0f;
  options.conv.activation = TACO4J_RELU;
  EXPECT(taco4j_qconv_create(&options, weights, scales, bias, &conv) == TACO4J_INVALID_ARGUMENT);
  options.conv.activation = TACO4J_NONE;
  options.conv.struct_size = 8;
  EXPECT(taco4j_qconv_create(&options, weights, scales, bias, &conv) == TACO4J_INVALID_ARGUMENT);
  EXPECT(conv == NULL);
  taco4j_qconv_free(NULL);
}

int main(void) {
  test_by_hand();
  test_threads();
  test_pool_with_other_work();
  test_errors();
  test_bytes();
  if (failures > 0) fprintf(stderr, "%d failures\n", failures);
  return failures > 0;
}
