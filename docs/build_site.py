"""Build the site: the executed notebooks, the documents and the API, as pages that need no server and no network.

It collects the sources in the folders that they have in the repository, so that a link from one to another leads to
the same place in both; then it runs Sphinx with warnings as errors, and checks the links of the pages that come out.
"""

import argparse
import html.parser
import importlib
import inspect
import re
import shutil
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from sphinx.cmd.build import main as sphinx

from alhelpers.runs.notebooks import RECORD_MIME, read_notebook, tags_of
from alhelpers.runs.parameters import ParameterError

ROOT = Path(__file__).resolve().parents[1]

#: The parts of the course, with the number of the last notebook of each.
PARTS = {
    "I. Start": 0,
    "II. The loop, piece by piece": 8,
    "III. Your labels, your question": 13,
    "IV. Strange images, large pools": 99,
}
#: The documents, by caption; what they link to comes to the last one.
DOCUMENTS = {
    "Reference": ["docs/glossary.md", "docs/methods.md", "docs/cluster.md"],
    "Measured": [
        "notebooks/label-efficiency.md",
        "notebooks/label-relabel-stop.md",
        "notebooks/detection-efficiency.md",
        "notebooks/photo-embeddings.md",
    ],
    "Development": ["docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md"],
}


class SiteError(Exception):
    """The site can't be built; the message says why, and the way out."""


class NotRun(SiteError):
    """A notebook has not been executed as it is now."""


def build(root: Path, executed: Path, output: Path) -> list[str]:
    """Build the site of a clone into a folder, which is removed before; return the mistakes in its links.

    ``executed`` is the folder of the executed notebooks. The sources are collected beside the site.
    """
    sources = output.with_name(f"{output.name}-src")
    notebooks = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    whole = with_outputs(notebooks, executed)
    for folder in (sources, output):
        shutil.rmtree(folder, ignore_errors=True)
    (sources / "notebooks").mkdir(parents=True)
    for path, document in whole.items():
        nbformat.write(document, sources / "notebooks" / path.name)
    named = [root / name for names in DOCUMENTS.values() for name in names]
    documents = collect(root, sources, [root / "README.md", *filter(Path.exists, named)], notebooks)
    api = write_api(public_modules(root), sources / "api")
    with (sources / "README.md").open("a", encoding="utf-8") as file:
        file.writelines(navigation([path.stem for path in notebooks], documents[1:], api))
    options = ["--fail-on-warning", "--quiet", "--builder", "html", "--conf-dir", str(ROOT / "docs")]
    # In this process: it has imported what the API pages document, and autodoc could not import all of it.
    if sphinx([*options, "--doctree-dir", str(sources / ".doctrees"), str(sources), str(output)]) != 0:
        raise SiteError("Sphinx has warned: its messages above name the files")
    shutil.copy(output / "README.html", output / "index.html")
    return mistakes(output)


# ------------------------------------------------------------------------------
# sources
# ------------------------------------------------------------------------------


def with_outputs(notebooks: Iterable[Path], executed: Path) -> dict[Path, nbformat.NotebookNode]:
    """Return notebooks with the outputs of their executed copies; their text is as it is now."""
    whole = {path: _with_outputs(path, executed / path.name) for path in notebooks}
    if missing := [path.name for path, document in whole.items() if document is None]:
        raise NotRun(
            f"{', '.join(missing)}: not executed in {executed}, or with other code; run ./run tutorial first"
        )
    return whole


def _with_outputs(path: Path, executed: Path) -> nbformat.NotebookNode | None:
    try:
        document, ran = read_notebook(path), read_notebook(executed)
    except ParameterError:
        return None
    cells, outputs = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (document, ran))
    if [cell.source for cell in cells] != [cell.source for cell in outputs]:
        return None
    for cell, other in zip(cells, outputs, strict=True):
        cell.outputs, cell.execution_count = other.outputs, other.execution_count
        for output in cell.outputs:
            output.get("data", {}).pop(RECORD_MIME, None)  # its text stays
    document.metadata = ran.metadata
    injected = [cell for cell in nbformat.read(executed, 4).cells if "injected-parameters" in tags_of(cell)]
    for cell in injected:
        # Which folder the platform used is nobody's concern; other parameters explain the outputs.
        lines = [line for line in cell.source.splitlines() if not line.startswith("state_dir =")]
        cell.source = "\n".join(lines)
        if any(" = " in line for line in lines):
            place = next(n for n, each in enumerate(document.cells) if "parameters" in tags_of(each))
            document.cells.insert(place + 1, cell)
    return document


_LINK = re.compile(r"""\]\(\s*<?([^()\s>]+)|<(?:img|a)\b[^>]*\b(?:src|href)=["']([^"']+)""")


def links_of(path: Path) -> Iterator[str]:
    """Yield the targets of the links within the repository of a document or notebook, without their anchors."""
    if path.suffix == ".ipynb":
        cells = read_notebook(path).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    for found in _LINK.finditer(re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)):
        target = urllib.parse.urlsplit(found[1] or found[2])
        if target.path and not target.scheme:
            yield urllib.parse.unquote(target.path)


