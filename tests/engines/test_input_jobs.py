"""Input files of OpenMX and SIESTA as whole jobs: structure, constraints, velocities, dynamics."""

from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.constraints import FixAtoms, FixCartesian

from otf.config import read_config
from otf.engines.placement import cell_for
from otf.engines.registry import load_engine
from otf.errors import EngineError
from otf_openmx.deck import read
from otf_openmx.geometry import cell_of_molecule
from otf_siesta import fdf
from otf_siesta.changes import set_output

GOLDEN = Path(__file__).parents[1] / "golden"
WATER_A = [[4.0, 4.0, 4.0], [4.757, 4.586, 4.0], [3.243, 4.586, 4.0]]


def job_of(name: str):
    kind = name.split("_")[0]
    return load_engine(kind).job(GOLDEN / kind / "decks" / name)


def dynamics_of(job) -> dict[str, object]:
    return {key: given.value for key, given in job.dynamics.items()}


def job_in(text: str, folder: Path):
    base = (GOLDEN / "siesta" / "decks" / "siesta_base.fdf").read_text()
    path = folder / "job.fdf"
    path.write_text(base + text)
    return load_engine("siesta").job(path)


@pytest.mark.parametrize(
    "name",
    [
        "openmx_base.dat",
        "openmx_bom.dat",
        "siesta_base.fdf",
        "siesta_bom.fdf",
        "siesta_d_exp_coord.fdf",
        "siesta_d_exp_lc.fdf",
        "siesta_endblock_bare.fdf",
        "siesta_ghost_unused.fdf",
        "siesta_lc_nounit.fdf",
        "siesta_n_missing.fdf",
        "siesta_pm.fdf",
        "siesta_rule_line.fdf",
        "siesta_separators.fdf",
        "siesta_species_reversed.fdf",
        "siesta_two_H_species.fdf",
    ],
)
def test_the_same_water_molecule_in_every_valid_syntax(name):
    job = job_of(name)
    assert job.atoms.get_chemical_formula() == "H2O"
    np.testing.assert_allclose(job.atoms.positions, WATER_A, atol=1e-6)
    np.testing.assert_allclose(job.atoms.cell.array, 8.0 * np.eye(3), atol=1e-4)
    assert job.atoms.pbc.all()
    assert not job.dynamics
    assert not job.left


@pytest.mark.parametrize("name", ["openmx_nocell.dat", "siesta_nocell.fdf"])
def test_a_structure_without_a_cell_is_a_molecule(name):
    atoms = job_of(name).atoms
    assert not atoms.pbc.any()
    assert atoms.cell.rank == 0
    np.testing.assert_allclose(atoms.positions, WATER_A)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openmx_number_mismatch.dat", "Atoms.Number is 2, but .* has 3 rows"),
        ("openmx_unit_angstrom.dat", "Atoms.UnitVectors.Unit angstrom is not Ang or AU"),
    ],
)
def test_what_cannot_be_a_job_is_refused_with_the_reason(name, message):
    with pytest.raises(EngineError, match=message):
        job_of(name)


def test_ghosts_are_no_atoms_but_are_counted_by_constraints(tmp_path):
    job = job_of("siesta_ghost.fdf")
    assert str(job.atoms.symbols) == "O"
    assert "2 ghosts, which stay where they are" in job.of_atoms
    text = (GOLDEN / "siesta" / "decks" / "siesta_base.fdf").read_text()
    rows = "4.0 4.0 4.0 1\n 4.0 4.0 6.0 3\n"
    text = text.replace("4.0 4.0 4.0 1\n", rows).replace("NumberOfAtoms 3", "NumberOfAtoms 4")
    text = text.replace("%endblock ChemicalSpeciesLabel", "3 -8 ghost\n%endblock Chemical")
    path = tmp_path / "job.fdf"
    path.write_text(text + "%block GeometryConstraints\n position 2 3\n%endblock\n")
    job = load_engine("siesta").job(path)
    assert str(job.atoms.symbols) == "OH2"
    np.testing.assert_allclose(job.atoms.positions, WATER_A)
    assert [c.index.tolist() for c in job.atoms.constraints] == [[1]]


