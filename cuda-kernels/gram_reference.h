// What gram.cu computes, as plain loops in double: one sample after another, unfolded by the
// definition of a convolution. For the tests.
#pragma once

#include <cmath>
#include <vector>

namespace taco4j_reference {

// A convolution over images [images, groups · channels, height, width].
struct Convolution {
  int images, groups, channels, height, width;
  int kernel_height = 1, kernel_width = 1;
  int stride_height = 1, stride_width = 1;
  int top = 0, left = 0, bottom = 0, right = 0;
  int dilation_height = 1, dilation_width = 1;

  int cols() const { return channels * kernel_height * kernel_width; }
  int out_height() const {
    return (height + top + bottom - (kernel_height - 1) * dilation_height - 1) / stride_height + 1;
  }
  int out_width() const {
    return (width + left + right - (kernel_width - 1) * dilation_width - 1) / stride_width + 1;
  }
  int samples() const { return images * out_height() * out_width(); }
};

// The patches of one group: [samples, cols], column c·kh·kw + ky·kw + kx.
inline std::vector<double> unfold(const Convolution& u, int group, const std::vector<float>& x) {
  std::vector<double> patches;
  for (int n = 0; n < u.images; n++)
    for (int oy = 0; oy < u.out_height(); oy++)
      for (int ox = 0; ox < u.out_width(); ox++)
        for (int c = 0; c < u.channels; c++)
          for (int ky = 0; ky < u.kernel_height; ky++)
            for (int kx = 0; kx < u.kernel_width; kx++) {
              const int y = oy * u.stride_height + ky * u.dilation_height - u.top;
              const int px = ox * u.stride_width + kx * u.dilation_width - u.left;
              const bool inside = y >= 0 && y < u.height && px >= 0 && px < u.width;
              const size_t channel = (size_t)(n * u.groups + group) * u.channels + c;
              patches.push_back(inside ? x[(channel * u.height + y) * u.width + px] : 0.0);
            }
  return patches;
}

// LᵀR of L: [samples, rows] and R: [samples, cols], and with absolute values in place of values:
// rounding errors are measured by that.
struct Product {
  std::vector<double> values, magnitudes;  // [rows, cols]
};

inline Product multiply(const std::vector<double>& left, int rows,
                        const std::vector<double>& right, int cols) {
  Product product{std::vector<double>((size_t)rows * cols), std::vector<double>((size_t)rows * cols)};
  const size_t samples = left.size() / rows;
  for (size_t s = 0; s < samples; s++)
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < cols; j++) {
        const double value = left[s * rows + i] * right[s * cols + j];
        product.values[(size_t)i * cols + j] += value;
        product.magnitudes[(size_t)i * cols + j] += std::fabs(value);
      }
  return product;
}

}  // namespace taco4j_reference
