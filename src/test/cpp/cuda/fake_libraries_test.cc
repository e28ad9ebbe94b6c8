// The fake cuBLAS and cuSOLVER against the definitions of their functions: every operation, side
// and triangle, with gaps between columns. What they must not read is NaN or huge, what they must
// not write is compared byte by byte.
#ifdef __linux__
#include <dlfcn.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

int failures = 0;
std::string folder;

void check(bool right, const std::string& what) {
  if (right) return;
  std::printf("%s\n", what.c_str());
  failures++;
}

void* open(const char* library) {
  void* handle = dlopen((folder + "/../fake-cuda/" + library).c_str(), RTLD_NOW);
  if (handle == nullptr) {
    std::printf("%s\n", dlerror());
    std::exit(1);
  }
  return handle;
}

void* driver;
void* cublas;
void* cusolver;
void* blas;    // a handle
void* solver;  // a handle

// Calls a function of a library that returns an int.
template <typename... Arguments>
int call(void* library, const std::string& function, Arguments... arguments) {
  void* symbol = dlsym(library, function.c_str());
  if (symbol == nullptr) {
    std::printf("no function %s\n", function.c_str());
    std::exit(1);
  }
  return reinterpret_cast<int (*)(Arguments...)>(symbol)(arguments...);
}

template <typename T>
constexpr const char* kType = sizeof(T) == 4 ? "S" : "D";
template <typename T>
std::string blas_name(const char* function) {
  return std::string("cublas") + kType<T> + function;
}
template <typename T>
std::string solver_name(const char* function) {
  return std::string("cusolverDn") + kType<T> + function;
}

std::mt19937 generator(7);

// [rows, cols] in double, column-major.
struct Dense {
  int rows, cols;
  std::vector<double> data;

  Dense(int rows, int cols) : rows(rows), cols(cols), data(static_cast<size_t>(rows) * cols) {}
  double& at(int i, int j) { return data[static_cast<size_t>(j) * rows + i]; }
  double at(int i, int j) const { return data[static_cast<size_t>(j) * rows + i]; }

  static Dense random(int rows, int cols) {
    Dense a(rows, cols);
    for (double& value : a.data) value = static_cast<int>(generator() % 17) / 8.0 - 1;
    return a;
  }
  Dense transposed() const {
    Dense to(cols, rows);
    for (int j = 0; j < cols; j++) {
      for (int i = 0; i < rows; i++) to.at(j, i) = at(i, j);
    }
    return to;
  }
  Dense operator*(const Dense& b) const {
    Dense to(rows, b.cols);
    for (int j = 0; j < b.cols; j++) {
      for (int k = 0; k < cols; k++) {
        for (int i = 0; i < rows; i++) to.at(i, j) += at(i, k) * b.at(k, j);
      }
    }
    return to;
  }
  Dense scaled(double by) const {
    Dense to = *this;
    for (double& value : to.data) value *= by;
    return to;
  }
  Dense operator+(const Dense& b) const {
    Dense to = *this;
    for (size_t i = 0; i < data.size(); i++) to.data[i] += b.data[i];
    return to;
  }
};

bool in_triangle(int uplo, int i, int j) { return uplo < 0 || (uplo == 0 ? i >= j : i <= j); }

// A matrix on the fake device, with NaN in 3 elements behind each column; or one triangle (0: lower,
// 1: upper, -1: all), and 1e30 in the rest, as a NaN that is written over is still a NaN.
template <typename T>
struct Device {
  int rows, cols, uplo, ld;
  T* data = nullptr;
  std::vector<T> before;

  Device(const Dense& a, int uplo = -1) : rows(a.rows), cols(a.cols), uplo(uplo), ld(a.rows + 3) {
    before.assign(static_cast<size_t>(ld) * cols, uplo < 0 ? std::nanf("") : T(1e30));
    for (int j = 0; j < cols; j++) {
      for (int i = 0; i < rows; i++) {
        if (in_triangle(uplo, i, j)) before[static_cast<size_t>(j) * ld + i] = static_cast<T>(a.at(i, j));
      }
    }
    unsigned long long address = 0;
    check(call(driver, "cuMemAlloc_v2", &address, before.size() * sizeof(T)) == 0, "memory");
    data = reinterpret_cast<T*>(address);
    std::memcpy(data, before.data(), before.size() * sizeof(T));
  }
  ~Device() { call(driver, "cuMemFree_v2", reinterpret_cast<unsigned long long>(data)); }
  Device(const Device&) = delete;

