package org.taco4j;

import java.awt.image.BufferedImage;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageDecoder;
import org.taco4j.data.Preprocessor;
import org.taco4j.data.RgbImage;
import org.taco4j.data.TaskClass;
import org.taco4j.data.UnreadableImageException;
import org.taco4j.onnx.HeadRestriction;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * A specialist that classifies images, for use in a service:
 *
 * <pre>{@code
 * try (Specialist specialist = Specialist.open(Path.of("specialist/model.onnx"))) {
 *   Specialist.Prediction prediction = specialist.classify(Path.of("photo.jpg"));
 *   System.out.println(prediction.name() + " " + prediction.probability());
 * }
 * }</pre>
 *
 * <p>Class names and preprocessing come from the model's metadata, so that an image is fed exactly
 * as when the specialist was made and measured.
 *
 * <p>Thread-safe: one instance serves any number of threads, and {@link #close} waits for the calls
 * that are under way.
 *
 * <p>No JVM flag is needed. {@code --enable-native-access=ALL-UNNAMED} (for ONNX Runtime) and
 * {@code --sun-misc-unsafe-memory-access=allow} (for protobuf) silence two warnings of the JVM.
 * Solvers, libtorch, OpenBLAS and the Vector API are not loaded: the {@code org.bytedeco} artifacts
 * may be missing.
 */
public final class Specialist implements AutoCloseable {
  private final String source;
  private final ModelInput input;
  private final Preprocessor preprocessor;
  private final List<TaskClass> classes;
  private final boolean givesProbabilities;
  private final Session session;
  private final Workers workers;

  /** Calls share the read lock; closing takes the write lock. */
  private final ReadWriteLock lock = new ReentrantReadWriteLock();

  private boolean closed;

  /**
   * What the specialist says of one image.
   *
   * @param classes all classes, the most probable first; equal ones in the order of the outputs
   */
  public record Prediction(List<ClassProbability> classes) {
    /** Copies the list. */
    public Prediction {
      classes = List.copyOf(classes);
    }

    /** Name of the most probable class. */
    public String name() {
      return classes.getFirst().name();
    }

    /** Probability of the most probable class, 0 to 1. */
    public double probability() {
      return classes.getFirst().probability();
    }
  }

  /**
   * A class and how probable it is.
   *
   * @param folder name of its image folder when the specialist was made
   * @param name for people
   * @param probability 0 to 1; those of all classes add up to 1, as the specialist knows no other
   */
  public record ClassProbability(String folder, String name, double probability) {}

  private Specialist(
      OnnxModel model,
      ModelInput input,
      Preprocessor preprocessor,
      List<TaskClass> classes,
      Session session,
      Workers workers) {
    this.source = model.source();
    this.input = input;
    this.preprocessor = preprocessor;
    this.classes = List.copyOf(classes);
    this.givesProbabilities = HeadRestriction.givesProbabilities(model);
    this.session = session;
    this.workers = workers;
  }

  /**
   * Loads a specialist that computes in the threads that call it: right where calls come from
   * several threads.
   *
   * @param model the {@code model.onnx} of a run folder
   * @throws TacoException of kind MODEL for a model that cannot be read, or is no specialist; of
   *     kind DATA for preprocessing in its metadata that does not fit it
   */
  public static Specialist open(Path model) {
    return open(model, 1);
  }

  /**
   * Loads a specialist.
   *
   * @param threads that one call computes with, the calling one included
   * @throws TacoException as {@link #open(Path)}; of kind USAGE for less than one thread
   */
  public static Specialist open(Path model, int threads) {
    OnnxModel onnx = OnnxModel.read(model);
    List<TaskClass> classes =
        TaskClasses.of(onnx).orElseThrow(() -> noSpecialist(onnx, TaskClasses.METADATA_KEY));
    if (!onnx.metadata().containsKey(PreprocessingOptions.METADATA_KEY)) {
      throw noSpecialist(onnx, PreprocessingOptions.METADATA_KEY);
    }
    int outputs = HeadRestriction.classes(onnx);
    if (classes.size() != outputs) {
      throw TacoException.model(
          "%s: its metadata %s names %d classes, the model has %d outputs; take the file as taco specialize wrote it"
              .formatted(model, TaskClasses.METADATA_KEY, classes.size(), outputs));
    }
    ModelInput input = ModelInput.of(onnx);
    Preprocessor preprocessor = new Preprocessor(PreprocessingOptions.none().resolve(onnx, input));
    Workers workers = new Workers(threads);
    try {
      Session session = Session.open(model, threads);
      return new Specialist(onnx, input, preprocessor, classes, session, workers);
    } catch (RuntimeException | Error e) {
      workers.close();
      throw e;
    }
  }

  private static TacoException noSpecialist(OnnxModel model, String key) {
    return TacoException.model(
        model.source()
            + ": is no specialist: its metadata has no "
            + key
            + "; give the model.onnx of a folder that taco specialize wrote");
  }

  /** Names of the classes, in the order of the model's outputs. */
  public List<String> classes() {
    return classes.stream().map(TaskClass::name).toList();
  }

  /**
   * Classifies an image file: JPEG, PNG, WebP or BMP.
   *
   * @throws TacoException of kind DATA for a file that is missing, damaged or no such image; of
   *     kind NUMERICAL where the model's scores are not finite; of kind USAGE after {@link #close}
   */
  public Prediction classify(Path image) {
    return classify(List.of(image)).getFirst();
  }

  /**
   * Classifies an image in memory. Its samples are taken as they are stored, without alpha and
   * colour profile. ImageIO decodes some JPEG files a little differently from {@link
   * #classify(Path)}, which the specialist was measured with.
   *
   * @throws TacoException as {@link #classify(Path)}
   */
  public Prediction classify(BufferedImage image) {
    return whileOpen(
        () -> {
          float[] tensor = new float[preprocessor.length()];
          preprocessor.apply(ImageDecoder.toRgb(image), tensor, 0);
          return run(tensor, List.of("the image")).getFirst();
        });
  }

  /**
   * Classifies image files, several in a run of the model. Probabilities are those of single calls
   * but for the rounding of float32 sums.
   *
   * @return a prediction for each file, in their order
   * @throws TacoException as {@link #classify(Path)}, for the first file that cannot be read
   */
  public List<Prediction> classify(List<Path> images) {
    int batch =
        input.batchSize(
            preprocessor.preprocessing().cropHeight(), preprocessor.preprocessing().cropWidth());
    return whileOpen(
        () -> {
          List<Prediction> predictions = new ArrayList<>(images.size());
          for (int first = 0; first < images.size(); first += batch) {
            List<Path> part = images.subList(first, Math.min(first + batch, images.size()));
            predictions.addAll(run(load(part), part));
          }
          return List.copyOf(predictions);
        });
  }

  private <T> T whileOpen(Supplier<T> call) {
    Lock shared = lock.readLock();
    shared.lock();
    try {
      if (closed) {
        throw TacoException.usage(source + ": this specialist has been closed; open it again");
      }
      return call.get();
    } finally {
      shared.unlock();
    }
  }

  /** Preprocessed images, one after the other. */
  private float[] load(List<Path> files) {
    int length = preprocessor.length();
    float[] tensors = new float[Math.multiplyExact(files.size(), length)];
    @Nullable TacoException[] failures = new TacoException[files.size()];
    workers.forEach(
        files.size(),
        i -> {
          try {
            preprocessor.apply(decode(files.get(i)), tensors, i * length);
          } catch (TacoException e) {
            failures[i] = e;
          }
        });
    for (TacoException failure : failures) {
      if (failure != null) {
        throw failure;
      }
    }
    return tensors;
  }

  private static RgbImage decode(Path file) {
    if (!Files.isRegularFile(file)) {
      throw TacoException.data(
          file + (Files.exists(file) ? ": is no file; an image is expected" : ": no such file"));
    }
    try {
      return ImageDecoder.decode(file);
    } catch (UnreadableImageException e) {
      throw new TacoException(
          TacoException.Kind.DATA, e.getMessage() + "; replace it or leave it out", e);
    }
  }

  /**
   * Runs the model.
   *
   * @param names of the images, for the error
   */
  private List<Prediction> run(float[] tensors, List<?> names) {
    int count = names.size();
    Map<String, Tensor> feed = input.feed(tensors, count, preprocessor.shape(1));
    try {
      Map<String, Tensor> results = session.run(feed);
      try {
        float[] scores = results.values().iterator().next().floats();
        return IntStream.range(0, count)
            .mapToObj(i -> prediction(scores, i * classes.size(), names.get(i)))
            .toList();
      } finally {
        results.values().forEach(Tensor::close);
      }
    } finally {
      feed.values().forEach(Tensor::close);
    }
  }

  private Prediction prediction(float[] scores, int from, Object image) {
    double highest = Double.NEGATIVE_INFINITY;
    for (int c = 0; c < classes.size(); c++) {
      float score = scores[from + c];
      if (!Float.isFinite(score)) {
        throw TacoException.numerical(
            source + ": the model's scores for " + image + " are not finite");
      }
      highest = Math.max(highest, score);
    }
    double[] probabilities = new double[classes.size()];
    double sum = 0;
    for (int c = 0; c < probabilities.length; c++) {
      float score = scores[from + c];
      probabilities[c] = givesProbabilities ? score : Math.exp(score - highest);
      sum += probabilities[c];
    }
    // By score: different ones may round to the same probability. The sort is stable.
    List<Integer> order =
        IntStream.range(0, probabilities.length)
            .boxed()
            .sorted(Comparator.comparingDouble((Integer c) -> scores[from + c]).reversed())
            .toList();
    List<ClassProbability> sorted = new ArrayList<>(order.size());
    for (int c : order) {
      TaskClass task = classes.get(c);
      sorted.add(new ClassProbability(task.folder(), task.name(), probabilities[c] / sum));
    }
    return new Prediction(sorted);
  }

  /** Waits for calls that are under way, and frees the model; after the first time, nothing. */
  @Override
  public void close() {
    Lock exclusive = lock.writeLock();
    exclusive.lock();
    try {
      if (!closed) {
        closed = true;
        session.close();
        workers.close();
      }
    } finally {
      exclusive.unlock();
    }
  }
}
