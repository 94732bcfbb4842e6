"""What the commands share: how errors are printed, what the exit status means, and the types of their arguments.

Loads nothing that takes time: a command imports what it works with when it runs.
"""

import errno
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from latentd.models.errors import LatentdError, UsageError
from latentd.models.suggestions import did_you_mean
from latentd.training.recipes.files import recipe_names, recipe_path

FAILURE, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit statuses: something failed, the command line is wrong, or Ctrl-C ended the command."""
_OUTPUT_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a disk that is full or broken. Standard output may lead to a file on it."""


class Program(click.Group):
    """A group of commands. Every error is printed in the same way: `error: `, what is wrong, and what to do."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command that the arguments name, and end the process with its exit status."""
        options["standalone_mode"] = False
        try:
            status = super().main(*arguments, **options)
        except click.Abort:
            _fail("stopped", INTERRUPTED)
        except click.UsageError as problem:
            _fail(_usage_text(problem), MISTAKE)
        except click.ClickException as problem:
            _fail(problem.format_message(), problem.exit_code)
        except LatentdError as problem:
            is_main = int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"
            shown = str(problem) if is_main or problem.every_rank_reports else None
            _fail(shown, MISTAKE if isinstance(problem, UsageError) else FAILURE)
        except OSError as problem:
            if problem.errno not in _OUTPUT_FAILURES:
                raise
            _fail(f"the output cannot be written: {problem}", FAILURE)
        sys.exit(status if isinstance(status, int) else 0)


def run_program(program: Program) -> None:
    """Run a program in this process, with a log on stderr. No text is unprintable, whatever the locale's encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        Path.cwd()
    except FileNotFoundError:  # torch would abort with a misleading text
        _fail("the current folder does not exist any more; change to another one", FAILURE)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_StderrHandler()])
    program()


class _StderrHandler(logging.Handler):
    """Writes to what is stderr at the moment: while a bar is shown, to the lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001  # as every handler: no record ends a command
            self.handleError(record)


class CheckpointType(click.ParamType[Path]):
    """A checkpoint file, given by its path, or by the name of a run or of a model."""

    name = "checkpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path of the file. Raises UnknownModelError."""
        del param, ctx
        from latentd.models.find import find_checkpoint

        return find_checkpoint(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, and let the shell complete paths."""
        from latentd.models.find import model_names

        return _complete(model_names(), incomplete)


class RecipeType(click.ParamType[str]):
    """A recipe, by the name of a shipped one or by the path of a .toml file."""

    name = "recipe"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name or path as it was given. Raises RecipeError if there is no such recipe."""
        del param, ctx
        recipe_path(value)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, and let the shell complete paths."""
        return _complete(recipe_names(), incomplete)


CHECKPOINT, RECIPE = CheckpointType(), RecipeType()


def _complete(names: list[str], incomplete: str) -> list[CompletionItem]:
    fitting = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [*fitting, CompletionItem(incomplete, type="file")]


def _fail(message: str | None, status: int) -> None:
    if message is not None:
        click.echo(f"error: {message}", err=True)
    sys.exit(status)


def _usage_text(problem: click.UsageError) -> str:
    """Return click's message in our style, and where to read more."""
    context = problem.ctx
    message = problem.format_message()
    command = context and context.command
    if isinstance(problem, click.exceptions.NoSuchCommand) and isinstance(command, click.Group):
        suggested = did_you_mean(problem.command_name, command.commands)
        message = f"there is no command {problem.command_name!r}{suggested}"
    elif isinstance(problem, click.NoSuchOption) and context is not None:
        known = [name for each in context.command.get_params(context) for name in (*each.opts, *each.secondary_opts)]
        message = f"there is no option {problem.option_name}{did_you_mean(problem.option_name, known)}"
    else:
        message = message[:1].lower() + message[1:].removesuffix(".")
    return message if context is None else f"{message}\nread {context.command_path} --help"
