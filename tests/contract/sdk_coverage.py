"""Which methods of the SDK's repositories the platform answers: recorded while the contract tests run, as a table.

``./run coverage`` runs them and writes ``alhelpers/platform/COVERAGE.md``. A method counts when a test called it,
itself or through an entity (``item.update()`` calls ``items.update``), and it returned without an exception. Calls that
the SDK makes inside another of these methods do not count.
"""

import functools
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = "SDK_COVERAGE_FOLDER"
ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "alhelpers" / "platform" / "COVERAGE.md"
# Helpers of Items and Datasets, which no user of the SDK calls.
INTERNAL = ("Downloader", "Uploader")
# Methods for which the vendor publishes a scenario, among the tests of the SDK (`tests/features` of its repository).
SCENARIOS = {
    "Annotations": "delete download get list show update upload",
    "Apps": "get install pause resume uninstall update",
    "Artifacts": "delete download get list upload",
    "Assignments": "create get get_items list reassign redistribute",
    "Bots": "create delete get list",
    "Codebases": "get list list_versions pack unpack",
    "Computes": "create delete get",
    "Datasets": (
        "clone create delete download_annotations export get list set_readonly unlock update"
        " upload_annotations"
    ),
    "Dpks": "delete get list publish pull update",
    "Drivers": "create",
    "Executions": "create get list rerun",
    "Integrations": "create",
    "Items": "clone delete download get get_all_items list update upload",
    "Models": "add_subset clone create delete delete_subset embed list train update",
    "Ontologies": "create delete get update",
    "Packages": "delete generate get list push",
    "PipelineExecutions": "rerun",
    "Pipelines": "create delete execute get install list reset update",
    "Projects": "create delete get list",
    "Recipes": "clone create delete update",
    "Services": "delete deploy get list log update",
    "Tasks": "add_items create create_qa_task delete get get_items list",
    "Triggers": "create delete get list update",
}


# ------------------------------------------------------------------------------------------------------ the SDK


def repositories() -> dict[str, type]:
    """List the SDK's repository classes."""
    from dtlpy import repositories as module

    found = {name: each for name, each in vars(module).items() if inspect.isclass(each)}
    return {name: found[name] for name in sorted(found) if name not in INTERNAL}


def methods() -> dict[str, list[str]]:
    """List the public methods of each repository that has any."""
    listed = {
        name: sorted({method for method, _, _ in _public(repository)})
        for name, repository in repositories().items()
    }
    return {name: names for name, names in listed.items() if names}


def _public(repository: type) -> Iterator[tuple[str, type, object]]:
    """Iterate over (name, class that has it, attribute) of the methods that the SDK itself defines."""
    for owner in repository.__mro__:
        if owner.__module__.startswith("dtlpy."):
            for name, attribute in vars(owner).items():
                plain = getattr(attribute, "__func__", attribute)
                if not name.startswith("_") and inspect.isroutine(plain):
                    yield name, owner, attribute


# ------------------------------------------------------------------------------------------------------ recording


class Recorder:
    """Remembers which methods were called from outside the repositories, and returned."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self._depth = 0
        self._saved = 0

    def install(self) -> None:
        """Wrap the methods; they stay wrapped until the process ends."""
        for repository, each in repositories().items():
            for name, owner, attribute in list(_public(each)):
                if owner is each:
                    plain = getattr(attribute, "__func__", attribute)
                    wrapped = self._wrap(f"{repository}.{name}", plain)
                    kind = type(attribute)
                    setattr(owner, name, kind(wrapped) if kind in (staticmethod, classmethod) else wrapped)

    def _wrap(self, name: str, method: Callable) -> Callable:
        @functools.wraps(method)
        def wrapped(*args: object, **kwargs: object) -> object:
            # The SDK's own threads work for a call that the main thread made.
            if threading.current_thread() is not threading.main_thread():
                return method(*args, **kwargs)
            self._depth += 1
            try:
                result = method(*args, **kwargs)
            finally:
                self._depth -= 1
            if self._depth == 0:
                self.called.add(name)
            return result

        return wrapped

    def save(self) -> None:
        """Leave what was called so far in the folder that the environment names: a test may be the process's last."""
        if len(self.called) > self._saved:
            self._saved = len(self.called)
            (Path(os.environ[FOLDER]) / f"{os.getpid()}.json").write_text(json.dumps(sorted(self.called)))


# ------------------------------------------------------------------------------------------------------ the table


def table(called: set[str], version: str) -> str:
    """Write the table."""
    known = methods()
    total = sum(map(len, known.values()))
    done = sum(f"{name}.{method}" in called for name, names in known.items() for method in names)
    lines = [
        "# Which SDK calls the platform answers",
        "",
        "Made by `./run coverage` from the contract tests: *yes* means that a test called the method, itself or",
        "through an entity, and it returned without an exception. *no* means that no test does; it may work, or be",
        'answered with "not emulated offline". Do not edit this file.',
        "",
        "*known from* says what the platform's answer follows: a scenario that the vendor publishes for the method,",
        "the SDK's source (what it sends, and what it reads of the answer), or nothing that was checked.",
        "",
        f"dtlpy {version}: {done} of {total} methods, {100 * done // total} %.",
        "",
        "| repository | methods | yes | % |",
        "|---|---:|---:|---:|",
    ]
    for name, names in known.items():
        yes = sum(f"{name}.{method}" in called for method in names)
        lines.append(f"| [{name}](#{name.lower()}) | {len(names)} | {yes} | {100 * yes // len(names)} |")
    for name, names in known.items():
        lines += ["", f"## {name}", "", "| method | emulated | known from |", "|---|---|---|"]
        lines += [_row(name, method, emulated=f"{name}.{method}" in called) for method in names]
    return "\n".join(lines) + "\n"


def _row(repository: str, method: str, *, emulated: bool) -> str:
    scenario = method in SCENARIOS.get(repository, "").split()
    known_from = "a vendor's scenario" if scenario else "the SDK's source"
    return f"| `{method}` | {'yes' if emulated else 'no'} | {known_from if emulated else 'unverified'} |"


def read(text: str) -> dict[str, dict[str, bool]]:
    """Read a table: repository -> method -> emulated."""
    found: dict[str, dict[str, bool]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            repository = found.setdefault(line[3:], {})
        elif line.startswith("| `"):
            method, answer, _ = (cell.strip(" `") for cell in line.strip("|").split("|"))
            repository[method] = answer == "yes"
    return found


def main(words: list[str]) -> int:
    """Run the contract tests and write the table, also when some of them fail; then return 1."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as own:
        os.environ["DATALOOP_PATH"] = own
        env = os.environ | {FOLDER: folder, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "contract"), *words]
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        parts = list(Path(folder).glob("*.json"))
        called = {
            name for part in parts if part.name != "cookie.json" for name in json.loads(part.read_text())
        }
        if not called:
            print("no test left a record: the table stays as it is")
            return 1
        import dtlpy

        TABLE.write_text(table(called, dtlpy.__version__))
    print(f"{len(called)} methods were called; wrote {TABLE.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
