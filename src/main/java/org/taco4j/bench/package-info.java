/** Accuracy and latency of models. */
@NullMarked
package org.taco4j.bench;

import org.jspecify.annotations.NullMarked;
