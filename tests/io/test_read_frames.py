"""Reading trajectories of all supported formats."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from scipy.io import FortranFile

from otf.errors import FileError, RunError
from otf.io.read_frames import read_frames

GOLDEN = Path(__file__).parents[1] / "golden"


def test_openmx_md():
    frames = read_frames(GOLDEN / "openmx/f_nve20/ch4.md")
    assert len(frames) == 20
    assert str(frames.atoms.symbols) == "CH4"
    np.testing.assert_allclose(frames.time_fs, 0.5 * np.arange(20))
    assert frames.cells[3].tolist() == (9.0 * np.eye(3)).tolist()
    assert frames.series["potential_energy_eV"][0] == pytest.approx(-8.21592 * units.Hartree)
    steps = np.diff(frames.positions, axis=0) / 0.5  # its velocities are at half steps
    np.testing.assert_allclose(frames.velocities[1:], steps, atol=1e-4)


def test_openmx_md_that_is_being_written(tmp_path):
    text = (GOLDEN / "openmx/f_nve20/ch4.md").read_text().splitlines()
    cut = tmp_path / "ch4.md"
    cut.write_text("\n".join(text[:-3]) + "\n")
    assert len(read_frames(cut)) == 19


def test_siesta_md():
    frames = read_frames(GOLDEN / "siesta/f_ch4_md20/siesta.MD", timestep_fs=0.5)
    assert len(frames) == 20
    assert str(frames.atoms.symbols) == "CH4"
    assert frames.cells[0, 0, 0] == pytest.approx(6.0, abs=1e-4)
    steps = np.diff(frames.positions, axis=0) / 0.5
    assert np.std(frames.velocities[1:] - steps) < 0.1 * np.std(steps)
    bonds = np.linalg.norm(frames.positions[:, 1:] - frames.positions[:, :1], axis=2)
    assert 0.95 < bonds.min() < bonds.max() < 1.3


def test_siesta_ani_takes_the_cell_beside_it(tmp_path):
    source = read_frames(GOLDEN / "siesta/f_ch4_md20/siesta.MD")
    lines = []
    for positions in source.positions:
        lines += [" 5", ""]
        lines += [
            f" {s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(source.atoms.symbols, positions)
        ]
    (tmp_path / "siesta.ANI").write_text("\n".join(lines) + "\n")
    bare = read_frames(tmp_path / "siesta.ANI")
    assert not bare.atoms.pbc.any()
    (tmp_path / "siesta.XV").write_bytes((GOLDEN / "siesta/f_ch4_md20/siesta.XV").read_bytes())
    frames = read_frames(tmp_path / "siesta.ANI")
    assert frames.atoms.pbc.all()
    assert frames.cells[7, 1, 1] == pytest.approx(6.0, abs=1e-4)
    np.testing.assert_allclose(frames.positions, source.positions, atol=1e-6)


@pytest.mark.parametrize("name", ["XDATCAR", "moving.extxyz", "moving.traj"])
def test_atoms_that_were_wrapped_are_followed(tmp_path, name):
    atoms = bulk("Al", cubic=True)
    frames = []
    for step in range(30):
        moved = atoms.copy()
        moved.positions += (0.4 * step, 0.1 * step, 0.0)
        moved.wrap()
        frames.append(moved)
    ase.io.write(tmp_path / name, frames, format="vasp-xdatcar" if name == "XDATCAR" else None)
    found = read_frames(tmp_path / name, timestep_fs=2.0)
    shift = found.positions[-1] - found.positions[0]
    np.testing.assert_allclose(shift, np.tile((11.6, 2.9, 0.0), (4, 1)), atol=1e-5)
    assert found.time_fs[-1] == 58.0


def test_siesta_md_with_a_cell_that_moves(tmp_path):
    (tmp_path / "siesta.XV").write_bytes((GOLDEN / "siesta/f_ch4_md20/siesta.XV").read_bytes())
    cells = [np.diag([6.0, 6.0, z]) for z in (5.0, 6.0, 7.0)]
    with FortranFile(tmp_path / "siesta.MD", "w") as file:
        for step, cell in enumerate(cells):
            file.write_record(np.int32(step), np.zeros((2, 5, 3)))
            file.write_record(np.array([cell, np.zeros((3, 3))]) / units.Bohr)
    found = read_frames(tmp_path / "siesta.MD")
    np.testing.assert_allclose(found.cells, cells)


def test_a_slab_without_a_third_vector(tmp_path):
    slab = Atoms("Al2", [(0, 0, 0), (2, 2, 1)], cell=[4, 4, 0], pbc=(True, True, False))
    frames = []
    for step in range(20):
        frames.append(slab.copy())
        frames[-1].positions += (0.5 * step, 0.0, 0.0)
        frames[-1].wrap()
    ase.io.write(tmp_path / "slab.traj", frames)
    found = read_frames(tmp_path / "slab.traj")
    assert found.positions[-1, 0, 0] - found.positions[0, 0, 0] == pytest.approx(9.5)


def test_times_and_velocities_of_extxyz_are_taken(tmp_path):
    atoms = Atoms("He2", [(0, 0, 0), (3, 0, 0)], momenta=[(1, 0, 0), (0, 2, 0)])
    frames = []
    for step in range(5):
        frames.append(atoms.copy())
        frames[-1].info["time_fs"] = 0.5 * step
    ase.io.write(tmp_path / "he.extxyz", frames)
    found = read_frames(tmp_path / "he.extxyz")
    assert found.time_fs.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    np.testing.assert_allclose(found.velocities[0], atoms.get_velocities() * units.fs, rtol=1e-6)
    assert len(found.between(0.5, 1.5)) == 3
    assert found.between(None, None, 2).time_fs.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(RunError, match="no frame is between"):
        found.between(9.0, None)


def test_what_is_no_trajectory_is_named(tmp_path):
    with pytest.raises(FileError, match=r"gone\.xyz: does not exist"):
        read_frames(tmp_path / "gone.xyz")
    with pytest.raises(FileError, match=r"trajectory\.h5: does not exist"):
        read_frames(tmp_path)
    for name in ("a.xyz", "a.md", "a.MD", "a.h5", "a.ANI", "a.foo"):
        (tmp_path / name).write_bytes(b"\x00\x01 nothing of this kind\n" * 5)
        with pytest.raises(FileError, match="a\\."):
            read_frames(tmp_path / name)
    ase.io.write(tmp_path / "two.extxyz", [Atoms("He"), Atoms("He2", [(0, 0, 0), (1, 0, 0)])])
    with pytest.raises(FileError, match="its frames hold different atoms"):
        read_frames(tmp_path / "two.extxyz")
