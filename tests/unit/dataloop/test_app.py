import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest

from alhelpers.dataloop.app import REQUIREMENTS, ROOMS, write_codebase

# Imports a service's file from the codebase alone, as if what it does not require were not installed.
PROBE = """
import importlib.util, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"no module named {{name!r}} on the service", name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, {folder!r})
spec = importlib.util.spec_from_file_location("entry_point", {folder!r} + "/alhelpers/{name}.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
for name, module in sorted(sys.modules.items()):
    print(name, getattr(module, "__file__", None) or "")
"""
ENTRY_POINTS = [
    "dataloop/data_split",
    "dataloop/create_new_model",
    "dataloop/compare_models",
    "dataloop/mine_items",
    "dataloop/digit_classifier",
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


def loaded(folder, name):
    """Where the modules come from that a file of the codebase brings into an empty process."""
    allowed = closure(REQUIREMENTS)
    absent = {
        module
        for module, owners in packages_distributions().items()
        if not any(owner.lower().replace("_", "-") in allowed for owner in owners)
    }
    code = PROBE.format(folder=str(folder), name=name, absent=absent - {"alhelpers"})
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_needs_the_codebase_and_its_requirements_only(folder, name):
    modules = loaded(folder, name)
    ours = {key: path for key, path in modules.items() if key.partition(".")[0] == "alhelpers"}
    assert all(path.startswith(str(folder)) for path in ours.values()), ours
    if name in LIGHT:
        assert modules.keys().isdisjoint({"torch", "sklearn", "pyarrow.parquet"})


def test_what_is_not_required_counts_as_absent(folder):
    (folder / "alhelpers" / "greedy.py").write_text("import IPython\n")
    with pytest.raises(AssertionError, match="no module named 'IPython' on the service"):
        loaded(folder, "greedy")
    (folder / "alhelpers" / "greedy.py").unlink()
