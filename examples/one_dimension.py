r"""Densities of a chain of atoms in one dimension, learned in short cells, tested in long ones.

python examples/one_dimension.py --system insulator
python examples/one_dimension.py --system mixed --train 300 900 --test 9

The model is reduced Hartree-Fock theory with a Yukawa kernel, atomic units throughout:

.. math:: H = -\tfrac12 \partial_x^2 + \int K(x - y)\,(\rho + m)(y)\,dy, \qquad
          \hat K(k) = \frac{4\pi}{\epsilon_0 (k^2 + \kappa^2)}

where m is a Gaussian of charge -2 for each atom. Narrow nuclei bind their electrons (an insulator),
wide ones do not (a metal); the mixed chain has both kinds in random order. Atoms 10 apart move by
velocity Verlet with Hellmann-Feynman forces.

Sources: Zepeda-Nunez et al., J. Comput. Phys. 443, 110523 (2021), section 4.1; Lin and Yang, SIAM
J. Sci. Comput. 35, S277 (2013), for the model.
"""

import argparse
from itertools import combinations_with_replacement

import numpy as np
import scipy.linalg

from otf.arrays import Floats, Ints
from otf.electrons.ridge import ridge_solution
from otf.model.normal_equations import NormalEquations

Snapshot = tuple[Ints, Floats, Floats]

KAPPA, EPSILON, CHARGE, SPACING = 0.01, 10.0, 2.0, 10.0
WIDTHS = (2.0, 6.0)  # of nuclei: narrow, wide
MASS, STEP, TEMPERATURE = 42000.0, 100.0, 1e-3  # of the dynamics; Hartree
SMEARING = 1e-3  # Hartree
SCREENED = 1.0  # Thomas-Fermi screening: damps long waves in the mixing of a metal
MESH = 0.5
USUAL = {  # electrons of a metal respond linearly and over larger distances
    "insulator": {"reach": 15.0, "around": [15.0], "degree": 2, "moments": 5},
    "metal": {"reach": 20.0, "around": [35.0], "degree": 1, "moments": 5},
    "mixed": {"reach": 20.0, "around": [25.0], "degree": 2, "moments": 4},
}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--system", choices=["insulator", "metal", "mixed"], default="insulator")
parser.add_argument(
    "--train", type=int, nargs="+", default=[30, 100], help="numbers of training snapshots"
)
parser.add_argument("--reach", type=float, help="reach of the functions around an atom")
parser.add_argument("--around", type=float, nargs="+", help="reach of the environments")
parser.add_argument("--moments", type=int, help="radial functions of the environments")
parser.add_argument("--degree", type=int, help="largest number of moments in a product")
parser.add_argument(
    "--functions", type=int, default=12, help="even and odd functions around an atom"
)
parser.add_argument("--test", type=int, default=20, help="snapshots per test")
options = parser.parse_args()
for key, value in USUAL[options.system].items():
    if getattr(options, key) is None:
        setattr(options, key, value)


