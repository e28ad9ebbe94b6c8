package org.taco4j.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class VerdictTest {
  @Test
  void saysNothingWhereTheIntervalsMeet() {
    assertEquals(List.of(), Verdict.of(Reports.at(0.9, 0.93, Map.of(), "model.onnx")));
  }

  @Test
  void saysWhatWasLostAndWhatToTry() {
    List<String> sentences = Verdict.of(Reports.at(0.9, 0.70, Map.of(), "model.onnx"));
    assertEquals(1, sentences.size(), sentences.toString());
    assertTrue(sentences.getFirst().contains("cost 25.0 points"), sentences.toString());
    assertTrue(sentences.getFirst().contains("--tune taco-tmlr"), sentences.toString());
  }

  @Test
  void saysThatTensorRtWasNotMeasured() {
    List<String> sentences =
        Verdict.of(Reports.at(0.9, 0.93, Map.of("runtime", "tensorrt"), "model.onnx"));
    assertEquals(1, sentences.size(), sentences.toString());
    assertTrue(sentences.getFirst().contains("bench model.onnx"), sentences.toString());
  }

  @Test
  void saysNothingOfWhatWasNotMeasured() {
    assertEquals(List.of(), Verdict.of(Reports.bare()));
  }
}
