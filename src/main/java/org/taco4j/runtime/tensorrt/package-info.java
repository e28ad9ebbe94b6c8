/**
 * TensorRT: what of it is there, engines built from ONNX models and kept, and their times on a GPU.
 * Nothing here is touched unless TensorRT is asked for. NVIDIA's libraries are the user's.
 */
@NullMarked
package org.taco4j.runtime.tensorrt;

import org.jspecify.annotations.NullMarked;
