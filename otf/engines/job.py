"""A molecular dynamics job as an input file of an engine describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian


class Given(NamedTuple):
    """A value of an input file, and the line that gives it."""

    value: str | int | float
    line: str


@dataclass(frozen=True, eq=False)
class InputJob:
    """What an input file says about the atoms and their dynamics.

    Attributes
    ----------
    atoms
        The structure, with its masses, constraints and velocities.
    of_atoms
        What the file says of the atoms beyond the structure, in words.
    dynamics
        Values of keys of the ``dynamics`` section.
    left
        What the file asks for that otf does not take, and why.
    """

    atoms: Atoms
    of_atoms: tuple[str, ...] = ()
    dynamics: Mapping[str, Given] = field(default_factory=dict)
    left: tuple[str, ...] = ()


def fix_components(atoms: Atoms, fixed: npt.NDArray[np.bool_], source: str) -> list[str]:
    """Constrain components (N, 3) of positions, and return in words what is constrained.

    Parameters
    ----------
    source
        Name of the keyword that constrains them.

    Examples
    --------
    >>> atoms = Atoms("H3", positions=np.eye(3))
    >>> fixed = np.array([[True, True, True], [False, False, True], [False, False, False]])
    >>> fix_components(atoms, fixed, "MD.Fixed.XYZ")
    ['1 atom fixed (MD.Fixed.XYZ)', '1 atom fixed along z (MD.Fixed.XYZ)']
    >>> len(atoms.constraints)
    2
    """
    constraints: list[FixAtoms | FixCartesian] = []
    said = []
    for mask in np.unique(fixed, axis=0)[::-1]:
        chosen = np.flatnonzero((fixed == mask).all(axis=1))
        atoms_fixed = f"{len(chosen)} atom{'s' if len(chosen) > 1 else ''} fixed"
        if mask.all():
            constraints.append(FixAtoms(chosen))
            said.append(f"{atoms_fixed} ({source})")
        elif mask.any():
            constraints.append(FixCartesian(chosen, mask=mask))
            axes = " and ".join(name for name, on in zip("xyz", mask, strict=True) if on)
            said.append(f"{atoms_fixed} along {axes} ({source})")
    atoms.set_constraint(constraints)
    return said
