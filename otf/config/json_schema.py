"""JSON schema of the configuration, with the options of every installed engine."""

from typing import Any

from otf.config.schema import Config
from otf.engines.registry import installed_engines, load_engine
from otf.errors import EngineError


def config_schema() -> dict[str, Any]:
    """The schema; options of engines whose module cannot be imported are not checked."""
    schema = Config.model_json_schema()
    variants: list[dict[str, Any]] = []
    for kind in sorted(installed_engines()):
        try:
            options = load_engine(kind).Options.model_json_schema()
        except EngineError:
            options = {"type": "object", "properties": {}}
        options["properties"] = {"kind": {"const": kind}, **options["properties"]}
        options["required"] = ["kind", *options.get("required", [])]
        options["title"] = kind
        variants.append(options)
    schema["$defs"]["EngineSection"] = {"title": "Engine", "oneOf": variants}
    return schema
