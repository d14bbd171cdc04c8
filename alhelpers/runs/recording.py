"""``recorded.json``, the values of the tutorial at its defaults: written, compared with, and put into prose."""

import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from alhelpers.files import replacing, write_text
from alhelpers.runs import claims
from alhelpers.runs.notebooks import nbformat, parameters_of, results_in, tolerances_in
from alhelpers.runs.parameters import Expression
from alhelpers.runs.runner import Run

#: Beside the notebooks.
RECORDED = "recorded.json"
PICTURES = "pictures"

#: How far a number that is not whole may be from the recorded one: the larger of the two.
_RELATIVE, _ABSOLUTE = 0.02, 0.02

#: Significant digits of recorded numbers.
_DIGITS = 6

#: In bytes; what a picture may have.
MAX_PICTURE = 80_000

#: A tie in a README begins with the name of a notebook.
_FROM_NOTEBOOK = re.compile(r"\d\d_\w+\.")

#: By notebook: seconds, values, tolerances.
Recorded = dict[str, dict[str, Any]]


def read_recorded(notebooks: Path) -> Recorded:
    """Return what stands in the file of recorded values, nothing if it is missing."""
    path = notebooks / RECORDED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def scope_of(notebook: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """Return what ties in a notebook may name: its values, before its parameters, before its seconds."""
    parameters = parameters_of(notebook).items()
    defaults = {name: each.default for name, each in parameters if not isinstance(each.default, Expression)}
    return {"seconds": entry["seconds"]} | defaults | entry["values"]


def scopes_of(notebooks: Path, recorded: Recorded) -> dict[str, dict[str, Any]]:
    """Return what ties in a README may name, by notebook."""
    paths = {name: notebooks / f"{name}.ipynb" for name in recorded}
    return {name: scope_of(path, recorded[name]) for name, path in paths.items() if path.exists()}


def is_of_notebook(comment: str) -> bool:
    """Return whether a comment in a README is a tie."""
    return bool(_FROM_NOTEBOOK.match(comment))


# ------------------------------------------------------------------------------
# comparing
# ------------------------------------------------------------------------------


def compare(runs: Iterable[Run], recorded: Recorded) -> tuple[int, list[str]]:
    """Return how many values were compared with recorded ones, and a line for each that is out of its tolerance."""
    count, found = 0, []
    for run in runs:
        name = run.notebook.stem
        if name not in recorded:
            found.append(f"{name}: nothing is recorded")
            continue
        values, tolerances = recorded[name]["values"], recorded[name]["tolerances"]
        for key in {**values, **run.recorded}:
            if key not in values or key not in run.recorded:
                found.append(f"{name}: {key} is {'not' if key in run.recorded else 'no longer'} recorded")
                continue
            count += 1
            # As JSON holds it: keys are texts.
            new, tolerance = json.loads(json.dumps(run.recorded[key])), tolerances.get(key)
            differing = _differences(new, values[key], None if tolerance is None else float(tolerance))
            found += [f"{name}: {key}{line}" for line in differing]
    return count, found


def _differences(new: Any, old: Any, tolerance: float | None, path: str = "") -> Iterator[str]:
    """Yield a line for each leaf that differs."""
    if tolerance == math.inf:
        return
    parts = [dict(enumerate(each)) if isinstance(each, list) else each for each in (new, old)]
    if type(new) is type(old) and isinstance(parts[0], dict) and parts[0].keys() == parts[1].keys():
        for key in parts[1]:
            yield from _differences(parts[0][key], parts[1][key], tolerance, f"{path}.{key}")
    elif not _agree(new, old, tolerance):
        shown = [
            f"{each:.{_DIGITS}g}" if isinstance(each, float) else json.dumps(each) for each in (new, old)
        ]
        yield f"{path} is {shown[0]}, recorded as {shown[1]}"


def _agree(new: Any, old: Any, tolerance: float | None) -> bool:
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (new, old))
    if not numbers:
        return new == old and type(new) is type(old)
    if tolerance is None:
        whole = isinstance(new, int) and isinstance(old, int)
        tolerance = 0 if whole else max(_RELATIVE * abs(old), _ABSOLUTE)
    # The recorded number is rounded.
    return abs(new - old) <= tolerance + 10.0 ** (1 - _DIGITS) * abs(old)


# ------------------------------------------------------------------------------
# recording
# ------------------------------------------------------------------------------


