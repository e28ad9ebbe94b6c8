package org.taco4j.compute.simd;

import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

/**
 * Where OpenBLAS runs kernels for narrower vectors than this machine has (it does not know the
 * processor, or {@code OPENBLAS_CORETYPE} says so): the Vector API multiplies, which is then
 * faster, and OpenBLAS does the small factorisations.
 */
record WideProducts(OpenBlas library, VectorBlas vectors) implements Blas {
  @Override
  public String description() {
    return vectors.description()
        + " ("
        + library.description()
        + " are only "
        + library.vectorBits()
        + " bits wide and do the small factorisations)";
  }

  @Override
  public void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c) {
    vectors.gemm(alpha, a, b, beta, c);
  }

  @Override
  public void upperSquare(FloatMatrix a, FloatMatrix c) {
    vectors.upperSquare(a, c);
  }

  @Override
  public void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    vectors.gemm(alpha, a, b, beta, c);
  }

  @Override
  public int factorLower(FloatMatrix a) {
    return library.factorLower(a);
  }

  @Override
  public int factorLower(DoubleMatrix a) {
    return library.factorLower(a);
  }

  @Override
  public void invertLower(FloatMatrix lower) {
    library.invertLower(lower);
  }

  @Override
  public void invertLower(DoubleMatrix lower) {
    library.invertLower(lower);
  }
}
