// A libcublas.so.13 for tests: plain loops with the semantics and the argument checks of the real
// one, on the fake driver's memory and in its streams. It is there to hold the order of our
// arguments, strides and triangles, so what a call does not have to read is not read, and what it
// does not have to write is left alone. Matrices are column-major.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "fake_driver.h"

namespace {

// What is in cublas_api.h: the ABI of the library.
constexpr int kSuccess = 0;
constexpr int kNotInitialized = 1;
constexpr int kInvalidValue = 7;
constexpr int kExecutionFailed = 13;
constexpr int kNotSupported = 15;
constexpr int kLower = 0;
constexpr int kLeft = 0;
constexpr int kUnit = 1;
constexpr int kVersion = 130000;

constexpr int kIllegalAddress = 700;  // a CUresult

struct Handle {
  void* stream = nullptr;
  int math_mode = 0;
};

bool is_flag(int value) { return value == 0 || value == 1; }
bool is_operation(int value) { return value >= 0 && value <= 2; }

// [rows, cols], column-major
template <typename T>
struct Matrix {
  T* data;
  int rows, cols, ld;

  T& at(int i, int j) const { return data[static_cast<size_t>(j) * ld + i]; }
  bool fits() const { return ld >= (rows > 1 ? rows : 1); }
  bool on_device() const {
    if (rows == 0 || cols == 0) return true;
    const size_t count = static_cast<size_t>(ld) * (cols - 1) + rows;
    return taco4j_fake_is_device(data, count * sizeof(T)) != 0;
  }
};

// op(a) of shape [rows, cols], where a is stored.
template <typename T>
Matrix<T> stored(T* data, int operation, int rows, int cols, int ld) {
  return operation == 0 ? Matrix<T>{data, rows, cols, ld} : Matrix<T>{data, cols, rows, ld};
}

// A copy of op(a), [rows, cols] without gaps.
template <typename T>
std::vector<T> copy(const Matrix<const T>& a, int operation) {
  const int rows = operation == 0 ? a.rows : a.cols;
  const int cols = operation == 0 ? a.cols : a.rows;
  std::vector<T> to(static_cast<size_t>(rows) * cols);
  for (int j = 0; j < cols; j++) {
    for (int i = 0; i < rows; i++) {
      to[static_cast<size_t>(j) * rows + i] = operation == 0 ? a.at(i, j) : a.at(j, i);
    }
  }
  return to;
}

// c := beta c + alpha op(a) op(b) in the rows [first(j), last(j)) of each column j.
template <typename T, typename First, typename Last>
void multiply(T alpha, const Matrix<const T>& a, int op_a, const Matrix<const T>& b, int op_b, T beta,
              const Matrix<T>& c, First first, Last last) {
  const int k = op_a == 0 ? a.cols : a.rows;
  const bool adds = alpha != T(0) && k > 0;
  const std::vector<T> left = adds ? copy(a, op_a) : std::vector<T>();
  const std::vector<T> right = adds ? copy(b, op_b) : std::vector<T>();
  for (int j = 0; j < c.cols; j++) {
    const int from = first(j);
    const int to = last(j);
    for (int i = from; i < to; i++) c.at(i, j) = beta == T(0) ? T(0) : beta * c.at(i, j);
    for (int l = 0; adds && l < k; l++) {
      const T factor = alpha * right[static_cast<size_t>(j) * k + l];
      const T* column = left.data() + static_cast<size_t>(l) * c.rows;
      T* out = &c.at(0, j);
      for (int i = from; i < to; i++) out[i] += factor * column[i];
    }
  }
}

template <typename Work>
int enqueue(void* handle, Work work) {
  const int code = taco4j_fake::enqueue(static_cast<Handle*>(handle)->stream, std::move(work));
  return code == 0 ? kSuccess : kExecutionFailed;
}

template <typename T>
int gemm(void* handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* a, int lda,
         long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, T* c, int ldc,
         long long stride_c, int batch) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_operation(op_a) || !is_operation(op_b) || m < 0 || n < 0 || k < 0 || batch < 0 ||
      alpha == nullptr || beta == nullptr) {
    return kInvalidValue;
  }
  const Matrix<const T> left = stored(a, op_a, m, k, lda);
  const Matrix<const T> right = stored(b, op_b, k, n, ldb);
  const Matrix<T> out{c, m, n, ldc};
  if (!left.fits() || !right.fits() || !out.fits()) return kInvalidValue;
  return enqueue(handle, [=, alpha = *alpha, beta = *beta]() -> int {
    for (int i = 0; i < batch; i++) {
      Matrix<const T> ai = left;
      Matrix<const T> bi = right;
      Matrix<T> ci = out;
      ai.data += i * stride_a;
      bi.data += i * stride_b;
      ci.data += i * stride_c;
      if (!ci.on_device() || (alpha != T(0) && (!ai.on_device() || !bi.on_device()))) {
        return kIllegalAddress;
      }
      multiply(alpha, ai, op_a, bi, op_b, beta, ci, [](int) { return 0; }, [m](int) { return m; });
    }
    return 0;
  });
}

