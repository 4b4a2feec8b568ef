"""The command line `gapcheck`: one module per command, imported when the command is called."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from perception_gap.errors import GapcheckError, UsageError
from perception_gap.storage.redaction import public_text

LONGEST = 480  # characters of an error
# name -> (module that has `command`, help in the list of commands, which must not import the module)
COMMANDS = {
    "analyze": ("perception_gap.cli.analyze", "Measure where a model looks, alone or against its teacher."),
    "compare": ("perception_gap.cli.compare", "Models side by side: where each looks, how far apart, who is right."),
    "trace": ("perception_gap.cli.trace", "Record a teacher's answers, gaze and states for training a student."),
    "train": ("perception_gap.cli.train", "Train a student to look where its teacher looks."),
    "ablate": ("perception_gap.cli.ablate", "Train and measure a matrix of presets and seeds."),
    "latents": ("perception_gap.cli.latents", "Does a LaViT model use its latent tokens? Hide them and see."),
    "published": ("perception_gap.cli.published", "Figures that papers printed, and what of them recomputes."),
    "bench": ("perception_gap.cli.bench", "Benchmark suites through lmms-eval: accuracy, comparisons, gaze."),
    "overlay": ("perception_gap.cli.overlay", "Your own picture and question: where models look, in one PNG."),
    "report": ("perception_gap.cli.report", "One page: the answer, tables, figures, every sample to look at."),
    "tables": ("perception_gap.cli.tables", "Tables of runs: as the paper prints them, ours beside, or in full."),
    "reproduce": (
        "perception_gap.cli.reproduce",
        "A table or figure of the paper, start to finish; --tiny: here, now.",
    ),
    "figures": ("perception_gap.cli.figures", "Figures of runs, benchmarks, matrices and trainings, PNG, PDF, SVG."),
    "demo": ("perception_gap.cli.demo", "The embedded teacher and student on drawn scenes, start to finish."),
    "scenes": ("perception_gap.cli.scenes", "Draw scenes with known boxes: images and a JSON Lines file."),
    "doctor": ("perception_gap.cli.doctor", "Versions, devices, and what is missing for which command."),
}


class LazyGroup(click.Group):
    """Imports a command's module when it is called, and reports errors in one line with an exit status.

    0 success, 1 something went wrong, 2 wrong input or options, 130 interrupted, 143 asked to end (SIGTERM), 129 left
    alone (SIGHUP).
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return import_module(COMMANDS[cmd_name][0]).command if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(f"unknown command {args[0]!r}: expected one of {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            from perception_gap.cli.extras import lacking

            if (missing := lacking(ctx.invoked_subcommand or "gapcheck", error)) is None:
                raise
            raise missing from error

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        extra = {"prog_name": "gapcheck", **extra, "standalone_mode": False}
        _open_streams()
        try:
            with _ends_as_interrupted():
                result = super().main(*args, **extra)
            sys.stdout.flush()
        except GapcheckError as error:
            fail(str(error), error.exit_status)
        except click.Abort as error:
            fail(*_stopped(error.__cause__))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(2)
        except click.ClickException as error:
            at = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else extra["prog_name"]
            fail(f"{error.format_message()} (see {at} --help)", error.exit_code)
        except OSError as error:
            if error.errno != errno.EPIPE:  # a full disk, a folder where a file belongs: what is stored stays
                fail(f"{error.filename or 'output'}: {error.strerror or error}; mend it and repeat the command", 1)
            # The reader of our output left (`| head`): whatever is still buffered has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        sys.exit(result if isinstance(result, int) else 0)


class Stopped(KeyboardInterrupt):
    """A signal that asks the process to end: work is left as on Ctrl-C. args: the signal."""


@contextmanager
def _ends_as_interrupted() -> Iterator[None]:
    """While open, SIGTERM and SIGHUP raise Stopped, unless somebody else (nohup, a launcher) said what they do."""
    process, before = os.getpid(), {}

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends at once
        if os.getpid() != process:  # a worker that was forked: its parent says what there is to say
            os.kill(os.getpid(), number)
        raise Stopped(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        try:
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
        except ValueError:  # not the main thread
            continue
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(cause: BaseException | None) -> tuple[str, int]:
    """(what to say, exit status) of a command that was interrupted; a lock noted what is kept (`locks`)."""
    kept = getattr(cause, "__notes__", ["repeat the command"])[-1]
    if isinstance(cause, Stopped):
        number = signal.Signals(cause.args[0])
        return f"stopped by {number.name}; {kept}", 128 + number
    return f"interrupted; {kept}", 130


def _open_streams() -> None:
    """Where the caller closed stdout or stderr (`>&-`), what is said goes nowhere, and not into a file of a report.

    A letter that the terminal's encoding lacks is escaped, and ends no command.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def fail(message: str, status: int) -> NoReturn:
    """One line on stderr, then exit; of a long one (a value of 5,000 letters) the beginning and the remedy."""
    text = " ".join(public_text(message).split())
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 180]} ... {text[-170:]}"
    click.echo(f"gapcheck: error: {text}", err=True)
    sys.exit(status)


@click.group("gapcheck", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perception-gap", prog_name="gapcheck")
def main() -> None:
    """Does a student vision-language model look where its teacher looks, and does that decide whether it is right?

    \b
    Example:
      gapcheck demo --out runs/demo
    """
