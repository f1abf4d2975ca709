"""Time series of scalar quantities, such as energies and temperatures.

With their means, and the correlation times that the errors of the means follow from.
"""

from collections.abc import Sequence

import numpy as np

from otf.analysis.blocks import Estimate, autocorrelation_time, block_estimate
from otf.analysis.curves import Curves
from otf.errors import RunError
from otf.io.frames import Frames


def series(runs: Sequence[Frames], names: Sequence[str]) -> Curves:
    """Series of the named quantities, the runs concatenated, with their means.

    Quantities that any of the runs lacks are left out.

    Raises
    ------
    RunError
        If none is left.
    """
    y, numbers = {}, {}
    for name in names:
        if all(name in run.series for run in runs):
            values = np.concatenate([run.series[name] for run in runs])
            y[name] = Estimate(values, np.full_like(values, np.nan))
            numbers[f"mean_{name}"] = block_estimate(values)
            tau = np.array(autocorrelation_time(values))
            numbers[f"correlation_time_{name}_frames"] = Estimate(tau, np.array(np.nan))
    if not y:
        raise RunError(f"{runs[0].name}: its frames have none of {', '.join(names)}")
    if len(runs) == 1 and runs[0].time_fs is not None:
        return Curves("series", "time_fs", runs[0].time_fs, y, numbers)
    frame = np.arange(float(sum(len(run) for run in runs)))
    return Curves("series", "frame", frame, y, numbers)
