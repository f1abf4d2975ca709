"""Writer of configurations as YAML that the reader restores exactly."""

from typing import Any

import yaml

from otf.config.scalars import looks_like_no_text


def to_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML; text that could be read as another type is quoted."""
    return yaml.dump(data, Dumper=_ExactDumper, sort_keys=False)


class _ExactDumper(yaml.SafeDumper):
    """Quotes every text that the configuration's reader would read as another type."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "'" if looks_like_no_text(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_ExactDumper.add_representer(str, _represent_text)
