package org.taco4j.bench;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.export.MagnitudePruning;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.OperatorLibrary;
import org.taco4j.runtime.ProfiledSession;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/** Choice and rewrite with times that are made up, and with the clock; speeds are not asserted. */
class OperatorPlanTest {
  private static final long[] IMAGE = {1, 3, 9, 9};
  private static final OperatorTable.Machine MACHINE =
      new OperatorTable.Machine("test", "test", "test", "test", 1);

  @TempDir Path folder;

  @BeforeAll
  static void needsTheLibrary() {
    assumeTrue(OperatorLibrary.isAvailable(), "no operator library was built: no cmake?");
  }

  /**
   * Four convolutions, one of them depthwise, one with a residual sum, and a product; 80 % zeros.
   */
  private static OnnxModel model(long batch) {
    OnnxModel model = dense(batch);
    MagnitudePruning.prune(model, 0.8, 1, layer -> true);
    return model;
  }

  private static OnnxModel dense(long batch) {
    return new ModelBuilder(17)
        .input("x", batch, 3, 9, 9)
        .random("w1", 16, 3, 3, 3)
        .random("b1", 16)
        .random("w2", 16, 1, 3, 3)
        .random("w3", 16, 16, 1, 1)
        .random("w4", 16, 16, 3, 3)
        .random("w5", 16, 5)
        .node(
            "conv1",
            "Conv",
            List.of("x", "w1", "b1"),
            List.of("c1"),
            attribute("pads", new long[] {1, 1, 1, 1}))
        .node("Relu", List.of("c1"), List.of("r1"))
        .node(
            "conv2",
            "Conv",
            List.of("r1", "w2"),
            List.of("c2"),
            attribute("group", 16),
            attribute("pads", new long[] {1, 1, 1, 1}))
        .node("conv3", "Conv", List.of("c2", "w3"), List.of("c3"))
        .node("Add", List.of("c3", "r1"), List.of("s3"))
        .node("Relu", List.of("s3"), List.of("r3"))
        .node(
            "conv4",
            "Conv",
            List.of("r3", "w4"),
            List.of("c4"),
            attribute("auto_pad", "SAME_UPPER"))
        .node("GlobalAveragePool", List.of("c4"), List.of("p"))
        .node("Flatten", List.of("p"), List.of("f"))
        .node("head", "MatMul", List.of("f", "w5"), List.of("y"))
        .output("y", batch, 5)
        .model();
  }

  private static OperatorPlan.Use use(OnnxModel model, int batch) {
    return new OperatorPlan.Use(ModelInput.of(model), IMAGE, 1, batch);
  }

  private OperatorTable table(String name) {
    return OperatorTable.open(folder.resolve(name), MACHINE, new Notices());
  }

  /** Collects what is measured. */
  private static final class Heard implements OperatorPlan.Listener {
    private final List<String> layers = new ArrayList<>();
    private int announced;

    @Override
    public void measuring(int count) {
      announced += count;
    }

    @Override
    public void measured(String layer) {
      layers.add(layer);
    }

    @Override
    public void comparing() {}
  }

