package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.AutoComplete;
import picocli.CommandLine;
import picocli.CommandLine.Command;

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
    out.print(AutoComplete.bash(NAME, Main.commandLine().setCommandName(NAME)));
    out.flush();
    return 0;
  }
}
