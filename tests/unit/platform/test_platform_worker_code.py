"""The code of services: what is unpacked, what is refused, what is imported."""

import io
import subprocess
import sys
import zipfile

import pytest

from alhelpers.platform.worker import code


def archive(**members):
    """Build an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return zipfile.ZipFile(buffer)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder beside nothing; what is imported from it is forgotten."""
    inside = tmp_path / "code"
    inside.mkdir()
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield inside
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_codebase_is_unpacked(folder):
    code.unpack(archive(**{"main.py": "x = 1", "inner/part.py": "y = 2", "__MACOSX/junk": "z"}), folder)
    unpacked = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    assert unpacked == ["inner/part.py", "main.py"]


@pytest.mark.parametrize(
    "name", ["../evil.py", "a/../../evil.py", "/evil.py", "..\\evil.py", "C:/evil.py", "C:\\evil.py"]
)
def test_a_member_outside_the_folder_is_refused(folder, name):
    with pytest.raises(code.CodeError, match="outside its folder"):
        code.unpack(archive(**{"good.py": "", name: "bad"}), folder)
    assert not (folder.parent / "evil.py").exists()


def test_a_link_is_refused(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(code.CodeError, match="is a link"):
        code.unpack(zipfile.ZipFile(buffer), folder)


def test_a_bomb_is_refused(folder, monkeypatch):
    monkeypatch.setattr(code, "MOST_BYTES", 1000)
    with pytest.raises(code.CodeError, match="more than 1000 bytes"):
        code.unpack(archive(bomb="0" * 100_000), folder)
    monkeypatch.setattr(code, "MOST_FILES", 2)
    with pytest.raises(code.CodeError, match="holds 3 files"):
        code.unpack(archive(a="", b="", c=""), folder)


def test_a_broken_archive_says_so(folder, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK no archive")
    for name in ("broken.zip", "gone.zip"):
        with pytest.raises(code.CodeError, match="cannot be unpacked"):
            code.fetch({"kind": "zip", "path": str(tmp_path / name)}, folder)


@pytest.mark.parametrize("entry_point", ["../main.py", "/main.py", "main.txt", "main"])
def test_an_entry_point_lies_inside(folder, entry_point):
    with pytest.raises(code.CodeError, match="must be a Python file inside the codebase"):
        code.load(entry_point, folder)


def test_a_missing_entry_point_names_what_is_there(folder):
    (folder / "other.py").write_text("")
    with pytest.raises(code.CodeError, match=r"no entry point 'main.py'.*other.py"):
        code.load(None, folder)


def test_modules_of_the_codebase_are_importable(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "entry_here.py").write_text("from deep import beside_here\nvalue = beside_here.value")
    (folder / "deep" / "beside_here.py").write_text("value = 7")
    module = code.load("deep/entry_here.py", folder)
    assert module.__name__ == "deep.entry_here" and module.value == 7


@pytest.mark.parametrize("name", ["my-entry.py", "json.py"])
def test_a_file_with_any_name_is_loaded(folder, name):
    (folder / name).write_text("value = 3")
    assert code.load(name, folder).value == 3
    import json

    assert hasattr(json, "dumps")


def test_without_a_codebase_the_environment_is_searched(folder):
    assert code.load("alhelpers/platform/dql.py", None, "no codebase").__name__ == "alhelpers.platform.dql"
    with pytest.raises(code.CodeError, match=r"no codebase; and the installed .* Nothing is fetched"):
        code.load("nowhere/to/be/found.py", None, "no codebase")
    with pytest.raises(code.CodeError, match="no codebase"):
        code.load("alhelpers/platform/nothing.py", None, "no codebase")


def test_classes_and_plain_functions(folder):
    (folder / "classes.py").write_text("class Mine: pass\nServiceRunner = 3")
    module = code.load("classes.py", folder)
    assert code.find_class(module, "Mine") is module.Mine
    assert code.find_class(module, None) is None
    with pytest.raises(code.CodeError, match="no class 'Other'"):
        code.find_class(module, "Other")


def test_a_codebase_with_this_programs_name_comes_first(folder):
    (folder / "alhelpers").mkdir()
    (folder / "alhelpers" / "__init__.py").write_text("")
    (folder / "alhelpers" / "thing.py").write_text("from . import other\nvalue = other.value")
    (folder / "alhelpers" / "other.py").write_text("value = 'published'")
    script = (
        "from pathlib import Path; from alhelpers.platform.worker import code;"
        f" print(code.load('alhelpers/thing.py', Path({str(folder)!r})).value)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "published"
