"""``report.html``: the results of a run on one page that needs no network."""

import html
import os
from pathlib import Path
from urllib.parse import quote

import numpy as np
from ase import Atoms

from otf.config import Config
from otf.driver.records import RunState
from otf.driver.statistics import by_kind, sampling
from otf.driver.thermodynamics import energy_conservation
from otf.errors import RunError
from otf.io.committed import Trajectory
from otf.io.durable import replace_file
from otf.io.trajectory import read_scalars, read_trajectory
from otf.learning.model_file import read_model
from otf.postprocess.status import Overview, overview
from otf.report import pictures
from otf.report.audited import audited
from otf.report.document import Section, document, duration, tiles
from otf.report.facts import facts_of
from otf.report.radial import radial_distributions
from otf.report.viewer import shown, viewer
from otf.runs.checkpoint import read_checkpoint
from otf.runs.directory import RunDirectory, one_run, read_run
from otf.runs.summary import contract_of, error_of, temperature_of
from otf.runs.warm_start import gains

_FILES = {
    "labels.extxyz": "the labels of all engine calls",
    "trajectory.h5": "the committed frames, H5MD",
    "model.h5": "the model, for otf.load_model",
    "run.log": "the log",
    "config.resolved.yaml": "the configuration with all defaults",
}


def write_report(path: Path, output: Path | None = None, *, refresh_s: float | None = None) -> Path:
    """Write the report of a run, also of one in progress, and return its path.

    Parameters
    ----------
    output
        File to write; by default ``report.html`` in the run directory.
    refresh_s
        Seconds after which a browser reloads the page.

    Raises
    ------
    RunError
        If there is nothing to report yet.
    """
    run, config, _ = read_run(path)
    one_run(path)
    if not run.checkpoint.exists():
        raise RunError(f"{path}: has no label yet; there is nothing to report")
    state = read_checkpoint(run.checkpoint).state
    scalars = read_scalars(run.trajectory)
    if len(scalars) == 0:
        raise RunError(f"{path}: has no frame yet; there is nothing to report")
    target = output or run.path / "report.html"
    page = _page(run, config, state, scalars, refresh_s=refresh_s, beside=target.parent)
    replace_file(target, lambda aside: aside.write_text(page, encoding="utf-8"))
    return target


def _page(
    run: RunDirectory,
    config: Config,
    state: RunState,
    t: Trajectory,
    *,
    refresh_s: float | None,
    beside: Path,
) -> str:
    sections = [
        *_errors(run, config, state),
        *_audit(run, config, t),
        *_energies(config, state, t),
        _found(run, t),
        _atoms(run, t),
        _files(run, beside),
    ]
    seen = overview(run.path)
    head = _head(run, config, state, t.atoms, seen)
    # While the run is in progress the page is rewritten, and reloaded by the browser.
    return document(_title(config, t.atoms), head, sections, refresh_s=refresh_s)


def _title(config: Config, atoms: Atoms) -> str:
    return f"{atoms.get_chemical_formula()} by {config.engine.kind}"


def _head(run: RunDirectory, config: Config, state: RunState, atoms: Atoms, seen: Overview) -> str:
    title = html.escape(_title(config, atoms))
    history = state.history
    stages = " → ".join(
        f"{html.escape(name)}: {d.ensemble}, {d.total_steps} steps, {d.temperature_K:g} K"
        for name, d in config.dynamics.staged().items()
    )
    error = error_of(config, history)
    cards = [
        ("steps", f"{state.step} of {seen.steps}"),
        ("engine calls", f"{len(history)}"),
        ("force error", "-" if error is None else f"{error.force_mae_meV_A:.2f} meV/Å"),
    ]
    if seen.cost is not None:
        cards += [
            ("in all", duration(seen.cost.wall_s)),
            ("in the engine", duration(seen.cost.engine_s)),
        ]
    sampled = sampling(history, state.sampler, steps=state.step)
    if sampled is None and seen.cost is not None:
        cards[1] = ("engine calls", f"{len(history)} ({seen.labels_percent:.2f} %)")
        cards += [
            ("the engine alone", duration(seen.cost.alone_s)),
            ("saved", f"{max(0.0, seen.cost.saved_percent):.1f} %"),
        ]
    elif sampled is not None and sampled.proposals:
        cards.append(("accepted", f"{sampled.accepted_percent:.0f} %"))
    verdict = contract_of(config, history, read_scalars(run.trajectory))
    state_of = "none" if verdict is None else verdict.verdict
    words = (
        "exact sampling: no error target"
        if sampled is not None
        else "no verdict: no target, or fewer than three audits yet"
        if verdict is None
        else verdict.in_words()
    )
    facts = "".join(
        f"<dt>{name}</dt><dd>{html.escape(fact)}</dd>"
        for name, fact in facts_of(run, config, state, atoms).items()
    )
    return (
        f"<header><h1>{title}</h1><p>{html.escape(str(run.path))}: {seen.state}; {stages}</p>"
        f'<p class="verdict {state_of}">{html.escape(words)}</p>{tiles(cards)}'
        f"<dl>{facts}</dl></header>"
    )


