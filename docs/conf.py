"""The documentation site; `make docs` builds it, without the network."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "denoise5d"
release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "formulas",
    "keys",
    "pages",
]
exclude_patterns = ["_ext"]
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!denoise5d).*")]  # types of other packages: no inventories

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "drawn"
smartquotes = False  # options are --named, ranges are a-b

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc has them
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"denoise5d {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_domain_indices = html_use_index = False
