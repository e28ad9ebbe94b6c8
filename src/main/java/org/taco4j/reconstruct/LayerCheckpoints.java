package org.taco4j.reconstruct;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.RecordComponent;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.DigestOutputStream;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Layer;

/**
 * Keeps finished layers in a folder, so that a run that was stopped goes on from there. One file a
 * layer, {@code layer-<16 hex digits of the SHA-256 of stage and name>}, which appears whole and on
 * the disk:
 *
 * <pre>
 * 8 bytes   "TACOCKP2"
 * 4 bytes   length of the JSON that follows
 * JSON      run (fingerprint), layer (name), rows, cols, groups, bias (length), outcome, notices
 * floats    weights of each group, [rows, cols], row-major, little-endian float32
 * floats    the bias, [rows · groups], where it was changed
 * 32 bytes  SHA-256 of all before
 * </pre>
 *
 * <p>Integers are big-endian. A file that does not hold what it should is noted as {@code
 * checkpoint-damaged} and its layer solved again.
 */
public final class LayerCheckpoints {
  private static final String PREFIX = "layer-";
  private static final String PART_PREFIX = "part-";
  private static final byte[] MAGIC = "TACOCKP2".getBytes(StandardCharsets.US_ASCII);
  private static final int NAME_BYTES = 8;
  private static final int SHA256_BYTES = 32;

  /** Far more than the JSON of a layer takes: a longer one is damage. */
  private static final int MOST_JSON_BYTES = 1 << 24;

