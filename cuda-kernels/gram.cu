// Gram matrices G = X Xᵀ of layer problems, with a convolution's unfolding fused in, and the cross
// products R Xᵀ that sequential reconstruction needs. Products of float32 are added up in float32
// over one slice of at most some thousand samples, slices in float64.
//
// Images come in ONNX's order, [channels, height, width], and are first laid out with the channels
// of a pixel beside one another, zeros around the image and each group's channels filled up to a
// multiple of four (taco4j_gram_pixels_f32). Then the patch that belongs to an output position needs
// no tests for borders, and is read in 16-byte loads: the address of an element is the sum of one
// part that depends on the sample (image, y, x) and one that depends on the column (ky, kx, c). So a
// product is described by strides and a table of column offsets (GramProduct), and the same kernel
// serves convolutions of any kind, matrix products (a row is an image of one pixel), the shifts of
// 3x3 convolutions, and cross products. The unfolded matrix is never formed.
//
// What bounds it: float32 arithmetic. A tile of 128 x 128 outputs does 128² · 2 operations on 1 KiB
// that it loads, 32 operations a byte from the second-level cache; of a slice of 4096 samples it
// does 134 million operations and then reads and writes 128 KiB of float64 sums each, 512 operations
// a byte (a T4 does 25 in the time that its memory delivers a byte, an H100 20). Each thread holds
// 8 x 8 sums in registers and reads 64 bytes of shared memory for 128 operations; a warp covers
// 32 x 64 outputs, so that these reads are one wavefront each. Tiles of the next eight samples are
// loaded into registers while these are multiplied, with one barrier for eight samples. Counted are
// cols² · samples operations, those of one triangle with its diagonal; tiles on the diagonal do
// twice what counts, and columns are filled up to the tile.
//
// nvcc gives the kernels 128 registers, all that two blocks of 256 threads can have; it spills
// 20 to 60 bytes, which vanish when the float64 sums are left out, so the loop over samples is not
// what spills. On a GPU nothing of this has run yet; the aim is 70 % of cuBLAS's SGEMM rate.
//
// What fills the device: a layer of few columns has few tiles, so samples are split over blocks
// too. Each pair of tile and split has float64 sums of its own, that stay until the layer is
// finished and are then added in order: there are no atomics, and the number of splits depends on
// the shape only.
#include "common.cuh"

namespace taco4j {

// One product of a launch: sums over samples s of left(s, i) · right(s, j), where
//   left(s, i) = left[left_start + image·left_image + y·left_row + x·left_pixel
//                     + group·left_group + columns[left_columns + i / 4] + i % 4]
// and right alike. Sample s of image·height·width is position (y, x) of an image. All starts, strides
// and offsets are multiples of 4, in elements.
struct GramProduct {
  int height, width;
  int left_start, left_image, left_row, left_pixel, left_group;
  int right_start, right_image, right_row, right_pixel, right_group;
  // Where each side's offsets begin in the table, and how many: four columns have one.
  int left_columns, left_quads, right_columns, right_quads;
  int triangle;     // 1: both sides are the same, tiles below the diagonal are left out
  int splits;       // into how many parts the samples are divided
  int first_block;  // blocks, for one group, of the products before: splits · tiles each
};

// Samples that are in shared memory at a time; slices are multiples of it.
constexpr int kGramDepth = 8;

__host__ __device__ inline int gram_tiles(const GramProduct& product, int tile) {
  const int rows = ceil_div(product.left_quads * 4, tile);
  const int cols = ceil_div(product.right_quads * 4, tile);
  return product.triangle ? rows * (rows + 1) / 2 : rows * cols;
}

// The number of tile (row, col); in a triangle row <= col.
__host__ __device__ inline int gram_tile_number(const GramProduct& product, int tile, int row,
                                                int col) {
  const int cols = ceil_div(product.right_quads * 4, tile);
  return product.triangle ? row * (2 * cols - row - 1) / 2 + col : row * cols + col;
}

// A thread's place in the square of kTile / 8 threads a side: a warp is 4 rows of 8.
template <int kTile>
struct GramThread {
  static constexpr int kWarpsAcross = kTile / 64;

