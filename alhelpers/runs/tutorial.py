"""Run the kit's notebooks in order."""

import functools
import operator
import shutil
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alhelpers import platform
from alhelpers.runs.notebooks import parameters_of
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
        if _executed(output):
            say(f"executed notebooks: {output}; ./run docs builds a site of them, with search and a glossary")


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
    for path in earlier:
        (output / path.name).unlink(missing_ok=True)


def _headline(finished: Run) -> str:
    numbers = {name: value for name, value in finished.recorded.items() if isinstance(value, (int, float))}
    return "".join(f"; {name} = {value:.4g}" for name, value in list(numbers.items())[:3])