  /** Decimal numbers become floats and doubles in one step: two could round twice. */
  private static final ObjectMapper JSON =
      new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);

  private final Path folder;
  private final String run;
  private final String stage;
  private final Notices notices;

  /**
   * Checkpoints of one run.
   *
   * @param folder exists; holds checkpoints of this run or none
   * @param run fingerprint of all that decides the results; checkpoints of another are not used
   * @param notices where damage is noted
   */
  public LayerCheckpoints(Path folder, String run, Notices notices) {
    this(folder, run, "", notices);
  }

  private LayerCheckpoints(Path folder, String run, String stage, Notices notices) {
    this.folder = folder;
    this.run = run;
    this.stage = stage;
    this.notices = notices;
  }

  /** The file in which a part of the run may keep what it needs to go on. */
  public Path fileOf(String part) {
    byte[] hash = Sha256.create().digest((stage + "\n" + part).getBytes(StandardCharsets.UTF_8));
    return folder.resolve(PART_PREFIX + HexFormat.of().formatHex(hash, 0, NAME_BYTES));
  }

  /** The checkpoints of a part of the run: another part may solve the same layers once more. */
  public LayerCheckpoints ofStage(String name) {
    return new LayerCheckpoints(folder, run, stage + "/" + name, notices);
  }

  /**
   * A layer that is done.
   *
   * @param weights for each group [rows, cols], row-major
   * @param bias [rows · groups]; null where it was not changed
   * @param notices what was noted since the layer before it was done
   */
  @SuppressWarnings("ArrayRecordComponent") // A tensor: comparing it by value is no use.
  public record Finished(
      LayerWise.Outcome outcome,
      float[][] weights,
      float @Nullable [] bias,
      List<Notice> notices) {}

  /** The head of a file. */
  private record Head(
      String run,
      String layer,
      int rows,
      int cols,
      int groups,
      int bias,
      ObjectNode outcome,
      List<Notice> notices) {}

  /** How many layers have been saved in a folder, which need not exist. */
  public static int count(Path folder) {
    return count(folder, PREFIX);
  }

  /** How many parts of a run have saved what they need to go on: {@link #fileOf}. */
  public static int countParts(Path folder) {
    return count(folder, PART_PREFIX);
  }

  private static int count(Path folder, String prefix) {
    if (!Files.isDirectory(folder)) {
      return 0;
    }
    try (Stream<Path> files = Files.list(folder)) {
      return Math.toIntExact(
          files.filter(file -> file.getFileName().toString().startsWith(prefix)).count());
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, folder + ": cannot be read: " + e, e);
    }
  }

  /**
   * Saves a layer; when this returns it is on the disk.
   *
   * @throws TacoException of kind RUNTIME when the file system refuses
   */
  public void save(Finished finished) {
    Layer layer = finished.outcome().plan().layer();
    float[] bias = finished.bias() == null ? new float[0] : finished.bias();
    Head head =
        new Head(
            run,
            layer.name(),
            layer.rows(),
            layer.cols(),
            layer.groups(),
            bias.length,
            tree(finished.outcome()),
            finished.notices());
    AtomicFiles.writeDurably(
        file(finished.outcome().plan()),
        file -> {
          DigestOutputStream digest = new DigestOutputStream(file, Sha256.create());
          DataOutputStream out = new DataOutputStream(digest);
          byte[] json = JSON.writeValueAsBytes(head);
          out.write(MAGIC);
          out.writeInt(json.length);
          out.write(json);
          for (float[] group : finished.weights()) {
            writeFloats(out, group, layer.cols());
          }
          if (bias.length > 0) {
            writeFloats(out, bias, bias.length);
          }
          file.write(digest.getMessageDigest().digest());
        });
  }

  /** What was saved of a layer; empty where nothing was, or where it is damaged, which is noted. */
  public Optional<Finished> load(LayerWise.Plan plan) {
    Path file = file(plan);
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    try (InputStream in = new BufferedInputStream(Files.newInputStream(file), 1 << 16)) {
      return Optional.of(read(in, Files.size(file), plan));
    } catch (IOException e) {
      String why = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
      notices.add(
          "checkpoint-damaged",
          plan.layer().name(),
          "what an earlier run saved of this layer is damaged (" + why + "); it is solved again",
          1);
      return Optional.empty();
    }
  }

  private Finished read(InputStream file, long size, LayerWise.Plan plan) throws IOException {
    Layer layer = plan.layer();
    DigestInputStream digest = new DigestInputStream(file, Sha256.create());
    DataInputStream in = new DataInputStream(digest);
    if (!Arrays.equals(in.readNBytes(MAGIC.length), MAGIC)) {
      throw new IOException("no checkpoint file");
    }
    int jsonBytes = in.readInt();
    long weightBytes = layer.parameters() * Float.BYTES;
    if (jsonBytes < 0
        || jsonBytes > MOST_JSON_BYTES
        || size < MAGIC.length + Integer.BYTES + jsonBytes + weightBytes + SHA256_BYTES) {
      throw new IOException(size + " bytes do not hold what they should");
    }
    byte[] json = in.readNBytes(jsonBytes);
    long biasBytes = size - MAGIC.length - Integer.BYTES - jsonBytes - weightBytes - SHA256_BYTES;
    long rows = (long) layer.rows() * layer.groups();
    if (biasBytes != 0 && biasBytes != rows * Float.BYTES) {
      throw new IOException(size + " bytes do not hold what they should");
    }
    float[][] weights = new float[layer.groups()][layer.rows() * layer.cols()];
    for (float[] group : weights) {
      readFloats(in, group, layer.cols());
    }
    float[] bias = biasBytes == 0 ? null : new float[Math.toIntExact(rows)];
    if (bias != null) {
      readFloats(in, bias, bias.length);
    }
    byte[] expected = digest.getMessageDigest().digest();
    if (!Arrays.equals(expected, file.readNBytes(SHA256_BYTES))) {
      throw new IOException("its checksum does not fit");
    }
    Head head = JSON.readValue(json, Head.class);
    if (!head.run().equals(run)
        || !head.layer().equals(layer.name())
        || head.rows() != layer.rows()
        || head.cols() != layer.cols()
        || head.groups() != layer.groups()
        || head.bias() * (long) Float.BYTES != biasBytes) {
      throw new IOException("it is of layer " + head.layer() + " of run " + head.run());
    }
    return new Finished(outcome(head.outcome(), plan), weights, bias, head.notices());
  }

  private Path file(LayerWise.Plan plan) {
    String name = stage + "\n" + plan.layer().name();
    byte[] hash = Sha256.create().digest(name.getBytes(StandardCharsets.UTF_8));
    return folder.resolve(PREFIX + HexFormat.of().formatHex(hash, 0, NAME_BYTES));
  }

  /** All components of an outcome but the plan, which the run that reads it has itself. */
  private static ObjectNode tree(LayerWise.Outcome outcome) {
    ObjectNode tree = JSON.createObjectNode();
    for (RecordComponent component : LayerWise.Outcome.class.getRecordComponents()) {
      if (component.getType() != LayerWise.Plan.class) {
        try {
          tree.set(component.getName(), JSON.valueToTree(component.getAccessor().invoke(outcome)));
        } catch (ReflectiveOperationException e) {
          throw new IllegalStateException(e);
        }
      }
    }
    return tree;
  }

  private static LayerWise.Outcome outcome(ObjectNode tree, LayerWise.Plan plan)
      throws IOException {
    RecordComponent[] components = LayerWise.Outcome.class.getRecordComponents();
    @Nullable Object[] values = new Object[components.length];
    for (int i = 0; i < components.length; i++) {
      values[i] =
          components[i].getType() == LayerWise.Plan.class
              ? plan
              : JSON.readerFor(JSON.constructType(components[i].getGenericType()))
                  .readValue(tree.path(components[i].getName()));
    }
    try {
      Class<?>[] types =
          Arrays.stream(components).map(RecordComponent::getType).toArray(Class<?>[]::new);
      return LayerWise.Outcome.class.getDeclaredConstructor(types).newInstance(values);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Writes floats, {@code chunk} at a time. */
  private static void writeFloats(OutputStream out, float[] values, int chunk) throws IOException {
    ByteBuffer bytes = ByteBuffer.allocate(chunk * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (int start = 0; start < values.length; start += chunk) {
      bytes.asFloatBuffer().put(values, start, chunk);
      out.write(bytes.array());
    }
  }

  /** Reads floats, {@code chunk} at a time. */
  private static void readFloats(DataInputStream in, float[] values, int chunk) throws IOException {
    ByteBuffer bytes = ByteBuffer.allocate(chunk * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (int start = 0; start < values.length; start += chunk) {
      in.readFully(bytes.array());
      bytes.asFloatBuffer().get(values, start, chunk);
    }
  }
}
