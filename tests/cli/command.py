"""The command line, as a user calls it."""

import subprocess
import sys


def otf(*arguments: object, rc: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``otf``, which must end with this exit code and never with a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "otf", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == rc, done.stderr
    assert "Traceback" not in done.stderr
    return done
