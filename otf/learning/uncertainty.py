r"""How far off the model probably is, for each atom.

.. math::

   s_a^2 = \tfrac13 \sum_{x,y,z} x_a^T (G + \lambda\Lambda)^{-1} x_a, \qquad
   \sigma_Z^2 = \left\langle r^2 / (\epsilon + s^2) \right\rangle_Z, \qquad
   \text{predicted error} = \sigma_Z \sqrt{\epsilon + s_a^2}

The leverage s says how far a geometry is from what has been learned; sigma puts it in eV/Angstrom
and is measured, species by species, on labels before they are learned.
"""

from dataclasses import dataclass

import numpy as np

from otf.arrays import Floats, Ints

EPSILON = 1e-3
"""Leverage below which the misfit of the model itself dominates its ignorance."""

_MEMORY = 0.9  # weight of the past at each label


@dataclass(frozen=True, eq=False)
class ErrorScale:
    """Running mean of r^2 / (epsilon + s^2) for each species.

    Attributes
    ----------
    total, weight
        (species,) sums; their ratio is sigma^2, (eV/Angstrom)^2.
    """

    total: Floats
    weight: Floats

    @staticmethod
    def unknown(n_species: int) -> "ErrorScale":
        """Before any error was measured."""
        return ErrorScale(np.zeros(n_species), np.zeros(n_species))

    def updated(self, species: Ints, residual: Floats, leverage: Floats) -> "ErrorScale":
        """With the residuals of one label, taken before it was learned.

        Parameters
        ----------
        species
            (N,) species of each atom.
        residual
            (N, 3), eV/Angstrom.
        leverage
            (N,) s_a^2 before the label was learned.
        """
        n = len(self.total)
        ratio = np.mean(residual**2, axis=1) / (EPSILON + leverage)
        total = np.bincount(species, weights=ratio, minlength=n)
        weight = np.bincount(species, minlength=n).astype(float)
        return ErrorScale(_MEMORY * self.total + total, _MEMORY * self.weight + weight)

    def predicted_error(self, species: Ints, leverage: Floats) -> Floats:
        """Expected root mean square error of each atom's force components (N,), eV/Angstrom.

        Infinite for a species whose errors were never measured.
        """
        sigma2 = np.full(len(self.total), np.inf)
        np.divide(self.total, self.weight, out=sigma2, where=self.weight > 0)
        return np.sqrt(sigma2[species] * (EPSILON + leverage))
