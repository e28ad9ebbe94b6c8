package org.taco4j.execute;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.Collection;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;
import org.taco4j.onnx.Nodes;

/**
 * From the operators of the ONNX standard to what makes their kernels. The implementations are in
 * the classes named in {@link #table}, by kind.
 */
final class OperatorTable {
  private static final Map<String, Kernel.Factory> TABLE = new OperatorTable().table();

  private final Map<String, Kernel.Factory> factories = new TreeMap<>();

  private OperatorTable() {}

  private Map<String, Kernel.Factory> table() {
    ActivationOperators.addTo(this);
    ArithmeticOperators.addTo(this);
    ConvolutionOperators.addTo(this);
    IndexingOperators.addTo(this);
    MatrixOperators.addTo(this);
    NormalizationOperators.addTo(this);
    PoolingOperators.addTo(this);
    QuantizationOperators.addTo(this);
    ReductionOperators.addTo(this);
    ResizeOperators.addTo(this);
    ShapeOperators.addTo(this);
    return Collections.unmodifiableMap(factories);
  }

  /** Adds an operator of one output; nodes that want more are refused. */
  void add(String operator, Kernel.SingleFactory factory) {
    addMultiple(
        operator,
        node -> {
          node.onlyFirstOutput();
          return Kernel.single(factory.create(node));
        });
  }

  /** Adds an operator of several outputs. */
  void addMultiple(String operator, Kernel.Factory factory) {
    if (factories.put(operator, factory) != null) {
      throw new IllegalStateException(operator + " is there twice");
    }
  }

  static Collection<String> names() {
    return TABLE.keySet();
  }

  /**
   * The kernel of a node.
   *
   * @throws NodeSpec.Unsupported when it cannot be computed exactly
   */
  static Kernel kernel(NodeProto node, int opset) {
    Kernel.Factory factory =
        Nodes.isDefaultDomain(node.getDomain()) ? TABLE.get(node.getOpType()) : null;
    if (factory == null) {
      throw new NodeSpec.Unsupported("operator " + Nodes.operator(node) + " is not implemented");
    }
    NodeSpec spec = new NodeSpec(node, opset);
    Kernel kernel = factory.create(spec);
    spec.noOtherAttributes();
    return kernel;
  }
}
