// What quant_sweep.cu computes, in plain loops, in float: a weight in the middle between two points
// may go either way, and a reference that rounds less would not tell more.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace taco4j_reference {

// inverse: M, [columns, columns], lower triangular
// w: [columns, rows], in and out
// removed: [columns, rows]
// scale, lowest, highest: [rows]
inline void quant_sweep(const std::vector<float>& inverse, int columns, std::vector<float>& w,
                        int rows, const std::vector<unsigned char>& removed,
                        const std::vector<float>& scale, const std::vector<float>& lowest,
                        const std::vector<float>& highest) {
  for (int row = 0; row < rows; row++) {
    for (int j = columns - 1; j >= 0; j--) {
      const float weight = w[j * rows + row];
      const float code =
          std::max(lowest[row], std::min(highest[row], std::nearbyint(weight / scale[row])));
      const float point = removed[j * rows + row] ? 0 : scale[row] * code + 0.0f;
      const float error = (weight - point) / inverse[j * columns + j];
      for (int c = 0; c < j; c++) w[c * rows + row] -= error * inverse[j * columns + c];
      w[j * rows + row] = point;
    }
  }
}

}  // namespace taco4j_reference
