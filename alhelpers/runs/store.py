"""The folder of a sweep: its plan, the outcome of each run, and the table of all.

::

    sweep.json                  the notebook's name and the settings
    runs/NAME/NOTEBOOK.ipynb    the executed copy of one run
    runs/NAME/run.json          the outcome of the run; missing until it has ended
    results.parquet, .csv       a row for each run: parameters, recorded values, outcome
"""

import json
import os
from pathlib import Path
from typing import Any

import filelock

from alhelpers.files import replacing, write_text
from alhelpers.runs.errors import SweepError
from alhelpers.runs.settings import Setting
from alhelpers.runs.sources import digest_of, texts_in

_PLAN, _LOCK, _OUTCOME = "sweep.json", ".lock", "run.json"
_RESULTS = ("results.parquet", "results.csv")

#: What is stored of an answer, and what where it lacks that.
_OF_ANSWER: dict[str, Any] = {"seconds": None, "recorded": {}, "cell": "", "error": "", "written": []}


class Store:
    """The folder of a sweep of a notebook."""

    def __init__(self, folder: Path, notebook: Path) -> None:
        self.folder, self.notebook = folder, notebook
        self.shown = str(folder)
        self._lock = filelock.FileLock(folder / _LOCK, mode=0o600, thread_local=False)

    def claim(self, settings: list[Setting]) -> None:
        """Lock the folder; raise SweepError if it is in use, or holds another sweep or other files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check(settings)  # before the lock, so that nothing is written into a folder of something else
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise SweepError(
                f"another sweep is running in {self.shown}: wait for it, or choose another folder"
            ) from error
        try:
            self._check(settings)
            self._remove_parts()
            plan = {"notebook": self.notebook.name, "settings": [setting.given for setting in settings]}
            write_text(self.folder / _PLAN, json.dumps(plan, indent=1))
            self.changed(self.folder / _PLAN)
        except BaseException:
            self.release()
            raise

    def _remove_parts(self) -> None:
        """Remove what a killed sweep had not written to its end."""
        ours = tuple(f".{name}." for name in (_PLAN, *_RESULTS, _OUTCOME, self.notebook.name))
        for part in self.folder.rglob(".*.part"):
            if part.name.startswith(ours):
                part.unlink()

    def release(self) -> None:
        """Unlock the folder."""
        self._lock.release()

    def _check(self, settings: list[Setting]) -> None:
        path = self.folder / _PLAN
        if not path.exists():
            names = {entry.name for entry in self.folder.iterdir()} - {_LOCK}
            if any(not name.startswith(f".{_PLAN}.") for name in names):  # which a kill has left
                raise SweepError(
                    f"{self.shown} holds other files than those of a sweep: choose another folder"
                )
            return
        earlier = _read(path)
        if earlier is None or not {"notebook", "settings"} <= earlier.keys():
            raise SweepError(f"{self.shown}/{_PLAN} can't be read: choose another folder, or remove this one")
        if earlier["notebook"] != self.notebook.name:
            raise SweepError(
                f"{self.shown} holds a sweep of {earlier['notebook']}, not of {self.notebook.name}: choose another"
                " folder"
            )
        given = [setting.given for setting in settings]
        digests = set(map(digest_of, given))  # a nan equals no other
        lost = [
            setting
            for setting in earlier["settings"]
            if digest_of(setting) not in digests and setting not in given
        ]
        if lost:
            raise SweepError(
                f"{self.shown} holds a sweep with {len(lost)} settings that this one lacks, such as {lost[0]}: choose"
                " another folder, or add them"
            )

    def executed(self, setting: Setting) -> Path:
        """Return the path of a run's executed copy."""
        return self.folder / "runs" / setting.name / self.notebook.name

    def place(self, setting: Setting) -> str:
        """Return where a run's executed copy is found, for messages and for the copy itself."""
        return os.path.abspath(self.executed(setting))

    def changed(self, path: Path) -> None:
        """Note that a file was written or removed."""

    def outcome(self, setting: Setting) -> dict[str, Any] | None:
        """Return how a run ended, as stored, or None if it has not ended, or its executed copy is lost."""
        path = self.executed(setting)
        kept = _read(path.parent / _OUTCOME)
        return None if kept is None or (kept["state"] == "done" and not path.exists()) else kept

    def is_done(self, setting: Setting) -> bool:
        """Return whether a run has ended well."""
        outcome = self.outcome(setting)
        return outcome is not None and outcome["state"] == "done"

    def keep(self, setting: Setting, answer: dict[str, Any]) -> None:
        """Write the executed copy of a run, then its outcome."""
        path = self.executed(setting)
        if "copy" in answer:
            write_text(path, answer["copy"])
        else:
            path.unlink(missing_ok=True)  # of an earlier attempt
        self.changed(path)
        content = {
            "notebook": self.notebook.name,
            "parameters": setting.values,
            "sources": setting.sources,
            "state": "done" if "recorded" in answer else "failed",
        }
        content |= {name: answer.get(name, default) for name, default in _OF_ANSWER.items()}
        write_text(path.parent / _OUTCOME, json.dumps(content, indent=1))
        self.changed(path.parent / _OUTCOME)

    def forget(self, settings: list[Setting]) -> None:
        """Remove the outcomes of runs, so that they are run again."""
        for setting in settings:
            outcome = self.executed(setting).parent / _OUTCOME
            if outcome.exists():
                outcome.unlink()
                self.changed(outcome)

    def written(self) -> set[str]:
        """Return the texts of finished runs that named no file before them: the files are their own."""
        return {
            text
            for run in self._runs().values()
            for text in texts_in([run["parameters"], run.get("written", [])])
            if text not in run.get("sources", ())
        }

    def stale(self, settings: list[Setting]) -> tuple[int, set[str]]:
        """Return the number of runs of other versions, and what differs from them in the settings to be run."""
        runs = self._runs()
        for setting in settings:
            runs.pop(setting.name, None)
        earlier = {digest_of(run["parameters"]): run.get("sources", {}).items() for run in runs.values()}
        differing: set[str] = set()
        for setting in settings:
            sources = earlier.get(digest_of(setting.values))
            if sources is not None and not self.is_done(setting):
                differing |= {name for name, _ in sources ^ setting.sources.items()}
        return len(runs), differing

    def _runs(self) -> dict[str, dict[str, Any]]:
        """Return what is stored of the finished runs, by name."""
        found = {path.parent.name: _read(path) for path in self.folder.glob(f"runs/*/{_OUTCOME}")}
        return {name: run for name, run in found.items() if run is not None and run.get("state") == "done"}

    def write_results(self, settings: list[Setting]) -> None:
        """Write the table of the finished runs, as Parquet and as CSV."""
        import pandas
        import pyarrow
        from pyarrow import parquet

        columns = self._columns(settings)
        table = pyarrow.table({name: _column(values) for name, values in columns.items()})
        with replacing(self.folder / _RESULTS[0]) as path:
            parquet.write_table(table, path)
        with replacing(self.folder / _RESULTS[1]) as path:
            pandas.DataFrame(columns, dtype=object).map(_text).to_csv(path, index=False)
        for name in _RESULTS:
            self.changed(self.folder / name)

    def _columns(self, settings: list[Setting]) -> dict[str, list[Any]]:
        """Return the columns of the table: parameters, recorded values, and the outcome."""
        ended = [(setting, outcome) for setting in settings if (outcome := self.outcome(setting))]
        columns: dict[str, list[Any]] = {
            name: [setting.values[name] for setting, _ in ended] for name in settings[0].values
        }
        rows = [_flat(outcome["recorded"]) for _, outcome in ended]
        for name in dict.fromkeys(name for row in rows for name in row):
            column = f"recorded.{name}" if name.startswith("run.") else name
            while column in columns:
                column = f"recorded.{column}"
            columns[column] = [row.get(name) for row in rows]
        columns["run.name"] = [setting.name for setting, _ in ended]
        for name in ("state", "seconds", "cell", "error"):
            columns[f"run.{name}"] = [outcome[name] for _, outcome in ended]
        copies = [self.executed(setting) for setting, _ in ended]
        columns["run.notebook"] = [
            path.relative_to(self.folder).as_posix() if path.exists() else None for path in copies
        ]
        return columns


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
