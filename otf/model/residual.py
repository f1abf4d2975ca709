r"""Autoregressive forecast of the force residuals of the model.

.. math::

   r_{k+1} = \sum_{j=1}^{p} a_j\, r_{k+1-j} + e_{k+1}, \qquad
   \hat r(h), \qquad
   \mathrm{var}(h) = \sigma_e^2 \sum_{j < h} \psi_j^2

for the residuals r_k at successive labels, with the same coefficients for every component, so that
the forecast is equivariant. Burg's reflection coefficients stay inside the unit circle, and so do
the poles: the forecast decays to zero as the time since the last label grows.

=====================================  ========================
formula                                code
=====================================  ========================
a_j (Burg), order p by BIC             :func:`fit`
r(h), linear between labels            :meth:`Forecast.mean`
sqrt(r(h)^2 + var(h))                  :meth:`Forecast.size`
=====================================  ========================

Sources: Kay, Modern Spectral Estimation (1988), sec. 7.5 (Burg) and 7.8 (order); Brockwell and
Davis, Introduction to Time Series and Forecasting (2016), sec. 3.3 (psi weights).
"""

from dataclasses import dataclass

import numpy as np

from otf.arrays import Floats

_LARGEST_REFLECTION = 0.98  # keeps the poles clear of the unit circle
_FARTHEST = 64  # label spacings after which the forecast is zero


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecast of the residuals after the last label.

    Attributes
    ----------
    coefficients
        (p,) coefficients a_j.
    innovation
        Standard deviation sigma_e of the innovations, eV/Angstrom.
    path
        (steps + 1, N, 3) forecast at 0, 1, 2, … label spacings.
    """

    coefficients: Floats
    innovation: float
    path: Floats

    def mean(self, spacings: float) -> Floats:
        """Expected residual (N, 3) at a time after the last label, in label spacings."""
        low = int(spacings)
        if low >= len(self.path) - 1:
            return np.zeros(self.path.shape[1:])
        part = spacings - low
        return np.asarray((1.0 - part) * self.path[low] + part * self.path[low + 1])

    def size(self, spacings: float) -> float:
        """Expected root mean square residual of a component at that time, eV/Angstrom."""
        low = min(int(spacings), len(self.path) - 1)
        psi = _responses(self.coefficients, low + 1)
        known = float(np.sum(psi[:low] ** 2))
        part = min(spacings, len(self.path) - 1) - low
        variance = self.innovation**2 * (known + part * float(psi[low] ** 2))
        return float(np.sqrt(np.mean(self.mean(spacings) ** 2) + variance))


def fit(series: Floats, *, highest: int = 8) -> Forecast:
    """Fit a forecast to the residuals at the last labels.

    Parameters
    ----------
    series
        (labels, N, 3), the latest last; at least one.
    highest
        Highest order considered; the order is chosen by the information criterion.
    """
    flat = series.reshape(len(series), -1)
    coefficients, innovation = _burg(flat, min(highest, len(series) // 2))
    path = [series[-1]]
    past = [series[-1 - j] for j in range(len(coefficients))]
    for _ in range(_FARTHEST if len(coefficients) else 1):
        ahead = sum(
            (a * r for a, r in zip(coefficients, past, strict=True)), np.zeros_like(path[0])
        )
        path.append(ahead)
        past = [ahead, *past[:-1]]
    path[-1] = np.zeros_like(path[0])
    return Forecast(coefficients, innovation, np.array(path))


def _burg(flat: Floats, highest: int) -> tuple[Floats, float]:
    """Coefficients of the best order and size of the innovations, common to all columns."""
    count = flat.size
    variance = float(np.mean(flat**2))
    coefficients = np.zeros(0)
    if variance == 0.0:
        return coefficients, 0.0
    forward, backward = flat[1:], flat[:-1]
    best, best_score = (coefficients, variance), count * float(np.log(variance))
    for order in range(1, highest + 1):
        power = float(np.sum(forward**2) + np.sum(backward**2))
        if power == 0.0:
            break
        reflection = 2.0 * float(np.sum(forward * backward)) / power
        reflection = float(np.clip(reflection, -_LARGEST_REFLECTION, _LARGEST_REFLECTION))
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        variance *= 1.0 - reflection**2
        score = count * float(np.log(variance)) + order * float(np.log(count))
        if score < best_score:
            best, best_score = (coefficients, variance), score
        forward, backward = (
            (forward - reflection * backward)[1:],
            (backward - reflection * forward)[:-1],
        )
    return best[0], float(np.sqrt(best[1]))


def _responses(coefficients: Floats, count: int) -> Floats:
    """psi_0 … psi_{count-1}: response after j labels to a unit innovation."""
    psi = np.zeros(count)
    psi[0] = 1.0
    for j in range(1, count):
        for i in range(1, min(j, len(coefficients)) + 1):
            psi[j] += coefficients[i - 1] * psi[j - i]
    return psi
