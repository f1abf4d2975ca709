"""SIESTA's matrices, by sisl: files, initial density guesses, labels without self-consistency."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.io import FortranFile

from otf.electrons.bloch import density_of
from otf.electrons.levels import levels_of
from otf.engines.failures import FROM_SCRATCH
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import DensityGuess
from otf.engines.registry import load_engine
from otf.errors import EngineError
from otf.orbitals.block_matrices import BlockMatrix
from otf_siesta import fdf, guesses
from otf_siesta.geometry import read_structure
from tests.engines.round_overlap import assert_round
from tests.engines.siesta_standin import GOLDEN

pytest.importorskip("sisl")

from otf_siesta import matrices, orbitals

pytestmark = pytest.mark.full


def record_file(path: Path, matrices_in_file: int):
    """A .DM or .TSDE file, read record by record: header, values by column, Fermi level."""
    with FortranFile(path) as file:
        header = file.read_ints("i4")
        orbitals, spins = header[:2]
        file.read_ints("i4")
        order = [np.argsort(file.read_ints("i4")) for _ in range(orbitals)]
        values = [
            np.concatenate([file.read_reals("f8")[o] for _ in range(spins) for o in order])
            for _ in range(matrices_in_file)
        ]
        fermi = file.read_reals("f8")[0] if matrices_in_file == 2 else None
    return header.tolist(), values, fermi


@pytest.mark.parametrize(
    ("case", "electrons", "band_energy"),
    [("a_ch4_converged", 8.0, -91.266746), ("b_si8_k222", 32.0, None)],
)
def test_matrices_give_the_electrons_and_the_band_energy(case, electrons, band_energy):
    geometry = matrices.read_geometry(GOLDEN / case, "siesta")
    path = GOLDEN / case / "siesta.TSHS"
    hamiltonian = matrices.read_hamiltonian(path, geometry)
    densities = matrices.read_densities(path.with_suffix(".TSDE"), geometry)
    overlap = hamiltonian.tocsr(hamiltonian.S_idx)

    def trace(one, other):
        return float(one.tocsr(0).multiply(other).sum())

    band = trace(densities.density, hamiltonian.tocsr(0))
    assert trace(densities.density, overlap) == pytest.approx(electrons, abs=1e-10)
    assert trace(densities.energy_density, overlap) == pytest.approx(band, abs=1e-6)
    if band_energy is not None:  # as printed, with SIESTA's own Rydberg
        assert band == pytest.approx(band_energy, rel=2e-5)


@pytest.mark.parametrize("case", ["a_ch4_converged", "b_si8_k222"])
def test_matrices_are_written_as_siesta_writes_them(tmp_path, case):
    geometry = matrices.read_geometry(GOLDEN / case, "siesta")
    source = GOLDEN / case / "siesta"
    density = matrices.read_density(source.with_suffix(".DM"), geometry)
    densities = matrices.read_densities(source.with_suffix(".TSDE"), geometry)
    hamiltonian = matrices.read_hamiltonian(source.with_suffix(".TSHS"), geometry)
    matrices.write_density(tmp_path / "x.DM", density)
    matrices.write_densities(tmp_path / "x.TSDE", densities)
    matrices.write_hamiltonian(tmp_path / "x.TSHS", hamiltonian)
    for name, count in (("DM", 1), ("TSDE", 2)):
        header, values, fermi = record_file(source.with_suffix(f".{name}"), count)
        header_again, values_again, fermi_again = record_file(tmp_path / f"x.{name}", count)
        assert header_again == header
        assert fermi_again == pytest.approx(fermi) if fermi is not None else fermi_again is None
        for one, other in zip(values, values_again):
            np.testing.assert_allclose(other, one, atol=1e-14)
    again = matrices.read_hamiltonian(tmp_path / "x.TSHS", geometry)
    assert abs(again.tocsr(0) - hamiltonian.tocsr(0)).max() < 1e-12
    assert abs(again.tocsr(1) - hamiltonian.tocsr(1)).max() < 1e-14


def test_missing_matrix_names_the_keyword(tmp_path):
    geometry = matrices.read_geometry(GOLDEN / "a_ch4_converged", "siesta")
    with pytest.raises(EngineError, match=r"x\.TSDE: is missing; request it with TS\.DE\.Save T"):
        matrices.read_densities(tmp_path / "x.TSDE", geometry)


@pytest.mark.parametrize("connection", ["unix", "process"])
def test_a_guess_is_what_siesta_starts_from(tmp_path, siesta, open_siesta, connection):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(connection=connection, warm_start="auto"), atoms)
    assert engine.matrices() is None
    engine.label(atoms, index=0)
    known = engine.matrices()
    assert known.electrons == pytest.approx(8.0, abs=1e-10)
    rng = np.random.default_rng(3)
    noise = rng.normal(scale=1e-3, size=known.density.dense().shape)
    dense = known.density.dense() + noise + noise.T
    guess = DensityGuess(BlockMatrix.of_dense(known.density.numbers, known.density.shells, dense))
    engine.label(atoms, index=1, guess=guess)
    (started,) = (tmp_path / "s").glob("*/started_from.DM")
    geometry = matrices.read_geometry(started.parent, "otf")
    seen = orbitals.to_blocks(matrices.read_density(started, geometry)).dense()
    written = known.density.dense() != 0.0
    np.testing.assert_allclose(seen[written], dense[written], atol=1e-12)
    engine.label(atoms, index=2, guess=guess, remedies=[FROM_SCRATCH])
    assert engine.label(atoms, index=9, guess=guess).scf_iterations == 9  # nothing of label 8


@pytest.mark.parametrize("connection", ["unix", "process"])
@pytest.mark.parametrize(
    ("mode", "within", "cycles"), [("near", 2.0, 1), ("near", 0.1, 4), ("compute", 2.0, 4)]
)
def test_one_diagonalisation_where_that_is_enough(
    siesta, open_siesta, connection, mode, within, cycles
):
    atoms = molecule("CH4")
    given = {"mode": "one_shot", "one_shot_error_meV_A": within, "warm_start": "learned"}
    engine = open_siesta(siesta(mode, connection=connection, **given), atoms)
    first = engine.label(atoms, index=0)
    guess = DensityGuess(engine.matrices().density)
    labels = engine.label(atoms, index=1, guess=guess)
    assert labels.scf_iterations == cycles
    assert ("one shot, forces within 1.0 meV/A" in labels.provenance) == (cycles == 1)
    assert (engine.matrices() is None) == (cycles == 1)  # no new matrices
    np.testing.assert_allclose(labels.forces, first.forces, atol=1e-9)
    assert engine.label(atoms, index=2).scf_iterations == 4  # starts from the files of label 1
    again = engine.label(atoms, index=3, guess=guess, remedies=[FROM_SCRATCH])
    assert again.scf_iterations == 9


@pytest.mark.parametrize("connection", ["unix", "process"])
def test_a_force_check_costs_the_next_label_nothing(siesta, open_siesta, connection):
    atoms = molecule("CH4")
    engine = open_siesta(siesta("near", connection=connection, warm_start="learned"), atoms)
    first = engine.label(atoms, index=0)
    guess = DensityGuess(engine.matrices().density)
    assert engine.check_forces(atoms, index=9, guess=guess) is None  # nothing of label 8
    found = engine.check_forces(atoms, index=1, guess=guess)
    assert found.within == pytest.approx(1e-3)
    np.testing.assert_allclose(found.forces, first.forces, atol=1e-9)
    assert engine.label(atoms, index=1).scf_iterations == 4  # starts from the files of label 0
    far = atoms.copy()
    far.positions[1] = far.positions[0]
    assert engine.check_forces(far, index=2, guess=guess) is None


def test_one_step_reads_the_hamiltonian_of_one_cycle(tmp_path, siesta, open_siesta):
    """The first structure takes two processes: a density needs the files of an earlier cycle."""
    atoms = molecule("CH4")
    engine = open_siesta(siesta(warm_start="learned"), atoms)
    engine.label(atoms, index=0)
    known = engine.matrices()
    noise = np.random.default_rng(3).normal(scale=1e-3, size=known.density.dense().shape)
    dense = known.density.dense() + noise + noise.T
    guess = DensityGuess(BlockMatrix.of_dense(known.density.numbers, known.density.shells, dense))
    other = open_siesta(siesta(warm_start="learned"), atoms, "other")
    for index in range(2):
        found = other.one_step(atoms, index=index, guess=guess)
        np.testing.assert_array_equal(found.hamiltonian.values, known.hamiltonian.values)
        (started,) = (tmp_path / "other").glob("*/started_from.DM")
        assert started.parent.name == f"label-{index + 1:06d}"
        geometry = matrices.read_geometry(started.parent, "otf")
        seen = orbitals.to_blocks(matrices.read_density(started, geometry)).dense()
        np.testing.assert_allclose(seen, dense, atol=1e-12)
    deck = fdf.read(started.parent / "otf.fdf")
    wanted = {"MaxSCFIterations": "1", "SCF.Mix": "density", "TS.HS.Save": "T", "DM.UseSaveDM": "T"}
    assert {name: deck.value(name) for name in wanted} == wanted
    far = atoms.copy()
    far.positions[1] = far.positions[0]
    assert isinstance(other.one_step(far, index=2, guess=guess), LabelFailure)


@pytest.mark.parametrize("mode", ["unconverged", "nan"])
def test_one_step_that_fails_says_why(siesta, open_siesta, mode):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(mode, warm_start="learned"), atoms)
    guess = DensityGuess(BlockMatrix.of_dense(atoms.numbers, {1: (0,), 6: (0, 1)}, np.eye(8)))
    failure = engine.one_step(atoms, index=0, guess=guess)
    assert isinstance(failure, LabelFailure)
    assert failure.reason.startswith("SIESTA")


def test_one_shot_needs_learned_matrices(siesta):
    with pytest.raises(ValueError, match="one_shot needs learned matrices"):
        load_engine("siesta").Options.model_validate(siesta(mode="one_shot"))


@pytest.mark.parametrize(
    ("structure", "more", "system"),
    [
        ("Si", {"keywords": {"kgrid_cutoff": "10 Ang"}}, {}),
        ("CH4", {}, {"spin": 2}),
        ("CH4", {"keywords": {"SpinPolarized": "T"}}, {}),
    ],
    ids=["k points by a length", "spin", "spin by keyword"],
)
def test_guesses_are_refused_where_they_cannot_be_made(
    siesta, open_siesta, structure, more, system
):
    atoms = bulk("Si", cubic=True) if structure == "Si" else molecule(structure)
    with pytest.raises(EngineError, match=r"engine\.warm_start: .* leave it at true"):
        open_siesta(siesta(warm_start="learned", **more), atoms, **system)


TWO_OF_HYDROGEN = """\
%block ChemicalSpeciesLabel
 1 8 O
 2 1 H
 3 1 Hb
