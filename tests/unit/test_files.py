"""The folders of the kit, and files that are whole or not there."""

import os

import pytest

from alhelpers import data, files


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As from a wheel, with a home of its own; returns the home."""
    monkeypatch.setattr(files, "CLONE", None)
    monkeypatch.delenv("ALHELPERS_DATA", raising=False)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_a_clone_keeps_everything_in_its_own_folder(monkeypatch):
    monkeypatch.delenv("ALHELPERS_DATA", raising=False)
    assert (files.CLONE / "pyproject.toml").exists()
    assert files.data_folder() == files.CLONE / "data"
    assert files.cache_folder() == files.CLONE / "data" / "cache"
    assert files.platform_folder() == files.CLONE / "data" / "cache" / "platform"


def test_an_installed_package_uses_the_folders_of_the_user(installed):
    data_folder, cache_folder, platform = files.data_folder(), files.cache_folder(), files.platform_folder()
    assert data_folder != cache_folder and platform == data_folder / "platform"
    assert all(folder.is_relative_to(installed) for folder in (data_folder, cache_folder))
    assert data.data_folder() == data_folder and data.cache_folder() == cache_folder


@pytest.mark.parametrize("clone", [True, False])
def test_one_variable_names_one_folder_for_everything(installed, monkeypatch, clone):
    if clone:
        monkeypatch.setattr(files, "CLONE", installed / "clone")
    monkeypatch.setenv("ALHELPERS_DATA", str(installed / "mine"))
    assert files.data_folder() == installed / "mine"
    assert files.cache_folder() == installed / "mine" / "cache"
    assert files.platform_folder() == installed / "mine" / "cache" / "platform"


def test_what_ships_is_found_wherever_the_state_is(installed, monkeypatch):
    monkeypatch.setenv("ALHELPERS_DATA", str(installed / "mine"))
    pool, test = data.load("mnist")
    assert (len(pool), len(test)) == (5000, 2000)
    assert (files.CONFIGURATIONS / "dataloop.json").exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    files.write_text(target, "one")
    with pytest.raises(RuntimeError, match="no more"), files.replacing(target) as part:
        part.write_text("half")
        raise RuntimeError("no more")
    assert target.read_text() == "one" and os.listdir(target.parent) == ["a.txt"]
