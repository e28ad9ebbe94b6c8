package org.taco4j.data;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;

/**
 * Streams images as batches of preprocessed tensors, in the order of the files. Each image is
 * decoded once a pass, some ahead of the batch at hand, in parallel; what a batch holds depends on
 * the files and the batch size only.
 *
 * <p>An unreadable image is left out, the images after it move up, and it is noted once as {@code
 * image-skipped}, however many passes there are. When more than {@value #MAX_SKIPPED_PERCENT} % of
 * the files are unreadable the pass ends with an error.
 *
 * <p>An iterator belongs to one thread, which must not be one of a running task of the workers.
 */
public final class ImageBatches implements Iterable<ImageBatches.Batch> {
  private static final int MAX_SKIPPED_PERCENT = 5;

  /** Images decoded together even when batches are smaller, to keep the workers busy. */
  private static final int MIN_WINDOW = 16;

  private static final int NAMES_IN_MESSAGE = 3;

  private final List<ImageFile> files;

  /**
   * How many files there are with those of the other half: how many may be skipped depends on it.
   */
  private final int filesOfAll;

  private final Preprocessor preprocessor;
  private final int batchSize;
  private final Workers workers;
  private final Notices notices;
  private final Set<ImageFile> noted = new HashSet<>();

  /**
   * Some preprocessed images; the arrays belong to whoever gets them.
   *
   * @param data [batch size, {@link Preprocessor#length()}]; zeros from image {@code count} on, so
   *     that models with a fixed batch size take it whole
   * @param count number of images, 1 to the batch size; smaller only in the last batch
   * @param classIndices of each image, its class; [count]
   * @param files of each image, where it came from; [count]
   */
  @SuppressWarnings("ArrayRecordComponent") // Tensors: comparing them by value is no use.
  public record Batch(float[] data, int count, int[] classIndices, List<ImageFile> files) {}

  /**
   * Batches of {@code batchSize} images.
   *
   * @param workers the threads that decode; borrowed
   * @param notices where skipped images are noted
   */
  public ImageBatches(
      List<ImageFile> files,
      Preprocessor preprocessor,
      int batchSize,
      Workers workers,
      Notices notices) {
    this(files, files.size(), preprocessor, batchSize, workers, notices);
  }

  private ImageBatches(
      List<ImageFile> files,
      int filesOfAll,
      Preprocessor preprocessor,
      int batchSize,
      Workers workers,
      Notices notices) {
    if (batchSize < 1) {
      throw TacoException.usage("the batch size must be at least 1, not " + batchSize);
    }
    this.files = List.copyOf(files);
    this.filesOfAll = filesOfAll;
    this.preprocessor = preprocessor;
    this.batchSize = batchSize;
    this.workers = workers;
    this.notices = notices;
  }

  /**
   * These images in two parts of about the same size, with every other image of each class; one
   * part where there is only one image.
   */
  public List<ImageBatches> halves() {
    List<List<ImageFile>> parts = List.of(new ArrayList<>(), new ArrayList<>());
    Map<Integer, Integer> next = new HashMap<>();
    int classes = 0;
    for (ImageFile file : files) {
      // Classes begin with one part and the other in turn, so that odd ones do not add up.
      int first = classes;
      int part = next.computeIfAbsent(file.classIndex(), c -> first);
      classes = next.size();
      parts.get(part % 2).add(file);
      next.put(file.classIndex(), part + 1);
    }
    return parts.stream()
        .filter(part -> !part.isEmpty())
        .map(part -> new ImageBatches(part, filesOfAll, preprocessor, batchSize, workers, notices))
        .toList();
  }

  /** These images in batches of another size. */
  public ImageBatches inBatchesOf(int size) {
    return new ImageBatches(files, filesOfAll, preprocessor, size, workers, notices);
  }

  /** How many files there are, readable or not. */
  public int size() {
    return files.size();
  }

