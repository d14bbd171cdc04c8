"""The code of a service: an unpacked codebase, text, or a module of the installed environment."""

import importlib
import importlib.util
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

MOST_FILES = 20_000
MOST_BYTES = 1 << 29
ENTRY_POINT = "main.py"
CLASS_NAME = "ServiceRunner"


class CodeError(Exception):
    """The code of a service cannot be loaded."""


def fetch(codebase: dict[str, Any], folder: Path) -> Path | None:
    """Write a codebase into an empty folder and return it, or None if the code is in the environment.

    It is ``{"kind": "zip", "path": ...}``, ``{"kind": "text", "text": ...}`` or ``{"kind": "installed", "why": ...}``.
    """
    if codebase["kind"] == "installed":
        return None
    if codebase["kind"] == "text":
        (folder / ENTRY_POINT).write_text(codebase["text"])
        return folder
    try:
        with zipfile.ZipFile(codebase["path"]) as archive:
            unpack(archive, folder)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CodeError(f"the codebase cannot be unpacked: {error}") from error
    return folder


def unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    """Unpack an untrusted archive: nothing outside the folder, no links, a limited size."""
    members = archive.infolist()
    if len(members) > MOST_FILES:
        raise CodeError(f"the codebase holds {len(members)} files; at most {MOST_FILES} are unpacked")
    left = MOST_BYTES
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise CodeError(f"the codebase is refused: {member.filename!r} would lie outside its folder")
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise CodeError(f"the codebase is refused: {member.filename!r} is a link")
        target = folder / path
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, open(target, "wb") as file:
            # The sizes that the archive states may be wrong.
            while chunk := source.read(1 << 16):
                left -= len(chunk)
                if left < 0:
                    raise CodeError(f"the codebase is refused: it unpacks to more than {MOST_BYTES} bytes")
                file.write(chunk)
    shutil.rmtree(folder / "__MACOSX", ignore_errors=True)


def load(entry_point: str | None, folder: Path | None, why: str = "") -> ModuleType:
    """Import the module of an entry point; without a folder, for the reason `why`, search the environment."""
    path = PurePosixPath(entry_point or ENTRY_POINT)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
        raise CodeError(f"the entry point must be a Python file inside the codebase, got {entry_point!r}")
    dotted = ".".join(path.with_suffix("").parts)
    if folder is None:
        return _installed(path, dotted, why)
    file = folder / path
    if not file.is_file():
        present = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.py"))[:20]
        raise CodeError(
            f"the codebase has no entry point {str(path)!r}; its Python files begin with {present}"
        )
    sys.path.insert(0, str(folder))
    _forget_shadowed(folder)
    top = dotted.split(".")[0]
    if all(part.isidentifier() for part in dotted.split(".")) and top not in sys.modules:
        module = importlib.import_module(dotted)
        if module.__file__ and Path(module.__file__).resolve() == file.resolve():
            return module
    # The file's name is not a valid module name, or is that of a loaded module.
    spec = importlib.util.spec_from_file_location(f"entry_point_{path.stem.replace('-', '_')}", file)
    if spec is None or spec.loader is None:
        raise CodeError(f"cannot import the entry point {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _forget_shadowed(folder: Path) -> None:
    """Forget this program's own package if the codebase has one of that name."""
    own = __name__.split(".")[0]
    if (folder / own).is_dir():
        for name in [each for each in sys.modules if each == own or each.startswith(f"{own}.")]:
            del sys.modules[name]


def _installed(path: PurePosixPath, dotted: str, why: str) -> ModuleType:
    try:
        spec = importlib.util.find_spec(dotted)
    except (ImportError, ValueError):
        spec = None
    origin = PurePosixPath(Path(spec.origin).as_posix()) if spec and spec.origin else None
    if origin is None or origin.parts[-len(path.parts) :] != path.parts:
        raise CodeError(
            f"{why}; and the installed environment has no {str(path)!r}. Nothing is fetched from the network:"
            " publish the package with its code (project.dpks.publish(local_path=...)), or install the code where"
            " the platform runs"
        )
    return importlib.import_module(dotted)


def find_class(module: ModuleType, name: str | None) -> type | None:
    """Return the class of a service, or None if the module has plain functions."""
    found = getattr(module, name or CLASS_NAME, None)
    if isinstance(found, type):
        return found
    if name:
        raise CodeError(f"the entry point {module.__name__!r} has no class {name!r}")
    return None