// One triangle of c := beta c + alpha op(a) op(a)^T.
template <typename T>
int syrk(void* handle, int uplo, int op, int n, int k, const T* alpha, const T* a, int lda,
         const T* beta, T* c, int ldc) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_flag(uplo) || !is_operation(op) || n < 0 || k < 0 || alpha == nullptr || beta == nullptr) {
    return kInvalidValue;
  }
  const Matrix<const T> in = stored(a, op, n, k, lda);
  const Matrix<T> out{c, n, n, ldc};
  if (!in.fits() || !out.fits()) return kInvalidValue;
  return enqueue(handle, [=, alpha = *alpha, beta = *beta]() -> int {
    if (!out.on_device() || (alpha != T(0) && !in.on_device())) return kIllegalAddress;
    multiply(alpha, in, op, in, op == 0 ? 1 : 0, beta, out,
             [=](int j) { return uplo == kLower ? j : 0; },
             [=](int j) { return uplo == kLower ? n : j + 1; });
    return 0;
  });
}

// A triangular matrix in full, the other triangle zero; op applied. [n, n]
template <typename T>
std::vector<T> triangle(const Matrix<const T>& a, int uplo, int op, int diagonal) {
  const int n = a.rows;
  std::vector<T> full(static_cast<size_t>(n) * n);
  for (int j = 0; j < n; j++) {
    for (int i = uplo == kLower ? j : 0; i < (uplo == kLower ? n : j + 1); i++) {
      const T value = i == j && diagonal == kUnit ? T(1) : a.at(i, j);
      full[op == 0 ? static_cast<size_t>(j) * n + i : static_cast<size_t>(i) * n + j] = value;
    }
  }
  return full;
}

// op(a) x = alpha b or x op(a) = alpha b, x in the place of b: [m, n].
template <typename T>
int trsm(void* handle, int side, int uplo, int op, int diagonal, int m, int n, const T* alpha,
         const T* a, int lda, T* b, int ldb) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_flag(side) || !is_flag(uplo) || !is_operation(op) || !is_flag(diagonal) || m < 0 || n < 0 ||
      alpha == nullptr) {
    return kInvalidValue;
  }
  const int order = side == kLeft ? m : n;
  const Matrix<const T> factor{a, order, order, lda};
  const Matrix<T> x{b, m, n, ldb};
  if (!factor.fits() || !x.fits()) return kInvalidValue;
  return enqueue(handle, [=, alpha = *alpha]() -> int {
    if (!x.on_device() || !factor.on_device()) return kIllegalAddress;
    const std::vector<T> t = triangle(factor, uplo, op, diagonal);  // op(a), column-major
    const bool lower = (uplo == kLower) == (op == 0);
    auto at = [&](int i, int j) { return t[static_cast<size_t>(j) * order + i]; };
    for (int j = 0; j < n; j++) {
      for (int i = 0; i < m; i++) x.at(i, j) = alpha == T(0) ? T(0) : alpha * x.at(i, j);
    }
    if (alpha == T(0)) return 0;
    for (int step = 0; step < order; step++) {
      if (side == kLeft) {
        const int p = lower ? step : order - 1 - step;
        for (int j = 0; j < n; j++) {
          const T value = x.at(p, j) /= at(p, p);
          for (int i = lower ? p + 1 : 0; i < (lower ? order : p); i++) x.at(i, j) -= at(i, p) * value;
        }
      } else {
        const int p = lower ? order - 1 - step : step;
        for (int i = 0; i < m; i++) x.at(i, p) /= at(p, p);
        for (int j = lower ? 0 : p + 1; j < (lower ? p : order); j++) {
          for (int i = 0; i < m; i++) x.at(i, j) -= x.at(i, p) * at(p, j);
        }
      }
    }
    return 0;
  });
}

// c := alpha op(a) b or alpha b op(a), a triangular; b and c: [m, n], maybe the same.
template <typename T>
int trmm(void* handle, int side, int uplo, int op, int diagonal, int m, int n, const T* alpha,
         const T* a, int lda, const T* b, int ldb, T* c, int ldc) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_flag(side) || !is_flag(uplo) || !is_operation(op) || !is_flag(diagonal) || m < 0 || n < 0 ||
      alpha == nullptr) {
    return kInvalidValue;
  }
  const int order = side == kLeft ? m : n;
  const Matrix<const T> factor{a, order, order, lda};
  const Matrix<const T> in{b, m, n, ldb};
  const Matrix<T> out{c, m, n, ldc};
  if (!factor.fits() || !in.fits() || !out.fits() || (b == c && ldb != ldc)) return kInvalidValue;
  return enqueue(handle, [=, alpha = *alpha]() -> int {
    if (!out.on_device() || !in.on_device() || !factor.on_device()) return kIllegalAddress;
    const std::vector<T> t = triangle(factor, uplo, op, diagonal);
    const Matrix<const T> full{t.data(), order, order, order};
    multiply(alpha, side == kLeft ? full : in, 0, side == kLeft ? in : full, 0, T(0), out,
             [](int) { return 0; }, [m](int) { return m; });
    return 0;
  });
}

