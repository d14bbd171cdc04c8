"""Where a service's code comes from: an unpacked codebase, a piece of text, or the installed environment."""

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
    """The code of a service cannot be had, with a message that says why."""


def fetch(codebase: dict[str, Any], folder: Path) -> Path | None:
    """Lay out a codebase.

    Parameters
    ----------
    codebase : dict
        ``{"kind": "zip", "path": ...}``, ``{"kind": "text", "text": ...}`` or ``{"kind": "installed", "why": ...}``.
    folder : Path
        Where to; it exists and is empty.

    Returns
    -------
    Path or None
        The folder; None when the code is to be found in the environment.

    Raises
    ------
    CodeError
        When the archive is broken, or would write outside the folder, or is too large.
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
    """Unpack an archive that a stranger may have made: nothing outside the folder, no links, no bombs."""
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
            # The sizes in the archive are claims; only what comes out counts.
            while chunk := source.read(1 << 16):
                left -= len(chunk)
                if left < 0:
                    raise CodeError(f"the codebase is refused: it unpacks to more than {MOST_BYTES} bytes")
                file.write(chunk)
    shutil.rmtree(folder / "__MACOSX", ignore_errors=True)


def load(entry_point: str | None, folder: Path | None, why: str = "") -> ModuleType:
    """Import the module of an entry point.

    Parameters
    ----------
    entry_point : str, optional
        The path of a Python file, from the root of the codebase (``main.py`` without it).
    folder : Path, optional
        The unpacked codebase; without it the environment is searched.
    why : str
        Why there is no folder, for the message.
    """
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
    _give_way(folder)
    top = dotted.split(".")[0]
    if all(part.isidentifier() for part in dotted.split(".")) and top not in sys.modules:
        module = importlib.import_module(dotted)
        if module.__file__ and Path(module.__file__).resolve() == file.resolve():
            return module
    # A file whose name is no module's name, or is taken by a module that is loaded already.
    spec = importlib.util.spec_from_file_location(f"entry_point_{path.stem.replace('-', '_')}", file)
    if spec is None or spec.loader is None:
        raise CodeError(f"cannot import the entry point {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _give_way(folder: Path) -> None:
    """Forget this program's own package where the codebase brings one of that name: the codebase comes first."""
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
    """Find the class of a service; None when the module offers plain functions."""
    found = getattr(module, name or CLASS_NAME, None)
    if isinstance(found, type):
        return found
    if name:
        raise CodeError(f"the entry point {module.__name__!r} has no class {name!r}")
    return None
