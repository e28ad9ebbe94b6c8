package org.taco4j.data;

/**
 * One class of a task.
 *
 * @param folder name of its image folder, such as {@code n07583066}; unique in a task
 * @param modelIndex its position in the output of the model at hand, from 0; unique in a task
 * @param name for people, such as {@code guacamole}
 */
public record TaskClass(String folder, int modelIndex, String name) {}
