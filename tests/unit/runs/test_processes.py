"""A run in a forked process against one by papermill alone: the same outputs, and a kernel in the same state."""

import copy
import json
import os
import re
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from alhelpers.runs import NotebookError, Processes, recorded, run
from alhelpers.runs.notebooks import nbformat
from alhelpers.runs.preload import PRELOADED, preloads

forked = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

IMPORTS = """
import asyncio, gc, json, logging, multiprocessing, os, signal, sys, threading, warnings
import ipywidgets, matplotlib, pandas as pd, numpy as np, torch, tqdm.auto
from concurrent.futures import ProcessPoolExecutor
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from alhelpers import notebook
"""

LITTLE = preloads("from alhelpers.notebook import record; numpy")

#: What a notebook may do, one cell each.
CELLS = [
    IMPORTS,
    "print('out', seed)\nprint('err', file=sys.stderr)\nos.system('echo from a shell')",
    "pd.DataFrame(np.arange(90).reshape(3, 30))",  # a table that a terminal would cut in another way
    "plt.plot([1, 3, 2])",  # a figure that is shown by itself
    "notebook.show(plt.figure(figsize=(1, 1)), alt='empty', caption='nothing')\nnotebook.record('seed', seed)",
    "slider = ipywidgets.IntSlider(3)\nslider.value = 5\nslider",
    "for _ in tqdm.auto.tqdm(range(3), disable=None): pass",
    "warnings.warn('old', DeprecationWarning)\nlogging.warning('logged')",
    "await asyncio.sleep(0)\nthread = threading.Thread(target=print, args=['thread'])\nthread.start()\nthread.join()",
    "torch.manual_seed(seed)\nnetwork = torch.nn.Linear(300, 300)\noptimizer = torch.optim.Adam(network.parameters())\n"
    "for _ in range(3):\n    optimizer.zero_grad()\n    loss = network(torch.randn(99, 300)).square().mean()\n"
    "    loss.backward()\n    optimizer.step()\nnotebook.record('loss', loss.item())",
    "x = np.random.default_rng(seed).normal(size=(200, 5))\n"
    "notebook.record('model', LogisticRegression().fit(x @ np.eye(5), x[:, 0] > 0).coef_)",
    "%%javascript\n1",
    "display({'text/plain': 'handle'}, raw=True, display_id='one')\nx = 1; x",
    "import math\nwith ProcessPoolExecutor(2) as pool:\n    print(list(pool.map(math.sqrt, [4, 9])))",
]

STATE = """
import threadpoolctl
options = [name for name in pd._config.config._registered_options if not name.startswith(("mode", "future", "io"))]
print(json.dumps({
    "pandas": {name: str(pd.get_option(name)).lower() for name in sorted(options)},
    "matplotlib": {name: str(value) for name, value in matplotlib.rcParams.items()},
    "numpy": [str(np.get_printoptions()), str(np.geterr())],
    "torch": [torch.get_num_threads(), str(torch.get_default_dtype())],
    "blas": sorted([str(pool["internal_api"]), pool["num_threads"]] for pool in threadpoolctl.threadpool_info()),
    "logging": [logging.root.level, len(logging.root.handlers)],
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "python": [sys.argv[0], sys.argv[1], sys.path, str(sys.flags), os.getcwd(), __name__, sys.executable],
    "environment": dict(os.environ), "threads": sorted(thread.name for thread in threading.enumerate()),
    "types": [str(type(part)) for part in (asyncio.get_running_loop(), sys.stdin, sys.stdout, sys.displayhook)],
    "collector": [gc.isenabled(), gc.get_threshold()], "start": multiprocessing.get_start_method(),
    "session": [os.getsid(0) == os.getpid(), str(tqdm.auto.tqdm)], "hooks": len(sys.meta_path),
}))
"""


def run_both(notebook, folder):
    """Run the same notebook, which fails at its end, by papermill alone and in a forked process."""
    import papermill

    path = notebook("seed: int = 0", *CELLS, STATE, "def f():\n    1 / 0\n\nf()", "1")
    with pytest.MonkeyPatch.context() as patch, Processes(threads=1) as full:
        for name, value in full.environment().items():
            patch.setenv(name, value)
        with pytest.raises(papermill.PapermillExecutionError):
            options = {"cwd": folder, "kernel_name": "python3", "progress_bar": False}
            papermill.execute_notebook(path, folder / "plain.ipynb", {"seed": 7}, **options)
        with pytest.raises(NotebookError, match="ZeroDivisionError"):
            run(path, {"seed": 7}, folder / "forked.ipynb", cwd=folder, processes=full)
        # A fork takes along one thread only: nothing that is imported has started another.
        threads = Path(f"/proc/{full._server._process.pid}/task")
        assert {(each / "comm").read_text().strip() for each in threads.iterdir()} <= {
            *(Path(sys.executable).resolve().name, Path(sys.executable).name, "jemalloc_bg_thd")
        }
    return [nbformat.read(folder / f"{name}.ipynb", 4) for name in ("plain", "forked")]