def record_runs(notebooks: Path, runs: Iterable[Run], say: Callable[[str], None]) -> list[str]:
    """Write values and pictures of finished runs beside the notebooks, and put the values into the prose.

    Entries of other notebooks stay, unless the notebook is gone. Returns what a person has to correct, a line each.
    """
    earlier = read_recorded(notebooks)
    recorded = {name: entry for name, entry in earlier.items() if (notebooks / f"{name}.ipynb").exists()}
    alts: dict[str, str] = {}
    found: list[str] = []
    for run in runs:
        name = run.notebook.stem
        document = nbformat.read(str(run.output), as_version=4)
        recorded[name] = {
            "seconds": _rounded_time(run.seconds),
            "values": _rounded(json.loads(json.dumps(run.recorded))),
            "tolerances": {
                key: "inf" if each == math.inf else each for key, each in tolerances_in(document).items()
            },
        }
        results = results_in(document)
        if len(results) == 1:
            alts[f"{name}.png"] = results[0][1]
            found += _write_picture(notebooks / PICTURES / f"{name}.png", results[0][0])
        else:
            found.append(f"{name} shows {len(results)} results: pass result=True to show() for one figure")
    write_text(notebooks / RECORDED, _as_json(recorded))
    say(f"recorded: {notebooks / RECORDED}")
    scopes, known = scopes_of(notebooks, recorded), scopes_of(notebooks, earlier)
    for name, scope in scopes.items():
        before = known | known.get(name, {})
        found += _rewrite_notebook(notebooks / f"{name}.ipynb", scopes | scope, before, alts, say)
    readme = notebooks.parent / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        new, changes = claims.rewrite(_with_alts(text, alts), scopes, is_of_notebook, earlier=known)
        if new != text:
            write_text(readme, new)
        for change in changes:
            say(f"{readme.name}: {change}")
        found += [f"{readme.name}: {each}" for each in claims.problems(new, scopes, is_of_notebook)]
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _rounded_time(seconds: float) -> int:
    """Round seconds so that the next run mostly writes the same: to fives, and small ones to whole seconds."""
    return round(seconds) if seconds < 20 else 5 * round(seconds / 5)


def _as_json(recorded: Recorded) -> str:
    """Return JSON with a line for each value."""
    parts = []
    for name in sorted(recorded):
        entry = recorded[name]
        values = ",\n".join(
            f"   {json.dumps(key)}: {json.dumps(entry['values'][key], ensure_ascii=False)}"
            for key in entry["values"]
        )
        parts.append(
            f' "{name}": {{\n  "seconds": {entry["seconds"]},\n  "values": {{\n{values}\n  }},\n'
            f'  "tolerances": {json.dumps(entry["tolerances"], ensure_ascii=False)}\n }}'
        )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _write_picture(target: Path, png: bytes) -> list[str]:
    """Write a figure with few colours; return a line if it is too large."""
    with replacing(target) as part:
        # A palette makes it a third as large; what the plotting library writes about itself is left out.
        Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(part, "PNG", optimize=True)
    size = target.stat().st_size
    if size <= MAX_PICTURE:
        return []
    return [f"{target.name} has {size / 1000:.0f} kB, more than {MAX_PICTURE / 1000:.0f}: draw it smaller"]


def _rewrite_notebook(
    path: Path,
    scope: dict[str, Any],
    earlier: dict[str, Any],
    alts: dict[str, str],
    say: Callable[[str], None],
) -> list[str]:
    """Put the values into the markdown cells of a notebook; return what is wrong with its ties."""
    document = nbformat.read(str(path), as_version=4)
    changed, found = False, []
    for cell in document.cells:
        if cell.cell_type != "markdown":
            continue
        where = f"{path.name}, {cell.id}"
        new, changes = claims.rewrite(_with_alts(cell.source, alts), scope, earlier=earlier)
        changed |= new != cell.source
        cell.source = new
        for change in changes:
            say(f"{where}: {change}")
        found += [f"{where}: {each}" for each in claims.problems(new, scope)]
    if changed:
        write_text(path, nbformat.writes(document) + "\n")
    return found


def _with_alts(text: str, alts: dict[str, str]) -> str:
    """Return a markdown text whose pictures have these alternative texts, by the names of their files."""
    for name, alt in alts.items():
        plain = " ".join(alt.translate(str.maketrans("[]", "()")).split())
        target = rf"\(([^()\s]*{PICTURES}/{re.escape(name)})\)"
        text = re.sub(rf"!\[[^\[\]]*\]{target}", lambda found: f"![{plain}]({found[1]})", text)  # noqa: B023
    return text
