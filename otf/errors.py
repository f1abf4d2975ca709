"""Exception classes. A message says what is wrong and what to do next."""

from collections.abc import Sequence


class OtfError(Exception):
    """Base class of errors meant for the user, which are printed without a traceback."""


class ConfigError(OtfError):
    """The configuration cannot be used.

    Parameters
    ----------
    problems
        Every problem found, each as ``file:line:column: key: what is wrong``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class EngineError(OtfError):
    """An engine is missing, shadowed, misused, or cannot be opened."""


class RunError(OtfError):
    """A run cannot continue; all committed segments are on disk and can be resumed."""


class ClusterError(OtfError):
    """The batch system is missing, rejects a job, or cannot run the requested one."""


class FileError(OtfError):
    """A file or directory of a run is missing, damaged, or already exists."""
