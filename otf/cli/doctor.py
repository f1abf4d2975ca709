"""``otf doctor``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli.trust import trust_option

if TYPE_CHECKING:
    from otf.postprocess.doctor import Trial


@click.command("doctor")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--try", "compute", is_flag=True, help="Compute some labels of CONFIG.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(*, config: Path | None, compute: bool, trust: bool, as_json: bool) -> None:
    """Show the engines, their versions, threads, what is missing and how to install it.

    With CONFIG, check that its run could start here: program, data and input. With --try, also
    label its starting structure from scratch, and again translated, by a warm start: the cost of a
    label, the savings of a warm start and the noise of the forces. Labels of displaced and strained
    structures show whether forces and stress are derivatives of the energy; if not, the exit code
    is 1.
    """
    from otf.postprocess.doctor import examine, try_job

    if compute and config is None:
        raise click.UsageError("--try needs a CONFIG")
    if config is not None:
        trial = try_job(config, compute=compute, trusted=trust)
        click.echo(json.dumps(asdict(trial), indent=2) if as_json else _in_words(trial))
        if trial.problems:
            raise SystemExit(1)
        return
    report = examine()
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for name, value in report["machine"].items():
        click.echo(f"{name:<12}{value}")
    for kind, engine in report["engines"].items():
        mark = "ok     " if engine["available"] else "missing"
        click.echo(f"\n{mark} {kind} {engine['version']}".rstrip())
        for note in engine["notes"]:
            click.echo(f"        {note}")


def _in_words(trial: "Trial") -> str:
    lines = [f"ok       {trial.kind} can start with {trial.formula}, {trial.atoms} atoms"]
    lines = [*trial.notes, *lines]
    if trial.energy_eV is None:
        return "\n".join(lines)
    lines += [
        f"label    {trial.provenance}: {trial.energy_eV:.6f} eV, "
        + _cost(trial.scf_cold, trial.wall_cold_s),
        f"again    warm start, translated as a whole: {_cost(trial.scf_warm, trial.wall_warm_s)}",
        f"noise    {trial.noise_meV_A:.2f} meV/A between the two: a lower bound for any model",
    ]
    lines += [f"WRONG    the results contradict each other: {found}" for found in trial.problems]
    if not trial.problems:
        lines.append("forces   and stress, if any, are derivatives of the energy")
    return "\n".join(lines)


def _cost(cycles: int | None, wall_s: float | None) -> str:
    return f"{wall_s:.3g} s" if cycles is None else f"{cycles} SCF cycles, {wall_s:.3g} s"