def test_synthetic_atoms_are_refused(tmp_path):
    text = (GOLDEN / "siesta" / "decks" / "siesta_base.fdf").read_text()
    path = tmp_path / "job.fdf"
    path.write_text(text.replace("1 8 O", "1 208 ON"))
    with pytest.raises(EngineError, match="of species ON, which is synthetic"):
        load_engine("siesta").job(path)


def test_origin_supercell_and_masses_of_siesta():
    np.testing.assert_allclose(
        job_of("siesta_origin.fdf").atoms.positions, np.add(WATER_A, [1.0, 0.0, 0.0])
    )
    doubled = job_of("siesta_supercell.fdf").atoms
    assert doubled.get_chemical_formula() == "H4O2"
    np.testing.assert_allclose(doubled.cell.lengths(), [16.0, 8.0, 8.0])
    np.testing.assert_allclose(job_of("siesta_mass.fdf").atoms.get_masses()[1:], 2.014)


def test_an_atom_of_the_supercell_keeps_its_species(tmp_path):
    job = job_in("%block SuperCell\n 1 0 0\n 0 2 0\n 0 0 1\n%endblock SuperCell\n", tmp_path)
    assert str(job.atoms.symbols) == "OH2OH2"
    text = "%block SuperCell\n 2 0 0\n 0 2 0\n 0 0 1\n%endblock SuperCell\n"
    oxygen = job_in(text, tmp_path).atoms.positions[::3]  # the first vector is the fastest
    shifts = [(0, 0, 0), (8, 0, 0), (0, 8, 0), (8, 8, 0)]
    np.testing.assert_allclose(oxygen - WATER_A[0], shifts, atol=1e-12)
    with pytest.raises(EngineError, match="SuperCell is not diagonal"):
        job_in("%block SuperCell\n 1 1 0\n 0 2 0\n 0 0 1\n%endblock SuperCell\n", tmp_path)


def test_a_molecule_without_a_cell_is_not_repeated(tmp_path):
    text = (GOLDEN / "siesta" / "decks" / "siesta_nocell.fdf").read_text()
    path = tmp_path / "job.fdf"
    path.write_text(text + "%block SuperCell\n 2 0 0\n 0 1 0\n 0 0 1\n%endblock SuperCell\n")
    assert str(load_engine("siesta").job(path).atoms.symbols) == "OH2"


def test_fewer_atoms_than_rows_are_the_first_ones(tmp_path):
    text = (GOLDEN / "siesta" / "decks" / "siesta_base.fdf").read_text()
    path = tmp_path / "job.fdf"
    path.write_text(text.replace("NumberOfAtoms 3", "NumberOfAtoms 2"))
    assert str(load_engine("siesta").job(path).atoms.symbols) == "OH"
    path.write_text(text.replace("NumberOfAtoms 3", "NumberOfAtoms 4"))
    with pytest.raises(EngineError, match=r"NumberOfAtoms is 4, but .* has 3 rows"):
        load_engine("siesta").job(path)


def test_entries_and_blocks_in_other_files(tmp_path):
    (tmp_path / "other.fdf").write_text("MeshCutoff 321 Ry\nSpin polarized\n")
    (tmp_path / "job.fdf").write_text("MeshCutoff < other.fdf\nSystemName x\n")
    deck = fdf.read(tmp_path / "job.fdf")
    assert deck.value("MeshCutoff") == "321 Ry"
    assert deck.value("Spin") is None


def fixed_components(atoms) -> np.ndarray:
    """Components that do not move, by what the constraints do to forces."""
    forces = np.ones((len(atoms), 3))
    for constraint in atoms.constraints:
        constraint.adjust_forces(atoms, forces)
    return forces == 0.0


