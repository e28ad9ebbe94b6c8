package org.taco4j.data;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import org.taco4j.common.Notices;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.data.FolderScan.Found;

/** Finds out which output of the model each class folder stands for, and which classes are kept. */
final class ClassResolver {
  private static final int NEAR_NAMES = 5;

  private final Map<String, Found> found;
  private final Optional<List<TaskClass>> modelClasses;
  private final Optional<LabelList> labels;
  private final int modelOutputs;
  private final boolean alphabetical;

  /**
   * A resolver.
   *
   * @param found the classes there are, by folder name, sorted
   * @param modelClasses what the model says of its outputs; then nothing else counts
   * @param labels the user's label list
   * @param modelOutputs number of the model's outputs
   */
  ClassResolver(
      Map<String, Found> found,
      Optional<List<TaskClass>> modelClasses,
      Optional<LabelList> labels,
      int modelOutputs) {
    this.found = found;
    this.modelClasses = modelClasses;
    this.labels = labels;
    this.modelOutputs = modelOutputs;
    this.alphabetical =
        modelClasses.isEmpty()
            && labels.isEmpty()
            && found.size() == modelOutputs
            && found.values().stream().allMatch(each -> each.listed().isEmpty());
  }

  /**
   * The classes of the task, by ascending model index.
   *
   * @param only folders or names of the classes to keep; empty for all
   */
  List<TaskClass> resolve(List<String> only, Notices notices) {
    Set<String> kept = only.isEmpty() ? found.keySet() : select(only);
    if (alphabetical) {
      notices.add(
          "classes-by-order",
          "classes",
          "nothing says which output of the model each folder stands for; as there are as many"
              + " folders as outputs, they are taken in alphabetical order",
          found.size());
    }
    List<TaskClass> classes = new ArrayList<>();
    Map<Integer, TaskClass> byIndex = new HashMap<>();
    for (String folder : kept) {
      Found each = found.get(folder);
      if (each == null) {
        throw new IllegalStateException(folder);
      }
      TaskClass resolved = lookUp(each).orElseThrow(() -> unresolved(each));
      checkIndex(resolved);
      if (each.folders().isEmpty()) {
        throw TacoException.data(
            each.listed().map(listed -> listed.table() + ": ").orElse("")
                + "the class '"
                + resolved.name()
                + "' is listed, but its folder '"
                + folder
                + "' is missing; add it, or choose the classes you want");
      }
      TaskClass other = byIndex.put(resolved.modelIndex(), resolved);
      if (other != null) {
        throw TacoException.data(
            "the class folders '"
                + other.folder()
                + "' and '"
                + folder
                + "' both stand for output "
                + resolved.modelIndex()
                + " of the model");
      }
      classes.add(resolved);
    }
    classes.sort(Comparator.comparingInt(TaskClass::modelIndex));
    return List.copyOf(classes);
  }

  private Optional<TaskClass> lookUp(Found each) {
    String folder = each.folder();
    if (modelClasses.isPresent()) {
      // A specialist's outputs are not those that a classes.tsv of the generalist counts.
      return inModel(folder, each.listed().map(FolderScan.Listed::name).orElse(folder));
    }
    if (labels.isPresent()) {
      // What the user says on the command line goes before what lies in the folder.
      LabelList list = labels.get();
      return list.find(folder)
          .or(() -> each.listed().map(FolderScan.Listed::name).flatMap(list::find))
          .map(label -> new TaskClass(folder, label.modelIndex(), label.name()));
    }
    if (each.listed().isPresent()) {
      FolderScan.Listed listed = each.listed().get();
      return Optional.of(new TaskClass(folder, listed.modelIndex(), listed.name()));
    }
    return alphabetical
        ? Optional.of(new TaskClass(folder, List.copyOf(found.keySet()).indexOf(folder), folder))
        : Optional.empty();
  }

