/** What a run writes: JSON, CSV and the model card. */
@NullMarked
package org.taco4j.report;

import org.jspecify.annotations.NullMarked;
