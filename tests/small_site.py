"""A small clone with executed notebooks, of which the site's tests build pages."""

import sys
from pathlib import Path

import nbformat

DOCS = Path(__file__).parents[1] / "docs"
sys.path.append(str(DOCS))

import build_site  # noqa: E402, F401 - for the tests
import write_methods  # noqa: E402, F401
import write_speed  # noqa: E402, F401

README = """# The kit

Begin with [the first notebook](notebooks/01_begin.ipynb#end), or [a word](docs/glossary.md#pool).
[A licence](LICENSE), [a sheet](data/README.md). It saves 60 %<!-- saved:.0% -->, as $H = -\\sum_i p_i \\log p_i$ tells.
"""
GLOSSARY = """# Glossary

## pool

Many.

## entropy

None without [a notebook](../notebooks/02_go_on.ipynb).
"""
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
FIGURE = f'<figure><img alt="a dot" src="{PIXEL}"><figcaption>A dot.</figcaption></figure>'


def write_clone(root):
    """Write the documents and notebooks of a clone; return the folder of its executed notebooks."""
    files = {
        "README.md": README,
        "docs/glossary.md": GLOSSARY,
        "LICENSE": "Free",
        "data/README.md": "# Data sheet\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    executed = root / "output" / "tutorial"
    for folder in (root / "notebooks", executed):
        folder.mkdir(parents=True)
    _write(
        root,
        executed,
        "01_begin",
        "# 1. Begin\n\n[Next](02_go_on.ipynb), [pool](../docs/glossary.md#pool)",
        "## End",
    )
    _write(
        root,
        executed,
        "02_go_on",
        "# 2. Go on\n\n$$\n\\frac{1}{T} \\sum_t p_t\n$$",
        "## Solution\n\n[Back](01_begin.ipynb)",
    )
    return executed


def _write(root, executed, name, first, last):
    new = nbformat.v4
    cells = [
        new.new_markdown_cell(first),
        new.new_code_cell("count: int = 3", metadata={"tags": ["parameters"]}),
        new.new_code_cell("show(count)", metadata={"tags": ["solution", "hide-cell"]}),
        new.new_markdown_cell(last),
    ]
    document = new.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(document, root / "notebooks" / f"{name}.ipynb")
    figure = {"text/html": FIGURE, "text/plain": "a dot"}
    value = {"application/vnd.alhelpers.record+json": {"count": 3}, "text/plain": "count = 3"}
    cells[2].outputs = [new.new_output("display_data", data=data) for data in (figure, value)]
    injected = new.new_code_cell(
        '# Parameters\nstate_dir = "/a/b"', metadata={"tags": ["injected-parameters"]}
    )
    document.cells = [new.new_markdown_cell("# As it was"), cells[1], injected, *cells[2:]]
    nbformat.write(document, executed / f"{name}.ipynb")
