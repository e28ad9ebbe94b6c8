package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Recipes;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;

/** {@code taco recipes}. */
@Command(
    name = "recipes",
    description = "List the recipes that come along, or print one: to read, or to save and change.",
    mixinStandardHelpOptions = true,
    footer = {
      "",
      "Examples:",
      "  ${ROOT-COMMAND-NAME} recipes",
      "  ${ROOT-COMMAND-NAME} recipes taco-tmlr > mine.yaml",
    })
final class RecipesCommand implements Callable<Integer> {
  @Parameters(
      index = "0",
      arity = "0..1",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfRecipe.class,
      description = "which to print; without one all are listed")
  @Nullable String name;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    PrintWriter out = commandLine.getOut();
    if (name == null) {
      int width = Recipes.names().stream().mapToInt(String::length).max().orElse(0);
      CommandLine.Help.TextTable table =
          CommandLine.Help.TextTable.forColumns(
              commandLine.getColorScheme(),
              new CommandLine.Help.Column(width + 2, 0, CommandLine.Help.Column.Overflow.SPAN),
              new CommandLine.Help.Column(
                  Terminal.width() - width - 2, 0, CommandLine.Help.Column.Overflow.WRAP));
      Recipes.names()
          .forEach(
              n ->
                  table.addRowValues(
                      commandLine.getColorScheme().commandText(n),
                      commandLine.getColorScheme().text(Recipes.summary(n))));
      out.print(table);
      out.printf(
          "%nuse one:     %1$s specialize model.onnx --data images --recipe taco-tmlr --sparsity 0.8"
              + " --out specialist%nchange one:  %1$s recipes taco-tmlr > mine.yaml, and then"
              + " --recipe mine.yaml%n",
          Terminal.command());
    } else {
      out.print(Recipes.text(name));
    }
    out.flush();
    return 0;
  }
}
