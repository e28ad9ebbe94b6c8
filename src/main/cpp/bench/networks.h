// The layers of known networks that benchmarks run, and the clock that they run by.
#pragma once

#include <cstdint>
#include <ctime>
#include <map>
#include <string>
#include <vector>

namespace taco4j::bench {

struct Layer {
  std::int64_t in, out, kernel, stride, size;  // size: of the input, square
  int times;                                   // in the network
  std::int64_t groups = 1;
};

// Without the stem, which stays dense.
inline const std::map<std::string, std::vector<Layer>> kNetworks = {
    {"resnet50",
     {{64, 64, 1, 1, 56, 1},     {64, 64, 3, 1, 56, 3},     {64, 256, 1, 1, 56, 4},
      {256, 64, 1, 1, 56, 2},    {256, 128, 1, 1, 56, 1},   {128, 128, 3, 2, 56, 1},
      {128, 512, 1, 1, 28, 4},   {256, 512, 1, 2, 56, 1},   {512, 128, 1, 1, 28, 3},
      {128, 128, 3, 1, 28, 3},   {512, 256, 1, 1, 28, 1},   {256, 256, 3, 2, 28, 1},
      {256, 1024, 1, 1, 14, 6},  {512, 1024, 1, 2, 28, 1},  {1024, 256, 1, 1, 14, 5},
      {256, 256, 3, 1, 14, 5},   {1024, 512, 1, 1, 14, 1},  {512, 512, 3, 2, 14, 1},
      {512, 2048, 1, 1, 7, 3},   {1024, 2048, 1, 2, 14, 1}, {2048, 512, 1, 1, 7, 2},
      {512, 512, 3, 1, 7, 2}}},
    {"resnet56",
     {{16, 16, 3, 1, 32, 18},
      {16, 32, 3, 2, 32, 1},
      {32, 32, 3, 1, 16, 17},
      {32, 64, 3, 2, 16, 1},
      {64, 64, 3, 1, 8, 17}}},
    // The products of a vision transformer, over 196 of its 197 tokens.
    {"deit-base", {{768, 2304, 1, 1, 14, 12}, {768, 768, 1, 1, 14, 12}, {768, 3072, 1, 1, 14, 12},
                   {3072, 768, 1, 1, 14, 12}}},
    {"deit-tiny", {{192, 576, 1, 1, 14, 12}, {192, 192, 1, 1, 14, 12}, {192, 768, 1, 1, 14, 12},
                   {768, 192, 1, 1, 14, 12}}},
    // First layers of three networks; to be run with sparsity=0.
    {"stems", {{3, 32, 3, 2, 224, 1}, {3, 16, 3, 2, 224, 1}, {3, 64, 7, 2, 224, 1},
               {3, 16, 3, 1, 32, 1}}},
    // The pointwise layers, and the depthwise ones; those are to be run with sparsity=0.
    {"mobilenetv2",
     {{32, 16, 1, 1, 112, 1}, {16, 96, 1, 1, 112, 1}, {96, 24, 1, 1, 56, 1},
      {24, 144, 1, 1, 56, 2}, {144, 24, 1, 1, 56, 1}, {144, 32, 1, 1, 28, 1},
      {32, 192, 1, 1, 28, 3}, {192, 32, 1, 1, 28, 2}, {192, 64, 1, 1, 14, 1},
      {64, 384, 1, 1, 14, 4}, {384, 64, 1, 1, 14, 3}, {384, 96, 1, 1, 14, 1},
      {96, 576, 1, 1, 14, 3}, {576, 96, 1, 1, 14, 2}, {576, 160, 1, 1, 7, 1},
      {160, 960, 1, 1, 7, 3}, {960, 160, 1, 1, 7, 2}, {960, 320, 1, 1, 7, 1},
      {320, 1280, 1, 1, 7, 1}}},
    {"mobilenetv2_depthwise",
     {{32, 32, 3, 1, 112, 1, 32}, {96, 96, 3, 2, 112, 1, 96},
      {144, 144, 3, 1, 56, 1, 144}, {144, 144, 3, 2, 56, 1, 144},
      {192, 192, 3, 1, 28, 2, 192}, {192, 192, 3, 2, 28, 1, 192},
      {384, 384, 3, 1, 14, 4, 384}, {576, 576, 3, 1, 14, 2, 576},
      {576, 576, 3, 2, 14, 1, 576}, {960, 960, 3, 1, 7, 3, 960}}},
    // Of MobileNetV3 and ConvNeXt.
    {"large_depthwise",
     {{72, 72, 5, 2, 56, 1, 72}, {120, 120, 5, 1, 28, 2, 120},
      {672, 672, 5, 2, 14, 1, 672}, {960, 960, 5, 1, 7, 2, 960},
      {96, 96, 7, 1, 56, 3, 96}, {192, 192, 7, 1, 28, 3, 192},
      {384, 384, 7, 1, 14, 9, 384}, {768, 768, 7, 1, 7, 3, 768}}},
};

// Of this thread: what other programs do to the clock does not count.
inline double seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace taco4j::bench
