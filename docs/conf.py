"""How Sphinx builds the documentation: `make docs`."""

import sys
from pathlib import Path

import outcrop

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "outcrop"
author = "the outcrop founders"
release = version = outcrop.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "command_pages",
    "api_pages",
    "house",
]
exclude_patterns = ["_build", "tutorials", "**/README.txt"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Columns", "params_style")]
# Works from disk and without a network: no inventory of another project is fetched.
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1000,
    "abort_on_example_error": True,
    # Tables are shown, and not the names of legends.
    "capture_repr": ("_repr_html_",),
}

html_theme = "pydata_sphinx_theme"
html_title = "outcrop"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    # Lines of code in tutorials have up to 100 characters: they get the room of the contents.
    "secondary_sidebar_items": {"[!g]**": ["page-toc"], "gallery/*": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_version_warning_banner": False,
}
copyright = "The outcrop founders, Apache-2.0"
