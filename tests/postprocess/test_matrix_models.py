"""Models of matrices as files: transfer to larger cells, with errors that bound the true ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from otf.electrons import bloch
from otf.electrons.environment import neighbours, vectors_of
from otf.electrons.filling import Filling
from otf.electrons.learned_matrices import errors_of_atoms
from otf.electrons.levels import levels_of
from otf.errors import FileError, RunError
from otf.io.matrices import LabelMatrices, write_matrices
from otf.io.orbitals import write_orbitals
from otf.orbitals.block_matrices import BlockMatrix, Matrices, Pairs, RadialFunctions
from otf.postprocess.electronic.learn import learn
from otf.postprocess.electronic.model_file import read_model, write_model

CELL_A, REACH_A = 2.0, 3.6
SHELLS = {1: (0,)}


def crystal(rng, repeats) -> Atoms:
    """Displaced atoms of a body-centred cubic crystal."""
    atoms = bulk("H", "bcc", a=CELL_A, cubic=True).repeat(repeats)
    atoms.positions += rng.normal(scale=0.04, size=atoms.positions.shape)
    return atoms


def exact(atoms: Atoms, *, spacing: float = 4.0) -> Matrices:
    """One s orbital an atom, with energies and hoppings that depend on the surroundings."""
    first, second, shifts = neighbours(atoms, REACH_A)
    lengths = np.linalg.norm(vectors_of(atoms, first, second, shifts), axis=1)
    crowd = np.bincount(first, np.exp(-2.0 * lengths), minlength=len(atoms))
    n = np.arange(len(atoms))
    pairs = Pairs(
        np.concatenate([n, first]),
        np.concatenate([n, second]),
        np.concatenate([np.zeros((len(n), 3), dtype=int), shifts]),
    )
    smooth = (1.0 - (lengths / REACH_A) ** 2) ** 3
    on_site = -2.0 + 3.0 * crowd
    hopping = -np.exp(-lengths) * smooth * (1.0 + crowd[first] + crowd[second])
    made = [
        BlockMatrix(atoms.numbers, SHELLS, pairs, np.concatenate(values))
        for values in (
            (on_site, hopping),
            (np.ones(len(n)), 0.1 * np.exp(-lengths) * smooth),
            (np.ones(len(n)), np.zeros(len(first))),
        )
    ]
    counts = np.ceil(spacing / np.diag(atoms.cell.array) - 1e-6).astype(int)
    points = bloch.grid(tuple(counts), (0.0, 0.0, 0.0))
    return Matrices(*made, electrons=float(len(n)), cores=np.ones(len(n)), kpoints=points)


def run_of(folder: Path, structures) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, atoms in enumerate(structures):
        label = LabelMatrices(atoms, exact(atoms), "scratch", 5, {})
        write_matrices(folder / f"matrices/{k:06d}.h5", label)
    return folder


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    """A model of crystals of two cells, of four and eight atoms."""
    folder, rng = tmp_path_factory.mktemp("matrices"), np.random.default_rng(4)
    run_of(folder / "a", [crystal(rng, (2, 1, 1)) for _ in range(8)])
    run_of(folder / "b", [crystal(rng, (2, 2, 1)) for _ in range(4)])
    model = learn([folder])
    assert model.ensemble.mean.n_labels == 12
    write_model(folder / "model.h5", model)
    return folder / "model.h5"


def errors(model, atoms: Atoms) -> tuple[float, float]:
    """True and expected errors of the Hamiltonian, root mean square."""
    mean, samples = model.ensemble.of(atoms)
    truth = exact(atoms).hamiltonian.on(mean.hamiltonian.pairs).values
    off = np.array([s.hamiltonian.values - mean.hamiltonian.values for s in samples])
    true = np.sqrt(np.mean((mean.hamiltonian.values - truth) ** 2))
    return float(true), float(np.sqrt(np.mean(off**2)))


def test_expected_errors_bound_the_true_ones_in_larger_cells(model_file):
    model = read_model(model_file)
    rng = np.random.default_rng(9)
    alike = np.mean([errors(model, crystal(rng, (2, 1, 1))) for _ in range(3)], axis=0)
    larger = np.mean([errors(model, crystal(rng, (3, 3, 3))) for _ in range(3)], axis=0)
    assert larger[0] < 2.0 * larger[1]
    assert larger[1] < 10.0 * larger[0]  # and says something
    assert larger[1] > 2.0 * alike[1]
    assert model.shortest_A == pytest.approx(CELL_A)


def test_the_atom_with_strange_surroundings_is_the_least_certain(model_file):
    model = read_model(model_file)
    atoms = crystal(np.random.default_rng(1), (3, 3, 3))
    atoms.positions[17] += (0.5, 0.2, 0.0)
    found = errors_of_atoms(*model.ensemble.of(atoms))
    assert found.argmax() == 17
    assert found[17] > 3.0 * np.median(found)


def test_levels_of_a_larger_cell_are_those_of_its_own_matrices(model_file):
    atoms = crystal(np.random.default_rng(2), (3, 3, 3))
    truth = exact(atoms)
    mean, samples = read_model(model_file).ensemble.of(atoms)
    known = levels_of(truth.hamiltonian, truth.overlap, truth.electrons, truth.kpoints)
    off = np.abs(mean.levels.energies - known.energies).mean()
    spread = np.mean([np.abs(s.levels.energies - known.energies).mean() for s in samples])
    assert off < 2.0 * spread
    assert off < 0.02


def test_a_file_returns_what_was_learned(model_file, tmp_path):
    atoms = crystal(np.random.default_rng(3), (2, 2, 1))
    model = read_model(model_file)
    write_model(tmp_path / "copy.h5", model)
    (one, of_one), (other, of_other) = (
        read_model(path).ensemble.of(atoms) for path in (model_file, tmp_path / "copy.h5")
    )
    np.testing.assert_array_equal(one.hamiltonian.values, other.hamiltonian.values)
    np.testing.assert_allclose(
        of_one[0].hamiltonian.values, of_other[0].hamiltonian.values, atol=1e-6
    )
    with pytest.raises(FileError, match="otf electrons learn"):
        read_model(tmp_path / "missing.h5")


def test_what_cannot_be_learned_together_is_refused(tmp_path):
    rng = np.random.default_rng(5)
    with pytest.raises(RunError, match="2 structures with matrices are too few"):
        learn([run_of(tmp_path / "few", [crystal(rng, (2, 1, 1)) for _ in range(2)])])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="no matrices"):
        learn([tmp_path / "empty"])
    run_of(tmp_path / "more" / "a", [crystal(rng, (2, 1, 1)) for _ in range(2)])
    run_of(tmp_path / "more" / "b", [crystal(rng, (2, 1, 1)) for _ in range(2)])
    for name, width in (("a", 1.0), ("b", 1.1)):
        r = np.linspace(0.0, 3.0, 200)
        functions = {z: RadialFunctions(r, np.exp(-width * r**2)[None]) for z in SHELLS}
        write_orbitals(tmp_path / "more" / name / "matrices" / "orbitals.h5", "", functions)
    with pytest.raises(RunError, match=r"more: its orbitals of H are not those"):
        learn([tmp_path / "more"])
    charged = crystal(rng, (2, 1, 1))
    pairs = [(charged, exact(charged))] * 2
    with pytest.raises(RunError, match=r"charges from 0.000 to 1.000"):
        Filling.of([pairs[0], (charged, replace(pairs[1][1], electrons=3.0))])


def test_k_points_are_as_dense_as_those_learned():
    rng = np.random.default_rng(6)
    small, other = crystal(rng, (2, 1, 1)), crystal(rng, (4, 2, 2))
    matrices = exact(small, spacing=8.0)  # 2 x 4 x 4
    filling = Filling.of([(small, matrices)])
    assert sorted(map(tuple, filling.kpoints(small).tolist())) == sorted(
        map(tuple, matrices.kpoints.tolist())
    )
    assert len(filling.kpoints(other)) == 1 * 2 * 2
    assert filling.electrons(other) == len(other)
    surface = other.copy()
    surface.pbc = (True, True, False)
    assert len(filling.kpoints(surface)) == 1 * 2
    surface.pbc = False
    assert filling.kpoints(surface) is None
    with pytest.raises(RunError, match="has C, which no learned structure had"):
        filling.electrons(Atoms("C"))


def test_electrons_of_elements_follow_from_compositions_where_cores_are_unknown():
    water, hydrogen = Atoms("OH2", np.eye(3)), Atoms("H2", np.eye(3)[:2])

    def label(atoms: Atoms, electrons: float) -> tuple[Atoms, Matrices]:
        one = BlockMatrix(atoms.numbers, {1: (0,), 8: (0,)}, Pairs.all_of(len(atoms)), np.empty(0))
        return atoms, Matrices(one, one, one, electrons, np.full(len(atoms), np.nan))

    both = Filling.of([label(water, 8.0), label(hydrogen, 2.0)])
    assert both.electrons(Atoms("OH")) == pytest.approx(7.0)
    assert both.cores(Atoms("OH")) == pytest.approx([6.0, 1.0])
    one = Filling.of([label(water, 8.0)])
    assert one.electrons(water) == pytest.approx(8.0)
    assert np.isnan(one.cores(water)).all()
    assert one.electrons(Atoms("O2H4")) == pytest.approx(16.0)
    with pytest.raises(RunError, match="electrons of each element is not known"):
        one.electrons(Atoms("OH"))
