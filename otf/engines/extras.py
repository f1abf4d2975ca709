"""The command that installs what an extra of the package needs."""

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

_NAME = "otf-aimd"


def install_command(extra: str) -> str:
    """Command that installs an extra into this environment: from the clone, if it is one.

    >>> install_command("dft").startswith(sys.executable)
    True
    """
    clone = _clone()
    what = f"{_NAME}[{extra}]" if clone is None else f"{clone}[{extra}]"
    editable = "" if clone is None else "-e "
    return f"{shlex.quote(sys.executable)} -m pip install {editable}{shlex.quote(what)}"


def _clone() -> Path | None:
    """The folder of an editable install; None if there is none."""
    try:
        text = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    found = json.loads(text or "{}")
    if not found.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(found["url"]).path))
