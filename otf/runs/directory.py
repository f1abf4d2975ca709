"""The run directory: names of its files, creation, opening, change of length."""

import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from otf.config import Config, read_config
from otf.engines.registry import load_engine
from otf.errors import ConfigError, FileError, RunError
from otf.io.durable import UNFINISHED, replace_file, sole_owner
from otf.io.labels import QUARANTINE
from otf.io.runlog import run_log
from otf.runs.assemble import (
    engine_files,
    make_engine,
    resolved_yaml,
)
from otf.runs.check import check
from otf.runs.checkpoint import read_checkpoint
from otf.runs.settings import changes, settings
from otf.runs.structure import make_structure, notes_on

_LOG = logging.getLogger("otf.directory")
_BEFORE_0_1 = re.compile(r"^walkers:", re.MULTILINE)  # always written then, never since


@dataclass(frozen=True)
class RunDirectory:
    """Names of the files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """Configuration with all defaults filled in."""
        return self.path / "config.resolved.yaml"

    @property
    def structure(self) -> Path:
        """Starting structure."""
        return self.path / "start.traj"

    @property
    def labels(self) -> Path:
        """All computed labels."""
        return self.path / "labels.extxyz"

    @property
    def quarantine(self) -> Path:
        """Labels that are not believed, or were dropped."""
        return self.path / QUARANTINE

    @property
    def audit(self) -> Path:
        """Labels of frames that were audited afterwards; see :mod:`otf.postprocess.audit`."""
        return self.path / "labels.audit.extxyz"

    @property
    def strained(self) -> Path:
        """Label of the strained starting structure; see :mod:`otf.runs.stress_check`."""
        return self.path / "labels.strained.extxyz"

    @property
    def translated(self) -> Path:
        """Label of the starting structure with all atoms translated; see :mod:`otf.runs.noise`."""
        return self.path / "labels.translated.extxyz"

    @property
    def trajectory(self) -> Path:
        """Committed frames."""
        return self.path / "trajectory.h5"

    @property
    def checkpoint(self) -> Path:
        """State after the last committed segment."""
        return self.path / "checkpoint.h5"

    @property
    def model(self) -> Path:
        """The model at the end of the last session."""
        return self.path / "model.h5"

    @property
    def log(self) -> Path:
        """Log of the sessions."""
        return self.path / "run.log"

    @property
    def lock(self) -> Path:
        """Held by the process that runs here."""
        return self.path / ".lock"

    @property
    def own_files(self) -> tuple[Path, ...]:
        """Files that only runs write, and that hold what was paid for or what a resume needs."""
        return (
            self.config, self.structure, self.labels, self.translated, self.strained, self.audit,
            self.quarantine, self.trajectory, self.checkpoint, self.model, self.log, self.lock,
        )  # fmt: skip

    @property
    def matrices(self) -> Path:
        """Hamiltonian and density matrix of every label, if the engine returns them."""
        return self.path / "matrices"

    @property
    def orbitals(self) -> Path:
        """Radial functions of the orbitals of those matrices."""
        return self.matrices / "orbitals.h5"

    @property
    def scratch(self) -> Path:
        """The engine's own files."""
        return self.path / "engine"


def create_run(config: Config, source: Path, path: Path) -> RunDirectory:
    """Create the directory of a new run, which can be resumed from then on.

    Parameters
    ----------
    config, source
        The configuration and the file it was read from.
    path
        The directory to create.

    Raises
    ------
    FileError
        If there is already something there.
    ConfigError, EngineError
        If the structure or the engine cannot be used; nothing is created then.
    """
    make_room(path)
    try:
        atoms = make_structure(config, source.parent)
        # Check before the directory exists, so that the name stays free for another try.
        check(config, atoms, make_engine(config).capabilities)
        structures = _structures_of_replicas(config, source.parent, atoms)
    except ConfigError as error:
        raise ConfigError([f"{source}: {problem}" for problem in error.problems]) from error
    return write_run(config, atoms, path, structures)


def make_room(path: Path) -> None:
    """Check that a new run may be created here; an existing run without labels is discarded.

    Raises
    ------
    FileError
        If there is already something there.
    """
    run = RunDirectory(path)
    _refuse_before_0_1(run)
    labels = [run.labels, *path.glob("replica-*/labels.extxyz")]
    paid = any(file.exists() and file.stat().st_size > 0 for file in labels)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if paid or not (run.config.exists() or _barely_begun(run)):
            remedy = f"`otf resume {path}` continues it" if paid else "it is not a run of otf"
            raise FileError(
                f"{path}: already exists ({remedy}); to start afresh choose another directory "
                "(--output), or remove this one"
            )
        with sole_owner(run.lock):  # begun, but no label was computed: reuse it
            _LOG.info("%s holds no label yet and is used again", path)
            for replica in replicas_below(path):
                shutil.rmtree(replica)


