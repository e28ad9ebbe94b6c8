package org.taco4j.data;

import java.nio.file.Path;

/**
 * One labelled image, not yet read.
 *
 * @param path the file
 * @param classIndex position of its class in the task's list of classes, not in the model's output
 */
public record ImageFile(Path path, int classIndex) {}
