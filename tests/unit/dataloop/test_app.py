import inspect
import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import dtlpy as dl
import pytest

from alhelpers import dataloop
from alhelpers.dataloop.app import REQUIREMENTS, ROOMS, write_codebase

# Imports each service's file from the codebase alone, in a fork of its own, as if what it does not require were not
# installed.
PROBE = """
import importlib.util, json, os, sys, traceback

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"no module named {{name!r}} on the service", name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, {folder!r})
import dtlpy

for name in {names!r}:
    if os.fork():
        os.wait()
        continue
    try:
        spec = importlib.util.spec_from_file_location("entry_point", {folder!r} + f"/alhelpers/{{name}}.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        found = {{key: getattr(each, "__file__", None) or "" for key, each in sys.modules.items()}}
    except Exception:
        found = traceback.format_exc()
    print(json.dumps([name, found]), flush=True)
    os._exit(0)
"""
ENTRY_POINTS = [
    "dataloop/data_split",
    "dataloop/create_new_model",
    "dataloop/compare_models",
    "dataloop/mine_items",
    "dataloop/adapter",
]
# These compute next to nothing, so they start fast.
LIGHT = ENTRY_POINTS[:3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_codebase(tmp_path_factory.mktemp("app") / "code")


def closure(names):
    """The distributions that some distributions bring along."""
    found, pending = set(), [name.lower() for name in names]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        pending += [
            re.split(r"[ ;\[<>=!~(]", line)[0].lower().replace("_", "-")
            for line in requires
            if "extra ==" not in line
        ]
    return found


def test_the_codebase_holds_what_services_need_and_the_versions_tested_here(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["alhelpers", "requirements.txt"]
    assert {path.name.removesuffix(".py") for path in (folder / "alhelpers").iterdir()} == set(ROOMS)
    lines = (folder / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in lines] == list(REQUIREMENTS)
    assert "torch==2.13.0" in lines
    assert not list(folder.rglob("__pycache__"))


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "secret.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty: everything in it would be published"):
        write_codebase(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


def loaded(folder, names):
    """For each file of the codebase, the modules that it brings into an empty process, or its error."""
    allowed = closure(REQUIREMENTS)
    absent = {
        module
        for module, owners in packages_distributions().items()
        if not any(owner.lower().replace("_", "-") in allowed for owner in owners)
    }
    code = PROBE.format(folder=str(folder), names=names, absent=absent - {"alhelpers"})
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_an_entry_point_needs_the_codebase_and_its_requirements_only(folder):
    (folder / "alhelpers" / "greedy.py").write_text("import IPython\n")
    found = loaded(folder, [*ENTRY_POINTS, "greedy"])
    (folder / "alhelpers" / "greedy.py").unlink()
    # what is not required counts as absent
    assert "no module named 'IPython' on the service" in found.pop("greedy")
    assert list(found) == ENTRY_POINTS
    for name, modules in found.items():
        assert isinstance(modules, dict), modules
        ours = {key: path for key, path in modules.items() if key.partition(".")[0] == "alhelpers"}
        assert all(path.startswith(str(folder)) for path in ours.values()), ours
        assert name not in LIGHT or modules.keys().isdisjoint({"torch", "sklearn", "pyarrow.parquet"})


@pytest.mark.parametrize(
    ("name", "function", "parameters"),
    [
        ("DataSplitter", "data_split", "item progress context"),
        (
            "ModelCreator",
            "create_new_model",
            "base_model dataset train_subset validation_subset model_configuration context progress",
        ),
        (
            "ModelComparer",
            "compare_models",
            "previous_model new_model progress context compare_config dataset",
        ),
        (
            "ItemMiner",
            "mine_items",
            "dataset model pool_filter miner_configuration reference_dataset progress context",
        ),
    ],
)
def test_the_nodes_are_services_with_the_documented_parameters(name, function, parameters):
    runner = getattr(dataloop, name)()
    assert isinstance(runner, dl.BaseServiceRunner)
    assert list(inspect.signature(getattr(runner, function)).parameters) == parameters.split()
