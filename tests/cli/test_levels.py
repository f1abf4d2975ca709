"""``otf analyse gap`` and ``dos``, of a run whose engine provides its matrices."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from otf.electrons.density.samples import relative_errors
from otf.electrons.density_guesses import describe
from otf.electrons.levels import levels_of
from otf.electrons.matrix_model import MatrixModel
from otf.io.labels import read_labels
from otf.io.matrices import read_matrices
from otf.io.volumes import read_cube, write_cube
from otf.orbitals.block_matrices import BlockMatrix
from otf.orbitals.grids import grid_of
from tests.cli.command import otf

pytestmark = pytest.mark.full  # PySCF

pytest.importorskip("pyscf")
CONFIG = """\
system: {molecule: H2O}
engine: {kind: pyscf, basis: 6-31g, grid_level: 1, threads: 1}
dynamics: {ensemble: nve, steps: 36, timestep_fs: 0.5}
policy: {force_target_meV_A: 1, gap_max: 4}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    (folder / "h2o.yaml").write_text(CONFIG)
    said = otf("run", folder / "h2o.yaml", "--output", folder / "run").stdout
    assert "from the learned density matrix" in said
    return folder / "run"


def table(said: str) -> np.ndarray:
    return np.loadtxt(said.splitlines())


def test_gaps_of_frames_are_those_of_the_engine_at_its_labels(run):
    said = otf("analyse", "gap", run).stdout
    assert "left-out error of the gap: " in said
    gaps = dict(table(said))  # by time
    labels, files = read_labels(run / "labels.extxyz"), sorted((run / "matrices").glob("0*.h5"))
    assert len(labels) == len(files) > 15
    for stored, path in list(zip(labels, files))[-5:]:
        m = read_matrices(path).matrices
        truth = levels_of(m.hamiltonian, m.overlap, m.electrons).gap
        # The label was taken before the replay, at a structure slightly off the frame.
        assert gaps[0.5 * stored.step] == pytest.approx(truth, abs=0.02)
    assert np.ptp(list(gaps.values())) > 0.1


def errors(said: str, before: str) -> list[float]:
    """Errors in meV that follow some words in the notes."""
    return [float(x) for x in re.findall(r"(\S+) meV", said.split(before)[1].split(";")[0])]


def test_one_step_of_the_engine_from_learned_densities(run, tmp_path):
    said = otf("analyse", "gap", run, "--every", 12, "--route", "dm").stdout
    assert "by one step of pyscf from the density from matrices learned" in said
    learned = otf("analyse", "gap", run, "--every", 12).stdout
    changed = np.abs(table(said)[:, 1] - table(learned)[:, 1])
    assert 1e3 * changed[:3].mean() == pytest.approx(errors(said, "by the step: ")[0], abs=0.1)
    assert 0.0 < 1e3 * changed.max() < 20.0
    assert max(errors(said, "left-out error after the step")) < 20.0
    # A model in a file, and any structures: the configuration names the engine.
    otf("electrons", "learn", run, "--output", tmp_path / "h.h5")
    labels = read_labels(run / "labels.extxyz")
    write(tmp_path / "last.xyz", labels[-1].atoms)
    command = ("analyse", "gap", tmp_path / "last.xyz", "--model", tmp_path / "h.h5")
    config = run.parent / "h2o.yaml"
    said = otf(*command, "--route", "dm", "--config", config).stdout
    m = read_matrices(sorted((run / "matrices").glob("0*.h5"))[-1]).matrices
    truth = levels_of(m.hamiltonian, m.overlap, m.electrons).gap
    assert table(said)[1] == pytest.approx(truth, abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "change", "rc", "message"),
    [
        (["--route", "dm"], None, 2, "--route dm needs --config: "),
        (["--config", "x.yaml"], None, 2, "--config needs --route dm"),
        (["--route", "dm", "--config", "x.yaml"], ("6-31g", "sto-3g"), 1, "is of another basis"),
        (["--route", "dm", "--config", "x.yaml"], ("6-31g", "3-21g"), 1, "has other functions"),
        (
            ["--route", "dm", "--config", "x.yaml"],
            ("kind: pyscf, basis: 6-31g, grid_level: 1, threads: 1", "kind: tblite"),
            1,
            "engine 'tblite' has no Hamiltonian to give",
        ),
    ],
)
def test_what_one_step_needs(run, tmp_path, arguments, change, rc, message):
    write(tmp_path / "h2o.xyz", molecule("H2O"))
    if change is not None:
        (tmp_path / "x.yaml").write_text(CONFIG.replace(*change))
    given = [tmp_path / a if a.endswith("yaml") else a for a in arguments]
    otf("electrons", "learn", run, "--output", tmp_path / "h.h5")
    command = ("analyse", "gap", tmp_path / "h2o.xyz", "--model", tmp_path / "h.h5")
    assert message in otf(*command, *given, rc=rc).stderr


def test_density_of_states_counts_the_electrons(run):
    said = otf("analyse", "dos", run, "--every", 3, "--above", 0.5, "--below", 30).stdout
    energy, levels, _ = table(said).T
    assert levels[energy < -25].max() < 1e-6
    valence = np.trapezoid(levels, energy)  # without the oxygen 1s level
    assert valence == pytest.approx(4.0, abs=0.01)


