package org.taco4j.report;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notice;

/**
 * What a {@code specialize} run did and measured: {@code report.json}. The schema is described in
 * {@code docs/report.md}; {@link #SCHEMA_VERSION} counts its incompatible changes.
 *
 * @param schemaVersion {@link #SCHEMA_VERSION}
 * @param sparsity fraction of the dense model's weights in prunable layers, left dense or not, that
 *     the compressed model does not have: they are zero, or their unit was removed
 * @param untuned the compressed model before tuning; null where it was not tuned
 * @param tuning what tuning did; null where there was none
 * @param transfer what was done to the dense model before it was measured and compressed; null for
 *     nothing
 * @param steps of a schedule, in their order; empty where all was pruned at once
 * @param ptc the comparison with a copy compressed on generic images; null where none was asked for
 * @param structures hidden dimensions that were made smaller
 * @param structuresLeft layers that keep all their outputs where structured pruning was asked for
 * @param activations what became of activations that were quantised; null where they stayed float
 * @param contract how to feed the compressed model; null in reports of versions before it
 * @param predictions what both models took the test images for; null where there are none
 * @param recipe what was asked, resolved: the content of {@code recipe.resolved.yaml}
 */
@JsonInclude(JsonInclude.Include.ALWAYS)
@JsonPropertyOrder({"schemaVersion", "tool", "model", "task", "dense", "compressed", "sparsity"})
public record RunReport(
    int schemaVersion,
    Tool tool,
    Model model,
    Task task,
    ModelResult dense,
    ModelResult compressed,
    double sparsity,
    Latency latency,
    Seconds seconds,
    @Nullable TopOne untuned,
    @Nullable Tuning tuning,
    @Nullable Transfer transfer,
    List<Step> steps,
    @Nullable PtcComparison ptc,
    List<StructureReport> structures,
    List<StructureLeft> structuresLeft,
    List<LayerReport> layers,
    @Nullable Activations activations,
    List<Notice> notices,
    Machine machine,
    @Nullable Contract contract,
    @Nullable Predictions predictions,
    Map<String, Object> recipe) {

  /** The version of the schema that this class writes. */
  public static final int SCHEMA_VERSION = 1;

  /** What wrote the report. */
  public record Tool(String name, String version, String onnxRuntime) {}

  /**
   * The model that came in.
   *
   * @param file as it was given
   * @param sha256 of the file
   * @param opset version of the default operator set
   * @param classes outputs that it had; 0 where its own classifier was not used
   * @param foldedBatchNorms BatchNormalization nodes that were folded away
   */
  public record Model(String file, String sha256, int opset, int classes, int foldedBatchNorms) {}

  /**
   * The task and its images.
   *
   * @param classes display names, in the order of the specialist's outputs
   * @param modelIndices the same classes as outputs of the model that came in
   * @param calibrationSha256 hash over names and contents of the calibration images
   * @param preprocessing in words
   */
  public record Task(
      List<String> classes,
      List<Integer> modelIndices,
      int calibrationImages,
      int heldOutImages,
      int testImages,
      String calibrationSha256,
      String preprocessing) {}

  /**
   * One model on the test images, over the task's classes.
   *
   * @param top1 fraction of images whose class got the highest score
   * @param top1Low lower end of the 95 % interval (Wilson)
   * @param top1High upper end of the 95 % interval
   * @param images how many were classified; 0 where there are no test images
   * @param bytes size of the model file
   * @param gzipBytes size of the model file through gzip
   * @param nonZeroWeights weights of prunable layers that are not zero
   * @param macs multiply-accumulates of all layers for one image, zeros included
   */
  public record ModelResult(
      @Nullable Double top1,
      @Nullable Double top1Low,
      @Nullable Double top1High,
      @Nullable Double top5,
      int images,
      long bytes,
      long gzipBytes,
      long nonZeroWeights,
      long macs) {

    /** Top-1 with its interval; null where there are no test images. */
    public @Nullable TopOne accuracy() {
      return top1 == null || top1Low == null || top1High == null
          ? null
          : new TopOne(top1, top1Low, top1High, images);
    }
  }

  /**
   * Latency of both models, interleaved in one process.
   *
   * @param ratio how many times faster the compressed model is: median over pairs
   * @param ratioLow 5th percentile over pairs
   * @param ratioHigh 95th percentile over pairs
   * @param ratioOfFastest the same of the means of each one's fastest quarter of runs; null in
   *     reports of versions before it
   */
  public record Latency(
      ModelLatency dense,
      ModelLatency compressed,
      double ratio,
      double ratioLow,
      double ratioHigh,
      @Nullable Double ratioOfFastest,
      int pairs,
      int threads,
      int batch) {

    /** Whether pairs differ so much that their median says little. */
    public boolean noisy() {
      return ratioHigh > 2 * ratioLow;
    }
  }

  /** Percentiles of the time of one run, in milliseconds. */
  public record ModelLatency(double p50Millis, double p90Millis, double p99Millis) {}

  /** Wall time of each stage in this run; what it took over of an interrupted one is not in it. */
  public record Seconds(
      double calibrate, double solve, double correct, double tune, double evaluate, double total) {}

  /**
   * An accuracy.
   *
   * @param top1 fraction of images whose class got the highest score
   * @param top1Low lower end of the 95 % interval (Wilson)
   * @param top1High upper end of the 95 % interval
   */
  public record TopOne(double top1, double top1Low, double top1High, int images) {}

  /**
   * What tuning did.
   *
   * @param method {@code probe}, {@code taco-v1} or {@code taco-tmlr}; {@code finetune} for the
   *     dense model
   * @param passes that were planned
   * @param bestPass whose weights are the result; 0 is the untuned model. Where images were held
   *     out it is the best pass of the trial, else the last one
   * @param stop {@code finished}, {@code early} or {@code not-finite}
   * @param trainImages images that gave gradients
   * @param heldOutImages calibration images on which the trial was judged; 0 where there was none
   * @param trainedValues numbers that were free to change
   * @param features tensors whose distance to the dense model's counted; of the probe what it reads
   * @param curve of the tuning whose result is the model
   * @param trial of the tuning of a model that had been compressed without the images held out,
   *     which decided how long to tune; empty where there was none
   * @param failure what went wrong; null where nothing did
   */
  public record Tuning(
      String method,
      int passes,
      int bestPass,
      String stop,
      int trainImages,
      int heldOutImages,
      long trainedValues,
      List<String> features,
      double seconds,
      List<TunePass> curve,
      List<TunePass> trial,
      @Nullable String failure) {}

  /**
   * What made the dense model one of the task.
   *
   * @param classifier that took the place of the model's own; null where that stayed
   * @param beforeFinetuning on the test images; null without fine-tuning, or without test images
   * @param finetuning of the dense model with the task loss; null where there was none
   */
  public record Transfer(
      @Nullable NewClassifier classifier,
      @Nullable TopOne beforeFinetuning,
      @Nullable Tuning finetuning) {}

  /**
   * A linear classifier trained on the calibration images.
   *
   * @param features tensor that it reads
   * @param dimension numbers of an image
   * @param pooled whether they were averaged over space or tokens
   * @param trainLoss cross entropy on the calibration images after the last pass
   * @param trainAccuracy on the same
   */
  public record NewClassifier(
      String features,
      int dimension,
      boolean pooled,
      int passes,
      double trainLoss,
      double trainAccuracy) {}

  /**
   * A step of a schedule. Its accuracies are those on the calibration images as they are, which the
   * step has seen: they show its course, not what the model is worth.
   *
   * @param step from 1 on; 0 is the training of the dense model that lth begins with
   * @param sparsity fraction of the weights of the pruned layers that are zero after it
   * @param layerError mean of the layer-wise errors; null for step 0
   * @param prunedTop1 before tuning, for lth with the weights taken back; null where the images are
   *     none of the task
   * @param tunedTop1 after tuning; null likewise
   * @param tuning what tuning did
   */
  public record Step(
      int step,
      double sparsity,
      @Nullable Double layerError,
      @Nullable Double prunedTop1,
      @Nullable Double tunedTop1,
      Tuning tuning) {}

  /**
   * A pass of tuning; pass 0 is the untuned model.
   *
   * @param train means over its images while weights changed; null for pass 0
   * @param heldOut means over the images held out, after it; null where there are none
   */
  public record TunePass(
      int pass, @Nullable Double learningRate, @Nullable Losses train, @Nullable Losses heldOut) {}

  /**
   * Means over images: the weighted sum, its parts, and the part of images that are right.
   *
   * @param distance of the softmax outputs to the dense model's, in total variation, 0 to 1: where
   *     images are held out, the least chooses the pass. 0 where the dense model was not run
   */
  public record Losses(
      double loss, double task, double logit, double feature, double accuracy, double distance) {}

  /**
   * The specialist (TACO) beside a copy that was compressed in the same way on as many generic
   * images (PTC), and the dense model.
   *
   * @param data the folder of generic images
   * @param images generic images that calibrated the copy
   * @param imagesSha256 hash over their names and contents
   * @param task on the task's test images, only the task's classes competing
   * @param taskFullHead on these images, all classes of the dense model competing, behind the dense
   *     model's own classifier; null where that could not be put behind the compressed models
   * @param offTask on generic images of other classes, likewise; null also without such images
   * @param tuning what tuning the copy did; null where there was none
   */
  public record PtcComparison(
      String data,
      int images,
      String imagesSha256,
      Versus task,
      @Nullable Versus taskFullHead,
      @Nullable Versus offTask,
      @Nullable Tuning tuning,
      double seconds) {}

  /** Three models on the same images. */
  public record Versus(TopOne dense, TopOne taco, TopOne ptc) {}

  /**
   * A hidden dimension that was made smaller.
   *
   * @param name of the first layer that writes it
   * @param kind {@code mlp}, {@code channels} or {@code heads}
   * @param consumer the layer that reads it, which was solved
   * @param units of the dense model
   * @param kept units of the compressed model
   * @param layerError layer-wise error of the consumer on the calibration images
   * @param heldOutError the same on held-out images; null where there are none
   * @param damping λ that was used, relative to the mean of the Hessian's diagonal
   */
  public record StructureReport(
      String name,
      String kind,
      String consumer,
      int units,
      int kept,
      double layerError,
      @Nullable Double heldOutError,
      double damping,
      double seconds) {}

  /**
   * A layer that keeps all its outputs.
   *
   * @param reason for people
   */
  public record StructureLeft(String layer, String reason) {}

  /**
   * One layer of the dense model.
   *
   * @param solver what solved it: for the hybrid solver what it chose
   * @param rows output channels or features, of all groups
   * @param cols inputs of one output
   * @param macs multiply-accumulates for one image, dense
   * @param pattern what was asked; null for a layer left dense
   * @param sparsity fraction of its weights that are zero in the file written, or not there
   * @param layerError layer-wise error on the calibration images; null for a layer left dense
   * @param heldOutError the same on held-out images; null where there are none
   * @param damping λ that was used, relative to the mean of the Hessian's diagonal
   * @param search what the search over masks did; null where there was none
   * @param whyDense why the layer was left dense; null for a pruned one
   * @param operator what runs it where the model is written for the operator library; null where it
   *     is not, and for a layer that is no more
   */
  @JsonPropertyOrder({"name", "opType", "rows", "cols"})
  public record LayerReport(
      String name,
      String opType,
      int rows,
      int cols,
      int groups,
      long parameters,
      long macs,
      @Nullable String solver,
      @Nullable String pattern,
      double sparsity,
      @Nullable Double layerError,
      @Nullable Double heldOutError,
      @Nullable Double damping,
      int deadColumns,
      double seconds,
      @Nullable Search search,
      @Nullable String whyDense,
      @Nullable Operator operator) {}

  /**
   * What runs a layer, and the times on this machine that were compared for that.
   *
   * @param name such as {@code taco4j.SparseConvRelu}; null where it stays dense
   * @param denseMillis in ONNX Runtime, without the reordering of tensors; null where not known
   * @param sparseMillis with the library; null where not known
   * @param whyDense why it runs densely; null where it does not
   */
  public record Operator(
      @Nullable String name,
      @Nullable Double denseMillis,
      @Nullable Double sparseMillis,
      @Nullable String whyDense) {}

  /**
   * Activations in 8 bits.
   *
   * @param range how ranges were chosen: {@code minmax}, {@code percentile} or {@code mse}
   * @param scoreDistance ‖difference of the scores‖ / ‖scores with float activations‖ on
   *     calibration images
   * @param floatActivations top-1 of the model before, whose activations were float; null where
   *     there are no test images
   * @param libraryRatio how many times as fast the whole model is with integer operators of the
   *     library as with those of ONNX, by the fastest quarter of the runs of both; null where that
   *     was not measured
   * @param ranges of all tensors that are 8 bits, in graph order
   * @param layers of the specialist, in graph order
   */
  public record Activations(
      int bits,
      String range,
      double scoreDistance,
      @Nullable TopOne floatActivations,
      @Nullable Double libraryRatio,
      List<ActivationRange> ranges,
      List<IntegerLayer> layers) {}

  /**
   * The range of a tensor: value = scale · (code - zeroPoint), code 0 to 255.
   *
   * @param lowest least value on the calibration images
   * @param highest greatest value on the calibration images
   * @param minimum least value that is not clipped
   * @param maximum greatest value that is not clipped
   * @param clipped share of the values that are
   */
  public record ActivationRange(
      String tensor,
      float lowest,
      float highest,
      float minimum,
      float maximum,
      float scale,
      int zeroPoint,
      double clipped) {}

  /**
   * How a layer multiplies.
   *
   * @param operator of integers in the file written; null for a layer that multiplies floats
   * @param rounded whether its weights were rounded, as it was not solved
   * @param whyFloat null for a layer that multiplies integers
   */
  public record IntegerLayer(
      String name, @Nullable String operator, boolean rounded, @Nullable String whyFloat) {}

  /**
   * A search over a layer's masks; for more than one group the sums.
   *
   * @param errorBefore damped layer-wise error of the solver's mask; of the last group
   * @param errorAfter the same of the mask that was found
   * @param stopped why it ended; of the last group
   */
  public record Search(
      long swaps,
      long kicks,
      long transfers,
      double errorBefore,
      double errorAfter,
      double seconds,
      String stopped) {}

  /**
   * The machine.
   *
   * @param backend what computed, with the reason why it was chosen
   */
  public record Machine(
      String os, String cpu, int cores, long memoryBytes, String java, String backend) {}

  /**
   * How to feed the compressed model, for programs and for the snippets of report.html.
   *
   * @param input name of its input
   * @param inputShape of it, as in the file; -1 for what is free
   * @param output name of its output, a score for each class of the task
   * @param width columns of the input
   * @param height rows of the input
   * @param resize short side, width x height, or {@code none}
   * @param directBelow images with a short side of at most this many pixels are resized straight to
   *     the input; 0 for none
   * @param filter of the resampling
   * @param mean red, green, blue; of values in 0..1
   * @param std red, green, blue; of values in 0..1
   * @param channelOrder {@code rgb} or {@code bgr}
   * @param layout {@code nchw} or {@code nhwc}
   */
  public record Contract(
      String input,
      List<Long> inputShape,
      String output,
      int width,
      int height,
      String resize,
      int directBelow,
      String filter,
      List<Float> mean,
      List<Float> std,
      String channelOrder,
      String layout) {}

  /**
   * What dense and compressed model took the test images for, only the task's classes competing.
   * Classes are positions in {@link Task#classes}.
   *
   * @param bothRight images on which both are right
   * @param onlyDenseRight images that compression lost
   * @param onlyCompressedRight images that it gained
   * @param bothWrong images on which neither is right
   * @param dense its confusion matrix without zeros
   * @param compressed its confusion matrix without zeros
   * @param examples some of the images, those first on which the two disagree
   */
  public record Predictions(
      int bothRight,
      int onlyDenseRight,
      int onlyCompressedRight,
      int bothWrong,
      List<Confusion> dense,
      List<Confusion> compressed,
      List<Example> examples) {}

  /** How many images of class {@code actual} were taken for {@code predicted}. */
  public record Confusion(int actual, int predicted, int count) {}

  /**
   * A test image.
   *
   * @param file class folder and name of the image
   * @param thumbnail a small JPEG of it, relative to the run folder
   * @param actual its class
   */
  public record Example(String file, String thumbnail, int actual, Guess dense, Guess compressed) {}

  /** What a model took an image for, and its probability among the task's classes. */
  public record Guess(int predicted, double probability) {}
}