  private Optional<TaskClass> inModel(String folder, String name) {
    List<TaskClass> known = modelClasses.orElseThrow();
    return known.stream()
        .filter(each -> each.folder().equals(folder))
        .findFirst()
        .or(() -> known.stream().filter(each -> each.name().equals(name)).findFirst())
        .map(each -> new TaskClass(folder, each.modelIndex(), each.name()));
  }

  private TacoException unresolved(Found each) {
    String folder = each.folder();
    if (modelClasses.isPresent()) {
      List<String> names = modelClasses.get().stream().map(TaskClass::name).toList();
      return TacoException.data(
          "the model does not have the class '"
              + each.listed().map(FolderScan.Listed::name).orElse(folder)
              + "' (folder '"
              + folder
              + "'): its "
              + modelOutputs
              + " outputs are "
              + String.join(", ", names.subList(0, Math.min(20, names.size())))
              + (names.size() > 20 ? ", …" : "")
              + "; leave the class out");
    }
    if (labels.isPresent()) {
      return TacoException.data(
          "the class folder '"
              + folder
              + "' is none of the labels in "
              + labels.get().source()
              + nearTo(
                  folder,
                  labels.get().labels().stream()
                      .flatMap(label -> Stream.of(label.id(), label.name()))
                      .toList()));
    }
    return TacoException.data(
        "nothing says which of the "
            + modelOutputs
            + " outputs of the model the class folder '"
            + folder
            + "' stands for; put a classes.tsv (columns folder, model_index, name) beside the"
            + " folders, or give a label list by --labels");
  }

  private void checkIndex(TaskClass each) {
    if (each.modelIndex() < 0 || each.modelIndex() >= modelOutputs) {
      throw TacoException.data(
          "the model does not have the class '"
              + each.name()
              + "' (folder '"
              + each.folder()
              + "'): its model index is "
              + each.modelIndex()
              + ", and the model has the outputs 0 to "
              + (modelOutputs - 1)
              + "; leave the class out, or correct its model_index");
    }
  }

  /** The folders of the classes that {@code only} names. */
  private Set<String> select(List<String> only) {
    Map<String, String> names = new HashMap<>();
    for (Found each : found.values()) {
      names.put(each.folder(), displayName(each));
    }
    Set<String> kept = new LinkedHashSet<>();
    for (String wanted : only) {
      String text = wanted.strip();
      if (found.containsKey(text)) {
        kept.add(text);
        continue;
      }
      List<String> matches =
          found.keySet().stream()
              .filter(
                  folder ->
                      normal(folder).equals(normal(text))
                          || normal(names.getOrDefault(folder, folder)).equals(normal(text)))
              .toList();
      if (matches.isEmpty()) {
        throw TacoException.data(
            "there is no class '"
                + text
                + "' among the "
                + found.size()
                + " classes of the data"
                + nearTo(
                    text,
                    Stream.concat(names.keySet().stream(), names.values().stream()).toList()));
      }
      if (matches.size() > 1) {
        throw TacoException.data(
            "the class name '"
                + text
                + "' stands for several folders: "
                + String.join(", ", matches)
                + "; give the folder");
      }
      kept.add(matches.getFirst());
    }
    return kept;
  }

  private String displayName(Found each) {
    return each.listed()
        .map(FolderScan.Listed::name)
        .or(() -> lookUp(each).map(TaskClass::name))
        .orElse(each.folder());
  }

  private static String normal(String name) {
    return name.toLowerCase(Locale.ROOT).replace(' ', '_').replace('-', '_');
  }

  private static String nearTo(String text, Collection<String> names) {
    List<String> near =
        names.stream()
            .filter(name -> !name.isEmpty())
            .distinct()
            .sorted(
                Comparator.<String>comparingInt(
                        name -> Suggestions.distance(normal(text), normal(name)))
                    .thenComparing(Comparator.naturalOrder()))
            .limit(NEAR_NAMES)
            .toList();
    return "; the nearest are " + String.join(", ", near);
  }
}
