"""Which runs of a sweep are kept: a change of anything that they read runs them again."""

import os
import time

import pytest

from alhelpers import runs
from alhelpers.runs import Processes, SweepError, sweep
from alhelpers.runs.notebooks import nbformat


@pytest.fixture
def path(notebook):
    return notebook("seed: int = 0", "1")


def test_other_cells_run_anew_and_other_outputs_do_not(path, swept, ran):
    done, _ = ran
    swept([{"seed": 1}])
    document = nbformat.read(path, 4)
    document.cells[1].outputs = [nbformat.v4.new_output("stream", text="an old output")]
    nbformat.write(document, path)
    swept([{"seed": 1}])
    assert len(done) == 1
    document.cells[1].source += "\n1"
    nbformat.write(document, path)
    said = []
    table = swept([{"seed": 1}], say=said.append)
    assert len(done) == 2 and len(table) == 1
    assert said[0].startswith("1 runs of other versions (notebook changed) are left in")


@pytest.fixture
def written(tmp_path):
    """Write files beside the notebook."""

    def write(**contents):
        for name, content in contents.items():
            place = tmp_path / name.replace("__", ".").replace("_of_", "/")
            place.parent.mkdir(exist_ok=True)
            place.write_text(content)

    return write


@pytest.mark.parametrize(
    "code",
    [
        "import helper",
        "from helper import value",
        "import importlib\nhelper = importlib.import_module('helper')",
        "%run helper.py",
        "exec(open('helper.py').read())",
        "from package import part",
        "import package.part as part",
        "import sys\nsys.path.append('package')\nimport part",
    ],
)
@pytest.mark.parametrize("change", ["helper__py", "inner__py", "package_of_part__py"])
def test_a_changed_module_beside_the_notebook_runs_anew(notebook, tmp_path, ran, written, code, change):
    path = notebook("seed: int = 0", code)
    written(
        helper__py="from inner import deep\nvalue = 1",
        inner__py="import helper\ndeep = 1",
        package_of_part__py="import helper",
        other__py="unused = 1",
    )
    said = []
    for content in ("x = 1", "x = 2", "x = 2"):
        written(**{change: content, "other__py": content})
        sweep(path, {"seed": [0, 1]}, tmp_path / "out", 1, say=said.append)
    used = {
        "helper": "helper" in code or "par" in code,
        "inner": True,
        "package": "package" in code,
    }[name := change.split("_")[0]]
    assert len(ran[0]) == (4 if used else 2)
    assert any(f"2 runs of other versions ({name}" in line for line in said) == used
    assert any(
        line.startswith(
            "2 of 2 runs are finished already, with the same parameters, notebook, kernel, alhelpers"
        )
        for line in said
    )


@pytest.mark.parametrize(
    "code, name", [("%run ./helper-1.ipynb", "helper-1__ipynb"), ("source('tools.R')", "tools__R")]
)
def test_notebooks_and_code_in_other_languages_count(notebook, tmp_path, ran, written, code, name):
    path = notebook("seed: int = 0", code)
    for content in "12":
        written(**{name: content, "a__R": content})
        sweep(path, {}, tmp_path / "out", 1, say=list)
    assert len(ran[0]) == 2
    document = nbformat.read(path, 4)  # the notebook itself, which lies beside it, too, counts by its cells
    document.metadata["kept"] = 1
    nbformat.write(document, path)
    sweep(path, {}, tmp_path / "out", 1, say=list)
    assert len(ran[0]) == 2


@pytest.mark.parametrize("code", ["import far", "import sys\nsys.path.insert(0, '../lib')\nimport far"])
def test_a_module_in_another_folder_counts(notebook, tmp_path, ran, written, monkeypatch, code):
    path = notebook("seed: int = 0", code)
    (tmp_path / "work").mkdir()
    if "sys.path" not in code:
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'missing'}{os.pathsep}{tmp_path / 'lib'}")
    for content in ("x = 1", "x = 2"):
        written(lib_of_far__py=content)
        sweep(path, {}, tmp_path / "out", 1, cwd=tmp_path / "work", say=list)
    assert len(ran[0]) == 2


def test_a_changed_file_that_a_parameter_names_runs_its_runs_anew(notebook, tmp_path, ran, written):
    path = notebook("data: str = 'a.csv'\nseed: int = 0\nmore: list = []")
    written(a__csv="1", b__csv="1", c__csv="1")
    grid = [{"data": "a.csv"}, {"data": "b.csv"}, {"data": "none.csv", "more": [str(tmp_path / "c.csv")]}]
    said = []
    for change, runs_of in ({}, {0, 1, 2}), ({"b__csv": "2"}, {1}), ({"c__csv": "2"}, {2}), ({}, set()):
        ran[0].clear()
        written(**change)
        sweep(path, grid, tmp_path / "out", 1, say=said.append)
        assert ran[0] == [grid[number] for number in sorted(runs_of)]
    assert "1 runs of other versions (b.csv changed) are left in" in "\n".join(said)
    assert f"alhelpers, {tmp_path / 'c.csv'}, a.csv, b.csv; 2 runs of other versions are" in said[-1]


def test_a_file_that_changes_meanwhile_is_named(notebook, tmp_path, written, monkeypatch):
    path, said, contents = notebook("data: str = 'a.csv'\nseed: int = 0"), [], iter("123456")
    written(a__csv="0")

    def execute(self, request):
        written(a__csv=next(contents))
        return {"copy": "{}", "recorded": {}, "seconds": 1}

    monkeypatch.setattr(Processes, "execute", execute)
    for _ in range(2):
        sweep(path, {"seed": [0, 1]}, tmp_path / "out", 1, say=said.append)
    assert next(contents) == "5"
    assert sum(line.startswith("a.csv changed while the sweep ran") for line in said) == 2
    assert any("2 runs of other versions (a.csv changed)" in line for line in said)


