/** Graph rewrites on the way out: what makes a compressed model really smaller. */
@NullMarked
package org.taco4j.export;

import org.jspecify.annotations.NullMarked;
