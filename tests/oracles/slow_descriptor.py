"""Reference implementation of the descriptor in plain numpy, independent of the kernels."""

import itertools

import numpy as np
from scipy.special import eval_jacobi, eval_legendre


def radial(r: float, k: int, r_min: float, r_cut: float, decay: float = 0.0) -> float:
    """sqrt(2k+7) (1-x)^3 P_k^(6,0)(2x-1)."""
    x = (r - r_min) / (r_cut - r_min)
    if decay:
        x = 1 - (np.exp(-decay * x) - np.exp(-decay)) / (1 - np.exp(-decay))
    return np.sqrt(2 * k + 7) * (1 - x) ** 3 * eval_jacobi(k, 6, 0, 2 * x - 1) if x < 1 else 0.0


def pairs(positions, cell, pbc, cutoff):
    """All (i, j, vector) within the cutoff, by a loop over all images."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    spread = np.ptp(positions @ np.linalg.inv(cell), axis=0)
    reach = [int(np.ceil(cutoff / h + s)) if p else 0 for h, p, s in zip(heights, pbc, spread)]
    out = []
    images = list(itertools.product(*(range(-n, n + 1) for n in reach)))
    for i, j in itertools.product(range(len(positions)), repeat=2):
        for image in images:
            if i == j and image == (0, 0, 0):
                continue
            vector = positions[j] - positions[i] + np.array(image) @ cell
            if np.linalg.norm(vector) < cutoff:
                out.append((i, j, vector))
    return out


def four_body(mine, mixing, n3, l_max, r_min, rc3, decay, n_four, l_four, degree):
    """Integrals over the sphere of three densities sum_j R_n(r_j) (2l+1)/4pi P_l(r_j . Omega)."""
    n_four, l_four = min(n_four, n3), min(l_four, l_max)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    phi = 2 * np.pi * np.arange(25) / 25
    z, f = (a.ravel() for a in np.meshgrid(nodes, phi, indexing="ij"))
    rho = np.sqrt(1 - z**2)
    omega = np.stack([rho * np.cos(f), rho * np.sin(f), z], axis=1)
    weight = np.repeat(weights, 25) * 2 * np.pi / 25
    parts = [
        (k, n, a) for k in range(len(mixing)) for n in range(n_four) for a in range(l_four + 1)
    ]
    density = {}
    for k, n, a in parts:
        total = np.zeros(len(omega))
        for s, v in mine:
            r = np.linalg.norm(v)
            value = mixing[k, s] * radial(r, n, r_min, rc3, decay)
            total += value * (2 * a + 1) / (4 * np.pi) * eval_legendre(a, omega @ v / r)
        density[k, n, a] = total
    out = []
    for one, two, three in itertools.combinations_with_replacement(parts, 3):
        shells = sorted((one[2], two[2], three[2]))
        if sum(shells) % 2 or shells[2] > shells[0] + shells[1]:
            continue
        if one[1] + two[1] + three[1] + sum(shells) <= degree:
            out.append(np.sum(weight * density[one] * density[two] * density[three]))
    return out


def features(positions, cell, pbc, species, *, mixing, r_min, rc2, rc3, n2, n3, l_max, decay, four):
    """V of every atom: two-body sums, pair sums with Legendre polynomials, four-body integrals."""
    channels = [(k, n) for k in range(len(mixing)) for n in range(n3)]
    out = []
    near = pairs(positions, cell, pbc, max(rc2, rc3))
    for i in range(len(positions)):
        mine = [(species[j], v) for a, j, v in near if a == i]
        row = []
        for s in range(mixing.shape[1]):
            for k in range(n2):
                distances = [np.linalg.norm(v) for t, v in mine if t == s]
                row.append(sum(radial(r, k, r_min, rc2, decay) for r in distances))
        for c, (one, n) in enumerate(channels):
            for other, m in channels[c:]:
                total = np.zeros(l_max + 1)
                for (sj, vj), (sk, vk) in itertools.product(mine, repeat=2):
                    rj, rk = np.linalg.norm(vj), np.linalg.norm(vk)
                    weight = radial(rj, n, r_min, rc3, decay) * radial(rk, m, r_min, rc3, decay)
                    weight *= mixing[one, sj] * mixing[other, sk]
                    cosine = vj @ vk / (rj * rk)
                    for degree in range(l_max + 1):
                        legendre = eval_legendre(degree, cosine)
                        total[degree] += weight * (2 * degree + 1) / (4 * np.pi) * legendre
                row.extend(total)
        row.extend(four_body(mine, mixing, n3, l_max, r_min, rc3, decay, *four))
        out.append(row)
    return np.array(out)
