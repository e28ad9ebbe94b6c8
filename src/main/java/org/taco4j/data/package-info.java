/** Image folders, decoding and exact preprocessing. */
@NullMarked
package org.taco4j.data;

import org.jspecify.annotations.NullMarked;
