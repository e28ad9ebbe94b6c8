package org.taco4j.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.taco4j.common.Notice;

/**
 * The notices of a run, those of one kind together: what was not done as asked apart from what is
 * worth knowing, each with a title for people.
 */
final class NoticeGroups {
  /**
   * Notices of one code.
   *
   * @param title what they have in common
   */
  public record Group(String code, String title, List<Notice> notices) {}

  /**
   * Both kinds.
   *
   * @param notDone as asked; the gravest first
   * @param worthKnowing the rest
   */
  public record Split(List<Group> notDone, List<Group> worthKnowing) {}

  private static final String LEFT_DENSE = "layers-left-dense";

  /** The notice's message where the recipe says of all these layers that they stay dense. */
  private static final Pattern AS_ASKED =
      Pattern.compile(
          "\\d+ of \\d+ layers stay dense: \\d+ (the classifier|left out by --)((?!, \\d).)*"
              + "(, \\d+ (the classifier|left out by --)((?!, \\d).)*)*");

  /** Codes of what was not done as asked, or makes the result doubtful, the gravest first. */
  static final Map<String, String> NOT_DONE =
      titles(
          "dense-accuracy-at-chance",
          "The dense model is no better than chance",
          "layer-on-host",
          "Layers that the GPU left to the processor",
          "backend-unverified",
          "The kernels that computed this are not verified",
          "image-skipped",
          "Images that could not be read were skipped",
          "tuning-not-used",
          "Tuning was tried and not used",
          "search-stopped",
          "Searches were cut short: another run may give other bytes",
          "extra-damping",
          "Hessians needed more damping than asked",
          "damping-not-chosen",
          "The damping could not be chosen by cross-validation",
          LEFT_DENSE,
          "Layers that stay dense",
          "no-zeros",
          "Models without zeros to skip",
          "integer-layers-kept",
          "Integer layers that stay as they are",
          "weights-unpacked",
          "Weights that are no longer packed",
          "weights-not-packed",
          "Weights that stay as they are",
          "operators-without-library",
          "Models that ran without their operators",
          "operators-not-used",
          "No layer is faster with sparse operators",
          "layer-left-float",
          "Layers that multiply floats",
          "activations-clipped",
          "Activations of which much is clipped",
          "layer-skipped",
          "Operators with weights that stay as they are",
          "structures-left",
          "Dimensions that could not be made smaller",
          "structures-rounded",
          "Dimensions that keep more units than asked",
          "zeros-not-skipped",
          "Zeros that TensorRT multiplies",
          "weights-only-quantized",
          "8-bit weights that TensorRT makes floats of",
          "batch-fixed",
          "Batches that a model does not take",
          "dense-in-fp16",
          "The dense model has no 8-bit numbers",
          "tactics-unknown",
          "Engines that do not say which kernels they took",
          "nodes-elsewhere",
          "Nodes that did not run on the GPU",
          "engine-not-used",
          "Engines that could not be taken from the cache",
          "engine-not-kept",
          "Engines that were not kept",
          "layer-not-corrected",
          "Layers without channel correction",
          "layer-not-refitted",
          "Layers that could not be fitted again",
          "layer-not-tuned",
          "Layers that tuning left alone",
          "features-left-out",
          "Features that tuning could not compare",
          "preprocessing-overridden",
          "The model's own preprocessing was overridden",
          "fewer-correction-images",
          "The channel correction saw fewer images",
          "channel-correction-clamped",
          "The channel correction was limited",
          "few-shots",
          "Classes with fewer images than asked",
          "few-held-out",
          "Classes with few held-out images",
          "no-held-out",
          "No held-out images: layer errors are on seen images only",
          "no-held-out-images",
          "Too few images for a trial of tuning",
          "class-untested",
          "Classes without test images",
          "fewer-generic-images",
          "Fewer generic images than task images",
          "ptc-not-measured",
          "TACO and PTC could not be measured",
          "checkpoint-damaged",
          "Damaged checkpoints were computed again",
          "checkpoint-discarded",
          "Checkpoints of tuning were discarded",
          "checkpoints-discarded",
          "Checkpoints of another run were discarded");

  /** Codes of what a person would want to know of. */
  static final Map<String, String> WORTH_KNOWING =
      titles(
          "misfit-left-dense", "Layers that the pattern does not fit stay dense, as asked",
          "held-out-from-calibration", "Held-out images were taken from the calibration images",
          "split-by-seed", "Images were split by chance",
          "classes-by-order", "Classes were matched by their order",
          "files-ignored", "Files that are no images were ignored",
          "folders-ignored", "Folders were ignored",
          "images-not-kept", "Images are decoded in each pass",
          "weights-rounded", "Layers whose weights were rounded to 8 bits",
          "activation-range-empty", "Activations that are always 0",
          "dead-columns", "Inputs that never change",
          "float32-rows-repeated", "Rows were solved again in double precision",
          "samples-inferred", "The number of samples was inferred",
          "resumed", "Resumed from finished layers",
          "tuning-resumed", "Tuning was resumed",
          "operators-measured", "Layers were timed in this run, dense and sparse",
          "operator-table-outdated", "Earlier times of layers were of other versions",
          "operator-table-damaged", "Earlier times of layers could not be read",
          "operator-table-not-kept", "Times of layers are not kept for later");

  private NoticeGroups() {}

  private static Map<String, String> titles(String... codesAndTitles) {
    Map<String, String> titles = new LinkedHashMap<>();
    for (int i = 0; i < codesAndTitles.length; i += 2) {
      titles.put(codesAndTitles[i], codesAndTitles[i + 1]);
    }
    return titles;
  }

  /** Splits and groups; a code that is not known counts as not done as asked. */
  static Split of(RunReport report) {
    Map<String, List<Notice>> byCode = new LinkedHashMap<>();
    report.notices().forEach(n -> byCode.computeIfAbsent(n.code(), c -> new ArrayList<>()).add(n));
    List<Group> worthKnowing = new ArrayList<>();
    List<Notice> leftDense = byCode.getOrDefault(LEFT_DENSE, List.of());
    if (leftDense.stream().allMatch(n -> AS_ASKED.matcher(n.message()).matches())) {
      worthKnowing.addAll(take(Map.of(LEFT_DENSE, NOT_DONE.getOrDefault(LEFT_DENSE, "")), byCode));
    }
    List<Group> notDone = take(NOT_DONE, byCode);
    worthKnowing.addAll(take(WORTH_KNOWING, byCode));
    byCode.forEach((code, list) -> notDone.add(new Group(code, code.replace('-', ' '), list)));
    return new Split(notDone, worthKnowing);
  }

  private static List<Group> take(Map<String, String> titles, Map<String, List<Notice>> byCode) {
    List<Group> groups = new ArrayList<>();
    titles.forEach(
        (code, title) -> {
          List<Notice> notices = byCode.remove(code);
          if (notices != null) {
            groups.add(new Group(code, title, notices));
          }
        });
    return groups;
  }
}