  __host__ __device__ static int row(int thread) {
    return thread / kWarp / kWarpsAcross * 4 + thread % kWarp / 8;
  }
  __host__ __device__ static int col(int thread) {
    return thread / kWarp % kWarpsAcross * 8 + thread % 8;
  }

  // Where element (row, col) of a tile lies in its sums, [64 elements of a thread, threads]. A
  // thread has rows and columns 4·k to 4·k + 3 in both halves of the tile, k its place.
  __host__ __device__ static int element(int row, int col) {
    constexpr int kHalf = kTile / 2;
    const int i = row / kHalf * 4 + row % 4;
    const int j = col / kHalf * 4 + col % 4;
    const int down = row % kHalf / 4;
    const int across = col % kHalf / 4;
    const int warp = down / 4 * kWarpsAcross + across / 8;
    return (i * 8 + j) * (kTile * kTile / 64) + warp * kWarp + down % 4 * 8 + across % 8;
  }
};

// A product, and how far kGramDepth samples are: images, rows and pixels.
struct GramStep {
  GramProduct product;
  int images, rows, pixels;
};

// Position (image, y, x) of a sample.
struct GramCursor {
  int image, y, x;

  __device__ GramCursor(const GramProduct& product, int sample) {
    const int positions = product.height * product.width;
    image = sample / positions;
    y = sample % positions / product.width;
    x = sample % product.width;
  }

  __device__ __forceinline__ void advance(const GramStep& step) {
    x += step.pixels;
    y += step.rows;
    image += step.images;
    if (x >= step.product.width) {
      x -= step.product.width;
      ++y;
    }
    if (y >= step.product.height) {
      y -= step.product.height;
      ++image;
    }
  }
};

template <int kTile>
__device__ __forceinline__ void gram(const float* __restrict__ left, const float* __restrict__ right,
                                     const int* __restrict__ columns,
                                     const GramProduct* __restrict__ products, int count,
                                     int images, int slice, double* __restrict__ sums) {
  constexpr int kThreads = kTile * kTile / 64;
  constexpr int kQuads = kTile / 4;
  // A thread loads kLoads times four columns of one sample, from either side.
  constexpr int kLoads = kQuads * kGramDepth / kThreads;
  constexpr int kLoaders = kQuads / kLoads;
  __shared__ float4 left_tile[2][kGramDepth][kQuads];
  __shared__ float4 right_tile[2][kGramDepth][kQuads];

  // Strides wait in shared memory: registers are for sums.
  __shared__ GramStep step;
  const int block = blockIdx.x;
  if (threadIdx.x == 0) {
    int number = 0;
    while (number + 1 < count && block >= products[number + 1].first_block) ++number;
    step.product = products[number];
    step.images = kGramDepth / (step.product.height * step.product.width);
    step.rows = kGramDepth / step.product.width % step.product.height;
    step.pixels = kGramDepth % step.product.width;
  }
  __syncthreads();
  const GramProduct& product = step.product;
  const int tiles = gram_tiles(product, kTile);
  const int split = (block - product.first_block) / tiles;
  int tile_col = (block - product.first_block) % tiles;
  int tile_row = 0;
  for (int width = ceil_div(product.right_quads * 4, kTile); tile_col >= width; ++tile_row) {
    tile_col -= width;
    width -= product.triangle;
  }
  tile_col += product.triangle * tile_row;

  // The last split may be smaller, or empty.
  const int samples = images * product.height * product.width;
  const int part = ceil_div(ceil_div(samples, product.splits), kGramDepth) * kGramDepth;
  const int from = min(split * part, samples);
  const int to = min(from + part, samples);
  if (from == to) return;

  const int thread = threadIdx.x;
  const int depth = thread / kLoaders;
  const float* left_base =
      left + product.left_start + (long long)blockIdx.y * product.left_group;
  const float* right_base =
      right + product.right_start + (long long)blockIdx.y * product.right_group;
  int left_column[kLoads];   // offset of the four columns; -1 beyond the last
  int right_column[kLoads];
#pragma unroll
  for (int l = 0; l < kLoads; ++l) {
    const int quad = thread % kLoaders + l * kLoaders;
    const int i = tile_row * kQuads + quad;
    const int j = tile_col * kQuads + quad;
    left_column[l] = i < product.left_quads ? columns[product.left_columns + i] : -1;
    right_column[l] = j < product.right_quads ? columns[product.right_columns + j] : -1;
  }

  GramCursor cursor(product, from + depth);
  float4 left_next[kLoads];
  float4 right_next[kLoads];
  // Loads this thread's part of the eight samples from `base` on, of which those before `end` count.
  auto load = [&](int base, int end) {
    const bool inside = base + depth < end;
    const float* left_sample = left_base + (long long)cursor.image * product.left_image +
                               cursor.y * product.left_row + cursor.x * product.left_pixel;
    const float* right_sample = right_base + (long long)cursor.image * product.right_image +
                                cursor.y * product.right_row + cursor.x * product.right_pixel;
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      left_next[l] = inside && left_column[l] >= 0
                         ? *reinterpret_cast<const float4*>(left_sample + left_column[l])
                         : make_float4(0.f, 0.f, 0.f, 0.f);
      right_next[l] = inside && right_column[l] >= 0
                          ? *reinterpret_cast<const float4*>(right_sample + right_column[l])
                          : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    cursor.advance(step);
  };
  auto store = [&](int buffer) {
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      left_tile[buffer][depth][thread % kLoaders + l * kLoaders] = left_next[l];
      right_tile[buffer][depth][thread % kLoaders + l * kLoaders] = right_next[l];
    }
  };