  private static float[] run(OnnxModel model) {
    ModelInput input = ModelInput.of(model);
    float[] values = new float[3 * 9 * 9];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) Math.sin(i);
    }
    Map<String, Tensor> feed = input.feed(values, 1, IMAGE);
    try (Session session = Session.open(model, 1)) {
      Map<String, Tensor> results = session.run(feed);
      float[] scores = results.get("y").floats().clone();
      results.values().forEach(Tensor::close);
      return scores;
    } finally {
      feed.values().forEach(Tensor::close);
    }
  }

  private static List<SingleLayer> singles(OnnxModel model, Map<String, String> reasons) {
    Map<String, long[]> shapes = OperatorPlan.shapes(model, use(model, 1));
    List<SingleLayer> singles = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      singles.addAll(SingleLayer.of(model, layer, shapes, reasons));
    }
    return singles;
  }

  @Test
  void everyLayerIsCutOutWithWhatIsFusedIntoIt() {
    OnnxModel model = model(-1);
    Map<String, String> reasons = new HashMap<>();
    Map<String, SingleLayer> byName =
        singles(model, reasons).stream()
            .collect(Collectors.toMap(SingleLayer::layer, layer -> layer));
    assertEquals(List.of("conv4"), List.copyOf(reasons.keySet()));
    assertTrue(reasons.get("conv4").contains("auto_pad"), reasons.toString());
    assertEquals(4, byName.size());
    SingleLayer first = byName.get("conv1");
    assertEquals(
        "SparseConvRelu [16, 3, 3, 3] dilations [1, 1] group 1 pads [1, 1, 1, 1] strides [1, 1]"
            + " on [1, 3, 9, 9]",
        first.shape());
    assertEquals("r1", first.output());
    assertEquals(SingleLayer.Zeros.UNSTRUCTURED, first.zeros());
    assertEquals(0.8, first.sparsity(), 0.005);
    SingleLayer sum = byName.get("conv3");
    assertEquals("taco4j.SparseConvAddRelu", sum.operator());
    assertEquals(List.of("c2", "r1"), List.copyOf(sum.inputs().keySet()));
    assertEquals("r3", sum.output());
    SingleLayer product = byName.get("head");
    assertEquals("SparseMatMul [16, 5] on [1, 16]", product.shape());
    // Depthwise layers are not pruned, and are candidates all the same.
    assertEquals(0, byName.get("conv2").sparsity());
    // The model that was cut is as it was.
    assertFalse(model.hasSparseOperators());
  }

  @Test
  void theBatchIsPartOfTheShape() {
    OnnxModel free = model(-1);
    Map<String, long[]> shapes = OperatorPlan.shapes(free, use(free, 5));
    assertEquals(5, shapes.get("x")[0]);
    assertEquals(5, shapes.get("r1")[0]);
    assertEquals(5, shapes.get("f")[0]);
    // A fixed batch stays what it is.
    OnnxModel fixed = model(3);
    assertEquals(3, OperatorPlan.shapes(fixed, use(fixed, 5)).get("c2")[0]);
  }

  @Test
  void rowsOfBlocksAreToldFromZerosAnywhere() {
    OnnxModel model = model(-1);
    Layer layer = LayerDiscovery.find(model, "conv3");
    assertEquals(SingleLayer.Zeros.UNSTRUCTURED, SingleLayer.zeros(model, layer));
    float[] blocks = new float[16 * 16];
    for (int i = 0; i < blocks.length; i++) {
      blocks[i] = i / 16 / 4 % 2 == i % 2 ? 1 : 0;
    }
    LayerWeights.fold(model, layer, 0, blocks);
    assertEquals(SingleLayer.Zeros.ROWS4, SingleLayer.zeros(model, layer));
    // Zeros inside blocks: 6 of 128 weights are less than a twentieth, 7 are more.
    for (int zeros = 0, i = 0; zeros < 7; i++) {
      if (blocks[i] != 0) {
        blocks[i] = 0;
        zeros++;
        LayerWeights.fold(model, layer, 0, blocks);
        assertEquals(
            zeros <= 6 ? SingleLayer.Zeros.ROWS4 : SingleLayer.Zeros.UNSTRUCTURED,
            SingleLayer.zeros(model, layer),
            zeros + " zeros");
      }
    }
    // Five rows have no blocks of four.
    assertEquals(
        SingleLayer.Zeros.UNSTRUCTURED,
        SingleLayer.zeros(model, LayerDiscovery.find(model, "head")));
  }

  @Test
  void theSameModelRunsDenselyAndOnTheLibrary() {
    for (SingleLayer layer : singles(model(-1), new HashMap<>())) {
      Map<String, Tensor> feed = new HashMap<>();
      layer
          .inputs()
          .forEach(
              (name, shape) ->
                  feed.put(
                      name,
                      Tensor.ofFloats(new float[Math.toIntExact(Tensor.elements(shape))], shape)));
      try (ProfiledSession dense = ProfiledSession.open(layer.dense(), 1, false);
          ProfiledSession sparse = ProfiledSession.open(layer.sparse(), 1, true)) {
        for (int i = 0; i < 4; i++) {
          dense.run(feed);
          sparse.run(feed);
        }
        List<ProfiledSession.NodeTimes> nodes = sparse.times();
        assertEquals(1, nodes.size(), layer.layer() + nodes);
        assertEquals(layer.operator(), "taco4j." + nodes.getFirst().operator());
        assertEquals(4, nodes.getFirst().millis().size());
        assertTrue(
            dense.times().stream().noneMatch(node -> node.operator().startsWith("Sparse")),
            layer.layer());
      } finally {
        feed.values().forEach(Tensor::close);
      }
    }
  }

  /** ONNX Runtime adds in a convolution, as it does in whole models; else it takes a node more. */
  @ParameterizedTest
  @ValueSource(longs = {16, 24, 32})
  void aDenseLayerAddsAsInAWholeModel(long channels) {
    for (String operand : List.of("c1", "z")) {
      assertAddsAsInAWholeModel(channels, operand);
    }
  }

  private static void assertAddsAsInAWholeModel(long channels, String operand) {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 3, 9, 9)
            .random("w1", channels, 3, 3, 3)
            .random("w2", channels, channels, 1, 1)
            .node("conv1", "Conv", List.of("x", "w1"), List.of("c1"))
            .node("conv2", "Conv", List.of("c1", "w2"), List.of("c2"))
            .node("Sigmoid", List.of("c1"), List.of("z"))
            .node("Add", List.of("c2", operand), List.of("s"))
            .node("Relu", List.of("s"), List.of("y"))
            .output("y", 1, channels, 7, 7)
            .model();
    SingleLayer layer =
        singles(model, new HashMap<>()).stream()
            .filter(single -> single.layer().equals("conv2"))
            .findFirst()
            .orElseThrow();
    long[] shape = {1, channels, 7, 7};
    Map<String, Tensor> feed = new HashMap<>();
    for (String input : layer.inputs().keySet()) {
      feed.put(input, Tensor.ofFloats(new float[(int) (49 * channels)], shape));
    }
    try (ProfiledSession dense = ProfiledSession.open(layer.dense(), 1, false)) {
      dense.run(feed);
      List<ProfiledSession.NodeTimes> nodes = dense.times();
      assumeTrue(
          nodes.stream().anyMatch(node -> node.operator().equals("ReorderOutput")),
          "this processor has no blocked layout in ONNX Runtime");
      assertTrue(
          nodes.stream().noneMatch(node -> List.of("Add", "Relu").contains(node.operator())),
          nodes.toString());
      OperatorTable.Dense time = LayerClock.dense(nodes, layer);
      assertTrue(time.reordersInput() && time.reordersOutput(), time.toString());
    } finally {
      feed.values().forEach(Tensor::close);
    }
  }

  private static ProfiledSession.NodeTimes times(
      String name, String operator, List<Long> shape, double... millis) {
    List<Double> all = new ArrayList<>();
    for (double each : millis) {
      all.add(each);
    }
    return new ProfiledSession.NodeTimes(name, operator, shape, all);
  }

  @Test
  void reorderingIsNoPartOfALayersTime() {
    SingleLayer layer =
        singles(model(-1), new HashMap<>()).stream()
            .filter(single -> single.layer().equals("conv3"))
            .findFirst()
            .orElseThrow();
    List<Long> shape = List.of(1L, 16L, 9L, 9L);
    // The first three runs warm up; of the others the fastest quarter counts.
    OperatorTable.Dense dense =
        LayerClock.dense(
            List.of(
                times("ReorderInput_1", "ReorderInput", shape, 9, 9, 9, 2),
                times("ReorderInput_2", "ReorderInput", shape, 9, 9, 9, 4),
                times("r1" + SingleLayer.BLOCKED + "_nchwc", "MaxPool", shape, 9, 9, 9, 7),
                times("c3_nchwc", "Conv", shape, 0, 0, 0, 5, 1, 3, 6),
                times("ReorderOutput", "ReorderOutput", shape, 9, 9, 9, 8)),
            layer);
    assertEquals(new OperatorTable.Dense(1, true, true, 3, 8), dense);
    assertEquals(
        new OperatorTable.Dense(6, false, false, 0, 0),
        LayerClock.dense(
            List.of(times("c3", "Conv", shape, 9, 9, 9, 4), times("r3", "Relu", shape, 9, 9, 9, 2)),
            layer));
  }

  /** A table that says of each layer what is wanted. */
  private OperatorTable madeUp(OnnxModel model, String... faster) {
    OperatorTable table = table("made-up");
    for (SingleLayer layer : singles(model, new HashMap<>())) {
      boolean gains = List.of(faster).contains(layer.layer());
      table.putDense(layer.shape(), new OperatorTable.Dense(2, true, true, 0.1, 0.1));
      table.putSparse(layer.shape(), layer.zeros().name(), layer.sparsity(), gains ? 1 : 3);
    }
    return table;
  }

  @Test
  void layersAreRewrittenWhereTheTableSaysThatTheyGain() {
    OnnxModel model = model(-1);
    Notices notices = new Notices();
    Heard heard = new Heard();
    OperatorPlan.Result result =
        OperatorPlan.rewrite(
            model,
            use(model, 1),
            madeUp(model, "conv1", "conv3"),
            notices,
            heard,
            (first, second) -> 1.5);
    assertEquals(List.of(), notices.list());
    assertEquals(0, heard.announced);
    assertEquals(0, result.measured());
    assertEquals(2, result.rewritten());
    Map<String, OperatorPlan.LayerChoice> layers =
        result.layers().stream()
            .collect(Collectors.toMap(OperatorPlan.LayerChoice::layer, layer -> layer));
    assertEquals(5, layers.size());
    assertEquals("taco4j.SparseConvRelu", layers.get("conv1").operator());
    assertEquals(2, layers.get("conv1").denseMillis());
    assertEquals(1, layers.get("conv1").sparseMillis());
    assertNull(layers.get("conv1").whyDense());
    assertEquals("taco4j.SparseConvAddRelu", layers.get("conv3").operator());
    assertEquals("the dense operator is as fast", layers.get("conv2").whyDense());
    assertTrue(layers.get("conv4").whyDense().contains("auto_pad"));
    assertNull(layers.get("conv4").denseMillis());
    assertTrue(result.model().hasSparseOperators());
    assertFalse(model.hasSparseOperators());
    // Float32 sums in another order; weights and inputs are about 1.
    assertArrayEquals(run(model), run(result.model()), 1e-4f);
    // Zeros are what they were, and layers of a rewritten model are found, by their names.
    for (Layer layer : LayerDiscovery.discover(model)) {
      assertEquals(
          LayerWeights.zeros(model, layer),
          LayerWeights.zeros(result.model(), LayerDiscovery.find(result.model(), layer.name())),
          layer.name());
    }
    assertEquals(
        LayerMacs.count(model, LayerDiscovery.discover(model), ModelInput.of(model), IMAGE),
        LayerMacs.count(
            result.model(), LayerDiscovery.discover(result.model()), ModelInput.of(model), IMAGE));
  }

  @Test
  void layerNormalizationsAreRewrittenWhereTheWholeModelGains() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", -1, 3, 9, 9)
            .random("scale", 9)
            .random("shift", 9)
            .random("w", 16, 3, 3, 3)
            .node("norm", "LayerNormalization", List.of("x", "scale", "shift"), List.of("n"))
            .node("conv", "Conv", List.of("n", "w"), List.of("c"))
            .node("GlobalAveragePool", List.of("c"), List.of("p"))
            .node("Flatten", List.of("p"), List.of("y"))
            .output("y", -1, 16)
            .model();
    for (double gain : new double[] {1.5, 0.9}) {
      Notices notices = new Notices();
      OperatorPlan.Result result =
          OperatorPlan.rewrite(
              model, use(model, 1), madeUp(model), notices, new Heard(), (a, b) -> gain);
      assertEquals(0, result.rewritten());
      assertEquals(gain > 1 ? 1 : 0, result.normalizations());
      assertEquals(gain > 1, result.model().hasSparseOperators());
      assertEquals(gain > 1 ? 0 : 1, notices.list().size(), notices.list().toString());
      assertArrayEquals(run(model), run(result.model()), 1e-4f);
      // It has no weights that could be pruned.
      assertEquals(List.of(), LayerDiscovery.skipped(result.model()));
      assertEquals(1, LayerDiscovery.discover(result.model()).size());
    }
  }

  @Test
  void aModelThatIsNoFasterAsAWholeStaysAsItIs() {
    OnnxModel model = model(-1);
    Notices notices = new Notices();
    OperatorPlan.Result result =
        OperatorPlan.rewrite(
            model,
            use(model, 1),
            madeUp(model, "conv1"),
            notices,
            new Heard(),
            (first, second) -> 0.97);
    assertEquals(List.of("operators-not-used"), notices.list().stream().map(Notice::code).toList());
    assertEquals(0, result.rewritten());
    assertFalse(result.model().hasSparseOperators());
    assertEquals(model.sha256(), result.model().sha256());
    assertTrue(
        result.layers().getFirst().whyDense().contains("0.97x"),
        result.layers().getFirst().whyDense());
  }

  @Test
  void whereNothingGainsNothingIsCompared() {
    OnnxModel model = model(-1);
    Notices notices = new Notices();
    OperatorPlan.Result result =
        OperatorPlan.rewrite(
            model,
            use(model, 1),
            madeUp(model),
            notices,
            new Heard(),
            (first, second) -> {
              throw new AssertionError("compared");
            });
    assertEquals(0, result.rewritten());
    assertEquals("operators-not-used", notices.list().getFirst().code());
  }

  @Test
  void ofChoicesThatAreNearTheFasterWholeModelIsTaken() {
    OnnxModel model = model(-1);
    OperatorTable table = madeUp(model);
    for (SingleLayer layer : singles(model, new HashMap<>())) {
      table.putSparse(layer.shape(), layer.zeros().name(), layer.sparsity(), 2.05);
    }
    // By the estimate nothing gains; measured, everything does.
    OperatorPlan.Result result =
        OperatorPlan.rewrite(
            model,
            use(model, 1),
            table,
            new Notices(),
            new Heard(),
            (first, second) ->
                second.operatorCounts().keySet().stream()
                        .anyMatch(operator -> operator.startsWith("taco4j"))
                    ? 2
                    : 0.5);
    assertTrue(result.rewritten() > 0);
  }

  @Test
  void whatTheTableLacksIsMeasuredOnceAndKept() {
    OnnxModel model = model(-1);
    Notices notices = new Notices();
    Heard heard = new Heard();
    OperatorTable table = table("measured");
    OperatorPlan.Result result =
        OperatorPlan.rewrite(model, use(model, 1), table, notices, heard, (first, second) -> 1.5);
    assertEquals(4, result.measured());
    assertEquals(4, heard.announced);
    assertEquals(4, heard.layers.size());
    Notice notice = notices.list().getFirst();
    assertEquals("operators-measured", notice.code());
    assertEquals(4, notice.value());
    for (OperatorPlan.LayerChoice layer : result.layers()) {
      if (!layer.layer().equals("conv4")) {
        assertNotNull(layer.denseMillis());
        assertNotNull(layer.sparseMillis());
      }
    }
    Heard again = new Heard();
    Notices none = new Notices();
    assertEquals(
        0,
        OperatorPlan.rewrite(
                model, use(model, 1), table("measured"), none, again, (first, second) -> 1.5)
            .measured());
    assertEquals(0, again.announced);
    assertTrue(none.list().stream().noneMatch(n -> n.code().equals("operators-measured")));
  }

  @Test
  void calibrationMeasuresWhatExportAsksFor() {
    OnnxModel model = model(-1);
    OperatorTable table = table("calibrated");
    List<String> levels = new ArrayList<>();
    int measured =
        OperatorCalibration.calibrate(
            model,
            use(model, 1),
            1,
            1,
            table,
            new Notices(),
            new OperatorCalibration.Listener() {
              @Override
              public void level(String what, int layers) {
                levels.add(what);
              }

              @Override
              public void measured(String layer) {}
            });
    assertTrue(measured > 4, measured + " measured");
    assertTrue(levels.contains("80 % zeros in blocks of 4 rows"), levels.toString());
    for (double sparsity : new double[] {0.55, 0.8, 0.93}) {
      for (int blockRows : new int[] {1, 4}) {
        OnnxModel other = dense(-1);
        MagnitudePruning.prune(other, sparsity, blockRows, layer -> true);
        Heard heard = new Heard();
        OperatorPlan.rewrite(
            other, use(other, 1), table("calibrated"), new Notices(), heard, (x, y) -> 1);
        assertEquals(List.of(), heard.layers, sparsity + " in blocks of " + blockRows);
      }
    }
  }

  @Test
  void commonLayersAllHaveSparseOperators() {
    CommonLayers.Layers common = CommonLayers.make(2);
    Map<String, String> reasons = new HashMap<>();
    List<String> operators = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(common.model())) {
      for (SingleLayer single : SingleLayer.of(common.model(), layer, common.shapes(), reasons)) {
        operators.add(single.operator());
        assertTrue(single.shape().contains(" on [2, "), single.shape());
      }
    }
    assertEquals(Map.of(), reasons);
    for (String operator :
        List.of(
            "SparseConv",
            "SparseConvRelu",
            "SparseConvAddRelu",
            "SparseConvClip",
            "SparseMatMulGelu",
            "SparseMatMulAdd")) {
      assertTrue(operators.contains("taco4j." + operator), operator);
    }
  }
}
