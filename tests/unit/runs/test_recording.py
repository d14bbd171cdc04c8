"""Recorded values: written, compared with, and put into the notebooks and the README."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from alhelpers.runs import recording
from alhelpers.runs.notebooks import METADATA_KEY, RECORD_MIME, nbformat
from alhelpers.runs.recording import compare, read_recorded, record_runs
from alhelpers.runs.runner import Run

VALUES = {
    "share": 0.6041234567,
    "labels": {"margin": 81, "random": 220.0},
    "best": "margin",
    "model": "clone-1",
}
TOLERANCES = {"model": "inf", "labels": "5.0"}
INTRO = (
    "# 1. Try it\n**The result:** 61 %<!-- share:.0% -->\n\n![old](pictures/01_try.png)\n\n"
    "**Time:** 3 min<!-- seconds:time -->"
)
PROSE = (
    "## So\n81<!-- labels.margin --> of `220`<!-- labels.random:.0f -->, entropy<!-- best -->, 7<!-- seed -->"
)
README = "![old](notebooks/pictures/01_try.png) 10 %<!-- 01_try.share:.0% --> <!-- a note -->"


def picture(size):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def folder(tmp_path, write_notebook):
    """A notebook beside a README."""
    path = tmp_path / "notebooks" / "01_try.ipynb"
    write_notebook(path, "seed: int = 7", INTRO, PROSE)
    (tmp_path / "README.md").write_text(README)
    return tmp_path


@pytest.fixture
def finish(folder):
    """Return a finished run of the notebook that recorded values and showed pictures."""

    def make(values=VALUES, *, results=1, size=8, seconds=42.3):
        outputs = []
        for name, value in values.items():
            kept = {METADATA_KEY: {"tolerance": TOLERANCES[name]}} if name in TOLERANCES else {}
            data = {RECORD_MIME: {name: value}, "text/plain": ""}
            outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=kept))
        for _ in range(results):
            metadata = {"image/png": {"alt": "two [red]\nlines"}, METADATA_KEY: {"result": True}}
            outputs.append(
                nbformat.v4.new_output("display_data", data={"image/png": picture(size)}, metadata=metadata)
            )
        executed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
        nbformat.write(executed, folder / "executed.ipynb")
        return Run(folder / "notebooks" / "01_try.ipynb", folder / "executed.ipynb", {}, values, seconds)

    return make


def markdown(folder):
    document = nbformat.read(folder / "notebooks" / "01_try.ipynb", as_version=4)
    return [cell.source for cell in document.cells if cell.cell_type == "markdown"]


def test_values_picture_and_prose_are_written(folder, finish):
    said = []
    assert record_runs(folder / "notebooks", [finish()], said.append) == []
    assert read_recorded(folder / "notebooks") == {
        "01_try": {
            "seconds": 40,
            "values": VALUES | {"share": 0.604123},
            "tolerances": {"labels": 5.0, "model": "inf"},
        }
    }
    intro, prose = markdown(folder)
    assert intro == INTRO.replace("61 %", "60 %").replace("3 min", "40 s").replace("old", "two (red) lines")
    assert prose == PROSE.replace("entropy", "margin")
    assert (folder / "README.md").read_text() == README.replace("10 %", "60 %").replace(
        "old", "two (red) lines"
    )
    assert sum("61 % -> 60 %" in line and "01_try.ipynb, " in line for line in said) == 1
    assert sum("10 % -> 60 %" in line and "README.md" in line for line in said) == 1
    with Image.open(folder / "notebooks" / "pictures" / "01_try.png") as image:
        assert image.size == (8, 8) and image.mode == "P"


def test_recording_the_same_again_changes_no_byte(folder, finish):
    run, said = finish(), []
    record_runs(folder / "notebooks", [run], print)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    record_runs(folder / "notebooks", [run], said.append)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(said) == 1


def test_entries_of_other_notebooks_stay_unless_they_are_gone(folder, finish, write_notebook):
    write_notebook(folder / "notebooks" / "02_other.ipynb", "seed: int = 0")
    entry = {"seconds": 1, "values": {"a": 1}, "tolerances": {}}
    path = folder / "notebooks" / recording.RECORDED
    path.write_text(json.dumps({"02_other": entry, "03_gone": entry}))
    record_runs(folder / "notebooks", [finish()], print)
    assert list(read_recorded(folder / "notebooks")) == ["01_try", "02_other"]
    assert read_recorded(folder / "notebooks")["02_other"] == entry


def test_what_a_person_has_to_correct_is_returned(folder, finish):
    few = {name: value for name, value in VALUES.items() if name != "best"}
    found = record_runs(folder / "notebooks", [finish(few, results=0)], print)
    assert len(found) == 2 and "shows 0 results: pass result=True" in found[0]
    assert "names no recorded value at 'best'" in found[1]
    (large,) = record_runs(folder / "notebooks", [finish(size=300)], print)
    assert "01_try.png has" in large and "more than 80: draw it smaller" in large


def test_a_run_is_compared_leaf_by_leaf(folder, finish):
    record_runs(folder / "notebooks", [finish()], print)
    recorded = read_recorded(folder / "notebooks")
    assert compare([finish()], recorded) == (4, [])
    near = {"share": 0.62, "labels": {"margin": 86, "random": 216.0}, "best": "margin", "model": "other"}
    assert compare([finish(near)], recorded) == (4, [])
    far = {"share": 0.63, "labels": {"margin": 87, "random": 214.0}, "best": "coreset", "more": 1}
    count, found = compare([finish(far)], recorded)
    assert count == 3
    assert found == [
        "01_try: share is 0.63, recorded as 0.604123",
        "01_try: labels.margin is 87, recorded as 81",
        "01_try: labels.random is 214, recorded as 220",
        '01_try: best is "coreset", recorded as "margin"',
        "01_try: model is no longer recorded",
        "01_try: more is not recorded",
    ]
    assert compare([finish()], {}) == (0, ["01_try: nothing is recorded"])


@pytest.mark.parametrize(
    "new, old, agree",
    [
        (3, 3, True),
        (3, 4, False),
        (True, 1, False),
        (1, True, False),
        (3.0, 3, True),
        (0.02, 0.0, True),
        (0.03, 0.0, False),
        (102.0, 100.0, True),
        (103.0, 100.0, False),
        (None, None, True),
        (None, 0, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 2, 3], False),
        ({"a": [0.5, {"b": 0.51}]}, {"a": [0.51, {"b": 0.5}]}, True),
        ({"a": 1}, {"b": 1}, False),
        ({"0": 1}, [1], False),
    ],
)
def test_the_default_tolerances(new, old, agree, finish):
    recorded = {"01_try": {"seconds": 1, "values": {"x": old}, "tolerances": {}}}
    assert (compare([finish({"x": new})], recorded)[1] == []) == agree


def test_keys_that_are_numbers_are_compared_as_json_has_them(finish):
    recorded = {"01_try": {"seconds": 1, "values": {"x": {"2": 1}}, "tolerances": {"x": math.inf}}}
    assert compare([finish({"x": {2: 1}})], recorded) == (1, [])