  const int row = GramThread<kTile>::row(thread);
  const int col = GramThread<kTile>::col(thread);
  double* tile_sums = sums + ((long long)blockIdx.y * gridDim.x + block) * (kTile * kTile);
  int buffer = 0;
#pragma unroll 1
  for (int begin = from; begin < to; begin += slice) {
    const int end = min(begin + slice, to);
    float sum[8][8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] = 0.f;
    }
    load(begin, end);
    store(buffer);
    __syncthreads();
#pragma unroll 1
    for (int base = begin; base < end; base += kGramDepth) {
      const bool more = base + kGramDepth < end;
      if (more) load(base + kGramDepth, end);
#pragma unroll
      for (int k = 0; k < kGramDepth; ++k) {
        const float4 a0 = left_tile[buffer][k][row];
        const float4 a1 = left_tile[buffer][k][row + kQuads / 2];
        const float4 b0 = right_tile[buffer][k][col];
        const float4 b1 = right_tile[buffer][k][col + kQuads / 2];
        const float a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
        const float b[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
          for (int j = 0; j < 8; ++j) sum[i][j] += a[i] * b[j];
        }
      }
      // The other buffer was read before the last barrier, so that it is free.
      buffer ^= 1;
      if (more) store(buffer);
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) tile_sums[(i * 8 + j) * kThreads + thread] += sum[i][j];
    }
  }
}

// Element (row, col) of a product: its splits in order.
template <int kTile>
__device__ __forceinline__ double gram_value(const GramProduct& product,
                                             const double* __restrict__ sums, int row, int col) {
  if (product.triangle && row > col) {
    const int swap = row;
    row = col;
    col = swap;
  }
  const int tiles = gram_tiles(product, kTile);
  const int tile = gram_tile_number(product, kTile, row / kTile, col / kTile);
  const int element = GramThread<kTile>::element(row % kTile, col % kTile);
  double value = 0;
  for (int split = 0; split < product.splits; ++split) {
    value += sums[(long long)(product.first_block + split * tiles + tile) * (kTile * kTile) +
                  element];
  }
  return value;
}

