r"""Whether an engine's forces are the derivatives of its energy, by labels a timestep apart.

.. math::

   E_1 - E_0 = -\tfrac12 (F_0 + F_1) \cdot (x_1 - x_0) + O(\Delta x^3)

This shows wrong units or signs, results of another structure, and energies that are not those of
the forces, at no cost.
"""

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from ase import Atoms, units

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.units import MEV

_LOG = logging.getLogger("otf.loop")

_FEWEST = 2  # pairs of labels
_SHARE = 0.2  # of the energies, by which they may differ
_LEAST = 0.1 * MEV  # a pair; noise of converged energies
_FORCE_NOISE = 0.03  # eV/Angstrom, and further what is known of the engine's: times the distance
_DEVIATIONS = 4.0
_CLOSE = 0.1  # relative difference of a factor from a known one
_ATOMIC_UNIT = units.Hartree / units.Bohr


class _Seen(NamedTuple):
    positions: Floats
    cell: Floats
    labels: Labels


@dataclass
class ForceEnergyCheck:
    """Compares the energy with the work of the forces over labels a timestep apart.

    Attributes
    ----------
    noise
        Noise of the forces as far as it is known, eV/Angstrom.
    """

    noise: float = 0.0
    _last: _Seen | None = None
    _changes: list[float] = field(default_factory=list)
    _works: list[float] = field(default_factory=list)
    _allowed: float = 0.0
    _stale: bool = False
    _doubted: bool = False

    def see(self, atoms: Atoms, labels: Labels, elapsed: int | None) -> None:
        """Warn once of an engine whose forces are not the derivatives of its energy.

        Parameters
        ----------
        elapsed
            Steps since the last label, if the engine moves the atoms; None if it does not.
        """
        if elapsed != 1:
            self._last = None
        if elapsed is None or self._doubted:
            return
        found = self.add(atoms, labels)
        if found is not None:
            self._doubted = True
            _LOG.warning(
                "the results of the engine contradict each other, do not use this run: %s", found
            )

    def add(self, atoms: Atoms, labels: Labels) -> str | None:
        """Add a label, and return what is wrong with the engine; None if nothing is.

        Parameters
        ----------
        atoms
            The structure, a timestep after that of the last label.
        """
        before = self._last
        now = _Seen(atoms.positions.copy(), atoms.cell.array.copy(), labels)
        self._last = now
        if before is None or not np.array_equal(before.cell, now.cell):
            return None
        moved = now.positions - before.positions
        mean = 0.5 * (before.labels.forces + labels.forces)
        self._works.append(float(np.vdot(mean, moved)))
        self._changes.append(labels.energy - before.labels.energy)
        noise = _FORCE_NOISE + _DEVIATIONS * self.noise
        self._allowed += _LEAST + noise * float(np.linalg.norm(moved))
        # Forces of atoms that do not interact are all zero.
        same = np.array_equal(before.labels.forces, labels.forces) and bool(labels.forces.any())
        self._stale = self._stale or (same and bool(moved.any()))
        return self._verdict()

    def _verdict(self) -> str | None:
        if self._stale:
            return "its forces are the same, to the last bit, for different positions"
        if len(self._works) < _FEWEST:
            return None
        works, changes = np.array(self._works), np.array(self._changes)
        off = float(np.abs(changes + works).sum())
        scale = max(float(np.abs(works).sum()), float(np.abs(changes).sum()))
        if off <= _SHARE * scale + self._allowed:
            return None
        said = (
            f"over {len(works)} timesteps the energy changed by {_listed(changes)} meV, where the "
            f"forces did work of {_listed(works)} meV: forces are not the derivatives of this "
            "energy"
        )
        square = float(works @ works)
        return said + _reason(-float(changes @ works) / square if square else 0.0)


def _reason(factor: float) -> str:
    """Known reason for an energy that changes by so many times minus the work."""
    for known, reason in (
        (-1.0, "its forces have the wrong sign"),
        (_ATOMIC_UNIT, "its forces are in hartree/bohr instead of eV/Angstrom"),
        (1.0 / _ATOMIC_UNIT, "its forces were converted from hartree/bohr twice"),
    ):
        if abs(factor / known - 1.0) < _CLOSE:
            return f" ({reason})"
    return ""


def _listed(energies: Floats) -> str:
    return ", ".join(f"{energy / MEV:.1f}" for energy in energies[:4])
