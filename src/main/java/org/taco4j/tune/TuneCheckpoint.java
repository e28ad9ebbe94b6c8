package org.taco4j.tune;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.DigestOutputStream;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Notices;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;

/**
 * Where a tuning stands after a pass, in one file that appears whole and on the disk:
 *
 * <pre>
 * 8 bytes   "TACOTUN1"
 * 4 bytes   length of the JSON that follows
 * JSON      {@link Head}
 * floats    of each parameter in turn its values, its moments and its best values; little-endian
 *           float32
 * 32 bytes  SHA-256 of all before
 * </pre>
 *
 * <p>Integers are big-endian. Random numbers are made from the number of the pass, so nothing of
 * theirs is kept.
 */
final class TuneCheckpoint {
  private static final byte[] MAGIC = "TACOTUN1".getBytes(StandardCharsets.US_ASCII);
  private static final int SHA256_BYTES = 32;
  private static final int MOST_JSON_BYTES = 1 << 28;
  private static final int CHUNK = 1 << 14;

  /** Decimal numbers become doubles in one step: two could round twice. */
  private static final ObjectMapper JSON =
      new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);

  private final Path file;
  private final String fingerprint;
  private final Notices notices;

  /**
   * The checkpoint of a tuning.
   *
   * @param fingerprint of all that decides the result; a checkpoint of another is not used
   */
  TuneCheckpoint(Path file, String fingerprint, Notices notices) {
    this.file = file;
    this.fingerprint = fingerprint;
    this.notices = notices;
  }

  /**
   * The numbers of a checkpoint.
   *
   * @param steps of the optimizer so far
   * @param bestPass whose weights are kept beside the last
   * @param curve all passes so far
   */
  record Head(String fingerprint, long steps, int bestPass, List<TuneReport.Pass> curve) {}

  /**
   * Saves; when this returns it is on the disk.
   *
   * @throws TacoException of kind RUNTIME when the file system refuses
   */
  void save(long steps, int bestPass, List<TuneReport.Pass> curve, List<float[]> arrays) {
    AtomicFiles.writeDurably(
        file,
        stream -> {
          DigestOutputStream digest = new DigestOutputStream(stream, Sha256.create());
          DataOutputStream out = new DataOutputStream(digest);
          byte[] json = JSON.writeValueAsBytes(new Head(fingerprint, steps, bestPass, curve));
          out.write(MAGIC);
          out.writeInt(json.length);
          out.write(json);
          ByteBuffer bytes = ByteBuffer.allocate(CHUNK * Float.BYTES);
          bytes.order(ByteOrder.LITTLE_ENDIAN);
          for (float[] array : arrays) {
            for (int start = 0; start < array.length; start += CHUNK) {
              int count = Math.min(CHUNK, array.length - start);
              bytes.asFloatBuffer().put(array, start, count);
              out.write(bytes.array(), 0, count * Float.BYTES);
            }
          }
          stream.write(digest.getMessageDigest().digest());
        });
  }

  /**
   * Reads what was saved into {@code arrays}. Empty where nothing was; where it is of another
   * tuning or damaged that is noted as {@code checkpoint-discarded}, and {@code arrays} may have
   * changed only when it is damaged in the middle: the caller sets them anew.
   */
  Optional<Head> load(List<float[]> arrays) {
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    try (InputStream in = new BufferedInputStream(Files.newInputStream(file), 1 << 16)) {
      return Optional.of(read(in, Files.size(file), arrays));
    } catch (IOException e) {
      String why = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
      notices.add(
          "checkpoint-discarded",
          file.getFileName().toString(),
          "what an earlier tuning saved is not used (" + why + "); tuning starts anew",
          1);
      return Optional.empty();
    }
  }

  private Head read(InputStream stream, long size, List<float[]> arrays) throws IOException {
    DigestInputStream digest = new DigestInputStream(stream, Sha256.create());
    DataInputStream in = new DataInputStream(digest);
    if (!Arrays.equals(in.readNBytes(MAGIC.length), MAGIC)) {
      throw new IOException("no checkpoint file");
    }
    int jsonBytes = in.readInt();
    if (jsonBytes < 0 || jsonBytes > MOST_JSON_BYTES) {
      throw new IOException("it is damaged");
    }
    byte[] json = in.readNBytes(jsonBytes);
    if (json.length < jsonBytes) {
      throw new IOException("it is cut off");
    }
    Head head = JSON.readValue(json, Head.class);
    if (!head.fingerprint().equals(fingerprint)) {
      throw new IOException("it is of other models, images or settings");
    }
    long floats = arrays.stream().mapToLong(array -> array.length).sum();
    if (size != MAGIC.length + Integer.BYTES + jsonBytes + floats * Float.BYTES + SHA256_BYTES) {
      throw new IOException(size + " bytes do not hold what they should");
    }
    ByteBuffer bytes = ByteBuffer.allocate(CHUNK * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (float[] array : arrays) {
      for (int start = 0; start < array.length; start += CHUNK) {
        int count = Math.min(CHUNK, array.length - start);
        in.readFully(bytes.array(), 0, count * Float.BYTES);
        bytes.asFloatBuffer().get(array, start, count);
      }
    }
    byte[] expected = digest.getMessageDigest().digest();
    if (!Arrays.equals(expected, stream.readNBytes(SHA256_BYTES))) {
      throw new IOException("its checksum does not fit");
    }
    return head;
  }
}