%endblock ChemicalSpeciesLabel
"""


@pytest.mark.parametrize(
    ("second", "block", "alike"),
    [
        ("one", "", True),
        ("another", "", False),
        ("one", "%block PAO.BasisSizes\n Hb SZ\n%endblock PAO.BasisSizes\n", False),
        ("one", "%block PAO.BasisSizes\n O SZ\n%endblock PAO.BasisSizes\n", True),
        ("one", "%block DFTU.Proj\n Hb 1\n%endblock DFTU.Proj\n", False),
    ],
)
def test_species_of_an_element_must_be_alike(tmp_path, second, block, alike):
    for label, content in (("O", "oxygen"), ("H", "one"), ("Hb", second)):
        (tmp_path / f"{label}.psf").write_text(content)
    (tmp_path / "x.fdf").write_text(TWO_OF_HYDROGEN + block)
    deck = fdf.read(tmp_path / "x.fdf")
    if alike:
        guesses.require_alike(deck, tmp_path)
        return
    with pytest.raises(EngineError, match=r"unlike H and Hb; leave it at true"):
        guesses.require_alike(deck, tmp_path)


def test_matrices_that_cannot_be_read_cost_no_label(siesta, open_siesta, caplog):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(warm_start="auto", connection="process"), atoms)
    assert isinstance(engine.label(atoms, index=0), Labels)
    (path,) = Path(engine._job.scratch).glob("label-000000/otf.TSHS")
    path.write_bytes(path.read_bytes()[:500])
    assert engine.matrices() is None
    assert "cannot be read" in caplog.text


def test_a_crystals_own_hamiltonian_gives_its_density_matrix():
    folder = GOLDEN / "b_si8_k222"
    deck, atoms = fdf.read(folder / "siesta.fdf"), read_structure(fdf.read(folder / "siesta.fdf"))
    known = guesses.read_matrices(folder, "siesta", guesses.occupation_of(deck, atoms, 0))
    assert known.electrons == pytest.approx(32.0)
    assert len(known.kpoints) == 8
    found = density_of(
        known.hamiltonian, known.overlap, known.electrons, known.kpoints, known.smearing_eV
    )
    there = known.density.on(found.pairs).values != 0.0
    difference = (found.values - known.density.on(found.pairs).values)[there]
    assert np.abs(difference).max() < 1e-5
    assert np.abs(found.values[there]).max() > 0.5
    levels = levels_of(known.hamiltonian, known.overlap, known.electrons, known.kpoints)
    filled = slice(levels.occupied)
    band_energy = np.vdot(known.density.on(found.pairs).values, known.hamiltonian.values)
    assert 2.0 * levels.weights[filled].sum() == pytest.approx(known.electrons)
    twice = 2.0 * levels.weights[filled] @ levels.energies[filled]
    assert twice == pytest.approx(band_energy, abs=1e-3)
    assert 0.2 < levels.gap < 1.5


@pytest.mark.parametrize(("case", "order"), [("k_si2_gamma_aux", None), ("l_si2_mp", 1)])
def test_density_matrices_at_gamma_alone_and_with_other_occupations(case, order):
    """Two atoms at 3000 and 4000 K: the orbitals overlap with their own images."""
    folder = GOLDEN / case
    deck, atoms = fdf.read(folder / "siesta.fdf"), read_structure(fdf.read(folder / "siesta.fdf"))
    known = guesses.read_matrices(folder, "siesta", guesses.occupation_of(deck, atoms, 0))
    assert known.methfessel_paxton == order
    assert len(known.kpoints) == (1 if order is None else 8)
    differences = {}
    for tried in (None, 1):
        found = density_of(
            known.hamiltonian,
            known.overlap,
            known.electrons,
            known.kpoints,
            known.smearing_eV,
            methfessel_paxton=tried,
        )
        there = known.density.on(found.pairs).values != 0.0
        difference = (found.values - known.density.on(found.pairs).values)[there]
        differences[tried] = np.abs(difference).max()
    assert differences[order] < 2e-5
    assert differences[None if order else 1] > 1e-3


@pytest.mark.parametrize("case", ["a_ch4_converged", "b_si8_k222"])
def test_the_overlap_of_a_bond_is_round(case):
    """Along a bond only orbitals of equal m overlap: detects a wrong sign or order of orbitals."""
    geometry = matrices.read_geometry(GOLDEN / case, "siesta")
    hamiltonian = matrices.read_hamiltonian(GOLDEN / case / "siesta.TSHS", geometry)
    atoms = read_structure(fdf.read(GOLDEN / case / "siesta.fdf"))
    overlap = orbitals.to_blocks(hamiltonian, hamiltonian.S_idx)
    assert_round(overlap, atoms)
    density = matrices.read_density(GOLDEN / case / "siesta.DM", geometry)
    again = orbitals.from_blocks(orbitals.to_blocks(density), density)
    assert abs(again.tocsr(0) - density.tocsr(0)).max() < 1e-13
