"""Sphinx configuration: ``sphinx-build -W docs docs/_build``; the pages need no network."""

import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

sys.path.insert(0, str(Path(__file__).parent))

from configuration_reference import reference  # beside this file

from otf.version import __version__

project, release = "otf", __version__
author = "the otf developers"
html_title = f"otf {release}"
html_theme = "furo"
html_theme_options = {"source_edit_link": None}
exclude_patterns = ["_build", "jupyter_execute"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
autodoc_typehints = "none"  # in the docstrings, with their units
autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_use_rtype = False
copybutton_prompt_text = "$ "
suppress_warnings = ["ref.python"]  # names of several packages, such as Labels


def _mathml(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw without a script."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def _write_reference(_app: Sphinx) -> None:
    """Write the pages that are made from the schema of the configuration."""
    text = reference()
    page = Path(__file__).parent / "reference" / "configuration.md"
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def setup(app: Sphinx) -> None:
    """Add the renderer of formulas and the generated page."""
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    app.connect("builder-inited", _write_reference)


html_math_renderer = "mathml"
