r"""Real spherical harmonics and the gradients of the corresponding solid harmonics.

With :math:`Q_l^m(z, r^2) = r^{l-m}\, d^m P_l / dz^m` the solid harmonic of degree l is
:math:`S_{lm} = N_{lm} Q_l^{|m|} \,\mathrm{Re\ or\ Im}\,(x+iy)^{|m|}`, a homogeneous polynomial.

===========================================================  ======================
formula                                                      code
===========================================================  ======================
Q_m^m = (2m-1)!!, Q_l^m by the Legendre recursion            ``q`` in the loop
dQ_l^m/dx = -x Q_{l-1}^{m+1}, dQ_l^m/dz = (l+m) Q_{l-1}^m    ``dx, dy, dz``
N_lm = sqrt((2l+1)/4pi (l-m)!/(l+m)! (2 if m else 1))        :func:`normalisation`
===========================================================  ======================

Source: Bigi, Fraux, Browning, Ceriotti, J. Chem. Phys. 159, 064802 (2023), eqs. 4-11 (there with
the Condon-Shortley phase, which is omitted here).
"""

from math import factorial, pi, sqrt

import numpy as np

from otf.arrays import Floats
from otf.kernels.jit import kernel


def normalisation(l_max: int) -> Floats:
    """N_lm for m >= 0 as an (l_max + 1, l_max + 1) array indexed [l, m]."""
    norm = np.zeros((l_max + 1, l_max + 1))
    for degree in range(l_max + 1):
        for m in range(degree + 1):
            ratio = factorial(degree - m) / factorial(degree + m)
            norm[degree, m] = sqrt((2 * degree + 1) / (4 * pi) * ratio * (2 if m else 1))
    return norm


@kernel
def solid_harmonics(
    x: float, y: float, z: float, norm: Floats, q: Floats, value: Floats, gradient: Floats
) -> None:
    """Fill S_lm and its gradient at the unit vector (x, y, z).

    Parameters
    ----------
    x, y, z
        A unit vector; there S_lm is the real spherical harmonic Y_lm.
    norm
        From :func:`normalisation`; its size determines l_max.
    q
        Scratch of shape (l_max + 2, l_max + 2).
    value
        (l_max + 1)**2 values, index l*l + l + m.
    gradient
        Their derivatives by x, y, z, shape ((l_max + 1)**2, 3), as polynomials of degree l - 1:
        the part along the vector is l * S_lm.
    """
    l_max = norm.shape[0] - 1
    for m in range(l_max + 2):
        for degree in range(m):
            q[degree, m] = 0.0
    q[0, 0] = 1.0
    for m in range(l_max + 1):
        if m > 0:
            q[m, m] = (2 * m - 1) * q[m - 1, m - 1]
        if m < l_max:
            q[m + 1, m] = (2 * m + 1) * z * q[m, m]
        for degree in range(m + 2, l_max + 1):
            q[degree, m] = (
                (2 * degree - 1) * z * q[degree - 1, m] - (degree + m - 1) * q[degree - 2, m]
            ) / (degree - m)
    cosine, sine = 1.0, 0.0  # Re and Im of (x + iy)^m
    cosine_before, sine_before = 0.0, 0.0  # of (x + iy)^(m-1)
    for m in range(l_max + 1):
        if m > 0:
            cosine_before, sine_before = cosine, sine
            cosine, sine = x * cosine - y * sine, x * sine + y * cosine
        for degree in range(m, l_max + 1):
            n = norm[degree, m]
            ql = n * q[degree, m]
            if degree > 0:
                q_up, q_down = n * q[degree - 1, m + 1], n * (degree + m) * q[degree - 1, m]
            else:
                q_up, q_down = 0.0, 0.0
            plus = degree * degree + degree + m
            value[plus] = ql * cosine
            gradient[plus, 0] = -x * q_up * cosine + ql * m * cosine_before
            gradient[plus, 1] = -y * q_up * cosine - ql * m * sine_before
            gradient[plus, 2] = q_down * cosine
            if m > 0:
                minus = plus - 2 * m
                value[minus] = ql * sine
                gradient[minus, 0] = -x * q_up * sine + ql * m * sine_before
                gradient[minus, 1] = -y * q_up * sine + ql * m * cosine_before
                gradient[minus, 2] = q_down * sine
