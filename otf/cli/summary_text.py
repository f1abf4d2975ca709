"""The summary of a run in words."""

import math
from pathlib import Path

from otf.io.labels import QUARANTINE
from otf.runs.cost import labelled_percent
from otf.runs.replicas import ReplicasSummary
from otf.runs.stopping import DONE
from otf.runs.summary import Summary


def describe_replicas(s: ReplicasSummary) -> str:
    """Summary of several replicas as text."""
    lines = [
        f"{len(s.replicas)} replicas, {s.steps} steps in all, {s.labels} labels "
        f"({labelled_percent(s.labels, s.steps):.2f} %) in {s.directory}"
    ]
    for w in s.replicas:
        error = "-" if w.error is None else f"{w.error.force_mae_meV_A:.2f} meV/A"
        line = (
            f"{Path(w.directory).name:<11} {w.steps} of {w.steps_wanted} steps, {w.labels} labels"
        )
        lines.append(f"{line}, force MAE {error}")
    if s.error is not None:
        lines.append(f"error       {s.error.in_words()}")
    lines.append(f"time        {s.session_wall_s:.1f} s here")
    if s.stopped_by is not None:
        lines.append(f"stopped by {s.stopped_by}; `otf resume {s.directory}` continues it")
    else:
        lines.append(f"g(r)        otf analyse rdf {s.directory}")
    return "\n".join(lines)


def describe(s: Summary) -> str:
    """The summary in words."""
    unit = "steps" if s.sampling is None else "proposals"
    lines = [
        f"{s.steps} of {s.steps_wanted} {unit} ({s.simulated_fs / 1000:.3g} ps) in {s.directory}",
        f"labels      {s.labels} by {s.engine} ({s.level}), {s.labels_percent:.2f} % of the steps",
        *(f"{'':12}after {count} of {of}" for of, count in s.earlier.items()),
        *_kept_apart(s),
        *_errors(s),
        *_sampling(s),
        *([] if s.contract is None else [f"contract    {s.contract.judgement}"]),
        *_accepted(s),
        f"model       {s.model}",
        *_scf(s),
        *_energy(s),
        _time(s),
    ]
    if s.stopped_by in DONE:
        lines.append(f"ended with {s.stopped_by}; otf audit {s.directory} --every 20")
    elif s.stopped_by is not None:
        lines.append(f"stopped by {s.stopped_by}; `otf resume {s.directory}` continues it")
    elif s.sampling is None:
        lines.append(f"check it    otf audit {s.directory} --every 20")
    return "\n".join(lines)


def _kept_apart(s: Summary) -> list[str]:
    if not s.kept_apart:
        return []
    return [f"{'':12}{s.kept_apart} more are not learned: see {s.directory}/{QUARANTINE}"]


def _accepted(s: Summary) -> list[str]:
    if s.accepted_meV_A is None:
        return []
    return [
        "            the target cannot be reached because of misfit and noise; going on at "
        f"{s.accepted_meV_A:.1f} meV/A"
    ]


def _errors(s: Summary) -> list[str]:
    lines = []
    if s.error is None and s.sampling is None:
        lines.append("error       not measured: fewer than three audits")
    elif s.error is not None:
        energy = "no energy is learned (self coupling)"
        if not math.isnan(s.error.energy_mae_meV_atom):
            energy = f"energy MAE {s.error.energy_mae_meV_atom:.3f} meV/atom"
        lines += [
            f"error       {s.error.in_words()}",
            f"{'':12}95th percentile of components {s.error.force_p95_meV_A:.2f} meV/A, {energy}",
        ]
    if s.floor_meV_A is not None:
        lines.append(
            f"{'':12}misfit of the model and noise of the labels {s.floor_meV_A:.2f} meV/A"
        )
    if s.noise_meV_A is not None:
        lines.append(
            f"{'':12}noise of the labels {s.noise_meV_A:.2f} meV/A, by one label more at the start"
        )
    return lines + [
        f"{'':12}{kind:<10}{k.labels:>4} labels, force MAE {k.force_mae_meV_A:.2f} meV/A before "
        f"learning, {k.coverage_percent:.0f} % within two predicted errors"
        for kind, k in s.by_kind.items()
    ]


def _sampling(s: Summary) -> list[str]:
    found = s.sampling
    if found is None:
        return []
    if not found.proposals:
        return [f"sampling    {found.burn_in} proposals of burn-in, nothing sampled yet"]
    rate = f"{found.accepted_percent:.0f} % of {found.proposals} proposals accepted"
    return [f"sampling    {rate}, {found.mean_steps:.1f} steps each; burn-in {found.burn_in}"]


def _scf(s: Summary) -> list[str]:
    lines = []
    if s.scf_first is not None and s.scf_later is not None:
        lines.append(
            f"SCF         {s.scf_first} cycles for the first label, from scratch, and "
            f"{s.scf_later:.1f} for the others"
        )
        lines += [f"{'':12}{line}" for line in (s.gains.in_words() if s.gains else [])]
    if s.force_checks.asked:
        lines.append(
            f"force check {s.force_checks.asked} non-SCF checks where the guard fired, "
            f"{s.force_checks.spared} of them avoided a label"
        )
    return lines


def _energy(s: Summary) -> list[str]:
    found = s.energy_conservation
    lines = [] if s.temperature is None else [f"temperature {s.temperature.in_words()}"]
    if found is None:
        return lines
    return [
        *lines,
        f"energy      conserved to {found.conserved_meV_ps:+.3f} meV/ps (scatter "
        f"{found.conserved_scatter_meV:.3f} meV); at the engine's labels it changed by "
        f"{found.total_change_meV:+.2f} meV",
        f"{'':12}discontinuities at model updates {found.discontinuity_meV:+.2f}, "
        f"heat {found.heat_meV:+.1f}, barostat {found.barostat_meV:+.1f}, "
        f"work of residual and bias {found.work_meV:+.1f} meV",
    ]


def _time(s: Summary) -> str:
    return f"time        {s.cost.in_words()}"
