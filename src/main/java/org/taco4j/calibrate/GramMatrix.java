package org.taco4j.calibrate;

/**
 * The Gram matrix G = X Xᵀ of a layer problem over all images that were streamed.
 *
 * @param cols the size of one sample
 * @param samples how many samples (columns of X) were added
 * @param values [cols, cols], both triangles, row-major
 */
@SuppressWarnings("ArrayRecordComponent") // large; whoever gets the record owns the array
public record GramMatrix(int cols, long samples, double[] values) {}
