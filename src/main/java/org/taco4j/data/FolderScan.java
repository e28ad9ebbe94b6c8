package org.taco4j.data;

import java.io.IOException;
import java.nio.file.FileVisitOption;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;

/**
 * Looks at data folders: which classes there are, what stands in {@code classes.tsv}, and files.
 */
final class FolderScan {
  private static final String CLASSES_TABLE = "classes.tsv";
  static final List<String> TRAIN_NAMES = List.of("train", "calibration");
  static final List<String> TEST_NAMES = List.of("test", "val", "valid", "validation");
  private static final Set<String> IMAGE_EXTENSIONS = Set.of("jpg", "jpeg", "png", "webp", "bmp");

  private FolderScan() {}

  /** What the images of a folder are for. */
  enum Part {
    TRAIN,
    TEST,
    /** Not said: to be split into the other two. */
    UNSPLIT
  }

  /**
   * A line of {@code classes.tsv}.
   *
   * @param table the file
   * @param modelIndex position in the model's output
   * @param name for people
   */
  record Listed(Path table, int modelIndex, String name) {}

  /**
   * A class folder of one root.
   *
   * @param root the data folder it was found in
   * @param path the folder
   * @param part what its images are for
   */
  record ClassFolder(Path root, Path path, Part part) {}

  /**
   * A class, over all roots.
   *
   * @param folder its name
   * @param listed its line in a {@code classes.tsv}, if there is one
   * @param folders where its images are; empty if it is only listed
   */
  record Found(String folder, Optional<Listed> listed, List<ClassFolder> folders) {}

  /**
   * The classes in {@code roots} by folder name, sorted; the same name in two roots is one class.
   */
  static Map<String, Found> classes(List<Path> roots, Notices notices) {
    Map<String, Found> all = new TreeMap<>();
    for (Path root : roots) {
      for (Found found : classesIn(root, notices)) {
        all.merge(found.folder(), found, FolderScan::merge);
      }
    }
    return all;
  }

  private static Found merge(Found a, Found b) {
    if (a.listed().isPresent() && b.listed().isPresent()) {
      Listed first = a.listed().get();
      Listed second = b.listed().get();
      if (first.modelIndex() != second.modelIndex()) {
        throw TacoException.data(
            "the class folder '"
                + a.folder()
                + "' has the model_index "
                + first.modelIndex()
                + " in "
                + first.table()
                + " and "
                + second.modelIndex()
                + " in "
                + second.table());
      }
    }
    return new Found(
        a.folder(),
        a.listed().or(b::listed),
        Stream.concat(a.folders().stream(), b.folders().stream()).toList());
  }

  private static List<Found> classesIn(Path root, Notices notices) {
    if (!Files.isDirectory(root)) {
      throw TacoException.data(
          root
              + ": there is no such folder; --data takes one that has a folder of images for each class");
    }
    Map<String, List<ClassFolder>> folders = classFolders(root, notices);
    Path table = root.resolve(CLASSES_TABLE);
    if (folders.isEmpty()) {
      throw TacoException.data(
          root
              + ": there are no class folders in it; put the images of each class into a folder of"
              + " its own, such as "
              + root.resolve("cat").resolve("1.jpg")
              + ", or these into train/ and test/");
    }
    List<Found> found = new ArrayList<>();
    if (!Files.exists(table)) {
      folders.forEach((name, at) -> found.add(new Found(name, Optional.empty(), at)));
      return found;
    }
    Map<String, Listed> listed = readTable(table);
    listed.forEach(
        (name, line) ->
            found.add(new Found(name, Optional.of(line), folders.getOrDefault(name, List.of()))));
    List<String> unlisted =
        folders.keySet().stream().filter(name -> !listed.containsKey(name)).toList();
    if (!unlisted.isEmpty()) {
      notices.add(
          "folders-ignored",
          root.toString(),
          unlisted.size()
              + " class folders are not listed in "
              + table
              + " and are ignored: "
              + String.join(", ", unlisted.subList(0, Math.min(5, unlisted.size())))
              + (unlisted.size() > 5 ? ", …" : ""),
          unlisted.size());
    }
    return found;
  }

  private static Map<String, Listed> readTable(Path file) {
    TabTable table = TabTable.of(file, DataFiles.lines(file));
    Map<String, Listed> listed = new TreeMap<>();
    for (TabTable.Row row : table.rows()) {
      String folder = table.required(row, "folder");
      String name = table.optional(row, "name");
      Listed line =
          new Listed(file, table.requiredIndex(row, "model_index"), name.isEmpty() ? folder : name);
      if (listed.put(folder, line) != null) {
        throw TacoException.data(
            file + ":" + row.number() + ": the folder '" + folder + "' is listed twice");
      }
    }
    if (listed.isEmpty()) {
      throw TacoException.data(file + ": no class is listed in it");
    }
    return listed;
  }

