package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notice;
import org.taco4j.common.TacoException;
import org.taco4j.report.RunReport;

/** The API, and the words in which it is told what to do. */
class TacoTest {
  @TempDir Path folder;

  @Test
  void specializesFromJava() {
    Path model = TinyTask.convNet(folder.resolve("conv.onnx"), TinyTask.Input.FREE);
    Path images = TinyTask.images(folder.resolve("images"), model, 8);
    List<String> stages = new ArrayList<>();
    List<String> codes = new ArrayList<>();
    Progress listener =
        new Progress() {
          @Override
          public void stage(String name, int steps) {
            stages.add(name);
          }

          @Override
          public void step(String what) {}

          @Override
          public void message(String text) {}

          @Override
          public void notice(Notice notice) {
            codes.add(notice.code());
          }
        };
    Path out = folder.resolve("out");
    RunReport report =
        Taco.specialize(model)
            .data(images)
            .classes("c0", "c2")
            .shots(3)
            .sparsity(0.75)
            .solver("wanda")
            .recipe(Recipe.empty().with("classifier", "prune"))
            .seed(2)
            .threads(1)
            .progress(listener)
            .to(out);
    assertEquals(List.of("c0", "c2"), report.task().classes());
    assertEquals(6, report.task().calibrationImages());
    assertTrue(report.sparsity() >= 0.75);
    assertTrue(stages.contains("channel correction"), stages.toString());
    assertEquals(codes, report.notices().stream().map(Notice::code).toList());
    assertTrue(Files.exists(out.resolve("model.onnx")));
  }

  @Test
  void aRecipeSurvivesYaml() throws Exception {
    String yaml =
        """
        model: m.onnx
        data:
        - a
        - b
        shots: 3
        solver: magnitude
        pattern: 2:4
        layers:
        - match: conv*
          sparsity: 0.25
        seed: 12345678901
        """;
    Path file = Files.writeString(folder.resolve("r.yaml"), yaml);
    Recipe recipe = Recipe.read(file);
    assertEquals(List.of("a", "b"), recipe.data());
    assertEquals("2:4", recipe.pattern());
    assertEquals(12345678901L, recipe.seed());
    assertEquals(recipe, Recipe.read(Files.writeString(folder.resolve("s.yaml"), recipe.toYaml())));
    Recipe resolved = recipe.resolved();
    assertEquals(
        resolved, Recipe.read(Files.writeString(folder.resolve("t.yaml"), resolved.toYaml())));
    assertEquals(resolved, resolved.resolved());
    assertEquals(
        Recipe.empty(), Recipe.read(Files.writeString(folder.resolve("u.yaml"), "# no\n")));
  }

  @Test
  void aSparsityReplacesTheFractionOfAPattern() {
    Recipe base = Recipe.empty().with("pattern", "block4:0.5");
    assertEquals("block4", base.overlaidWith(Recipe.empty().with("sparsity", 0.8)).pattern());
    Recipe named = base.with("model", "m").with("data", List.of("d"));
    assertEquals(
        "block4:0.8",
        named.overlaidWith(Recipe.empty().with("sparsity", 0.8)).resolved().pattern());
    TacoException e =
        assertThrows(
            TacoException.class,
            () -> named.with("pattern", "2:4").with("sparsity", 0.6).resolved());
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertEquals(
        "columns:0.8:group=9",
        named
            .with("pattern", "columns:0.5:group=9")
            .overlaidWith(Recipe.empty().with("sparsity", 0.8))
            .resolved()
            .pattern());
  }

  @Test
  void aPatternWithItsOwnFractionReplacesASparsity() {
    Recipe base =
        Recipe.empty().with("model", "m").with("data", List.of("d")).with("sparsity", 0.7);
    assertEquals(
        "2:4", base.overlaidWith(Recipe.empty().with("pattern", "2:4")).resolved().pattern());
    assertEquals(
        "rows4:0.7",
        base.overlaidWith(Recipe.empty().with("pattern", "rows4")).resolved().pattern());
  }

  @Test
  void optionsThatNothingWouldUseAreRefused() {
    Recipe base =
        Recipe.empty().with("model", "m").with("data", List.of("d")).with("sparsity", 0.7);
    for (Recipe useless :
        List.of(
            base.with("structures", List.of("mlp")),
            base.with("refit", "adam"),
            base.with("solver", "wanda").with("precision", "float32"))) {
      TacoException e = assertThrows(TacoException.class, useless::resolved);
      assertEquals(TacoException.Kind.USAGE, e.kind());
    }
    // A resolved recipe says the defaults of everything, and can be run again.
    assertEquals(base.resolved(), base.resolved().resolved());
  }

  @ParameterizedTest
  @CsvSource({"512m, 536870912", "4g, 4294967296", "1.5k, 1536", "4GiB, 4294967296", "100, 100"})
  void readsMemorySizes(String text, long bytes) {
    assertEquals(bytes, MemorySize.parse(text, "--memory"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "g", "-1g", "0", "1e9", "4 apples", "999999999999t"})
  void refusesWhatIsNoMemorySize(String text) {
    TacoException e =
        assertThrows(TacoException.class, () -> MemorySize.parse(text, "--gpu-memory"));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().startsWith("--gpu-memory: "), e.getMessage());
  }

  @Test
  void theBackendIsAskedForInJava() {
    TacoException e =
        assertThrows(
            TacoException.class,
            () ->
                Taco.specialize(folder.resolve("m.onnx"))
                    .data(folder)
                    .sparsity(0.5)
                    .backend("simd")
                    .gpuMemory("1g")
                    .to(folder.resolve("backend")));
    assertEquals("--gpu-memory is for --backend cuda; the backend is simd", e.getMessage());
  }

  @ParameterizedTest
  @CsvSource({
    "conv*, conv1, true",
    "conv?, conv12, false",
    "*, /layer1/conv, true",
    "layer1/*, /layer1/0/conv, true",
    "/layer1/*, /layer1/0/conv, true",
    "a.c, abc, false",
    "a[bc], a[bc], true",
    "'', conv, false",
  })
  void globsMatchWholeNames(String glob, String name, boolean matches) {
    assertEquals(matches, new Glob(glob).matches(name));
  }
}
