package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.AttributeProto.AttributeType;
import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * Weights that are mostly zeros, stored as what is not zero: the values, and for each the distance
 * to the one before, in a byte. A node of the model-local function {@code taco4j.packed.Unpack},
 * made of ordinary operators, turns both into the dense tensor. Any runtime that folds constants
 * does so once, when it loads the model, and then runs what it would have run: same speed, same
 * bits, a smaller file.
 *
 * <p>ONNX's own sparse_initializer takes eight bytes for each position, which at 80 % zeros saves
 * less than half, and not every runtime reads it.
 */
public final class PackedWeights {
  /** Domain of the function; not that of operators which there is a library for. */
  static final String DOMAIN = "taco4j.packed";

  /** Name of the function: (values [n], gaps [n] uint8; shape, type) to the dense tensor. */
  static final String FUNCTION = "Unpack";

  private static final int VERSION = 1;

  /** The first in which a Constant can take integers from an attribute of a function. */
  private static final int FIRST_OPSET = 12;

  /** Below that many elements a tensor is not worth a node. */
  private static final int LEAST_ELEMENTS = 256;

  private static final int LARGEST_GAP = 255;

  private PackedWeights() {}

  /**
   * What was packed.
   *
   * @param tensors how many
   * @param denseBytes of their values before
   * @param packedBytes of their values now
   */
  public record Outcome(int tensors, long denseBytes, long packedBytes) {}

  /**
   * Packs all float32, float16 and 8-bit initializers that take at most three quarters of the bytes
   * then. Zeros of negative sign are kept as they are: what is unpacked is the same to the bit. On
   * failure the model is unchanged.
   *
   * @throws TacoException of kind MODEL for an opset before 12, in which the function cannot be
   *     written
   */
  public static Outcome pack(OnnxModel model) {
    requireOpset(model);
    GraphIndex index = model.index();
    Set<String> inputs = new HashSet<>();
    index.graph().getInputList().forEach(input -> inputs.add(input.getName()));
    Map<String, Packed> packed = new HashMap<>();
    long denseBytes = 0;
    long packedBytes = 0;
    for (TensorProto tensor : index.graph().getInitializerList()) {
      String name = tensor.getName();
      if (inputs.contains(name) || index.isOutput(name) || index.uses(name).isEmpty()) {
        continue;
      }
      Packed found = pack(tensor);
      if (found != null) {
        packed.put(name, found);
        denseBytes += TensorData.rawBytes(tensor);
        packedBytes += found.bytes();
      }
    }
    if (packed.isEmpty()) {
      return new Outcome(0, 0, 0);
    }
    OnnxModel work = model.copy();
    Map<String, String> prefixes = new HashMap<>();
    packed.keySet().forEach(name -> prefixes.put(name, work.uniqueName(name + ".packed")));
    work.edit(graph -> replace(graph, packed, prefixes));
    work.addFunctions(DOMAIN, VERSION, List.of(function(model.opset())));
    work.check();
    model.adopt(work);
    return new Outcome(packed.size(), denseBytes, packedBytes);
  }

  /**
   * Throws for a model that {@link #pack} cannot write.
   *
   * @throws TacoException of kind MODEL for an opset before 12
   */
  public static void requireOpset(OnnxModel model) {
    if (model.opset() < FIRST_OPSET) {
      throw TacoException.model(
          ("%s: weights cannot be packed in opset %d, packing needs opset %d; convert the model with"
                  + " onnx.version_converter, or export it again")
              .formatted(model.source(), model.opset(), FIRST_OPSET));
    }
  }

  /** What of a tensor is not zero. */
  private record Packed(TensorProto dense, ByteString values, ByteString gaps) {
    long bytes() {
      return (long) values.size() + gaps.size();
    }
  }

  /** Null where it does not save enough, or the type is none that is packed. */
  private static @Nullable Packed pack(TensorProto tensor) {
    OptionalInt width = width(tensor.getDataType());
    if (width.isEmpty() || TensorData.count(tensor.getDimsList()) < LEAST_ELEMENTS) {
      return null;
    }
    int w = width.getAsInt();
    byte[] dense = bytes(tensor);
    ByteArrayOutputStream values = new ByteArrayOutputStream();
    ByteArrayOutputStream gaps = new ByteArrayOutputStream();
    int last = -1;
    for (int i = 0; i < dense.length / w; i++) {
      boolean zero = true;
      for (int b = 0; b < w; b++) {
        zero &= dense[i * w + b] == 0;
      }
      // A zero is written too where the next value would be too far away, and one for a tensor that
      // has nothing else, since not every operator takes empty tensors.
      if (!zero || i - last == LARGEST_GAP || (i == dense.length / w - 1 && last < 0)) {
        values.write(dense, i * w, w);
        gaps.write(i - last);
        last = i;
      }
    }
    Packed packed =
        new Packed(
            tensor,
            UnsafeByteOperations.unsafeWrap(values.toByteArray()),
            UnsafeByteOperations.unsafeWrap(gaps.toByteArray()));
    return packed.bytes() <= dense.length * 3L / 4 ? packed : null;
  }