def comparable(document):
    """The document without what no two runs of papermill have in common: times, paths of copies, ids, numbers."""
    document = copy.deepcopy(document)
    for cell in document.cells:
        del cell["id"]  # papermill's own cells have random ones
        if "threadpoolctl" in cell.source:
            cell["outputs"] = []  # the state, which is compared beside this
    widgets = document.metadata.widgets["application/vnd.jupyter.widget-state+json"]
    # In the order of their content, not of their random ids.
    widgets["state"] = sorted(settled(json.dumps(model)) for model in widgets["state"].values())
    return settled(json.dumps(document, indent=1, sort_keys=True)).splitlines()


def settled(text):
    for changing in (
        r'"(duration|start_time|end_time|iopub[.\w]*|shell[.\w]*)": [^\n]*',
        r"[0-9a-f]{32}",
        r"(?<=ipykernel_)\d+",
        r"(plain|forked)(?=\.ipynb)",
        r"\[[^\]]*it/s\]",
        r"0x[0-9a-f]+",
    ):
        text = re.sub(changing, "", text)
    return text


def state(document):
    (text,) = [
        output.text
        for cell in document.cells
        for output in cell.get("outputs", [])
        if output.get("text", "").startswith('{"pandas"')
    ]
    return json.loads(text)


@forked
def test_a_forked_run_is_that_of_papermill(notebook, tmp_path):
    pair = run_both(notebook, tmp_path)
    plain, forked = map(comparable, pair)
    assert forked == plain
    assert len(plain) > 200 and any("application/vnd.jupyter.widget-state+json" in line for line in plain)
    # The kernels are in the same state.
    plain, forked = map(state, pair)
    for found in (plain, forked):
        del found["environment"]["JPY_PARENT_PID"]
        # One of the kernel's own counts on after a thread that the debugger makes, which a fork has imported earlier.
        found["threads"] = [re.sub(r"(?<=Thread-)\d+", "", name) for name in found["threads"]]
    for part in plain:
        assert forked[part] == plain[part], part


# ------------------------------------------------------------------------------------------------ many runs


@forked
def test_each_run_is_fresh(notebook, tmp_path):
    path = notebook(
        "seed: int = 0",
        "import json, os, random, threading, numpy as np, torch\nfrom alhelpers.notebook import record",
        "record('left', hasattr(json, 'mark'))\njson.mark = 1\nnp.set_printoptions(precision=1)",
        "record('precision', np.get_printoptions()['precision'])",
        "record('drawn', [random.random(), np.random.rand(), torch.rand(1).item()])\nrecord('pid', os.getpid())",
        "record('given', os.environ.get('GIVEN'))",
        "open('kept.txt', 'w').write('x' * 10) and None\nfile = open('open.txt', 'w')\nfile.write('unclosed')",
    )
    found = []
    with Processes(preload=[*LITTLE, "torch"]) as processes:
        for seed in range(2):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GIVEN", str(seed))
                found.append(run(path, {}, tmp_path / f"{seed}.ipynb", processes=processes).recorded)
    assert [values["left"] for values in found] == [False, False]
    assert [values["precision"] for values in found] == [1, 1]
    assert [values["given"] for values in found] == ["0", "1"]
    assert found[0]["pid"] != found[1]["pid"]
    assert not set(found[0]["drawn"]) & set(found[1]["drawn"])
    assert (tmp_path / "open.txt").read_text() == "unclosed"


@pytest.mark.parametrize("fork", [pytest.param(True, marks=forked), False])
def test_runs_at_once_keep_apart_and_leave_no_process(fork, processes, notebook, tmp_path):
    # Each opens its end of a pipe, which waits for the other: so both kernels are alive at the same time.
    os.mkfifo(tmp_path / "pipe")
    path = notebook(
        "end: int = 0\n",
        "import os, numpy, threadpoolctl\nfrom alhelpers.notebook import record",
        "record('threads', [pool['num_threads'] for pool in threadpoolctl.threadpool_info()])",
        'with open("pipe", "rw"[end]) as pipe:\n    record("end", [end, os.getpid(), os.getppid()])',
    )
    other = processes if fork else Processes(2, fork=False)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(run, path, {"end": end}, tmp_path / f"{end}.ipynb", processes=other) for end in (0, 1)
        ]
        found = [finished.result().recorded["end"] for finished in runs]
        assert all(set(finished.result().recorded["threads"]) == {2} for finished in runs)
    assert [end for end, *_ in found] == [0, 1]
    assert not any(psutil.pid_exists(pid) for _, *pids in found for pid in pids)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["0.ipynb", "1.ipynb", "a.ipynb", "pipe"]