  // What is there now is `expected` in the triangle, within `tolerance`, and as before elsewhere.
  void compare(const Dense& expected, double tolerance, const std::string& what) {
    check(call(driver, "cuCtxSynchronize") == 0, what + ": error of the device");
    for (int j = 0; j < cols; j++) {
      for (int i = 0; i < ld; i++) {
        const size_t at = static_cast<size_t>(j) * ld + i;
        const bool inside = i < rows && in_triangle(uplo, i, j);
        if (inside ? !(std::fabs(data[at] - expected.at(i, j)) <= tolerance)
                   : std::memcmp(&data[at], &before[at], sizeof(T)) != 0) {
          check(false, what + ": (" + std::to_string(i) + ", " + std::to_string(j) + ") is " +
                           std::to_string(data[at]) + (inside ? "" : ", was not to be written"));
          return;
        }
      }
    }
  }
};

// Sums of at most 40 products of magnitude at most 4, and triangular solves whose solutions stay
// below 40: far above the rounding of float, far below the 1/64 that the data differ by.
template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-3 : 1e-11;

Dense op(const Dense& a, int operation) { return operation == 0 ? a : a.transposed(); }

// As cuBLAS reads it: one triangle, with or without its diagonal.
Dense triangle(const Dense& a, int uplo, int unit) {
  Dense to(a.rows, a.cols);
  for (int j = 0; j < a.cols; j++) {
    for (int i = 0; i < a.rows; i++) {
      if (in_triangle(uplo, i, j)) to.at(i, j) = i == j && unit == 1 ? 1 : a.at(i, j);
    }
  }
  return to;
}

// Diagonally dominant enough that solutions stay small.
Dense triangular(int n) {
  Dense a = Dense::random(n, n);
  for (int j = 0; j < n; j++) {
    for (int i = 0; i < n; i++) a.at(i, j) /= i == j ? 1 : n;
    a.at(j, j) = a.at(j, j) < 0 ? -1.5 : 2;
  }
  return a;
}

template <typename T>
void products(int m, int n, int k) {
  const T alpha = 2;
  const T beta = T(-0.5);
  const T zero = 0;
  for (int op_a = 0; op_a < 2; op_a++) {
    for (int op_b = 0; op_b < 2; op_b++) {
      const std::string what = std::string(kType<T>) + " " + std::to_string(m) + " " +
                               std::to_string(n) + " " + std::to_string(k) + " " +
                               std::to_string(op_a) + " " + std::to_string(op_b);
      const Dense a = op_a == 0 ? Dense::random(m, k) : Dense::random(k, m);
      const Dense b = op_b == 0 ? Dense::random(k, n) : Dense::random(n, k);
      const Dense c = Dense::random(m, n);
      Device<T> da(a), db(b), dc(c);
      check(call(cublas, blas_name<T>("gemm_v2"), blas, op_a, op_b, m, n, k, &alpha, da.data, da.ld,
                 db.data, db.ld, &beta, dc.data, dc.ld) == 0,
            what);
      dc.compare((op(a, op_a) * op(b, op_b)).scaled(2) + c.scaled(-0.5), kTolerance<T>, "gemm " + what);
      // What is multiplied by 0 may be NaN.
      Dense unwritten(m, n);
      for (double& value : unwritten.data) value = std::nan("");
      Device<T> de(unwritten);
      call(cublas, blas_name<T>("gemm_v2"), blas, op_a, op_b, m, n, k, &alpha, da.data, da.ld,
           db.data, db.ld, &zero, de.data, de.ld);
      de.compare((op(a, op_a) * op(b, op_b)).scaled(2), kTolerance<T>, "gemm, beta 0 " + what);
      check(call(cublas, blas_name<T>("gemm_v2"), blas, op_a, op_b, m, n, k, &alpha, da.data,
                 a.rows - 1, db.data, db.ld, &beta, dc.data, dc.ld) == 7,
            "gemm takes a leading dimension that is too small " + what);

      const Dense left = op_a == 0 ? Dense::random(m, n) : Dense::random(n, m);
      const Dense right = op_b == 0 ? Dense::random(m, n) : Dense::random(n, m);
      Device<T> dl(left), dr(right), dg(c);
      call(cublas, blas_name<T>("geam"), blas, op_a, op_b, m, n, &alpha, dl.data, dl.ld, &beta,
           dr.data, dr.ld, dg.data, dg.ld);
      dg.compare(op(left, op_a).scaled(2) + op(right, op_b).scaled(-0.5), kTolerance<T>, "geam " + what);
    }
  }
}

