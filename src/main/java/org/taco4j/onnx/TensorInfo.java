package org.taco4j.onnx;

import java.util.List;

/**
 * Name, element type and shape of a model's input or output.
 *
 * @param elementType ONNX name of the type, such as {@code FLOAT}
 * @param shape the dimensions; -1 for one that is not fixed (a symbol, or unknown); empty together
 *     with {@code rankKnown == false} where the model does not even say how many there are
 */
public record TensorInfo(String name, String elementType, List<Long> shape, boolean rankKnown) {}
