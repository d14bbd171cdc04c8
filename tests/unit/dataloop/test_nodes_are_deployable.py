import ast
import importlib.util
import inspect
import sys
from pathlib import Path

import dtlpy as dl
import pytest

import alhelpers.dataloop
from alhelpers.dataloop.app import ROOMS

NODES = {
    "data_split": ("DataSplitter", "data_split", "item progress context"),
    "create_new_model": (
        "ModelCreator",
        "create_new_model",
        "base_model dataset train_subset validation_subset model_configuration context progress",
    ),
    "compare_models": (
        "ModelComparer",
        "compare_models",
        "previous_model new_model progress context compare_config dataset",
    ),
    "mine_items": (
        "ItemMiner",
        "mine_items",
        "dataset model pool_filter miner_configuration reference_dataset progress context",
    ),
}
FOLDER = Path(alhelpers.dataloop.__file__).parent


@pytest.mark.parametrize("name", NODES)
def test_a_node_loads_from_its_file_alone(name):
    # As the platform does it: by path, under a name of its own, and not as a part of the package.
    spec = importlib.util.spec_from_file_location("entry_point", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    class_name, function, parameters = NODES[name]
    runner = getattr(module, class_name)()
    assert isinstance(runner, dl.BaseServiceRunner)
    assert list(inspect.signature(getattr(runner, function)).parameters) == parameters.split()


@pytest.mark.parametrize("name", NODES)
def test_a_node_imports_nothing_that_is_not_on_the_platform(name):
    # On the platform a node has its requirements, and the modules of the codebase that is published with it.
    allowed = sys.stdlib_module_names | {"dtlpy", "numpy"} | {f"alhelpers.{room}" for room in ROOMS}
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            below = node.module == "alhelpers"
            imported |= {f"alhelpers.{alias.name}" for alias in node.names} if below else {node.module}
    depth = {name: 2 if name.startswith("alhelpers") else 1 for name in imported}
    assert {".".join(name.split(".")[: depth[name]]) for name in imported} <= allowed
