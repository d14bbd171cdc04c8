import inspect
import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import dtlpy as dl
import pytest

from alhelpers import dataloop
from alhelpers.dataloop.app import (
    OWN_CODE,
    REQUIREMENTS,
    ROOMS,
    read_manifest,
    read_pipeline,
    write_codebase,
)
from alhelpers.dataloop.manifest import Manifest, Pipeline
from alhelpers.dataloop.own_code import FOLDER

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
        assert not {key: path for key, path in ours.items() if not path.startswith(str(folder))}
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


# ---------------------------------------------------------------------------------------------------------- its name


TEMPLATES = ["active_learning_pipeline.json", "active_learning_pipeline_with_mining.json"]


def texts(document):
    """Every text of a document."""
    if isinstance(document, dict | list):
        inner = document.values() if isinstance(document, dict) else document
        return [text for each in inner for text in texts(each)]
    return [document] if isinstance(document, str) else []


def test_an_app_has_one_name_in_its_manifest_and_templates():
    manifest = read_manifest("bird-finder", "The bird finder")
    assert (manifest["name"], manifest["displayName"]) == ("bird-finder", "The bird finder")
    assert manifest["components"]["pipelineTemplates"] == [
        read_pipeline(name, "bird-finder", "The bird finder") for name in TEMPLATES
    ]
    kits = read_manifest()
    assert not [text for text in texts(manifest) if kits["name"] in text or kits["displayName"] in text]
    # The name is all that differs.
    again = (
        json.dumps(manifest)
        .replace("bird-finder", kits["name"])
        .replace("The bird finder", kits["displayName"])
    )
    assert json.loads(again) == kits
    Manifest.model_validate(manifest)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_runs_the_code_of_the_app_that_is_asked_for(name, tmp_path):
    pipeline = read_pipeline(name, "bird-finder")
    Pipeline.model_validate(pipeline)
    ours = [node for node in pipeline["nodes"] if node["type"] == "custom"]
    for node in ours:
        module = node["namespace"]["moduleName"]
        assert (node["dpkName"], node["appName"]) == ("bird-finder", "Bird finder")
        assert node["namespace"]["packageName"] == "bird-finder"
        assert node["namespace"]["serviceName"] == f"bird-finder-{module}"
    assert all("dpkName" not in node for node in pipeline["nodes"] if node not in ours)
    own = tmp_path / "own.json"
    own.write_text(json.dumps(pipeline))
    assert read_pipeline(own) == pipeline
    assert read_pipeline(own, "x")["nodes"] == read_pipeline(name, "x")["nodes"]


def test_names_that_do_not_fit_are_refused(tmp_path):
    for name in ("Bird finder", "", "-x", "a/b"):
        with pytest.raises(ValueError, match="app_name .* must be small letters, digits and '-'"):
            read_manifest(name)
    pipeline = read_pipeline(TEMPLATES[0])
    node = next(node for node in pipeline["nodes"] if "dpkName" in node)
    node["namespace"]["serviceName"] = "other"
    (tmp_path / "own.json").write_text(json.dumps(pipeline))
    with pytest.raises(ValueError, match="the service 'other' of node .* is not named after its app"):
        read_pipeline(tmp_path / "own.json", "x")


# ---------------------------------------------------------------------------------------------------------- own code


def test_own_code_and_its_requirements_are_published(tmp_path):
    own = tmp_path / "models"
    (own / "__pycache__").mkdir(parents=True)
    for name in ("my_model.py", "first_weights.pt", "__pycache__/x.pyc"):
        (own / name).write_text("")
    whole = write_codebase(tmp_path / "whole", own_code=own, requirements=["timm==1.0.0"])
    assert {path.name for path in (whole / "own_code").iterdir()} == {"my_model.py", "first_weights.pt"}
    assert (whole / "requirements.txt").read_text().splitlines()[-1] == "timm==1.0.0"
    one = write_codebase(tmp_path / "one", own_code=own / "my_model.py")
    assert [path.name for path in (one / "own_code").iterdir()] == ["my_model.py"]
    assert FOLDER == OWN_CODE
    for place in (own / "first_weights.pt", own / "__pycache__", tmp_path / "missing"):
        with pytest.raises(ValueError, match="must be a Python file, or a folder that holds one"):
            write_codebase(tmp_path / "none", own_code=place)
    assert not (tmp_path / "none").exists()