class Chain:
    """The self-consistent problem in a periodic cell."""

    def __init__(self, kinds: Ints) -> None:
        self.kinds, self.length = kinds, SPACING * len(kinds)
        n = round(self.length / MESH)
        self.x = np.arange(n) * MESH
        self.k = 2.0 * np.pi * np.fft.fftfreq(n, MESH)
        self.kernel = 4.0 * np.pi / (EPSILON * (self.k**2 + KAPPA**2))
        wave = np.fft.fft(np.eye(n), axis=0, norm="ortho")
        self.kinetic = (wave.conj().T * (0.5 * self.k**2) @ wave).real
        self.potential = np.zeros(n)  # initial guess

    def nuclei(self, positions: Floats) -> Floats:
        """Charge of each atom on the mesh (N, x)."""
        away = self.x - positions[:, None]
        away -= self.length * np.round(away / self.length)
        width = np.array(WIDTHS)[self.kinds][:, None]
        norm = CHARGE / np.sqrt(2.0 * np.pi) / width
        return np.asarray(-norm * np.exp(-0.5 * (away / width) ** 2))

    def convolved(self, charge: Floats) -> Floats:
        """Potential of a charge density."""
        return np.asarray(np.fft.ifft(self.kernel * np.fft.fft(charge)).real)

    def filled(self, potential: Floats) -> Floats:
        """Density of the occupied orbitals."""
        wanted = CHARGE * len(self.kinds)
        most = round(0.75 * wanted) + 2
        energies, orbitals = scipy.linalg.eigh(
            self.kinetic + np.diag(potential), subset_by_index=(0, most)
        )
        low, high = energies[0] - 1.0, energies[-1] + 1.0
        for _ in range(200):  # bisection for the Fermi level
            level = 0.5 * (low + high)
            filling = 2.0 / (1.0 + np.exp(np.clip((energies - level) / SMEARING, -200, 200)))
            low, high = (level, high) if filling.sum() < wanted else (low, level)
        self.gap = energies[round(wanted / 2)] - energies[round(wanted / 2) - 1]
        return np.asarray((orbitals**2 @ filling) / MESH)

    def consistent(self, nuclei: Floats, potential: Floats, mixing: float) -> Floats | None:
        """Self-consistent potential by Anderson mixing; None if it does not converge."""
        old_in: list[Floats] = []
        old_off: list[Floats] = []
        soft = (self.k**2 + KAPPA**2) / (self.k**2 + (SCREENED if self.kinds.any() else KAPPA**2))
        for _ in range(300):
            off = self.convolved(self.filled(potential) + nuclei) - potential
            if np.abs(off).max() < 1e-9:
                return potential
            old_in, old_off = [*old_in[-20:], potential], [*old_off[-20:], off]
            change, base = off, potential
            if len(old_off) > 1:
                d_off = np.array([off - o for o in old_off[:-1]]).T
                d_in = np.array([potential - o for o in old_in[:-1]]).T
                weights = np.linalg.lstsq(d_off, off, rcond=1e-12)[0]
                change, base = off - d_off @ weights, potential - d_in @ weights
            potential = base + mixing * np.fft.ifft(soft * np.fft.fft(change)).real
        return None

    def solve(self, positions: Floats) -> tuple[Floats, Floats]:
        """Density on the mesh, and forces."""
        nuclei = self.nuclei(positions)
        empty = np.zeros_like(self.x)
        for start, mixing in ((self.potential, 0.7), (empty, 0.7), (empty, 0.3), (empty, 0.1)):
            potential = self.consistent(nuclei.sum(axis=0), start, mixing)
            if potential is not None:
                break
        else:
            raise RuntimeError("the SCF of the chain did not converge")
        self.potential = potential
        away = self.x - positions[:, None]
        away -= self.length * np.round(away / self.length)
        slope = nuclei * away / np.array(WIDTHS)[self.kinds][:, None] ** 2
        return self.filled(potential), -(slope @ potential) * MESH


def snapshots(n_atoms: int, count: int, seed: int, skipped: int = 8) -> list[Snapshot]:
    """(kinds, positions, density) along trajectories; mixed chains each have a new order."""
    rng = np.random.default_rng(seed)
    found: list[Snapshot] = []
    each = 3 if options.system == "mixed" else count
    gaps, apart = [], []
    while len(found) < count:
        kinds = {
            "insulator": np.zeros(n_atoms, dtype=int),
            "metal": np.ones(n_atoms, dtype=int),
            "mixed": rng.integers(0, 2, n_atoms),
        }[options.system]
        chain = Chain(kinds)
        places = SPACING * np.arange(n_atoms) + rng.uniform(-0.5, 0.5, n_atoms)
        speeds = rng.normal(scale=np.sqrt(TEMPERATURE / MASS), size=n_atoms)
        forces = chain.solve(places)[1]
        for step in range(skipped + each):
            speeds = speeds + 0.5 * STEP * forces / MASS
            places = places + STEP * speeds
            density, forces = chain.solve(places)
            speeds = speeds + 0.5 * STEP * forces / MASS
            if step >= skipped:
                found.append((kinds, places, density))
                gaps.append(chain.gap)
                apart.append(np.diff([*places, places[0] + chain.length]))
    print(
        f"{count} snapshots of {n_atoms} atoms: gap {np.mean(gaps):.4f} Ha, "
        f"displacements {np.std(places - SPACING * np.arange(n_atoms)):.2f}, "
        f"neighbours {np.min(apart):.2f} to {np.max(apart):.2f} apart",
        flush=True,
    )
    return found[:count]


def radial(x: Floats, count: int, reach: float) -> Floats:
    """Even functions of x (…, count) that vanish smoothly at the reach."""
    inside = np.clip(1.0 - (x / reach) ** 2, 0.0, None)
    waves = np.cos(np.pi * np.arange(count) * np.abs(x)[..., None] / reach)
    return np.asarray(inside[..., None] ** 3 * waves)


