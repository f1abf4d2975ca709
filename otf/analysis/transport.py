r"""Mean square displacement and diffusion coefficient of each species.

==============================================================  =======================
formula                                                         code
==============================================================  =======================
MSD(t) = mean over atoms and origins of (r(s + t) - r(s))^2      :func:`_displacements`
D = slope of MSD / 6, over 10 to 50 % of the longest lag         :func:`_diffusion`
==============================================================  =======================

Displacements are relative to the centre of mass. The average over all origins is computed by
Fourier transforms (Calandrini et al., Collection SFN 12, 201 (2011)).
"""

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from scipy.fft import irfft, next_fast_len, rfft

from otf.analysis.blocks import over_pieces
from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.errors import RunError
from otf.io.frames import Frames, of_one_system

_PIECES = 10  # segments of a trajectory, for the errors
_FIT = (0.1, 0.5)  # share of the longest lag over which the slope is taken
_SHORTEST_FS = 1000.0  # fitted lag: cages and vibrations are shorter in liquids
_FROM_LINEAR = 0.3  # exponent of the time
_CM2_PER_S = 0.1  # Angstrom^2/fs


def msd(runs: Sequence[Frames], *, longest_fs: float | None = None) -> Curves:
    """Mean square displacements up to a longest lag, by default a tenth of the shortest run.

    Raises
    ------
    RunError
        If there are too few frames, or they are not evenly spaced in time.
    """
    of_one_system(runs)
    spacing = runs[0].spacing_fs
    shortest = min(len(run) for run in runs)
    lags = shortest // _PIECES if longest_fs is None else int(longest_fs / spacing)
    if lags < 10 or lags * 2 > shortest:
        raise RunError(
            f"{runs[0].name}: {shortest} frames are too few for displacements over {lags} of them; "
            "use a longer run or another --longest"
        )
    numbers = runs[0].atoms.numbers
    pieces: dict[int, list[Floats]] = {int(z): [] for z in np.unique(numbers)}
    for run in runs:
        if abs(run.spacing_fs - spacing) > 1e-6 * spacing:
            raise RunError(f"{run.name}: has another time between frames than {runs[0].name}")
        masses = run.atoms.get_masses()
        centre = np.einsum("fni,n->fi", run.positions, masses / masses.sum())
        relative = run.positions - centre[:, None]
        n_pieces = max(1, min(_PIECES, len(run) // (2 * lags)))
        for part in np.array_split(relative, n_pieces):
            for z in pieces:
                pieces[z].append(_displacements(part[:, numbers == z])[:lags])
    time: Floats = spacing * np.arange(float(lags))
    y, d, notes = {}, {}, []
    for z, found in pieces.items():
        symbol, samples = chemical_symbols[z], np.array(found)
        y[f"msd_{symbol}_A2"] = over_pieces(samples)
        reason = _not_diffusive(time, samples.mean(axis=0))
        if reason:
            notes.append(f"no diffusion coefficient of {symbol}: {reason}")
        else:
            d[f"diffusion_{symbol}_cm2_per_s"] = over_pieces(_diffusion(time, samples))
    return Curves("mean square displacements", "time_fs", time, y, d, tuple(notes))


def _displacements(positions: Floats) -> Floats:
    """MSD (frames,) of positions (frames, n, 3), over all origins and atoms."""
    n = len(positions)
    square = np.sum(positions**2, axis=2)  # (frames, n)
    size = next_fast_len(2 * n)
    transformed = rfft(positions, size, axis=0)
    products = irfft(np.abs(transformed) ** 2, size, axis=0)[:n].sum(axis=2)
    before = np.cumsum(square, axis=0)
    total = before[-1]
    lag = np.arange(n)
    # Sum over origins s of r(s)^2 + r(s + t)^2, origins 0 to n - 1 - t.
    both = before[n - 1 - lag] + total - np.where(lag[:, None] > 0, before[lag - 1], 0.0)
    found: Floats = ((both - 2.0 * products) / (n - lag)[:, None]).mean(axis=1)
    return np.maximum(found, 0.0)


def _not_diffusive(time: Floats, displacement: Floats) -> str:
    """Why the displacements over the fitted lags are not those of diffusion; empty if they are."""
    first, last = (int(share * len(time)) for share in _FIT)
    lags = f"over {time[first]:.0f} to {time[last - 1]:.0f} fs"
    if time[last - 1] < _SHORTEST_FS:
        return (
            f"displacements {lags} are vibrations; lags of {_SHORTEST_FS:.0f} fs and more are "
            f"needed (--longest above {_SHORTEST_FS / _FIT[1]:.0f}, of a run that is longer)"
        )
    if displacement[first] <= 0.0:
        return "its atoms do not move"
    exponent = np.polyfit(np.log(time[first:last]), np.log(displacement[first:last]), 1)[0]
    if abs(exponent - 1.0) > _FROM_LINEAR:
        return f"displacements {lags} grow as the time to the power of {exponent:.2f}"
    return ""


def _diffusion(time: Floats, samples: Floats) -> Floats:
    """Diffusion coefficients (segments,), cm^2/s."""
    first, last = (int(share * len(time)) for share in _FIT)
    slope = np.polyfit(time[first:last], samples[:, first:last].T, 1)[0]
    return np.asarray(slope / 6.0 * _CM2_PER_S)
