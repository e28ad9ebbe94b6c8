/** Reads, checks, edits and writes ONNX models; finds the layers in them. */
@NullMarked
package org.taco4j.onnx;

import org.jspecify.annotations.NullMarked;