  /** Bytes of an element, of the types that are packed. */
  private static OptionalInt width(int dataType) {
    return switch (dataType) {
      case TensorProto.DataType.FLOAT_VALUE -> OptionalInt.of(4);
      case TensorProto.DataType.FLOAT16_VALUE -> OptionalInt.of(2);
      case TensorProto.DataType.INT8_VALUE, TensorProto.DataType.UINT8_VALUE -> OptionalInt.of(1);
      default -> OptionalInt.empty();
    };
  }

  private static byte[] bytes(TensorProto tensor) {
    if (tensor.hasRawData()) {
      return tensor.getRawData().toByteArray();
    }
    if (tensor.getDataType() == TensorProto.DataType.FLOAT_VALUE) {
      return TensorData.of(
              "", tensor.getDataType(), tensor.getDimsList(), TensorData.floats(tensor))
          .getRawData()
          .toByteArray();
    }
    // float16 and 8-bit numbers are stored as integers where they are not raw.
    int w = width(tensor.getDataType()).orElseThrow();
    byte[] bytes = new byte[tensor.getInt32DataCount() * w];
    for (int i = 0; i < tensor.getInt32DataCount(); i++) {
      for (int b = 0; b < w; b++) {
        bytes[i * w + b] = (byte) (tensor.getInt32Data(i) >> (8 * b));
      }
    }
    return bytes;
  }

  private static void replace(
      GraphProto.Builder graph, Map<String, Packed> packed, Map<String, String> prefixes) {
    List<NodeProto> nodes = new ArrayList<>();
    for (int i = 0; i < graph.getInitializerCount(); i++) {
      TensorProto dense = graph.getInitializer(i);
      Packed found = packed.get(dense.getName());
      if (found == null) {
        continue;
      }
      String prefix = prefixes.get(dense.getName());
      nodes.add(
          NodeProto.newBuilder()
              .setName(prefix)
              .setDomain(DOMAIN)
              .setOpType(FUNCTION)
              .addInput(prefix + ".values")
              .addInput(prefix + ".gaps")
              .addOutput(dense.getName())
              .addAttribute(
                  Attributes.integers(
                      "shape", dense.getDimsList().stream().mapToLong(Long::longValue).toArray()))
              .addAttribute(Attributes.integer("type", dense.getDataType()))
              .build());
      graph.setInitializer(
          i, vector(prefix + ".values", dense.getDataType(), found.gaps().size(), found.values()));
      graph.addInitializer(
          vector(
              prefix + ".gaps",
              TensorProto.DataType.UINT8_VALUE,
              found.gaps().size(),
              found.gaps()));
    }
    List<NodeProto> others = graph.getNodeList();
    graph.clearNode().addAllNode(nodes).addAllNode(others);
  }

  private static TensorProto vector(String name, int dataType, long count, ByteString raw) {
    return TensorProto.newBuilder()
        .setName(name)
        .setDataType(dataType)
        .addDims(count)
        .setRawData(raw)
        .build();
  }

