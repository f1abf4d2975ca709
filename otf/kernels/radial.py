r"""Orthonormal radial polynomials that vanish smoothly at the cutoff.

.. math::

   R_k(x) = \sqrt{2k+7}\,(1-x)^3 P_k^{(6,0)}(2x-1), \qquad
   x = 1 - \frac{e^{-\lambda s} - e^{-\lambda}}{1 - e^{-\lambda}}, \qquad
   s = \frac{r-r_\min}{r_c-r_\min}

:math:`P_k^{(6,0)}` are Jacobi polynomials; the set is the Gram-Schmidt orthonormalisation of
:math:`(x-1)^{3+k}` on [0, 1]. Value, slope and curvature are zero at :math:`r_c`. The decay
:math:`\lambda` of the distance coordinate resolves short distances more finely than long ones;
:math:`x = s` for :math:`\lambda = 0`.

=============================  ==========================
formula                        code
=============================  ==========================
three-term recursion of P_k    :func:`recursion_table`
x and dx/dr                    :func:`coordinate`
R_k and dR_k/dr                :func:`radial_values`
=============================  ==========================

Sources: NIST Digital Library of Mathematical Functions, 18.9.1-18.9.2 (recursion), 18.3 (norm);
van der Oord et al., Mach. Learn.: Sci. Technol. 1, 015004 (2020), sec. 2 (distance coordinates).
"""

import numpy as np

from otf.arrays import Floats
from otf.kernels.jit import inner_kernel, kernel

_ALPHA = 6.0


def recursion_table(n_radial: int) -> Floats:
    """Coefficients of the recursion and norms, one row per polynomial.

    Parameters
    ----------
    n_radial
        Number of polynomials.

    Returns
    -------
    (n_radial, 4) array
        Columns a, b, c, norm in P_k(t) = (a t + b) P_{k-1} - c P_{k-2}, R_k = norm (1-x)^3 P_k.
    """
    table = np.zeros((n_radial, 4))
    for k in range(n_radial):
        table[k, 3] = np.sqrt(2.0 * k + _ALPHA + 1.0)
        if (
            k == 1
        ):  # the general formula is 0/0 for k = 1 only where alpha + beta = 0; this is exact
            table[k, :3] = (_ALPHA + 2.0) / 2.0, _ALPHA / 2.0, 0.0
        elif k > 1:
            s = 2.0 * k + _ALPHA
            denominator = 2.0 * k * (k + _ALPHA) * (s - 2.0)
            table[k, 0] = (s - 1.0) * s * (s - 2.0) / denominator
            table[k, 1] = (s - 1.0) * _ALPHA**2 / denominator
            table[k, 2] = 2.0 * (k + _ALPHA - 1.0) * (k - 1.0) * s / denominator
    return table


@kernel
def expm1(y: float) -> float:
    """exp(y) - 1 for abs(y) up to 20, in arithmetic that vectorises; exact to 1e-14."""
    t = y / 64.0
    total = 1.0
    for k in range(12, 1, -1):
        total = 1.0 + total * t / k
    total *= t
    for _ in range(6):  # (1 + a)^2 - 1
        total *= 2.0 + total
    return total


@inner_kernel
def coordinate(r: float, r_min: float, r_cut: float, decay: float) -> tuple[float, float]:
    """x(r) and dx/dr (1/Angstrom)."""
    inverse_range = 1.0 / (r_cut - r_min)
    s = (r - r_min) * inverse_range
    if decay == 0.0:
        return s, inverse_range
    scale = -1.0 / expm1(-decay)
    fallen = expm1(-decay * s)
    return -fallen * scale, decay * scale * inverse_range * (1.0 + fallen)


@kernel
def radial_values(
    r: float, r_min: float, r_cut: float, decay: float, table: Floats, value: Floats, slope: Floats
) -> None:
    """Fill ``value[k]`` = R_k(r) and ``slope[k]`` = dR_k/dr (1/Angstrom); r must be below r_cut."""
    x, inverse_range = coordinate(r, r_min, r_cut, decay)
    t = 2.0 * x - 1.0
    u = 1.0 - x
    envelope = u * u * u
    envelope_slope = -3.0 * u * u
    p, dp = 1.0, 0.0
    p_before, dp_before = 0.0, 0.0
    for k in range(table.shape[0]):
        if k > 0:
            a, b, c = table[k, 0], table[k, 1], table[k, 2]
            p_next = (a * t + b) * p - c * p_before
            dp_next = a * p + (a * t + b) * dp - c * dp_before
            p_before, dp_before = p, dp
            p, dp = p_next, dp_next
        norm = table[k, 3]
        value[k] = norm * envelope * p
        slope[k] = norm * (envelope_slope * p + 2.0 * envelope * dp) * inverse_range
