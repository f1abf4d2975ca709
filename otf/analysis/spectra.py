"""Velocity autocorrelation and the vibrational density of states.

=================================================================  ====================
formula                                                            code
=================================================================  ====================
C(t) = sum_i m_i <v_i(0) . v_i(t)>, divided by C(0)                 :func:`vacf`
I(f) = |FT of sqrt(m_i) v_i|^2, summed over atoms, integral 1       :func:`vdos`
=================================================================  ====================

Every mode shows with the weight of its kinetic energy, whether light couples to it or not.
"""

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import windows

from otf.analysis.blocks import over_pieces
from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.errors import RunError
from otf.io.frames import Frames, of_one_system

_CM1_PER_FS = 1e15 / 2.99792458e10  # wave number of one oscillation in a femtosecond
_FEWEST = 64  # frames in a piece


def velocities_of(run: Frames) -> Floats:
    """Velocities (frames, N, 3) relative to the centre of mass, Angstrom/fs.

    From differences of positions where the trajectory has none.
    """
    found = run.velocities
    if found is None:
        found = np.gradient(run.positions, run.spacing_fs, axis=0)
    masses = run.atoms.get_masses()
    moving: Floats = found - np.einsum("fni,n->fi", found, masses / masses.sum())[:, None]
    return moving


def _pieces(runs: Sequence[Frames], longest_fs: float) -> list[tuple[Floats, Floats]]:
    """Velocities and masses of pieces as long as wanted, of all runs."""
    of_one_system(runs)
    spacing = runs[0].spacing_fs
    length = int(longest_fs / spacing)
    out = []
    for run in runs:
        if len(run.atoms) < 2:
            raise RunError(f"{run.name}: a single atom does not vibrate")
        if abs(run.spacing_fs - spacing) > 1e-6 * spacing:
            raise RunError(f"{run.name}: another time between frames than {runs[0].name}")
        velocities, masses = velocities_of(run), run.atoms.get_masses()
        starts = range(0, len(run) - length + 1, max(1, length))
        out += [(velocities[start : start + length], masses) for start in starts]
    if length < _FEWEST or not out:
        raise RunError(
            f"{runs[0].name}: pieces of {length} frames in {len(runs[0])} do not make a spectrum; "
            f"at least {_FEWEST} frames must fit into --longest, and that into the run"
        )
    return out


def vacf(runs: Sequence[Frames], *, longest_fs: float) -> Curves:
    """Normalised velocity autocorrelation up to a lag, all atoms weighted by their mass.

    Raises
    ------
    RunError
        If the run is too short for it.
    """
    samples = []
    for velocities, masses in _pieces(runs, 2.0 * longest_fs):
        n = len(velocities)
        size = next_fast_len(2 * n)
        power = np.abs(rfft(velocities, size, axis=0)) ** 2
        correlation = irfft(np.einsum("fni,n->f", power, masses), size)[:n] / (n - np.arange(n))
        samples.append(correlation[: n // 2] / correlation[0])
    time: Floats = runs[0].spacing_fs * np.arange(float(len(samples[0])))
    found = over_pieces(np.array(samples))
    return Curves("velocity autocorrelation", "time_fs", time, {"vacf": found}, {})


def vdos(runs: Sequence[Frames], *, longest_fs: float) -> Curves:
    """Density of states of the vibrations, in all and by species, over wave numbers.

    The total integrates to one over cm^-1; the species add up to it.

    Parameters
    ----------
    longest_fs
        Length of the pieces whose spectra are averaged: the resolution is its inverse.

    Raises
    ------
    RunError
        If the run is too short for it.
    """
    numbers, spacing = runs[0].atoms.numbers, runs[0].spacing_fs
    kinds = [int(z) for z in np.unique(numbers)]
    samples: dict[int, list[Floats]] = {z: [] for z in kinds}
    for velocities, masses in _pieces(runs, longest_fs):
        window = windows.hann(len(velocities), sym=False)[:, None, None]
        power = np.einsum("fni,n->fn", np.abs(rfft(window * velocities, axis=0)) ** 2, masses)
        for z in kinds:
            samples[z].append(power[:, numbers == z].sum(axis=1))
    length = int(longest_fs / spacing)
    frequencies = np.fft.rfftfreq(length, spacing)
    wave_numbers = np.asarray(_CM1_PER_FS * frequencies, dtype=np.float64)
    width = wave_numbers[1]
    total = np.sum([samples[z] for z in kinds], axis=0)
    norm = total.mean(axis=0).sum() * width
    y = {"vdos_cm": over_pieces(total / norm)}
    if len(kinds) > 1:
        y |= {
            f"vdos_{chemical_symbols[z]}_cm": over_pieces(np.array(samples[z]) / norm)
            for z in kinds
        }
    return Curves("vibrational density of states", "wave_number_cm1", wave_numbers, y, {})
