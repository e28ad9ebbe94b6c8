package org.taco4j.common;

/**
 * Something that was not done as asked, or that the user would want to know of: it is printed once
 * and stands in the report. This is how the rule "no silent fallback" is kept.
 *
 * @param code what happened, a stable kebab-case word for programs, such as {@code
 *     "extra-damping"}, {@code "dead-columns"}, {@code "layer-left-dense"}, {@code "image-skipped"}
 * @param subject the layer, file or class that it happened to
 * @param message one sentence for people
 * @param value the number that belongs to it, in the unit that the message names; how many, how
 *     much
 */
public record Notice(String code, String subject, String message, double value) {}
