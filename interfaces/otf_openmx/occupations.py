r"""Entropy of the electrons, from the eigenvalues that an ``.out`` file lists.

OpenMX prints the energy Utot without the entropy of the occupations, but its forces are the
derivatives of the free energy (Mermin, Phys. Rev. 137, A1441 (1965)):

.. math::

   F = U_{tot} - T S, \qquad
   S = -k_B \sum_{\sigma i k} w_k \left[f \ln f + (1 - f) \ln(1 - f)\right], \qquad
   f = \left[1 + e^{(\epsilon_{\sigma i k} - \mu) / k_B T}\right]^{-1}

A k point that stands for its inverse too has twice the weight of one that is its own inverse.
"""

import re

import numpy as np
from ase.units import kB
from scipy.special import expit, xlogy

from otf.arrays import Floats
from otf.units import HARTREE

_SECTION = re.compile(r"Eigenvalues \(Hartree\) (?:of|for) SCF KS-eq\.")
_POTENTIAL = re.compile(r"Chemical Potential \(Ha[a-z]*\)\s*=\s*(\S+)")
_STATES = re.compile(r"Number of States\s*=\s*(\S+)")
_K_POINT = re.compile(r"^\s*k1=\s*(\S+)\s+k2=\s*(\S+)\s+k3=\s*(\S+)", re.MULTILINE)
_LEVEL = re.compile(r"^[ \t]+\d+((?:[ \t]+-?\d+\.\d+){1,2})[ \t]*$", re.MULTILINE)
_OTHER_SECTION = "*" * 40
_SAME = 1e-4  # of fractional coordinates printed with five decimals
_ELECTRONS = 1e-3  # by which occupations may miss the number of electrons


def entropy_term(out: str, temperature_K: float) -> float | None:
    """-T S, eV, of an ``.out`` file; None if it has no complete list of eigenvalues."""
    found = _SECTION.search(out)
    if found is None:
        return None
    section = out[found.end() :].lstrip("\n* ")
    section = section[: section.find(_OTHER_SECTION)]
    potential, states = _POTENTIAL.search(section), _STATES.search(section)
    if potential is None or states is None:
        return None
    points = list(_K_POINT.finditer(section))
    starts = [p.end() for p in points] or [states.end()]
    weights = _weights(np.array([[float(x) for x in p.groups()] for p in points]))
    thermal = kB * temperature_K / HARTREE
    entropy = electrons = 0.0
    for weight, start, end in zip(weights, starts, [*starts[1:], len(section)], strict=True):
        levels = np.array(
            [float(e) for m in _LEVEL.finditer(section, start, end) for e in m[1].split()]
        )
        occupied = expit((float(potential[1]) - levels) / thermal)
        entropy -= weight * float(np.sum(xlogy(occupied, occupied)))
        entropy -= weight * float(np.sum(xlogy(1.0 - occupied, 1.0 - occupied)))
        electrons += weight * float(np.sum(occupied))
    if abs(electrons - float(states[1])) > _ELECTRONS:
        return None
    return float(-thermal * entropy * HARTREE)


def _weights(points: Floats) -> Floats:
    """Normalised weights of k points (n, 3) listed without the inverses of some of them."""
    if not len(points):
        return np.ones(1)
    sums = points[:, None] + points[None, :]
    is_inverse = np.asarray(np.abs(sums - np.rint(sums)) < _SAME).all(axis=2)
    weights = np.where(np.any(is_inverse, axis=1), 1.0, 2.0)
    return np.asarray(weights / weights.sum())