@pytest.mark.parametrize("fork", [pytest.param(True, marks=forked), False])
def test_limits_and_deaths_are_named_and_the_copy_is_kept(fork, processes, notebook, tmp_path):
    path = notebook(
        'how: str = ""',
        "import os, time\nfrom alhelpers.notebook import record\nrecord('before', how)",
        "if how == 'killed':\n    os.kill(os.getpid(), 9)\nif how == 'large':\n    large = b'x' * (3 << 30)\n"
        "time.sleep(60)",
    )
    large = r"killed at code cell .4.*: it held \d+ MiB of memory; the limit is 1024 MiB"
    ways = {"large": ({"memory": 1 << 30}, large)}
    if fork:
        killed = "the kernel of a.ipynb died at code cell .4., which begins .*did it run out of memory"
        slow = "a.ipynb was killed at code cell .4.*: it took longer than the limit of 2 s"
        ways |= {"killed": ({}, killed), "slow": ({"seconds": 2}, slow)}
    other = processes if fork else Processes(fork=False)
    for how, (limits, message) in ways.items():
        with pytest.raises(NotebookError, match=message) as caught:
            run(path, {"how": how}, tmp_path / "out.ipynb", processes=other, **limits)
        assert caught.value.cell == "[4] if how == 'killed':"
        executed = nbformat.read(tmp_path / "out.ipynb", 4)
        assert recorded(tmp_path / "out.ipynb") == {"before": how}
        assert executed.cells[-1].metadata.papermill.status == "failed"


@forked
def test_when_the_server_dies_the_run_fails_and_the_next_one_gets_another(processes, notebook, tmp_path):
    path = notebook(
        'victim: str = ""',
        "import os\nfrom alhelpers.notebook import record\nrun = os.getppid()",
        "server = int(open(f'/proc/{run}/stat').read().split()[3])\nrecord('server', server)",
        "if victim:\n    os.kill({'run': run, 'server': server}[victim], 9)\n    import time; time.sleep(9)",
    )
    with pytest.raises(NotebookError, match=r"the process of the run was killed by signal 9 \(SIGKILL\)"):
        run(path, {"victim": "run"}, tmp_path / "out.ipynb", processes=processes)
    first = run(path, {}, tmp_path / "out.ipynb", processes=processes).recorded["server"]
    os.kill(first, signal.SIGKILL)
    with pytest.raises(NotebookError, match="died with the server that forks it"):
        run(path, {}, tmp_path / "out.ipynb", processes=processes)
    assert run(path, {}, tmp_path / "out.ipynb", processes=processes).recorded["server"] != first


@forked
def test_stopping_ends_what_runs(notebook, tmp_path):
    path = notebook(
        "seed: int = 0",
        "import os, time\nopen('pids.part', 'w').write(f'{os.getpid()} {os.getppid()}') and None\n"
        "os.rename('pids.part', 'pids')\ntime.sleep(60)",
    )
    processes, errors = Processes(preload=LITTLE), []

    def work():
        try:
            run(path, {}, tmp_path / "out.ipynb", processes=processes)
        except NotebookError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    while not (tmp_path / "pids").exists():
        time.sleep(0.05)
    processes.stop()
    thread.join()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    assert errors and not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(NotebookError, match="the processes were stopped"):
        run(path, {}, tmp_path / "out.ipynb", processes=processes)


def test_a_notebook_gets_what_it_names():
    assert set(preloads("import os")) < set(LITTLE) < set(PRELOADED)
    assert "numpy" in LITTLE and "alhelpers.notebook" in LITTLE and "torch" not in LITTLE
    assert {"torch", "torch._dynamo"} <= set(preloads("from torch import nn"))
    for code in (
        "from alhelpers import mining",
        "import alhelpers.learners",
        "from alhelpers.uncertainty import Committee",
    ):
        assert preloads(code) == list(PRELOADED)


@forked
def test_a_module_that_can_not_be_imported_stops_no_run(notebook, tmp_path):
    path = notebook("seed: int = 0", "1")
    with Processes(preload=["no_such_module", "antigravity.nothing"]) as processes:
        run(path, {}, tmp_path / "out.ipynb", processes=processes)