template <typename T>
void triangles(int m, int n) {
  const T alpha = 2;
  const T beta = T(-0.5);
  for (int flags = 0; flags < 16; flags++) {
    const int side = flags & 1;
    const int uplo = flags >> 1 & 1;
    const int operation = flags >> 2 & 1;
    const int unit = flags >> 3 & 1;
    const std::string what = std::string(kType<T>) + " " + std::to_string(m) + " " +
                             std::to_string(n) + ", side " + std::to_string(side) + " uplo " +
                             std::to_string(uplo) + " op " + std::to_string(operation) + " unit " +
                             std::to_string(unit);
    const int order = side == 0 ? m : n;
    const Dense a = triangular(order);
    const Dense t = op(triangle(a, uplo, unit), operation);
    const Dense x = Dense::random(m, n);
    Device<T> da(a, uplo);
    // The solution of op(a) y = 2 (op(a) x / 2) is x.
    const Dense b = (side == 0 ? t * x : x * t).scaled(0.5);
    Device<T> db(b);
    check(call(cublas, blas_name<T>("trsm_v2"), blas, side, uplo, operation, unit, m, n, &alpha,
               da.data, da.ld, db.data, db.ld) == 0,
          what);
    db.compare(x, kTolerance<T>, "trsm " + what);
    Device<T> dx(x), dy(x);
    call(cublas, blas_name<T>("trmm_v2"), blas, side, uplo, operation, unit, m, n, &alpha, da.data,
         da.ld, dx.data, dx.ld, dy.data, dy.ld);
    dy.compare((side == 0 ? t * x : x * t).scaled(2), kTolerance<T>, "trmm " + what);

    if (unit == 1) continue;
    if (operation == 0) {
      Dense symmetric = a;
      for (int j = 0; j < order; j++) {
        for (int i = 0; i < order; i++) {
          if (!in_triangle(uplo, i, j)) symmetric.at(i, j) = a.at(j, i);
        }
      }
      const Dense c = Dense::random(m, n);
      Device<T> dc(c);
      call(cublas, blas_name<T>("symm_v2"), blas, side, uplo, m, n, &alpha, da.data, da.ld, dx.data,
           dx.ld, &beta, dc.data, dc.ld);
      dc.compare((side == 0 ? symmetric * x : x * symmetric).scaled(2) + c.scaled(-0.5),
                 kTolerance<T>, "symm " + what);
    }
    if (side == 1) continue;
    const Dense factor = operation == 0 ? Dense::random(n, m) : Dense::random(m, n);
    const Dense c = Dense::random(n, n);
    Device<T> df(factor), dc(c, uplo);
    call(cublas, blas_name<T>("syrk_v2"), blas, uplo, operation, n, m, &alpha, df.data, df.ld, &beta,
         dc.data, dc.ld);
    const Dense f = op(factor, operation);
    dc.compare((f * f.transposed()).scaled(2) + c.scaled(-0.5), kTolerance<T>, "syrk " + what);
  }
}

