"""``otf queue``."""

import click


@click.command("queue")
def command() -> None:
    """List your runs in the queue of Slurm, one per line."""
    from otf.errors import OtfError
    from otf.postprocess.status import overview
    from otf.slurm.commands import my_jobs

    jobs = my_jobs()
    if not jobs:
        click.echo("no run is in the queue")
    for job in jobs:
        try:
            found = overview(job.run)
            done = f"{found.step}/{found.steps} steps, {found.labels} labels"
        except OtfError:
            done = "the run directory is missing"
        state = job.state.lower() + (f" ({job.reason})" if job.state == "PENDING" else "")
        click.echo(
            f"{job.number:>8}  {state:<22} {job.partition:<10} {job.left:>11} left  {done:<26} "
            f"{job.run}"
        )
