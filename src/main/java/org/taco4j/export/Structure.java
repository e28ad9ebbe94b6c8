package org.taco4j.export;

import java.util.List;

/**
 * A hidden dimension of a model that can be made smaller: its units (hidden units of an MLP,
 * channels, attention heads) are written by the producers and read by the consumers, and by nobody
 * else. It refers to its model by layer names only, so it stays true when other structures of the
 * model are made smaller.
 *
 * @param name of the first producer; unique among the structures of a model
 * @param units how many there were when it was discovered
 * @param producers the layers whose rows go with a unit, in graph order
 * @param consumers the layers whose columns go with a unit, in graph order. These are the layers
 *     that a solver works on: once their columns of a unit are zero, nothing reads the unit
 * @param depthwise depthwise convolutions between them, which lose the unit's channels
 */
public record Structure(
    String name,
    Kind kind,
    int units,
    List<Producer> producers,
    List<Consumer> consumers,
    List<String> depthwise) {

  /** What the units are. */
  public enum Kind {
    /** Hidden units between fully connected layers. */
    MLP,
    /** Channels of convolutions. */
    CHANNELS,
    /** Attention heads. */
    HEADS
  }

  /**
   * A layer that writes the units: rows (c · units + u) · rowsPerUnit to (c · units + u + 1) ·
   * rowsPerUnit - 1, for each copy c, belong to unit u.
   *
   * @param copies 3 for the heads of a layer that gives query, key and value; else 1
   * @param rowsPerUnit the head's dimension; 1 for hidden units and channels
   */
  public record Producer(String layer, int copies, int rowsPerUnit) {}

  /**
   * A layer that reads the units: its columns u · columnsPerUnit to (u + 1) · columnsPerUnit - 1,
   * in the order of {@link org.taco4j.onnx.LayerWeights#unfold}, belong to unit u.
   *
   * @param columnsPerUnit 1 for hidden units, kernel height x width for channels, the head's
   *     dimension for heads, the number of pixels where an image was flattened
   */
  public record Consumer(String layer, int columnsPerUnit) {}
}
