package org.taco4j;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.taco4j.common.TacoException;
import org.taco4j.data.TaskClass;
import org.taco4j.onnx.OnnxModel;

/**
 * The classes that a specialist knows, in its metadata: a JSON array with an object for each
 * output, in order, of {@code folder}, {@code name} and {@code sourceIndex} (the output of the
 * model that it was made from).
 */
public final class TaskClasses {
  /** The key of the model's metadata. */
  public static final String METADATA_KEY = "taco4j.classes";

  private static final ObjectMapper JSON = new ObjectMapper();

  private record Entry(String folder, String name, int sourceIndex) {}

  private TaskClasses() {}

  /** The value of {@link #METADATA_KEY}, for classes in the order of the outputs. */
  public static String toJson(List<TaskClass> classes) {
    try {
      return JSON.writeValueAsString(
          classes.stream().map(c -> new Entry(c.folder(), c.name(), c.modelIndex())).toList());
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  /** The classes of a specialist with their indices in its own output; empty for other models. */
  static Optional<List<TaskClass>> of(OnnxModel model) {
    String text = model.metadata().get(METADATA_KEY);
    if (text == null) {
      return Optional.empty();
    }
    try {
      List<Entry> entries = JSON.readValue(text, new TypeReference<List<Entry>>() {});
      List<TaskClass> classes = new ArrayList<>();
      for (Entry entry : entries) {
        classes.add(new TaskClass(entry.folder(), classes.size(), entry.name()));
      }
      return Optional.of(classes);
    } catch (JsonProcessingException e) {
      throw new TacoException(
          TacoException.Kind.MODEL,
          model.source() + ": metadata " + METADATA_KEY + " is damaged: " + e.getOriginalMessage(),
          e);
    }
  }
}
