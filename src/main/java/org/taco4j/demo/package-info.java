/**
 * What {@code taco demo} stands on: pictures that the project draws itself, and the generalist that
 * it has trained on them.
 */
@org.jspecify.annotations.NullMarked
package org.taco4j.demo;
