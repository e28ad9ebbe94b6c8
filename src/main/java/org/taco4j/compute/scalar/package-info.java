/** The readable truth: every kernel as plain loops, on one thread. */
@NullMarked
package org.taco4j.compute.scalar;

import org.jspecify.annotations.NullMarked;
