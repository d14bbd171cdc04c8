"""Run the kit's notebooks in order, and write one HTML report of them."""

import functools
import html
import operator
import os
import re
import shutil
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nbconvert import HTMLExporter

from alhelpers import platform
from alhelpers.files import write_text
from alhelpers.runs.notebooks import nbformat, parameters_of
from alhelpers.runs.parameters import Parameter, check
from alhelpers.runs.processes import Processes
from alhelpers.runs.recording import RECORDED, compare, read_recorded
from alhelpers.runs.runner import Run, run


def run_tutorial(
    notebooks: Path,
    output: Path,
    parameters: dict[str, Any] | None = None,
    *,
    only: Collection[str] = (),
    say: Callable[[str], None] = print,
) -> list[Run]:
    """Run every notebook of a folder in order, on a fresh offline platform that they share.

    Notebooks that do not use the platform, without the parameter ``state_dir``, run beside the others. ``only`` names
    those to run by their numbers, such as 03.
    """
    paths = _paths(notebooks, only)
    if output.resolve() == notebooks.resolve():
        raise FileExistsError(f"the output {output} is the folder of the notebooks: choose another one")
    given = _given(paths, parameters or {}, state_dir=str((output / "platform").resolve()))
    _clear(output, paths if only else _executed(output))

    def execute(path: Path, processes: Processes) -> Run:
        say(f"{paths.index(path) + 1} of {len(paths)}: {path.name} ...")
        started = time.monotonic()
        finished = run(path, given[path], output / path.name, processes=processes)
        say(f"    {path.name} done in {time.monotonic() - started:.0f} s{_headline(finished)}")
        return finished

    try:
        return _run_all(paths, [path for path in paths[1:] if "state_dir" not in given[path]], execute)
    finally:
        if executed := _executed(output):
            write_text(output / "report.html", report(executed, notebooks))
            say(f"report: {output / 'report.html'}")


def _run_all(paths: list[Path], apart: list[Path], execute: Callable[[Path, Processes], Run]) -> list[Run]:
    """Run notebooks in order; those that do not use the platform run beside the others, after the first one."""
    runs: dict[Path, Run] = {}
    pool = ThreadPoolExecutor(1)
    try:
        with Processes() as processes:
            runs[paths[0]] = execute(paths[0], processes)
            beside = {path: pool.submit(execute, path, processes) for path in apart}
            for path in paths[1:]:
                if path not in beside:
                    runs[path] = execute(path, processes)
            runs |= {path: future.result() for path, future in beside.items()}
    finally:
        pool.shutdown(cancel_futures=True)
    return [runs[path] for path in paths]


def known_parameters(notebooks: Path, only: Collection[str] = ()) -> dict[str, Parameter]:
    """Return the parameters of the notebooks of a folder, by name."""
    return {
        name: parameter for path in _paths(notebooks, only) for name, parameter in parameters_of(path).items()
    }


def check_runs(notebooks: Path, runs: list[Run], say: Callable[[str], None]) -> None:
    """Print which values of runs at the defaults are out of their tolerance of the recorded ones."""
    count, differing = compare(runs, read_recorded(notebooks))
    for line in differing:
        say(f"differs: {line}")
    say(f"compared with {RECORDED}: {count} values, {len(differing) or 'none'} out of tolerance")


def _paths(notebooks: Path, only: Collection[str] = ()) -> list[Path]:
    """Return the notebooks of a folder in order; raise FileNotFoundError if there are none, or not one of ``only``."""
    paths = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"there are no notebooks in {notebooks}: run this in a clone of the kit")
    numbers = [path.name[:2] for path in paths]
    if missing := sorted(set(only) - set(numbers)):
        raise FileNotFoundError(
            f"there is no notebook {', '.join(missing)} in {notebooks}: there are {', '.join(numbers)}"
        )
    return [path for path, number in zip(paths, numbers, strict=True) if not only or number in only]


def _given(paths: list[Path], parameters: dict[str, Any], *, state_dir: str) -> dict[Path, dict[str, Any]]:
    """Return the parameters of each notebook, checked."""
    declared = {path: parameters_of(path) for path in paths}
    check(functools.reduce(operator.or_, declared.values()), parameters, where="the tutorial")
    values = {"state_dir": state_dir} | parameters
    shares = {}
    for path, own in declared.items():
        shares[path] = {name: value for name, value in values.items() if name in own}
        check(own, shares[path], where=path.name)
    return shares


def _executed(output: Path) -> list[Path]:
    return sorted(output.glob("[0-9][0-9]_*.ipynb"))


def _clear(output: Path, earlier: list[Path]) -> None:
    """Remove the files of an earlier run, and nothing else: the folder may be any that the user named."""
    if running := platform.running(output / "platform"):
        running.stop()
    shutil.rmtree(output / "platform", ignore_errors=True)
    for path in [*(output / path.name for path in earlier), output / "report.html"]:
        path.unlink(missing_ok=True)


def _headline(finished: Run) -> str:
    numbers = {name: value for name, value in finished.recorded.items() if isinstance(value, (int, float))}
    return "".join(f"; {name} = {value:.4g}" for name, value in list(numbers.items())[:3])


def report(executed: list[Path], notebooks: Path) -> str:
    """Return one HTML page of executed notebooks in the given order, with a table of contents.

    It needs no other file and no network; formulas stay as they are written. Its links to other files than notebooks
    lead to where they are from the folder of the executed ones.
    """
    whole = nbformat.v4.new_notebook()
    contents = []
    for path in executed:
        document = nbformat.read(str(path), as_version=4)
        title = _title(document, path)
        contents.append(f'<li><a href="#{path.stem}">{html.escape(title)}</a></li>')
        whole.cells.append(nbformat.v4.new_markdown_cell(f'<a id="{path.stem}"></a>\n\n---'))
        whole.cells.extend(_within_report(document.cells, executed, notebooks))
    toc = f"# The tutorial, executed\n\n<ul>{''.join(contents)}</ul>"
    whole.cells.insert(0, nbformat.v4.new_markdown_cell(toc))
    whole.metadata["title"] = "Active Learning Notebook Kit: the tutorial, executed"
    exporter = HTMLExporter(embed_images=True)
    page, _ = exporter.from_notebook_node(whole, {"metadata": {"path": str(notebooks)}})
    # The template loads scripts from the network, for widgets and formulas.
    return re.sub(r'<script\b[^>]*\bsrc="https?://[^>]*>\s*</script>', "", page)


def _title(document: nbformat.NotebookNode, path: Path) -> str:
    for cell in document.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0].removeprefix("# ")
    return path.stem


def _within_report(
    cells: list[nbformat.NotebookNode], executed: list[Path], notebooks: Path
) -> list[nbformat.NotebookNode]:
    """Turn links between notebooks into links within the page, and those to other files into links from its folder."""
    names = {path.name for path in executed}

    def moved(link: re.Match) -> str:
        target, place = link[2], link[3] or ""
        if target in names:
            return f"{link[1]}(#{Path(target).stem})"
        return f"{link[1]}({Path(os.path.relpath(notebooks / target, executed[0].parent)).as_posix()}{place})"

    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"((?<!!)\[[^\[\]]*\])\(([^()\s:#]+)(#[^()\s]*)?\)", moved, cell.source)
    return cells
