"""Correction of the model's forces by the forecast residual, and the work it does."""

from dataclasses import replace

import numpy as np

from otf.arrays import Floats
from otf.model.residual import Forecast
from otf.model.tensor_energy import Prediction


class ResidualCorrection:
    """Adds a forecast of the residual to predictions along a segment.

    Such forces have no potential: they may heat or cool the system, so their work is recorded.

    Parameters
    ----------
    forecast
        None for no correction.
    label_step, spacing
        Step of the last label, and steps between the last two labels.
    """

    def __init__(self, forecast: Forecast | None, label_step: int, spacing: int) -> None:
        self._forecast = forecast
        self._label_step = label_step
        self._spacing = spacing
        self.begin()

    def begin(self) -> None:
        """Start a segment: reset the work."""
        self.work = 0.0  # eV
        self._before: tuple[Floats, Floats] | None = None

    def at(self, step: int) -> Floats | None:
        """Correction of the forces (N, 3) at a step, eV/Angstrom."""
        if self._forecast is None:
            return None
        return self._forecast.mean((step - self._label_step) / self._spacing)

    def applied(self, prediction: Prediction, positions: Floats, step: int) -> Prediction:
        """The prediction with the correction at this step; adds to the work."""
        added = self.at(step)
        if added is None:
            return prediction
        if self._before is not None:
            positions_before, added_before = self._before
            mean = 0.5 * (added + added_before)
            self.work += float(np.sum(mean * (positions - positions_before)))
        self._before = positions.copy(), added
        return replace(prediction, forces=prediction.forces + added)
