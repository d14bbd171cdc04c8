"""The set-up: one list of packages in three files, an entry point that needs nothing, and rooms that import upwards."""

import ast
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "alhelpers"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())

#: DESIGN: each room imports only from rooms above it.
ROOMS = [
    "_moved",
    "protocols",
    "files",
    "forking",
    "configurations",
    "scores",
    "evaluation",
    "records",
    "mining",
    "data",
    "training",
    "uncertainty",
    "learners",
    "loop",
    "platform",
    "runs",
    "dataloop",
    "notebook",
    "cli",
]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins():
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line:
            name, equals, version = line.partition("==")
            assert equals and re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{line!r} is not name==version"
            assert normal(name) not in found, f"{name} is pinned twice"
            found[normal(name)] = version
    return found


# ---------------------------------------------------------------------------------------------------- packages


def requirements():
    extras = PROJECT["optional-dependencies"].values()
    return [*PROJECT["dependencies"], *(entry for extra in extras for entry in extra)]


@pytest.mark.parametrize("requirement", requirements())
def test_every_direct_dependency_is_pinned(requirement):
    name, _, version = requirement.partition("==")
    assert normal(name) in pins()
    assert version in ("", pins()[normal(name)])


def test_torch_has_one_version_on_every_path():
    # Any other one makes pip take gigabytes of CUDA packages.
    assert pins()["torch"] == "2.13.0"
    assert [entry for entry in requirements() if entry.startswith("torch")] == ["torch==2.13.0"]
    assert "torch" not in (ROOT / "environment.yml").read_text()


def test_conda_makes_python_and_pip_does_the_rest():
    *conda, pip = CONDA["dependencies"]
    assert [re.split("[=<>]", entry)[0] for entry in conda] == ["python", "pip"]
    assert list(pip) == ["pip"]
    constraints, package = pip["pip"]
    assert constraints == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", package)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert set(extras) == {"notebooks", "test"}


def test_the_python_of_conda_is_one_that_the_package_takes():
    given = re.fullmatch(r"python=(\d+)\.(\d+)", CONDA["dependencies"][0])
    least = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert tuple(map(int, given.groups())) >= tuple(map(int, least.groups()))


def test_every_third_party_import_is_declared_or_comes_with_what_is():
    providers = {"sklearn": "scikit-learn", "PIL": "pillow", "jwt": "pyjwt", "IPython": "ipython"}
    imported = {top for path in PACKAGE.rglob("*.py") for top in third_party(path)}
    unpinned = {name for name in imported if normal(providers.get(name, name)) not in pins()}
    assert unpinned <= {"dask"}  # optional: used where it is installed


# ----------------------------------------------------------------------------------------------------------- run


