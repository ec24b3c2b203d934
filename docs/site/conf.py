"""How the site of the documents is built (`make docs`): every page of the checkout, and shared_ops by its docstrings.

The pages stay where they are read on GitHub, beside what they are about; docs/site/index.md puts them in an order.
autoapi reads the code without importing it: no one environment holds all that it imports.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]

project = "Searchloop"
copyright = "the founders of Searchloop, under the Apache License 2.0"
extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
root_doc = "docs/site/index"
include_patterns = ["*.md", "docs/**", "*/README.md", "repos/*/README.md", "services/*/README.md", "build/api/**"]
exclude_patterns = ["docs/site/*.py"]

html_theme = "furo"
html_title = "Searchloop"
html_extra_path = ["start"]
"""The first page is further down: this leads there."""

myst_heading_anchors = 4
default_role = "code"
"""What stands between single backquotes in a docstring."""

autoapi_dirs = ["shared_ops/src/shared_ops"]
autoapi_root = "build/api"
autoapi_options = ["members", "show-module-summary"]
autoapi_add_toctree_entry = False
autoapi_member_order = "bysource"
# Of an imported name that has no docstring, as a constant, there is nothing to say.
suppress_warnings = ["autoapi.python_import_resolution"]


def without_folders(app: "Sphinx", document: str, content: list[str]) -> None:
    """Have links to folders, which GitHub lists, stand as their text: a site has no page of a folder."""
    here = (ROOT / document).parent
    content[0] = re.sub(
        r"\[([^\]]+)\]\(([\w./-]+)\)", lambda link: link[1] if (here / link[2]).is_dir() else link[0], content[0]
    )


def setup(app: "Sphinx") -> None:
    """Called by Sphinx."""
    app.connect("source-read", without_folders)