def features(kinds: Ints, places: Floats, reach: float) -> tuple[list[Floats], list[Ints]]:
    """Even and odd products of the moments of each environment, (N, products), and degrees."""
    length = SPACING * len(kinds)
    away = places - places[:, None]
    away -= length * np.round(away / length)
    values = radial(away, options.moments, reach) * ~np.eye(len(kinds), dtype=bool)[:, :, None]
    moments, parity, fine = [], [], []
    for kind in (0, 1):
        of_kind = values * (kinds == kind)[:, None]
        if not (kinds == kind).any() and options.system != "mixed":
            continue
        for odd in (0, 1):
            signs = np.sign(away)[:, :, None] if odd else 1.0
            moments += list((signs * of_kind).sum(axis=1).T)
            parity += [odd] * options.moments
            fine += list(range(options.moments))
    out: tuple[list[Floats], list[Floats]] = ([np.ones(len(kinds))], [])
    degrees: tuple[list[int], list[int]] = ([0], [])
    for order in range(1, options.degree + 1):
        for chosen in combinations_with_replacement(range(len(moments)), order):
            degree = sum(fine[c] for c in chosen) + 2 * order
            if degree <= options.moments + 2 * order - 1 or order == 1:
                odd = sum(parity[c] for c in chosen) % 2
                out[odd].append(np.prod([moments[c] for c in chosen], axis=0))
                degrees[odd].append(degree)
    return [np.array(o).T for o in out], [np.array(d) for d in degrees]


class Model:
    """Densities as sums of even and odd functions around atoms."""

    def __init__(self, around: float) -> None:
        self.around = around
        self.equations: NormalEquations | None = None

    def rows(self, kinds: Ints, places: Floats, n: int) -> Floats:
        """Contribution of each coefficient to the density at each point of the mesh."""
        length = SPACING * len(kinds)
        (even, odd), degrees = features(kinds, places, self.around)
        self.degrees = np.concatenate(
            [np.tile(d, options.functions) for d in degrees] * len(WIDTHS)
        )
        out = np.zeros((n, len(WIDTHS), len(self.degrees) // len(WIDTHS)))
        for i, place in enumerate(places):
            x = np.arange(n) * MESH - place
            x -= length * np.round(x / length)
            near = np.flatnonzero(np.abs(x) < options.reach)
            values = radial(x[near], options.functions, options.reach)
            parts = [
                (v[:, :, None] * of[i]).reshape(len(near), -1)
                for v, of in (
                    (values, even),
                    (values * np.sin(np.pi * x[near] / options.reach / 2)[:, None], odd),
                )
            ]
            out[near, kinds[i]] += np.concatenate(parts, axis=1)
        return out.reshape(n, -1)

    def learn(self, data: list[Snapshot]) -> None:
        """Fit the model to snapshots."""
        for block, (kinds, places, density) in enumerate(data):
            rows = self.rows(kinds, places, len(density))
            if self.equations is None:
                self.equations = NormalEquations(np.ones(rows.shape[1]), keep_blocks=0)
            self.equations.add(rows, density, block=block)
        assert self.equations is not None
        self.coefficients = ridge_solution(self.equations, self.degrees, strength=1e-14, finer=3.0)

    def errors(self, data: list[Snapshot]) -> tuple[float, float]:
        """Mean squared error, and relative L2 error."""
        squares, relative = [], []
        for kinds, places, density in data:
            off = self.rows(kinds, places, len(density)) @ self.coefficients - density
            squares.append(np.mean(off**2))
            relative.append(np.sqrt(np.sum(off**2) / np.sum(density**2)))
        return float(np.mean(squares)), float(np.mean(relative))


known = snapshots(8, max(options.train), 1)
tests = {
    "8 atoms": snapshots(8, options.test, 2),
    "8 atoms, far later": snapshots(
        8, options.test, 3, skipped=300 if options.system != "mixed" else 60
    ),
    "32 atoms": snapshots(32, options.test, 4),
}
print("around train features  " + "".join(f"{name:>26s}" for name in tests))
for around in options.around:
    for count in options.train:
        model = Model(around)
        model.learn(known[:count])
        line = f"{around:6.0f} {count:5d} {len(model.coefficients):8d}  "
        for data in tests.values():
            mean, relative = model.errors(data)
            line += f"   MSE {mean:.1e} L2 {relative:.1e}"
        print(line, flush=True)
