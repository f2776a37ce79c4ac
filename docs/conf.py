"""Configuration of the site: `make docs` builds it into docs/_build/html."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE)]

project = "aezoo"
author = "the aezoo authors"
copyright = "the aezoo authors, MIT licence"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
    "aezoo_directives",
    "aezoo_gallery",
    "aezoo_live",
    "aezoo_pages",
]
exclude_patterns = ["_build", "_ext", "_templates", "experiments", "live/node_modules"]
nitpicky = False
suppress_warnings = ["config.cache"]

# -- Markdown ------------------------------------------------------------------------------------------
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# -- docstrings ----------------------------------------------------------------------------------------
# In docstrings, `x` is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = True

# -- HTML ----------------------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_title = "aezoo"
html_static_path = ["_static"]
templates_path = ["_templates"]
# Extensions write into it, after Sphinx checked that it is there.
(HERE / "_build" / "extra").mkdir(parents=True, exist_ok=True)
html_extra_path = ["_build/extra"]
html_css_files = ["aezoo.css"]
html_js_files = ["aezoo.js"]
html_context = {"default_mode": "auto"}
html_favicon = "_static/icon.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "aezoo"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}
html_sidebars = {"gallery/index": [], "live/index": [], "index": []}
