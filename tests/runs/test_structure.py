"""Starting structures as people have them: what is refused, corrected or questioned."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from otf.config.reader import config_of
from otf.engines.labels import Labels
from otf.errors import ConfigError
from otf.io.export import write_frames, write_labels
from otf.io.frames import Frames
from otf.io.labels import StoredLabel
from otf.io.structure_file import read_structure
from otf.runs.structure import make_structure, notes_on

FILES = Path(__file__).parents[1] / "golden" / "structures"
WATER = "1.0\n5 0 0\n0 5 0\n0 0 5\n{names}\n1 2\nCartesian\n0 0 0.1\n0 0.76 -0.47\n0 -0.76 -0.47\n"


def configured(path: Path, **dynamics):
    return config_of(
        {
            "system": {"structure": str(path)},
            "engine": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
            "dynamics": {"steps": 5, "timestep_fs": 1.0, **dynamics},
        },
        Path(),
    )


def made(path: Path, **dynamics) -> Atoms:
    return make_structure(configured(path, **dynamics), Path())


def test_heavy_water_has_its_masses():
    atoms = made(FILES / "deuterium.xyz")
    assert str(atoms.symbols) == "OH2"
    np.testing.assert_allclose(atoms.get_masses(), [15.999, 2.014101778, 2.014101778])


@pytest.mark.parametrize(
    ("names", "masses"), [("O1 H1", [16, 1, 1]), ("O D", [16, 2, 2]), ("O_s T", [16, 3, 3])]
)
def test_species_of_vasp_files(tmp_path, names, masses):
    path = tmp_path / "POSCAR"
    path.write_text(f"{names}\n" + WATER.format(names=names))
    atoms = read_structure(path)
    assert str(atoms.symbols) == "OH2"
    np.testing.assert_allclose(atoms.get_masses(), masses, atol=0.02)
    assert atoms.pbc.all()


def test_an_unknown_species_is_named(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("1\n\nQq 0 0 0\n")
    with pytest.raises(ConfigError, match="there is no element 'Qq'"):
        made(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("partial_occupancy.cif", r"partially occupied \(Li 0\.5, Na 0\.5\)"),
        ("coincident_atoms.extxyz", r"atoms 0 and 4 \(Al, Al\) are 0\.00 Angstrom apart"),
    ],
)
def test_what_cannot_be_simulated_is_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        made(FILES / name)


def test_what_may_not_be_meant_is_questioned(tmp_path):
    config = configured(FILES / "crystal_pbc_false.extxyz")
    (note,) = notes_on(config, make_structure(config, Path()))
    assert 'write pbc="T T T"' in note
    crystal = bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "still.traj", crystal)
    assert notes_on(configured(tmp_path / "still.traj"), made(tmp_path / "still.traj")) == []
    crystal.set_momenta(np.full((4, 3), 0.1))
    ase.io.write(tmp_path / "moving.traj", crystal)
    config = configured(tmp_path / "moving.traj")
    (note,) = notes_on(config, make_structure(config, Path()))
    assert "dynamics.velocities: structure takes them" in note
    config = configured(tmp_path / "moving.traj", velocities="structure")
    assert notes_on(config, make_structure(config, Path())) == []


def handedness(positions) -> float:
    return float(np.linalg.det(np.asarray(positions)[1:4] - np.asarray(positions)[0]))


def test_left_handed_cells_are_exported_right_handed_and_not_mirrored(tmp_path):
    cell = np.array([[5.0, 0.0, 0.0], [0.3, 0.2, 6.0], [0.1, 7.0, 0.5]])
    assert np.linalg.det(cell) < 0.0
    rng = np.random.default_rng(0)
    atoms = Atoms("HCNO", positions=4.0 * rng.random((4, 3)), cell=cell, pbc=True)
    velocities = rng.normal(size=(1, 4, 3))
    frames = Frames("test", atoms, atoms.positions[None], cell[None], velocities=velocities)
    write_frames(frames, tmp_path / "out.lammpstrj", "lammps-dump")
    read = ase.io.read(tmp_path / "out.lammpstrj", format="lammps-dump-text")
    assert handedness(read.positions) == pytest.approx(handedness(atoms.positions), abs=1e-6)
    speeds = read.get_velocities() * units.fs
    assert handedness(speeds) == pytest.approx(handedness(velocities[0]), abs=1e-6)
    one, other = (np.sort(a.get_all_distances(mic=True).ravel()) for a in (atoms, read))
    np.testing.assert_allclose(one, other, atol=1e-6)
    labels = Labels(-1.0, np.zeros((4, 3)))
    write_labels([StoredLabel(0, 0, atoms, labels)], tmp_path / "deepmd", "deepmd")
    box = np.load(tmp_path / "deepmd" / "set.000" / "box.npy").reshape(3, 3)
    assert np.linalg.det(box) > 0.0
    assert sorted(map(tuple, box)) == sorted(map(tuple, cell))


def test_energies_of_other_states_are_not_exported(tmp_path):
    atoms = Atoms("H2", positions=[(0, 0, 0), (0, 0, 0.7)])
    stored = [
        StoredLabel(i, i, atoms, Labels(-1.0 + level, np.zeros((2, 3)), level=level))
        for i, level in enumerate((0.0, 0.8, 0.0))
    ]
    write_labels(stored, tmp_path / "a.extxyz", "mace")
    assert len(ase.io.read(tmp_path / "a.extxyz", ":")) == 2
