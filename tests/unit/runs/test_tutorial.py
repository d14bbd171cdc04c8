"""The tutorial's order; what runs a notebook is tested beside this and replaced here."""

import base64
import threading
from types import SimpleNamespace

import pytest

from alhelpers import cli, platform
from alhelpers.runs import NotebookError, runner, tutorial
from alhelpers.runs.recording import read_recorded, record_runs

PIXEL = base64.b64encode(b"not really a picture").decode()


@pytest.fixture
def folder(write_notebook, tmp_path):
    """Four notebooks, the first two with a platform that they share, the third with its own, and a draft."""
    books = tmp_path / "notebooks"
    books.mkdir()
    write_notebook(books / "02_go_on.ipynb", 'state_dir: str = ""', "# Go on")
    write_notebook(books / "01_begin.ipynb", 'state_dir: str = "x"', "# Begin", "1 + 1")
    write_notebook(books / "07_apart.ipynb", 'state_dir: str = ""', "# Apart")
    write_notebook(books / "10_end.ipynb", "seed: int = 0", "No title here")
    write_notebook(books / "draft.ipynb", "seed: int = 0", "# Draft")
    return books


@pytest.fixture
def calls(monkeypatch):
    """Copy a notebook, with a picture in it, instead of running it; fail where asked to."""
    made, failing, nbformat = [], set(), runner.nbformat

    def fake(notebook, parameters, output, *, processes):
        made.append((notebook.name, parameters))
        output.parent.mkdir(parents=True, exist_ok=True)
        document = nbformat.read(notebook, as_version=4)
        page = f'<figure><img alt="shows {notebook.stem}" src="data:image/png;base64,{PIXEL}"></figure>'
        data = {"text/html": page, "image/png": PIXEL, "text/plain": "a picture"}
        document.cells[0].outputs = [nbformat.v4.new_output("display_data", data=data)]
        nbformat.write(document, output)
        if notebook.stem in failing:
            raise NotebookError(f"{notebook.name} stopped")
        return runner.Run(
            notebook, output, parameters, {"accuracy": 0.51234, "action": "update", "items": 3}, 12.4
        )

    monkeypatch.setattr(tutorial, "run", fake)
    return made, failing


@pytest.fixture
def run_all(folder, calls, tmp_path):
    """Run the tutorial into the folder output."""
    return lambda say=lambda _: None, only=(): tutorial.run_tutorial(
        folder, tmp_path / "output", only=only, say=say
    )


def test_the_first_notebooks_share_a_platform_and_all_name_the_site(run_all, calls, tmp_path):
    made, _ = calls
    output, told = tmp_path / "output", []
    runs = run_all(told.append)
    shared = {"state_dir": str(output / "platform" / "in_order")}
    own = {"state_dir": str(output / "platform" / "07")}
    assert made[0] == ("01_begin.ipynb", shared)
    assert sorted(made[1:]) == [("02_go_on.ipynb", shared), ("07_apart.ipynb", own), ("10_end.ipynb", {})]
    assert [run.notebook.name for run in runs] == sorted(name for name, _ in made)
    assert sum("accuracy = 0.5123; items = 3" in line for line in told) == 4
    assert str(output) in told[-1] and "./run docs" in told[-1]