def write_run(
    config: Config, atoms: Atoms, path: Path, structures: Sequence[Atoms] = ()
) -> RunDirectory:
    """Write a checked configuration and its structures to a directory.

    Parameters
    ----------
    structures
        Structures of the replicas, if they have their own.

    Raises
    ------
    FileError
        If the directory cannot be written.
    """
    run = RunDirectory(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        ase.io.write(run.structure, atoms)
        copied = {}
        for option, file in engine_files(config).items():
            copied[option] = f"engine_{option}{file.suffix}"
            load_engine(config.engine.kind).keep_input(file, path / copied[option])
        for number, structure in enumerate(structures):
            ase.io.write(path / f"replica-{number}.traj", structure)
        kept = [Path(f"replica-{number}.traj") for number in range(len(structures))]
        replicas = config.replicas.model_copy(update={"structures": kept})
        config = config.model_copy(update={"replicas": replicas})
        text = resolved_yaml(config, run.structure.name, copied)
        replace_file(run.config, lambda aside: aside.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise FileError(
            f"{path}: cannot be made ({error.strerror}); choose another directory"
        ) from error
    with run_log(run.log):
        for line in config.from_job:
            _LOG.info("%s", line)
        for note in notes_on(config, atoms):
            _LOG.warning("%s", note)
    return run


def _structures_of_replicas(config: Config, folder: Path, first: Atoms) -> list[Atoms]:
    """Read the replicas' own structures, with the masses and constraints of ``system``."""
    out = []
    for number, name in enumerate(config.replicas.structures):
        named = {"structure": name, "from_": None, "molecule": None, "bulk": None}
        system = config.system.model_copy(update={**named, "repeat": (1, 1, 1)})
        atoms = make_structure(config.model_copy(update={"system": system}), folder)
        if not np.array_equal(atoms.numbers, first.numbers) or (atoms.pbc != first.pbc).any():
            raise ConfigError(
                [
                    f"replicas.structures: {name}, of replica {number}, holds {atoms.symbols}, and "
                    f"the system {first.symbols}; all need the same atoms in the same order"
                ]
            )
        out.append(atoms)
    return out


def replica_directory(run: RunDirectory, number: int) -> RunDirectory:
    """Run directory of a replica."""
    return RunDirectory(run.path / f"replica-{number}")


def replicas_below(path: Path) -> list[Path]:
    """Directories of the replicas of a run, in order; empty without replicas."""
    found = [p.parent for p in path.glob("replica-*/config.resolved.yaml")]
    return sorted(found, key=lambda p: (len(p.name), p.name))


def one_run(path: Path) -> Path:
    """Return the directory, which must be that of a single run.

    Raises
    ------
    RunError
        If it is a run of replicas.
    """
    replicas = replicas_below(path)
    if replicas:
        raise RunError(f"{path}: has replicas; name one of them, such as {replicas[0]}")
    return path


def _barely_begun(run: RunDirectory) -> bool:
    """Whether a kill left only files that are written before the configuration."""
    return run.path.is_dir() and all(
        item.name == run.structure.name
        or item.name.startswith(("engine_", "replica-"))
        or (item.name.startswith(run.config.name) and item.suffix == UNFINISHED)
        for item in run.path.iterdir()
    )


def read_run(path: Path) -> tuple[RunDirectory, Config, Atoms]:
    """Open a run directory; return it with its configuration and starting structure.

    Raises
    ------
    FileError
        If it is not a run, or of a version whose files are not supported any more.
    ConfigError
        If its configuration was damaged.
    """
    run = RunDirectory(path)
    if not run.config.exists():
        raise FileError(f"{path}: is not a run of otf (no {run.config.name}); see `otf run --help`")
    _refuse_before_0_1(run)
    config = read_config(run.config)
    return run, config, make_structure(config, path)


def _refuse_before_0_1(run: RunDirectory) -> None:
    """Refuse a run directory of a version whose files are not read any more."""
    if run.config.exists() and _BEFORE_0_1.search(
        run.config.read_text(encoding="utf-8", errors="replace")
    ):
        raise FileError(
            f"{run.path}: was made by otf before 0.1, whose run directories are not read any more: "
            "finish it with that version, or start a new run with the names of today "
            f"(`otf fit {run.labels}` still reads its labels)"
        )


def change_steps(path: Path, steps: int) -> None:
    """Change the number of steps of a run in its configuration.

    Raises
    ------
    FileError, ConfigError
        If it is not a run, its configuration was damaged, or it is running.
    RunError
        If the run has more steps already.
    """
    run, config, _ = read_run(path)
    with sole_owner(run.lock):
        _change_steps(run, config, steps)


def _change_steps(run: RunDirectory, config: Config, steps: int) -> None:
    done = read_checkpoint(run.checkpoint).state.step if run.checkpoint.exists() else 0
    if steps < done:
        raise RunError(f"{run.path}: has {done} steps already; --steps {steps} is fewer")
    for number in range(config.replicas.count if config.replicas.count > 1 else 0):
        if replica_directory(run, number).config.exists():
            change_steps(replica_directory(run, number).path, steps)
    dynamics, stages = config.dynamics, list(config.dynamics.stages)
    if stages:
        rest = steps - (dynamics.total_steps - stages[-1].steps)
        if rest < 1:
            raise ConfigError([f"steps: the last of the stages begins at {steps - rest}"])
        stages[-1] = stages[-1].model_copy(update={"steps": rest})
        dynamics = dynamics.model_copy(update={"stages": stages})
    else:
        dynamics = dynamics.model_copy(update={"steps": steps})
    changed = config.model_copy(update={"dynamics": dynamics})
    if run.checkpoint.exists():  # check before writing
        before = read_checkpoint(run.checkpoint).settings
        changes(before, settings(changed), kind=config.engine.kind, source=str(run.config))
    names = {option: file.name for option, file in engine_files(config).items()}
    text = resolved_yaml(changed, run.structure.name, names)
    replace_file(run.config, lambda aside: aside.write_text(text, encoding="utf-8"))