def collect(root: Path, sources: Path, documents: list[Path], notebooks: Iterable[Path]) -> list[str]:
    """Copy documents, and whatever they and the notebooks link to; return the names of all documents."""
    queue, wrong = [*documents, *notebooks], []
    for path in queue:
        if path.suffix != ".ipynb":
            target = sources / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for link in links_of(path) if path.suffix in (".md", ".ipynb") else ():
            linked = (path.parent / link).resolve()
            if not (linked.is_file() and linked.is_relative_to(root)):
                wrong.append(f"{path.relative_to(root)} links to {link}, which is no file of the repository")
            elif linked not in queue:
                queue.append(linked)
    if wrong:
        raise SiteError("\n".join(wrong))
    return [path.relative_to(root).as_posix() for path in queue if path.suffix == ".md"]


def navigation(notebooks: list[str], documents: list[str], api: list[str]) -> Iterator[str]:
    """Yield the tables of contents for the end of the first page."""
    first = 0
    for caption, last in PARTS.items():
        yield _contents(
            caption, [f"notebooks/{name}" for name in notebooks if first <= int(name[:2]) <= last]
        )
        first = last + 1
    given = {caption: [name for name in names if name in documents] for caption, names in DOCUMENTS.items()}
    given["Reference"] += api
    for caption, names in given.items():
        yield _contents(caption, names)
    named = {name for names in DOCUMENTS.values() for name in names}
    yield _contents("More", [name for name in documents if name not in named])


def _contents(caption: str, names: list[str]) -> str:
    entries = [name.removesuffix(".md") for name in names]
    return (
        "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}\n", *entries, "```\n"])
        if names
        else ""
    )


# ------------------------------------------------------------------------------
# the API
# ------------------------------------------------------------------------------


def public_modules(root: Path) -> dict[str, Any]:
    """Return the modules of a clone that show their public names, by name."""
    package = root / "alhelpers"
    files = [*package.glob("[a-z]*.py"), *package.rglob("__init__.py")]
    shown = [path.relative_to(root) for path in files if "\n__all__ = " in path.read_text(encoding="utf-8")]
    names = sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in shown)
    return {name: importlib.import_module(name) for name in names}


def write_api(modules: dict[str, Any], folder: Path) -> list[str]:
    """Write a page for each module, and one that lists them, whose name is returned; nothing without modules."""
    if not modules:
        return []
    folder.mkdir(parents=True)
    rows = []
    for name, module in modules.items():
        lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
        for public in sorted(module.__all__):
            lines += _entry(f"{name}.{public}", getattr(module, public), module)
        (folder / f"{name}.rst").write_text("\n".join(lines), encoding="utf-8")
        rows += [f":doc:`{name}`", f"   {module.__doc__.splitlines()[0]}", ""]
    head = ["API", "===", "", "Every public name. What is not listed is private, however it is spelled.", ""]
    toc = ["", ".. toctree::", "   :hidden:", "", *(f"   {name}" for name in modules)]
    (folder / "index.rst").write_text("\n".join([*head, *rows, *toc]), encoding="utf-8")
    return ["api/index"]


def _entry(name: str, value: Any, module: Any) -> list[str]:
    if inspect.ismodule(value):
        return [f":doc:`{value.__name__}`", ""]
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {name}", ""]
    shown = [f"   :value: {value!r}"] if len(repr(value)) < 100 else []
    return [
        f".. py:data:: {name.rpartition('.')[2]}",
        *shown,
        "",
        f"   {_comment(name.rpartition('.')[2], module)}",
        "",
    ]


def _comment(name: str, module: Any) -> str:
    """Return the comment ``#:`` above a constant, in whichever file of its module it is defined."""
    pattern = re.compile(rf"((?:^#:.*\n)+){name}\b.* = ", re.MULTILINE)
    found = (
        pattern.search(path.read_text(encoding="utf-8")) for path in Path(module.__file__).parent.glob("*.py")
    )
    comment = next(filter(None, found), None)
    return " ".join(line[2:].strip() for line in comment[1].splitlines()) if comment else ""


# ------------------------------------------------------------------------------
# links
# ------------------------------------------------------------------------------


class _Page(html.parser.HTMLParser):
    """The anchors of a page, where it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        self.targets += [(given[key], tag != "a") for key in ("href", "src") if given.get(key)]


def mistakes(folder: Path) -> list[str]:
    """Return what is wrong in the pages of a folder: links to nothing, and what is loaded from the network."""
    pages = {
        path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))
    }
    found = []
    for path, page in pages.items():
        for target, loaded in page.targets:
            if problem := _problem(path, urllib.parse.urlsplit(target), pages, loaded=loaded):
                found.append(f"{path.relative_to(folder.resolve())}: {target} {problem}")
    for path in folder.rglob("*.css"):
        if re.search(r"""(@import|url\()\s*["']?(https?:)?//""", path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(folder)}: loads from the network")
    return found


def _problem(
    path: Path, target: urllib.parse.SplitResult, pages: dict[Path, _Page], *, loaded: bool
) -> str | None:
    if target.scheme or target.netloc:
        return "is loaded from the network" if loaded and target.scheme != "data" else None
    file = (path.parent / urllib.parse.unquote(target.path)).resolve() if target.path else path
    if not file.is_file():
        return "is not there"
    if target.fragment and file in pages and urllib.parse.unquote(target.fragment) not in pages[file].anchors:
        return "has no such anchor"
    return None


def main() -> int:
    """Build the site in output/site; return 2 if the notebooks must be run before, 1 if anything is wrong."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    output = ROOT / "output" / "site"
    try:
        found = build(ROOT, ROOT / "output" / "tutorial", output)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, NotRun) else 1
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"site: {output / 'index.html'}; open it in a browser")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
