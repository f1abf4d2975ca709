"""``otf doctor``."""

import json

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(as_json: bool) -> None:
    """Show the engines, their versions, threads, what is missing and how to get it."""
    from otf.driver.doctor import examine

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
