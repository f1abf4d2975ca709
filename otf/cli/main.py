"""Entry point of the command line; the module of a command is imported when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from otf.errors import OtfError
from otf.version import __version__

_COMMANDS = {
    "run": "Run molecular dynamics from a configuration.",
    "resume": "Continue a run that was stopped or killed, or extend it.",
    "submit": "Submit a run to Slurm, as one batch job or several in succession.",
    "queue": "List your runs in the queue of Slurm.",
    "cancel": "Stop the job of a run at its next safe point.",
    "relax": "Relax a structure on a model that learns from the engine where it must.",
    "neb": "Find the barrier between two minima, likewise.",
    "fit": "Fit a model to labelled structures and test it.",
    "refit": "Fit a model anew to all labels of a run, for production.",
    "estimate": "Estimate how many labels a run will take, before any is computed.",
    "hindcast": "Replay the protocol over a recorded trajectory, without an engine.",
    "electrons": "Learn Hamiltonians from matrices of runs and of other calculations.",
    "analyse": "Distributions, transport and spectra of trajectories, with errors.",
    "report": "Write an HTML report of a run that needs no network.",
    "export": "Write frames or labels in the formats of other programs.",
    "export-lammps": "Write a folder for LAMMPS with a learned model.",
    "serve": "Serve a learned model to i-PI, ASE or others over a socket.",
    "status": "Show the state of a run, also while it is running.",
    "list": "List the runs in a folder, one per line.",
    "labels": "List the labels of a run, or take one out.",
    "store": "Keep labels for later runs.",
    "compare": "Test whether the g(r) of two runs are equal within their errors.",
    "audit": "Measure the true errors of a run by labelling its frames afterwards.",
    "init": "Write a commented example configuration.",
    "schema": "Print the JSON schema of the configuration.",
    "doctor": "Show the engines, what is missing and how to install it.",
}


class _Commands(click.Group):
    """Group of commands whose modules are imported on use, so that --help is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = importlib.import_module(f"otf.cli.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and close:
            ctx.fail(f"No such command '{args[0]}', did you mean '{close[0]}'?")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="otf")
def cli() -> None:
    """On-the-fly acceleration of ab-initio molecular dynamics."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors meant for the user are printed without a traceback.

    Exit codes: 0 done, 1 stopped by an error, 2 wrong usage, 128 + n stopped by signal n.
    """
    # Pictures go to files; a backend inherited from a notebook need not exist here.
    os.environ["MPLBACKEND"] = "agg"
    try:
        cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except OtfError as error:
        click.echo(f"otf: {error}" if "\n" not in str(error) else str(error), err=True)
        raise SystemExit(1) from None
    except BrokenPipeError:  # the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(
            f"otf: {where}{error.strerror or error}; make room, repair the file system or get "
            "write permission, then try again: nothing that was committed is lost",
            err=True,
        )
        raise SystemExit(1) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "otf: interrupted; `otf resume RUN_DIR` continues from the last commit", err=True
        )
        raise SystemExit(130) from None
