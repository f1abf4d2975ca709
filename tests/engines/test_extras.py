"""The command that installs an extra, for a clone and for a package."""

import json
import shlex
import sys

import pytest

from otf.engines.extras import install_command


@pytest.mark.parametrize(
    ("origin", "arguments"),
    [
        (
            {"url": "file:///home/me/my%20otf", "dir_info": {"editable": True}},
            ["-e", "/home/me/my otf[dft]"],
        ),
        ({"url": "file:///home/me/otf", "dir_info": {}}, ["otf-aimd[dft]"]),
        (None, ["otf-aimd[dft]"]),
    ],
    ids=["clone", "folder", "index"],
)
def test_the_command_installs_into_this_environment(tmp_path, monkeypatch, origin, arguments):
    folder = tmp_path / "otf_aimd-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: otf-aimd\nVersion: 9\n")
    if origin is not None:
        (folder / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(tmp_path)
    command = shlex.split(install_command("dft"))
    assert command == [sys.executable, "-m", "pip", "install", *arguments]
