// A libcusolver.so.12 for tests: the Cholesky functions, as fake_cublas.cc. Matrices are
// column-major; the triangle that is not asked for is neither read nor written.
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "fake_driver.h"

namespace {

// What is in cusolver_common.h: the ABI of the library.
constexpr int kSuccess = 0;
constexpr int kNotInitialized = 1;
constexpr int kInvalidValue = 3;
constexpr int kExecutionFailed = 6;
constexpr int kLower = 0;
constexpr int kVersion = 12000;

constexpr int kIllegalAddress = 700;  // a CUresult

struct Handle {
  void* stream = nullptr;
};

bool is_matrix(int uplo, int n, int ld) {
  return (uplo == 0 || uplo == 1) && n >= 0 && ld >= (n > 1 ? n : 1);
}

// Elements of a workspace: an odd number that only the function that gives it knows.
int workspace_elements(int n) { return 3 * n + 7; }

// One triangle, addressed as if it were the lower one.
template <typename T>
struct Triangle {
  T* data;
  int uplo, n, ld;

  T& at(int i, int j) const {
    return uplo == kLower ? data[static_cast<size_t>(j) * ld + i] : data[static_cast<size_t>(i) * ld + j];
  }
  bool on_device() const {
    return n == 0 ||
           taco4j_fake_is_device(data, (static_cast<size_t>(ld) * (n - 1) + n) * sizeof(T)) != 0;
  }
};

// A workspace may be written anywhere, and so it is.
template <typename T>
void spoil(T* workspace, int elements) {
  for (int i = 0; i < elements; i++) workspace[i] = std::numeric_limits<T>::quiet_NaN();
}

template <typename Work>
int enqueue(void* handle, Work work) {
  const int code = taco4j_fake::enqueue(static_cast<Handle*>(handle)->stream, std::move(work));
  return code == 0 ? kSuccess : kExecutionFailed;
}

int workspace_size(void* handle, int uplo, int n, int lda, int* elements) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_matrix(uplo, n, lda) || elements == nullptr) return kInvalidValue;
  *elements = workspace_elements(n);
  return kSuccess;
}

// Checks that both functions have in common, then work(matrix) whose result is *info.
template <typename T, typename Work>
int run(void* handle, int uplo, int n, T* a, int lda, T* workspace, int elements, int* info,
        Work work) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_matrix(uplo, n, lda) || info == nullptr || elements < workspace_elements(n)) {
    return kInvalidValue;
  }
  return enqueue(handle, [=]() -> int {
    const Triangle<T> matrix{a, uplo, n, lda};
    if (!matrix.on_device() || !taco4j_fake_is_device(info, sizeof *info) ||
        !taco4j_fake_is_device(workspace, static_cast<size_t>(elements) * sizeof(T))) {
      return kIllegalAddress;
    }
    spoil(workspace, elements);
    *info = work(matrix);
    return 0;
  });
}

// The Cholesky factor in the place of the triangle; the order of the first leading minor that is
// not positive, or 0.
template <typename T>
int factorize(const Triangle<T>& a) {
  for (int j = 0; j < a.n; j++) {
    T pivot = a.at(j, j);
    for (int k = 0; k < j; k++) pivot -= a.at(j, k) * a.at(j, k);
    if (!(pivot > T(0))) return j + 1;
    pivot = std::sqrt(pivot);
    a.at(j, j) = pivot;
    for (int i = j + 1; i < a.n; i++) {
      T sum = a.at(i, j);
      for (int k = 0; k < j; k++) sum -= a.at(i, k) * a.at(j, k);
      a.at(i, j) = sum / pivot;
    }
  }
  return 0;
}

// The triangle of the inverse in the place of the Cholesky factor; as LAPACK, the index of the
// first diagonal element that is 0, or 0.
template <typename T>
int invert(const Triangle<T>& a) {
  const int n = a.n;
  for (int j = 0; j < n; j++) {
    if (a.at(j, j) == T(0)) return j + 1;
  }
  std::vector<T> inverse(static_cast<size_t>(n) * n);  // of the factor, lower, column-major
  for (int j = 0; j < n; j++) {
    for (int i = j; i < n; i++) {
      T sum = i == j ? T(1) : T(0);
      for (int k = j; k < i; k++) sum -= a.at(i, k) * inverse[static_cast<size_t>(j) * n + k];
      inverse[static_cast<size_t>(j) * n + i] = sum / a.at(i, i);
    }
  }
  for (int j = 0; j < n; j++) {
    for (int i = j; i < n; i++) {
      T sum = 0;
      for (int k = i; k < n; k++) {
        sum += inverse[static_cast<size_t>(i) * n + k] * inverse[static_cast<size_t>(j) * n + k];
      }
      a.at(i, j) = sum;
    }
  }
  return 0;
}

