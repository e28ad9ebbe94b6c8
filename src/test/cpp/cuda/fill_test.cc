// fill.cu: every element is set, and nothing behind it.
#include "fill.cu"

#include <cstdio>

int failures = 0;

template <typename T>
void check(void (*kernel)(T*, T, long long), T value, const char* name) {
  taco4j_shim::for_each_order([&](const char* order) {
    for (const long long count : {0, 1, 3, 127, 128, 129, 1021, 100003}) {
      auto values = taco4j_shim::poisoned<T>(count + 1);
      const T beyond = values[count];
      taco4j_shim::launch(kernel, dim3(3), dim3(128), 0, values.data(), value, count);
      bool same = std::memcmp(&values[count], &beyond, sizeof beyond) == 0;
      for (long long i = 0; i < count; i++) same = same && values[i] == value;
      if (!same) {
        std::printf("%s, %lld elements, %s\n", name, count, order);
        failures++;
      }
    }
  });
}

int main() {
  check<float>(taco4j_fill_f32, 1.5f, "f32");
  check<double>(taco4j_fill_f64, -2.5, "f64");
  check<int>(taco4j_fill_i32, 7, "i32");
  return failures == 0 ? 0 : 1;
}
