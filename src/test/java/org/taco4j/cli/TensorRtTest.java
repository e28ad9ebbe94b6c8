package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.Doctor;
import org.taco4j.Taco;
import org.taco4j.TinyTask;
import org.taco4j.bench.DeviceComparison;
import org.taco4j.bench.LatencyComparison;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.export.MagnitudePruning;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.onnx.PackedWeights;
import org.taco4j.runtime.tensorrt.EngineLayers;
import org.taco4j.runtime.tensorrt.TensorRtProbe;

/** The commands for TensorRT, on a machine without it: what they write, and what they say. */
class TensorRtTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path folder;
  private static Path dense;
  private static Path images;

  @BeforeAll
  static void makeModels() {
    dense = TinyTask.convNet(folder.resolve("dense.onnx"), TinyTask.Input.FREE);
    images = TinyTask.images(folder.resolve("images"), dense, 8);
  }

  private static void assertFails(int exitCode, String message, Object... arguments) {
    Cli.Result result = Cli.run(arguments);
    assertEquals(exitCode, result.exitCode(), result.err());
    assertTrue(result.err().contains(message), result.err());
    assertEquals("", result.out());
  }

  @Test
  void benchSaysWhatIsMissing() {
    assumeFalse(CudaProbe.examine().has("device"), "there is a GPU");
    for (String runtime : List.of("tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt")) {
      assertFails(7, "NVIDIA driver", "bench", dense, "--against", dense, "--runtime", runtime);
    }
    assertFails(
        7,
        "TensorRT cannot be used here: ",
        "bench",
        dense,
        "--against",
        dense,
        "--runtime",
        "tensorrt",
        "--precision",
        "fp16",
        "--batch",
        "1,8,32",
        "--no-sparse-tactics");
  }

  @Test
  void doctorNamesAllThatIsMissing() {
    StringWriter text = new StringWriter();
    DoctorCommand.printTensorRt(
        new Doctor.TensorRt(
            false,
            List.of(
                new TensorRtProbe.Part("driver", true, "libcuda.so.1"),
                new TensorRtProbe.Part("cuDNN", false, "no cuDNN"),
                new TensorRtProbe.Part("NVRTC", true, "libnvrtc.so.13"),
                new TensorRtProbe.Part("TensorRT", false, "no TensorRT"))),
        new PrintWriter(text));
    assertEquals(
        List.of(
            "TensorRT      bench --runtime tensorrt cannot be used: no cuDNN",
            "              no TensorRT"),
        text.toString().lines().toList());
  }

  @Test
  void benchNamesTheLibraryThatIsMissingWhereThereIsAGpu() {
    try (FakeCuda cuda = FakeCuda.load()) {
      cuda.capability(86);
      assertFails(
          7, "libcudnn_graph.so.9", "bench", dense, "--against", dense, "--runtime", "tensorrt");
      // The class path has ONNX Runtime's build for processors.
      assertFails(
          7,
          "onnxruntime_gpu in place of",
          "bench",
          dense,
          "--against",
          dense,
          "--runtime",
          "onnxruntime-cuda");
      cuda.init(100);
      assertFails(7, "sees no GPU", "bench", dense, "--against", dense, "--runtime", "tensorrt");
    }
  }

  @Test
  void benchOptionsThatCannotBeMeant() {
    Object[] base = {"bench", dense, "--against", dense};
    for (List<String> options :
        List.of(
            List.of("--runtime", "tensort"),
            List.of("--runtime", "taco4j"),
            List.of("--precision", "fp16"),
            List.of("--no-sparse-tactics"),
            List.of("--batch", "1,8"),
            List.of("--runtime", "tensorrt", "--precision", "fp8"),
            List.of("--runtime", "tensorrt", "--batch", "0"),
            List.of("--runtime", "tensorrt", "--threads", "4"),
            List.of("--runtime", "onnxruntime-cuda", "--threads", "1"),
            List.of("--runtime", "onnxruntime-cuda", "--precision", "fp16"))) {
      List<Object> all = new ArrayList<>(List.of(base));
      all.addAll(options);
      Cli.Result result = Cli.run(all.toArray());
      assertEquals(2, result.exitCode(), options + result.err());
    }
    assertFails(
        2, "did you mean 'tensorrt'", "bench", dense, "--against", dense, "--runtime", "tensort");
    Path missing = folder.resolve("nope.onnx");
    assertFails(
        3,
        "nope.onnx: no such file",
        "bench",
        missing,
        "--against",
        dense,
        "--runtime",
        "tensorrt");
    assertFails(
        3,
        "nope.onnx: no such file",
        "bench",
        dense,
        "--against",
        missing,
        "--runtime",
        "tensorrt");
  }

  @Test
  void optionsThatWouldBeIgnoredAreRefused() {
    for (List<String> options :
        List.of(
            List.of("--runtime", "tensorrt"),
            List.of("--precision", "fp16"),
            List.of("--no-sparse-tactics"),
            List.of("--seconds", "1"))) {
      List<Object> all = new ArrayList<>(List.of("bench", "--calibrate-ops", dense));
      all.addAll(options);
      Cli.Result result = Cli.run(all.toArray());
      assertEquals(2, result.exitCode(), options + result.err());
      assertTrue(result.err().contains("--calibrate-ops"), result.err());
      assertTrue(result.err().contains("leave out " + options.getFirst()), result.err());
    }
    assertFails(
        2,
        "--runtime tensorrt runs models on the GPU, and threads are of the CPU: leave out --threads",
        "bench",
        dense,
        "--against",
        dense,
        "--runtime",
        "tensorrt",
        "--threads",
        "4");
    Path out = folder.resolve("never.onnx");
    for (List<String> options :
        List.of(
            List.of("--threads", "2"),
            List.of("--batch", "4"),
            List.of("--seconds", "1"),
            List.of("--layers"))) {
      List<Object> all =
          new ArrayList<>(List.of("export", dense, "--runtime", "tensorrt", "-o", out));
      all.addAll(options);
      Cli.Result result = Cli.run(all.toArray());
      assertEquals(2, result.exitCode(), options + result.err());
      assertTrue(result.err().contains("--runtime tensorrt"), result.err());
      assertTrue(result.err().contains("leave out " + options.getFirst()), result.err());
    }
    assertFalse(Files.exists(out));
  }

  @Test
  void benchPrintsWhatWasMeasured() {
    LatencyComparison.Percentiles slow = new LatencyComparison.Percentiles(2, 2.5, 3);
    LatencyComparison.Percentiles fast = new LatencyComparison.Percentiles(1, 1.25, 1.5);
    LatencyComparison times = new LatencyComparison(slow, fast, 2, 1.9, 2.1, 2, 11, 1, 8);
    StringWriter text = new StringWriter();
    BenchCommand.print(
        new Taco.DeviceBenchResult(
            "TensorRT 10.15.1",
            "NVIDIA A10, sm_86",
            "fp16",
            true,
            List.of(
                new DeviceComparison(8, times, times, 4000, 8000, 1e-3, 2e-3),
                new DeviceComparison(32, null, times, 4000, 8000, 1e-3, 2e-3)),
            new EngineLayers.Summary(3, true, List.of(), List.of()),
            new EngineLayers.Summary(3, true, List.of("conv1", "conv2"), List.of("conv2")),
            null,
            Map.of("CUDAExecutionProvider", 3),
            List.of()),
        new PrintWriter(text));
    String printed = text.toString();
    assertTrue(
        printed.startsWith("TensorRT 10.15.1 on NVIDIA A10, sm_86, fp16, zeros of 2:4 may be"),
        printed);
    assertTrue(printed.contains("compressed, batch 8"), printed);
    assertTrue(printed.contains("with copies 2.000 to 1.000 ms, 2.00x"), printed);
    assertTrue(printed.contains("copies of images and results included"), printed);
    assertTrue(printed.contains("1 of 3 layers of the engine skip zeros: conv2"), printed);
  }

  @Test
  void exportTakesOutWhatTensorRtRefuses() throws IOException {
    OnnxModel model = OnnxModel.read(dense);
    MagnitudePruning.prune(model, 0.5, 1, layer -> layer.name().startsWith("conv"));
    OnnxModel packed = model.copy();
    PackedWeights.pack(packed);
    Path source = folder.resolve("packed.onnx");
    packed.write(source);
    Path out = folder.resolve("for-tensorrt.onnx");
    JsonNode result =
        JSON.readTree(
            Cli.run("export", source, "--runtime", "tensorrt", "-o", out, "--json")
                .succeeded()
                .out());
    assertEquals("tensorrt", result.path("runtime").asText());
    assertEquals(4, result.at("/tensorRt/layers").asInt());
    assertEquals(0, result.at("/tensorRt/twoOfFour").size());
    assertTrue(result.path("notices").toString().contains("zeros-not-skipped"));
    // Not through OnnxModel, which would unpack what is packed.
    ModelProto raw = ModelProto.parseFrom(Files.readAllBytes(out));
    assertTrue(raw.getGraph().getNodeList().stream().allMatch(node -> node.getDomain().isEmpty()));
    assertTrue(raw.getFunctionsList().isEmpty());
    assertTrue(
        raw.getOpsetImportList().stream()
            .noneMatch(domain -> domain.getDomain().startsWith("taco4j")));
    assertEquals(Files.size(source), result.path("sourceBytes").asLong());
    assertEquals(Files.size(out), result.path("bytes").asLong());
    OnnxModel written = OnnxModel.read(out);
    for (Layer layer : LayerDiscovery.discover(model)) {
      assertEquals(LayerWeights.zeros(model, layer), LayerWeights.zeros(written, layer));
    }
    Ort.Tensor input = Ort.Tensor.random(2, 3, TinyTask.SIDE, TinyTask.SIDE);
    String name = model.outputs().getFirst().name();
    assertArrayEquals(
        Ort.run(model, input).get(name).values(), Ort.run(written, input).get(name).values());
    Cli.Result forPeople =
        Cli.run("export", source, "--runtime", "tensorrt", "-o", out).succeeded();
    assertTrue(forPeople.out().startsWith("0 of 4 layers have the pattern 2:4"), forPeople.out());
    assertFalse(forPeople.err().contains("have the pattern"), forPeople.err());
    assertFails(
        2,
        "--pack-weights",
        "export",
        source,
        "--runtime",
        "tensorrt",
        "-o",
        out,
        "--pack-weights");
    assertFails(
        2,
        "--library",
        "export",
        source,
        "--runtime",
        "tensorrt",
        "-o",
        out,
        "--library",
        folder.resolve("lib"));
  }

  @Test
  void whatASpecialistOfPackedWeightsBecomes() throws IOException {
    Path packed = folder.resolve("packed-run");
    Cli.run(
            "specialize",
            dense,
            "--data",
            images,
            "--out",
            packed,
            "--sparsity",
            "0.8",
            "--pack-weights")
        .succeeded();
    Path source = packed.resolve("model.onnx");
    assertTrue(
        ModelProto.parseFrom(Files.readAllBytes(source)).getGraph().getNodeList().stream()
            .anyMatch(node -> node.getOpType().equals("Unpack")));
    Path out = folder.resolve("unpacked.onnx");
    Cli.run("export", source, "--runtime", "tensorrt", "-o", out).succeeded();
    assertTrue(
        ModelProto.parseFrom(Files.readAllBytes(out)).getGraph().getNodeList().stream()
            .allMatch(node -> node.getDomain().isEmpty()));
  }

  @Test
  void weightsOfEightBitsAloneAreTakenAndSaidToGainNothing() throws IOException {
    Path run = folder.resolve("weights-only");
    Cli.run("specialize", dense, "--data", images, "--out", run, "--sparsity", "0.5", "--bits", "8")
        .succeeded();
    JsonNode result =
        JSON.readTree(
            Cli.run(
                    "export",
                    run.resolve("model.onnx"),
                    "--runtime",
                    "tensorrt",
                    "-o",
                    folder.resolve("weights-only.onnx"),
                    "--json")
                .succeeded()
                .out());
    assertTrue(result.at("/tensorRt/weightsOnly").asInt() >= 3, result.toString());
    assertEquals(0, result.at("/tensorRt/quantized").asInt());
    assertTrue(result.path("notices").toString().contains("weights-only-quantized"));
  }

  private static Path specialize(String name, Object... options) {
    Path out = folder.resolve(name);
    List<Object> all =
        new ArrayList<>(List.of("specialize", dense, "--data", images, "--out", out));
    all.addAll(List.of(options));
    all.addAll(List.of("--runtime", "tensorrt"));
    Cli.Result result = Cli.run(all.toArray()).succeeded();
    String printed = result.out() + result.err();
    assertTrue(printed.contains("; in ONNX Runtime on the CPU)"), printed);
    assertTrue(printed.contains("say nothing about TensorRT"), printed);
    return out;
  }

  @Test
  void specialistsHaveSignedPairsAndKeepTheirZeros() throws IOException {
    Path out =
        specialize(
            "int8",
            "--pattern",
            "2:4",
            "--misfit",
            "dense",
            "--classifier",
            "prune",
            "--bits",
            "8",
            "--activation-bits",
            "8");
    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    assertNull(written.operatorCounts().get("QLinearConv"));
    assertTrue(written.operatorCounts().get("QuantizeLinear") >= 3);
    for (NodeProto node : written.index().graph().getNodeList()) {
      if (Nodes.is(node, "QuantizeLinear")) {
        assertEquals(
            ai.onnx.proto.OnnxMl.TensorProto.DataType.INT8_VALUE,
            written.index().stored(node.getInput(2)).getDataType());
      }
    }
    // Whose times those are.
    String card = Files.readString(out.resolve("MODEL_CARD.md"));
    assertTrue(card.contains("latency p50 in ONNX Runtime on the CPU"), card);
    assertTrue(card.contains("bench model.onnx --against DENSE --runtime tensorrt"), card);
    assertTrue(
        Files.readString(out.resolve("report.html")).contains("; in ONNX Runtime on the CPU"));
    JsonNode report = JSON.readTree(out.resolve("report.json").toFile());
    for (JsonNode range : report.at("/activations/ranges")) {
      assertEquals(0, range.path("zeroPoint").asInt(), range.toString());
      assertEquals(
          range.path("scale").asDouble() * 127, range.path("maximum").asDouble(), 1e-3 + 1e-6);
    }
    assertTrue(report.at("/activations/scoreDistance").asDouble() < 0.2, report.toString());
    assertTrue(report.at("/compressed/top1").asDouble() > 0.5, "far above chance, 0.25");
    // The first layer has three input channels: the pattern does not fit it.
    Path again = folder.resolve("again.onnx");
    JsonNode export =
        JSON.readTree(
            Cli.run(
                    "export",
                    out.resolve("model.onnx"),
                    "--runtime",
                    "tensorrt",
                    "-o",
                    again,
                    "--json")
                .succeeded()
                .out());
    assertEquals(
        "[\"conv2\",\"conv3\",\"head\"]",
        export.at("/tensorRt/twoOfFour").toString(),
        export.toString());
    long zeros = 0;
    for (Layer layer : LayerDiscovery.discover(written)) {
      zeros += LayerWeights.zeros(written, layer);
    }
    // Half of conv2's, conv3's and the classifier's at the least.
    assertTrue(2 * zeros >= 8 * 36 + 16 * 8 + 4 * 16, zeros + " zeros");
    assertTrue(Files.size(again) > 0);
  }

  @Test
  void structuredSizesAreMultiplesOfEight() throws IOException {
    Path mlp = TinyTask.mlp(folder.resolve("mlp.onnx"));
    Path mlpImages = TinyTask.images(folder.resolve("mlp-images"), mlp, 8);
    Path out = folder.resolve("structured");
    Cli.run(
            "specialize",
            mlp,
            "--data",
            mlpImages,
            "--out",
            out,
            "--structured",
            "0.45",
            "--runtime",
            "tensorrt")
        .succeeded();
    JsonNode report = JSON.readTree(out.resolve("report.json").toFile());
    for (JsonNode structure : report.path("structures")) {
      int units = structure.path("units").asInt();
      int kept = structure.path("kept").asInt();
      assertTrue(kept % 8 == 0 || kept == units, structure.toString());
      assertTrue(kept >= 0.55 * units, structure.toString());
    }
    assertFalse(report.path("structures").isEmpty());
  }

  @Test
  void recipesThatCannotBeMeant() {
    for (List<String> options :
        List.of(
            List.of("--sparsity", "0.5", "--pack-weights"),
            List.of("--sparsity", "0.5", "--bits", "8"))) {
      List<Object> all = new ArrayList<>(List.of("specialize", dense, "--data", images));
      all.addAll(options);
      all.addAll(List.of("--runtime", "tensorrt", "--out", folder.resolve("x")));
      Cli.Result result = Cli.run(all.toArray());
      assertEquals(2, result.exitCode(), options + result.err());
    }
  }
}
