"""The site: ``python -m sphinx -W docs docs/_build/html`` builds it from the pages of this folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extension"))
sys.path.insert(0, str(HERE.parent))
# Notebooks and examples simulate in processes of their own, which must find this checkout, too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

from mbexp.version import __version__

project = "mbexp"
author = "The mbexp authors"
copyright = author  # the name that Sphinx gives it
release = version = __version__

extensions = [
    "myst_nb",  # Markdown pages, and notebooks that are executed
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_copybutton",
    "hooks",  # _extension/hooks.py: contents from links, generated tables
]
root_doc = "index"
exclude_patterns = ["_build", "_extension", "**.ipynb_checkpoints"]

# Pages
myst_heading_anchors = 4  # as code hosts make them
myst_enable_extensions = ["fieldlist"]
highlight_language = "none"  # of a block that names no language

# Notebooks: made of notebooks/*.py by _extension/hooks.py, run once a build
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc shows them
numpydoc_show_class_members = False

# Looks
html_theme = "furo"
html_title = f"mbexp {__version__}"
html_static_path = ["_static"]
html_css_files = ["mbexp.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_last_updated_fmt = None  # the same sources give the same site
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#7ab8ff", "color-brand-content": "#7ab8ff"},
}
copybutton_prompt_text = "$ "
