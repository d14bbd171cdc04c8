import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from alhelpers import cli
from alhelpers.runs import NotebookError, ParameterError, kernels, recorded, run, runner


@pytest.fixture(scope="module")
def finished(write_notebook, tmp_path_factory):
    """A run by relative paths, in another working folder than the notebook's and the caller's."""
    folder = tmp_path_factory.mktemp("run")
    write_notebook(
        folder / "books" / "01_try_it.ipynb",
        'seed: int = 0\nname: str = "a"\nsizes: list[int] = [1]\n',
        "# Try it\n\nSee [the next one](02_go_on.ipynb#more) and [this](https://example.invalid/01_try_it.ipynb).",
        "import os, sys\nimport numpy as np\nfrom matplotlib import pyplot as plt\n"
        "from alhelpers.notebook import record, show",
        'record("seed", np.int64(seed))\nrecord("name", name)\nrecord("sizes", sizes)\nrecord("twice", 1)',
        'record("twice", 2)\nrecord("cwd", os.getcwd())\nrecord("python", sys.executable)\n'
        'record("values", {"mean": np.float32(0.5), "all": np.arange(2)})',
        'figure, axis = plt.subplots(figsize=(1, 1))\nshow(figure, alt="an <empty> frame", caption="Nothing in it.")',
    )
    (folder / "elsewhere").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        output = Path("out/deep/01_try_it.ipynb")
        result = run("books/01_try_it.ipynb", {"seed": 7, "sizes": [3, 4]}, output, cwd="elsewhere")
        assert Path.cwd() == folder
    return folder, result


@pytest.mark.process
def test_parameters_arrive_and_recorded_values_come_back(finished):
    folder, result = finished
    assert result.parameters == {"seed": 7, "sizes": [3, 4]}
    values = dict(result.recorded)
    assert os.path.samefile(values.pop("cwd"), folder / "elsewhere")
    assert values.pop("python") == sys.executable
    expected = {"seed": 7, "name": "a", "sizes": [3, 4], "twice": 2, "values": {"mean": 0.5, "all": [0, 1]}}
    assert values == expected and recorded(folder / result.output) == result.recorded
    assert recorded(folder / result.notebook) == {}  # which is left alone
    assert sorted(path.name for path in folder.iterdir()) == ["books", "elsewhere", "out"]
    assert list((folder / "elsewhere").iterdir()) == []


@pytest.mark.process
def test_a_failing_cell_is_named_and_the_copy_kept(notebook, tmp_path):
    path = notebook(
        "seed: int = 0",
        "from alhelpers.notebook import record\nrecord('before', seed)",
        "where = 'here'\nraise KeyError(where)",
        "record('after', 1)",
    )
    output = tmp_path / "out" / "a.ipynb"
    with pytest.raises(NotebookError) as caught:
        run(path, {"seed": 3}, output)
    message = str(caught.value)
    assert message.startswith("a.ipynb stopped at code cell [4], which begins \"where = 'here'\"")
    assert "KeyError: 'here'" in message and str(output) in message
    assert recorded(output) == {"before": 3}


# ------------------------------------------------------------------------------------------ refused before a run


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"sede": 1}, "a.ipynb has no parameter 'sede': did you mean 'seed'"),
        ({"seed": "1"}, r"'seed' is '1' \(str\): it takes int, such as 0"),
        ({"seed": None}, r"'seed' is None"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_written(notebook, tmp_path, parameters, message):
    path = notebook("seed: int = 0")
    with pytest.raises(ParameterError, match=message):
        run(path, parameters, tmp_path / "out" / "a.ipynb")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "output, error, message",
    [
        ("a.ipynb", FileExistsError, "a.ipynb is the notebook itself"),
        ("out/copy", NotebookError, "out/copy must be a notebook: choose a name that ends in .ipynb"),
    ],
)
def test_a_wrong_output_is_refused(notebook, tmp_path, monkeypatch, output, error, message):
    path = notebook("seed: int = 0")
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run(path, {}, output)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"text",
        b"[]",
        b'{"a": 1}',
        b"\xff\xfe",
        b'{"nbformat": 9, "nbformat_minor": 0, "cells": []}',
    ],
)
def test_a_file_that_is_missing_or_not_a_notebook_is_named(tmp_path, content):
    path = tmp_path / "a.ipynb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParameterError, match="a.ipynb can't be read as a notebook"):
        run(path, {}, tmp_path / "out.ipynb")