def test_a_file_that_the_runs_write_does_not_count(notebook, tmp_path, ran, written):
    path = notebook("target: str = 'result.csv'\nseed: int = 0")
    for number in range(3):
        sweep(path, {"seed": [0, 1]}, tmp_path / "out", 1, say=list)
        written(result__csv=str(number))
        assert len(ran[0]) == 2


@pytest.mark.parametrize(
    ("code", "helper"),
    [
        ("read_csv('a.csv')", ""),
        ("%matplotlib inline\nread_csv('a.csv')", ""),
        ('source = r"\\d", """a.csv"""', ""),
        ("read_csv('data/a.csv')", ""),
        ("import helper", 'def read():\n    return read_csv("a.csv")'),
        ('read.csv("a.csv") -> table', ""),
        ("read_csv('a.csv').to_csv('b.csv')", ""),
        ("save(copy('a.csv'), 'b.csv')", ""),
        ("open('a.csv', mode='rb'), Path('b.csv').open('w'), open('b.csv', 'wb')", ""),
        ("Path('a.csv').read_text(), Path('b.csv').write_text('x'), plt.savefig(fname='b.csv')", ""),
    ],
)
def test_a_changed_file_that_the_code_names_runs_anew(notebook, tmp_path, ran, written, code, helper):
    path, cwd = notebook("seed: int = 0", code), len(code) % 2
    folder = tmp_path / ("work" if cwd else ".")
    folder.mkdir(exist_ok=True)
    start = "work_of_" if cwd else ""
    written(**{f"{start}helper__py": helper})
    (folder / "data").mkdir()
    said = []
    for runs_so_far, a, b in (2, "1", "1"), (2, "1", "2"), (4, "2", "2"):
        for name, content in {"a.csv": a, "data/a.csv": a, "b.csv": b, "c.csv": b}.items():
            (folder / name).write_text(content)
        sweep(path, {"seed": [0, 1]}, tmp_path / "out", 1, cwd=folder if cwd else None, say=said.append)
        assert len(ran[0]) == runs_so_far
    name = "data/a.csv" if "data" in code else "a.csv"
    assert any(f"2 runs of other versions ({name} changed) are left in" in line for line in said)
    assert any(line.startswith("2 of 2 runs are finished already") and f", {name}" in line for line in said)


def test_a_default_counts_only_for_the_settings_that_keep_it(notebook, tmp_path, ran, written):
    path = notebook("data: str = 'a.csv'\nextra = Path('b.csv')")
    for runs_so_far, a, b in (2, "1", "1"), (3, "2", "1"), (5, "2", "2"):
        written(a__csv=a, b__csv=b)
        sweep(path, [{}, {"data": "c.csv"}], tmp_path / "out", 1, say=list)
        assert len(ran[0]) == runs_so_far


@pytest.mark.parametrize(
    ("code", "is_there"),
    [
        ("name = 'result.csv'\nframe.to_csv(name)", False),
        ("frame.to_csv('result.csv')", False),
        ("frame.to_csv('result.csv')", True),  # as a notebook that was run by hand leaves it
    ],
)
def test_a_file_that_the_code_writes_does_not_count(notebook, tmp_path, written, monkeypatch, code, is_there):
    path, done = notebook("seed: int = 0", code), []
    if is_there:
        written(result__csv="old")

    def execute(self, request):
        done.append(request)
        written(result__csv=str(len(done)))
        return {"copy": "{}", "recorded": {}, "seconds": 1}

    monkeypatch.setattr(Processes, "execute", execute)
    for seeds in (1, 2, 3, 3):
        sweep(path, {"seed": list(range(seeds))}, tmp_path / "out", 1, say=list)
        assert len(done) == seeds


def test_another_kernel_runs_anew(swept, other_kernels, ran):
    swept({"seed": [0]})
    said = []
    swept({"seed": [0]}, kernel="other", say=said.append)
    assert len(ran[0]) == 2 and said[0].startswith("1 runs of other versions (kernel changed)")


def test_fresh_runs_all_again(swept, ran):
    swept({"seed": [0, 1]})
    swept({"seed": [0, 1]}, fresh=True)
    assert len(ran[0]) == 4
    swept({"seed": [0, 1]})
    assert len(ran[0]) == 4


@pytest.mark.parametrize("module", ["helper", "alhelpers"])
def test_a_module_that_changes_meanwhile_stops_the_sweep(notebook, tmp_path, written, monkeypatch, module):
    path = notebook("seed: int = 0", "import helper")
    written(helper__py="x = 1", alhelpers_of_runs__py="x = 1")
    monkeypatch.setattr("alhelpers.runs.sources._PACKAGE", tmp_path / "alhelpers")
    change = {"helper": "helper__py", "alhelpers": "alhelpers_of_runs__py"}[module]
    done = []

    def execute(self, request):
        done.append(request["parameters"]["seed"])
        if len(done) == 2:
            while not list(tmp_path.glob("out/runs/*/run.json")):
                time.sleep(0.01)
            written(**{change: "x = 2"})
            nbformat.write(nbformat.v4.new_notebook(), path)  # which changes no run: they have its text
        return {"copy": "{}", "recorded": {}, "seconds": 1}

    monkeypatch.setattr(Processes, "execute", execute)
    with pytest.raises(
        SweepError, match=f"{module} changed while the sweep ran: 1 of 3 runs are finished and kept"
    ):
        sweep(path, {"seed": [0, 1, 2]}, tmp_path / "out", 1, say=list)
    assert done[:2] == [0, 1] and runs.results(tmp_path / "out")["seed"].to_list() == [0]
