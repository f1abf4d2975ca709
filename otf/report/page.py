"""``report.html``: the results of a run on one page that needs no network."""

import html
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from ase import Atoms

from otf.analysis.rdf import rdf
from otf.config import Config
from otf.driver.records import RunState
from otf.driver.statistics import by_kind, sampling
from otf.driver.thermodynamics import energy_conservation
from otf.errors import RunError
from otf.io.committed import Trajectory
from otf.io.durable import replace_file
from otf.io.read_frames import frames_of_run
from otf.io.trajectory import read_scalars, read_trajectory
from otf.learning.model_file import read_model
from otf.postprocess.status import Overview, overview
from otf.report import pictures
from otf.report.audited import audited
from otf.report.facts import facts_of
from otf.report.viewer import shown, viewer
from otf.runs.checkpoint import read_checkpoint
from otf.runs.directory import RunDirectory, one_run, read_run
from otf.runs.summary import contract_of, error_of, temperature_of
from otf.runs.warm_start import gains
from otf.version import __version__

_MOST_FRAMES = 2000  # for g(r)
_CUTOFF_A = 6.0
_FILES = {
    "labels.extxyz": "the labels of all engine calls",
    "trajectory.h5": "the committed frames, H5MD",
    "model.h5": "the model, for otf.load_model",
    "run.log": "the log",
    "config.resolved.yaml": "the configuration with all defaults",
}


@dataclass(frozen=True)
class _Section:
    title: str
    text: str
    figure: str = ""


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
    body = "\n".join(
        f"<section><h2>{html.escape(s.title)}</h2><p>{s.text}</p>{_figure(s.figure)}</section>"
        for s in sections
    )
    title = html.escape(_title(config, t.atoms))
    seen = overview(run.path)
    # While the run is in progress the page is rewritten, and reloaded by the browser.
    again = f'<meta http-equiv="refresh" content="{refresh_s:.0f}">' if refresh_s else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_POLICY}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}'
        f"<title>otf: {title}</title><style>{_STYLE}</style></head><body><main>"
        f"{_head(run, config, state, t.atoms, seen)}{body}"
        f"<footer>otf {__version__}</footer></main></body></html>\n"
    )


def _title(config: Config, atoms: Atoms) -> str:
    return f"{atoms.get_chemical_formula()} by {config.engine.kind}"


_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:\">"
)
"""The page needs nothing from outside, and nothing that is put into it may send anything."""


