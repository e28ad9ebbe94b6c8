package org.taco4j.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.taco4j.RecipeStage;
import picocli.CommandLine;
import picocli.CommandLine.Help;
import picocli.CommandLine.IHelpSectionRenderer;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Model.PositionalParamSpec;
import picocli.CommandLine.Model.UsageMessageSpec;

/** The options of a command whose options are the keys of recipes, under the stages of these. */
final class GroupedOptions {
  private static final String OTHERS = "output and help";

  /** What is asked for most comes first, which is not the order in which it is done. */
  private static final List<RecipeStage> ORDER =
      List.of(
          RecipeStage.TASK,
          RecipeStage.REMOVE,
          RecipeStage.SOLVER,
          RecipeStage.RECONSTRUCTION,
          RecipeStage.TUNING,
          RecipeStage.EXPORT,
          RecipeStage.TRANSFER,
          RecipeStage.COMPARISON,
          RecipeStage.PREPROCESSING,
          RecipeStage.MACHINE);

  private GroupedOptions() {}

  /** The options by the title of their group, in the order of the help. */
  static Map<String, List<OptionSpec>> of(List<OptionSpec> options) {
    Map<String, List<OptionSpec>> groups = new LinkedHashMap<>();
    List<OptionSpec> rest = new ArrayList<>(options);
    for (RecipeStage stage : ORDER) {
      List<OptionSpec> group =
          stage.keys().stream()
              .flatMap(key -> options.stream().filter(o -> o.longestName().equals("--" + key)))
              .toList();
      groups.put(stage.title(), group);
      rest.removeAll(group);
      if (stage == RecipeStage.TASK) {
        groups.put(OTHERS, rest);
      }
    }
    groups.values().removeIf(List::isEmpty);
    return groups;
  }

  /** Shows the options of a command in groups, its parameters with the first of them. */
  static void group(CommandLine commandLine) {
    Map<String, IHelpSectionRenderer> sections = commandLine.getHelpSectionMap();
    sections.put(UsageMessageSpec.SECTION_KEY_PARAMETER_LIST, help -> "");
    sections.put(UsageMessageSpec.SECTION_KEY_OPTION_LIST, GroupedOptions::render);
  }

  private static String render(Help help) {
    StringBuilder text = new StringBuilder();
    of(help.commandSpec().options())
        .forEach(
            (title, options) -> {
              List<PositionalParamSpec> parameters =
                  title.equals(RecipeStage.TASK.title())
                      ? help.commandSpec().positionalParameters()
                      : List.of();
              Help.Layout layout =
                  help.createDefaultLayout(options, parameters, help.colorScheme());
              layout.addPositionalParameters(parameters, help.createDefaultParamLabelRenderer());
              layout.addOptions(options, help.createDefaultParamLabelRenderer());
              String heading = Character.toUpperCase(title.charAt(0)) + title.substring(1);
              text.append(help.colorScheme().ansi().string("%n@|bold %s:|@%n".formatted(heading)));
              text.append(layout);
            });
    return text.toString();
  }
}
