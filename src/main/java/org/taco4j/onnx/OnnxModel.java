package org.taco4j.onnx;

import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Map;

/**
 * An ONNX model in memory that can be edited. What is not edited is written back as it was, byte
 * for byte as far as protobuf allows. Not thread-safe while it is edited.
 */
public final class OnnxModel {

  private OnnxModel() {}

  /**
   * Reads a model, its external data files included (they are mapped, not copied).
   *
   * @throws org.taco4j.common.TacoException of kind MODEL: no such file, not an ONNX model,
   *     truncated, an external data file that is missing, too short, or outside the model's folder,
   *     an opset or IR version this project cannot handle, a NaN or infinite weight
   */
  public static OnnxModel read(Path file) {
    throw new UnsupportedOperationException();
  }

  /**
   * Writes the model; the file appears whole or not at all. Weights go to one external data file,
   * {@code <file name>.data}, where the model would exceed 2 GB as one file.
   */
  public void write(Path file) {
    throw new UnsupportedOperationException();
  }

  /** Bytes of the model as one protobuf, external data included: what {@link #write} would need. */
  public long sizeInBytes() {
    throw new UnsupportedOperationException();
  }

  /** An independent copy; weights that neither side changes are shared. */
  public OnnxModel copy() {
    throw new UnsupportedOperationException();
  }

  /** The model as one protobuf; only where {@link #sizeInBytes} is below 2 GB. */
  public byte[] toBytes() {
    throw new UnsupportedOperationException();
  }

  /** Where the model was read from, for messages. */
  public String source() {
    throw new UnsupportedOperationException();
  }

  /** Version of the default operator set. */
  public int opset() {
    throw new UnsupportedOperationException();
  }

  /** The inputs that are fed at run time: graph inputs that are no initializers. */
  public List<TensorInfo> inputs() {
    throw new UnsupportedOperationException();
  }

  /** The outputs. */
  public List<TensorInfo> outputs() {
    throw new UnsupportedOperationException();
  }

  /** The model's metadata properties. */
  public Map<String, String> metadata() {
    throw new UnsupportedOperationException();
  }

  /** Sets one metadata property. */
  public void setMetadata(String key, String value) {
    throw new UnsupportedOperationException();
  }

  /** How many nodes of each operator the main graph has. */
  public Map<String, Integer> operatorCounts() {
    throw new UnsupportedOperationException();
  }

  /**
   * A copy that has the given intermediate tensors as outputs beside (or, without {@code
   * keepOutputs}, instead of) its own; nodes and weights that no output needs are left out.
   */
  public OnnxModel withOutputs(Collection<String> tensors, boolean keepOutputs) {
    throw new UnsupportedOperationException();
  }

  /**
   * Cuts the model: the part that computes {@code outputs} when the tensors in {@code inputs} are
   * given. Weights are shared with this model.
   *
   * @param inputs the given tensors with their ONNX element types (TensorProto.DataType numbers)
   * @throws IllegalArgumentException when the outputs need more than the inputs give
   */
  public OnnxModel subgraph(Map<String, Integer> inputs, Collection<String> outputs) {
    throw new UnsupportedOperationException();
  }

  /**
   * Splits the nodes of the main graph into consecutive stages, one for each of the given tensors
   * in that order and one for the rest: stage i holds the nodes that tensor i needs and no earlier
   * stage has.
   *
   * @param tensors outputs of nodes, in graph order
   */
  public List<Stage> stages(List<String> tensors) {
    throw new UnsupportedOperationException();
  }

  /**
   * One part of a model that has been split.
   *
   * @param inputs tensors (no constants) that the part reads and does not compute itself
   * @param outputs tensors that it computes and that a later part, or the user of the model, reads,
   *     and the tensor that it was made for
   */
  public record Stage(List<String> inputs, List<String> outputs) {}
}