def _figure(drawn: str) -> str:
    return f"<figure>{drawn}</figure>" if drawn else ""


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
            ("in all", _duration(seen.cost.wall_s)),
            ("in the engine", _duration(seen.cost.engine_s)),
        ]
    sampled = sampling(history, state.sampler, steps=state.step)
    if sampled is None and seen.cost is not None:
        cards[1] = ("engine calls", f"{len(history)} ({seen.labels_percent:.2f} %)")
        cards += [
            ("the engine alone", _duration(seen.cost.alone_s)),
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
    tiles = "".join(f"<div><b>{html.escape(v)}</b><span>{k}</span></div>" for k, v in cards)
    return (
        f"<header><h1>{title}</h1><p>{html.escape(str(run.path))}: {seen.state}; {stages}</p>"
        f'<p class="verdict {state_of}">{html.escape(words)}</p><div class="cards">{tiles}</div>'
        f"<dl>{facts}</dl></header>"
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"


def _errors(run: RunDirectory, config: Config, state: RunState) -> list[_Section]:
    history, dt = state.history, config.dynamics.timestep_fs
    kinds = by_kind(history)
    if not kinds:
        return [_Section("Errors", "No label whose time did not depend on the model yet.")]
    adaptive = config.policy.kind == "adaptive" and state.sampler is None
    target = config.policy.force_target_meV_A if adaptive else None
    by_labels = "; ".join(
        f"{kind}: {s.labels} labels, {s.force_mae_meV_A:.2f} meV/Å" for kind, s in kinds.items()
    )
    covered = "; ".join(f"{kind} {s.coverage_percent:.0f} %" for kind, s in kinds.items())
    sections = [
        _Section(
            "Labels",
            f"Mean absolute force error of the model at each engine call, before the label was "
            f"learned. {by_labels}.",
            pictures.picture(
                pictures.timeline(history, timestep_fs=dt, target=target), name="timeline"
            ),
        ),
        _Section(
            "Labels over time",
            "Labels so far: most of them are computed while the model knows little.",
            pictures.picture(
                pictures.labels_so_far(history, timestep_fs=dt, steps=state.step), name="labels"
            ),
        ),
        _Section(
            "Growth of the errors",
            "The same errors over the steps since the previous label.",
            pictures.picture(pictures.by_distance(history, target=target), name="distance"),
        ),
        _Section(
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
        sections.append(_Section("Self-consistency", text, svg))
    return sections


def _audit(run: RunDirectory, config: Config, t: Trajectory) -> list[_Section]:
    found = audited(run, config, t)
    if found is None:
        return []
    text = (
        f"{found.frames} frames of the trajectory, labelled afterwards by <code>otf audit</code>: "
        f"force MAE {found.force_mae_meV_A:.2f} meV/Å. Every force component by the model that "
        "moved the atoms, and by the engine."
    )
    draw = pictures.parity(found.predicted, found.true)
    return [_Section("Audit", text, pictures.picture(draw, name="audit", square=True))]


def _energies(config: Config, state: RunState, t: Trajectory) -> list[_Section]:
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
        out.append(_Section("Energy", text, pictures.picture(draw, name="ledger")))
    temperature = temperature_of(config, t)
    mean = "" if temperature is None else f"{temperature.in_words()}, over the last stage."
    target = None if temperature is None else temperature.target_K
    draw = pictures.series(t.time_fs, t.temperature, "temperature, K", target=target)
    out.append(_Section("Temperature", mean, pictures.picture(draw, name="temperature")))
    if np.isfinite(t.pressure_GPa).any():
        draw = pictures.series(t.time_fs, t.pressure_GPa, "pressure, GPa")
        mean = f"{np.nanmean(t.pressure_GPa):.3f} GPa over all frames."
        out.append(_Section("Pressure", mean, pictures.picture(draw, name="pressure")))
    return out


def _found(run: RunDirectory, t: Trajectory) -> _Section:
    rows = np.flatnonzero(t.stage == t.stage.max())
    rows = rows[:: max(1, len(rows) // _MOST_FRAMES)]
    curves = rdf([frames_of_run(run.trajectory, rows)], cutoff_A=_CUTOFF_A, bin_A=0.05)
    text = (
        f"Over {len(rows)} frames of the last stage, with two standard errors. "
        f"<code>otf analyse rdf {html.escape(str(run.path))} --reweight</code> corrects them for "
        "the error of the model."
    )
    draw = pictures.distributions(curves)
    return _Section("Radial distributions", text, pictures.picture(draw, name="rdf", height=3.4))


def _atoms(run: RunDirectory, t: Trajectory) -> _Section:
    model = read_model(run.model) if run.model.exists() else None
    text = "Drawn by 3Dmol; turn it with the mouse or a finger."
    if model is not None:
        text += " The colours are those of the elements, or the errors that the model predicts."
    frames = read_trajectory(run.trajectory, shown(t))
    return _Section("The atoms", text, viewer(frames, model))


def _files(run: RunDirectory, beside: Path) -> _Section:
    where = Path(os.path.relpath(run.path.absolute(), beside.absolute()))
    links = "".join(
        f'<li><a href="{quote(str(where / name))}">{name}</a> {text}</li>'
        for name, text in _FILES.items()
        if (run.path / name).exists()
    )
    return _Section("Files", f"In the run directory:<ul>{links}</ul>")


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
main { max-width: 46rem; margin: auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
figure { margin: .5rem 0; } figure svg { width: 100%; height: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; }
.cards div { background: var(--soft); border: 1px solid var(--line); border-radius: .5rem;
  padding: .5rem .7rem; } .cards b { display: block; } .cards span { font-size: .8rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
.narrow { display: none; } .square { max-width: 30rem; }
@media screen and (max-width: 34rem) { .wide { display: none; } .narrow { display: block; } }
.verdict { border-left: .4rem solid gray; background: var(--soft); padding: .5rem .8rem;
  margin: .8rem 0; }
.verdict.kept { border-color: #2a9d60; } .verdict.broken, .verdict.void { border-color: #d03b3b; }
.verdict.undecided { border-color: #d9822b; }
#stage { position: relative; height: 24rem; border: 1px solid var(--line); border-radius: .5rem; }
#printed { display: none; }
.controls { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center;
  font-size: .9rem; } .controls input[type=range] { flex: 1 1 10rem; }
.legend i { display: inline-block; width: 5rem; height: .7rem;
  background: linear-gradient(90deg, #3b82d0, #f0c83c, #d03b3b); }
#elements { display: flex; flex-wrap: wrap; gap: .1rem .6rem; }
#elements i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%;
  border: 1px solid var(--line); vertical-align: -1px; }
footer { margin-top: 3rem; font-size: .8rem; border-top: 1px solid var(--line); }
@media print {
  section { break-inside: avoid; } body { font-size: 11pt; }
  #stage, .controls button, .controls input { display: none; }
  #printed[src] { display: block; width: 100%; }
}
"""
