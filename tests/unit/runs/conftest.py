import json
import os
import resource
import sys
from pathlib import Path

import pytest

from alhelpers.runs import Processes, sweep
from alhelpers.runs.preload import preloads


@pytest.fixture(scope="session")
def write_notebook():
    """Write a notebook of some cells; the first one holds the parameters, texts that begin with # are prose."""
    from alhelpers.runs.notebooks import nbformat  # imported there in the fast way

    def write(path, parameters, *sources):
        new = nbformat.v4
        cells = [new.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
        for source in sources:
            make = new.new_markdown_cell if source.startswith("#") else new.new_code_cell
            cells.append(make(source))
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new.new_notebook(cells=cells, metadata=kernel), path)
        return path

    return write


@pytest.fixture
def notebook(write_notebook, tmp_path):
    """Write a.ipynb of some cells, the first one the parameters, and return its path."""
    return lambda *sources: write_notebook(tmp_path / "a.ipynb", *sources)


@pytest.fixture(scope="session")
def processes():
    """Processes with little imported, which are soon there."""
    with Processes(threads=2, preload=preloads("from alhelpers.notebook import record; numpy")) as running:
        yield running


@pytest.fixture
def large_files_refused():
    """Let no file be larger than 100 kB, which the system says as it says that a disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


ECHO = """
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

class Echo(Kernel):
    implementation, implementation_version, banner = "echo", "1", ""
    language_info = {"name": "R", "mimetype": "text/plain", "file_extension": ".r"}

    def do_execute(self, code, *arguments, **options):
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

IPKernelApp.launch_instance(kernel_class=Echo)
"""


@pytest.fixture
def other_kernels(tmp_path, monkeypatch):
    """Install the kernels "other", an environment of its own, and "echo", a language that prints its code."""
    home = tmp_path / "environment"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (home / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (tmp_path / "echo.py").write_text(ECHO)
    end = ["-f", "{connection_file}"]
    packages = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MARK": "set"}
    specs = {
        "other": {"argv": [str(home / "bin" / "python"), "-m", "ipykernel_launcher", *end], "env": packages},
        "echo": {"argv": [sys.executable, str(tmp_path / "echo.py"), *end], "language": "R"},
        "unknown": {"argv": [sys.executable, str(tmp_path / "echo.py"), *end], "language": "klingon"},
        "broken": {"argv": [str(tmp_path / "gone"), *end]},
    }
    for name, spec in specs.items():
        folder = tmp_path / "jupyter" / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({"display_name": name, "language": "python"} | spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return home


@pytest.fixture
def ran(monkeypatch):
    """Stand in for the processes: return a copy and the answer for its seed; list the runs."""
    done, answers = [], {}

    def execute(self, request):
        done.append(request["parameters"])
        seed = request["parameters"].get("seed", 0)
        return {"copy": "{}", "seconds": 1} | answers.get(seed, {"recorded": {"value": seed}})

    monkeypatch.setattr(Processes, "execute", execute)
    return done, answers


@pytest.fixture
def swept(path, tmp_path):
    """Sweep the notebook of the fixture path into the folder out, one run at a time."""
    options = {"output": tmp_path / "out", "workers": 1, "say": lambda _: None}
    return lambda grid, **more: sweep(path, grid, **options | more)
