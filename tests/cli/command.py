"""The command line called within this process: starting another one takes seconds."""

import contextlib
import io
from dataclasses import dataclass

from otf.cli.main import main


@dataclass(frozen=True)
class Ended:
    """Output of a command."""

    stdout: str
    stderr: str


def otf(*arguments: object, rc: int = 0) -> Ended:
    """Run ``otf`` and check its exit code and that there is no traceback."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main([str(argument) for argument in arguments])
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
    assert code == rc, stderr.getvalue()
    assert "Traceback" not in stderr.getvalue()
    return Ended(stdout.getvalue(), stderr.getvalue())
