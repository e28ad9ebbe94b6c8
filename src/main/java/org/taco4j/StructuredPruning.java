package org.taco4j;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.export.ChannelRemoval;
import org.taco4j.export.Structure;
import org.taco4j.export.Structures;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.reconstruct.LayerWise;
import org.taco4j.report.RunReport;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.Solvers;

/**
 * Removal of units of hidden dimensions. The layer that reads a dimension is solved as a layer
 * problem whose columns go by units; then the units leave the graph.
 */
final class StructuredPruning {
  /** Of TACO: hidden units of fully connected layers; and their like in convolutional nets. */
  static final List<String> USUAL_KINDS = List.of("mlp", "channels");

  /**
   * A structure, and what is done to the layer that reads it.
   *
   * @param pattern of the consumer's columns
   */
  private record Part(Structure structure, Pattern.Columns pattern, LayerWise.Plan consumer) {}

  private final List<Part> parts;
  private final List<RunReport.StructureLeft> left;

  private StructuredPruning(List<Part> parts, List<RunReport.StructureLeft> left) {
    this.parts = parts;
    this.left = left;
  }

  /**
   * Finds what there is to remove; notes what cannot be, with the reasons.
   *
   * @throws TacoException of kind USAGE for unknown kinds of structures, of kind MODEL where
   *     nothing can be removed
   */
  static StructuredPruning plan(
      OnnxModel model, Recipe recipe, LayerSelection selection, Notices notices) {
    double fraction = Objects.requireNonNull(recipe.structured());
    Set<Structure.Kind> kinds = kinds(recipe);
    Map<String, Layer> layers =
        LayerDiscovery.discover(model).stream()
            .collect(Collectors.toMap(Layer::name, Function.identity()));
    Structures structures = Structures.discover(model);
    List<RunReport.StructureLeft> left = new ArrayList<>();
    structures.left().forEach(l -> left.add(new RunReport.StructureLeft(l.layer(), l.reason())));
    List<Part> parts = new ArrayList<>();
    boolean leftOut = false;
    int multiple = TensorRtExport.unitMultiple(recipe);
    int rounded = 0;
    for (Structure structure : structures.found()) {
      if (!kinds.contains(structure.kind())) {
        continue;
      }
      if (!layersOf(structure).allMatch(selection::chooses)) {
        left.add(
            new RunReport.StructureLeft(structure.name(), "left out by --include or --exclude"));
        leftOut = true;
        continue;
      }
      if (structure.consumers().size() > 1) {
        left.add(
            new RunReport.StructureLeft(
                structure.name(),
                "its units are read by more than one layer: "
                    + structure.consumers().stream()
                        .map(Structure.Consumer::layer)
                        .collect(Collectors.joining(", "))));
        continue;
      }
      Structure.Consumer consumer = structure.consumers().getFirst();
      Layer layer = Objects.requireNonNull(layers.get(consumer.layer()));
      if (layer.groups() != 1 || !layer.prunable()) {
        left.add(
            new RunReport.StructureLeft(
                structure.name(),
                layer.name()
                    + ", which reads it, cannot be solved: "
                    + layer.whyNotPrunable().orElse("it is a grouped convolution")));
        continue;
      }
      Pattern later = recipe.choiceFor(layer.name()).pattern();
      int asked = keptUnits(structure, fraction, later, 1);
      int kept = keptUnits(structure, fraction, later, multiple);
      rounded += kept > asked ? 1 : 0;
      if (kept == structure.units()) {
        left.add(
            new RunReport.StructureLeft(structure.name(), "no unit of its " + kept + " is to go"));
        continue;
      }
      Pattern.Columns pattern =
          new Pattern.Columns(1 - kept / (double) structure.units(), consumer.columnsPerUnit());
      parts.add(
          new Part(
              structure, pattern, new LayerWise.Plan(layer, pattern, Solvers.byName("ziplm"))));
    }
    if (parts.isEmpty() && leftOut) {
      throw TacoException.usage(
          "--include and --exclude leave no hidden dimension to make smaller: each needs all layers"
              + " that write or read it; `taco inspect` lists the names");
    }
    if (parts.isEmpty()) {
      throw TacoException.model(
          "%s: no hidden dimension of kind %s can be made smaller: %s"
              .formatted(
                  model.source(),
                  kinds.stream().map(StructuredPruning::word).toList(),
                  left.isEmpty() ? "there is none" : text(left)));
    }
    if (rounded > 0) {
      notices.add(
          "structures-rounded",
          model.source(),
          "%d hidden dimensions keep more units than asked, a multiple of %d: tensor cores work on that many at once"
              .formatted(rounded, multiple),
          rounded);
    }
    if (!left.isEmpty()) {
      notices.add(
          "structures-left",
          model.source(),
          left.size()
              + " layers keep all their outputs, such as "
              + text(left.subList(0, Math.min(2, left.size())))
              + (left.size() > 2 ? "; structuresLeft of report.json has all" : ""),
          left.size());
    }
    return new StructuredPruning(parts, left);
  }