// c := alpha a b + beta c or alpha b a + beta c, a symmetric and one triangle of it read.
template <typename T>
int symm(void* handle, int side, int uplo, int m, int n, const T* alpha, const T* a, int lda,
         const T* b, int ldb, const T* beta, T* c, int ldc) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_flag(side) || !is_flag(uplo) || m < 0 || n < 0 || alpha == nullptr || beta == nullptr) {
    return kInvalidValue;
  }
  const int order = side == kLeft ? m : n;
  const Matrix<const T> symmetric{a, order, order, lda};
  const Matrix<const T> in{b, m, n, ldb};
  const Matrix<T> out{c, m, n, ldc};
  if (!symmetric.fits() || !in.fits() || !out.fits()) return kInvalidValue;
  return enqueue(handle, [=, alpha = *alpha, beta = *beta]() -> int {
    if (!out.on_device() || !in.on_device() || !symmetric.on_device()) return kIllegalAddress;
    std::vector<T> t = triangle(symmetric, uplo, 0, 0);
    for (int j = 0; j < order; j++) {
      for (int i = 0; i < j; i++) {
        T& upper = t[static_cast<size_t>(j) * order + i];
        T& lower = t[static_cast<size_t>(i) * order + j];
        (uplo == kLower ? upper : lower) = uplo == kLower ? lower : upper;
      }
    }
    const Matrix<const T> full{t.data(), order, order, order};
    multiply(alpha, side == kLeft ? full : in, 0, side == kLeft ? in : full, 0, beta, out,
             [](int) { return 0; }, [m](int) { return m; });
    return 0;
  });
}

// c := alpha op(a) + beta op(b), all [m, n]; c may be a, or b, where that is not transposed.
template <typename T>
int geam(void* handle, int op_a, int op_b, int m, int n, const T* alpha, const T* a, int lda,
         const T* beta, const T* b, int ldb, T* c, int ldc) {
  if (handle == nullptr) return kNotInitialized;
  if (!is_operation(op_a) || !is_operation(op_b) || m < 0 || n < 0 || alpha == nullptr ||
      beta == nullptr) {
    return kInvalidValue;
  }
  const Matrix<const T> left = stored(a, op_a, m, n, lda);
  const Matrix<const T> right = stored(b, op_b, m, n, ldb);
  const Matrix<T> out{c, m, n, ldc};
  if (!left.fits() || !right.fits() || !out.fits()) return kInvalidValue;
  if ((a == c && (op_a != 0 || lda != ldc)) || (b == c && (op_b != 0 || ldb != ldc))) {
    return kInvalidValue;
  }
  return enqueue(handle, [=, alpha = *alpha, beta = *beta]() -> int {
    if (!out.on_device() || (alpha != T(0) && !left.on_device()) ||
        (beta != T(0) && !right.on_device())) {
      return kIllegalAddress;
    }
    for (int j = 0; j < n; j++) {
      for (int i = 0; i < m; i++) {
        T value = 0;
        if (alpha != T(0)) value += alpha * (op_a == 0 ? left.at(i, j) : left.at(j, i));
        if (beta != T(0)) value += beta * (op_b == 0 ? right.at(i, j) : right.at(j, i));
        out.at(i, j) = value;
      }
    }
    return 0;
  });
}

}  // namespace

TACO4J_FAKE_API int cublasCreate_v2(void** handle) {
  if (handle == nullptr) return kInvalidValue;
  *handle = new Handle();
  return kSuccess;
}

TACO4J_FAKE_API int cublasDestroy_v2(void* handle) {
  if (handle == nullptr) return kNotInitialized;
  delete static_cast<Handle*>(handle);
  return kSuccess;
}

TACO4J_FAKE_API int cublasSetStream_v2(void* handle, void* stream) {
  if (handle == nullptr) return kNotInitialized;
  static_cast<Handle*>(handle)->stream = stream;
  return kSuccess;
}

TACO4J_FAKE_API int cublasGetStream_v2(void* handle, void** stream) {
  if (handle == nullptr) return kNotInitialized;
  *stream = static_cast<Handle*>(handle)->stream;
  return kSuccess;
}

TACO4J_FAKE_API int cublasGetVersion_v2(void*, int* version) {
  *version = kVersion;
  return kSuccess;
}

