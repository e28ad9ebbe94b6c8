/** Works over the graph, layer after layer: layer-wise solving, and the channel correction. */
@NullMarked
package org.taco4j.reconstruct;

import org.jspecify.annotations.NullMarked;