template <typename T>
void cholesky(int n) {
  for (int uplo = 0; uplo < 2; uplo++) {
    const std::string what =
        std::string(kType<T>) + " " + std::to_string(n) + ", uplo " + std::to_string(uplo);
    const Dense l = triangle(triangular(n), 0, 0);
    Dense positive = l;
    for (int i = 0; i < n; i++) {
      for (int j = 0; j <= i; j++) positive.at(i, j) *= l.at(j, j) < 0 ? -1 : 1;
    }
    const Dense a = positive * positive.transposed();
    Device<T> da(a, uplo);
    int elements = 0;
    check(call(cusolver, solver_name<T>("potrf_bufferSize"), solver, uplo, n, da.data, da.ld,
               &elements) == 0,
          what);
    unsigned long long memory = 0;
    call(driver, "cuMemAlloc_v2", &memory, elements * sizeof(T) + 16);
    int* info = reinterpret_cast<int*>(memory);
    T* workspace = reinterpret_cast<T*>(memory + 16);
    check(call(cusolver, solver_name<T>("potrf"), solver, uplo, n, da.data, da.ld, workspace,
               elements, info) == 0,
          what);
    da.compare(uplo == 0 ? positive : positive.transposed(), kTolerance<T>, "potrf " + what);
    check(*info == 0, "potrf says " + std::to_string(*info) + " " + what);
    const Dense x = Dense::random(n, 3);
    Device<T> db(a * x);
    call(cusolver, solver_name<T>("potrs"), solver, uplo, n, 3, static_cast<const T*>(da.data), da.ld,
         db.data, db.ld, info);
    db.compare(x, kTolerance<T>, "potrs " + what);
    call(cusolver, solver_name<T>("potri"), solver, uplo, n, da.data, da.ld, workspace, elements, info);
    call(driver, "cuCtxSynchronize");
    check(*info == 0, "potri says " + std::to_string(*info) + " " + what);
    Dense inverse(n, n);
    for (int j = 0; j < n; j++) {
      for (int i = 0; i < n; i++) {
        const bool inside = in_triangle(uplo, i, j);
        inverse.at(i, j) = da.data[static_cast<size_t>(inside ? j : i) * da.ld + (inside ? i : j)];
      }
    }
    Dense identity(n, n);
    for (int i = 0; i < n; i++) identity.at(i, i) = 1;
    Device<double> product(a * inverse);
    product.compare(identity, kTolerance<T>, "potri " + what);
    // The last leading minor is not positive.
    Dense indefinite = a;
    indefinite.at(n - 1, n - 1) = -1;
    Device<T> di(indefinite, uplo);
    call(cusolver, solver_name<T>("potrf"), solver, uplo, n, di.data, di.ld, workspace, elements, info);
    call(driver, "cuCtxSynchronize");
    check(*info == n, "potrf of an indefinite matrix says " + std::to_string(*info) + " " + what);
    check(call(cusolver, solver_name<T>("potrf"), solver, uplo, n, da.data, da.ld, workspace,
               elements - 1, info) == 3,
          "potrf takes a workspace that is too small");
    call(driver, "cuMemFree_v2", memory);
  }
}

}  // namespace

int main() {
  std::vector<char> path(4096);
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  folder = std::string(path.data(), length > 0 ? static_cast<size_t>(length) : 0);
  folder = folder.substr(0, folder.rfind('/'));
  driver = open("libcuda.so.1");
  cublas = open("libcublas.so.13");
  cusolver = open("libcusolver.so.12");
  void* context = nullptr;
  check(call(driver, "cuInit", 0u) == 0 && call(driver, "cuDevicePrimaryCtxRetain", &context, 0) == 0 &&
            call(driver, "cuCtxSetCurrent", context) == 0,
        "the fake driver does not start");
  check(call(cublas, "cublasCreate_v2", &blas) == 0, "no handle of cuBLAS");
  check(call(cusolver, "cusolverDnCreate", &solver) == 0, "no handle of cuSOLVER");
  for (const int m : {1, 3, 17}) {
    for (const int n : {1, 5, 18}) {
      for (const int k : {1, 40}) {
        products<float>(m, n, k);
        products<double>(m, n, k);
      }
      triangles<float>(m, n);
      triangles<double>(m, n);
    }
    cholesky<float>(m);
    cholesky<double>(m);
  }
  call(cublas, "cublasDestroy_v2", blas);
  call(cusolver, "cusolverDnDestroy", solver);
  return failures == 0 ? 0 : 1;
}

#else
int main() { return 0; }
#endif
