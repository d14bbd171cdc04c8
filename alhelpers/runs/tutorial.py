"""Run the kit's notebooks in order."""

import functools
import operator
import shutil
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from alhelpers import platform
from alhelpers.runs.notebooks import parameters_of
from alhelpers.runs.parameters import Parameter, check
from alhelpers.runs.processes import Processes
from alhelpers.runs.recording import RECORDED, compare, read_recorded
from alhelpers.runs.runner import Run, run

#: The notebooks that go on with what those before them have left on the platform.
IN_ORDER = ("01", "02", "03", "04", "05")


def run_tutorial(
    notebooks: Path,
    output: Path,
    parameters: dict[str, Any] | None = None,
    *,
    only: Collection[str] = (),
    say: Callable[[str], None] = print,
) -> list[Run]:
    """Run every notebook of a folder, two at a time, on fresh offline platforms.

    Those of `IN_ORDER` run one after another on a platform that they share; each other one has its own, unless the
    parameter ``state_dir`` names one for all. ``only`` names those to run by their numbers, such as 03.
    """
    paths = _paths(notebooks, only)
    if output.resolve() == notebooks.resolve():
        raise FileExistsError(f"the output {output} is the folder of the notebooks: choose another one")
    given = _given(paths, parameters or {}, (output / "platform").resolve())
    _clear(output, paths if only else _executed(output))

    def execute(path: Path, processes: Processes) -> Run:
        say(f"{paths.index(path) + 1} of {len(paths)}: {path.name} ...")
        started = time.monotonic()
        finished = run(path, given[path], output / path.name, processes=processes)
        say(f"    {path.name} done in {time.monotonic() - started:.0f} s{_headline(finished)}")
        return finished

    shared = [path for path in paths if "state_dir" in given[path]]
    if "state_dir" not in (parameters or {}):
        shared = [path for path in shared if _number(path) in IN_ORDER]
    try:
        return _run_all(paths, shared, execute)
    finally:
        if _executed(output):
            say(f"executed notebooks: {output}; ./run docs builds a site of them, with search and a glossary")


def _run_all(paths: list[Path], shared: list[Path], execute: Callable[[Path, Processes], Run]) -> list[Run]:
    """Run the first notebook, then two at a time; those that share a platform follow one another."""
    rest = [path for path in paths[1:] if path not in shared]
    lanes = [[path for path in shared if path != paths[0]], *([path] for path in rest)]
    pool = ThreadPoolExecutor(2)
    try:
        with Processes() as processes:
            runs = [execute(paths[0], processes)]

            def follow(lane: list[Path]) -> list[Run]:
                return [execute(path, processes) for path in lane]

            for finished in as_completed([pool.submit(follow, lane) for lane in lanes]):
                runs += finished.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return sorted(runs, key=lambda run: paths.index(run.notebook))


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
    numbers = list(map(_number, paths))
    if missing := sorted(set(only) - set(numbers)):
        raise FileNotFoundError(
            f"there is no notebook {', '.join(missing)} in {notebooks}: there are {', '.join(numbers)}"
        )
    return [path for path, number in zip(paths, numbers, strict=True) if not only or number in only]


def _number(path: Path) -> str:
    return path.name[:2]


def _given(paths: list[Path], parameters: dict[str, Any], platforms: Path) -> dict[Path, dict[str, Any]]:
    """Return the parameters of each notebook, checked; its platform is in a folder of the given one."""
    declared = {path: parameters_of(path) for path in paths}
    check(functools.reduce(operator.or_, declared.values()), parameters, where="the tutorial")
    shares = {}
    for path, own in declared.items():
        state_dir = platforms / ("in_order" if _number(path) in IN_ORDER else _number(path))
        values = {"state_dir": str(state_dir)} | parameters
        shares[path] = {name: value for name, value in values.items() if name in own}
        check(own, shares[path], where=path.name)
    return shares


def _executed(output: Path) -> list[Path]:
    return sorted(output.glob("[0-9][0-9]_*.ipynb"))


def _clear(output: Path, earlier: list[Path]) -> None:
    """Remove the files of an earlier run, and nothing else: the folder may be any that the user named."""
    for state_dir in [output / "platform", *(output / "platform").glob("*/")]:
        if running := platform.running(state_dir):
            running.stop()
    shutil.rmtree(output / "platform", ignore_errors=True)
    for path in earlier:
        (output / path.name).unlink(missing_ok=True)


def _headline(finished: Run) -> str:
    numbers = {name: value for name, value in finished.recorded.items() if isinstance(value, (int, float))}
    return "".join(f"; {name} = {value:.4g}" for name, value in list(numbers.items())[:3])
