"""The baseline of a configuration: engines whose energy the model corrects."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ase import Atoms

from otf.config import Config
from otf.config.baseline import AUTO_BASELINE
from otf.config.engine_section import EngineSection
from otf.config.schema import Model
from otf.errors import ConfigError, EngineError
from otf.learning.baseline import (
    NO_BASELINE,
    Baseline,
    EngineTerm,
    Term,
    TermSettings,
)
from otf.learning.prior_mean import ModelTerm
from otf.runs.directory import RunDirectory
from otf.runs.outer_steps import stepping_of
from otf.runs.prior_mean import prior_mean

_LOG = logging.getLogger("otf.baseline")


def baseline_of(config: Config, run: RunDirectory, atoms: Atoms) -> Baseline:
    """Create the baseline of a run that starts with ``atoms``; its engines open when needed.

    Raises
    ------
    EngineError, RunError
        If a prior mean is to be trained and cannot be.
    """
    if config.engine.kind == "tblite" and _is_auto(config.model):
        _LOG.info("model.baseline: auto: none, since the engine is as cheap")
        return NO_BASELINE
    system = config.system
    engines = _engines(config.model, atoms, system.charge, system.spin, run.scratch / "baseline")
    if not engines.terms:
        return NO_BASELINE
    terms, fast = list[Term](engines.terms), list[Term](engines.terms)
    for number, section in enumerate(config.model.baseline):
        if section.use == "exact":
            continue
        engine = engines.terms[number]
        fast[number] = ModelTerm(section.kind, prior_mean(config, run, atoms, number, engine))
        if section.use == "prior_mean":
            terms[number] = fast[number]
            engine.close()
    baseline = Baseline(terms, optional=engines.optional)
    if any(section.use == "respa" for section in config.model.baseline):
        stepping = stepping_of(config, run, atoms, baseline, Baseline(fast))
        baseline = replace(baseline, stepping=stepping)
    return baseline


def make_baseline(model: Model, atoms: Atoms, *, charge: int = 0, spin: int = 0) -> Baseline:
    """Create the baseline of a model that is fitted to structures like ``atoms``.

    Raises
    ------
    ConfigError
        If it needs the dynamics of a run.
    """
    for section in model.baseline:
        if section.use != "exact":
            raise ConfigError(
                [f"model.baseline.use: {section.use} needs the dynamics of a run; use exact here"]
            )
    engines = _engines(model, atoms, charge, spin, None)
    return Baseline(engines.terms, optional=engines.optional) if engines.terms else NO_BASELINE


class _Engines(NamedTuple):
    """The engines of a baseline, and whether it may be dropped."""

    terms: list[EngineTerm]
    optional: bool


def _engines(model: Model, atoms: Atoms, charge: int, spin: int, scratch: Path | None) -> _Engines:
    if _is_auto(model):
        return _Engines(_chosen(atoms, charge, spin), optional=True)
    terms = []
    for number, section in enumerate(model.baseline):
        folder = None if scratch is None else scratch / str(number)
        terms.append(EngineTerm(TermSettings(section.kind, section.options, charge, spin), folder))
    return _Engines(terms, optional=False)


def _is_auto(model: Model) -> bool:
    return [section.kind for section in model.baseline] == [AUTO_BASELINE]


def _chosen(atoms: Atoms, charge: int, spin: int) -> list[EngineTerm]:
    """GFN-xTB, if it can do these atoms; the one for crystals was fitted to more of them."""
    method = "GFN1-xTB" if atoms.pbc.any() else "GFN2-xTB"
    section = EngineSection.model_validate({"kind": "tblite", "method": method})
    term = EngineTerm(TermSettings(section.kind, section.options, charge, spin))
    try:
        term.label(atoms)
    except EngineError as error:
        _LOG.info("model.baseline: auto: none, since %s", error)
        return []
    _LOG.info("model.baseline: auto: tblite, %s", method)
    return [term]
