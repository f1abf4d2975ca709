"""Densities in files."""

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from otf.errors import FileError
from otf.grid import grid_of
from otf.io.volumes import read_cube, write_cube, write_volume


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
