package org.taco4j;

import java.util.regex.Pattern;

/**
 * A shell pattern over layer names: {@code *} is any text, slashes and dots included, {@code ?} one
 * character; everything else stands for itself. A leading slash of a name may be left out.
 */
final class Glob {
  private final String text;
  private final Pattern pattern;

  Glob(String text) {
    this.text = text;
    StringBuilder regex = new StringBuilder();
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      regex.append(
          switch (c) {
            case '*' -> ".*";
            case '?' -> ".";
            default -> Pattern.quote(String.valueOf(c));
          });
    }
    this.pattern = Pattern.compile(regex.toString(), Pattern.DOTALL);
  }

  boolean matches(String name) {
    return pattern.matcher(name).matches()
        || (name.startsWith("/") && pattern.matcher(name.substring(1)).matches());
  }

  @Override
  public String toString() {
    return text;
  }
}