def _errors(run: RunDirectory, config: Config, state: RunState) -> list[Section]:
    history, dt = state.history, config.dynamics.timestep_fs
    kinds = by_kind(history)
    if not kinds:
        return [Section("Errors", "No label whose time did not depend on the model yet.")]
    adaptive = config.policy.kind == "adaptive" and state.sampler is None
    target = config.policy.force_target_meV_A if adaptive else None
    by_labels = "; ".join(
        f"{kind}: {s.labels} labels, {s.force_mae_meV_A:.2f} meV/Å" for kind, s in kinds.items()
    )
    covered = "; ".join(f"{kind} {s.coverage_percent:.0f} %" for kind, s in kinds.items())
    sections = [
        Section(
            "Labels",
            f"Mean absolute force error of the model at each engine call, before the label was "
            f"learned. {by_labels}.",
            pictures.picture(
                pictures.timeline(history, timestep_fs=dt, target=target), name="timeline"
            ),
        ),
        Section(
            "Labels over time",
            "Labels so far: most of them are computed while the model knows little.",
            pictures.picture(
                pictures.labels_so_far(history, timestep_fs=dt, steps=state.step), name="labels"
            ),
        ),
        Section(
            "Growth of the errors",
            "The same errors over the steps since the previous label.",
            pictures.picture(pictures.by_distance(history, target=target), name="distance"),
        ),
        Section(
            "Calibration of the predicted errors",
            f"Force components within two predicted errors: {covered}. The band is a factor of 2.",
            pictures.picture(pictures.coverage(history), name="coverage"),
        ),
    ]
    if any(r.scf_iterations is not None for r in history):
        found = gains(run.matrices, history)
        more = "; ".join(found.in_words()) if found is not None else ""
        text = f"The first label starts from scratch. {more and f'Mean cycles: {more}.'}".strip()
        svg = pictures.picture(pictures.iterations(history), name="scf")
        sections.append(Section("Self-consistency", text, svg))
    return sections


def _audit(run: RunDirectory, config: Config, t: Trajectory) -> list[Section]:
    found = audited(run, config, t)
    if found is None:
        return []
    text = (
        f"{found.frames} frames of the trajectory, labelled afterwards by <code>otf audit</code>: "
        f"force MAE {found.force_mae_meV_A:.2f} meV/Å. Every force component by the model that "
        "moved the atoms, and by the engine."
    )
    draw = pictures.parity(found.predicted, found.true)
    return [Section("Audit", text, pictures.picture(draw, name="audit", square=True))]


def _energies(config: Config, state: RunState, t: Trajectory) -> list[Section]:
    dt, out = config.dynamics.timestep_fs, []
    found = energy_conservation(t, state.history)
    if found is not None:
        text = (
            f"K + V minus energy discontinuities, heat and work is conserved to "
            f"{found.conserved_meV_ps:+.3f} meV/ps "
            f"(scatter {found.conserved_scatter_meV:.3f} meV); energy discontinuities "
            f"{found.discontinuity_meV:+.2f}, heat "
            f"{found.heat_meV:+.1f}, barostat {found.barostat_meV:+.1f} meV; at the engine's "
            f"labels the energy changed by {found.total_change_meV:+.2f} meV."
        )
        draw = pictures.ledger(t, state.history, timestep_fs=dt)
        out.append(Section("Energy", text, pictures.picture(draw, name="ledger")))
    temperature = temperature_of(config, t)
    mean = "" if temperature is None else f"{temperature.in_words()}, over the last stage."
    target = None if temperature is None else temperature.target_K
    draw = pictures.series(t.time_fs, t.temperature, "temperature, K", target=target)
    out.append(Section("Temperature", mean, pictures.picture(draw, name="temperature")))
    if np.isfinite(t.pressure_GPa).any():
        draw = pictures.series(t.time_fs, t.pressure_GPa, "pressure, GPa")
        mean = f"{np.nanmean(t.pressure_GPa):.3f} GPa over all frames."
        out.append(Section("Pressure", mean, pictures.picture(draw, name="pressure")))
    return out


def _found(run: RunDirectory, t: Trajectory) -> Section:
    text, curves = radial_distributions(run, t)
    draw = pictures.distributions(curves)
    return Section("Radial distributions", text, pictures.picture(draw, name="rdf", height=3.4))


def _atoms(run: RunDirectory, t: Trajectory) -> Section:
    model = read_model(run.model) if run.model.exists() else None
    text = "Drawn by 3Dmol; turn it with the mouse or a finger."
    if model is not None:
        text += " The colours are those of the elements, or the errors that the model predicts."
    frames = read_trajectory(run.trajectory, shown(t))
    return Section("The atoms", text, viewer(frames, model))


def _files(run: RunDirectory, beside: Path) -> Section:
    where = Path(os.path.relpath(run.path.absolute(), beside.absolute()))
    links = "".join(
        f'<li><a href="{quote(str(where / name))}">{name}</a> {text}</li>'
        for name, text in _FILES.items()
        if (run.path / name).exists()
    )
    return Section("Files", f"In the run directory:<ul>{links}</ul>")
