"""Bands and charges from matrices learned from labels, compared with closed forms."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from otf.analysis.picture import draw
from otf.electrons.bloch import grid
from otf.electrons.environment import neighbours
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.matrices import LabelMatrices, write_matrices
from otf.orbitals.block_matrices import BlockMatrix, Matrices, Pairs
from otf.postprocess.electronic.learned_matrices import sources_of
from otf.postprocess.electronic.levels import bands, charges, gap

CELL_A = 2.4


def crystal(strain: float) -> Atoms:
    """Two species in the CsCl structure."""
    side = CELL_A * (1.0 + strain)
    return Atoms("LiH", [[0, 0, 0], [side / 2] * 3], cell=[side] * 3, pbc=True)


def hopping(distances: np.ndarray) -> np.ndarray:
    return -np.exp(-distances)


def matrices(atoms: Atoms) -> Matrices:
    """One s orbital per atom, unlike neighbours coupled: E = mean -+ sqrt(half gap^2 + t^2)."""
    first, second, shifts = neighbours(atoms, 0.95 * atoms.cell[0, 0])
    n = np.arange(2)
    pairs = Pairs(
        np.concatenate([n, first]),
        np.concatenate([n, second]),
        np.concatenate([np.zeros((2, 3), dtype=int), shifts]),
    )
    energies = hopping(np.full(len(first), np.sqrt(3) / 2 * atoms.cell[0, 0]))
    shells = {1: (0,), 3: (0,)}
    kpoints = grid((2, 2, 2), (0.0, 0.0, 0.0))
    made = [
        BlockMatrix(atoms.numbers, shells, pairs, np.concatenate([on_site, between]))
        for on_site, between in (
            ([1.0, -1.0], energies),
            ([1.0, 1.0], 0.0 * energies),
            ([0.5, 1.5], 0.0 * energies),
        )
    ]
    return Matrices(*made, electrons=2.0, cores=np.array([1.0, 1.0]), kpoints=kpoints)


@pytest.fixture
def run(tmp_path) -> Path:
    for k, strain in enumerate(np.linspace(-0.05, 0.05, 12)):
        atoms = crystal(strain)
        label = LabelMatrices(atoms, matrices(atoms), "scratch", 5, {})
        write_matrices(tmp_path / f"matrices/{k:06d}.h5", label)
    return tmp_path


def frames(*strains: float) -> Frames:
    all_atoms = [crystal(strain) for strain in strains]
    return Frames(
        "some",
        all_atoms[0],
        np.array([a.positions for a in all_atoms]),
        np.array([a.cell.array for a in all_atoms]),
    )


def test_bands_are_those_of_the_lattice(run):
    found = bands(
        sources_of([run], None, None),
        [frames(0.013)],
        k_path="GX",
        points=7,
        below_eV=9.0,
        above_eV=9.0,
    )
    side = 1.013 * CELL_A
    k = np.linspace(0, np.pi / side, 7)
    np.testing.assert_allclose(found.x, k)
    t = 8.0 * hopping(np.sqrt(3) / 2 * side) * np.cos(k * side / 2)
    highest = float(found.numbers["highest_occupied_eV"].mean)
    for name, sign in (("band_1_eV", -1.0), ("band_2_eV", 1.0)):
        truth = sign * np.sqrt(1.0 + t**2)
        np.testing.assert_allclose(found.y[name].mean + highest, truth, atol=1e-4)
    assert highest == pytest.approx(-1.0, abs=1e-4)  # the hopping vanishes at the zone boundary
    assert float(found.numbers["fermi_level_eV"].mean) == pytest.approx(0.0, abs=1e-4)
    assert "2x2x2 k points" in found.notes[1]
    assert found.notes[0] == f"path: G at 0.0000, X at {np.pi / side:.4f}"
    few = bands(
        sources_of([run], None, None),
        [frames(0.013)],
        k_path="GX",
        points=3,
        below_eV=9.0,
        above_eV=0.5,
    )
    assert list(few.y) == ["band_1_eV"]


def test_bands_are_drawn_between_special_points(run, tmp_path):
    path = "GX,MR"
    found = bands(
        sources_of([run], None, None), [frames(0.0)], k_path=path, points=12, below_eV=9, above_eV=9
    )
    draw(found, tmp_path / "bands.svg")
    text = (tmp_path / "bands.svg").read_text()
    for name in ("\u0393", "X|M", "R", "Fermi level"):
        assert f"<!-- {name} -->" in text
    assert "band_1_eV" not in text  # no legend
    breaks = np.flatnonzero(np.diff(found.x) == 0.0)
    assert len(breaks) == 1
    lines = re.findall(r'<path d="(M [^"]*)"', text)
    assert max(line.count("M ") for line in lines) == 2  # a band is interrupted once


def test_charges_follow_the_density(run):
    found = charges(sources_of([run], None, None), [frames(0.0, 0.02)])
    lithium, hydrogen = (found.y[f"charge_{s}_e"].mean for s in ("Li", "H"))
    np.testing.assert_allclose(lithium, -hydrogen, atol=1e-9)
    assert (lithium > 0.1).all()
    assert lithium[1] > lithium[0]  # weaker hopping at larger distance


def test_what_has_no_bands_says_so(run):
    with pytest.raises(RunError, match=r"not a path in this lattice.*it has .*X"):
        bands(
            sources_of([run], None, None),
            [frames(0.0)],
            k_path="GZ",
            points=3,
            below_eV=9.0,
            above_eV=9.0,
        )
    molecule = frames(0.0)
    molecule.atoms.pbc = False
    with pytest.raises(RunError, match="periodic in all directions"):
        bands(
            sources_of([run], None, None),
            [molecule],
            k_path=None,
            points=3,
            below_eV=9.0,
            above_eV=9.0,
        )


def test_left_out_errors_are_unknown_where_no_other_label_reaches(tmp_path):
    lengths = [0.70, 0.72, 0.74, 0.76, 1.60]
    for k, length in enumerate(lengths):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, length]])
        overlap, hopping = np.exp(-length), -2.0 * np.exp(-length)
        made = [
            BlockMatrix.of_dense(atoms.numbers, {1: (0,)}, np.array(m))
            for m in ([[0.0, hopping], [hopping, 0.0]], [[1.0, overlap], [overlap, 1.0]], np.eye(2))
        ]
        matrices = Matrices(*made, electrons=2.0, cores=np.ones(2))
        label = LabelMatrices(atoms, matrices, "scratch", 5, {})
        write_matrices(tmp_path / f"matrices/{k:06d}.h5", label)
    seen = Frames("some", atoms, atoms.positions[None], np.zeros((1, 3, 3)))
    found = gap(sources_of([tmp_path], None, None), [seen])
    assert "left-out error of the gap: unknown" in found.notes[0]
    truth = -2.0 * hopping / (1.0 - overlap**2)
    assert found.y["gap_eV"].mean[0] == pytest.approx(truth, abs=0.1)
