package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.StringStringEntryProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.TacoException;

/** Writes models as one protobuf, or with their weights in an external data file. */
final class ModelWriter {
  /** More than this many bytes do not fit one protobuf. */
  static final long PROTOBUF_LIMIT = Integer.MAX_VALUE;

  /** Offsets in the data file are multiples of this, the page size, so that runtimes can map it. */
  static final int ALIGNMENT = 4096;

  /** Smaller tensors stay in the model file, where runtimes read shapes and the like. */
  private static final int SMALLEST_EXTERNAL = 1024;

  private ModelWriter() {}

  /** Bytes of the model as one protobuf; exact where it fits one. */
  static long size(ModelProto proto) {
    long raw = 0;
    for (TensorProto tensor : proto.getGraph().getInitializerList()) {
      raw += tensor.getRawData().size();
    }
    if (raw < PROTOBUF_LIMIT / 2) {
      return proto.getSerializedSize();
    }
    GraphProto.Builder light = proto.getGraph().toBuilder();
    for (int i = 0; i < light.getInitializerCount(); i++) {
      light.setInitializer(i, light.getInitializer(i).toBuilder().clearRawData());
    }
    // Each raw_data field has a tag and a length of up to five bytes, and lengthens its message's.
    long heads = 10L * light.getInitializerCount();
    long bound = proto.toBuilder().setGraph(light).build().getSerializedSize() + heads + raw;
    return bound < PROTOBUF_LIMIT ? proto.getSerializedSize() : bound;
  }

  static void write(ModelProto proto, Path file, long limit) {
    if (size(proto) < limit) {
      AtomicFiles.write(file, proto::writeTo);
      return;
    }
    Path name = file.getFileName();
    if (name == null) {
      throw TacoException.runtime(file + ": not a file name");
    }
    String dataName = name + ".data";
    GraphProto.Builder graph = proto.getGraph().toBuilder();
    List<ByteString> data = new ArrayList<>();
    long end = 0;
    for (int i = 0; i < graph.getInitializerCount(); i++) {
      TensorProto tensor = graph.getInitializer(i);
      ByteString raw = tensor.getRawData();
      if (raw.size() < SMALLEST_EXTERNAL) {
        continue;
      }
      long offset = align(end);
      graph.setInitializer(
          i,
          tensor.toBuilder()
              .clearRawData()
              .setDataLocation(TensorProto.DataLocation.EXTERNAL)
              .addExternalData(entry("location", dataName))
              .addExternalData(entry("offset", Long.toString(offset)))
              .addExternalData(entry("length", Integer.toString(raw.size())))
              .build());
      data.add(raw);
      end = offset + raw.size();
    }
    ModelProto light = proto.toBuilder().setGraph(graph).build();
    if (size(light) >= PROTOBUF_LIMIT) {
      throw TacoException.model(
          file + ": the model exceeds 2 GiB even with its initializers in an external file");
    }
    // Data first: a model file never refers to data that is not there.
    AtomicFiles.write(file.resolveSibling(dataName), out -> writeData(data, out));
    AtomicFiles.write(file, light::writeTo);
  }

  private static void writeData(List<ByteString> data, OutputStream out) throws IOException {
    long position = 0;
    for (ByteString bytes : data) {
      long offset = align(position);
      out.write(new byte[Math.toIntExact(offset - position)]);
      bytes.writeTo(out);
      position = offset + bytes.size();
    }
  }

  private static long align(long position) {
    return (position + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  private static StringStringEntryProto entry(String key, String value) {
    return StringStringEntryProto.newBuilder().setKey(key).setValue(value).build();
  }
}
