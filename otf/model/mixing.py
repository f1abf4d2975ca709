"""Mixing of species into fewer channels, for descriptors of systems with many elements.

The channels are orthogonal polynomials of the covalent radius and the atomic number over the
species: 1, then linear, then quadratic. Elements that resemble each other thus share what is
learned, and as many channels as species span the same features as one channel for each.

Source of the idea: Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018), where the
mixing is fitted.
"""

import numpy as np
from ase.data import covalent_radii

from otf.arrays import Floats, Ints

_INDEPENDENT = 1e-3  # part of a polynomial that the earlier ones do not span


def mixing(species: Ints, channels: int = 0) -> Floats:
    """U, (channels, species): weight of each species in each channel.

    Parameters
    ----------
    species
        Atomic numbers, each once.
    channels
        Number of channels; 0, or as many as species, for a channel of each species.

    Examples
    --------
    >>> mixing(np.array([1, 6, 8])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    >>> mixing(np.array([1, 6, 7, 8]), 2).round(2).tolist()
    [[1.0, 1.0, 1.0, 1.0], [-1.7, 0.85, 0.57, 0.28]]
    """
    n = len(species)
    if not 0 < channels < n:
        return np.eye(n)
    radius, number = covalent_radii[species], np.asarray(species, dtype=float)
    x, y = ((v - v.mean()) / max(float(np.ptp(v)), 1e-12) for v in (radius, number))
    powers = [(a, degree - a) for degree in range(n) for a in range(degree, -1, -1)]
    found: list[Floats] = []
    for a, b in powers:
        polynomial = x**a * y**b
        size = float(np.linalg.norm(polynomial))
        for other in found:
            polynomial = polynomial - (other @ polynomial) / n * other
        left = float(np.linalg.norm(polynomial))
        if left > _INDEPENDENT * size:
            found.append(polynomial * (np.sqrt(n) / left))
        if len(found) == channels:
            break
    return np.array(found)
