import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pandas as pd
import psutil
import pytest

from alhelpers import cli, parallel, runs
from alhelpers.runs import NotebookError, ParameterError, SweepError, cli_sweep, processes, sweep
from alhelpers.runs.notebooks import RECORD_MIME, nbformat
from alhelpers.runs.progress import Progress, duration

PARAMETERS = 'seed: int = 0\nrate: float = 0.5\nname: str = "a"\n'

COMMAND = [sys.executable, "-m", "alhelpers.cli", "sweep"]

#: Records without importing anything, so that a run is soon done.
RECORD = f"def record(**values):\n    display({{{RECORD_MIME!r}: values, 'text/plain': ''}}, raw=True)"


@pytest.fixture
def path(notebook):
    return notebook(
        PARAMETERS,
        RECORD,
        "import os\nrecord(sum=seed + rate, seed=seed, ends={'first': [seed, 1], 'last': {'name': name}})\nname",
        "if seed == 2:\n    raise KeyError('two')\nrecord(threads=os.environ['OMP_NUM_THREADS'], cwd=os.getcwd())",
    )


#: Kills a sweep before its n-th operation on a file, for each n, and goes on.
KILLED_ANYWHERE = """
import itertools, json, os, signal, sys
from pathlib import Path
import pandas, pyarrow.parquet
from alhelpers.runs import Processes, sweep

notebook, folder = sys.argv[1:]
ran = []

def execute(self, request):
    ran.append(request["parameters"]["seed"])
    return {"copy": "{}", "seconds": 1, "recorded": {"value": 10 * ran[-1]}}

Processes.execute = execute

def forked(function, *arguments):
    pid = os.fork()
    if pid == 0:
        function(*arguments)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

def run(output):
    return sweep(notebook, {"seed": [0, 1]}, output, 1, say=lambda _: None)

def run_until(output, operations):
    def hook(event, arguments):
        nonlocal operations
        if event in ("open", "os.rename", "os.mkdir", "os.remove") and str(arguments[0]).startswith(output):
            operations -= 1
            if operations < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    run(output)

def go_on(output):
    done = [json.loads(path.read_text())["parameters"]["seed"] for path in Path(output).glob("runs/*/run.json")]
    table = run(output)
    assert table["value"].to_list() == [0, 10] and sorted(ran + done) == [0, 1]
    assert pandas.read_csv(f"{output}/results.csv")["value"].to_list() == [0, 10]
    assert not list(Path(output).rglob("*.part"))

run(f"{folder}/first")  # what it imports and computes, it does once for all forks
ran.clear()

for operations in itertools.count():
    output = f"{folder}/{operations}"
    killed = forked(run_until, output, operations)
    assert killed in (0, signal.SIGKILL), killed
    assert forked(go_on, output) == 0, operations
    if not killed:
        break
print(operations)
"""


