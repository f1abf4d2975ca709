"""Reference of the configuration, a table for each section, from its JSON schema."""

import json
from typing import Any

from otf.config.json_schema import config_schema

_HEAD = """# Configuration

Every key, from the schema that the reader checks files with; `otf schema` prints it as JSON, for
editors that complete YAML.
"""
_NULL = {"type": "null"}
_SECTIONS = (
    "system", "engine", "dynamics", "model", "policy", "stop", "output", "cluster", "replicas",
    "learn_from",
)  # fmt: skip


def reference() -> str:
    """The page, as Markdown."""
    schema = config_schema()
    definitions, parts = schema["$defs"], [_HEAD]
    for name in _SECTIONS:
        described = schema["properties"][name]
        parts.append(f"## {name}\n")
        if name == "engine":
            parts += _engines(definitions)
        elif "$ref" in described:
            parts += _table(_definition(described, definitions), definitions)
        else:
            parts.append(f"List of {described['description']}.\n")
            parts += _referred(described, definitions)
    return "\n".join(parts)


def _engines(definitions: dict[str, Any]) -> list[str]:
    """A table for each engine."""
    parts = []
    for variant in definitions["EngineSection"]["oneOf"]:
        parts.append(f"### kind: {variant['title']}\n")
        own = {key: value for key, value in variant["properties"].items() if key != "kind"}
        nested = {**definitions, **variant.get("$defs", {})}
        parts += _table({**variant, "properties": own}, nested, "####")
    return parts


def _table(section: dict[str, Any], definitions: dict[str, Any], level: str = "###") -> list[str]:
    """The keys of a section, followed by those of sections within it, under their own headings."""
    rows, below = ["| key | value | default | |", "|---|---|---|---|"], list[str]()
    for key, described in section.get("properties", {}).items():
        inner = [d for d in _mentioned(described, definitions) if "properties" in d]
        kind = _kind(described, definitions)
        needed = key in section.get("required", ())
        given = described.get("default")
        default = "required" if needed else "" if given is None else f"`{json.dumps(given)}`"
        cells = (f"`{key}`", kind, default, described.get("description", ""))
        rows.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
        for definition in inner:
            variant = definition["properties"].get("kind", {}).get("const")
            below.append(f"{level} {key}{f', kind: {variant}' if variant else ''}\n")
            below += _table(definition, definitions, level)
    if len(rows) == 2:
        return ["It has no further keys.\n"]
    return [*rows, "", *below]


def _kind(described: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The values that a key takes, in words."""
    if "$ref" in described:
        return _kind(_definition(described, definitions), definitions)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in described:
            kinds = [_kind(one, definitions) for one in described[several] if one != _NULL]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    if "const" in described:
        return f"`{described['const']}`"
    if "enum" in described:
        return ", ".join(f"`{value}`" for value in described["enum"])
    kind = described.get("type", "")
    if kind == "array":
        items = _kind(described.get("items", {}), definitions)
        return f"list of {items}" if items else "list"
    words = {"object": "section", "string": "text", "boolean": "true or false"}
    limits = (
        ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"),
    )  # fmt: skip
    bounds = [f"{sign} {described[key]:g}" for key, sign in limits if key in described]
    return " ".join([words.get(kind, kind), ", ".join(bounds)]).strip()


def _mentioned(described: Any, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Definitions of sections that a key may hold."""
    if isinstance(described, list):
        return [found for one in described for found in _mentioned(one, definitions)]
    if not isinstance(described, dict):
        return []
    if "$ref" in described:
        return [_definition(described, definitions)]
    within = (described.get(key, []) for key in ("anyOf", "oneOf", "allOf", "items"))
    return [found for one in within for found in _mentioned(one, definitions)]


def _referred(described: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    parts = []
    for definition in _mentioned(described, definitions):
        parts += _table(definition, definitions)
    return parts


def _definition(described: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definitions[described["$ref"].rsplit("/", 1)[-1]]
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
