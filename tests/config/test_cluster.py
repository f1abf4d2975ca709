"""The ``cluster`` section and the site profile it is based on."""

from pathlib import Path

import pytest

from otf.config import read_config
from otf.errors import ConfigError

PROFILES = sorted((Path(__file__).parents[2] / "configs/clusters").glob("*.yaml"))
GOOD = """\
system: {molecule: CH4}
engine: {kind: tblite}
dynamics: {steps: 100}
"""


def read(folder: Path, cluster: str):
    path = folder / "config.yaml"
    path.write_text(GOOD + cluster)
    return read_config(path).cluster


def problems(folder: Path, cluster: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, cluster)
    return [p.removeprefix(f"{folder}/") for p in caught.value.problems]


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_what_stands_in_the_configuration_counts_more(path, tmp_path):
    plain = read(tmp_path, f"cluster: {{profile: {path}}}")
    mine = read(tmp_path, f"cluster: {{profile: {path}, tasks: 7, time: 12:00:00}}")
    assert plain.tasks > 7
    assert (mine.tasks, mine.time) == (7, "12:00:00")
    assert mine.partition == plain.partition
    assert mine.profile is None  # a run does not depend on a file outside its directory


def test_mistakes_are_found_where_they_are(tmp_path):
    (tmp_path / "site.yaml").write_text("partition: a\ntasks: many\nnode: 2\n")
    found = problems(tmp_path, "cluster: {profile: site.yaml}")
    assert len(found) == 2
    assert found[0].startswith("config.yaml:4:20: cluster.profile: ")
    assert "site.yaml:2:8: tasks: input should be a valid integer, found 'many'" in found[0]
    assert "site.yaml:3:1: node: unknown key, did you mean 'nodes'?" in found[1]
    assert "cannot be read" in problems(tmp_path, "cluster: {profile: none.yaml}")[0]
    (tmp_path / "site.yaml").write_text("profile: other.yaml")
    assert "cannot name another" in problems(tmp_path, "cluster: {profile: site.yaml}")[0]
    (tmp_path / "site.yaml").write_text("[1]")
    assert "expected keys" in problems(tmp_path, "cluster: {profile: site.yaml}")[0]
    time = problems(tmp_path, "cluster: {time: a day}")[0]
    assert time == (
        "config.yaml:4:11: cluster.time: expected a time such as 30:00, 24:00:00 or 2-12:00:00"
    )
