package org.taco4j.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.function.Executable;
import org.taco4j.common.TacoException;

/** Errors of a kind whose message names what it should. */
final class Expect {
  private Expect() {}

  static void error(TacoException.Kind kind, Executable action, String... inMessage) {
    TacoException e = assertThrows(TacoException.class, action);
    assertEquals(kind, e.kind(), e.getMessage());
    for (String part : inMessage) {
      assertTrue(String.valueOf(e.getMessage()).contains(part), e.getMessage() + " / " + part);
    }
  }

  static void usage(Executable action, String... inMessage) {
    error(TacoException.Kind.USAGE, action, inMessage);
  }

  static void data(Executable action, String... inMessage) {
    error(TacoException.Kind.DATA, action, inMessage);
  }
}
