"""``report.html`` of a run of replicas: all of them on one page, with links to their own."""

import html
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from otf.config import Config
from otf.driver.records import RunState
from otf.errors import RunError
from otf.io.committed import Trajectory
from otf.io.durable import replace_file
from otf.io.trajectory import read_scalars
from otf.postprocess.status import Overview, overview
from otf.report import pictures
from otf.report.document import Section, document, duration, tiles
from otf.report.page import write_report
from otf.report.radial import MOST_FRAMES, last_stage, radial
from otf.runs.checkpoint import read_checkpoint
from otf.runs.directory import RunDirectory, read_run, replicas_below
from otf.runs.summary import contract_of, error_of, temperature_of


@dataclass(frozen=True)
class _Replica:
    """What the page shows of a replica that has frames."""

    run: RunDirectory
    config: Config
    state: RunState
    t: Trajectory
    seen: Overview


def write_replicas_report(
    path: Path, output: Path | None = None, *, refresh_s: float | None = None
) -> Path:
    """Write the report of a run of replicas and those it links to; return its path.

    Parameters
    ----------
    output, refresh_s
        As for :func:`otf.report.page.write_report`.

    Raises
    ------
    RunError
        If no replica has a frame yet.
    """
    replicas = [r for r in map(_replica, replicas_below(path)) if r is not None]
    if not replicas:
        raise RunError(f"{path}: no replica has a frame yet; there is nothing to report")
    formula = replicas[0].t.atoms.get_chemical_formula()
    title = f"{len(replicas)} replicas of {formula} by {replicas[0].config.engine.kind}"
    target = output or path / "report.html"
    sections = [
        _table(replicas, beside=target.parent),
        _errors(replicas),
        _temperatures(replicas),
        _radial(replicas),
    ]
    text = document(title, _head(path, title, replicas), sections, refresh_s=refresh_s)
    for replica in replicas:
        write_report(replica.run.path, refresh_s=refresh_s)
    replace_file(target, lambda aside: aside.write_text(text, encoding="utf-8"))
    return target


def _replica(path: Path) -> _Replica | None:
    run, config, _ = read_run(path)
    if not run.checkpoint.exists():
        return None
    t = read_scalars(run.trajectory)
    state = read_checkpoint(run.checkpoint).state
    return _Replica(run, config, state, t, overview(path)) if len(t) else None


def _head(path: Path, title: str, replicas: list[_Replica]) -> str:
    config = replicas[0].config
    history = tuple(record for replica in replicas for record in replica.state.history)
    steps = sum(replica.state.step for replica in replicas)
    error = error_of(config, history)
    numbers = [
        ("steps", f"{steps}"),
        ("engine calls", f"{len(history)} ({100.0 * len(history) / max(1, steps):.2f} %)"),
        ("force error", "-" if error is None else f"{error.force_mae_meV_A:.2f} meV/Å"),
    ]
    costs = [replica.seen.cost for replica in replicas if replica.seen.cost is not None]
    if costs:
        alone = duration(sum(cost.alone_s for cost in costs))
        numbers += [
            ("in all", duration(max(cost.wall_s for cost in costs))),
            ("in the engine, of all", duration(sum(cost.engine_s for cost in costs))),
            ("the engine alone, one after the other", alone),
        ]
    verdicts = [contract_of(r.config, r.state.history, r.t) for r in replicas]
    void = next((v for v in verdicts if v is not None and v.verdict == "void"), None)
    verdict = void or contract_of(config, history)
    words = "no verdict: fewer than three audits" if verdict is None else verdict.in_words()
    kind = "none" if verdict is None else verdict.verdict
    return (
        f"<header><h1>{html.escape(title)}</h1><p>{html.escape(str(path))}</p>"
        f'<p class="verdict {kind}">{html.escape(words)}</p>{tiles(numbers)}</header>'
    )


def _table(replicas: list[_Replica], *, beside: Path) -> Section:
    rows = "".join(_row(replica, beside) for replica in replicas)
    names = ("replica", "state", "steps", "engine calls", "force MAE, meV/Å", "mean temperature")
    head = "".join(f"<th>{name}</th>" for name in names)
    return Section(
        "Replicas",
        "They share one model: the labels of each are learned for all.",
        f'<div class="scrolled"><table><tr>{head}</tr>{rows}</table></div>',
    )


def _row(replica: _Replica, beside: Path) -> str:
    error = error_of(replica.config, replica.state.history)
    temperature = temperature_of(replica.config, replica.t)
    page = os.path.relpath((replica.run.path / "report.html").absolute(), beside.absolute())
    cells = (
        f'<a href="{quote(page)}">{html.escape(replica.run.path.name)}</a>',
        html.escape(replica.seen.state),
        f"{replica.state.step}",
        f"{len(replica.state.history)}",
        "-" if error is None else f"{error.force_mae_meV_A:.2f}",
        "-" if temperature is None else html.escape(temperature.in_words()),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _errors(replicas: list[_Replica]) -> Section:
    config = replicas[0].config
    history = tuple(record for replica in replicas for record in replica.state.history)
    target = config.policy.force_target_meV_A if config.policy.kind == "adaptive" else None
    draw = pictures.timeline(history, timestep_fs=config.dynamics.timestep_fs, target=target)
    return Section(
        "Labels",
        "Mean absolute force error of the model at the engine calls of all replicas, before each "
        "label was learned.",
        pictures.picture(draw, name="timeline"),
    )


def _temperatures(replicas: list[_Replica]) -> Section:
    curves = {r.run.path.name: (r.t.time_fs, r.t.temperature) for r in replicas}
    temperature = temperature_of(replicas[0].config, replicas[0].t)
    target = None if temperature is None else temperature.target_K
    draw = pictures.several(curves, "temperature, K", target=target)
    return Section("Temperature", "", pictures.picture(draw, name="temperature"))


def _radial(replicas: list[_Replica]) -> Section:
    most = max(1, MOST_FRAMES // len(replicas))
    frames = [last_stage(r.run, r.t, most=most) for r in replicas]
    draw = pictures.distributions(radial(frames))
    return Section(
        "Radial distributions",
        f"Over {sum(map(len, frames))} frames of the last stage of all replicas, with two standard "
        "errors.",
        pictures.picture(draw, name="rdf", height=3.4),
    )
