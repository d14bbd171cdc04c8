"""The folder of a sweep: its plan, the outcome of each run, and the table of all.

::

    sweep.json                  the notebook's name and the settings
    runs/NAME/NOTEBOOK.ipynb    the executed copy of one run
    runs/NAME/run.json          the outcome of the run; missing until it has ended
    results.parquet, .csv       a row for each run: parameters, recorded values, outcome
"""

import csv
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock

from alhelpers.files import replacing, write_text
from alhelpers.runs.errors import SweepError
from alhelpers.runs.settings import Setting

_PLAN, _LOCK = "sweep.json", ".lock"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``state`` is done or failed; a failed run has an error, and the cell if one caused it."""

    state: str
    seconds: float | None
    recorded: dict[str, Any]
    cell: str = ""
    error: str = ""


class Store:
    """The folder of a sweep of a notebook."""

    def __init__(self, folder: Path, notebook: Path) -> None:
        self.folder, self.notebook = folder, notebook
        self._lock = filelock.FileLock(folder / _LOCK, mode=0o600, thread_local=False)

    def claim(self, settings: list[Setting]) -> None:
        """Lock the folder; raise SweepError if it is in use, or holds another sweep or other files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise SweepError(
                f"another sweep is running in {self.folder}: wait for it, or choose another folder"
            ) from error
        try:
            self._check(settings)
            plan = {"notebook": self.notebook.name, "settings": [setting.given for setting in settings]}
            write_text(self.folder / _PLAN, json.dumps(plan, indent=1))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Unlock the folder."""
        self._lock.release()

    def _check(self, settings: list[Setting]) -> None:
        path = self.folder / _PLAN
        if not path.exists():
            if any(entry.name != _LOCK for entry in self.folder.iterdir()):
                raise SweepError(
                    f"{self.folder} holds other files than those of a sweep: choose another folder"
                )
            return
        earlier = _read(path)
        if earlier is None or not {"notebook", "settings"} <= earlier.keys():
            raise SweepError(f"{path} can't be read: choose another folder, or remove this one")
        if earlier["notebook"] != self.notebook.name:
            raise SweepError(
                f"{self.folder} holds a sweep of {earlier['notebook']}, not of {self.notebook.name}: choose another"
                " folder"
            )
        given = [setting.given for setting in settings]
        lost = [setting for setting in earlier["settings"] if setting not in given]
        if lost:
            raise SweepError(
                f"{self.folder} holds a sweep with {len(lost)} settings that this one lacks, such as {lost[0]}: choose"
                " another folder, or add them"
            )

    def executed(self, setting: Setting) -> Path:
        """Return the path of a run's executed copy."""
        return self.folder / "runs" / setting.name / self.notebook.name

    def outcome(self, setting: Setting) -> Outcome | None:
        """Return the outcome of a run, or None if it has not ended."""
        path = self.executed(setting)
        kept = _read(path.parent / "run.json")
        if kept is None or not path.exists():
            return None
        return Outcome(**{name: kept[name] for name in Outcome.__dataclass_fields__})

    def is_done(self, setting: Setting) -> bool:
        """Return whether a run has ended well."""
        outcome = self.outcome(setting)
        return outcome is not None and outcome.state == "done"

    def keep(self, setting: Setting, outcome: Outcome) -> None:
        """Write the outcome of a run, after its executed copy is safe on the disk."""
        path = self.executed(setting)
        if path.exists():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        content = {"notebook": self.notebook.name, "parameters": setting.values} | asdict(outcome)
        write_text(path.parent / "run.json", json.dumps(content, indent=1))

    def stale(self, settings: list[Setting]) -> int:
        """Return the number of runs of other versions of the notebook or the package."""
        names = {setting.name for setting in settings}
        runs = self.folder / "runs"
        return sum(entry.name not in names for entry in runs.iterdir()) if runs.is_dir() else 0

    def write_results(self, settings: list[Setting]) -> None:
        """Write the table of the finished runs, as Parquet and as CSV."""
        import pyarrow
        from pyarrow import parquet

        columns = self._columns(settings)
        table = pyarrow.table({name: _column(values) for name, values in columns.items()})
        with replacing(self.folder / "results.parquet") as path:
            parquet.write_table(table, path)
        with (
            replacing(self.folder / "results.csv") as path,
            open(path, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([_text(value) for value in row] for row in zip(*columns.values(), strict=True))

    def _columns(self, settings: list[Setting]) -> dict[str, list[Any]]:
        """Return the columns of the table: parameters, recorded values, and the outcome."""
        ended = [(setting, outcome) for setting in settings if (outcome := self.outcome(setting))]
        columns: dict[str, list[Any]] = {
            name: [setting.values[name] for setting, _ in ended] for name in settings[0].values
        }
        rows = [_flat(outcome.recorded) for _, outcome in ended]
        for name in dict.fromkeys(name for row in rows for name in row):
            column = f"recorded.{name}" if name in columns or name.startswith("run.") else name
            columns[column] = [row.get(name) for row in rows]
        return columns | {
            "run.name": [setting.name for setting, _ in ended],
            "run.state": [outcome.state for _, outcome in ended],
            "run.seconds": [outcome.seconds for _, outcome in ended],
            "run.cell": [outcome.cell for _, outcome in ended],
            "run.error": [outcome.error for _, outcome in ended],
            "run.notebook": [
                self.executed(setting).relative_to(self.folder).as_posix() for setting, _ in ended
            ],
        }


def _flat(recorded: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten recorded dicts: ``accuracy`` of ``final`` becomes ``final.accuracy``."""
    found = {}
    for name, value in recorded.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _column(values: list[Any]) -> Any:
    """Return an Arrow array; values without a common type are stored as JSON."""
    import pyarrow

    try:
        if not any(_holds_dict(value) for value in values):
            return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        pass
    return pyarrow.array([None if value is None else json.dumps(value) for value in values])


def _holds_dict(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_dict(entry) for entry in value)
    return isinstance(value, dict)


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