def test_a_failure_keeps_the_copies_so_far(run_all, calls, tmp_path):
    made, failing = calls
    failing.add("02_go_on")
    with pytest.raises(NotebookError, match="02_go_on.ipynb stopped"):
        run_all()
    assert {name for name, _ in made} >= {"01_begin.ipynb", "02_go_on.ipynb"}
    assert "shows 02_go_on" in (tmp_path / "output" / "02_go_on.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("apart", ["07_apart", "10_end"])
def test_a_notebook_that_does_not_go_on_runs_beside_the_others(run_all, calls, monkeypatch, apart, fails):
    made, failing = calls
    fake, begun, free = tutorial.run, threading.Event(), threading.Event()
    failing |= {apart} if fails else set()

    def run(notebook, *arguments, **options):
        if notebook.stem == apart:
            begun.set()
            assert free.wait(20)
        elif notebook.stem == "02_go_on":
            assert begun.wait(20)
            free.set()
        return fake(notebook, *arguments, **options)

    monkeypatch.setattr(tutorial, "run", run)
    if fails:
        with pytest.raises(NotebookError, match=f"{apart}.ipynb stopped"):
            run_all()
    else:
        assert len(run_all()) == 4
    assert made[0][0] == "01_begin.ipynb"


def test_only_what_an_earlier_run_left_is_removed(run_all, tmp_path):
    output = tmp_path / "output"
    keep = [output / "thesis.txt", output / "photos" / "cat.png", output / "my.ipynb"]
    remove = [output / "platform" / "07" / "old.db", output / "03_old.ipynb", output / "platform" / "old.db"]
    for path in [*keep, *remove]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    run_all()
    assert all(path.exists() for path in keep)
    assert not any(path.exists() for path in remove)


def test_some_are_run_alone_and_the_other_copies_stay(run_all, calls, tmp_path):
    run_all()
    calls[0].clear()
    assert [run.notebook.stem for run in run_all(only=["10", "02"])] == ["02_go_on", "10_end"]
    assert len(calls[0]) == 2
    copies = [path.stem for path in sorted((tmp_path / "output").glob("*.ipynb"))]
    assert copies == ["01_begin", "02_go_on", "07_apart", "10_end"]
    with pytest.raises(FileNotFoundError, match="no notebook 08, 99 in .*: there are 01, 02, 07, 10"):
        run_all(only=["99", "02", "08"])


def test_a_platform_that_is_named_is_shared_by_all_in_order(folder, calls, tmp_path):
    state_dir = {"state_dir": str(tmp_path / "mine")}
    tutorial.run_tutorial(folder, tmp_path / "output", state_dir, say=lambda _: None)
    on_platform = [each for each in calls[0] if each[1]]
    assert on_platform == [(f"{name}.ipynb", state_dir) for name in ("01_begin", "02_go_on", "07_apart")]


def test_a_run_is_compared_with_what_is_recorded(run_all, folder):
    said = []
    runs = run_all()
    tutorial.check_runs(folder, runs, said.append)
    assert said[-1].endswith("0 values, 4 out of tolerance")
    record_runs(folder, runs, print)
    tutorial.check_runs(folder, runs, said.append)
    assert said[-1].endswith("12 values, none out of tolerance")


def test_the_command_records_only_at_the_defaults(folder, calls, tmp_path, capsys):
    words = ["tutorial", "--notebooks", str(folder), "--output", str(tmp_path / "output"), "--only", "02"]
    assert cli.main([*words, "--record", "-p", "state_dir=y"]) == 1
    assert "--record takes no parameters, got state_dir=y" in capsys.readouterr().err
    assert calls[0] == []
    assert cli.main([*words, "--record"]) == 1
    printed = capsys.readouterr()
    assert "recorded.json" in printed.out
    assert "correct this: 02_go_on shows 0 results" in printed.err
    assert list(read_recorded(folder)) == ["02_go_on"]
    assert cli.main(words) == 0
    assert "3 values, none out of tolerance" in capsys.readouterr().out
    assert cli.main([*words, "-p", "state_dir=y"]) == 0
    assert "compared" not in capsys.readouterr().out


def test_an_earlier_platform_is_stopped_before_its_folder_goes(run_all, tmp_path, monkeypatch):
    stopped, state = [], tmp_path / "output" / "platform" / "state.db"
    state.parent.mkdir(parents=True)
    state.write_text("x")
    earlier = SimpleNamespace(stop=lambda: stopped.append(state.exists()))
    monkeypatch.setattr(platform, "running", lambda folder: earlier)
    run_all()
    assert stopped == [True]


def test_the_notebooks_are_never_the_output(folder, calls):
    with pytest.raises(FileExistsError, match="is the folder of the notebooks"):
        tutorial.run_tutorial(folder, folder / ".." / "notebooks")
    assert len(list(folder.glob("*.ipynb"))) == 5


def test_a_folder_without_notebooks_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there are no notebooks in {tmp_path}"):
        tutorial.run_tutorial(tmp_path, tmp_path / "output")
    assert not (tmp_path / "output").exists()
