"""The set-up: packages, the entry point, and modules that import only from those above them."""

import ast
import functools
import graphlib
import importlib.machinery
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import alhelpers

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "alhelpers"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())

#: What mining, scores, evaluation and records must do without.
HEAVY = (
    "IPython PIL aiohttp dask distributed dtlpy fsspec joblib jsonschema pandas sklearn scipy torch".split()
)

#: What ./run installs for each command.
OF_COMMANDS = {
    "tutorial": "notebooks",
    "docs": "docs",
    "sweep": "notebooks",
    "test": "test",
    "lab": "lab",
    "bench": "bench",
    "coverage": "test",
    "lint": "lint",
}

#: The modules in order: each imports only from those above it, and only these packages. docs/architecture.md
ROOMS = {
    "_moved": "",
    "protocols": "numpy",
    "files": "platformdirs",
    "storage": "fsspec",
    "forking": "threadpoolctl",
    "parallel": "cloudpickle joblib threadpoolctl",
    "configurations": "pydantic",
    "scores": "numpy",
    "evaluation": "numpy pydantic",
    "records": "numpy pyarrow",
    "mining": "dask numpy pyarrow pydantic sklearn threadpoolctl",
    "data": "PIL numpy pandas pyarrow pydantic sklearn torch",
    "training": "numpy torch",
    "uncertainty": "keras numpy torch",
    "learners": "numpy pyarrow scipy sklearn torch",
    "loop": "matplotlib numpy pandas pyarrow scipy sklearn torch",
    "platform": "PIL aiohttp cronsim dtlpy filelock jinja2 jwt multipart psutil",
    "runs": "IPython PIL distributed filelock ipykernel jupyter_client nbclient nbformat pandas papermill"
    " psutil pyarrow",
    "dataloop": "PIL dtlpy numpy pandas pyarrow pydantic torch",
    "notebook": "IPython anywidget dtlpy ipywidgets matplotlib numpy psutil traitlets",
    "cli": "distributed filelock pyarrow torch tqdm",
}


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
    listed = [*PROJECT["dependencies"], *(entry for extra in EXTRAS.values() for entry in extra)]
    return [entry for entry in listed if not entry.startswith("alhelpers[")]


def test_every_direct_dependency_is_pinned_in_one_place():
    assert {normal(name) for name in requirements()} <= pins().keys(), "names without versions"


def test_torch_has_one_version_on_every_path():
    # Any other one makes pip take gigabytes of CUDA packages.
    assert pins()["torch"] == "2.13.0"
    assert "torch" not in (ROOT / "environment.yml").read_text()


def test_extras_include_extras_that_are_there():
    included = [entry for extra in EXTRAS.values() for entry in extra if entry.startswith("alhelpers[")]
    for entry in included:
        assert set(re.fullmatch(r"alhelpers\[([a-z,]+)\]", entry)[1].split(",")) <= EXTRAS.keys()


def test_the_package_alone_is_light():
    heavy = {"torch", "dtlpy", "aiohttp", "pandas", "scikit-learn", "pillow", "papermill", "dask"}
    assert heavy.isdisjoint(PROJECT["dependencies"])


