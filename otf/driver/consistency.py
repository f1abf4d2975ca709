r"""Whether an engine's forces are the derivatives of its energy, by labels close to each other.

.. math::

   E_1 - E_0 = -\tfrac12 (F_0 + F_1) \cdot (x_1 - x_0) + O(\Delta x^3)

The error is due to anharmonicity alone. This shows wrong units or signs, results of another
structure, and energies that are not those of the forces, at no cost.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from ase import Atoms, units

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.units import MEV

_FEWEST = 2  # pairs of labels,
_MOST = 0.6  # and the share of all pairs, that must contradict each other
_SHARE = 0.2  # of the energies, by which they may differ
_LEAST = 0.1 * MEV  # a pair; noise of converged energies
_FORCE_NOISE = 0.03  # eV/Angstrom, and further what is known of the engine's: times the distance
_DEVIATIONS = 4.0
_FARTHEST_A = 0.15  # displacement between labels that are compared
_ANHARMONIC = 2.0  # 1/Angstrom: relative error of the work of each component
_CLOSE = 0.1  # relative difference of a factor from a known one
_ATOMIC_UNIT = units.Hartree / units.Bohr


class _Seen(NamedTuple):
    positions: Floats
    cell: Floats
    labels: Labels


class _Pair(NamedTuple):
    """Change of the energy between two labels, work of their forces, and what is allowed, eV."""

    change: float
    work: float
    allowed: float

    @property
    def contradicts(self) -> bool:
        scale = max(abs(self.change), abs(self.work))
        return abs(self.change + self.work) > _SHARE * scale + self.allowed


@dataclass
class ForceEnergyCheck:
    """Compares the energy with the work of the forces over successive labels.

    Most pairs of labels must contradict each other: one jump of the energy is that to another
    electronic state.

    Attributes
    ----------
    noise
        Noise of the forces as far as it is known, eV/Angstrom.
    """

    noise: float = 0.0
    _last: _Seen | None = None
    _pairs: list[_Pair] = field(default_factory=list)

    def add(self, atoms: Atoms, labels: Labels) -> str | None:
        """Add a label, and return what is wrong with the engine; None if nothing is.

        Parameters
        ----------
        atoms
            The structure; where it is far from that of the last label, nothing is compared.
        """
        before = self._last
        now = _Seen(atoms.positions.copy(), atoms.cell.array.copy(), labels)
        self._last = now
        if before is None or not np.array_equal(before.cell, now.cell):
            return None
        moved = now.positions - before.positions
        # Forces of atoms that do not interact are all zero.
        same = np.array_equal(before.labels.forces, labels.forces) and bool(labels.forces.any())
        if same and moved.any():
            return "its forces are the same, to the last bit, for different positions"
        farthest = float(np.abs(moved).max())
        if farthest > _FARTHEST_A:
            return None
        works = 0.5 * (before.labels.forces + labels.forces) * moved
        noise = _FORCE_NOISE + _DEVIATIONS * self.noise
        self._pairs.append(
            _Pair(
                labels.energy - before.labels.energy,
                float(works.sum()),
                _LEAST
                + noise * float(np.linalg.norm(moved))
                + _ANHARMONIC * farthest * float(np.linalg.norm(works)),
            )
        )
        return self._verdict()

    def _verdict(self) -> str | None:
        wrong = [pair for pair in self._pairs if pair.contradicts]
        if len(wrong) < max(_FEWEST, _MOST * len(self._pairs)):
            return None
        changes, works = (np.array(values) for values in list(zip(*wrong, strict=True))[:2])
        said = (
            f"between {len(wrong)} pairs of labels the energy changed by {_listed(changes)} meV, "
            f"where the forces did work of {_listed(works)} meV: forces are not the derivatives of "
            "this energy"
        )
        square = float(works @ works)
        return said + _reason(-float(changes @ works) / square if square else 0.0)


def contradictory(contradiction: str) -> str:
    """What is wrong with the engine of a run, and what to do."""
    return (
        f"the results of the engine contradict each other: {contradiction}. Do not use this run: "
        "repair the engine or its input (otf doctor CONFIG --try repeats this check), and start "
        "anew; policy.contradictions: warn goes on nevertheless"
    )


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
