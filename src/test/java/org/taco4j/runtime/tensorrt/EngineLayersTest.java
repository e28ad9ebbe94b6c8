package org.taco4j.runtime.tensorrt;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

/** The forms are those of NVIDIA's documentation; no engine has been inspected yet. */
class EngineLayersTest {
  private static final String DETAILED =
      """
      {"Layers": [
        {"Name": "Reformatting CopyNode for Input Tensor 0 to conv1", "LayerType": "Reformat",
         "Inputs": [{"Name": "x", "Location": "Device", "Dimensions": [1,3,224,224],
                     "Format/Datatype": "Row major linear FP32"}],
         "Outputs": [{"Name": "Reformatted Input Tensor 0 to conv1"}],
         "ParameterType": "Reformat", "TacticValue": "0x0000000000000000", "StreamId": 0},
        {"Name": "conv1 + relu1", "LayerType": "CaskConvolution", "Kernel": [3,3],
         "HasBias": 1, "HasSparseWeights": 0, "HasDynamicFilter": 0,
         "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x64",
         "TacticValue": "0x13463e9bf9ae0d73"},
        {"Name": "conv2 + relu2", "LayerType": "CaskConvolution", "HasSparseWeights": 1,
         "TacticName": "sm80_xmma_fprop_SPARSE_conv_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128",
         "TacticValue": "0x65fbe45b4cb1d8a5"},
        {"Name": "fc", "LayerType": "CaskGemmMatrixMultiply", "HasSparseWeights": true,
         "TacticName": "ampere_h1688gemm_128x128_ldg8_stages_32x5_nn_v1"},
        {"Name": "{ForeignNode[a...b]}", "LayerType": "Myelin", "TacticName": "", "Odd": [[], {}]}
      ],
      "Bindings": ["x", "y"]}
      """;

  @Test
  void sparseWeightsAndTacticsAreCounted() {
    EngineLayers.Summary summary = EngineLayers.parse(DETAILED);
    assertEquals(5, summary.layers());
    assertTrue(summary.detailed());
    assertEquals(List.of("conv2 + relu2", "fc"), summary.sparseWeights());
    assertEquals(List.of("conv2 + relu2"), summary.sparseTactics());
  }

  @Test
  void whatTheBuilderSaidIsAdded() {
    EngineLayers.Summary summary =
        EngineLayers.parse(DETAILED).and(List.of("fc", "fc2"), List.of("conv2 + relu2", "fc2"));
    assertEquals(List.of("conv2 + relu2", "fc", "fc2"), summary.sparseWeights());
    assertEquals(List.of("conv2 + relu2", "fc2"), summary.sparseTactics());
  }

  @Test
  void anythingElseSaysNothing() {
    EngineLayers.Summary names =
        EngineLayers.parse("{\"Layers\": [\"conv1 + relu1\", \"sparse\"], \"Bindings\": [\"x\"]}");
    assertEquals(2, names.layers());
    assertFalse(names.detailed());
    assertEquals(List.of(), names.sparseTactics());
    for (String text : List.of("", "{}", "null", "[]", "{\"Layers\": 3}", "conv1\nconv2", "{")) {
      assertEquals(
          new EngineLayers.Summary(0, false, List.of(), List.of()), EngineLayers.parse(text), text);
    }
  }

  @Test
  void theLogOfABuildNamesLayers() {
    BuildLog log = new BuildLog();
    log.add(
        3, "(Sparsity) Layers eligible for sparse math: Conv_22 + Relu_23, MatMul_51, Gemm_725");
    log.add(3, "(Sparsity) TRT inference plan picked sparse implementation for layers:");
    assertEquals(List.of("Conv_22 + Relu_23", "MatMul_51", "Gemm_725"), log.eligible());
    assertEquals(List.of(), log.picked());
    log.add(4, "(Sparsity) Found 2 layer(s) eligible to use sparse tactics: model/a:0, b");
    log.add(4, "(Sparsity) Chose 1 layer(s) using sparse tactics: model/a:0");
    assertEquals(List.of("model/a:0", "b"), log.eligible());
    assertEquals(List.of("model/a:0"), log.picked());
    log.add(3, "Detected 1 inputs and 1 output network tensors.");
    assertEquals("no reason was given", log.reason());
    log.add(2, "a warning ");
    log.add(1, "an error");
    log.add(0, "a worse one");
    assertEquals(List.of("a warning"), log.warnings());
    assertEquals("a worse one", log.reason());
    for (int i = 0; i < 1000; i++) {
      log.add(1, "again");
    }
    assertEquals(100, log.errors().size());
    log.clear();
    assertEquals(List.of(), log.eligible());
    assertEquals(List.of(), log.errors());
  }
}
