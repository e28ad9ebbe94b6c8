package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.Recipe;
import org.taco4j.RecipeStage;
import picocli.CommandLine;
import picocli.CommandLine.Model.OptionSpec;

/** What the command line says of itself: help, examples, colours, completion, suggestions. */
class HelpTest {
  @TempDir Path folder;

  @AfterEach
  void noTerminal() {
    System.clearProperty(Terminal.STREAMS);
    System.clearProperty(Terminal.COLUMNS);
    System.clearProperty(Terminal.COMMAND);
  }

  /** The names of all commands but picocli's own. */
  static List<String> commands() {
    return Main.commandLine().getSubcommands().keySet().stream()
        .filter(name -> !name.equals("help"))
        .toList();
  }

  private static CommandLine command(String name) {
    return Main.commandLine().getSubcommands().get(name);
  }

  /** The lines of a command's help that are examples, without what comes before the program. */
  private static List<String> examples(CommandLine command) {
    String start = command.getCommandSpec().qualifiedName();
    return command
        .getHelp()
        .footer()
        .lines()
        .filter(line -> line.contains(start))
        .map(line -> line.substring(line.indexOf(start)))
        .toList();
  }

  @ParameterizedTest
  @MethodSource("commands")
  void everyOptionIsDescribedAndTheExamplesParse(String name) {
    CommandLine command = command(name);
    assertFalse(String.join("", command.getCommandSpec().usageMessage().description()).isEmpty());
    for (CommandLine.Model.ArgSpec argument : command.getCommandSpec().args()) {
      assertTrue(
          String.join("", argument.description()).length() > 3, name + " " + argument.paramLabel());
    }
    List<String> examples = examples(command);
    assertFalse(examples.isEmpty(), name);
    for (String example : examples) {
      String line = example.replaceFirst("( >.*|\\)+)$", "");
      List<String> words = new ArrayList<>(Arrays.asList(line.split(" ")));
      words.removeFirst();
      // Throws for an option that there is not, or one that is needed and missing.
      Main.commandLine().parseArgs(words.toArray(String[]::new));
    }
  }

  @ParameterizedTest
  @MethodSource("commands")
  void aCommandWithoutWhatItNeedsShowsHowToUseIt(String name) {
    boolean needsNothing =
        command(name).getCommandSpec().args().stream().noneMatch(argument -> argument.required());
    if (needsNothing) {
      assertFalse(command(name).getHelp().footer().isEmpty());
      return;
    }
    Cli.Result result = Cli.run(name);
    assertEquals(2, result.exitCode());
    assertTrue(result.err().contains("usage: taco " + name), result.err());
    assertTrue(result.err().contains("such as: taco " + name), result.err());
  }

  @Test
  void nothingAtAllGetsTheOverview() {
    Cli.Result result = Cli.run();
    assertEquals(2, result.exitCode());
    assertTrue(result.err().contains("Commands:") && result.err().contains("Examples:"));
  }

  @Test
  void optionsOfSpecializeStandUnderTheStagesOfRecipes() {
    CommandLine specialize = command("specialize");
    Map<String, List<OptionSpec>> groups = GroupedOptions.of(specialize.getCommandSpec().options());
    String help = specialize.getUsageMessage();
    for (RecipeStage stage : RecipeStage.values()) {
      String heading = stage.title().substring(0, 1).toUpperCase(java.util.Locale.ROOT);
      assertTrue(help.contains("\n" + heading + stage.title().substring(1) + ":\n"), stage.title());
      for (String key : stage.keys()) {
        // The model is a parameter, and rules for layers are for files only.
        if (!List.of("model", "layers").contains(key)) {
          assertTrue(
              groups.get(stage.title()).stream().anyMatch(o -> o.longestName().equals("--" + key)),
              key);
        }
      }
    }
    assertEquals(
        specialize.getCommandSpec().options().size(),
        groups.values().stream().mapToInt(List::size).sum());
    assertTrue(help.indexOf("--sparsity") < help.indexOf("--solver"));
    assertTrue(help.contains("[MODEL]"));
  }

  @Test
  void theProgramIsCalledAsItWasStarted() {
    System.setProperty(Terminal.COMMAND, "./taco");
    for (String name : commands()) {
      assertTrue(
          command(name).getUsageMessage().contains("Usage: ./taco " + name),
          command(name).getUsageMessage());
    }
    assertTrue(Cli.run("evla").err().contains("Did you mean: ./taco eval"), "commands");
    assertEquals("see `./taco inspect`", Terminal.inUsersWords("see `taco inspect`"));
  }