def test_a_notebook_without_a_parameters_cell_is_named(notebook, tmp_path):
    new = runner.nbformat.v4
    runner.nbformat.write(new.new_notebook(cells=[new.new_code_cell("1")]), tmp_path / "a.ipynb")
    with pytest.raises(ParameterError, match="a.ipynb has no cell tagged 'parameters': add the tag"):
        run(tmp_path / "a.ipynb", {}, tmp_path / "out.ipynb")


# ------------------------------------------------------------------------------------------------------ kernels


@pytest.fixture
def kernel_of(monkeypatch):
    """Have the kernel python3 start a given program."""

    def use(executable):
        found = SimpleNamespace(argv=[str(executable), "-m", "ipykernel_launcher"])
        monkeypatch.setattr(kernels.KernelSpecManager, "get_kernel_spec", lambda self, name: found)

    return use


def test_the_kernel_of_another_environment_is_refused(kernel_of, notebook, tmp_path):
    # As in a virtual environment, whose Python is a link to the same file.
    other = tmp_path / "other" / Path(sys.executable).name
    other.parent.mkdir()
    other.symlink_to(Path(sys.executable).resolve())
    path = notebook("seed: int = 0")
    for executable in (other, tmp_path / "removed" / "python"):
        kernel_of(executable)
        with pytest.raises(NotebookError, match=f"python3 starts {executable}.*kernelspec remove python3"):
            run(path, {}, tmp_path / "out" / "a.ipynb")
    assert not (tmp_path / "out").exists()


def test_the_kernel_of_this_environment_is_taken(kernel_of):
    for executable in ("python", "python3", sys.executable):
        kernel_of(executable)
        kernels.check_kernel()


def test_a_missing_kernel_is_named(monkeypatch):
    def missing(self, name):
        raise kernels.NoSuchKernel(name)

    monkeypatch.setattr(kernels.KernelSpecManager, "get_kernel_spec", missing)
    with pytest.raises(NotebookError, match="no kernel python3.*pip install ipykernel"):
        kernels.check_kernel()


def test_a_kernel_that_does_not_start_is_named(monkeypatch, notebook, tmp_path):
    import papermill

    def fail(*_, **__):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr(papermill, "execute_notebook", fail)
    path = notebook("seed: int = 0")
    with pytest.raises(NotebookError, match="the kernel of a.ipynb did not start: .* 60 seconds"):
        run(path, {}, tmp_path / "out.ipynb")


# -------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def given(monkeypatch):
    """What the command line hands to the runner."""
    calls = []

    def fake(notebook, parameters, output):
        calls.append(parameters)
        return runner.Run(notebook, output, parameters, {"accuracy": 0.5})

    monkeypatch.setattr("alhelpers.runs.run", fake)
    return calls


def test_the_command_line_passes_typed_values_and_prints_what_was_recorded(given, capsys):
    words = ["seed=3", "name=mnist", "sizes=[1, 2]", "flag=True", "path=a=b", "text='5'", "nothing="]
    options = [part for word in words for part in ("-p", word)]
    assert cli.main(["run", "a.ipynb", *options, "-o", "out.ipynb"]) == 0
    assert given == [
        {"seed": 3, "name": "mnist", "sizes": [1, 2], "flag": True, "path": "a=b", "text": "5", "nothing": ""}
    ]
    assert capsys.readouterr().out == "accuracy = 0.5\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (["run", "none.ipynb", "-o", "out.ipynb"], "error: none.ipynb can't be read as a notebook"),
        (["run", "none.ipynb", "-o", "out.ipynb", "-p", "seed"], "error: 'seed' is not NAME=VALUE"),
        (["tutorial", "--notebooks", "none", "--output", "out"], "error: there are no notebooks in none"),
    ],
)
def test_the_command_line_says_what_is_wrong(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    assert capsys.readouterr().err.startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_ends_with_2():
    with pytest.raises(SystemExit) as caught:
        cli.main(["dance"])
    assert caught.value.code == 2


@pytest.mark.process
def test_other_users_of_jsonschema_still_get_its_formats_checked():
    code = (
        "import alhelpers.runs, sys, jsonschema\n"
        "assert 'rfc3987_syntax' not in sys.modules  # loading it takes seconds\n"
        "checker = jsonschema.Draft202012Validator.FORMAT_CHECKER\n"
        "assert checker.conforms('http://example.invalid/ä', 'iri') and not checker.conforms('a b', 'iri')\n"
        "assert type(sys.modules['rfc3987_syntax'].__spec__.loader).__name__ == 'SourceFileLoader'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
