package org.taco4j.tune;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;

/**
 * Which weights of a layer may be other than zero.
 *
 * @param layer name of the layer
 * @param rows of one group
 * @param cols of one group
 * @param keep for each group [rows, cols], row-major, as {@link LayerWeights#unfold}
 */
@SuppressWarnings("ArrayRecordComponent") // owned by whoever asked for it
public record LayerMask(String layer, int rows, int cols, boolean[][] keep) {
  /** Checks that the sizes fit together. */
  public LayerMask {
    int size = rows * cols;
    if (Arrays.stream(keep).anyMatch(group -> group.length != size)) {
      throw new IllegalArgumentException(
          "the mask of layer '%s' has a group of other than %d x %d".formatted(layer, rows, cols));
    }
  }

  /**
   * The zeros that layers have stay: of plain weights, and of those behind a DequantizeLinear.
   *
   * @throws TacoException of kind MODEL for a layer whose weights are neither
   */
  public static List<LayerMask> ofZeros(OnnxModel model, Collection<Layer> layers) {
    OnnxModel floats = FloatForm.of(model).model();
    return layers.stream().map(layer -> ofZeros(floats, layer)).toList();
  }

  private static LayerMask ofZeros(OnnxModel floats, Layer layer) {
    if (!LayerWeights.isReadable(floats, layer)) {
      throw TacoException.model(
          "%s: layer '%s': its zeros are not known, and cannot be held through tuning"
              .formatted(floats.source(), layer.name()));
    }
    float[][] weights = LayerWeights.unfold(floats, layer);
    boolean[][] keep = new boolean[weights.length][];
    for (int g = 0; g < weights.length; g++) {
      keep[g] = new boolean[weights[g].length];
      for (int i = 0; i < keep[g].length; i++) {
        keep[g][i] = weights[g][i] != 0;
      }
    }
    return new LayerMask(layer.name(), layer.rows(), layer.cols(), keep);
  }

  /** SHA-256, in hex, of the layer's name, the sizes and one bit for each weight. */
  String sha256() {
    MessageDigest digest = Sha256.create();
    byte[] name = layer.getBytes(StandardCharsets.UTF_8);
    ByteBuffer sizes = ByteBuffer.allocate(4 * Integer.BYTES);
    sizes.putInt(name.length).putInt(keep.length).putInt(rows).putInt(cols);
    digest.update(sizes.array());
    digest.update(name);
    for (boolean[] group : keep) {
      BitSet bits = new BitSet(group.length + 1);
      for (int i = 0; i < group.length; i++) {
        bits.set(i, group[i]);
      }
      // Without a last bit that is set, a BitSet leaves out the zeros at the end.
      bits.set(group.length);
      digest.update(bits.toByteArray());
    }
    return HexFormat.of().formatHex(digest.digest());
  }

  /**
   * Checks that this fits a layer of a model.
   *
   * @throws TacoException of kind USAGE for a model without such a layer, or of another shape
   */
  Layer requireFit(OnnxModel model) {
    Layer found =
        LayerDiscovery.discover(model).stream()
            .filter(l -> l.name().equals(layer))
            .findFirst()
            .orElseThrow(
                () ->
                    TacoException.usage(
                        "the mask is for layer '%s', which %s does not have"
                            .formatted(layer, model.source())));
    if (found.groups() != keep.length || found.rows() != rows || found.cols() != cols) {
      throw TacoException.usage(
          "the mask of layer '%s' does not fit: it has %d group(s) of [%d, %d], the layer %d of [%d, %d]"
              .formatted(
                  layer, keep.length, rows, cols, found.groups(), found.rows(), found.cols()));
    }
    return found;
  }
}
