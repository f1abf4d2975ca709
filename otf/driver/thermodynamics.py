"""Conservation of the energy and mean temperature of a run, and what is wrong with them."""

import math
from dataclasses import dataclass

import numpy as np
from ase import units

from otf.analysis.blocks import block_estimate
from otf.driver.records import LabelRecord
from otf.io.committed import Trajectory
from otf.units import MEV

_LARGEST_DRIFT = 0.1  # of the integration, relative to the kinetic energy
_LARGEST_CHANGE = 0.3  # by the errors of the model, relative to the kinetic energy
_SCATTERS, _FEWEST_LABELS = 4.0, 6  # of the energies at labels, and labels that show them
_RUNAWAY = 1.0  # relative to the kinetic energy of the temperature; ends the run
_IN_A_ROW = 3  # labels that show it
_FEW_EXPLOSIONS, _MANY_EXPLOSIONS = 2, 0.05  # that may happen, and a share of the labels
_WRONG, _DEVIATIONS = 0.1, 5.0  # share of the temperature, and errors, that it may be off


@dataclass(frozen=True)
class EnergyConservation:
    """Energy conservation of a run.

    Attributes
    ----------
    conserved_meV_ps
        Drift of K + V − discontinuities − heat − work, which only the integrator's error changes.
    conserved_scatter_meV
        Standard deviation about that drift.
    discontinuity_meV, heat_meV, work_meV, barostat_meV
        Sums over the run: energy discontinuities at model updates, heat from the thermostat, work
        of forces without a potential, and energy from the barostat.
    total_change_meV
        Change of K + E − heat − barostat between the first and the last label, with E from the
        engine: the drift of the physical energy. NaN with fewer than two labels.
    total_scatter_meV
        Standard deviation of that energy about a steady change; noise of the labels is part of it.
    kinetic_meV
        Mean kinetic energy, which the others are to be small against.
    time_ps
        Simulated time.
    """

    conserved_meV_ps: float
    conserved_scatter_meV: float
    discontinuity_meV: float
    heat_meV: float
    work_meV: float
    barostat_meV: float
    total_change_meV: float
    total_scatter_meV: float
    kinetic_meV: float
    time_ps: float

    @property
    def problem(self) -> str:
        """Why energy is not conserved, and the remedy; empty if it is."""
        drift = abs(self.conserved_meV_ps) * self.time_ps
        if max(drift, self.conserved_scatter_meV) > _LARGEST_DRIFT * self.kinetic_meV:
            return (
                f"the integration changed the energy by {drift:.0f} meV (scatter "
                f"{self.conserved_scatter_meV:.0f} meV), where the kinetic energy is "
                f"{self.kinetic_meV:.0f} meV: a smaller dynamics.timestep_fs is needed"
            )
        change = abs(self.total_change_meV)
        if change > max(_LARGEST_CHANGE * self.kinetic_meV, _SCATTERS * self.total_scatter_meV):
            return (
                f"the errors of the model changed the energy by {self.total_change_meV:+.0f} meV, "
                f"where the kinetic energy is {self.kinetic_meV:.0f} meV: a smaller "
                "policy.force_target_meV_A or labels with less noise are needed"
            )
        return ""


def energy_conservation(
    t: Trajectory, history: tuple[LabelRecord, ...]
) -> EnergyConservation | None:
    """Energy conservation of a trajectory; None if there are too few frames or no energies."""
    conserved = t.conserved_energy
    if len(conserved) < 3 or not np.isfinite(conserved).all():
        return None
    time_ps = 1e-3 * t.time_fs
    slope, offset = np.polyfit(time_ps, conserved - conserved[0], 1)
    scatter = conserved - conserved[0] - slope * time_ps - offset
    change = total_change(history)
    return EnergyConservation(
        conserved_meV_ps=float(slope) / MEV,
        conserved_scatter_meV=float(scatter.std()) / MEV,
        discontinuity_meV=float(t.energy_discontinuity[-1]) / MEV,
        heat_meV=float(t.heat[-1]) / MEV,
        work_meV=float(t.work[-1]) / MEV,
        barostat_meV=float(t.barostat[-1]) / MEV,
        total_change_meV=change / MEV,
        total_scatter_meV=_total_scatter(history) / MEV,
        kinetic_meV=float(t.kinetic_energy.mean()) / MEV,
        time_ps=float(time_ps[-1] - time_ps[0]),
    )