  /** Positions are the sums of the gaps, less one. */
  private static FunctionProto function(int opset) {
    return FunctionProto.newBuilder()
        .setName(FUNCTION)
        .setDomain(DOMAIN)
        .addAllInput(List.of("values", "gaps"))
        .addAllAttribute(List.of("shape", "type"))
        .addOutput("weights")
        .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(opset))
        .addNode(
            Nodes.of("Constant", "dims")
                .addAttribute(Attributes.reference("value_ints", "shape", AttributeType.INTS)))
        .addNode(Nodes.of("Constant", "zero").addAttribute(Attributes.integer("value_int", 0)))
        .addNode(Nodes.of("Constant", "one").addAttribute(Attributes.integer("value_int", 1)))
        .addNode(Nodes.of("ReduceProd", "count", "dims"))
        .addNode(Nodes.of("ConstantOfShape", "zeros_float", "count"))
        .addNode(
            Nodes.of("Cast", "zeros", "zeros_float")
                .addAttribute(Attributes.reference("to", "type", AttributeType.INT)))
        .addNode(
            Nodes.of("Cast", "distances", "gaps")
                .addAttribute(Attributes.integer("to", TensorProto.DataType.INT64_VALUE)))
        .addNode(Nodes.of("CumSum", "ends", "distances", "zero"))
        .addNode(Nodes.of("Sub", "positions", "ends", "one"))
        .addNode(Nodes.of("ScatterElements", "flat", "zeros", "positions", "values"))
        .addNode(Nodes.of("Reshape", "weights", "flat", "dims"))
        .build();
  }

  /**
   * The model with all packed weights as dense initializers; the same object where there are none.
   *
   * @param source what the model is called in messages
   * @throws TacoException of kind MODEL where a node does not fit its tensors
   */
  static ModelProto unpack(String source, ModelProto model) {
    GraphProto graph = model.getGraph();
    if (graph.getNodeList().stream().noneMatch(PackedWeights::isUnpacking)) {
      return model;
    }
    Map<String, TensorProto> stored = new HashMap<>();
    graph.getInitializerList().forEach(tensor -> stored.put(tensor.getName(), tensor));
    GraphProto.Builder unpacked = graph.toBuilder().clearNode();
    // By their values, in whose place they stand, so that initializers keep their order. Another
    // program may have merged equal values, or gaps.
    Map<String, List<TensorProto>> dense = new HashMap<>();
    Set<String> gone = new HashSet<>();
    for (NodeProto node : graph.getNodeList()) {
      if (isUnpacking(node)) {
        TensorProto tensor = unpack(source, node, stored);
        dense.computeIfAbsent(node.getInput(0), values -> new ArrayList<>()).add(tensor);
        gone.addAll(node.getInputList());
      } else {
        unpacked.addNode(node);
      }
    }
    unpacked.getNodeList().forEach(node -> gone.removeAll(node.getInputList()));
    unpacked.clearInitializer();
    for (TensorProto tensor : graph.getInitializerList()) {
      if (!gone.contains(tensor.getName())) {
        unpacked.addInitializer(tensor);
      }
      unpacked.addAllInitializer(dense.getOrDefault(tensor.getName(), List.of()));
    }
    ModelProto.Builder builder = model.toBuilder().setGraph(unpacked);
    for (int i = builder.getFunctionsCount() - 1; i >= 0; i--) {
      FunctionProto function = builder.getFunctions(i);
      if (function.getDomain().equals(DOMAIN) && function.getName().equals(FUNCTION)) {
        builder.removeFunctions(i);
      }
    }
    if (builder.getFunctionsList().stream().noneMatch(f -> f.getDomain().equals(DOMAIN))) {
      for (int i = builder.getOpsetImportCount() - 1; i >= 0; i--) {
        if (builder.getOpsetImport(i).getDomain().equals(DOMAIN)) {
          builder.removeOpsetImport(i);
        }
      }
    }
    return builder.build();
  }

  private static boolean isUnpacking(NodeProto node) {
    return node.getDomain().equals(DOMAIN) && node.getOpType().equals(FUNCTION);
  }

  private static TensorProto unpack(
      String source, NodeProto node, Map<String, TensorProto> stored) {
    TensorProto values = stored.get(Nodes.input(node, 0));
    TensorProto gaps = stored.get(Nodes.input(node, 1));
    List<Long> dims = Nodes.integers(node, "shape");
    int type = Math.toIntExact(Nodes.integer(node, "type", 0));
    OptionalInt width = width(type);
    if (values == null
        || gaps == null
        || dims == null
        || node.getOutputCount() != 1
        || width.isEmpty()
        || values.getDataType() != type
        || gaps.getDataType() != TensorProto.DataType.UINT8_VALUE) {
      throw damaged(source, node, "needs stored values, gaps in uint8, a shape and a type");
    }
    int w = width.getAsInt();
    byte[] from = bytes(values);
    byte[] steps = bytes(gaps);
    long count = TensorData.count(dims);
    if (from.length != (long) steps.length * w) {
      throw damaged(
          source, node, "has " + from.length / w + " values and " + steps.length + " gaps");
    }
    if (count < 0 || count > Integer.MAX_VALUE / w) {
      throw damaged(source, node, "has the shape " + dims);
    }
    byte[] dense = new byte[(int) count * w];
    long position = -1;
    for (int i = 0; i < steps.length; i++) {
      position += Byte.toUnsignedInt(steps[i]);
      if (position < 0 || position >= count) {
        throw damaged(source, node, "has a value at " + position + " of " + count);
      }
      System.arraycopy(from, i * w, dense, (int) position * w, w);
    }
    return TensorProto.newBuilder()
        .setName(node.getOutput(0))
        .setDataType(type)
        .addAllDims(dims)
        .setRawData(UnsafeByteOperations.unsafeWrap(dense))
        .build();
  }

  private static TacoException damaged(String source, NodeProto node, String what) {
    return TacoException.model(
        source + ": " + Nodes.label(node) + " " + what + "; write the model again");
  }
}
