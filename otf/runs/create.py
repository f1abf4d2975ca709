"""Creation of run directories."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from otf.config import Config
from otf.engines.registry import load_engine
from otf.errors import ConfigError, FileError
from otf.io.durable import UNFINISHED, replace_file, sole_owner
from otf.io.runlog import run_log
from otf.runs.assemble import make_engine
from otf.runs.check import check
from otf.runs.directory import RunDirectory, refuse_before_0_1, replicas_below
from otf.runs.earlier import EarlierLabels, write_earlier
from otf.runs.learn_from import absolute, gathered
from otf.runs.plumed import with_plumed
from otf.runs.plumed_input import keep_input
from otf.runs.resolved import engine_files, resolved_yaml
from otf.runs.structure import counterpart, make_structure, notes_on

_LOG = logging.getLogger("otf.directory")


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
        config = with_plumed(config, source.parent, atoms)
        structures = _structures_of_replicas(config, source.parent, atoms)
        earlier = gathered(config, source.parent, atoms)
    except ConfigError as error:
        raise ConfigError([f"{source}: {problem}" for problem in error.problems]) from error
    named = absolute(config.learn_from, source.parent)
    config = config.model_copy(update={"learn_from": named})
    return write_run(config, atoms, path, structures, earlier=earlier)


def make_room(path: Path) -> None:
    """Check that a new run may be created here; an existing run without labels is discarded.

    Raises
    ------
    FileError
        If there is already something there.
    """
    run = RunDirectory(path)
    refuse_before_0_1(run)
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
            made = (*replicas_below(path), run.earlier, run.plumed, *path.glob("baseline-*"))
            for folder in filter(Path.exists, made):
                shutil.rmtree(folder)


def write_run(
    config: Config,
    atoms: Atoms,
    path: Path,
    structures: Sequence[Atoms] = (),
    *,
    earlier: Sequence[EarlierLabels] = (),
) -> RunDirectory:
    """Write a checked configuration and its structures to a directory.

    Parameters
    ----------
    structures
        Structures of the replicas, if they have their own.
    earlier
        Labels of earlier runs that it starts with.

    Raises
    ------
    FileError
        If the directory cannot be written.
    """
    run = RunDirectory(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        ase.io.write(run.structure, atoms)
        for file in engine_files(config):
            load_engine(file.kind).keep_input(file.path, path / file.copy)
        if config.dynamics.plumed is not None:
            keep_input(config.dynamics.plumed, run.plumed)
        for number, structure in enumerate(structures):
            ase.io.write(path / f"replica-{number}.traj", structure)
        write_earlier(run, earlier)
        kept = [Path(f"replica-{number}.traj") for number in range(len(structures))]
        replicas = config.replicas.model_copy(update={"structures": kept})
        config = config.model_copy(update={"replicas": replicas})
        text = resolved_yaml(config, run.structure.name)
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
        where = f"replicas.structures, replica {number}"
        out.append(counterpart(config, first, folder / name, where=where))
    return out


def _barely_begun(run: RunDirectory) -> bool:
    """Whether a kill left only files that are written before the configuration."""
    return run.path.is_dir() and all(
        item.name in (run.structure.name, run.earlier.name, run.plumed.name)
        or item.name.startswith(("engine_", "replica-"))
        or (item.name.startswith(run.config.name) and item.suffix == UNFINISHED)
        for item in run.path.iterdir()
    )
