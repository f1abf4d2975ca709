"""Damaged files, mutilated configurations, absurd structures: only named errors are raised.

Refused files stay unchanged, byte for byte.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.cluster import Icosahedron
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import otf
from otf.config import read_config
from otf.errors import ConfigError, OtfError
from otf.io.trajectory import read_trajectory
from otf.runs.create import create_run
from otf.runs.directory import change_steps, read_run
from otf.runs.session import run_session

CONFIG = """\
system:
  structure: cluster.xyz
engine:
  kind: ase
  calculator: ase.calculators.morse:MorsePotential
  keywords: {epsilon: 0.3, r0: 2.6, rho0: 4.0}
dynamics:
  steps: 40
  timestep_fs: 2.0
  temperature_K: 150
model: {radial_three: 2, l_max: 2, body_order: 3, components: 5, sharing: species}
policy: {force_target_meV_A: 5}
"""
FILES = (
    "checkpoint.h5", "labels.extxyz", "trajectory.h5", "model.h5", "config.resolved.yaml",
    "start.traj",
)  # fmt: skip
MANY = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A short, complete run."""
    folder = tmp_path_factory.mktemp("fuzz")
    atoms = Icosahedron("Ar", 2, latticeconstant=3.7)
    atoms.rattle(0.02, seed=1)
    ase.io.write(folder / "cluster.xyz", atoms)
    source = folder / "run.yaml"
    source.write_text(CONFIG)
    run = create_run(read_config(source), source, folder / "run")
    run_session(*read_run(run.path))
    return run.path


@st.composite
def damages(draw):
    """A file and its damage: a flipped bit, a truncation, a block of zeros, junk."""
    name = draw(st.sampled_from(FILES))
    where = draw(st.floats(0.0, 1.0, exclude_max=True))
    how = draw(st.sampled_from(("flip", "cut", "hole", "junk")))
    return name, where, how, draw(st.integers(0, 255))


def damaged(data: bytes, where: float, how: str, value: int) -> bytes:
    out = bytearray(data)
    at = int(where * len(out))
    if how == "flip":
        out[at] ^= 1 << (value % 8)
    elif how == "cut":
        del out[at:]
    elif how == "hole":
        out[at : at + 512] = bytes(len(out[at : at + 512]))
    else:
        out[at : at + 1] = bytes([value]) * (1 + value % 7)
    return bytes(out)


def refusal(use: Callable[[], object]) -> str:
    """Message of the OtfError, empty if there is none; other exceptions propagate."""
    try:
        use()
    except OtfError as error:
        return str(error)
    return ""


@MANY
@given(damage=damages())
@example(damage=("labels.extxyz", 0.0, "cut", 0))
def test_damaged_file_is_refused_or_harmless(finished, tmp_path_factory, damage):
    name, where, how, value = damage
    run = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(finished, run)
    broken = damaged((run / name).read_bytes(), where, how, value)
    (run / name).write_bytes(broken)
    uses = (
        lambda: change_steps(run, 45),
        lambda: run_session(*read_run(run)),
        lambda: read_trajectory(run / "trajectory.h5"),
        lambda: otf.load_model(run / "model.h5"),
    )
    refused = [error for use in uses if (error := refusal(use))]
    if refused and name in ("labels.extxyz", "checkpoint.h5", "start.traj"):
        torn = run / "labels.torn.extxyz"  # an incomplete last label is moved there
        rest = torn.read_bytes() if torn.exists() and name == "labels.extxyz" else b""
        assert (run / name).read_bytes() + rest == broken
    shutil.rmtree(run.parent)


@MANY
@given(
    where=st.floats(0.0, 1.0, exclude_max=True),
    cut=st.integers(0, 12),
    put=st.text(st.characters(codec="utf-8"), max_size=8),
)
def test_mutilated_configuration_is_read_or_refused_with_its_line(tmp_path, where, cut, put):
    (tmp_path / "cluster.xyz").write_text("1\n\nAr 0 0 0\n")
    at = int(where * len(CONFIG))
    source = tmp_path / "run.yaml"
    source.write_text(CONFIG[:at] + put + CONFIG[at + cut :], encoding="utf-8")
    problems = []
    try:
        read_config(source)
    except ConfigError as error:
        problems = error.problems
    assert all(problem.startswith(str(source)) for problem in problems)


@st.composite
def structures(draw):
    """Structures of zero to three atoms at any positions in any cell."""
    n = draw(st.integers(0, 3))
    number = st.one_of(
        st.floats(-4, 4), st.sampled_from((0.0, float("nan"), float("inf"), 1e300, 1e-300))
    )
    positions = draw(st.lists(st.tuples(number, number, number), min_size=n, max_size=n))
    vectors = draw(
        st.one_of(
            st.just(np.zeros((3, 3)).tolist()),
            st.lists(st.tuples(number, number, number), min_size=3, max_size=3),
        )
    )
    symbols = draw(st.lists(st.sampled_from(("H", "Ar", "X", "U")), min_size=n, max_size=n))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    return Atoms(symbols, positions=positions or None, cell=vectors, pbc=pbc)


@MANY
@given(atoms=structures())
def test_absurd_structure_is_run_or_refused(tmp_path_factory, atoms):
    folder = tmp_path_factory.mktemp("structure")
    ase.io.write(folder / "cluster.traj", atoms)
    source = folder / "run.yaml"
    source.write_text(
        CONFIG.replace("cluster.xyz", "cluster.traj").replace("steps: 40", "steps: 3")
    )
    refusal(
        lambda: run_session(*read_run(create_run(read_config(source), source, folder / "run").path))
    )
    shutil.rmtree(folder)
