/**
 * Kernels on vector instructions: matrix products and small factorisations by OpenBLAS where its
 * native is there and by the Vector API where not, the OBS kernels by the Vector API.
 *
 * <p>Only {@link org.taco4j.compute.Backends} may touch this package, after it has seen that the
 * Vector API's module is there.
 */
@NullMarked
package org.taco4j.compute.simd;

import org.jspecify.annotations.NullMarked;