__device__ __forceinline__ double gram_value(int tile, const GramProduct& product,
                                             const double* __restrict__ sums, int row, int col) {
  return tile == 128 ? gram_value<128>(product, sums, row, col)
                     : gram_value<64>(product, sums, row, col);
}

}  // namespace taco4j

using taco4j::GramProduct;

// Adds the samples of some images to the sums of a few products.
// grid: (blocks of all products, groups); block: 256 for tiles of 128, 64 for tiles of 64.
// left, right: what GramProduct reads, 16-byte aligned
// columns: offsets of columns, four a number
// products: [count], by first_block
// images: of which there are samples, images · height · width < 2^31 for each product
// slice: samples that are added up in float32, a multiple of 8
// sums: [groups, blocks, tile²], zero before the first launch
TACO4J_KERNEL __launch_bounds__(256, 2)
    taco4j_gram128_f32(const float* __restrict__ left, const float* __restrict__ right,
                       const int* __restrict__ columns, const GramProduct* __restrict__ products,
                       int count, int images, int slice, double* __restrict__ sums) {
  taco4j::gram<128>(left, right, columns, products, count, images, slice, sums);
}

TACO4J_KERNEL __launch_bounds__(64, 8)
    taco4j_gram64_f32(const float* __restrict__ left, const float* __restrict__ right,
                      const int* __restrict__ columns, const GramProduct* __restrict__ products,
                      int count, int images, int slice, double* __restrict__ sums) {
  taco4j::gram<64>(left, right, columns, products, count, images, slice, sums);
}

// Lays images out as pixels. A transposition through shared memory: bound by memory, each value is
// read and written once, in runs of 128 bytes where images have that many pixels and channels.
// grid: (ceil(pixels / 32), groups · ceil(padded / 32), images <= 65535); block: 256.
// x: [images, groups · channels, pixels], pixels = height · width
// width: of an image, in pixels
// channels: of one group
// padded: channels of one group in `out`, a multiple of 4 and >= channels + ones; zeros follow
// ones: 1: one more channel, whose values are 1
// out: element (image, y, x, group, c) at image·image_stride + y·row_stride + (x·groups + group)·
//      padded + c; nothing else is written
TACO4J_KERNEL taco4j_gram_pixels_f32(const float* __restrict__ x, int pixels, int width, int groups,
                                     int channels, int padded, int ones, float* __restrict__ out,
                                     long long image_stride, int row_stride) {
  __shared__ float tile[32][33];
  const int chunks = taco4j::ceil_div(padded, 32);
  const int group = blockIdx.y / chunks;
  const int first = blockIdx.y % chunks * 32;
  const int wide = min(32, padded - first);
  const int pixel0 = blockIdx.x * 32;
  const long long image = blockIdx.z;
  const float* planes = x + (image * groups + group) * channels * (long long)pixels;
  for (int i = threadIdx.x; i < wide * 32; i += blockDim.x) {
    const int c = first + i / 32;
    const int pixel = pixel0 + i % 32;
    float value = c == channels && ones ? 1.f : 0.f;
    if (c < channels && pixel < pixels) value = planes[(long long)c * pixels + pixel];
    tile[i / 32][i % 32] = value;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < wide * 32; i += blockDim.x) {
    const int pixel = pixel0 + i / wide;
    if (pixel < pixels) {
      out[image * image_stride + (long long)(pixel / width) * row_stride +
          ((long long)(pixel % width) * groups + group) * padded + first + i % wide] =
          tile[i % wide][i / wide];
    }
  }
}

// Copies the rows of a matrix to where their length is a multiple of 4; bound by memory.
// grid: any; block: any.
// x: [samples, features]
// ones: 1: one more feature, whose values are 1
// out: [samples, padded], padded >= features + ones; zeros follow
TACO4J_KERNEL taco4j_gram_rows_f32(const float* __restrict__ x, long long samples, int features,
                                   int padded, int ones, float* __restrict__ out) {
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < samples * padded;
       i += step) {
    const long long sample = i / padded;
    const int feature = (int)(i % padded);
    float value = feature == features && ones ? 1.f : 0.f;
    if (feature < features) value = x[sample * features + feature];
    out[i] = value;
  }
}

