"""The baseline of a configuration: engines whose energy the model corrects."""

import logging
from pathlib import Path

from ase import Atoms

from otf.config import Config
from otf.config.baseline import AUTO_BASELINE
from otf.config.engine_section import EngineSection
from otf.config.schema import Model
from otf.errors import EngineError
from otf.learning.baseline import NO_BASELINE, Baseline, EngineTerm, TermSettings
from otf.runs.directory import RunDirectory

_LOG = logging.getLogger("otf.baseline")


def baseline_of(config: Config, run: RunDirectory, atoms: Atoms) -> Baseline:
    """Create the baseline of a run that starts with ``atoms``; its engines open when needed."""
    system, scratch = config.system, run.scratch / "baseline"
    if config.engine.kind == "tblite" and _is_auto(config.model):
        _LOG.info("model.baseline: auto: none, since the engine is as cheap")
        return NO_BASELINE
    return make_baseline(
        config.model, atoms, charge=system.charge, spin=system.spin, scratch=scratch
    )


def make_baseline(
    model: Model, atoms: Atoms, *, charge: int = 0, spin: int = 0, scratch: Path | None = None
) -> Baseline:
    """Create the baseline of a model.

    Parameters
    ----------
    atoms
        A structure that it is for.
    charge, spin
        Those of the system.
    scratch
        Folder for the files of its engines; by default temporary ones.
    """
    if not model.baseline:
        return NO_BASELINE
    if _is_auto(model):
        return _chosen(atoms, charge, spin)
    terms = []
    for number, section in enumerate(model.baseline):
        folder = None if scratch is None else scratch / str(number)
        terms.append(EngineTerm(TermSettings(section.kind, section.options, charge, spin), folder))
    return Baseline(terms)


def _is_auto(model: Model) -> bool:
    return [section.kind for section in model.baseline] == [AUTO_BASELINE]


def _chosen(atoms: Atoms, charge: int, spin: int) -> Baseline:
    """GFN-xTB, if it can do these atoms; the one for crystals was fitted to more of them."""
    method = "GFN1-xTB" if atoms.pbc.any() else "GFN2-xTB"
    section = EngineSection.model_validate({"kind": "tblite", "method": method})
    term = EngineTerm(TermSettings(section.kind, section.options, charge, spin))
    try:
        term.label(atoms)
    except EngineError as error:
        _LOG.info("model.baseline: auto: none, since %s", error)
        return NO_BASELINE
    _LOG.info("model.baseline: auto: tblite, %s", method)
    return Baseline([term], optional=True)
