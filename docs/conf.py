"""Sphinx builds the site: Markdown by MyST, the furo theme, reference from docstrings."""

import re
import sys
from pathlib import Path

_DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(_DOCS), str(_DOCS.parent)]

import generate  # noqa: E402

import keras_fmc  # noqa: E402

generate.write_all(_DOCS / "generated")

project = "keras_fmc"
author = "keras_fmc authors"
copyright = "keras_fmc authors"
release = version = keras_fmc.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "README.md", "generated/*"]
html_theme = "furo"
html_title = f"keras_fmc {release}"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

default_role = "code"
"""Docstrings name modules and functions between single back-ticks."""

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 88


def _plain_marks(app, what, name, obj, options, lines) -> None:
    """Bars and single stars of docstrings are those of mathematics, outside code."""
    for i, line in enumerate(lines):
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = [re.sub(r"(\||(?<!\*)\*(?!\*))", r"\\\1", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def setup(app) -> None:
    """Called by Sphinx; before napoleon, which adds marks of its own."""
    app.connect("autodoc-process-docstring", _plain_marks, priority=100)