// Some rows of a product in the layer's order of columns, both triangles. Once for a layer: bound by
// the latency of scattered reads, which the second-level cache serves.
// grid: (ceil(cols / blockDim.x), rows <= 65535); block: any.
// product: the one that is meant
// left_order: [rows]: which row of the product each row of `out` is; right_order: [cols], alike
// tile: 128 or 64
// sums: those of one group
// out: [rows, cols]
TACO4J_KERNEL taco4j_gram_finish_f64(const GramProduct* __restrict__ product,
                                     const int* __restrict__ left_order,
                                     const int* __restrict__ right_order, int cols, int tile,
                                     const double* __restrict__ sums, double* __restrict__ out) {
  const int col = blockIdx.x * blockDim.x + threadIdx.x;
  const int row = blockIdx.y;
  if (col < cols) {
    out[taco4j::index(row, cols, col)] =
        taco4j::gram_value(tile, *product, sums, left_order[row], right_order[col]);
  }
}

// Some rows of the Gram matrix of a 3x3 convolution with stride 1 and padding 1, from products of
// shifted images (the derivation is in ShiftGram.java): with k and k' positions in the kernel,
// G(k, k') = R(k' - k) - row(k) - column(k) + corner(k).
// grid: (ceil(9 · channels / blockDim.x), rows <= 65535); block: any.
// products: [9], the first of whose columns is a channel of the image in all:
//   0: all pixels; columns: shifts (0,0) (0,1) (0,2) (1,-2) .. (1,2) (2,-2) .. (2,2), each of
//      `padded` channels
//   1, 2: first and last row; columns: shifts (0,0) (0,1) (0,2)
//   3, 4: first and last column; columns: shifts (0,0) (1,0) (2,0)
//   5, 6: corners of the first row, left and right; 7, 8: of the last row; columns: channels
// first_row: of the matrix, the first of `out`
// sums: those of one group
// out: [rows, 9 · channels]; row and column c·9 + ky·3 + kx
TACO4J_KERNEL taco4j_gram_shift_f64(const GramProduct* __restrict__ products, int channels,
                                    int padded, int tile, const double* __restrict__ sums,
                                    int first_row, double* __restrict__ out) {
  const int cols = 9 * channels;
  const int col = blockIdx.x * blockDim.x + threadIdx.x;
  if (col >= cols) return;
  int c = (first_row + blockIdx.y) / 9;
  int k = (first_row + blockIdx.y) % 9;
  int d = col / 9;
  int l = col % 9;
  if (k > l) {  // the shift of the transposed entry is in the list
    const int swap_c = c;
    const int swap_k = k;
    c = d;
    k = l;
    d = swap_c;
    l = swap_k;
  }
  const int dy = l / 3 - k / 3;
  const int dx = l % 3 - k % 3;
  const int shift = dy == 0 ? dx : dy * 5 + dx;
  double value = taco4j::gram_value(tile, products[0], sums, c, shift * padded + d);
  // Kernel row 0 never sees the last row of the image, kernel row 2 never the first.
  const bool row = dy == 0 && k / 3 != 1;
  const bool column = dx == 0 && k % 3 != 1;
  const int row_side = k / 3 == 0 ? 1 : 0;
  const int column_side = k % 3 == 0 ? 1 : 0;
  if (row) value -= taco4j::gram_value(tile, products[1 + row_side], sums, c, dx * padded + d);
  if (column) {
    value -= taco4j::gram_value(tile, products[3 + column_side], sums, c, dy * padded + d);
  }
  if (row && column) {
    value += taco4j::gram_value(tile, products[5 + row_side * 2 + column_side], sums, c, d);
  }
  out[taco4j::index(blockIdx.y, cols, col)] = value;
}
