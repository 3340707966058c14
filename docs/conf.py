"""The site: `make docs` builds it from docs/, ARCHITECTURE.md and the result pages, without the network.

The repository is the source root, so a link between pages is a relative path that a forge follows as well.
"""

import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from made import mathml, pages  # noqa: E402

project = "kshot"
author = "the kshot contributors"
project_copyright = "the kshot contributors, Apache-2.0"
root_doc = "docs/index"
include_patterns = ["docs/**.md", "ARCHITECTURE.md", "benchmarks/results/**.md"]
exclude_patterns = [".*", "build", "dist", "runs", "node_modules", "kshot", "tests", "checkpoints", "docs/made"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

smartquotes = False

html_theme = "furo"
html_title = "kshot"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_extra_path = ["start"]
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Sphinx) -> None:
    """Adds what is made at build time: formulas as MathML, and the reference pages."""
    mathml.add_to(app)
    pages.add_to(app)
