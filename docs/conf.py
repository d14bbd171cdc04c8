"""How Sphinx makes the site of what docs/build_site.py collects: nothing is run, nothing is loaded from the network."""

import inspect
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

import alhelpers

project = "Active Learning Notebook Kit"
version = release = alhelpers.__version__
copyright = "the authors of the kit"
language = "en"
root_doc = "README"

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["docs/conf.py"]
nitpicky = True
nitpick_ignore = [("py:class", "keras.layers.Dropout")]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the cell"
nb_code_prompt_hide = "Hide the cell"
nb_ipywidgets_js = {}
# A widget needs a kernel and scripts from the network: its plain form is shown.
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

autodoc_typehints = "none"  # they stand in the docstrings
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
numpydoc_show_class_members = False

highlight_language = "none"

html_theme = "furo"
html_title = project
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = html_show_sphinx = html_show_copyright = False
html_show_search_summary = False  # it reads the pages, which a browser refuses from a file://
html_last_updated_fmt = None
copybutton_selector = "div.highlight-ipython3 pre, div.highlight-python pre, div.highlight-default pre"


def _formula(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw by themselves."""
    block = isinstance(node, nodes.math_block)
    try:
        text = tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        logging.getLogger(__name__).warning(
            "the formula %r can't be drawn: %s", node.astext(), error, location=node
        )
        text = ""
    translator.body.append(f'<div class="formula">{text}</div>' if block else text)
    raise nodes.SkipNode


def _is_said_already(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Skip the fields of named tuples: the docstring of the class describes them."""
    return True if str(inspect.getdoc(member)).startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Add the renderer of formulas, and what autodoc leaves out."""
    app.connect("autodoc-skip-member", _is_said_already)
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
