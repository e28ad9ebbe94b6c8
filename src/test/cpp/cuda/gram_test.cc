// gram.cu against gram_reference.h: convolutions of awkward shapes in both sizes of tiles, matrix
// products, shifted 3x3 kernels, and cross products; the same bytes in every order of threads.
#include "gram.cu"

#include <cstdio>
#include <functional>
#include <random>
#include <string>

#include "gram_reference.h"

using taco4j_reference::Convolution;
using taco4j_reference::multiply;
using taco4j_reference::Product;
using taco4j_reference::unfold;

int failures = 0;

int padded(int channels) { return (channels + 3) / 4 * 4; }

std::vector<float> random_values(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.3f, 1.f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// Images in device memory, as the host lays them out.
struct Pixels {
  Convolution u;
  int ones = 0;
  int channels() const { return padded(u.channels + ones); }
  int rows() const { return u.top + u.height + u.bottom; }
  int row() const { return (u.left + u.width + u.right) * u.groups * channels(); }
  int image() const { return rows() * row(); }
  int pixel() const { return u.groups * channels(); }
  // Behind the last image are zeros for what shifts read beyond it.
  size_t size() const { return (size_t)u.images * image() + row() + 3 * pixel(); }

  std::vector<float> lay_out(const std::vector<float>& x) const {
    std::vector<float> out(size(), 0.f);
    const int pixels = u.height * u.width;
    taco4j_shim::launch(
        taco4j_gram_pixels_f32,
        dim3(taco4j::ceil_div(pixels, 32), u.groups * taco4j::ceil_div(channels(), 32), u.images),
        dim3(256), 0, x.data(), pixels, u.width, u.groups, u.channels, channels(), ones,
        out.data() + u.top * row() + u.left * pixel(), image(), row());
    return out;
  }

  // Offsets of columns in the order (ky, kx, c).
  std::vector<int> columns() const {
    std::vector<int> offsets;
    for (int ky = 0; ky < u.kernel_height; ky++)
      for (int kx = 0; kx < u.kernel_width; kx++)
        for (int c = 0; c < channels(); c += 4)
          offsets.push_back(ky * u.dilation_height * row() + kx * u.dilation_width * pixel() + c);
    return offsets;
  }

  // Where the layer's columns are among those.
  std::vector<int> order() const {
    const int taps = u.kernel_height * u.kernel_width;
    std::vector<int> order;
    for (int i = 0; i < u.cols(); i++) order.push_back(i % taps * channels() + i / taps);
    return order;
  }
};

// The left half of a product (and by swap the right one).
void set_left(GramProduct& p, const Pixels& x, int first, int quads) {
  p.left_start = 0;
  p.left_image = x.image();
  p.left_row = x.u.stride_height * x.row();
  p.left_pixel = x.u.stride_width * x.pixel();
  p.left_group = x.channels();
  p.left_columns = first;
  p.left_quads = quads;
}

void set_right(GramProduct& p, const Pixels& x, int first, int quads) {
  p.right_start = 0;
  p.right_image = x.image();
  p.right_row = x.u.stride_height * x.row();
  p.right_pixel = x.u.stride_width * x.pixel();
  p.right_group = x.channels();
  p.right_columns = first;
  p.right_quads = quads;
}

int count_blocks(std::vector<GramProduct>& products, int tile) {
  int blocks = 0;
  for (GramProduct& p : products) {
    p.first_block = blocks;
    blocks += p.splits * taco4j::gram_tiles(p, tile);
  }
  return blocks;
}

void add(int tile, int blocks, int groups, const std::vector<float>& left,
         const std::vector<float>& right, const std::vector<int>& columns,
         const std::vector<GramProduct>& products, int images, int slice,
         std::vector<double>& sums) {
  taco4j_shim::launch(tile == 128 ? taco4j_gram128_f32 : taco4j_gram64_f32, dim3(blocks, groups),
                      dim3(tile == 128 ? 256 : 64), 0, left.data(), right.data(), columns.data(),
                      products.data(), (int)products.size(), images, slice, sums.data());
}

std::vector<double> finish(int tile, const GramProduct& product, const std::vector<int>& rows,
                           const std::vector<int>& cols, const double* sums) {
  std::vector<double> out = taco4j_shim::poisoned<double>(rows.size() * cols.size());
  taco4j_shim::launch(taco4j_gram_finish_f64, dim3(taco4j::ceil_div((int)cols.size(), 64), rows.size()),
                      dim3(64), 0, &product, rows.data(), cols.data(), (int)cols.size(), tile, sums,
                      out.data());
  return out;
}

// Float sums of `length` products each err by at most length · u · Σ |a b|, and shifts take up to
// four of them.
void compare(const std::string& name, const std::vector<double>& actual, const Product& expected,
             int length) {
  for (size_t i = 0; i < expected.values.size(); i++) {
    const double bound = (length + 2) * 0x1p-24 * expected.magnitudes[i] + 1e-12;
    if (!(std::fabs(actual[i] - expected.values[i]) <= bound)) {
      std::printf("%s: element %zu is %.9g, not %.9g within %.2g\n", name.c_str(), i, actual[i],
                  expected.values[i], bound);
      failures++;
      return;
    }
  }
}

// Runs in all orders of threads and compares the bytes.
void in_all_orders(const std::string& name, const std::function<std::vector<double>()>& run,
                   const std::function<void(const std::vector<double>&)>& check) {
  std::vector<double> first;
  taco4j_shim::for_each_order([&](const char* order) {
    const std::vector<double> result = run();
    if (first.empty()) {
      first = result;
      check(first);
    } else if (std::memcmp(first.data(), result.data(), first.size() * sizeof(double)) != 0) {
      std::printf("%s: other bytes in order %s\n", name.c_str(), order);
      failures++;
    }
  });
}

void check_convolution(const char* name, const Convolution& u, int tile, int splits, int slice) {
  const std::vector<float> x =
      random_values((size_t)u.images * u.groups * u.channels * u.height * u.width, u.channels);
  const Pixels pixels{u};
  const std::vector<int> columns = pixels.columns();
  const std::vector<int> order = pixels.order();
  std::vector<GramProduct> products(1);
  GramProduct& p = products[0];
  p.height = u.out_height();
  p.width = u.out_width();
  set_left(p, pixels, 0, columns.size());
  set_right(p, pixels, 0, columns.size());
  p.triangle = 1;
  p.splits = splits;
  const int blocks = count_blocks(products, tile);
  const std::string what = std::string(name) + ", tile " + std::to_string(tile);
  in_all_orders(
      what,
      [&] {
        const std::vector<float> laid_out = pixels.lay_out(x);
        std::vector<double> sums((size_t)u.groups * blocks * tile * tile, 0.0);
        // Twice, and the first image alone: what is there stays.
        add(tile, blocks, u.groups, laid_out, laid_out, columns, products, u.images, slice, sums);
        add(tile, blocks, u.groups, laid_out, laid_out, columns, products, 1, slice, sums);
        std::vector<double> grams;
        for (int g = 0; g < u.groups; g++) {
          const std::vector<double> gram = finish(
              tile, p, order, order, sums.data() + (size_t)g * blocks * tile * tile);
          grams.insert(grams.end(), gram.begin(), gram.end());
        }
        return grams;
      },
      [&](const std::vector<double>& grams) {
        Convolution one = u;
        one.images = 1;
        const int n = u.cols();
        for (int g = 0; g < u.groups; g++) {
          std::vector<double> samples = unfold(u, g, x);
          const std::vector<double> again = unfold(one, g, x);
          samples.insert(samples.end(), again.begin(), again.end());
          const std::vector<double> gram(grams.begin() + (size_t)g * n * n,
                                         grams.begin() + (size_t)(g + 1) * n * n);
          compare(what, gram, multiply(samples, n, samples, n), std::min(slice, u.samples()));
          for (int i = 0; i < n; i++)
            for (int j = 0; j < i; j++)
              if (gram[i * n + j] != gram[j * n + i]) {
                std::printf("%s: not symmetric\n", what.c_str());
                failures++;
                return;
              }
        }
      });
}

// A matrix product: rows are images of one pixel.
void check_rows(int samples, int features, int tile, int splits) {
  const std::vector<float> x = random_values((size_t)samples * features, features);
  const int stride = padded(features);
  std::vector<int> columns, order;
  for (int i = 0; i < stride; i += 4) columns.push_back(i);
  for (int i = 0; i < features; i++) order.push_back(i);
  std::vector<GramProduct> products(1);
  GramProduct& p = products[0];
  p = GramProduct{1, 1, 0, stride, 0, 0, 0, 0, stride, 0, 0, 0, 0, stride / 4, 0, stride / 4, 1,
                  splits, 0};
  const int blocks = count_blocks(products, tile);
  const std::string what = "rows " + std::to_string(samples) + " x " + std::to_string(features);
  in_all_orders(
      what,
      [&] {
        std::vector<float> rows = taco4j_shim::poisoned<float>((size_t)samples * stride);
        taco4j_shim::launch(taco4j_gram_rows_f32, dim3(3), dim3(64), 0, x.data(), samples, features,
                            stride, 0, rows.data());
        std::vector<double> sums((size_t)blocks * tile * tile, 0.0);
        add(tile, blocks, 1, rows, rows, columns, products, samples, 64, sums);
        return finish(tile, p, order, order, sums.data());
      },
      [&](const std::vector<double>& gram) {
        const std::vector<double> doubles(x.begin(), x.end());
        compare(what, gram, multiply(doubles, features, doubles, features), 64);
      });
}

// 3x3, stride 1, padding 1: from shifts.
void check_shifts(int images, int groups, int channels, int height, int width, int tile,
                  int splits) {
  Convolution u{images, groups, channels, height, width, 3, 3, 1, 1, 1, 1, 1, 1};
  const std::vector<float> x = random_values((size_t)images * groups * channels * height * width, height);
  const Pixels pixels{u};
  const int quads = pixels.channels() / 4;
  std::vector<int> columns;
  auto shift = [&](int dy, int dx) {
    for (int c = 0; c < pixels.channels(); c += 4)
      columns.push_back(dy * pixels.row() + dx * pixels.pixel() + c);
  };
  for (int dx = 0; dx < 3; dx++) shift(0, dx);
  for (int dy = 1; dy < 3; dy++)
    for (int dx = -2; dx < 3; dx++) shift(dy, dx);
  const int down = columns.size();
  for (int dy = 0; dy < 3; dy++) shift(dy, 0);

  // The positions of a product are some of the pixels of an image.
  std::vector<GramProduct> products;
  auto product = [&](int y, int rows, int px, int cols, int first, int shifts, int parts) {
    GramProduct p{};
    p.height = rows;
    p.width = cols;
    set_left(p, pixels, 0, quads);
    set_right(p, pixels, first, quads * shifts);
    p.left_start = p.right_start = (y + 1) * pixels.row() + (px + 1) * pixels.pixel();
    p.splits = parts;
    products.push_back(p);
  };
  product(0, height, 0, width, 0, 13, splits);
  for (int y : {0, height - 1}) product(y, 1, 0, width, 0, 3, 1);
  for (int px : {0, width - 1}) product(0, height, px, 1, down, 3, 1);
  for (int y : {0, height - 1})
    for (int px : {0, width - 1}) product(y, 1, px, 1, 0, 1, 1);
  const int blocks = count_blocks(products, tile);
  const int n = u.cols();
  const std::string what = "shifts, " + std::to_string(channels) + " channels " +
                           std::to_string(height) + " x " + std::to_string(width);
  in_all_orders(
      what,
      [&] {
        const std::vector<float> laid_out = pixels.lay_out(x);
        std::vector<double> sums((size_t)groups * blocks * tile * tile, 0.0);
        add(tile, blocks, groups, laid_out, laid_out, columns, products, images, 128, sums);
        std::vector<double> grams;
        for (int g = 0; g < groups; g++) {
          // In two parts, as the host may read it.
          const int half = n / 2;
          std::vector<double> out = taco4j_shim::poisoned<double>((size_t)n * n);
          for (int row : {0, half}) {
            const int rows = row == 0 ? half : n - half;
            taco4j_shim::launch(taco4j_gram_shift_f64, dim3(taco4j::ceil_div(n, 64), rows), dim3(64),
                                0, products.data(), channels, pixels.channels(), tile,
                                sums.data() + (size_t)g * blocks * tile * tile, row,
                                out.data() + (size_t)row * n);
          }
          grams.insert(grams.end(), out.begin(), out.end());
        }
        return grams;
      },
      [&](const std::vector<double>& grams) {
        for (int g = 0; g < groups; g++) {
          const std::vector<double> samples = unfold(u, g, x);
          Product expected = multiply(samples, n, samples, n);
          // What is subtracted again errs, too: at most what one channel pair sums to over all.
          double most = 0;
          for (double m : expected.magnitudes) most = std::max(most, m);
          for (double& m : expected.magnitudes) m = 4 * most;
          compare(what,
                  std::vector<double>(grams.begin() + (size_t)g * n * n,
                                      grams.begin() + (size_t)(g + 1) * n * n),
                  expected, 16);
        }
      });
}

// Σ r xᵀ, Σ x and Σ r in one launch: residuals have one more channel, of ones.
void check_cross(int images, int groups, int channels, int outputs, int tile) {
  const Convolution u{images, groups, channels, 9, 7, 3, 3, 2, 2, 1, 1, 1, 0};
  const Convolution v{images, groups, outputs, u.out_height(), u.out_width()};
  const std::vector<float> x = random_values((size_t)images * groups * channels * 63, 1);
  const std::vector<float> r = random_values((size_t)groups * v.channels * v.samples(), 2);
  const Pixels inputs{u};
  const Pixels residuals{v, 1};
  std::vector<int> columns = inputs.columns();
  const int first = columns.size();
  for (int offset : residuals.columns()) columns.push_back(offset);
  std::vector<GramProduct> products(1);
  GramProduct& p = products[0];
  p.height = v.height;
  p.width = v.width;
  set_left(p, residuals, first, residuals.channels() / 4);
  set_right(p, inputs, 0, first);
  p.splits = 3;
  const int blocks = count_blocks(products, tile);
  std::vector<int> rows;
  for (int i = 0; i <= outputs; i++) rows.push_back(i);
  const int n = u.cols();
  const std::string what = "cross, " + std::to_string(channels) + " to " + std::to_string(outputs);
  in_all_orders(
      what,
      [&] {
        std::vector<double> sums((size_t)groups * blocks * tile * tile, 0.0);
        add(tile, blocks, groups, residuals.lay_out(r), inputs.lay_out(x), columns, products, images,
            4096, sums);
        std::vector<double> all;
        for (int g = 0; g < groups; g++) {
          const std::vector<double> cross = finish(
              tile, p, rows, inputs.order(), sums.data() + (size_t)g * blocks * tile * tile);
          all.insert(all.end(), cross.begin(), cross.end());
        }
        return all;
      },
      [&](const std::vector<double>& all) {
        const size_t size = (size_t)(outputs + 1) * n;
        for (int g = 0; g < groups; g++) {
          const std::vector<double> left = unfold(v, g, r);
          std::vector<double> with_one;
          for (size_t i = 0; i < left.size(); i++) {
            with_one.push_back(left[i]);
            if (i % outputs == (size_t)outputs - 1) with_one.push_back(1);
          }
          compare(what,
                  std::vector<double>(all.begin() + g * size, all.begin() + (g + 1) * size),
                  multiply(with_one, outputs + 1, unfold(u, g, x), n), v.samples());
        }
      });
}

int main() {
  // images, groups, channels, height, width, kernel, strides, top, left, bottom, right, dilations
  const struct {
    const char* name;
    Convolution u;
  } convolutions[] = {
      {"1x1, 1 channel, 1 pixel", {1, 1, 1, 1, 1}},
      {"1x1, 3 channels", {2, 1, 3, 5, 7}},
      {"1x1, 17 channels", {3, 1, 17, 3, 11}},
      {"1x1, 64 channels, stride 2", {2, 1, 64, 7, 6, 1, 1, 2, 2}},
      {"1x1, 129 channels", {1, 1, 129, 4, 5}},
      {"3x3, 1 channel", {2, 1, 1, 9, 8, 3, 3, 1, 1, 1, 1, 1, 1}},
      {"3x3, 3 channels, groups", {2, 3, 3, 6, 7, 3, 3, 1, 1, 1, 1, 1, 1}},
      {"3x3, 17 channels, valid", {2, 1, 17, 5, 6, 3, 3}},
      {"3x3, 64 channels", {1, 1, 64, 4, 4, 3, 3, 1, 1, 1, 1, 1, 1}},
      {"depthwise 3x3, stride 2", {2, 5, 1, 8, 9, 3, 3, 2, 2, 1, 1, 1, 1}},
      {"7x7, stride 2", {2, 1, 3, 17, 15, 7, 7, 2, 2, 3, 3, 3, 3}},
      {"3x3, dilation 2, uneven pads", {2, 1, 5, 9, 10, 3, 3, 1, 1, 2, 0, 1, 3, 2, 2}},
      {"5x3, strides 3 and 1", {3, 2, 4, 11, 6, 5, 3, 3, 1, 0, 1, 2, 0, 1, 2}},
      {"1-d, kernel 5", {3, 1, 17, 1, 31, 1, 5, 1, 2, 0, 2, 0, 1}},
      {"columns of a matrix", {2, 1, 33, 1, 129}},
  };
  for (const auto& c : convolutions) {
    check_convolution(c.name, c.u, 64, 3, 16);
    check_convolution(c.name, c.u, 128, 1, 4096);
  }
  for (const int features : {1, 3, 17, 127, 128, 129, 300}) {
    check_rows(37, features, 64, 2);
    check_rows(129, features, 128, 5);
  }
  check_rows(1, 8, 64, 4);
  check_shifts(1, 1, 1, 1, 1, 64, 1);
  check_shifts(2, 1, 3, 1, 5, 64, 2);
  check_shifts(2, 1, 3, 5, 1, 64, 2);
  check_shifts(1, 1, 17, 2, 3, 64, 1);
  check_shifts(3, 2, 5, 4, 7, 128, 3);
  check_shifts(2, 1, 36, 6, 5, 64, 3);
  check_cross(3, 1, 5, 7, 64);
  check_cross(2, 2, 4, 64, 128);
  return failures == 0 ? 0 : 1;
}
