"""Velocity autocorrelation function and vibrational density of states.

=================================================================  ====================
formula                                                            code
=================================================================  ====================
C(t) = sum_i m_i <v_i(0) . v_i(t)>, divided by C(0)                 :func:`vacf`
``I(f) = |FT of sqrt(m_i) v_i|^2``, summed over atoms, integral 1   :func:`vdos`
=================================================================  ====================

Every mode is weighted by its kinetic energy, whether it is infrared or Raman active or not.
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
_FEWEST = 64  # frames in a segment


def velocities_of(run: Frames) -> Floats:
    """Velocities (frames, N, 3) relative to the centre of mass, Angstrom/fs.

    Computed from differences of the positions if the trajectory has no velocities.
    """
    found = run.velocities
    if found is None:
        found = np.gradient(run.positions, run.spacing_fs, axis=0)
    masses = run.atoms.get_masses()
    moving: Floats = found - np.einsum("fni,n->fi", found, masses / masses.sum())[:, None]
    return moving


def _pieces(runs: Sequence[Frames], longest_fs: float) -> list[tuple[Floats, Floats]]:
    """Velocities and masses of segments of the given length, of all runs."""
    of_one_system(runs)
    spacing = runs[0].spacing_fs
    length = int(longest_fs / spacing)
    out = []
    for run in runs:
        if len(run.atoms) < 2:
            raise RunError(f"{run.name}: a single atom has no vibrations")
        if abs(run.spacing_fs - spacing) > 1e-6 * spacing:
            raise RunError(f"{run.name}: has another time between frames than {runs[0].name}")
        velocities, masses = velocities_of(run), run.atoms.get_masses()
        starts = range(0, len(run) - length + 1, max(1, length))
        out += [(velocities[start : start + length], masses) for start in starts]
    if length < _FEWEST or not out:
        raise RunError(
            f"{runs[0].name}: segments of {length} frames in {len(runs[0])} give no spectrum; "
            f"--longest must cover at least {_FEWEST} frames and must not exceed the run"
        )
    return out


def vacf(runs: Sequence[Frames], *, longest_fs: float) -> Curves:
    """Normalised, mass-weighted velocity autocorrelation function up to a longest lag.

    Raises
    ------
    RunError
        If the run is too short.
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
    """Vibrational density of states, total and by species, over wave numbers.

    The total integrates to one over cm^-1 and is the sum of those of the species.

    Parameters
    ----------
    longest_fs
        Length of the segments whose spectra are averaged; the resolution is its inverse.

    Raises
    ------
    RunError
        If the run is too short.
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