def test_charges_and_dipoles_are_those_of_the_engine_at_its_labels(run):
    from pyscf import dft, gto

    said = otf("analyse", "charges", run).stdout
    charges = {row[0]: row[1:] for row in table(said)}
    said = otf("analyse", "dipole", run, "--every", 4).stdout
    dipoles = {row[0]: row[1:] for row in table(said)}
    stored = [s for s in read_labels(run / "labels.extxyz") if 0.5 * s.step in dipoles][-1]
    geometry = list(zip(stored.atoms.get_chemical_symbols(), stored.atoms.positions.tolist()))
    mol = gto.M(atom=geometry, basis="6-31g", verbose=0)
    truth = dft.RKS(mol, xc="pbe")
    truth.grids.level = 1
    truth.kernel()
    here = dipoles[0.5 * stored.step]
    assert here[:3] == pytest.approx(truth.dip_moment(verbose=0), abs=0.02)
    assert here[3] == pytest.approx(np.linalg.norm(here[:3]))
    populations = truth.mulliken_pop(verbose=0)[1]
    here = charges[0.5 * stored.step]
    assert here == pytest.approx([populations[0], populations[1:].mean()], abs=0.003)


def test_densities_are_written_for_every_frame(run, tmp_path):
    said = otf(
        "analyse", "density", run, "--every", 18, "--spacing", 0.4, "--volume", tmp_path / "r.cube"
    ).stdout
    assert "left-out error of the density: 0.0" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"r_00000{k}.cube" for k in range(3)]
    atoms, grid, density = read_cube(tmp_path / "r_000001.cube")
    assert atoms.get_chemical_formula() == "H2O"
    assert density.sum() * grid.volume == pytest.approx(table(said)[1, 1], rel=1e-4)
    error = otf("analyse", "density", run, "--volume", tmp_path / "r.xyz", rc=1).stderr
    assert ".cube or .h5" in error
    error = otf("analyse", "bands", run, rc=1).stderr
    assert "periodic in all directions" in error


def off_outside_cores(found: Path, truth: Path) -> float:
    """L1 error outside the cores, which a coarse grid does not resolve."""
    atoms, grid, known = read_cube(truth)
    points = grid.origin + np.indices(grid.shape).reshape(3, -1).T @ grid.steps
    away = np.linalg.norm(points[:, None] - atoms.positions, axis=2).min(axis=1)
    outside = (away > 0.4).reshape(grid.shape)
    values = read_cube(found)[2]
    assert (values >= 0.0).all()
    return relative_errors(values[outside], known[outside], 1.0)[0]


def test_densities_point_by_point(run, tmp_path):
    given = ("analyse", "density", run, "--every", 12, "--spacing", 0.2)
    otf(*given, "--volume", tmp_path / "dm.cube")
    truth = [tmp_path / f"dm_{k:06d}.cube" for k in range(4)]
    said = otf(*given, "--route", "points", "--volume", tmp_path / "p.cube").stdout
    off = re.search(r"left out: (\S+) % \(L1\), (\S+) % \(L2\)", said)
    assert 0.0 < float(off[1]) < 2.0
    for k, known in enumerate(truth):
        assert off_outside_cores(tmp_path / f"p_{k:06d}.cube", known) < 0.02
    # Learned from files, as if from another program.
    files = [word for known in truth for word in ("--learn", known)]
    said = otf(*given, *files, "--volume", tmp_path / "l.cube").stdout
    assert "learned from 4 densities" in said
    for k, known in enumerate(truth):
        assert off_outside_cores(tmp_path / f"l_{k:06d}.cube", known) < 0.05
    error = otf(*given, *files[:2], "--volume", tmp_path / "l.cube", rc=1).stderr
    assert "1 densities are too few" in error
    other = molecule("CH4")
    grid = grid_of(other, 0.8)
    write_cube(tmp_path / "ch4.cube", other, grid, np.ones(grid.shape))
    strange = ("--learn", tmp_path / "ch4.cube", *files)
    error = otf(*given, *strange, "--volume", tmp_path / "l.cube", rc=1).stderr
    assert "ch4.cube: has C, which the run does not have; leave it out" in error
    error = otf(*given, "--route", "dm", *files, "--volume", tmp_path / "l.cube", rc=2).stderr
    assert "--learn needs --route points" in error


def test_a_dozen_labels_do_not_fit_anything(run):
    """Without a graded prior on fine features a dozen labels overfit: an error of 6 meV."""
    labels = [read_matrices(path) for path in sorted((run / "matrices").glob("0*.h5"))]
    first = labels[0].matrices.hamiltonian
    model = MatrixModel(first.shells, ("hamiltonian",), describe(first))
    for label in labels[:14]:
        model.learn(label.atoms, {"hamiltonian": label.matrices.hamiltonian})
    errors = [
        np.abs(model.predict(x.atoms)["hamiltonian"].dense() - x.matrices.hamiltonian.dense())
        for x in labels[-7:]
    ]
    assert np.mean(errors) < 3e-3


def test_runs_without_matrices_say_what_to_do(run, tmp_path):
    (tmp_path / "h2.yaml").write_text(
        "system: {molecule: H2}\nengine: {kind: tblite}\ndynamics: {steps: 5}\n"
    )
    otf("run", tmp_path / "h2.yaml", "--output", tmp_path / "run")
    error = otf("analyse", "gap", tmp_path / "run", rc=1).stderr
    assert "engine.warm_start" in error


def test_what_has_no_empty_orbitals_has_no_gap():
    one = BlockMatrix.of_dense(np.array([1]), {1: (0,)}, np.eye(1))
    with pytest.raises(ValueError, match="no empty orbitals"):
        levels_of(one, one, 2.0)