  private static String text(List<RunReport.StructureLeft> left) {
    return left.stream()
        .map(l -> l.layer() + " (" + l.reason() + ")")
        .collect(Collectors.joining("; "));
  }

  /** The layers whose outputs stay, for the report. */
  List<RunReport.StructureLeft> left() {
    return left;
  }

  /** The layers that change when units of a structure go. */
  private static Stream<String> layersOf(Structure structure) {
    return Stream.of(
            structure.producers().stream().map(Structure.Producer::layer),
            structure.consumers().stream().map(Structure.Consumer::layer),
            structure.depthwise().stream())
        .flatMap(names -> names);
  }

  /**
   * Units to keep: enough for groups of the pattern that the smaller layer is to follow.
   *
   * @param multiple of which the size of a layer is to be one
   */
  private static int keptUnits(Structure structure, double fraction, Pattern later, int multiple) {
    int units = structure.units();
    int kept = units - new Pattern.Columns(fraction, 1).removed(units);
    int group = later instanceof Pattern.Columns ? 1 : later.groupSize();
    // A unit may be several rows: a head. The least number of units whose rows are such a multiple.
    int rows = structure.producers().getFirst().rowsPerUnit();
    int wide = multiple / gcd(multiple, rows);
    group = group / gcd(group, wide) * wide;
    return Math.min(units, (kept + group - 1) / group * group);
  }

  private static int gcd(int a, int b) {
    return b == 0 ? a : gcd(b, a % b);
  }

  private static Set<Structure.Kind> kinds(Recipe recipe) {
    Set<Structure.Kind> kinds = new TreeSet<>();
    for (String word : Objects.requireNonNull(recipe.structures())) {
      try {
        kinds.add(Structure.Kind.valueOf(word.toUpperCase(Locale.ROOT)));
      } catch (IllegalArgumentException e) {
        throw new TacoException(
            TacoException.Kind.USAGE,
            "--structures: there is no '" + word + "'; there are: mlp, channels, heads",
            e);
      }
    }
    return kinds;
  }

  private static String word(Structure.Kind kind) {
    return kind.name().toLowerCase(Locale.ROOT);
  }

  /** The layer problems to solve before {@link #remove}. */
  List<LayerWise.Plan> plans() {
    return parts.stream().map(Part::consumer).toList();
  }

  /** Removes the units whose columns the solver has made zero. */
  void remove(OnnxModel model) {
    for (Part part : parts) {
      ChannelRemoval.remove(model, part.structure(), kept(model, part));
    }
  }

  /** The units that stay: all but as many as the pattern removes of those that are zero. */
  private static int[] kept(OnnxModel model, Part part) {
    Layer layer = part.consumer().layer();
    int size = part.pattern().groupSize();
    int units = part.structure().units();
    float[] weights = LayerWeights.unfold(model, layer, 0);
    int[] kept = new int[units - part.pattern().removed(units)];
    int count = 0;
    int toRemove = units - kept.length;
    for (int unit = 0; unit < units; unit++) {
      if (toRemove > 0 && isZero(weights, layer, unit * size, size)) {
        toRemove--;
      } else {
        kept[count++] = unit;
      }
    }
    return kept;
  }

  private static boolean isZero(float[] weights, Layer layer, int first, int size) {
    // The layer may have lost rows of its own by now.
    for (int row = 0; row < weights.length / layer.cols(); row++) {
      for (int col = first; col < first + size; col++) {
        if (weights[row * layer.cols() + col] != 0) {
          return false;
        }
      }
    }
    return true;
  }

  /** The layers that lose rows with units. */
  Set<String> producers() {
    return parts.stream()
        .flatMap(
            part ->
                Stream.concat(
                    part.structure().producers().stream().map(Structure.Producer::layer),
                    part.structure().depthwise().stream()))
        .collect(Collectors.toSet());
  }

  /** What was done, for the report. */
  List<RunReport.StructureReport> reports(List<LayerWise.Outcome> outcomes) {
    List<RunReport.StructureReport> reports = new ArrayList<>();
    for (int i = 0; i < parts.size(); i++) {
      Part part = parts.get(i);
      LayerWise.Outcome outcome = outcomes.get(i);
      int units = part.structure().units();
      reports.add(
          new RunReport.StructureReport(
              part.structure().name(),
              word(part.structure().kind()),
              part.consumer().layer().name(),
              units,
              units - part.pattern().removed(units),
              outcome.layerError(),
              outcome.heldOutError(),
              outcome.damping(),
              outcome.seconds()));
    }
    return reports;
  }
}
