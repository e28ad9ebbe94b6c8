/** ONNX Runtime sessions. */
@NullMarked
package org.taco4j.runtime;

import org.jspecify.annotations.NullMarked;
