"""What a run is, for the head of its report."""

from datetime import UTC, datetime

from ase import Atoms

from otf.config import Config
from otf.config.bias import Metadynamics, Term
from otf.driver.records import RunState
from otf.io.labels import first_label
from otf.runs.directory import RunDirectory
from otf.runs.summary import model_in_words


def facts_of(run: RunDirectory, config: Config, state: RunState, atoms: Atoms) -> dict[str, str]:
    """System, method, dynamics and model of a run, by their names."""
    dynamics, directions = config.dynamics, int(atoms.pbc.sum())
    where = f"periodic in {directions} directions" if directions else "in vacuum"
    method = first_label(run.labels).labels.provenance if run.labels.exists() else ""
    charged = f", charge {config.system.charge:+d}" if config.system.charge else ""
    spin = f", {config.system.spin} unpaired electrons" if config.system.spin else ""
    latest = datetime.fromtimestamp(run.checkpoint.stat().st_mtime, tz=UTC)
    facts = {
        "system": f"{atoms.get_chemical_formula()}, {len(atoms)} atoms, {where}{charged}{spin}",
        "method": method or config.engine.kind,
        "timestep": f"{dynamics.timestep_fs:g} fs",
        "seed": f"{dynamics.seed}",
        "model": model_in_words(config, state),
        "latest step": f"{latest:%Y-%m-%d %H:%M} UTC",
    }
    if dynamics.bias:
        facts["bias"] = ", ".join(_in_words(term) for term in dynamics.bias)
    if dynamics.plumed is not None:
        facts["bias"] = "PLUMED (plumed/plumed.dat)"
    return facts


def _in_words(term: Term) -> str:
    """A term of the bias, such as ``walls of distance 0-5``."""
    variables = term.along if isinstance(term, Metadynamics) else [term]
    names = [f"{v.variable} {'-'.join(map(str, v.atoms))}" for v in variables]
    return f"{term.kind} of {' and '.join(names)}"
