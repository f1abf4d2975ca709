r"""Predicted error of each force component.

.. math::

   s^2 = x^T (G + \lambda\Lambda)^{-1} x, \qquad
   \sigma_Z^2 = \left\langle r^2 / (\epsilon + s^2) \right\rangle_Z, \qquad
   \text{predicted error} = q\, \sigma_Z \sqrt{\epsilon + s^2}

The leverage s measures the distance of a geometry from the training data; sigma converts it to
eV/Angstrom and is measured per species on labels before they are learned. The factor q is set by
adaptive conformal scaling so that about 95 % of the components of untriggered labels lie within two
predicted errors, whatever the distribution of the errors is.

Source of the calibration: Gibbs and Candes, Adaptive Conformal Inference Under Distribution Shift,
NeurIPS 2021, eq. 2 (the level follows the misses).
"""

from dataclasses import dataclass, replace

import numpy as np

from otf.arrays import Floats, Ints

EPSILON = 1e-3
"""Leverage below which the misfit of the model dominates the lack of data."""

COVERAGE = 0.9545
"""Share of components meant to lie within two predicted errors, as in a normal distribution."""

_MEMORY = 0.9  # weight of the past at each label
_PACE = 0.05  # rate of the level's adaptation to the misses
_BINS = np.logspace(-4.0, 4.0, 401)  # of |error| / uncalibrated predicted error


@dataclass(frozen=True, eq=False)
class ErrorScale:
    """Running mean of r^2 / (epsilon + s^2) for each species, and its calibration.

    Attributes
    ----------
    total, weight
        (species,) sums; their ratio is sigma^2, (eV/Angstrom)^2.
    ratios
        (bins,) weighted histogram of |r| / (sigma sqrt(epsilon + s^2)) at untriggered labels.
    level
        Quantile of the ratios that corresponds to two predicted errors.
    """

    total: Floats
    weight: Floats
    ratios: Floats
    level: float = COVERAGE

    @staticmethod
    def unknown(n_species: int) -> "ErrorScale":
        """The scale before any error was measured."""
        return ErrorScale(np.zeros(n_species), np.zeros(n_species), np.zeros(len(_BINS)))

    @property
    def factor(self) -> float:
        """The calibration q; 1 before the first untriggered label."""
        total = self.ratios.sum()
        if total == 0.0:
            return 1.0
        reached = np.cumsum(self.ratios) >= self.level * total
        return float(_BINS[np.argmax(reached)]) / 2.0

    def updated(
        self, species: Ints, residual: Floats, leverage: Floats, *, audited: bool
    ) -> "ErrorScale":
        """The scale with the residuals of one label before learning added.

        Parameters
        ----------
        species
            (N,) species of each atom.
        residual
            (N, 3), eV/Angstrom.
        leverage
            (N, 3) s^2 before the label was learned.
        audited
            Whether the label is untriggered; only such labels are used for calibration.
        """
        n = len(self.total)
        ratio = np.mean(residual**2 / (EPSILON + leverage), axis=1)
        total = np.bincount(species, weights=ratio, minlength=n)
        weight = np.bincount(species, minlength=n).astype(float)
        ratios, level = self.ratios, self.level
        if audited:
            plain = self.root_mean_square(species, leverage)
            seen = np.isfinite(plain) & (plain > 0.0)
            scores = np.abs(residual[seen]) / plain[seen]
            if len(scores):
                missed = float(np.mean(scores > 2.0 * self.factor))
                level = float(np.clip(level + _PACE * (missed - (1.0 - COVERAGE)), 0.5, 0.999))
                place = np.minimum(np.searchsorted(_BINS, scores), len(_BINS) - 1)
                ratios = _MEMORY * ratios + np.bincount(place, minlength=len(_BINS))
        return ErrorScale(
            _MEMORY * self.total + total, _MEMORY * self.weight + weight, ratios, level
        )

    def rescaled(self, factor: float) -> "ErrorScale":
        """The scale of a model whose errors at the same leverage are ``factor`` times these."""
        return replace(self, total=factor**2 * self.total)

    def predicted_error(self, species: Ints, leverage: Floats) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom.

        Infinite for a species whose errors were never measured.
        """
        return self.factor * self.root_mean_square(species, leverage)

    def root_mean_square(self, species: Ints, leverage: Floats) -> Floats:
        """Root mean square error (N, 3), eV/Angstrom: the predicted error without calibration."""
        sigma2 = np.full(len(self.total), np.inf)
        np.divide(self.total, self.weight, out=sigma2, where=self.weight > 0)
        return np.sqrt(sigma2[species][:, None] * (EPSILON + leverage))
