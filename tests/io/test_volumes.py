"""Reading and writing density files."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.io import FortranFile

from otf.errors import FileError
from otf.io.volumes import read_cube, read_density, write_cube, write_volume
from otf.orbitals.grids import grid_of
from otf.postprocess.electronic.point_densities import learn_points
from otf.units import BOHR

GOLDEN = Path(__file__).parents[1] / "golden" / "siesta" / "g_h2o_rho"


@pytest.mark.parametrize("atoms", [bulk("Si"), Atoms("OH", [[1, 2, 3], [1, 2, 4]])])
def test_a_cube_comes_back(tmp_path, atoms):
    grid = grid_of(atoms, 0.7)
    density = np.random.default_rng(1).uniform(size=grid.shape)
    write_cube(tmp_path / "a.cube", atoms, grid, density)
    again, same, values = read_cube(tmp_path / "a.cube")
    np.testing.assert_allclose(again.positions, atoms.positions, atol=1e-5)
    np.testing.assert_allclose(same.origin, grid.origin, atol=1e-5)
    np.testing.assert_allclose(same.steps, grid.steps, atol=1e-6)
    np.testing.assert_allclose(values, density, rtol=1e-4)
    write_volume(tmp_path / "a.h5", atoms, grid, density)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["density"], density)
        np.testing.assert_array_equal(file["density"].attrs["steps_A"], grid.steps)


def test_densities_of_siesta_have_its_electrons(tmp_path):
    """Both files of a real run agree, also with the positions of the nuclei."""
    atoms, grid, values = read_density(GOLDEN / "siesta.RHO")
    assert atoms.get_chemical_formula() == "H2O"
    assert atoms.pbc.all()
    assert grid.shape == values.shape == (32, 32, 32)
    assert values.sum() * grid.volume == pytest.approx(8.0, abs=1e-4)
    _, same, again = read_density(GOLDEN / "Rho.grid.nc")
    np.testing.assert_allclose(again, values, rtol=1e-5)
    np.testing.assert_allclose(same.steps, grid.steps, rtol=1e-6)
    # The valence density peaks about half an Angstrom from the oxygen.
    densest = np.array(np.unravel_index(values.argmax(), grid.shape)) @ grid.steps
    away = (densest - atoms.positions[0] + 2.5) % 5.0 - 2.5
    assert 0.2 < np.linalg.norm(away) < 0.6


def test_a_molecule_may_reach_over_the_border_of_its_box(tmp_path):
    values = read_density(GOLDEN / "siesta.RHO")[2]
    assert values[0].max() > 0.1  # electrons per cubic Angstrom, at the border
    found = learn_points(tmp_path, 3 * [GOLDEN / "siesta.RHO"], molecule("H2O"))
    assert found.l1 < 0.02  # error on the training data


def test_densities_of_two_spins_are_added_up(tmp_path):
    shutil.copy(GOLDEN / "siesta.XV", tmp_path)
    up, down = np.random.default_rng(1).uniform(size=(2, 3, 4, 5)).astype(np.float32)
    with FortranFile(tmp_path / "siesta.RHO", "w") as file:
        file.write_record(9.0 * np.eye(3))
        file.write_record(np.array([3, 4, 5, 2], dtype=np.int32))
        for spin in (up, down):
            for z in range(5):
                for y in range(4):
                    file.write_record(spin[:, y, z])
    grid, values = read_density(tmp_path / "siesta.RHO")[1:]
    assert grid.shape == (3, 4, 5)
    np.testing.assert_allclose(values * BOHR**3, up + down, rtol=1e-6)


def test_densities_that_cannot_be_read_say_so(tmp_path):
    with pytest.raises(FileError, match=r"x\.vasp: densities are read from"):
        read_density(tmp_path / "x.vasp")
    (tmp_path / "a.RHO").write_bytes(b"nothing at all")
    (tmp_path / "Rho.grid.nc").write_bytes(b"nothing at all")
    for name in ("a.RHO", "Rho.grid.nc", "none.RHO"):
        with pytest.raises(FileError, match=name):
            read_density(tmp_path / name)
    shutil.copy(GOLDEN / "siesta.RHO", tmp_path / "b.RHO")
    with pytest.raises(FileError, match=r"\.XV file, of which there are 0"):
        read_density(tmp_path / "b.RHO")
    (tmp_path / "b.XV").write_text("1 2\n")
    with pytest.raises(FileError, match=r"b\.XV: cannot be read"):
        read_density(tmp_path / "b.RHO")


def test_what_is_no_cube_says_so(tmp_path):
    (tmp_path / "a.cube").write_text("nothing\n")
    for name in ("a.cube", "b.cube"):
        with pytest.raises(FileError, match=name):
            read_cube(tmp_path / name)
    atoms = bulk("Si")
    grid = grid_of(atoms, 2.0)
    for write in (write_cube, write_volume):
        with pytest.raises(FileError, match="cannot be written"):
            write(tmp_path / "no" / "a", atoms, grid, np.zeros(grid.shape))
