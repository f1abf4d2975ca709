"""``otf schema``."""

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON schema of the configuration.

    Editors complete and check a config with it: put
    `# yaml-language-server: $schema=otf.schema.json` into the file's first line.
    """
    from otf.config.json_schema import config_schema

    click.echo(json.dumps(config_schema(), indent=2))
