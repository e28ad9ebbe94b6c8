package org.taco4j;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/** Memory sizes as people write them: {@code 512m}, {@code 4g}, {@code 4GiB}, plain bytes. */
final class MemorySize {
  private static final Pattern SYNTAX = Pattern.compile("(\\d+(?:\\.\\d+)?)\\s*([kmgt]?)(?:i?b)?");

  private MemorySize() {}

  /**
   * Reads a size; k, m, g and t are powers of 1024.
   *
   * @param option what it was given by, for the message
   * @throws TacoException of kind USAGE when it is none, or 0
   */
  static long parse(String text, String option) {
    Matcher matcher = SYNTAX.matcher(text.strip().toLowerCase(Locale.ROOT));
    if (!matcher.matches()) {
      throw TacoException.usage(
          option + ": '" + text + "' is no memory size; write it as 512m or 4g");
    }
    int power = "kmgt".indexOf(matcher.group(2)) + 1;
    double bytes =
        Double.parseDouble(matcher.group(1))
            * Math.pow(1024, matcher.group(2).isEmpty() ? 0 : power);
    if (bytes < 1 || bytes > Long.MAX_VALUE / 2.0) {
      throw TacoException.usage(option + ": a memory size of '" + text + "' cannot be meant");
    }
    return (long) bytes;
  }

  /**
   * The memory of GPUs that is meant by {@code --gpu-memory}: 0 where it is not given.
   *
   * @throws TacoException of kind USAGE where the backend uses no GPU, too
   */
  static long ofGpu(@Nullable String text, String backend) {
    if (text == null) {
      return 0;
    }
    if (!backend.equals("cuda")) {
      throw TacoException.usage("--gpu-memory is for --backend cuda; the backend is " + backend);
    }
    return parse(text, "--gpu-memory");
  }

  /** The default for Gram matrices: a third of the heap that the JVM may use. */
  static long defaultBytes() {
    return Runtime.getRuntime().maxMemory() / 3;
  }
}
