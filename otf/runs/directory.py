"""The run directory: names of its files, opening, change of length."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from otf.config import Config, read_config
from otf.errors import ConfigError, FileError, RunError
from otf.io.durable import replace_file, sole_owner
from otf.io.labels import QUARANTINE
from otf.runs.checkpoint import read_checkpoint
from otf.runs.plumed_input import FOLDER
from otf.runs.resolved import resolved_yaml
from otf.runs.settings import changes, settings
from otf.runs.structure import make_structure

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
    def earlier(self) -> Path:
        """Labels of earlier runs that the run started with; see :mod:`otf.runs.earlier`."""
        return self.path / "earlier"

    def prior_mean(self, number: int) -> Path:
        """Folder of the model of a term of the baseline; see :mod:`otf.runs.prior_mean`."""
        return self.path / f"baseline-{number}"

    @property
    def matrices(self) -> Path:
        """Hamiltonian and density matrix of every label, if the engine returns them."""
        return self.path / "matrices"

    @property
    def orbitals(self) -> Path:
        """Radial functions of the orbitals of those matrices."""
        return self.matrices / "orbitals.h5"

    @property
    def plumed(self) -> Path:
        """Input and output of PLUMED; see :mod:`otf.runs.plumed`."""
        return self.path / FOLDER

    @property
    def scratch(self) -> Path:
        """The engine's own files."""
        return self.path / "engine"


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
    refuse_before_0_1(run)
    config = read_config(run.config)
    return run, config, make_structure(config, path)


def refuse_before_0_1(run: RunDirectory) -> None:
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
    text = resolved_yaml(changed, run.structure.name)
    replace_file(run.config, lambda aside: aside.write_text(text, encoding="utf-8"))


def is_biased(path: Path) -> bool:
    """Whether a path is the directory of a run with a bias."""
    if not RunDirectory(path).config.exists():
        return False
    dynamics = read_run(path)[1].dynamics
    return bool(dynamics.bias) or dynamics.plumed is not None
