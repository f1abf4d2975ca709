"""Sizes that keep code readable: modules of 400 lines, functions of 60 without their docstring."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path for folder in ("otf", "interfaces", "examples") for path in (ROOT / folder).rglob("*.py")
)
MOST_LINES, MOST_FUNCTION_LINES = 400, 60


def test_modules_are_short():
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in MODULES}
    assert {path: n for path, n in lines.items() if n > MOST_LINES} == {}


def test_functions_are_short():
    long = {}
    for path in MODULES:
        if "kernels" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False)
                lines = node.end_lineno - node.lineno + 1
                lines -= docstring.count("\n") + 1 if docstring else 0
                if lines > MOST_FUNCTION_LINES:
                    long[f"{path}:{node.lineno} {node.name}"] = lines
    assert long == {}