def total_change(history: tuple[LabelRecord, ...]) -> float:
    """Change of kinetic plus the engine's energy since the first label, eV.

    Without what thermostat and barostat supplied: zero but for the errors of the model. NaN with
    fewer than two labels.
    """
    known = _totals(history)
    return known[-1] - known[0] if len(known) > 1 else math.nan


def _totals(history: tuple[LabelRecord, ...]) -> list[float]:
    totals = [r.total_energy for r in history if r.reason != "audit"]
    return [total for total in totals if math.isfinite(total)]


def _total_scatter(history: tuple[LabelRecord, ...]) -> float:
    """Standard deviation of the energies at labels about a line, eV; 0 with too few."""
    totals = _totals(history)
    if len(totals) < _FEWEST_LABELS:
        return 0.0
    number = np.arange(float(len(totals)))
    rest = np.array(totals) - np.polyval(np.polyfit(number, totals, 1), number)
    return float(rest.std())


def runaway(history: tuple[LabelRecord, ...], *, n_atoms: int, temperature_K: float) -> str:
    """That the errors of the model changed the energy by as much as the kinetic energy; or empty.

    At several labels in a row: one may be of a segment that is integrated again after learning it.

    Parameters
    ----------
    temperature_K
        Highest temperature of the run as configured.
    """
    kinetic = 1.5 * n_atoms * float(units.kB) * temperature_K
    first, *later = _totals(history) or [math.nan]
    latest = np.array(later[-_IN_A_ROW:]) - first
    change = float(latest[np.argmin(np.abs(latest))]) if len(latest) == _IN_A_ROW else 0.0
    if not kinetic or not abs(change) > _RUNAWAY * kinetic or np.ptp(np.sign(latest)):
        return ""
    return (
        f"at the engine's labels the energy has changed by {change:+.2f} eV since the start, which "
        f"is not heat of the thermostat and more than the kinetic energy at {temperature_K:g} K, "
        f"{kinetic:.2f} eV: the trajectory is no longer that of this system. A smaller "
        "dynamics.timestep_fs or policy.force_target_meV_A is needed, in a new run"
    )


def explosions(history: tuple[LabelRecord, ...]) -> str:
    """That the model's dynamics diverged again and again; empty if it did not."""
    count = sum(r.reason == "explosion" for r in history)
    if count <= max(_FEW_EXPLOSIONS, _MANY_EXPLOSIONS * len(history)):
        return ""
    return (
        f"the dynamics of the model diverged {count} times: a smaller dynamics.timestep_fs or "
        "policy.force_target_meV_A is needed"
    )


@dataclass(frozen=True)
class MeanTemperature:
    """Mean temperature of the last stage of a run.

    Attributes
    ----------
    mean_K, error_K
        Mean and its standard error; NaN if the run is shorter than ten correlation times.
    target_K
        That of the thermostat; None without one, or if it changes.
    """

    mean_K: float
    error_K: float
    target_K: float | None

    def in_words(self) -> str:
        """Mean, error and target."""
        error = "" if math.isnan(self.error_K) else f" +- {self.error_K:.1f}"
        target = "" if self.target_K is None else f"; the thermostat is at {self.target_K:g} K"
        return f"{self.mean_K:.1f}{error} K{target}"

    @property
    def problem(self) -> str:
        """That it is not the temperature of the thermostat; empty if it may be."""
        if self.target_K is None or math.isnan(self.error_K):
            return ""
        off = abs(self.mean_K - self.target_K)
        if off <= max(_WRONG * self.target_K, _DEVIATIONS * self.error_K):
            return ""
        return (
            f"the temperature is {self.mean_K:.0f} +- {self.error_K:.0f} K where the thermostat is "
            f"at {self.target_K:g} K: a longer equilibration or a stronger thermostat "
            "(dynamics.time_constant_fs) is needed"
        )


def mean_temperature(t: Trajectory, *, target_K: float | None) -> MeanTemperature | None:
    """Mean temperature of the last stage; None without frames."""
    values = t.temperature[t.stage == t.stage.max()] if len(t.stage) else t.temperature
    if not len(values):
        return None
    found = block_estimate(values)
    return MeanTemperature(float(found.mean), float(found.error), target_K)
