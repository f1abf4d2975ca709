"""One session of a run, from opening its directory to its summary."""

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from otf.config import Config
from otf.driver.records import Parts, Record
from otf.engines.allocation import this_job
from otf.engines.protocol import Engine
from otf.io.durable import remove_unfinished, sole_owner
from otf.io.labels import LabelFile
from otf.io.runlog import run_log
from otf.learning.model_file import write_model
from otf.model.tensor_energy import Ranks
from otf.runs.assemble import make_engine, make_labeller, make_parts, trainer_of
from otf.runs.baseline import baseline_of
from otf.runs.check import check
from otf.runs.commit import committed
from otf.runs.directory import RunDirectory
from otf.runs.earlier import read_earlier, taught
from otf.runs.noise import measured_noise
from otf.runs.opened_engines import opened
from otf.runs.plumed import bias_by_plumed
from otf.runs.signals import StopRequest, stop_on_signals
from otf.runs.stress_check import strained_label, warn_of_stress
from otf.runs.summary import Outcome, Summary, summarise
from otf.runs.warm_start import warm_started
from otf.units import MEV

_LOG = logging.getLogger("otf.session")

Watcher = Callable[[Record], None]


@dataclass(eq=False)
class Session:
    """A run whose engine is open and whose files are locked.

    Attributes
    ----------
    request
        Whether the session is to stop.
    began
        Start of the session on the monotonic clock, s.
    outcome
        Result of the session, once all records were consumed.
    """

    run: RunDirectory
    config: Config
    engine: Engine
    parts: Parts
    request: StopRequest
    began: float
    outcome: Outcome | None = None

    def records(self) -> Generator[Record, None, None]:
        """Records of the loop, each yielded after it is on the disk; may be left at any of them.

        The model is written when the records end or are left.
        """
        try:
            outcome = yield from committed(
                self.run, self.config, self.parts, request=self.request, began=self.began
            )
        except GeneratorExit:
            self._write_model()
            raise
        self._write_model()
        self.outcome = outcome

    def _write_model(self) -> None:
        learner = self.parts.trainer
        if learner.n_labels:  # none are restored where the run was complete already
            write_model(self.run.model, learner.force_model)

    def summary(self) -> Summary:
        """Summary of the session, once all records were consumed; it is logged."""
        assert self.outcome is not None
        found = summarise(self.run, self.config, self.engine, self.outcome)
        _LOG.info("%s", found)
        return found


@contextmanager
def open_session(
    run: RunDirectory,
    config: Config,
    atoms: Atoms,
    *,
    engine: Engine | None = None,
    ranks: Ranks | None = None,
) -> Iterator[Session]:
    """Open a run for a session; at its end the model is written and everything closed.

    Parameters
    ----------
    run, config, atoms
        As returned by :func:`~otf.runs.directory.read_run`.
    engine
        Replaces the engine of the configuration.
    ranks
        MPI ranks that share the work of the model.

    Raises
    ------
    RunError, EngineError, FileError
        If the run cannot continue; it can be resumed from the last commit.
    """
    began = time.monotonic()
    engine = engine or make_engine(config)
    check(config, atoms, engine.capabilities)
    with sole_owner(run.lock), run_log(run.log):
        remove_unfinished(run.own_files)
        job = this_job()
        if job is not None:
            _LOG.info("%s", job)
        _LOG.info("engine %s (%s), %d atoms", engine.kind, engine.capabilities.level, len(atoms))
        if config.model.residual == "propagate":
            _LOG.warning(
                "model.residual: propagate adds forces that have no potential and may heat or cool "
                "the system; their work is in the summary"
            )
        try:
            with (
                opened(config, engine, atoms, run.scratch) as engines,
                stop_on_signals() as request,
                closing(LabelFile(run.labels)) as file,
                closing(baseline_of(config, run, atoms)) as baseline,
                bias_by_plumed(config, run.plumed, atoms) as bias,
            ):
                source = warm_started(engines, run.matrices)
                labeller = make_labeller(config, source, file)
                target = config.policy.force_target_meV_A * MEV
                strained = strained_label(run, engine, labeller, atoms)
                noise = measured_noise(run, engine, labeller, atoms, target=target)
                warn_of_stress(strained, labeller, atoms, noise)
                trainer = trainer_of(
                    config,
                    atoms,
                    ranks=ranks,
                    noise=noise,
                    earlier=taught(read_earlier(run), atoms),
                    baseline=baseline,
                )
                parts = make_parts(
                    config, atoms, source, file, trainer=trainer, noise=noise, bias=bias
                )
                yield Session(run, config, engine, parts, request, began)
        except Exception as error:
            _LOG.error("stopped: %s", error)
            raise


def run_session(
    run: RunDirectory,
    config: Config,
    atoms: Atoms,
    watch: Watcher = lambda _: None,
    *,
    ranks: Ranks | None = None,
) -> Summary:
    """Run or continue a run to its end or to a signal.

    Parameters
    ----------
    watch
        Called with every record, after it is on disk.

    Other parameters and errors are those of :func:`open_session`.
    """
    with open_session(run, config, atoms, ranks=ranks) as session:
        for record in session.records():
            watch(record)
        return session.summary()


def default_directory(config: Config, source: Path) -> Path:
    """Default run directory: that of the configuration, else runs/<name of its file>."""
    return config.output.directory or Path("runs") / source.stem
