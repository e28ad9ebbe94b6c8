/** Works over the graph, layer after layer: the channel correction. */
@NullMarked
package org.taco4j.reconstruct;

import org.jspecify.annotations.NullMarked;
