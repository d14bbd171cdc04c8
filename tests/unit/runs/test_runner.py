import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from nbclient import NotebookClient

from alhelpers import cli
from alhelpers.runs import NotebookError, ParameterError, kernels, recorded, run, runner
from alhelpers.runs.notebooks import RECORD_MIME, nbformat


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


def test_a_copy_that_can_not_be_written_leaves_nothing(notebook, tmp_path, processes, large_files_refused):
    path, output = notebook("seed: int = 0", "print('x' * 200_000)"), tmp_path / "out.ipynb"
    with pytest.raises(OSError, match=f"File too large: '{output}'"):
        run(path, {}, output, processes=processes)
    assert list(tmp_path.iterdir()) == [path]


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
    document = nbformat.v4.new_notebook()
    for executable in ("python", "python3", sys.executable):
        kernel_of(executable)
        assert kernels.kernel_of(document) == "python3"
    kernel_of("/other/python")
    assert kernels.kernel_of(document, "python3") == "python3"  # which was asked for


def name_kernel(path, **kernelspec):
    document = nbformat.read(path, 4)
    document.metadata["kernelspec"] = {"display_name": "x", "language": "python"} | kernelspec
    nbformat.write(document, path)


def executed_by_papermill(path, parameters, output):
    import papermill

    return papermill.execute_notebook(path, output, parameters, cwd=path.parent, progress_bar=False)


def outputs(path):
    return [cell.get("outputs") for cell in nbformat.read(path, 4).cells]


@pytest.mark.parametrize("fork", [True, False])
def test_the_kernel_of_another_environment_runs_there(other_kernels, notebook, tmp_path, processes, fork):
    path = notebook(
        "seed: int = 0",
        f"import os, sys\ndisplay({{{RECORD_MIME!r}: "
        "{'seed': seed, 'prefix': sys.prefix, 'mark': os.environ['MARK']}, 'text/plain': ''}, raw=True)",
    )
    name_kernel(path, name="other")
    found = run(path, {"seed": 3}, tmp_path / "out.ipynb", processes=processes if fork else None)
    assert found.recorded == {"seed": 3, "prefix": str(other_kernels), "mark": "set"}
    name_kernel(path, name="elsewhere")
    with pytest.raises(
        NotebookError, match="no kernel 'elsewhere'; installed are: broken, echo, other, python3, unknown"
    ):
        run(path, {}, tmp_path / "out.ipynb", processes=processes)
    again = run(path, {"seed": 3}, tmp_path / "again.ipynb", kernel="other", processes=processes)
    assert again.recorded == found.recorded
    with pytest.raises(NotebookError, match="kernel of a.ipynb did not start: .*gone"):
        run(path, {}, tmp_path / "out.ipynb", kernel="broken", processes=processes)


def test_another_language_gets_its_parameters_as_from_papermill(other_kernels, notebook, tmp_path, processes):
    path = notebook("seed <- 1\nflag <- FALSE", "print(seed)")
    name_kernel(path, name="echo", language="R")
    values = {"flag": True, "seed": 2}
    run(path, values, tmp_path / "out.ipynb", processes=processes)
    executed_by_papermill(path, values, tmp_path / "plain.ipynb")
    assert outputs(tmp_path / "out.ipynb") == outputs(tmp_path / "plain.ipynb")
    assert "flag = TRUE" in outputs(tmp_path / "out.ipynb")[1][0]["text"]
    with pytest.raises(ParameterError, match="no parameter 'sede': did you mean 'seed'"):
        run(path, {"sede": 1}, tmp_path / "out.ipynb", processes=processes)
    with pytest.raises(
        NotebookError, match="papermill can't run a.ipynb: No parameter translator .*'klingon'"
    ):
        run(path, values, tmp_path / "out.ipynb", kernel="unknown", processes=processes)


def test_a_parameters_cell_of_any_form_runs_as_by_papermill(notebook, tmp_path, caplog):
    cell = (
        "import math\nfrom pathlib import Path\nC = None; rate = 10**-3; text = 'a=b'  # = not '#'\n"
        "limit: float | None = None\na, b = 1, -2\nfolder: Path = Path('x')\nmissing: int\n"
        "high: float = math.inf\nshape: tuple = (1, 2)\nversion: str = '1'"
    )
    path = notebook(
        cell, "print(C, rate, text, limit, a, b, folder, high, shape, version, globals().get('missing'))"
    )
    given = {"C": [1, None, {"x": 0.5}], "b": -3, "limit": float("-inf"), "version": "1.10", "missing": 2}
    for values in {}, given:
        run(path, values, tmp_path / "out.ipynb")
        assert caplog.text == ""  # no warning of parameters that papermill can't read
        executed_by_papermill(path, values, tmp_path / "plain.ipynb")
        assert outputs(tmp_path / "out.ipynb") == outputs(tmp_path / "plain.ipynb")
        assert bool(values) == ("Passed unknown parameter" in caplog.text)
        caplog.clear()


