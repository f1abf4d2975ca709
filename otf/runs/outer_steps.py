"""Steps between evaluations of the engines of a baseline (``use: respa``), from measured errors.

Microcanonical trajectories on the baseline alone are compared: as long as the total energy at the
outer steps fluctuates no more than with an evaluation at every step, the error is that of the
timestep. The result is kept in the run directory.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import yaml
from ase import Atoms

from otf.config import Config
from otf.driver.multiple_time_steps import MultipleTimeSteps
from otf.dynamics.integrators import Acting
from otf.errors import RunError
from otf.io.durable import replace_file
from otf.learning.baseline import Baseline, BaselineError, Stepping
from otf.learning.force_model import ForceModel
from otf.runs.assemble import make_ensemble, trainer_of
from otf.runs.directory import RunDirectory
from otf.runs.signals import asked_to_stop
from otf.units import MEV

_LOG = logging.getLogger("otf.baseline")

# An outer step beyond a third of the shortest period is unstable (Ma, Izaguirre and Skeel, SIAM J.
# Sci. Comput. 24, 1951 (2003)), too slowly to be measured here; a period has some 15 timesteps.
_TRIED = (2, 3, 4)
_STEPS = 240  # of each trajectory; all of them divide it
_LARGER = 1.25  # times the fluctuation with an evaluation at every step
_USUAL = 1.5  # times the largest change of the slow forces in the measured trajectory


def stepping_of(
    config: Config, run: RunDirectory, atoms: Atoms, baseline: Baseline, fast: Baseline
) -> Stepping:
    """Multiple time steps of the baseline, measured if they were not yet.

    Parameters
    ----------
    atoms
        The starting structure.
    baseline, fast
        With engines, and with models in the place of those that need not be evaluated always.

    Raises
    ------
    RunError
        If a signal stopped the measurement.
    EngineError
        If an engine fails.
    """
    terms = {i: t for i, t in enumerate(config.model.baseline) if t.use == "respa"}
    given = [term.every for term in terms.values() if term.every is not None]
    most = min(given, default=max(_TRIED))
    tried = (most,) if len(given) == len(terms) else (1, *(k for k in _TRIED if k <= most))
    file = run.prior_mean(min(terms)) / "outer_steps.yaml"
    if not file.exists():
        found = _measured(config, atoms, baseline, fast, tried)
        text = yaml.safe_dump([measured._asdict() for measured in found], sort_keys=False)
        replace_file(file, lambda aside: aside.write_text(text))
    best = _best([_Measured(**measured) for measured in yaml.safe_load(file.read_text())])
    _LOG.info("model.baseline: evaluated at every %d steps", best.every)
    return Stepping(fast, best.every, _USUAL * best.force_change_eV_A)


class _Measured(NamedTuple):
    """A trajectory: steps between evaluations, and what they do to energy and forces."""

    every: int
    energy_deviation_eV: float
    force_change_eV_A: float


def _measured(
    config: Config, atoms: Atoms, baseline: Baseline, fast: Baseline, tried: Sequence[int]
) -> list[_Measured]:
    """Trajectories with more and more steps between evaluations, up to the first worse one."""
    zero = trainer_of(config, atoms).force_model
    found = list[_Measured]()
    for every in tried:
        if asked_to_stop() is not None:
            raise RunError("stopped while the baseline was measured; resume the run")
        model = replace(zero, baseline=replace(baseline, stepping=Stepping(fast, every)))
        try:
            found.append(_trajectory(config, atoms.copy(), model, every))
        except BaselineError:  # atoms where the engine has no forces: the models led astray
            if not found:
                raise
            break
        _LOG.info(
            "model.baseline: evaluated at every %d steps, the total energy varies by %.2g meV",
            every,
            found[-1].energy_deviation_eV / MEV,
        )
        if _best(found) is not found[-1]:
            break
    return found


def _best(found: Sequence[_Measured]) -> _Measured:
    """The one with the most steps whose energy varies as with an evaluation at every step."""
    most = _LARGER * found[0].energy_deviation_eV
    return max((one for one in found if one.energy_deviation_eV <= most), key=lambda one: one.every)


def _trajectory(config: Config, atoms: Atoms, model: ForceModel, every: int) -> _Measured:
    """Measure a microcanonical trajectory at the temperature of the run."""
    first = next(iter(config.dynamics.staged().values()))
    # Without a thermostat half of the initial kinetic energy becomes potential energy.
    hotter = 1.0 if first.ensemble == "nve" else 2.0
    changed = {
        "ensemble": "nve",
        "steps": _STEPS,
        "temperature_K": hotter * first.temperature_K,
        "temperature_end_K": None,
        "burn_in": 0,
    }
    ensemble = make_ensemble(first.model_copy(update=changed), atoms)
    forces, energies = MultipleTimeSteps(model, _STEPS), list[float]()
    predicted = forces.predict(atoms)

    def ahead(moved: Atoms) -> Acting:
        nonlocal predicted
        predicted = forces.predict(moved)
        return forces.acting(predicted)

    acting = forces.acting(predicted)
    for step in range(_STEPS):
        acting = ensemble.step(step, acting, ahead)
        if (step + 1) % every == 0:
            energies.append(predicted.energy + float(atoms.get_kinetic_energy()))
    return _Measured(every, float(np.std(energies)), forces.largest_change)
