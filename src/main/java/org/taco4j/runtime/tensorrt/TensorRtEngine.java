package org.taco4j.runtime.tensorrt;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import org.bytedeco.tensorrt.global.nvinfer.DataType;
import org.bytedeco.tensorrt.global.nvinfer.LayerInformationFormat;
import org.bytedeco.tensorrt.global.nvinfer.TensorIOMode;
import org.bytedeco.tensorrt.global.nvinfer.TensorLocation;
import org.bytedeco.tensorrt.nvinfer.ICudaEngine;
import org.bytedeco.tensorrt.nvinfer.IEngineInspector;
import org.bytedeco.tensorrt.nvinfer.IExecutionContext;
import org.bytedeco.tensorrt.nvinfer.IRuntime;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Tensor;
import org.taco4j.runtime.TimedModel;

/** A model as a TensorRT engine on a GPU. It owns the engine, its queue and its memory. */
public final class TensorRtEngine implements TimedModel {
  private final String source;
  private final ModelInput input;
  private final String firstOutput;
  private final EngineOptions options;
  private final EngineCache.Built built;
  private final IRuntime runtime;
  private final ICudaEngine engine;
  private final IExecutionContext context;
  private final GpuStream stream;

  /** By the name of the tensor: inputs and outputs of the batch that is loaded. */
  private final Map<String, GpuStream.Buffer> buffers = new LinkedHashMap<>();

  TensorRtEngine(
      OnnxModel model,
      ModelInput input,
      EngineOptions options,
      EngineCache.Built built,
      IRuntime runtime,
      ICudaEngine engine,
      GpuStream stream) {
    this.source = model.source();
    this.input = input;
    this.firstOutput = model.outputs().getFirst().name();
    this.options = options;
    this.built = built;
    this.runtime = runtime;
    this.engine = engine;
    this.stream = stream;
    this.context = TensorRt.require(engine.createExecutionContext(), model, "no context");
  }

  /** Which GPU it runs on. */
  public EngineCache.Device device() {
    return stream.device();
  }

  /** What is known of how it was built. */
  public EngineCache.Built built() {
    return built;
  }

  /** What became of the model's layers. */
  public EngineLayers.Summary layers() {
    IEngineInspector inspector = engine.createEngineInspector();
    try {
      return EngineLayers.parse(inspector.getEngineInformation(LayerInformationFormat.kJSON))
          .and(built.eligible(), built.picked());
    } finally {
      TensorRt.delete(inspector);
    }
  }

  @Override
  public void load(float[] images, int batch) {
    stream.synchronize();
    stream.freeBuffers();
    buffers.clear();
    int profile = options.batches().indexOf(batch);
    if (engine.getNbOptimizationProfiles() > 1) {
      if (profile < 0) {
        throw new IllegalArgumentException("the engine is built for " + options);
      }
      require(context.setOptimizationProfileAsync(profile, stream.handle()), "a profile");
      stream.synchronize();
    }
    require(
        context.setInputShape(input.name(), TensorRt.dims(options.shape(batch))),
        "batches of " + batch);
    for (int i = 0; i < engine.getNbIOTensors(); i++) {
      bind(engine.getIOTensorName(i));
    }
    GpuStream.Buffer to = buffer(input.name());
    to.host().asFloatBuffer().put(images, 0, Math.toIntExact(elements(input.name())));
    stream.upload(to);
    stream.synchronize();
  }

  /** Gives a tensor memory. */
  private void bind(String tensor) {
    if (engine.getTensorLocation(tensor).value != TensorLocation.kDEVICE.value) {
      throw TacoException.model(
          "%s: TensorRT wants '%s' in the host's memory; only models whose inputs and outputs are all"
                  .formatted(source, tensor)
              + " data can be timed");
    }
    boolean isInput = engine.getTensorIOMode(tensor).value == TensorIOMode.kINPUT.value;
    if (isInput && !tensor.equals(input.name())) {
      throw TacoException.model("%s: input '%s' is no image".formatted(source, tensor));
    }
    GpuStream.Buffer buffer =
        stream.allocate(
            "'%s' %s".formatted(tensor, Arrays.toString(shape(tensor))),
            elements(tensor) * engine.getTensorBytesPerComponent(tensor));
    buffers.put(tensor, buffer);
    require(context.setTensorAddress(tensor, buffer.devicePointer()), "memory of " + tensor);
  }

  private long[] shape(String tensor) {
    return TensorRt.shape(context.getTensorShape(tensor));
  }

  private long elements(String tensor) {
    long[] shape = shape(tensor);
    long elements = Tensor.elements(shape);
    if (elements < 0) {
      throw TacoException.model(
          "%s: the shape %s of '%s' depends on the data; such models cannot be timed"
              .formatted(source, Arrays.toString(shape), tensor));
    }
    return elements;
  }

  private GpuStream.Buffer buffer(String tensor) {
    return Objects.requireNonNull(buffers.get(tensor), "load was not called");
  }

  private void enqueue() {
    require(context.enqueueV3(stream.handle()), "a run");
  }

  private void require(boolean done, String what) {
    if (!done) {
      throw TacoException.runtime(
          "%s: TensorRT refuses %s: %s".formatted(source, what, TensorRt.messages().reason()));
    }
  }

  @Override
  public float[] run() {
    millisWithCopies();
    ByteBuffer bytes = buffer(firstOutput).host();
    float[] values = new float[Math.toIntExact(elements(firstOutput))];
    int type = engine.getTensorDataType(firstOutput).value;
    if (type == DataType.kFLOAT.value) {
      bytes.asFloatBuffer().get(values);
    } else if (type == DataType.kHALF.value) {
      for (int i = 0; i < values.length; i++) {
        values[i] = Float.float16ToFloat(bytes.getShort(Short.BYTES * i));
      }
    } else {
      throw TacoException.model(
          "%s: output '%s' is of TensorRT's type %d; FLOAT or HALF is needed"
              .formatted(source, firstOutput, type));
    }
    return values;
  }

  @Override
  public boolean timesDevice() {
    return true;
  }

  @Override
  public double millisOnDevice() {
    return stream.millis(this::enqueue);
  }

  @Override
  public double millisWithCopies() {
    return stream.millis(
        () -> {
          stream.upload(buffer(input.name()));
          enqueue();
          buffers.forEach(
              (tensor, buffer) -> {
                if (!tensor.equals(input.name())) {
                  stream.download(buffer);
                }
              });
        });
  }

  @Override
  public void close() {
    stream.synchronize();
    TensorRt.delete(context);
    TensorRt.delete(engine);
    TensorRt.delete(runtime);
    stream.close();
  }
}