@pytest.mark.parametrize(
    ("lines", "fixed"),
    [
        (" position from 1 to 2", [[1, 1, 1], [1, 1, 1], [0, 0, 0]]),
        (" position from -1 to -2", [[0, 0, 0], [1, 1, 1], [1, 1, 1]]),
        (" position 1 3", [[1, 1, 1], [0, 0, 0], [1, 1, 1]]),
        (" atom [1 -- 2]", [[1, 1, 1], [1, 1, 1], [0, 0, 0]]),
        (" atom [1, 3]", [[1, 1, 1], [0, 0, 0], [1, 1, 1]]),
        (" atom ALL", [[1, 1, 1]] * 3),
        (" position 2 0.0 0.0 1.0", [[0, 0, 0], [0, 0, 1], [0, 0, 0]]),
        (" atom 2 1.0 0. 0.\n atom 2 0.0 0.0 1.d0", [[0, 0, 0], [1, 0, 1], [0, 0, 0]]),
        (" Z 1", [[0, 0, 0], [1, 1, 1], [1, 1, 1]]),
        (" species-i 1", [[1, 1, 1], [0, 0, 0], [0, 0, 0]]),
        (" Z 1\n clear 3", [[0, 0, 0], [1, 1, 1], [0, 0, 0]]),
        (" Z 1\n atom 1\n clear-prev 1", [[0, 0, 0], [1, 1, 1], [1, 1, 1]]),
    ],
)
@pytest.mark.parametrize("name", ["GeometryConstraints", "Geometry.Constraints"])
def test_constraints_of_siesta(tmp_path, name, lines, fixed):
    job = job_in(f"%block {name}\n{lines}\n%endblock {name}\n", tmp_path)
    np.testing.assert_array_equal(fixed_components(job.atoms), np.array(fixed, dtype=bool))
    assert job.of_atoms


@pytest.mark.parametrize(
    "line",
    ["rigid 1 2 3", "stress 4 5 6", "routine constr", "atom 1 1.0 1.0 0.0", "center 1 2", "new 1"],
)
def test_constraints_without_an_equivalent_are_refused(tmp_path, line):
    with pytest.raises(EngineError, match=f"job.fdf: GeometryConstraints: '{line}'"):
        job_in(f"%block GeometryConstraints\n {line}\n%endblock GeometryConstraints\n", tmp_path)


def test_constraints_of_atoms_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(EngineError, match="names atoms that are not there"):
        job_in("%block GeometryConstraints\n position 4\n%endblock\n", tmp_path)


