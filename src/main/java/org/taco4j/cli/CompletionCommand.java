package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.AutoComplete;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;

/** {@code taco completion}. */
@Command(
    name = "completion",
    description = {
      "Print a script that lets bash and zsh complete commands, options and their values.",
      "For this shell, source it as below; for all shells, put that line into ~/.bashrc (in"
          + " ~/.zshrc after `autoload -U compinit bashcompinit; compinit; bashcompinit`).",
    },
    mixinStandardHelpOptions = true,
    footer = {
      "",
      "Examples:",
      "  source <(${ROOT-COMMAND-NAME} completion)",
      "  ${ROOT-COMMAND-NAME} completion > taco-completion.sh",
    })
final class CompletionCommand implements Callable<Integer> {
  /** Shells look a command up by its last name, so that ./taco is completed as well. */
  private static final String NAME = "taco";

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = Objects.requireNonNull(spec).commandLine().getOut();
    CommandLine all = Main.commandLine().setCommandName(NAME);
    all.getSubcommands().values().forEach(CompletionCommand::labelByName);
    out.print(withFilesForRecipes(AutoComplete.bash(NAME, all)));
    out.flush();
    return 0;
  }

  /**
   * Picocli's script keeps the words of an option in a variable that is named after the label of
   * its value, which several options share: NAME, HOW. So each gets its own.
   */
  private static void labelByName(CommandLine command) {
    CommandSpec spec = command.getCommandSpec();
    for (OptionSpec option : List.copyOf(spec.options())) {
      if (option.completionCandidates() != null) {
        spec.remove(option);
        spec.addOption(OptionSpec.builder(option).paramLabel(option.longestName()).build());
      }
    }
  }

  /** An option of words has no files in picocli's script; {@code --recipe} takes both. */
  private static String withFilesForRecipes(String script) {
    return script.replaceFirst(
        "(local recipe_option_args=\\([^)]*)\\)",
        "$1 \\$(compgen -f -- \"\\${COMP_WORDS[COMP_CWORD]}\"))");
  }
}