def test_a_sweep_that_is_killed_at_any_file_operation_goes_on(notebook, tmp_path):
    command = [sys.executable, "-c", KILLED_ANYWHERE, notebook("seed: int = 0"), tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


# ------------------------------------------------------------------------------------------------ whole sweeps


@pytest.mark.process
def test_a_sweep_from_its_first_run_to_its_table(path, tmp_path):
    said, output = [], tmp_path / "out" / "deep"
    table = sweep(path, {"seed": [1, 2], "rate": [1, 0.25]}, output, 2, cwd=tmp_path, say=said.append)
    assert list(table.columns) == [
        *["seed", "rate", "name", "sum", "recorded.seed", "ends.first", "ends.last.name", "threads", "cwd"],
        *["run.name", "run.state", "run.seconds", "run.cell", "run.error", "run.notebook"],
    ]
    assert table[["seed", "rate"]].to_numpy().tolist() == [[1, 1], [1, 0.25], [2, 1], [2, 0.25]]
    assert table["run.state"].to_list() == ["done"] * 2 + ["failed"] * 2
    assert table["sum"].to_list()[:2] == [2, 1.25] and table["sum"].isna().sum() == 2
    assert [list(value) for value in table["ends.first"][:2]] == [[1, 1], [1, 1]]
    assert set(table["threads"][:2]) == {str(max(1, parallel.available_cores() // 2))}
    assert set(table["run.error"][2:]) == {"KeyError: 'two'"}
    assert set(table["run.cell"][2:]) == {"[5] if seed == 2:"}
    for row in table.to_dict("records"):
        executed = output / row["run.notebook"]
        assert executed.parent.name == row["run.name"] and executed.name == "a.ipynb"
        assert len(nbformat.read(executed, 4).cells) == 5 + 2 * (row["run.state"] == "failed")
    pd.testing.assert_frame_equal(runs.results(output), table)
    plain = pd.read_csv(output / "results.csv")
    assert plain[["seed", "rate", "run.name"]].equals(table[["seed", "rate", "run.name"]])
    assert plain["ends.first"][0] == "[1, 1]"
    assert sum("'seed': 2" in line and "stopped at code cell [5]" in line for line in said) == 2
    assert said[-1].startswith("[####################] 4 of 4 runs, 2 failed, after")
    assert not [entry for entry in output.rglob("*") if entry.name.endswith(".part")]


def test_a_killed_sweep_goes_on_where_it_was(notebook, tmp_path, ran):
    path = notebook(
        "seed: int = 0\n",
        RECORD,
        "import os, time\nopen(f'started {os.getpid()}', 'w').close()\nrecord(seed=seed)",
        "if seed == 1:\n    time.sleep(600)",
    )
    words = [*COMMAND, path, "-g", "seed=0,1,2", "-o", tmp_path / "out", "-w", "1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("started *"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pids = [int(entry.name.split()[1]) for entry in tmp_path.glob("started *")]
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    (kept,) = tmp_path.glob("out/runs/*/run.json")
    before = kept.stat().st_mtime_ns
    said = []
    table = sweep(path, {"seed": [0, 1, 2]}, tmp_path / "out", 1, say=said.append)
    assert said[0].startswith("1 of 3 runs are finished already, with the same") and ran[0] == [
        {"seed": 1},
        {"seed": 2},
    ]
    assert table["run.state"].to_list() == ["done"] * 3 and table["recorded.seed"][0] == 0
    assert kept.stat().st_mtime_ns == before


def test_the_workers_of_a_dask_cluster_run_it(swept, tmp_path, ran):
    distributed = pytest.importorskip("distributed")
    ran[1][2] = {"message": "it broke", "cell": "[1] x", "error": "E"}
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        table = swept({"seed": [0, 1, 2]}, workers=client)
        assert table["run.state"].to_list() == ["done", "done", "failed"]
        assert table["value"].to_list()[:2] == [0, 1]
        assert all((tmp_path / "out" / name).read_text() == "{}" for name in table["run.notebook"])
        (worker,) = cluster.workers.values()
        assert not [name for name in worker.plugins if name.startswith("alhelpers-")]


# ------------------------------------------------------------------------------------------- resume and extend


def test_what_has_finished_is_not_run_again(swept, ran):
    done, answers = ran
    answers[1] = {"message": "it broke", "cell": "[1] x", "error": "E"}
    for expected in ([0, 1, 2], [1]):
        table = swept({"seed": [0, 1, 2]})
        assert [parameters["seed"] for parameters in done] == expected
        assert table["run.state"].to_list() == ["done", "failed", "done"]
        done.clear()
    answers.clear()
    table = swept({"seed": [2, 1, 0, 3]})  # more settings, another order
    assert sorted(parameters["seed"] for parameters in done) == [1, 3]
    assert table["value"].to_list() == [2, 1, 0, 3]


def test_a_full_disk_is_named_and_what_is_finished_is_kept(
    path, swept, tmp_path, ran, capsys, large_files_refused
):
    done, answers = ran
    answers[1] = {"copy": "x" * 200_000, "recorded": {"value": 1}}
    words = ["sweep", str(path), "-g", "seed=0,1,2", "-o", str(tmp_path / "out"), "-w", "1"]
    assert cli.main(words) == 1
    message = r"error: the disk of .* is full .*File too large.*: 1 of 3 runs are finished and kept"
    assert re.search(message, capsys.readouterr().err)
    assert runs.results(tmp_path / "out")["seed"].to_list() == [0]
    answers.clear()
    done.clear()
    table = swept({"seed": [0, 1, 2]})
    assert table["run.state"].to_list() == ["done"] * 3 and done == [{"seed": 1}, {"seed": 2}]


def test_columns_of_values_that_have_no_type_in_common(swept, ran):
    _, answers = ran
    answers[0] = {"recorded": {"mixed": 1, "rows": [{"a": 1}], "large": 2**70, "run.name": "x", "only": True}}
    answers[1] = {"recorded": {"mixed": "one", "rows": [], "large": 1, "empty": {}}}
    table = swept({"seed": [0, 1]})
    assert table["mixed"].to_list() == ["1", '"one"'] and table["rows"].to_list() == ['[{"a": 1}]', "[]"]
    assert table["large"].to_list() == [str(2**70), "1"] and table["recorded.run.name"][0] == "x"
    assert table["only"].to_list() == [True, None]


def test_no_copy_stays_in_memory(swept, ran, monkeypatch):
    class Answer(dict):
        """A dict that can be referred to weakly."""

    answers = []

    def execute(self, request):
        answers.append(weakref.ref(answer := Answer(copy="{}", recorded={}, seconds=1)))
        return answer

    monkeypatch.setattr(processes.Processes, "execute", execute)
    alive = []
    swept({"seed": [0, 1, 2]}, say=lambda _: alive.append(sum(each() is not None for each in answers)))
    assert alive[-1] <= 1


def test_a_run_whose_process_dies_has_a_row_but_no_copy(swept, tmp_path, monkeypatch, ran):
    ran[1][0] = {"message": "it broke", "cell": "[1] x", "error": "E"}
    swept({"seed": [0]})
    assert list(tmp_path.glob("out/runs/*/a.ipynb"))
    monkeypatch.setattr(processes.Processes, "execute", lambda *_: NotebookError("it was killed").as_answer())
    (row,) = swept({"seed": [0]}).to_dict("records")
    assert row["run.state"] == "failed" and row["run.error"] == "it was killed"
    assert row["run.notebook"] is None and not list(tmp_path.glob("out/runs/*/a.ipynb"))


def test_columns_of_defaults_that_are_computed_and_of_like_names(notebook, tmp_path, ran):
    cell = "seed = 0\nsame = {1, 2}\nkeys = {(1, 2): 3j}\nshape: tuple = (8, 8)\nrate = 10**3\nnone: int\nlow = -1.5"
    ran[1][0] = {"recorded": {"seed": 5, "recorded.seed": 6, "value": {"a": [1, {"b": 2}]}}}
    table = sweep(notebook(cell), {"seed": [0]}, tmp_path / "out", 1, say=list)
    assert table.loc[0, :"value.a"].to_list() == [
        *[0, "{1, 2}", "{(1, 2): 3j}", "(8, 8)", "10 ** 3", None, -1.5, 5, 6, '[1, {"b": 2}]']
    ]
    plain = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(plain.columns) == list(table.columns) and plain["recorded.recorded.seed"][0] == 6


# ----------------------------------------------------------------------------------- refused before anything starts


@pytest.mark.parametrize(
    "grid, message",
    [
        ({"sede": [1]}, "a.ipynb has no parameter 'sede': did you mean 'seed'"),
        ({"seed": [0, "1"]}, r"'seed' is '1' \(str\): it takes int"),
        ([{"seed": 0}, {"seed": 0.5}], r"'seed' is 0.5 \(float\)"),
        (
            {"seed": [1, 2, 1]},
            "the settings {'seed': 1} and {'seed': 1} of a.ipynb are the same run: leave one out",
        ),
        (
            [{"seed": 0}, {"name": "a"}],
            "the settings {'seed': 0} and {'name': 'a'} of a.ipynb are the same run",
        ),
        ({"rate": [1, 1.0]}, "are the same run"),
        ({"seed": []}, "the grid's list for 'seed' is empty"),
        ({"seed": 1}, r"the grid must hold a list of values for 'seed', not 1: a single one is \[1\]"),
        ({"name": "ab"}, "the grid must hold a list of values for 'name'"),
        ([], "the list of settings is empty"),
        (["seed"], "a list of settings must hold a dict for each run, not 'seed'"),
    ],
)
def test_wrong_settings(swept, tmp_path, ran, grid, message):
    with pytest.raises(ParameterError, match=message):
        swept(grid)
    assert not ran[0] and not (tmp_path / "out").exists()


def test_a_notebook_without_a_parameters_cell_takes_none(tmp_path, ran):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), tmp_path / "b.ipynb")
    with pytest.raises(
        ParameterError, match="b.ipynb has no parameter 'seed': it takes none; is its cell tagged"
    ):
        sweep(tmp_path / "b.ipynb", {"seed": [1]}, tmp_path / "out")
    assert len(sweep(tmp_path / "b.ipynb", {}, tmp_path / "out", say=lambda _: None)) == 1


WORKERS = "workers is .*: it must be an integer of at least 1, or a Dask client"


@pytest.mark.parametrize(
    "options, message",
    [
        *[({"workers": workers}, WORKERS) for workers in (0, -1, 1.5, True, "2")],
        ({"threads": 0}, "threads is 0: it must be an integer of at least 1"),
        ({"seconds": float("nan")}, "seconds is nan: it must be above 0"),
        ({"memory": 0}, "memory is 0: it must be above 0"),
        ({"cwd": Path("none")}, "the working folder .*none does not exist"),
    ],
)
def test_wrong_options(swept, tmp_path, options, message):
    with pytest.raises((SweepError, NotebookError), match=message):
        swept({}, **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else(path, swept, tmp_path, ran, write_notebook):
    swept({"seed": [0, 1]})
    before = (tmp_path / "out" / "results.csv").read_text()
    other = write_notebook(tmp_path / "b.ipynb", PARAMETERS)
    with pytest.raises(
        SweepError, match="out holds a sweep of a.ipynb, not of b.ipynb: choose another folder"
    ):
        sweep(other, {}, tmp_path / "out")
    message = "1 settings that this one lacks, such as {'seed': 0}: choose another folder"
    with pytest.raises(SweepError, match=message):
        sweep(path, {"seed": [1, 2]}, tmp_path / "out")
    assert (tmp_path / "out" / "results.csv").read_text() == before
    with pytest.raises(SweepError, match="holds other files than those of a sweep"):
        sweep(path, {}, tmp_path)
    assert not (tmp_path / "sweep.json").exists()
    (tmp_path / "out" / "sweep.json").write_text("[]")
    with pytest.raises(SweepError, match="sweep.json can't be read"):
        sweep(path, {"seed": [0, 1]}, tmp_path / "out")
    with pytest.raises(SweepError, match="results.parquet does not exist: has a sweep run"):
        runs.results(tmp_path)


def test_two_sweeps_at_once_in_one_folder(swept, monkeypatch):
    errors = []

    def again(self, request):
        with pytest.raises(SweepError, match="another sweep is running in") as caught:
            swept({})
        errors.append(caught.value)
        return NotebookError("enough").as_answer()

    monkeypatch.setattr(processes.Processes, "execute", again)
    swept({})
    assert len(errors) == 1


def test_names_of_runs(swept, ran):
    names = set(swept({"seed": [0, 1], "rate": [0, 0.5]})["run.name"])
    assert len(names) == 4 and all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    assert set(swept({"seed": [0, 1, 2], "rate": [0.0, 0.5]})["run.name"]) > names
    assert len(ran[0]) == 6


# ------------------------------------------------------------------------------------- progress and command line


def test_progress_estimates_the_rest(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr("alhelpers.runs.progress.time.monotonic", lambda: now[0])
    progress = Progress(100, 10, said.append)
    for step in range(90):
        now[0] += 30
        progress.step(failed=step == 0)
    assert len(said) <= 22
    assert said[0] == "[###.................] 15 of 100 runs, 1 failed, about 42 min left"
    assert said[-1] == "[####################] 100 of 100 runs, 1 failed, after 45 min"
    assert [duration(seconds) for seconds in (0.4, 89, 90, 3599, 3600, 5000)] == [
        *["0 s", "89 s", "2 min", "1 h 0 min", "1 h 0 min", "1 h 23 min"]
    ]


@pytest.fixture
def given(monkeypatch, notebook, tmp_path):
    """What the command line hands to the sweep of a.ipynb."""
    calls = []
    notebook(PARAMETERS + "sizes: list = []\nflag = False\nstrategy: str = ''")
    monkeypatch.chdir(tmp_path)

    def fake(notebook, grid, output, workers, **options):
        calls.append((grid, workers, options))
        return pd.DataFrame({"run.state": ["done", "failed" if "bad" in str(grid) else "done"]})

    monkeypatch.setattr(cli_sweep, "sweep", fake)
    return calls


@pytest.mark.parametrize(
    "words, grid",
    [
        ("-g seed=0,1,2 -g strategy=random,entropy", {"seed": [0, 1, 2], "strategy": ["random", "entropy"]}),
        ("-p name=x -g rate=1e-3,.5", {"name": ["x"], "rate": [1e-3, 0.5]}),
        ("-g sizes=[1,2],[3]", {"sizes": [[1, 2], [3]]}),
        ("-g name=5,a -p flag=True", {"flag": [True], "name": ["5", "a"]}),
        ("", {}),
    ],
)
def test_the_command_line_reads_a_grid(given, capsys, words, grid):
    options = "-o out -w 3 --seconds 5 --memory 1.5GB --cwd . -k other --fresh".split()
    assert cli.main(["sweep", "a.ipynb", *words.split(), *options]) == 0
    passed = {"cwd": Path("."), "kernel": "other", "fresh": True}
    passed |= {"seconds": 5.0, "memory": 1_500_000_000, "threads": None}
    assert given == [(grid, 3, passed)]
    assert capsys.readouterr().out == f"2 runs done, 0 failed; table: {os.path.join('out', 'results.csv')}\n"


def test_the_command_line_reads_a_file_of_settings(given, tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps([{"seed": 0}, {"seed": 1, "name": "b"}]))
    words = ["sweep", "a.ipynb", "-o", "out", "--settings", str(tmp_path / "settings.json"), "-p", "name=a"]
    assert cli.main(words) == 0
    assert given[0][0] == [{"name": "a", "seed": 0}, {"name": "b", "seed": 1}]


def test_a_failed_run_ends_with_1(given, capsys):
    assert cli.main(["sweep", "a.ipynb", "-g", "name=bad", "-o", "out"]) == 1
    assert "1 runs done, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        ("-g seed", "'seed' is not NAME=VALUE"),
        ("-g seed=1 -p seed=2", "a parameter is given twice: seed"),
        ("-g seed=1 -g seed=2", "a parameter is given twice"),
        ("--memory much", "memory is 'much': it must be a size such as 2GB or 500MiB"),
        ("--memory 2XB", "memory is '2XB'"),
        ("--settings none.json", "No such file"),
        ("--settings wrong.json", "wrong.json is not valid JSON"),
        ("--settings text.json", "text.json must hold a list of parameter sets"),
        ("--settings text.json -g seed=1", "pass a grid or a file of settings, not both"),
    ],
)
def test_the_command_line_says_what_is_wrong(given, words, message, tmp_path, capsys):
    (tmp_path / "wrong.json").write_text("{")
    (tmp_path / "text.json").write_text('["seed"]')
    assert cli.main(["sweep", "a.ipynb", *words.split(), "-o", "out"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