def test_the_wheel_has_every_file(monkeypatch):
    given = {}
    stand_in = SimpleNamespace(setup=given.update, find_packages=lambda include: [])
    monkeypatch.setitem(sys.modules, "setuptools", stand_in)
    runpy.run_path(str(ROOT / "setup.py"))
    folders = {package: ROOT / folder for package, folder in given["package_dir"].items()}
    assert folders.keys() == set(given["packages"])
    folders |= {name: ROOT / name.replace(".", "/") for name in given["package_data"] if name not in folders}
    packed = {
        path
        for package, patterns in given["package_data"].items()
        for pattern in patterns
        for path in folders[package].glob(pattern)
    }
    roots = [ROOT / name for name in ("alhelpers", "pipeline_configs", "data")]
    there = {path for root in roots for path in root.rglob("*.*")}
    left_out = {path for path in there - packed if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert not [path for path in left_out if not path.is_relative_to(ROOT / "data" / "cache")]


def test_the_license_is_named_and_there():
    assert PROJECT["license"] == "Apache-2.0" and PROJECT["license-files"] == ["LICENSE"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_changelog_begins_with_this_version():
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert latest == alhelpers.__version__


def test_conda_makes_python_and_pip_does_the_rest():
    *conda, pip = CONDA["dependencies"]
    assert [re.split("[=<>]", entry)[0] for entry in conda] == ["python", "pip"]
    assert list(pip) == ["pip"]
    constraints, package = pip["pip"]
    assert constraints == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", package)[1].split(",")
    assert set(extras) == {"lab", "test"} <= EXTRAS.keys()


def test_the_python_of_conda_is_one_that_the_package_takes():
    given = re.fullmatch(r"python=(\d+)\.(\d+)", CONDA["dependencies"][0])
    least = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert tuple(map(int, given.groups())) >= tuple(map(int, least.groups()))


def test_every_third_party_import_is_declared_or_comes_with_what_is():
    providers = {"sklearn": "scikit-learn", "PIL": "pillow", "jwt": "pyjwt", "IPython": "ipython"}
    imported = {top for path in PACKAGE.rglob("*.py") for top in third_party(path)}
    unpinned = {name for name in imported if normal(providers.get(name, name)) not in pins()}
    assert not unpinned


# ----------------------------------------------------------------------------------------------------------- run


@functools.cache
def imports(path):
    """List (module, names, level) of every import of a file, also those inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, [], 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [alias.name for alias in node.names], node.level))
    return found


def third_party(path):
    tops = {module.split(".")[0] for module, _, level in imports(path) if level == 0}
    return tops - set(sys.stdlib_module_names) - {"alhelpers"}


def test_run_needs_the_standard_library_only():
    assert third_party(ROOT / "run") == set()
    assert not any(module.startswith("alhelpers") for module, _, _ in imports(ROOT / "run"))


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """The script `run` as a module that believes to live in a folder of its own."""
    loader = importlib.machinery.SourceFileLoader("run_script", str(ROOT / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_script", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
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


def add_notebook(entry):
    (entry.ROOT / "notebooks").mkdir()
    (entry.ROOT / "notebooks" / "01_a.ipynb").touch()


def install_all(entry, *extras):
    entry.PYTHON.parent.mkdir(parents=True)
    entry.PYTHON.touch()
    entry.STAMP.write_text("\n".join([entry.fingerprint(), *extras]))


@pytest.mark.parametrize("command", OF_COMMANDS)
def test_nothing_is_installed_while_the_stamp_lists_it(entry, monkeypatch, command):
    assert entry.COMMANDS[command][1] == OF_COMMANDS[command]
    install_all(entry, OF_COMMANDS[command])
    add_notebook(entry)
    monkeypatch.setattr(sys, "argv", ["run", command])
    assert entry.main() == 0
    assert not any("pip" in words for words in entry.calls)


@pytest.mark.parametrize("change", ["pyproject.toml", "constraints.txt", ".venv"])
def test_a_change_installs_anew(entry, change):
    install_all(entry, "notebooks", "lab")
    if change == ".venv":
        entry.PYTHON.unlink()
    else:
        with open(entry.ROOT / change, "a") as file:
            file.write("# changed")
    entry.make_venv = lambda: entry.PYTHON.touch() or ["pip"]
    entry.install("notebooks")
    (command,) = entry.calls
    assert command[:2] == ["pip", "install"]
    assert command[command.index("-c") + 1] == "constraints.txt"
    assert command[command.index("-e") + 1] == ".[notebooks]"
    entry.install("notebooks")
    entry.install("platform")  # which it includes
    assert len(entry.calls) == 1
    entry.install("lab")
    assert len(entry.calls) == 2


def test_tests_and_benchmarks_add_what_they_need_when_they_are_called(entry):
    install_all(entry, *entry.contained("notebooks"))
    (entry.BIN / entry.PYTHON.name.replace("python", "pip")).touch()
    for extra in ("test", "bench"):
        entry.install(extra)
        command = entry.calls.pop()
        assert command[:4] == [str(entry.PYTHON), "-m", "pip", "install"] and command[-1] == f".[{extra}]"
    entry.install("lint")
    entry.install("notebooks")
    assert entry.calls == []


def test_a_failed_installation_leaves_no_stamp(entry):
    entry.make_venv = lambda: ["pip"]
    entry.VENV.mkdir()
    entry.codes["install"] = 1
    with pytest.raises(SystemExit, match="pip could not install the kit"):
        entry.install("test")
    assert not entry.STAMP.exists()


def test_without_ensurepip_the_outer_pip_installs(entry):
    codes = iter([1, 0])
    entry.call = lambda *command, env=None: next(codes)
    assert entry.make_venv() == [entry.OUTER_PYTHON, "-m", "pip", "--python", entry.PYTHON]


def test_an_activated_environment_is_made_anew_by_the_python_outside_it(tmp_path):
    shutil.copy(ROOT / "run", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    print_fingerprint = 'import runpy; entry = runpy.run_path("run"); print(entry["fingerprint"]())'
    make_anew = 'entry["make_venv"](); print(entry["call"](entry["PYTHON"], "-c", "pass"))'

    def printed(python, code):
        done = subprocess.run([python, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.split()

    inside = printed(tmp_path / ".venv" / "bin" / "python", f"{print_fingerprint}; {make_anew}")
    assert [inside[0]] == printed(sys._base_executable, print_fingerprint)
    assert inside[-1] == "0"


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
    add_notebook(entry)
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
    out = capsys.readouterr().out
    assert all(f"./run {name}" in out for name in OF_COMMANDS)
    assert entry.calls == []


def test_quick_leaves_out_what_starts_processes(entry):
    entry.test(["--quick", "-x"])
    assert entry.calls.pop()[1:] == ["-m", "pytest", "tests/unit", "-m", "not process", "-x"]
    entry.test(["-k", "scores"])
    assert entry.calls.pop()[1:] == ["-m", "pytest", "-k", "scores"]


def test_the_ci_runs_lint_and_the_tests():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[1] == "set -eu" and lines[-2:] == ["python3 ./run lint", "exec python3 ./run test"]
    for script in (ROOT / "run", ROOT / ".ci" / "run"):
        assert os.access(script, os.X_OK), f"{script.name} is not executable"


# ------------------------------------------------------------------------------------------------------- modules


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
def test_a_plain_import_is_light():
    heavy = {"torch", "dtlpy", "IPython", "papermill", "numpy", "sklearn"}
    assert run_python(f"import sys, alhelpers; print({heavy} & sys.modules.keys())") == "set()\n"


@pytest.mark.process
def test_mining_needs_the_light_packages_only(tmp_path):
    """``alhelpers mine`` where everything else that the kit can use is missing."""
    pool = tmp_path / "pool.parquet"
    code = f"""
import sys
class Missing:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing)
import numpy as np
from alhelpers import cli, evaluation, files, records, scores
confidences = np.random.default_rng(0).dirichlet(np.ones(3), 9).astype(np.float32)
table = records.from_arrays(list("abcdefghi"), class_names=["x", "y", "z"], confidences=confidences)
records.write({str(pool)!r}, table)
config = files.CONFIGURATIONS / "miner_configurations.json"
print(cli.main(["mine", str(config), {str(pool)!r}, "-o", {str(tmp_path / "picks.parquet")!r}]))
sys.stderr = sys.stdout
cli.main(["check", str(config)])
"""
    mined, checked = run_python(code).splitlines()[-2:]
    assert mined == "0"
    hint = r"error: alhelpers check needs \w+: install it with pip install 'alhelpers\[dataloop\]'"
    assert re.fullmatch(hint, checked)


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def modules_imported(path):
    """Yield the modules of the package that a file imports anywhere, also for types alone."""
    package = name_of(path.parent / "__init__.py").split(".")
    for module, names, level in imports(path):
        base = ".".join([*package[: len(package) - level + 1], *filter(None, [module])]) if level else module
        for name in [f"{base}.{name}" for name in names] or [base]:
            found = name if name in MODULES else base
            if found in MODULES:
                yield found


def files_of(room):
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def present():
    return [room for room in ROOMS if files_of(room)[0].exists()]


def test_every_module_has_its_place():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {room for room in found if files_of(room)} - {"__init__", "__main__"} <= set(ROOMS)


@pytest.mark.parametrize("room", present())
def test_imports_go_upwards_and_to_packages_of_the_plan(room):
    # The platform uses nothing of the kit but these.
    above = list(ROOMS)[: list(ROOMS).index(room)] if room != "platform" else ["files", "forking"]
    for path in files_of(room):
        below = {module.split(".")[1] for module in modules_imported(path) if "." in module} - {room, *above}
        assert not below, f"{path.relative_to(ROOT)} imports {', '.join(sorted(below))}"
        packages = third_party(path) - set(ROOMS[room].split())
        assert not packages, f"{path.relative_to(ROOT)} imports {', '.join(sorted(packages))}"


@pytest.mark.parametrize("room", present())
def test_no_modules_import_each_other_in_a_circle(room):
    graph = {name_of(path): set(modules_imported(path)) - {name_of(path)} for path in files_of(room)}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_sdk_is_imported_in_few_places():
    using = [
        path.relative_to(PACKAGE).as_posix() for path in MODULES.values() if "dtlpy" in third_party(path)
    ]
    elsewhere = [name for name in using if not name.startswith(("dataloop/", "platform/worker/"))]
    assert elsewhere == ["notebook/connection.py"]


def test_the_map_has_every_module_in_this_order():
    rows = re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert [row for row in rows if row in ROOMS or row == "_moved"] == list(ROOMS)


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md", "docs/methods.md"]
)
def test_files_that_documents_name_are_there(name):
    text = (ROOT / name).read_text()
    links = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert all(((ROOT / name).parent / target).exists() for target in links)
    paths = re.findall(r"`((?:alhelpers|tests|notebooks|pipeline_configs|data)/[\w./]+)`", text)
    # Not those of the wheel, of generated files, and those with a placeholder in capitals.
    skipped = r".*/(pipeline_configs$|shipped_data$)|data/cache|.*(NAME|FAMILY|SERVICE|NN_)"
    missing = [path for path in paths if not re.match(skipped, path) and not (ROOT / path).exists()]
    assert not missing