  private static Map<String, List<ClassFolder>> classFolders(Path root, Notices notices) {
    List<Path> children = subfolders(root);
    Path train = splitFolder(root, children, TRAIN_NAMES, notices);
    Path test = splitFolder(root, children, TEST_NAMES, notices);
    Map<String, List<ClassFolder>> folders = new TreeMap<>();
    if (train == null && test == null) {
      addAll(folders, root, children, Part.UNSPLIT);
      return folders;
    }
    if (train != null) {
      addAll(folders, root, subfolders(train), test == null ? Part.UNSPLIT : Part.TRAIN);
    }
    if (test != null) {
      addAll(folders, root, subfolders(test), Part.TEST);
    }
    for (Path child : children) {
      if (!isOneOf(TRAIN_NAMES, child) && !isOneOf(TEST_NAMES, child)) {
        ignored(child, "it lies beside the train and test folders", notices);
      }
    }
    return folders;
  }

  private static void addAll(
      Map<String, List<ClassFolder>> folders, Path root, List<Path> paths, Part part) {
    for (Path path : paths) {
      folders
          .computeIfAbsent(name(path), name -> new ArrayList<>())
          .add(new ClassFolder(root, path, part));
    }
  }

  /** The first of {@code names} that is there and holds folders; the others are noted. */
  private static @Nullable Path splitFolder(
      Path root, List<Path> children, List<String> names, Notices notices) {
    Path chosen = null;
    for (String name : names) {
      for (Path child : children) {
        // A class may be called "train": then the folder holds images, not folders.
        if (name(child).equals(name) && !subfolders(child).isEmpty()) {
          if (chosen == null) {
            chosen = child;
          } else {
            ignored(child, name(chosen) + " in " + root + " serves the same purpose", notices);
          }
        }
      }
    }
    return chosen;
  }

  private static void ignored(Path folder, String reason, Notices notices) {
    notices.add(
        "folders-ignored", folder.toString(), "the folder is ignored, because " + reason, 1);
  }

  private static boolean isOneOf(List<String> names, Path folder) {
    return names.contains(name(folder));
  }

  private static List<Path> subfolders(Path folder) {
    try (Stream<Path> children = Files.list(folder)) {
      return children
          .filter(child -> !isHidden(child) && Files.isDirectory(child))
          .sorted(Comparator.comparing(FolderScan::name))
          .collect(Collectors.toCollection(ArrayList::new));
    } catch (IOException e) {
      throw DataFiles.unreadable(folder, e);
    }
  }

  private static String name(Path path) {
    return String.valueOf(path.getFileName());
  }

  private static boolean isHidden(Path path) {
    return name(path).startsWith(".");
  }

  /**
   * The image files of a class, as {@link #imagesIn} finds them.
   *
   * @param ignored counts the files that are no images by their extension, by root
   * @throws TacoException of kind DATA when there is none
   */
  static List<Path> images(ClassFolder folder, Map<Path, Integer> ignored) {
    List<Path> images =
        imagesIn(folder.path(), file -> ignored.merge(folder.root(), 1, Integer::sum));
    if (images.isEmpty()) {
      throw TacoException.data(
          folder.path()
              + ": the folder of class '"
              + name(folder.path())
              + "' has no image file (jpg, jpeg, png, webp, bmp); add images, or leave the class"
              + " out");
    }
    return images;
  }

  /**
   * The image files in {@code folder} and its subfolders, by relative path in the order of UTF-16
   * units. Hidden files are passed over.
   *
   * @param ignored gets the files that are no images by their extension
   */
  static List<Path> imagesIn(Path folder, Consumer<Path> ignored) {
    Map<String, Path> images = new TreeMap<>();
    try {
      Files.walkFileTree(
          folder,
          EnumSet.of(FileVisitOption.FOLLOW_LINKS),
          Integer.MAX_VALUE,
          new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path path, BasicFileAttributes attributes) {
              return isHidden(path) && !path.equals(folder)
                  ? FileVisitResult.SKIP_SUBTREE
                  : FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFile(Path path, BasicFileAttributes attributes) {
              if (isHidden(path)) {
                return FileVisitResult.CONTINUE;
              }
              if (IMAGE_EXTENSIONS.contains(extension(path))) {
                images.put(relativeName(folder, path), path);
              } else {
                ignored.accept(path);
              }
              return FileVisitResult.CONTINUE;
            }
          });
    } catch (IOException e) {
      throw DataFiles.unreadable(folder, e);
    }
    return List.copyOf(images.values());
  }

  private static String relativeName(Path folder, Path file) {
    StringBuilder relative = new StringBuilder();
    for (Path element : folder.relativize(file)) {
      relative.append('/').append(element);
    }
    return relative.toString();
  }

  private static String extension(Path path) {
    String name = name(path);
    return name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT);
  }
}
