"""Settings of Sphinx. `docs/build_site.py` writes the pages and calls Sphinx with this file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import logitx

DOCS = Path(__file__).resolve().parent

project = "logitx"
author = "The logitx developers"
project_copyright = author
release = version = logitx.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx_llms_txt",
]
default_role = "literal"  # docstrings have names and formulas in single backticks
exclude_patterns = ["gallery/*.py", "gallery/*.ipynb"]
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings hold functions

# -- the pages

html_theme = "furo"
html_title = "logitx"
html_baseurl = os.environ.get("LOGITX_SITE", "")
html_static_path = [str(DOCS / "_static")]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_favicon = str(DOCS / "_static" / "logo.svg")
html_logo = str(DOCS / "_static" / "logo.svg")
html_extra_path = [str(DOCS.parent / "build" / "site" / "source" / "extra")]
html_copy_source = True  # llms.txt leads to the sources
html_show_sourcelink = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#8dbcf2", "color-brand-content": "#8dbcf2"},
}

# -- Markdown

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_fence_as_directive = ["math"]  # code forges show this fence as a formula too
myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# -- functions

autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
add_module_names = False

# -- the gallery

sphinx_gallery_conf = {
    "examples_dirs": [str(DOCS / "gallery")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py",
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "download_all_examples": False,
    "copyfile_regex": "",
    "abort_on_example_error": True,
    "image_scrapers": ("matplotlib",),
    "capture_repr": (),
    "default_thumb_file": str(DOCS / "_static" / "logo.png"),
}

# -- llms.txt

llms_txt_title = "logitx"
llms_txt_summary = """\
Softmax, log-softmax, log-sum-exp and cross-entropy, with their gradients, for any array type: NumPy, JAX, PyTorch,
TensorFlow, Dask, pandas, polars, xarray and every library of the Python array API standard."""
llms_txt_exclude = ["search", "genindex", "benchmark/index"]


def formula(writer: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw without a script and without a network."""
    block = isinstance(node, nodes.math_block)
    text = str(tex2mathml(node.astext().strip(), as_block=block))
    writer.body.append(f'<div class="formula">{text}</div>' if block else text)
    raise nodes.SkipNode


def with_levels(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Give the captions of the navigation the level that screen readers ask for."""
    name = "furo_navigation_tree"
    context[name] = str(context.get(name, "")).replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer of formulas, and what is changed in each page."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("html-page-context", with_levels, priority=900)  # after the theme, which makes the navigation at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}


html_math_renderer = "mathml"
