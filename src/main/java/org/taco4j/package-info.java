/** The API: one fluent entry, results as records. */
@NullMarked
package org.taco4j;

import org.jspecify.annotations.NullMarked;
