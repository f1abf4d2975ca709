"""Python interface of runs: create, iterate, stop, reopen and extend."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, TypeAlias

import ase.io
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin

from otf.config import Config
from otf.config.reader import config_of
from otf.driver.records import Segment
from otf.engines.calculator import CalculatorEngine
from otf.engines.protocol import Engine
from otf.errors import ConfigError, EngineError, RunError
from otf.learning.calculator import ModelCalculator
from otf.runs.assemble import make_engine
from otf.runs.check import check
from otf.runs.checkpoint import read_checkpoint
from otf.runs.create import make_room, write_run
from otf.runs.directory import RunDirectory, change_steps, one_run, read_run
from otf.runs.frames import FrameSequence
from otf.runs.learn_from import absolute, gathered
from otf.runs.plumed import with_plumed
from otf.runs.session import open_session
from otf.runs.structure import prepared
from otf.runs.summary import Outcome, Summary, summarise

EngineSpec: TypeAlias = str | Mapping[str, Any] | GetPropertiesMixin
"""An engine: its name, its name and options (``{"kind": "siesta", …}``), or an ASE calculator."""


class Run:
    """An accelerated molecular dynamics run in a directory of its own.

    Iterating runs it: each item is a committed segment. The loop may be left at any time and
    continued later; committed segments are on disk, and no label is computed twice.

    Parameters
    ----------
    atoms
        The starting structure, with its constraints; it is copied.
    engine
        The engine that labels, see :data:`EngineSpec`. A calculator object is not stored.
    directory
        The run directory; must be new.
    force_target_meV_A
        Target of the mean absolute error of a force component.
    config
        Further sections of a configuration: ``{"model": {…}, "policy": {…}, "system": {…}, …}``.
    learn_from
        Run directories, and files as ``{"path": …, "same_engine": True}``, whose labels are learned
        before the first step; relative paths start at the working directory. ``"store"`` are those
        of ``otf store`` that fit.
    **dynamics
        Keys of the ``dynamics`` section: ``steps``, ``ensemble``, ``temperature_K``,
        ``timestep_fs``, ``seed``, …; velocities of the structure are used if
        ``velocities="structure"``.

    Raises
    ------
    ConfigError, EngineError
        If the configuration cannot run; nothing is created then.
    FileError
        If the directory exists.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     run = Run(bulk("Cu", cubic=True), engine=EMT(), directory=f"{folder}/cu", steps=20,
    ...               ensemble="langevin", temperature_K=300, timestep_fs=2.0)
    ...     summary = run.run()
    ...     len(run.trajectory), len(run.labels) == summary.labels
    (21, True)
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        engine: EngineSpec,
        directory: str | Path,
        force_target_meV_A: float | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        learn_from: str | Sequence[str | Path | Mapping[str, Any]] = (),
        **dynamics: Any,
    ) -> None:
        path, where = Path(directory), "atoms"
        sections: dict[str, Any] = {name: dict(part) for name, part in (config or {}).items()}
        sources = [learn_from] if isinstance(learn_from, str) else learn_from
        sections["learn_from"] = [str(s) if isinstance(s, Path) else s for s in sources]
        if "engine" in sections:
            raise ConfigError(["config: 'engine' is an argument of its own"])
        sections["dynamics"] = {**sections.get("dynamics", {}), **dynamics}
        if force_target_meV_A is not None:
            policy = sections.setdefault("policy", {})
            if "force_target_meV_A" in policy:
                raise ConfigError(["policy.force_target_meV_A: given twice; keep one"])
            policy["force_target_meV_A"] = float(force_target_meV_A)
        sections["engine"] = engine_section(engine)
        # Placeholder source: the structure is given, and its file in the directory replaces this.
        sections["system"] = {"molecule": "H", **sections.get("system", {})}
        checked = config_of(sections, Path())
        if checked.replicas.count > 1:
            raise ConfigError(["replicas: several replicas are run from the command line"])
        self._calculator = None if isinstance(engine, str | Mapping) else engine
        if self._calculator is not None and checked.policy.labels_at_once > 1:
            raise ConfigError(
                ["policy.labels_at_once: a calculator object computes one label at a time; name it"]
            )
        start = prepared(checked.system, atoms, where)
        check(checked, start, self._engine_for(checked).capabilities)
        checked = with_plumed(checked, Path(), start)
        make_room(path)
        earlier = gathered(checked, Path(), start)
        named = absolute(checked.learn_from, Path())
        checked = checked.model_copy(update={"learn_from": named})
        self.directory = write_run(checked, start, path, earlier=earlier).path
        self._summary: Summary | None = None

    @classmethod
    def open(cls, directory: str | Path, engine: GetPropertiesMixin | None = None) -> Self:
        """Open an existing run, to read its results or to continue it.

        Parameters
        ----------
        engine
            The calculator object, if the run was started with one.

        Raises
        ------
        FileError, ConfigError, RunError
            If it is not a run, was damaged, is one of several replicas, or has another engine.
        """
        run = cls.__new__(cls)
        run.directory = one_run(Path(directory))
        run._calculator = engine
        run._summary = None
        _, config, _ = read_run(run.directory)
        started_with = config.engine.options.get("calculator")
        if engine is not None and (
            not config.engine.options.get("from_object") or _name_of(engine) != started_with
        ):
            name = started_with or config.engine.kind
            raise RunError(
                f"{directory}: its engine is {name}, not {_name_of(engine)}; open it with that"
            )
        return run

    def __iter__(self) -> Iterator[Segment]:
        """Run or continue, segment by segment.

        Raises
        ------
        RunError, EngineError, FileError
            If the run cannot continue; it can be resumed from the last commit.
        """
        self._summary = None
        files, config, atoms = read_run(self.directory)
        engine = self._engine_for(config)
        with (
            open_session(files, config, atoms, engine=engine) as session,
            closing(session.records()) as records,
        ):
            for record in records:
                if isinstance(record, Segment):
                    yield record
            self._summary = session.summary()

    def run(self) -> Summary:
        """Run or continue to the end, or to what stops it early: see ``stopped_by``."""
        for _ in self:
            pass
        return self.summary

    def extend(self, steps: int) -> Self:
        """Extend the run by ``steps``; iterate it, or call :meth:`run`, to run them.

        Raises
        ------
        ConfigError
            If the result depends on the length, as with a temperature ramp.
        """
        if steps < 1:
            raise RunError(f"steps: {steps} is no extension; give one step or more")
        self._summary = None
        change_steps(self.directory, self._config.dynamics.total_steps + steps)
        return self

    @property
    def trajectory(self) -> Sequence[Atoms]:
        """The committed frames, with energy, forces and momenta."""
        return FrameSequence(self._files.trajectory)

    @property
    def labels(self) -> Sequence[Atoms]:
        """The labelled structures, with the energy and forces of the engine."""
        found = ase.io.read(self._files.labels, ":") if self._files.labels.exists() else []
        return list(found)

    @property
    def model(self) -> ModelCalculator:
        """The model at the end of the last session, as an ASE calculator.

        Raises
        ------
        FileError
            If there is none yet.
        """
        return ModelCalculator.read(self._files.model)

    @property
    def summary(self) -> Summary:
        """Summary of the last session, or of what is on the disk if it was left early."""
        if self._summary is not None:
            return self._summary
        outcome = Outcome(None, None)
        if self._files.checkpoint.exists():
            found = read_checkpoint(self._files.checkpoint)
            outcome = Outcome(found.state, None, found.wall_s)
        return summarise(self._files, self._config, self._engine_for(self._config), outcome)

    @property
    def _files(self) -> RunDirectory:
        return RunDirectory(self.directory)

    @property
    def _config(self) -> Config:
        return read_run(self.directory)[1]

    def _engine_for(self, config: Config) -> Engine:
        """The engine of a configuration, or one that wraps the calculator object."""
        if self._calculator is None:
            return make_engine(config)
        return engine_of(config, self._calculator)

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r})"


def engine_of(config: Config, engine: EngineSpec) -> Engine:
    """The engine of a configuration, or one that wraps the calculator object.

    Raises
    ------
    EngineError
        If it cannot be created, or charge and spin are given for a calculator.
    """
    if isinstance(engine, str | Mapping):
        return make_engine(config)
    if config.system.charge or config.system.spin:
        raise EngineError(
            "system.charge, system.spin: set them in the calculator, and leave them at 0 here"
        )
    return CalculatorEngine(engine, name=_name_of(engine))


def engine_section(engine: EngineSpec) -> dict[str, Any]:
    """The ``engine`` section of a configuration."""
    if isinstance(engine, str):
        return {"kind": engine}
    if isinstance(engine, Mapping):
        return dict(engine)
    return {"kind": "ase", "calculator": _name_of(engine), "from_object": True}


def _name_of(calculator: GetPropertiesMixin) -> str:
    kind = type(calculator)
    return f"{kind.__module__}:{kind.__qualname__.rpartition('.')[2]}"
