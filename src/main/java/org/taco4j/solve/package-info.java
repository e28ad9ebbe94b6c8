/** The layer solvers and patterns: one file, one algorithm. */
@NullMarked
package org.taco4j.solve;

import org.jspecify.annotations.NullMarked;
