"""The command line. One module per command, imported when the command is used."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from tina_harness import __version__
from tina_harness.errors import TinaError, did_you_mean

# name -> (module, one line of help). The help is here so that `tina --help` imports no command.
COMMANDS = {
    "run": ("run", "Train a model with LoRA and RL, evaluate it, and show the table."),
    "sweep": ("sweep", "Run every combination of some values, and show one table."),
    "resume": ("resume", "Continue a run that was interrupted or killed."),
    "eval": ("eval", "Evaluate a model, or a checkpoint of a run, on benchmarks."),
    "compare": ("compare", "Compare two evaluated models, problem by problem."),
    "samples": ("samples", "Page through what a model wrote in an evaluation."),
    "data": ("data", "Audit datasets, and find what they share with benchmarks."),
    "grade": ("grade", "Grade answers against golds, and show how each verdict came about."),
    "list": ("list", "List what can be named: datasets, rewards, algorithms, ..."),
    "show": ("show", "Show what a name is and where it came from."),
    "export": ("export", "Write what is defined here for other tools, such as lighteval."),
    "mirror": ("mirror", "Copy datasets, benchmarks and models for a machine without network."),
    "runs": ("runs", "List the runs."),
    "merge": ("merge", "Put a run's adapter into its model's weights."),
    "publish": ("publish", "Upload a run's result to the hub, with a model card."),
    "bench": ("bench", "Measure how fast this machine trains."),
    "cost": ("cost", "What runs cost, by phase, beside published costs."),
    "leaderboard": ("leaderboard", "Rank everything that was evaluated, with intervals."),
    "doctor": ("doctor", "Check this machine: packages, GPU, disk, hub, plugins."),
}


class TinaGroup(click.Group):
    """Loads a command's module, and third-party plugins' commands, only when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in commands first, in the order of a user's day."""
        _add_plugin_commands(self, ctx)
        return [*COMMANDS, *sorted(set(self.commands) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, imported now; plugins are asked for names that are not built in."""
        if name in COMMANDS and name not in self.commands:
            module = importlib.import_module(f"tina_harness.cli.{COMMANDS[name][0]}")
            self.add_command(module.command, name)
        if name not in self.commands:
            _add_plugin_commands(self, ctx)
        return self.commands.get(name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click, with the nearest command in the error."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            hint = did_you_mean(args[0], self.list_commands(ctx), "'tina --help' lists the commands")
            raise TinaError(f"there is no command '{args[0]}'", hint) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing the built-in ones."""
        rows = []
        for name in self.list_commands(ctx):
            if name in COMMANDS:
                rows.append((name, COMMANDS[name][1]))
            elif command := self.get_command(ctx, name):
                rows.append((name, command.get_short_help_str(70)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _add_plugin_commands(group: click.Group, ctx: click.Context) -> None:
    """Let third-party plugins add commands. The built-in plugins have none."""
    from tina_harness.discovery import discover

    if ctx.meta.get("tina.plugin_commands") or all(p.distribution == "tina-harness" for p in discover()):
        return
    ctx.meta["tina.plugin_commands"] = True
    from tina_harness import registry

    loaded = registry.load((ctx.params or {}).get("no_plugin") or ())
    for warning in loaded.notify("tina_commands", cli=group):
        click.echo(f"warning: {warning}", err=True)


@click.group(
    cls=TinaGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="tina")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--no-plugin", multiple=True, metavar="NAME", help="Leave a plugin out. May be repeated.")
@click.pass_context
def cli(ctx: click.Context, debug: bool, no_plugin: tuple[str, ...]) -> None:
    """Train and evaluate tiny reasoning models with LoRA and reinforcement learning.

    \b
    Examples:
      tina run                                  no GPU, no network: the embedded default
      tina run --dataset limr --algo drgrpo     a recipe of the paper, by names
      tina leaderboard
    """
    if no_plugin:
        before = os.environ.get("TINA_DISABLE_PLUGINS", "")
        os.environ["TINA_DISABLE_PLUGINS"] = ",".join(filter(None, [before, *no_plugin]))


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit. Errors are sentences; `--debug` shows where they come from."""
    arguments = sys.argv[1:] if args is None else args
    debug = "--debug" in arguments
    try:
        result = cli.main(args=arguments, prog_name="tina", standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except TinaError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _unexpected(error)


def _unexpected(error: Exception) -> None:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        click.echo(f"error: the disk is full: {error.filename or os.getcwd()}", err=True)
    else:
        first = str(error).strip().splitlines()
        click.echo(f"error: {type(error).__name__}: {first[0] if first else '(no message)'}", err=True)
        click.echo("  this was not expected; 'tina --debug ...' shows where it comes from", err=True)
    sys.exit(1)
