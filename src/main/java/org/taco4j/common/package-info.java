/**
 * Errors with their exit codes, notices, worker threads and atomic files: what every other package
 * may use.
 */
@NullMarked
package org.taco4j.common;

import org.jspecify.annotations.NullMarked;
