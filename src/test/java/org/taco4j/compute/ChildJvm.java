package org.taco4j.compute;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Predicate;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Runs a main class of the tests in a JVM of its own, for what depends on the JVM's flags. */
public final class ChildJvm {
  private ChildJvm() {}

  /**
   * How it ended.
   *
   * @param exitCode of the process
   * @param output what it printed, errors included
   */
  public record Result(int exitCode, String output) {}

  /** With this JVM's class path. */
  public static Result run(Class<?> main, List<String> flags, String... arguments) {
    return run(main, flags, entry -> true, arguments);
  }

  /** With this JVM's class path, and more in the environment. */
  public static Result run(
      Class<?> main, List<String> flags, Map<String, String> environment, String... arguments) {
    return run(main, flags, environment, entry -> entry, arguments);
  }

  /** With those entries of the class path only that {@code onClassPath} lets pass. */
  public static Result run(
      Class<?> main, List<String> flags, Predicate<String> onClassPath, String... arguments) {
    return run(main, flags, Map.of(), entry -> onClassPath.test(entry) ? entry : null, arguments);
  }

  /** With other entries in the class path, as {@code entries} changes them. */
  public static Result runWith(
      Class<?> main, List<String> flags, UnaryOperator<String> entries, String... arguments) {
    return run(main, flags, Map.of(), entries, arguments);
  }

  /** With more in the environment and other entries in the class path. */
  public static Result run(
      Class<?> main,
      List<String> flags,
      Map<String, String> environment,
      UnaryOperator<String> entries,
      String... arguments) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(flags);
    String classPath =
        Pattern.compile(File.pathSeparator, Pattern.LITERAL)
            .splitAsStream(
                System.getProperty(
                    "surefire.test.class.path", System.getProperty("java.class.path")))
            .map(entries)
            .filter(Objects::nonNull)
            .collect(Collectors.joining(File.pathSeparator));
    command.add(main.getName());
    command.addAll(List.of(arguments));
    try {
      ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
      // Not -cp: ONNX Runtime 1.29 crashes where the command line has more than 4096 bytes.
      builder.environment().put("CLASSPATH", classPath);
      builder.environment().putAll(environment);
      Process process = builder.start();
      String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      return new Result(process.waitFor(), output);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }
}