// a x = b by the factor in a, x in the place of b: [n, columns].
template <typename T>
int solve(void* handle, int uplo, int n, int columns, const T* a, int lda, T* b, int ldb, int* info) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_matrix(uplo, n, lda) || columns < 0 || ldb < (n > 1 ? n : 1) || info == nullptr) {
    return kInvalidValue;
  }
  return enqueue(handle, [=]() -> int {
    const Triangle<const T> factor{a, uplo, n, lda};
    if (!factor.on_device() || !taco4j_fake_is_device(info, sizeof *info) ||
        (n > 0 && columns > 0 &&
         !taco4j_fake_is_device(b, (static_cast<size_t>(ldb) * (columns - 1) + n) * sizeof(T)))) {
      return kIllegalAddress;
    }
    for (int j = 0; j < columns; j++) {
      T* x = b + static_cast<size_t>(j) * ldb;
      for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) x[i] -= factor.at(i, k) * x[k];
        x[i] /= factor.at(i, i);
      }
      for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) x[i] -= factor.at(k, i) * x[k];
        x[i] /= factor.at(i, i);
      }
    }
    *info = 0;
    return 0;
  });
}

}  // namespace

TACO4J_FAKE_API int cusolverDnCreate(void** handle) {
  if (handle == nullptr) return kInvalidValue;
  *handle = new Handle();
  return kSuccess;
}

TACO4J_FAKE_API int cusolverDnDestroy(void* handle) {
  if (handle == nullptr) return kNotInitialized;
  delete static_cast<Handle*>(handle);
  return kSuccess;
}

TACO4J_FAKE_API int cusolverDnSetStream(void* handle, void* stream) {
  if (handle == nullptr) return kNotInitialized;
  static_cast<Handle*>(handle)->stream = stream;
  return kSuccess;
}

TACO4J_FAKE_API int cusolverDnGetStream(void* handle, void** stream) {
  if (handle == nullptr) return kNotInitialized;
  *stream = static_cast<Handle*>(handle)->stream;
  return kSuccess;
}

TACO4J_FAKE_API int cusolverDnSetDeterministicMode(void* handle, int) {
  return handle == nullptr ? kNotInitialized : kSuccess;
}

TACO4J_FAKE_API int cusolverDnSetMathMode(void* handle, int) {
  return handle == nullptr ? kNotInitialized : kSuccess;
}

// 0, 1, 2: the parts of the version.
TACO4J_FAKE_API int cusolverGetProperty(int which, int* value) {
  if (which < 0 || which > 2 || value == nullptr) return kInvalidValue;
  *value = which == 0 ? 12 : 0;
  return kSuccess;
}

TACO4J_FAKE_API int cusolverGetVersion(int* version) {
  *version = kVersion;
  return kSuccess;
}

#define TACO4J_SOLVER(T, X)                                                                       \
  TACO4J_FAKE_API int cusolverDn##X##potrf_bufferSize(void* handle, int uplo, int n, T*, int lda, \
                                                      int* elements) {                            \
    return workspace_size(handle, uplo, n, lda, elements);                                        \
  }                                                                                               \
  TACO4J_FAKE_API int cusolverDn##X##potri_bufferSize(void* handle, int uplo, int n, T*, int lda, \
                                                      int* elements) {                            \
    return workspace_size(handle, uplo, n, lda, elements);                                        \
  }                                                                                               \
  TACO4J_FAKE_API int cusolverDn##X##potrf(void* handle, int uplo, int n, T* a, int lda,          \
                                           T* workspace, int elements, int* info) {               \
    return run(handle, uplo, n, a, lda, workspace, elements, info, factorize<T>);                 \
  }                                                                                               \
  TACO4J_FAKE_API int cusolverDn##X##potri(void* handle, int uplo, int n, T* a, int lda,          \
                                           T* workspace, int elements, int* info) {               \
    return run(handle, uplo, n, a, lda, workspace, elements, info, invert<T>);                    \
  }                                                                                               \
  TACO4J_FAKE_API int cusolverDn##X##potrs(void* handle, int uplo, int n, int columns, const T* a,\
                                           int lda, T* b, int ldb, int* info) {                   \
    return solve<T>(handle, uplo, n, columns, a, lda, b, ldb, info);                              \
  }
TACO4J_SOLVER(float, S)
TACO4J_SOLVER(double, D)