def imports(path):
    """Yield (module, names, level) of every import of a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, [], 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names], node.level


def third_party(path):
    tops = {module.split(".")[0] for module, _, level in imports(path) if level == 0}
    return tops - set(sys.stdlib_module_names) - {"alhelpers"}


def test_run_needs_the_standard_library_only():
    assert third_party(ROOT / "run") == set()
    assert not any(module.startswith("alhelpers") for module, _, _ in imports(ROOT / "run"))


@pytest.fixture
def entry(tmp_path):
    """The script `run` as a module that believes to live in a folder of its own."""
    loader = importlib.machinery.SourceFileLoader("run_script", str(ROOT / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_script", loader))
    former, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = former
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    relative = {name: getattr(module, name).relative_to(ROOT) for name in ("VENV", "BIN", "PYTHON", "STAMP")}
    module.ROOT = tmp_path
    for name, path in relative.items():
        setattr(module, name, tmp_path / path)
    module.calls = []
    module.codes = {}

    def call(*command, env=None):
        words = [str(part) for part in command]
        module.calls.append(words)
        return next((code for word, code in module.codes.items() if word in words), 0)

    module.call = call
    return module


def installed(entry):
    entry.PYTHON.parent.mkdir(parents=True)
    entry.PYTHON.touch()
    entry.STAMP.write_text(entry.fingerprint())


def test_nothing_is_installed_while_the_stamp_matches(entry):
    installed(entry)
    entry.install()
    assert entry.calls == []


@pytest.mark.parametrize("change", ["pyproject.toml", "constraints.txt", ".venv"])
def test_a_change_installs_anew(entry, change):
    installed(entry)
    if change == ".venv":
        entry.PYTHON.unlink()
    else:
        (entry.ROOT / change).write_text("changed")
    entry.make_venv = lambda: ["pip"]
    entry.install()
    (command,) = entry.calls
    assert command[:2] == ["pip", "install"]
    assert command[command.index("-c") + 1] == "constraints.txt"
    assert command[command.index("-e") + 1] == ".[bench,notebooks,test]"
    entry.calls.clear()
    entry.PYTHON.touch()
    entry.install()
    assert entry.calls == []


def test_a_failed_installation_leaves_no_stamp(entry):
    entry.make_venv = lambda: ["pip"]
    entry.VENV.mkdir()
    entry.codes["install"] = 1
    with pytest.raises(SystemExit, match="pip could not install the kit"):
        entry.install()
    assert not entry.STAMP.exists()


def test_without_ensurepip_the_outer_pip_installs(entry):
    codes = iter([1, 0])
    entry.call = lambda *command, env=None: next(codes)
    assert entry.make_venv() == [sys.executable, "-m", "pip", "--python", entry.PYTHON]


def test_a_python_without_venv_is_named(entry):
    entry.codes["venv"] = 1
    with pytest.raises(SystemExit, match="can't make a virtual environment: install its venv module"):
        entry.make_venv()


def test_children_find_this_environment_first(entry):
    env = entry.environment()
    assert env["PATH"].split(os.pathsep)[0] == str(entry.BIN)
    assert env["VIRTUAL_ENV"] == str(entry.VENV)
    assert env["JUPYTER_PREFER_ENV_PATH"] == "1"


def test_lint_without_notebooks_does_not_wait_for_input(entry):
    assert entry.lint([]) == 0
    assert not any("nbstripout" in words for words in entry.calls)
    (entry.ROOT / "notebooks").mkdir()
    (entry.ROOT / "notebooks" / "01_a.ipynb").touch()
    entry.codes["nbstripout"] = 1
    assert entry.lint([]) == 1
    assert entry.calls[-1][-1].endswith("01_a.ipynb")


def test_lab_without_notebooks_says_so(entry):
    with pytest.raises(SystemExit, match="there are no notebooks in"):
        entry.lab([])


@pytest.mark.parametrize("words, code", [([], 2), (["dance"], 2), (["--help"], 0)])
def test_wrong_usage_lists_the_commands_and_installs_nothing(entry, monkeypatch, capsys, words, code):
    monkeypatch.setattr(sys, "argv", ["run", *words])
    assert entry.main() == code
    assert all(f"./run {name}" in capsys.readouterr().out for name in ["tutorial"])
    assert entry.calls == []


def test_the_ci_runs_the_tests():
    text = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^exec python3 \./run test$", text, re.MULTILINE)
    for script in (ROOT / "run", ROOT / ".ci" / "run"):
        assert os.access(script, os.X_OK), f"{script.name} is not executable"


# --------------------------------------------------------------------------------------------------------- rooms


def test_a_plain_import_is_light():
    heavy = ["torch", "dtlpy", "IPython", "papermill", "numpy", "sklearn"]
    code = (
        f"import json, sys, alhelpers; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def rooms_imported(path):
    """Name the rooms that a file of the package imports."""
    folder = path.relative_to(ROOT).parent.parts
    for module, names, level in imports(path):
        base = [*folder[: len(folder) - level + 1]] if level else []
        parts = [*base, *filter(None, module.split("."))]
        if parts[:1] != ["alhelpers"]:
            continue
        yield from [parts[1]] if len(parts) > 1 else names


def test_every_room_is_in_the_plan():
    present = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert present - {"__init__", "__main__"} <= set(ROOMS)


def files_of(room):
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_above_it(room):
    # The platform knows nothing of the rooms beside it; how a process is forked is no room's matter.
    allowed = {room, *ROOMS[: ROOMS.index(room)]} if room != "platform" else {room, "forking"}
    for path in files_of(room):
        below = set(rooms_imported(path)) - allowed
        assert not below, f"{path.relative_to(ROOT)} imports {', '.join(sorted(below))}"


@pytest.mark.parametrize("room", ["protocols", "scores", "evaluation"])
def test_the_arithmetic_needs_numpy_only(room):
    assert {top for path in files_of(room) for top in third_party(path)} == {"numpy"}


def test_forking_needs_the_standard_library_and_where_it_is_there_threadpoolctl():
    assert set().union(*map(third_party, files_of("forking"))) == {"threadpoolctl"}


def test_only_the_notebook_room_imports_ipython_and_widgets():
    for path in PACKAGE.rglob("*.py"):
        if "notebook" not in path.relative_to(PACKAGE).parts:
            assert not third_party(path) & {"IPython", "ipywidgets"}, path.relative_to(ROOT)