def test_fixed_components_of_openmx(tmp_path):
    job = job_of("openmx_fixed.dat")
    assert isinstance(job.atoms.constraints[0], FixAtoms)
    assert job.of_atoms == ("1 atom fixed (MD.Fixed.XYZ)",)
    text = (GOLDEN / "openmx" / "decks" / "openmx_fixed.dat").read_text()
    path = tmp_path / "job.dat"
    path.write_text(text.replace(" 2 0 0 0", " 2 0 0 1"))
    partly = load_engine("openmx").job(path).atoms
    assert any(isinstance(c, FixCartesian) for c in partly.constraints)
    expected = np.array([[1, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(fixed_components(partly), expected)


def test_velocities_of_openmx_are_in_metres_per_second():
    job = job_of("openmx_initvel.dat")
    speed_A_fs = job.atoms.get_velocities()[0, 0] * units.fs
    assert speed_A_fs == pytest.approx(3000.0 * 1e-5)
    assert job.dynamics["velocities"].value == "structure"


def test_dynamics_of_openmx(tmp_path):
    assert dynamics_of(job_of("openmx_md_nvt.dat")) == {
        "ensemble": "nhc",
        "steps": 1000,
        "timestep_fs": 1.0,
        "temperature_K": 500.0,
    }
    path = tmp_path / "job.dat"
    text = (GOLDEN / "openmx" / "decks" / "openmx_base.dat").read_text()
    path.write_text(text + "MD.Type NVT_Langevin  of the manual\nLangevin.Friction.Factor 0.001\n")
    found = load_engine("openmx").job(path).dynamics
    assert found["friction_per_ps"].value == pytest.approx(41.34, rel=1e-3)
    path.write_text(
        text
        + "MD.Type NVT_VS\n<MD.TempControl\n 2\n 10 2 300. 0.\n 500 2 600. 0.\nMD.TempControl>\n"
    )
    job = load_engine("openmx").job(path)
    assert job.dynamics["temperature_K"].value == 300.0
    assert job.dynamics["temperature_end_K"].value == 600.0
    assert "samples no canonical ensemble" in job.left[0]
    path.write_text(text + "MD.Type Opt\nMD.maxIter 50\n")
    job = load_engine("openmx").job(path)
    assert not job.dynamics
    assert job.left == ("MD.Type Opt: is not molecular dynamics",)


def test_dynamics_of_siesta(tmp_path):
    assert dynamics_of(job_of("siesta_md.fdf")) == {
        "ensemble": "nhc",
        "steps": 1000,
        "timestep_fs": 1.0,
        "temperature_K": 500.0,
    }
    job = job_in(
        "MD.TypeOfRun Anneal\nMD.AnnealOption Temperature\nMD.InitialTimeStep 11\n"
        "MD.FinalTimeStep 110\nMD.TauRelax 0.05 ps\n"
        "MD.TargetTemperature 400 K\nMD.InitialTemperature 300 K\n",
        tmp_path,
    )
    assert dynamics_of(job) == {
        "ensemble": "csvr",
        "steps": 100,
        "timestep_fs": 1.0,
        "temperature_K": 400.0,
        "time_constant_fs": 50.0,
    }
    assert any("MD.InitialTemperature 300 K" in line for line in job.left)
    for kind in ("NoseParrinelloRahman", "Anneal"):
        pressed = job_in(f"MD.TypeOfRun {kind}\nMD.TargetPressure 10 GPa\n", tmp_path)
        assert pressed.dynamics["ensemble"].value == "npt_full"
        assert pressed.dynamics["pressure_GPa"].value == 10.0
    assert not job_in("MD.TypeOfRun ParrinelloRahman\n", tmp_path).dynamics
    assert job_in("MD.TypeOfRun CG\n", tmp_path).left == (
        "MD.TypeOfRun CG: is not molecular dynamics",
    )


def test_a_saved_structure_of_siesta_takes_precedence(tmp_path):
    saved = GOLDEN / "siesta" / "f_ch4_md20"
    xv = next(saved.glob("*.XV")).read_text()
    deck = (saved / "siesta.fdf").read_text()
    label = next(saved.glob("*.XV")).stem
    path = tmp_path / "job.fdf"
    path.write_text(f"SystemLabel {label}\nMD.UseSaveXV T\n" + deck)
    without = load_engine("siesta").job(path)
    assert any("there is no" in line for line in without.of_atoms)
    (tmp_path / f"{label}.XV").write_text(xv)
    job = load_engine("siesta").job(path)
    rows = [line.split() for line in xv.splitlines()[4:]]
    positions = np.array([[float(x) for x in row[2:5]] for row in rows]) * 0.529177
    velocities = np.array([[float(x) for x in row[5:8]] for row in rows]) * 0.529177
    np.testing.assert_allclose(job.atoms.positions, positions, atol=1e-9)
    np.testing.assert_allclose(job.atoms.get_velocities() * units.fs, velocities, atol=1e-9)
    assert np.abs(job.atoms.positions - without.atoms.positions).max() > 1e-3
    assert job.dynamics["velocities"].value == "structure"
    (tmp_path / f"{label}.XV").write_text("\n".join(xv.splitlines()[:6]))
    with pytest.raises(EngineError, match="it is incomplete"):
        load_engine("siesta").job(path)


def test_a_structure_file_of_siesta_takes_precedence_over_blocks(tmp_path):
    (tmp_path / "h2o.STRUCT_IN").write_text(
        " 10.0 0 0\n 0 10.0 0\n 0 0 10.0\n 3\n 1 8 0.5 0.5 0.5\n 2 1 0.55 0.55 0.5\n"
        " 2 1 0.45 0.55 0.5\n"
    )
    job = job_in("MD.UseStructFile T\n", tmp_path)
    np.testing.assert_allclose(job.atoms.positions[0], [5.0, 5.0, 5.0])
    np.testing.assert_allclose(job.atoms.cell.lengths(), 10.0)


CONFIG = """system:
  from: {deck}
engine:
  kind: openmx
  template: {deck}
  command: openmx
"""


def test_dynamics_left_out_of_the_configuration_is_that_of_the_file(tmp_path):
    deck = GOLDEN / "openmx" / "decks" / "openmx_md_nvt.dat"
    path = tmp_path / "job.yaml"
    path.write_text(CONFIG.format(deck=deck))
    config = read_config(path)
    assert config.dynamics.ensemble == "nhc"
    assert config.dynamics.steps == 1000
    assert config.dynamics.temperature_K == 500.0
    assert "openmx_md_nvt.dat: dynamics.steps: 1000 (MD.maxIter 1000)" in config.from_job


def test_dynamics_of_the_configuration_takes_precedence(tmp_path):
    deck = GOLDEN / "openmx" / "decks" / "openmx_md_nvt.dat"
    path = tmp_path / "job.yaml"
    path.write_text(CONFIG.format(deck=deck) + "dynamics: {steps: 20, temperature_K: 300}\n")
    config = read_config(path)
    assert config.dynamics.steps == 20
    assert config.dynamics.temperature_K == 300.0
    assert config.dynamics.ensemble == "nhc"
    assert "openmx_md_nvt.dat: left: MD.maxIter 1000; dynamics.steps is 20" in config.from_job


def test_stages_of_the_configuration_replace_the_dynamics_of_the_file(tmp_path):
    deck = GOLDEN / "openmx" / "decks" / "openmx_md_nvt.dat"
    path = tmp_path / "job.yaml"
    path.write_text(
        CONFIG.format(deck=deck) + "dynamics: {stages: [{name: a, steps: 5, ensemble: csvr}]}\n"
    )
    assert read_config(path).dynamics.total_steps == 5


def test_constraints_of_a_template_are_left_where_the_structure_is_another(tmp_path):
    deck = GOLDEN / "openmx" / "decks" / "openmx_fixed.dat"
    path = tmp_path / "job.yaml"
    text = CONFIG.format(deck=deck).replace(f"from: {deck}", "molecule: H2O")
    path.write_text(text + "dynamics: {steps: 5}\n")
    config = read_config(path)
    assert any("left, as the structure is not from it: 1 atom" in x for x in config.from_job)


def test_the_cell_of_a_molecule_is_the_one_openmx_makes(tmp_path):
    (tmp_path / "PAO").mkdir()
    for name, radius in (("O6.0", 6.0), ("H5.0", 5.0)):
        text = f"# basis\nradial.cutoff.pao {radius}\n"
        (tmp_path / "PAO" / f"{name}.pao").write_text(text)
    deck = read(GOLDEN / "openmx" / "decks" / "openmx_nocell.dat")
    deck.put("DATA.PATH", tmp_path)
    atoms = job_of("openmx_nocell.dat").atoms
    # Printed by OpenMX 3.9 for this file.
    printed = np.diag([7.486350, 7.047645, 6.985140])
    np.testing.assert_allclose(cell_of_molecule(deck, atoms), printed, atol=1e-6)
    (tmp_path / "PAO" / "O6.0.pao").unlink()
    assert cell_of_molecule(deck, atoms) is None


def test_a_molecule_takes_the_cell_of_the_template_if_it_fits():
    given = {"vacuum_A": 5.0, "source": "job.dat"}
    water, cell = molecule("H2O"), 8.0 * np.eye(3)
    np.testing.assert_array_equal(cell_for(water, template=cell, **given), cell)
    assert cell_for(water, template=None, **given).diagonal().max() > 10.0
    with pytest.raises(EngineError, match=r"job.dat: its cell leaves .* set engine.vacuum_A"):
        cell_for(water, template=2.0 * np.eye(3), **given)
    slab = molecule("H2O")
    slab.set_cell([5.0, 5.0, 0.0])
    slab.pbc = (True, True, False)
    with pytest.raises(EngineError, match="periodic in all three directions"):
        cell_for(slab, template=cell, **given)


def test_results_that_no_label_needs_are_switched_off():
    deck = fdf.read(GOLDEN / "siesta" / "decks" / "siesta_post.fdf")
    set_output(deck, history_depth=0, hamiltonian=False, kept=["WriteDenchar"])
    assert deck.value("SaveRho") == "F"
    assert deck.value("WriteMullikenPop") == "0"
    assert deck.block("LocalDensityOfStates") is None
    assert deck.value("WriteDenchar") == "T"