  @Test
  void helpIsAsWideAsTheTerminalWithinLimits() {
    for (var width : Map.of("80", 80, "300", 100, "0", 100, "20", 55).entrySet()) {
      System.setProperty(Terminal.COLUMNS, width.getKey());
      String help = command("solve").getUsageMessage();
      String options = help.substring(0, help.indexOf("\nExample"));
      assertTrue(options.lines().allMatch(line -> line.length() <= width.getValue()), help);
    }
  }

  @Test
  void coloursAreForTerminals() {
    Map<String, String> plain = Map.of("TERM", "xterm");
    assertFalse(Terminal.ansi(Terminal.Stream.ERR, plain).enabled());
    System.setProperty(Terminal.STREAMS, "2");
    assertTrue(Terminal.ansi(Terminal.Stream.ERR, plain).enabled());
    assertFalse(Terminal.ansi(Terminal.Stream.OUT, plain).enabled());
    assertFalse(
        Terminal.ansi(Terminal.Stream.ERR, Map.of("TERM", "xterm", "NO_COLOR", "1")).enabled());
    assertTrue(
        Terminal.ansi(Terminal.Stream.ERR, Map.of("TERM", "xterm", "NO_COLOR", "")).enabled());
    assertFalse(Terminal.ansi(Terminal.Stream.ERR, Map.of("TERM", "dumb")).enabled());
  }

  @Test
  void recipesAreListedAndPrinted() throws IOException {
    String list = Cli.run("recipes").succeeded().out();
    String text = Cli.run("recipes", "taco-tmlr").succeeded().out();
    assertTrue(list.contains("2:4-tensorrt") && list.contains("taco-tmlr"), list);
    Path saved = Files.writeString(folder.resolve("mine.yaml"), text);
    assertEquals("taco-tmlr", Recipe.read(saved).tune(), "what is printed can be run");
    Cli.Result unknown = Cli.run("recipes", "taco-tmrl");
    assertEquals(2, unknown.exitCode());
    assertTrue(unknown.err().contains("did you mean 'taco-tmlr'?"), unknown.err());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "specialize m.onnx --sparcity 0.5 --out o | --sparsity",
        "specialise | specialize",
        "specialize m.onnx --data . --solver fats --sparsity 0.5 --out o | did you mean 'fast'?",
        "specialize m.onnx --data . --sparsity 60 --out o | 60 % are 0.6",
        "specialize m.onnx --data . --sparsity x --out o | is no number",
      })
  void slipsGetASuggestion(String arguments, String suggestion) {
    Cli.Result result = Cli.run((Object[]) arguments.split(" "));
    assertEquals(2, result.exitCode());
    assertTrue(result.err().contains(suggestion), result.err());
  }

  /** What bash would offer for the last of these words. */
  private List<String> completions(Path script, String... words) throws Exception {
    String array = String.join(" ", Arrays.stream(words).map(word -> "'" + word + "'").toList());
    Process bash =
        new ProcessBuilder(
                "bash",
                "-c",
                "source "
                    + script
                    + "; COMP_WORDS=("
                    + array
                    + "); COMP_CWORD="
                    + (words.length - 1)
                    + "; _complete_taco; printf '%s\\n' \"${COMPREPLY[@]}\"")
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .start();
    String printed = new String(bash.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(bash.waitFor(20, TimeUnit.SECONDS));
    return printed.lines().map(String::strip).toList();
  }

  @Test
  void bashCompletesCommandsOptionsAndTheirWords() throws Exception {
    assumeTrue(Files.isExecutable(Path.of("/bin/bash")), "no bash here");
    Path script = folder.resolve("completion.sh");
    Files.writeString(script, Cli.run("completion").succeeded().out());
    assertTrue(completions(script, "./taco", "spec").contains("specialize"));
    assertTrue(completions(script, "taco", "specialize", "--tune-p").contains("--tune-passes"));
    assertTrue(completions(script, "taco", "specialize", "--solver", "").contains("hybrid"));
    assertEquals(
        List.of("taco-v1", "taco-tmlr"),
        completions(script, "taco", "specialize", "--tune", "taco"));
    assertTrue(
        completions(script, "taco", "specialize", "--search", "")
            .containsAll(List.of("none", "swap", "full")),
        "each option has words of its own");
    Path file = Files.createFile(folder.resolve("own.yaml"));
    assertEquals(
        List.of(file.toString()),
        completions(script, "taco", "specialize", "--recipe", folder.resolve("ow").toString()));
    assertTrue(
        completions(script, "taco", "specialize", "--recipe", "int").contains("int8-block4"));
    assertTrue(completions(script, "taco", "recipes", "int").contains("int8-block4"));
  }
}
