import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from alhelpers import cli, parallel, runs
from alhelpers.runs import NotebookError, ParameterError, SweepError, cli_sweep, processes, sweep
from alhelpers.runs.progress import Progress, duration
from alhelpers.runs.runner import RECORD_MIME, nbformat
from alhelpers.runs.settings import settings_of

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


@pytest.fixture
def ran(monkeypatch):
    """Stand in for the processes: write a copy, and return the answer for its seed; list the runs."""
    done, answers = [], {}

    def execute(self, request):
        done.append(request["parameters"])
        Path(request["output"]).write_text("{}")
        seed = request["parameters"].get("seed", 0)
        return answers.get(seed, {"recorded": {"value": seed}}) | {"seconds": 1}

    monkeypatch.setattr(processes.Processes, "execute", execute)
    return done, answers


@pytest.fixture
def swept(path, tmp_path):
    """Sweep the notebook into the folder out, one run at a time."""
    options = {"output": tmp_path / "out", "workers": 1, "say": lambda _: None}
    return lambda grid, **more: sweep(path, grid, **options | more)


# ------------------------------------------------------------------------------------------------ whole sweeps


@pytest.mark.process
def test_a_sweep_from_its_first_run_to_its_table(path, tmp_path):
    said, output = [], tmp_path / "out" / "deep"
    table = sweep(path, {"seed": [1, 2], "rate": [1, 0.25]}, output, 2, cwd=tmp_path, say=said.append)
    assert list(table.columns) == [
        *["seed", "rate", "name", "ends.first", "ends.last.name", "recorded.seed", "sum", "cwd", "threads"],
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
    assert said[0] == "1 of 3 runs are finished already" and ran[0] == [{"seed": 1}, {"seed": 2}]
    assert table["run.state"].to_list() == ["done"] * 3 and table["recorded.seed"][0] == 0
    assert kept.stat().st_mtime_ns == before


def test_a_full_disk_is_named_and_what_is_finished_is_kept(notebook, tmp_path, ran):
    path = notebook("seed: int = 0\n", RECORD, "record(seed=seed)\nif seed == 1:\n    print('x' * 5_000_000)")
    found = subprocess.run(
        [*COMMAND, path, "-g", "seed=0,1,2", "-o", tmp_path / "out", "-w", "1"],
        # No file may be larger than that, which the system says as it says that a disk is full.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert re.search(r"error: the disk of .* is full .*: 1 of 3 runs are finished and kept", found.stderr)
    assert runs.results(tmp_path / "out")["recorded.seed"].to_list() == [0]
    table = sweep(path, {"seed": [0, 1, 2]}, tmp_path / "out", 1, say=list)
    assert table["run.state"].to_list() == ["done"] * 3 and ran[0] == [{"seed": 1}, {"seed": 2}]


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


def test_other_code_runs_anew(path, swept, ran):
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
    assert said[0].startswith("1 runs of other versions of the code are left in")


def test_a_run_without_its_copy_is_run_again(swept, tmp_path, ran):
    done, _ = ran
    table = swept([{"seed": 1}])
    (tmp_path / "out" / table["run.notebook"][0]).unlink()
    swept([{"seed": 1}])
    assert len(done) == 2


def test_a_full_disk_stops_the_rest(swept, tmp_path, ran):
    ran[1][1] = {"errno": errno.ENOSPC, "message": "No space left on device", "file": "x"}
    message = "the disk of .* is full .*No space left.*: 1 of 3 runs are finished and kept"
    with pytest.raises(SweepError, match=message):
        swept({"seed": [0, 1, 2]})
    assert runs.results(tmp_path / "out")["seed"].to_list() == [0]


def test_another_error_of_the_system_is_passed_on(swept, ran):
    ran[1][0] = {"errno": errno.EACCES, "message": "Permission denied", "file": "x"}
    with pytest.raises(PermissionError):
        swept({"seed": [0]})


def test_columns_of_values_that_have_no_type_in_common(swept, ran):
    _, answers = ran
    answers[0] = {"recorded": {"mixed": 1, "rows": [{"a": 1}], "large": 2**70, "run.name": "x", "only": True}}
    answers[1] = {"recorded": {"mixed": "one", "rows": [], "large": 1, "empty": {}}}
    table = swept({"seed": [0, 1]})
    assert table["mixed"].to_list() == ["1", '"one"'] and table["rows"].to_list() == ['[{"a": 1}]', "[]"]
    assert table["large"].to_list() == [str(2**70), "1"] and table["recorded.run.name"][0] == "x"
    assert table["only"].to_list() == [True, None]


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


def test_a_notebook_without_a_parameters_cell(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), tmp_path / "b.ipynb")
    with pytest.raises(ParameterError, match="b.ipynb has no cell tagged 'parameters'"):
        sweep(tmp_path / "b.ipynb", {}, tmp_path / "out")


WORKERS = "workers is .*: it must be an integer of at least 1, or a Dask client"


@pytest.mark.parametrize(
    "options, message",
    [
        *[({"workers": workers}, WORKERS) for workers in (0, -1, 1.5, True, "2")],
        ({"cwd": Path("none")}, "the working folder .*none does not exist"),
    ],
)
def test_wrong_options(swept, options, message):
    with pytest.raises(SweepError, match=message):
        swept({}, **options)


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
        raise NotebookError("enough")

    monkeypatch.setattr(processes.Processes, "execute", again)
    swept({})
    assert len(errors) == 1


def test_names_of_runs(path):
    names = {setting.name for setting in settings_of(path, {"seed": [0, 1], "rate": [0, 0.5]})}
    assert len(names) == 4 and all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    one, other = settings_of(path, [{"rate": 1}])[0], settings_of(path, [{"rate": 1.0, "seed": 0}])[0]
    assert one.name == other.name and one.given == {"rate": 1}


# ------------------------------------------------------------------------------------- progress and command line


def test_progress_estimates_the_rest(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr("alhelpers.runs.progress.time.monotonic", lambda: now[0])
    progress = Progress(100, 10, said.append)
    assert said == ["10 of 100 runs are finished already"]
    for step in range(90):
        now[0] += 30
        progress.step(failed=step == 0)
    assert len(said) <= 22
    assert said[1] == "[###.................] 15 of 100 runs, 1 failed, about 42 min left"
    assert said[-1] == "[####################] 100 of 100 runs, 1 failed, after 45 min"
    assert [duration(seconds) for seconds in (0.4, 89, 90, 3599, 3600, 5000)] == [
        *["0 s", "89 s", "2 min", "1 h 0 min", "1 h 0 min", "1 h 23 min"]
    ]


@pytest.fixture
def given(monkeypatch, ran):
    """What the command line hands to the sweep."""
    calls = []

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
        ("-g name=5,a -p flag=True", {"flag": [True], "name": [5, "a"]}),
        ("", {}),
    ],
)
def test_the_command_line_reads_a_grid(given, capsys, words, grid):
    options = [
        "sweep",
        "a.ipynb",
        *words.split(),
        "-o",
        "out",
        "-w",
        "3",
        "--seconds",
        "5",
        "--memory",
        "1.5GB",
    ]
    assert cli.main(options) == 0
    assert given == [(grid, 3, {"seconds": 5.0, "memory": 1_500_000_000, "threads": None})]
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
        ("-g seed=1 -p seed=2", "a parameter is given twice, in seed=2, seed=1"),
        ("-g seed=1 -g seed=2", "a parameter is given twice"),
        ("--memory much", "memory is 'much': it must be a size such as 2GB or 500MiB"),
        ("--memory 2XB", "memory is '2XB'"),
        ("--settings none.json", "No such file"),
        ("--settings wrong.json", "wrong.json is not valid JSON"),
        ("--settings text.json", "text.json must hold a list of parameter sets"),
        ("--settings text.json -g seed=1", "pass a grid or a file of settings, not both"),
    ],
)
def test_the_command_line_says_what_is_wrong(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.json").write_text("{")
    (tmp_path / "text.json").write_text('["seed"]')
    assert cli.main(["sweep", "a.ipynb", *words.split(), "-o", "out"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