def test_an_expected_error_is_none(notebook, tmp_path, processes):
    path = notebook(
        "seed: int = 0", "1 / 0", f"display({{{RECORD_MIME!r}: {{'after': 1}}}}, raw=True)", "seed[0]"
    )
    document = nbformat.read(path, 4)
    document.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(document, path)
    with pytest.raises(NotebookError, match="stopped at code cell .4.*TypeError"):
        run(path, {}, tmp_path / "out.ipynb", processes=processes)
    assert recorded(tmp_path / "out.ipynb") == {"after": 1}
    document.cells.pop()
    nbformat.write(document, path)
    assert run(path, {}, tmp_path / "out.ipynb", processes=processes).recorded == {"after": 1}
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    plain = NotebookClient(nbformat.read(path, 4), kernel_name="python3").execute()
    assert [cell.source for cell in executed.cells] == [cell.source for cell in plain.cells]
    assert [output.output_type for cell in executed.cells for output in cell.outputs] == [
        "error",
        "display_data",
    ]


def test_what_papermill_injected_before_is_gone(notebook, tmp_path, processes):
    path = notebook(
        "seed: int = 0\nother: int = 0", f"display({{{RECORD_MIME!r}: {{'both': [seed, other]}}}}, raw=True)"
    )
    run(path, {"seed": 1}, tmp_path / "first.ipynb", processes=processes)
    for values, both in ({}, [0, 0]), ({"other": 2}, [0, 2]):
        again = run(tmp_path / "first.ipynb", values, tmp_path / "out.ipynb", processes=processes)
        assert again.recorded["both"] == both


def test_a_kernel_that_does_not_start_is_named(monkeypatch, notebook, tmp_path):
    import papermill

    def fail(*_, **__):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr(papermill, "execute_notebook", fail)
    path = notebook("seed: int = 0")
    with pytest.raises(NotebookError, match="the kernel of a.ipynb did not start: .* 60 seconds"):
        run(path, {}, tmp_path / "out.ipynb")


# -------------------------------------------------------------------------------------------------- command line


def test_the_command_line_passes_typed_values_and_prints_what_was_recorded(
    notebook, tmp_path, monkeypatch, capsys
):
    calls = []

    def fake(notebook, parameters, output, **options):
        calls.append((parameters, options))
        return runner.Run(notebook, output, parameters, {"accuracy": 0.5}, 1.0)

    monkeypatch.setattr("alhelpers.runs.run", fake)
    monkeypatch.chdir(tmp_path)
    notebook("seed: int = 0\nname = ''\nversion: str = '1'\nrate: float = 1")
    words = ["seed=3", "name=mnist", "version=1.10", "rate=inf"]
    options = [part for word in words for part in ("-p", word)]
    assert cli.main(["run", "a.ipynb", *options, "-o", "out.ipynb", "--cwd", ".", "-k", "other"]) == 0
    given = {"seed": 3, "name": "mnist", "version": "1.10", "rate": float("inf")}
    assert calls == [(given, {"cwd": Path("."), "kernel": "other"})]
    assert capsys.readouterr().out == "accuracy = 0.5\n"


FILE = "file/below/a.ipynb"


@pytest.mark.parametrize(
    "words, message",
    [
        ("run none.ipynb -o out.ipynb", "none.ipynb can't be read as a notebook"),
        ("run a.ipynb -o out.ipynb -p seed", "'seed' is not NAME=VALUE"),
        ("run a.ipynb -o out.ipynb -p sede=1", "a.ipynb has no parameter 'sede': did you mean 'seed'"),
        ("run a.ipynb -o out.ipynb -k none", "there is no kernel 'none'; installed are: .*python3"),
        ("run a.ipynb -o out.ipynb --cwd none", "the working folder .*none does not exist"),
        ("run a.ipynb -o out", "the output out must be a notebook: choose a name that ends in .ipynb"),
        (f"run a.ipynb -o {FILE}", r"\[Errno \d+\] (Not a directory|File exists): 'file"),
        ("run a.ipynb -o /proc/out/a.ipynb", r"\[Errno \d+\] .*: '/proc/out/a.ipynb'"),
        ("run a.ipynb -o /proc/a.ipynb", r"\[Errno \d+\] .*: '/proc/a.ipynb'"),
        (f"sweep a.ipynb -o {FILE}", r"\[Errno \d+\] (Not a directory|File exists): 'file"),
        ("sweep a.ipynb -o /proc/out", r"\[Errno \d+\] .*: '/proc/out'"),
        ("sweep a.ipynb -o out -k none", "there is no kernel 'none'; installed are: .*python3"),
        ("sweep a.ipynb -o out --cwd none", "the working folder .*none does not exist"),
        ("tutorial --notebooks none --output out", "there are no notebooks in none"),
        (f"tutorial --notebooks books --output {FILE}", r"\[Errno \d+\] (Not a directory|File exists): '"),
        ("page --state-dir file/below", ".*below cannot be the state folder: it cannot be read"),
        ("page --state-dir /proc/out", "/proc/out cannot be the state folder: it cannot be written"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_a_sentence(
    words, message, notebook, write_notebook, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the page's, which are for its own process
    notebook("seed: int = 0")
    write_notebook(tmp_path / "books" / "01_a.ipynb", "seed: int = 0")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(words.split()) == 1
    assert re.fullmatch(f"error: {message}.*\n", capsys.readouterr().err)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_whose_disk_is_full_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
    try:
        assert cli.main(["page", "--state-dir", str(tmp_path / "state")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.fullmatch(
        r"error: .*state cannot be the state folder: .*(disk|full).*\n", capsys.readouterr().err
    )


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
