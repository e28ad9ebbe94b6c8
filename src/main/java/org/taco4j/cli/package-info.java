/** The command line: parses, calls the API, prints. */
@NullMarked
package org.taco4j.cli;

import org.jspecify.annotations.NullMarked;
