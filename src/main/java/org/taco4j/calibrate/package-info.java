/** Runs the model over images and streams layer inputs into Gram matrices. */
@NullMarked
package org.taco4j.calibrate;

import org.jspecify.annotations.NullMarked;
