/** The API: {@link org.taco4j.Taco} is where to start. */
@NullMarked
package org.taco4j;

import org.jspecify.annotations.NullMarked;
