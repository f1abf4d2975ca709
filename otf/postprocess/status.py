"""Status of a run directory, also while the run is in progress."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from otf.driver.records import LabelRecord
from otf.driver.statistics import Contract
from otf.errors import OtfError
from otf.io.durable import is_owned
from otf.io.trajectory import read_scalars
from otf.runs.checkpoint import read_checkpoint
from otf.runs.cost import Cost, cost_of, labelled_percent
from otf.runs.directory import RunDirectory, read_run, replicas_below
from otf.runs.noise import further_labels
from otf.runs.summary import contract_of

State = Literal["running", "stopped", "finished", "not begun", "damaged"]


@dataclass(frozen=True)
class Overview:
    """Summary of the state of a run.

    Attributes
    ----------
    problem
        Why it is considered damaged, otherwise empty.
    gap
        Steps to the next label as planned at the last one; 0 while the engine moves the atoms.
    idle_s
        Seconds since the last commit, by the local clock and the file date; None before the first.
    """

    path: Path
    state: State
    system: str = ""
    engine: str = ""
    step: int = 0
    steps: int = 0
    timestep_fs: float = 0.0
    labels: int = 0
    gap: int = 0
    last: LabelRecord | None = None
    contract: Contract | None = None
    cost: Cost | None = None
    idle_s: float | None = None
    problem: str = ""

    @property
    def labels_percent(self) -> float:
        """Share of the steps that were labelled."""
        return labelled_percent(self.labels, self.step)


def overview(path: Path) -> Overview:
    """Read the state of a run without changing it.

    Raises
    ------
    FileError
        If it is not a run.
    """
    run = RunDirectory(path)
    if not run.config.exists():
        read_run(path)  # raises the error
    replicas = replicas_below(path)
    if replicas:
        return _together(path, [overview(replica) for replica in replicas])
    try:
        _, config, atoms = read_run(path)
        running = is_owned(run.lock)
        known = Overview(
            path,
            "running" if running else "not begun",
            system=str(atoms.symbols),
            engine=config.engine.kind,
            steps=config.dynamics.total_steps,
            timestep_fs=config.dynamics.timestep_fs,
        )
        if not run.checkpoint.exists():
            return known
        found, (_, further_s) = read_checkpoint(run.checkpoint), further_labels(run)
        contract = contract_of(config, found.state.history, read_scalars(run.trajectory))
    except (OtfError, MemoryError, OSError, RecursionError) as error:
        return Overview(path, "damaged", problem=str(error) or type(error).__name__)
    state = found.state
    now: State = "finished" if state.step >= known.steps else "stopped"
    history = state.history
    return Overview(
        path,
        "running" if running else now,
        system=known.system,
        engine=known.engine,
        step=state.step,
        steps=known.steps,
        timestep_fs=known.timestep_fs,
        labels=len(history),
        gap=0 if state.policy.by_engine else state.policy.steps,
        last=history[-1],
        contract=contract,
        cost=cost_of(
            history,
            wall_s=found.wall_s,
            steps=state.step,
            further_s=further_s,
        )
        if state.sampler is None
        else None,
        # The clock that files are dated by.
        idle_s=max(0.0, time.clock_gettime(time.CLOCK_REALTIME) - run.checkpoint.stat().st_mtime),
    )


def _together(path: Path, replicas: list[Overview]) -> Overview:
    """Combine the replicas of a run: steps and labels are summed."""
    states = {replica.state for replica in replicas}
    order: tuple[State, ...] = ("damaged", "running", "stopped", "not begun", "finished")
    lasts = [w.last for w in replicas if w.last is not None]
    idle = [w.idle_s for w in replicas if w.idle_s is not None]
    return replace(
        replicas[0],
        path=path,
        state=next(state for state in order if state in states),
        step=sum(w.step for w in replicas),
        steps=sum(w.steps for w in replicas),
        labels=sum(w.labels for w in replicas),
        last=max(lasts, key=lambda r: r.step, default=None),
        contract=None,
        cost=None,
        idle_s=min(idle, default=None),
        problem=next((w.problem for w in replicas if w.problem), ""),
    )


def runs_below(folder: Path) -> Iterator[Path]:
    """Run directories in a folder and below, sorted by name."""
    if RunDirectory(folder).config.exists():
        yield from replicas_below(folder) or [folder]
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink():
            yield from runs_below(child)
