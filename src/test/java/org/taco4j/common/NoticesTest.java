package org.taco4j.common;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class NoticesTest {
  @Test
  void whatHasBeenSaidIsNotSaidAgain() {
    List<Notice> heard = new ArrayList<>();
    Notices notices = new Notices(heard::add);
    notices.add("image-skipped", "a.png", "unreadable", 1);
    notices.add("image-skipped", "b.png", "unreadable", 1);
    notices.add(new Notice("image-skipped", "a.png", "unreadable", 1));
    assertEquals(List.of("a.png", "b.png"), notices.list().stream().map(Notice::subject).toList());
    assertEquals(notices.list(), heard);
  }
}
