package org.taco4j.data;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.taco4j.common.TacoException;

/**
 * What the outputs of a model are called.
 *
 * @param source the file, for messages
 * @param labels in the file's order
 */
public record LabelList(Path source, List<Label> labels) {
  /**
   * One output of the model.
   *
   * @param modelIndex its position, from 0
   * @param id a name for programs, such as a folder or a WordNet id; empty if there is none
   * @param name a name for people
   */
  public record Label(int modelIndex, String id, String name) {}

  /** A WordNet id in front of the name, as the usual {@code synset.txt} of ImageNet has it. */
  private static final Pattern SYNSET_LINE = Pattern.compile("(n\\d{8})\\s+(.+)");

  /** Copies the list. */
  public LabelList {
    labels = List.copyOf(labels);
  }

  /**
   * Reads a file that is either a table (parted by tabs, with a header that has {@code model_index}
   * and any of {@code folder}, {@code wnid} and {@code name}) or plain text with one label a line,
   * the first for output 0.
   *
   * @param outputs how many outputs the model has: as many lines must plain text have, as its lines
   *     count them
   * @throws TacoException of kind DATA when it is neither
   */
  public static LabelList read(Path file, int outputs) {
    List<String> lines = DataFiles.lines(file);
    List<Label> labels = new ArrayList<>();
    if (TabTable.hasColumn(lines, "model_index")) {
      TabTable table = TabTable.of(file, lines);
      for (TabTable.Row row : table.rows()) {
        String folder = table.optional(row, "folder");
        String id = folder.isEmpty() ? table.optional(row, "wnid") : folder;
        String name = table.optional(row, "name");
        if (id.isEmpty() && name.isEmpty()) {
          throw TacoException.data(
              file
                  + ":"
                  + row.number()
                  + ": none of the columns folder, wnid and name has a value");
        }
        labels.add(
            new Label(table.requiredIndex(row, "model_index"), id, name.isEmpty() ? id : name));
      }
    } else {
      for (int i = 0; i < lines.size(); i++) {
        String line = lines.get(i).strip();
        Matcher synset = SYNSET_LINE.matcher(line);
        labels.add(
            synset.matches()
                ? new Label(i, synset.group(1), synset.group(2))
                : new Label(i, "", line));
      }
    }
    if (labels.isEmpty()) {
      throw TacoException.data(file + ": there are no labels in it");
    }
    if (!TabTable.hasColumn(lines, "model_index") && labels.size() != outputs) {
      throw TacoException.data(
          file
              + ": has "
              + labels.size()
              + " lines, the model has "
              + outputs
              + " outputs; give a line for each output in order, or a table (parted by tabs) with"
              + " the columns model_index and folder");
    }
    return new LabelList(file, labels);
  }

  /**
   * The label whose id is {@code text}, or else the one whose name it is.
   *
   * @throws TacoException of kind DATA when two labels have that name
   */
  public Optional<Label> find(String text) {
    for (Label label : labels) {
      if (label.id().equals(text)) {
        return Optional.of(label);
      }
    }
    List<Label> named = labels.stream().filter(label -> label.name().equals(text)).toList();
    if (named.size() > 1) {
      throw TacoException.data(
          source
              + ": the name '"
              + text
              + "' stands for the outputs "
              + named.get(0).modelIndex()
              + " and "
              + named.get(1).modelIndex()
              + "; say which is meant in a classes.tsv beside the folders");
    }
    return named.stream().findFirst();
  }
}
