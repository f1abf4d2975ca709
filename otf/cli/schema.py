"""``otf schema``."""

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON schema of the configuration.

    Editors use it to complete and check a configuration: put
    `# yaml-language-server: $schema=otf.schema.json` into the first line of the file.
    """
    from otf.config.json_schema import config_schema

    click.echo(json.dumps(config_schema(), indent=2))
