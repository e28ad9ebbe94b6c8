/** The numerical kernels behind one interface, and the choice among their implementations. */
@NullMarked
package org.taco4j.compute;

import org.jspecify.annotations.NullMarked;
