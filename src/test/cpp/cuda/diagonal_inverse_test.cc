// diagonal_inverse.cu: each block times its inverse is the identity.
#include "diagonal_inverse.cu"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

namespace {

int failures = 0;

void check(int cols, int block, std::mt19937& random) {
  const int ld = cols + 1;
  std::normal_distribution<float> normal;
  std::vector<float> lower(cols * ld, NAN);
  for (int i = 0; i < cols; i++) {
    for (int j = 0; j < i; j++) lower[i * ld + j] = 0.5f * normal(random) / std::sqrt(block);
    lower[i * ld + i] = 0.5f + 0.001f * (random() % 1000);
  }
  const int blocks = (cols + block - 1) / block;
  std::vector<float> first_bytes;
  taco4j_shim::for_each_order([&](const char* order) {
    auto fail = [&](const char* what) {
      std::printf("%s: %d columns in blocks of %d, %s\n", what, cols, block, order);
      failures++;
    };
    std::vector<float> inverses(blocks * block * block, 7);
    taco4j_shim::launch(taco4j_diagonal_inverse_f32, dim3((block + 31) / 32, blocks), dim3(32), 0,
                        lower.data(), ld, cols, block, inverses.data());
    if (first_bytes.empty()) first_bytes = inverses;
    if (inverses != first_bytes) fail("order of threads");
    for (int t = 0; t < blocks; t++) {
      const int end = cols - t * block;
      const int first = std::max(0, end - block);
      const float* m = inverses.data() + t * block * block;
      for (int i = 0; i < block; i++) {
        for (int j = 0; j < block; j++) {
          const bool is_in = i < end - first && j < end - first;
          if ((!is_in && m[i * block + j] != 7) || (is_in && j > i && m[i * block + j] != 0)) {
            return fail("beyond the triangle");
          }
          if (!is_in || j > i) continue;
          double sum = 0;
          double magnitude = 0;
          for (int k = j; k <= i; k++) {
            const double product =
                static_cast<double>(lower[(first + i) * ld + first + k]) * m[k * block + j];
            sum += product;
            magnitude += std::fabs(product);
          }
          // The residual of forward substitution (Higham 2002, theorem 8.5).
          if (!(std::fabs(sum - (i == j)) <= (block + 2) * 0x1p-23 * (magnitude + (i == j)))) {
            return fail("inverse");
          }
        }
      }
    }
  });
}

}  // namespace

int main() {
  std::mt19937 random(1);
  for (const int block : {1, 3, 17, 31, 33, 64, 126, 127, 128}) {
    for (const int cols : {block, 2 * block, 2 * block + 1, 300}) check(cols, block, random);
  }
  for (const int cols : {1, 2, 9, 100}) check(cols, cols, random);
  return failures == 0 ? 0 : 1;
}
