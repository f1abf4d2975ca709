"""Consent to run what the directory of another user names."""

import os
from pathlib import Path

from otf.config import Config
from otf.errors import RunError


def check_trusted(config: Config, file: Path, *, trusted: bool) -> None:
    """Refuse to run what a configuration of another user names, unless it is trusted.

    Parameters
    ----------
    file
        The configuration.
    trusted
        Whether the user has agreed.

    Raises
    ------
    RunError
        If it is another user's and was not agreed to.
    """
    owner = file.stat().st_uid
    if trusted or owner in (os.getuid(), 0):
        return
    runs = ", ".join(
        f"{name} {section.options[name]!r}"
        for section in (config.engine, *config.model.baseline)
        for name in ("calculator", "command", "lines")
        if section.options.get(name)
    )
    raise RunError(
        f"{file}: belongs to another user (number {owner}), and its engine, {config.engine.kind}, "
        f"runs {runs or 'a program'}; look at it, and give --trust if it may run as you"
    )
