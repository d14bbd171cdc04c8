"""The check of the environment."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

from alhelpers import files
from alhelpers.notebook import check_environment, environment

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def test_every_package_that_is_looked_for_is_one_that_the_kit_installs():
    extras = PROJECT["optional-dependencies"]
    installed = {*PROJECT["dependencies"], *extras["notebooks"]}
    installed |= {name for extra in ("torch", "dataloop", "platform", "dask") for name in extras[extra]}
    assert environment.PACKAGES.keys() <= installed


def test_a_complete_environment_says_so(capsys):
    assert check_environment() == []
    printed = capsys.readouterr().out
    assert sys.executable in printed and "GB free" in printed and "Every package is here." in printed
    assert f"numpy         {importlib.metadata.version('numpy')}" in printed
    assert "MISSING" not in printed


@pytest.mark.parametrize("clone, words", [(files.CLONE, "-c constraints.txt -e"), (None, '"alhelpers[lab]"')])
def test_what_is_missing_is_named_with_the_command_that_installs_it(capsys, monkeypatch, clone, words):
    monkeypatch.setitem(environment.PACKAGES, "a-package-that-nobody-has", "nothing")
    monkeypatch.setattr(files, "CLONE", clone)
    assert check_environment() == ["a-package-that-nobody-has"]
    printed = capsys.readouterr().out
    assert "Missing: a-package-that-nobody-has." in printed and words in printed
    assert f'"{sys.executable}" -m pip install' in printed
