"""``otf estimate``."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from otf.cli.trust import trust_option


@click.command("estimate")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Steps to simulate, at most; the rest is extrapolated.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=2, show_default=True, help="Simulations."
)
@click.option("--try", "compute", is_flag=True, help="Compute labels, for their time and noise.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    *, config: Path, steps: int, seeds: int, compute: bool, trust: bool, as_json: bool
) -> None:
    """Estimate how many labels the run of CONFIG will take, before any is computed.

    The run is simulated with xTB (tblite) in the place of its engine, without baseline and labels
    of earlier runs. With --try, the noise of the engine's labels is measured and added.
    """
    from otf.config import read_config
    from otf.postprocess.doctor import try_job
    from otf.postprocess.estimate import estimate
    from otf.runs.plumed import with_plumed
    from otf.runs.structure import make_structure
    from otf.units import MEV

    trial = try_job(config, compute=True, trusted=trust) if compute else None
    parsed = read_config(config)
    atoms = make_structure(parsed, config.parent)
    found = estimate(
        with_plumed(parsed, config.parent, atoms),
        atoms,
        steps=steps,
        seeds=seeds,
        noise=None if trial is None or trial.noise_meV_A is None else trial.noise_meV_A * MEV,
        progress=lambda number, step, labels: click.echo(
            f"\rsimulation {number + 1} of {seeds + 1}: step {step}, {labels} labels ",
            nl=False,
            err=True,
        ),
    )
    click.echo(err=True)
    label_s = None if trial is None else trial.wall_warm_s
    if as_json:
        click.echo(json.dumps({**asdict(found), "label_s": label_s}, indent=2))
        return
    courses = ", ".join(
        f"{labels} labels in {done} steps"
        for labels, done in zip(found.labels, found.simulated, strict=True)
    )
    share = [100.0 * count / found.steps for count in (found.lowest, found.highest)]
    click.echo(f"simulated   {courses}, by {found.method}")
    click.echo(
        f"expected    {found.lowest} to {found.highest} labels in {found.steps} steps, "
        f"{share[0]:.2g} to {share[1]:.2g} %"
    )
    more = f"{found.replica} labels for as many steps again"
    click.echo(f"replicas    a second one would add {more}")
    if label_s is not None:
        hours = [count * label_s / 3600.0 for count in (found.lowest, found.highest)]
        click.echo(
            f"time        {hours[0]:.2g} to {hours[1]:.2g} h in the engine, at {label_s:.3g} s a "
            f"label; the engine alone {found.steps * label_s / 3600.0:.2g} h"
        )
    if parsed.learn_from or parsed.model.baseline:
        click.echo("            fewer with model.baseline or learn_from, which are not simulated")
