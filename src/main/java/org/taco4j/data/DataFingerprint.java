package org.taco4j.data;

import java.util.List;
import java.util.stream.Collectors;
import org.taco4j.common.Sha256;

/** A hash of a set of labelled images, for the provenance in reports and models. */
public final class DataFingerprint {
  private DataFingerprint() {}

  /**
   * SHA-256 in hex over the sorted lines {@code folder/file-name SHA-256-of-the-bytes}. It does not
   * depend on where the folders lie nor on the order of {@code files}.
   *
   * @throws org.taco4j.common.TacoException of kind DATA when a file cannot be read
   */
  public static String of(List<TaskClass> classes, List<ImageFile> files) {
    return Sha256.hex(
        files.stream()
            .map(
                file ->
                    classes.get(file.classIndex()).folder()
                        + "/"
                        + file.path().getFileName()
                        + " "
                        + DataFiles.sha256(file.path())
                        + "\n")
            .sorted()
            .collect(Collectors.joining()));
  }

  /**
   * SHA-256 in hex over what a computation on the images sees: class index and bytes of each, in
   * the order of {@code files}.
   *
   * @throws org.taco4j.common.TacoException of kind DATA when a file cannot be read
   */
  public static String inOrder(List<ImageFile> files) {
    return Sha256.hex(
        files.stream()
            .map(file -> file.classIndex() + " " + DataFiles.sha256(file.path()) + "\n")
            .collect(Collectors.joining()));
  }
}
