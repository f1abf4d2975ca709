"""Interactive viewer of the trajectory in the report, by 3Dmol.

3Dmol (Rego and Koes, Bioinformatics 31, 1322 (2015)), version 2.5.5, is included unchanged in this
directory, with its licence.
"""

import json
from importlib.resources import files
from typing import Any

import numpy as np
from ase.geometry import wrap_positions

from otf.arrays import Floats, Ints
from otf.io.committed import Trajectory
from otf.learning.force_model import ForceModel
from otf.units import MEV

_MOST_ATOMS = 12_000  # over all frames, to limit the size of the page
_MOST_FRAMES = 100


def viewer(t: Trajectory, model: ForceModel | None) -> str:
    """HTML of a viewer of the frames, with atoms coloured by their predicted force error.

    Parameters
    ----------
    t
        Frames to show, see :func:`shown`.
    model
        Model that predicts the errors; without one, atoms are coloured by species.
    """
    found = scene(t, model)
    data = json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div id="stage" role="img" aria-label="the atoms"></div><img id="printed" alt="">'
        f"{_controls(found)}"
        f'<script type="application/json" id="scene">{data}</script>'
        f"<script>{_beside('3Dmol-min.js')}</script><script>{_beside('viewer.js')}</script>"
    )


def shown(t: Trajectory) -> Ints:
    """Indices of the frames to show: evenly spaced, including the last."""
    count = max(1, min(_MOST_FRAMES, _MOST_ATOMS // len(t.atoms), len(t)))
    return np.unique(np.linspace(len(t) - 1, 0, count).round().astype(np.int64))


def scene(t: Trajectory, model: ForceModel | None) -> dict[str, Any]:
    """Data for the script in the page: lengths in 0.01 Angstrom, errors in meV/Angstrom."""
    rows = range(len(t))
    periodic = bool(t.atoms.pbc.all())
    found: dict[str, Any] = {
        "symbols": list(t.atoms.symbols),
        "times": [f"{1e-3 * t.time_fs[i]:.3f} ps" for i in rows],
        "positions": [_hundredths(_centred(t, i)) for i in rows],
        "cells": [_hundredths(t.cells[i]) for i in rows] if periodic else [],
        "errors": [],
        "most": 0.0,
    }
    if model is not None:
        errors = np.array(
            [np.sqrt(np.mean(model.predicted_error(t.frame(i)) ** 2, axis=1)) for i in rows]
        )
        known = errors[np.isfinite(errors)] / MEV
        found["most"] = float(f"{np.quantile(known, 0.99) if len(known) else 1.0:.2g}") or 1.0
        found["errors"] = [
            [float(f"{e / MEV:.3g}") if np.isfinite(e) else None for e in row] for row in errors
        ]
    return found


def _centred(t: Trajectory, i: int) -> Floats:
    """Positions centred in the cell and wrapped, so that its faces cut few molecules."""
    positions: Floats = t.positions[i] - t.positions[i].mean(axis=0)
    if not t.atoms.pbc.all():
        return positions
    middle = t.cells[i].sum(axis=0) / 2
    wrapped: Floats = wrap_positions(positions + middle, t.cells[i], pbc=True)
    return wrapped


def _hundredths(lengths: Floats) -> list[int]:
    return [int(x) for x in np.rint(100.0 * lengths).ravel()]


def _controls(found: dict[str, Any]) -> str:
    legend = (
        '<label><input type="checkbox" id="by-error"> expected error</label>'
        f'<span class="legend">0 <i></i> {found["most"]:g} meV/Å</span>'
    )
    return (
        '<div class="controls"><button id="play">play</button>'
        f'<input type="range" id="frame" min="0" max="{len(found["times"]) - 1}" value="0" '
        'aria-label="frame"><output id="when"></output>'
        f'<span id="elements"></span>{legend if found["errors"] else ""}</div>'
    )


def _beside(name: str) -> str:
    return files("otf.report").joinpath(name).read_text(encoding="utf-8")