  /** Images in a batch, but for the last one. */
  public int batchSize() {
    return batchSize;
  }

  /** Shape of a batch of one image, in the model's layout. */
  public long[] imageShape() {
    return preprocessor.shape(1);
  }

  /**
   * A new pass over the files. Its methods throw {@link TacoException} of kind DATA when too many
   * images are unreadable or one is too large.
   */
  @Override
  public Iterator<Batch> iterator() {
    return new Pass();
  }

  /**
   * Passes all batches on, in waves of {@code size}; the last wave may be smaller.
   *
   * @param consumer must not keep the list
   */
  public void forEachWave(int size, Consumer<List<Batch>> consumer) {
    List<Batch> wave = new ArrayList<>(size);
    for (Batch batch : this) {
      wave.add(batch);
      if (wave.size() == size) {
        consumer.accept(wave);
        wave.clear();
      }
    }
    if (!wave.isEmpty()) {
      consumer.accept(wave);
    }
  }

  @SuppressWarnings("ArrayRecordComponent") // A tensor again.
  private record Decoded(ImageFile file, float[] tensor) {}

  private final class Pass implements Iterator<Batch> {
    private final ArrayDeque<Decoded> ready = new ArrayDeque<>();
    private final List<String> skipped = new ArrayList<>();
    private int next;

    @Override
    public boolean hasNext() {
      while (ready.size() < batchSize && next < files.size()) {
        decodeWindow();
      }
      return !ready.isEmpty();
    }

    @Override
    public Batch next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      int count = Math.min(batchSize, ready.size());
      int length = preprocessor.length();
      float[] data = new float[Math.multiplyExact(batchSize, length)];
      int[] classIndices = new int[count];
      List<ImageFile> batchFiles = new ArrayList<>(count);
      for (int i = 0; i < count; i++) {
        Decoded image = ready.remove();
        System.arraycopy(image.tensor(), 0, data, i * length, length);
        classIndices[i] = image.file().classIndex();
        batchFiles.add(image.file());
      }
      return new Batch(data, count, classIndices, List.copyOf(batchFiles));
    }

    private void decodeWindow() {
      int first = next;
      int count = Math.min(Math.max(batchSize, MIN_WINDOW), files.size() - first);
      float[] @Nullable [] tensors = new float[count][];
      @Nullable UnreadableImageException[] failures = new UnreadableImageException[count];
      workers.forEach(
          count,
          i -> {
            try {
              RgbImage image = ImageDecoder.decode(files.get(first + i).path());
              float[] tensor = new float[preprocessor.length()];
              preprocessor.apply(image, tensor, 0);
              tensors[i] = tensor;
            } catch (UnreadableImageException e) {
              failures[i] = e;
            }
          });
      next += count;
      for (int i = 0; i < count; i++) {
        ImageFile file = files.get(first + i);
        UnreadableImageException failure = failures[i];
        float[] tensor = tensors[i];
        if (failure != null) {
          skip(file, failure);
        } else if (tensor != null) {
          ready.add(new Decoded(file, tensor));
        }
      }
    }

    private void skip(ImageFile file, UnreadableImageException failure) {
      skipped.add(file.path() + " (" + failure.reason() + ")");
      if (noted.add(file)) {
        notices.add(
            "image-skipped",
            file.path().toString(),
            "unreadable image skipped: " + failure.reason(),
            1);
      }
      if (100L * skipped.size() > (long) MAX_SKIPPED_PERCENT * filesOfAll) {
        throw TacoException.data(
            skipped.size()
                + " of the first "
                + next
                + " images ("
                + filesOfAll
                + " in all) are unreadable, more than "
                + MAX_SKIPPED_PERCENT
                + " % of all: "
                + String.join("; ", skipped.subList(0, Math.min(NAMES_IN_MESSAGE, skipped.size())))
                + (skipped.size() > NAMES_IN_MESSAGE ? "; …" : "")
                + "; replace or remove them");
      }
    }
  }
}