// 0, 1, 2: the parts of the version.
TACO4J_FAKE_API int cublasGetProperty(int which, int* value) {
  if (which < 0 || which > 2 || value == nullptr) return kInvalidValue;
  *value = which == 0 ? 13 : 0;
  return kSuccess;
}

TACO4J_FAKE_API int cublasGetVersion(int* version) { return cublasGetVersion_v2(nullptr, version); }

TACO4J_FAKE_API int cublasSetMathMode(void* handle, int mode) {
  if (handle == nullptr) return kNotInitialized;
  static_cast<Handle*>(handle)->math_mode = mode;
  return kSuccess;
}

TACO4J_FAKE_API int cublasGetMathMode(void* handle, int* mode) {
  if (handle == nullptr) return kNotInitialized;
  *mode = static_cast<Handle*>(handle)->math_mode;
  return kSuccess;
}

TACO4J_FAKE_API int cublasSetAtomicsMode(void* handle, int) {
  return handle == nullptr ? kNotInitialized : kSuccess;
}

// alpha and beta are the host's: 0.
TACO4J_FAKE_API int cublasSetPointerMode_v2(void* handle, int mode) {
  return handle == nullptr ? kNotInitialized : mode == 0 ? kSuccess : kNotSupported;
}

TACO4J_FAKE_API int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
  if (handle == nullptr) return kNotInitialized;
  return bytes == 0 || taco4j_fake_is_device(workspace, bytes) ? kSuccess : kInvalidValue;
}

TACO4J_FAKE_API const char* cublasGetStatusName(int status) {
  switch (status) {
    case kSuccess: return "CUBLAS_STATUS_SUCCESS";
    case kNotInitialized: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case kInvalidValue: return "CUBLAS_STATUS_INVALID_VALUE";
    case kExecutionFailed: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case kNotSupported: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}

TACO4J_FAKE_API const char* cublasGetStatusString(int status) { return cublasGetStatusName(status); }

#define TACO4J_BLAS(T, X)                                                                          \
  TACO4J_FAKE_API int cublas##X##gemm_v2(void* handle, int op_a, int op_b, int m, int n, int k,    \
                                         const T* alpha, const T* a, int lda, const T* b, int ldb, \
                                         const T* beta, T* c, int ldc) {                           \
    return gemm<T>(handle, op_a, op_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);  \
  }                                                                                                \
  TACO4J_FAKE_API int cublas##X##gemmStridedBatched(                                               \
      void* handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* a, int lda,  \
      long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, T* c, int ldc,   \
      long long stride_c, int batch) {                                                             \
    return gemm<T>(handle, op_a, op_b, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta,   \
                   c, ldc, stride_c, batch);                                                       \
  }                                                                                                \
  TACO4J_FAKE_API int cublas##X##syrk_v2(void* handle, int uplo, int op, int n, int k,             \
                                         const T* alpha, const T* a, int lda, const T* beta, T* c, \
                                         int ldc) {                                                \
    return syrk<T>(handle, uplo, op, n, k, alpha, a, lda, beta, c, ldc);                           \
  }                                                                                                \
  TACO4J_FAKE_API int cublas##X##trsm_v2(void* handle, int side, int uplo, int op, int diagonal,   \
                                         int m, int n, const T* alpha, const T* a, int lda, T* b,  \
                                         int ldb) {                                                \
    return trsm<T>(handle, side, uplo, op, diagonal, m, n, alpha, a, lda, b, ldb);                 \
  }                                                                                                \
  TACO4J_FAKE_API int cublas##X##trmm_v2(void* handle, int side, int uplo, int op, int diagonal,   \
                                         int m, int n, const T* alpha, const T* a, int lda,        \
                                         const T* b, int ldb, T* c, int ldc) {                     \
    return trmm<T>(handle, side, uplo, op, diagonal, m, n, alpha, a, lda, b, ldb, c, ldc);         \
  }                                                                                                \
  TACO4J_FAKE_API int cublas##X##symm_v2(void* handle, int side, int uplo, int m, int n,           \
                                         const T* alpha, const T* a, int lda, const T* b, int ldb, \
                                         const T* beta, T* c, int ldc) {                           \
    return symm<T>(handle, side, uplo, m, n, alpha, a, lda, b, ldb, beta, c, ldc);                 \
  }                                                                                                \
  TACO4J_FAKE_API int cublas##X##geam(void* handle, int op_a, int op_b, int m, int n,              \
                                      const T* alpha, const T* a, int lda, const T* beta,          \
                                      const T* b, int ldb, T* c, int ldc) {                        \
    return geam<T>(handle, op_a, op_b, m, n, alpha, a, lda, beta, b, ldb, c, ldc);                 \
  }
TACO4J_BLAS(float, S)
TACO4J_BLAS(double, D)
