/**
 * The kernels of {@code cuda-kernels} on NVIDIA's GPUs, through the JavaCPP bindings of the CUDA
 * driver, cuBLAS and cuSOLVER. Nothing here is touched unless CUDA is asked for.
 */
@NullMarked
package org.taco4j.compute.cuda;

import org.jspecify.annotations.NullMarked;
