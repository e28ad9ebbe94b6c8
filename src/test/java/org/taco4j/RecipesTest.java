package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.common.TacoException;
import org.taco4j.tune.TuneSettings;

/** The presets, recipes that build on others, and what is wrong with a recipe. */
class RecipesTest {
  @TempDir Path folder;

  static List<String> names() {
    return Recipes.names();
  }

  private static Recipe withTask(Recipe recipe) {
    return recipe.with("model", "m.onnx").with("data", List.of("images"));
  }

  private static String refusal(org.junit.jupiter.api.function.Executable executable) {
    TacoException e = assertThrows(TacoException.class, executable);
    assertEquals(TacoException.Kind.USAGE, e.kind());
    return String.valueOf(e.getMessage());
  }

  private Path file(String name, String yaml) throws IOException {
    return Files.writeString(folder.resolve(name), yaml);
  }

  @ParameterizedTest
  @MethodSource("names")
  void everyPresetExplainsItselfAndCanBeRun(String name) {
    String text = Recipes.text(name);
    String comments =
        String.join("\n", text.lines().takeWhile(line -> line.startsWith("#")).toList());
    for (String part : List.of("Source:", "What it is good for:", "What is faster:")) {
      assertTrue(comments.contains(part), name + " says: " + part);
    }
    assertTrue(Recipes.summary(name).length() > 20, Recipes.summary(name));
    Recipe preset = withTask(Recipes.named(name));
    Recipe resolved =
        (preset.pattern() != null && preset.pattern().equals("2:4")
                ? preset
                : preset.with("sparsity", 0.5))
            .resolved();
    assertEquals(resolved, resolved.resolved(), "what a run writes runs again");
    assertEquals(
        withTask(Recipe.empty().with("recipe", name).with("pattern", "2:4")).resolved(),
        withTask(Recipes.named(name)).with("pattern", "2:4").resolved(),
        "the key and the option are one");
  }

  @Test
  void thePapersSettingsAreThoseOfTheTuner() {
    TuneSettings v1 = TuneSettings.tacoV1();
    Recipe first = Recipes.named("taco-v1");
    assertEquals(v1.passes(), first.tunePasses());
    assertEquals(v1.optimizer().learningRate(), first.tuneRate());
    TuneSettings tmlr = TuneSettings.tacoTmlr();
    Recipe second = Recipes.named("taco-tmlr");
    assertEquals(tmlr.passes(), second.tunePasses());
    assertEquals(tmlr.optimizer().learningRate(), second.tuneRate());
    assertEquals(tmlr.augmentation().orElseThrow().minScale(), second.tuneCrop());
  }

  @Test
  void aRecipeGoesBeforeTheOneItBuildsOn() throws IOException {
    Path lower = file("lower.yaml", "recipe: taco-tmlr\ntune-passes: 6\nshots: 3\n");
    Path upper = file("upper.yaml", "recipe: " + lower + "\nshots: 5\nsparsity: 0.7\n");
    Recipe resolved =
        withTask(Recipe.read(upper)).overlaidWith(Recipe.empty().with("seed", 4L)).resolved();
    assertEquals("taco-tmlr", resolved.tune());
    assertEquals(6, resolved.tunePasses());
    assertEquals(5, resolved.shots());
    assertEquals(4L, resolved.seed());
    assertEquals("unstructured:0.7", resolved.pattern());
  }

  @Test
  void recipesInACircleAreRefused() throws IOException {
    Path a = folder.resolve("a.yaml");
    Path b = file("b.yaml", "recipe: " + a + "\n");
    Files.writeString(a, "recipe: " + b + "\nsparsity: 0.5\n");
    String message = refusal(() -> withTask(Recipe.read(a)).resolved());
    assertTrue(message.contains("circle") && message.contains("b.yaml"), message);
  }

  @Test
  void anUnknownNameListsThosePresent() {
    String message = refusal(() -> Recipes.named("taco-tmrl"));
    assertTrue(message.contains("no such file"), message);
    assertTrue(message.contains("did you mean 'taco-tmlr'?"), message);
    assertTrue(message.contains("int8-block4"), message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '"',
      value = {
        "sparsity: 0.5\\nshot: 3 | line 2 | no key 'shot' (did you mean 'shots'?)",
        "shots: many | line 1 | 'shots' takes a whole number, not 'many'",
        "seed: 1\\n\\nsparsity: [1] | line 3 | 'sparsity' takes a number",
        "layers:\\n- match: a\\n- mach: b\\n  solver: obc | line 3 | no key 'layers[1].mach' (did you mean 'match'?)",
        "shots: 3\\nshots: 4 | line 2 | shots",
        "just words | line 1 | no recipe",
        "a: [b | line 1 | no recipe",
      })
  void whatIsWrongIsSaidWithItsLine(String yaml, String line, String what) throws IOException {
    Path file = file("wrong.yaml", yaml.replace("\\n", "\n") + "\n");
    String message = refusal(() -> Recipe.read(file));
    assertTrue(message.startsWith(file + ", " + line + ": "), message);
    assertTrue(message.contains(what), message);
  }

  @Test
  void stagesNameEveryKeyOnceInTheOrderOfTheRecipe() {
    List<String> components =
        Arrays.stream(Recipe.class.getRecordComponents())
            .map(RecordComponent::getName)
            .map(name -> name.replaceAll("([A-Z])", "-$1").toLowerCase(java.util.Locale.ROOT))
            .toList();
    assertEquals(
        components,
        Arrays.stream(RecipeStage.values()).flatMap(stage -> stage.keys().stream()).toList());
  }

  @Test
  void aResolvedRecipeIsCompleteAndInOrder() throws IOException {
    Recipe resolved =
        withTask(Recipes.named("taco-tmlr"))
            .with("sparsity", 0.5)
            .with("structured", 0.25)
            .with("bits", 8)
            .with("finetune-passes", 2)
            .resolved();
    assertNotNull(resolved.finetuneRate());
    assertEquals(List.of("mlp", "channels"), resolved.structures());
    assertEquals(0, resolved.sweeps());
    String yaml = resolved.toYaml();
    List<String> headings =
        yaml.lines().filter(line -> line.startsWith("# ")).map(line -> line.substring(2)).toList();
    assertEquals(
        List.of(
            "task and images",
            "transfer",
            "what to remove",
            "solver",
            "reconstruction",
            "tuning",
            "what it is written for",
            "this machine"),
        headings);
    assertEquals(resolved, Recipe.read(file("resolved.yaml", yaml)));
    Recipe tuned =
        withTask(Recipe.empty()).with("sparsity", 0.5).with("tune", "taco-tmlr").resolved();
    assertEquals(100, tuned.tunePasses());
    assertEquals(3e-4, tuned.tuneRate());
    assertEquals(0.25, tuned.tuneCrop());
    assertEquals(
        0.1,
        withTask(Recipe.empty()).with("sparsity", 0.5).with("tune", "probe").resolved().tuneRate());
  }
}
