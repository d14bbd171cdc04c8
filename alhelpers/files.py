"""The folders of the kit, and files that are written whole or not at all.

The environment variable ``ALHELPERS_DATA`` names one folder for all that the kit keeps. Without it, a clone keeps
everything in its own ``data`` folder; an installed package keeps the platform's state in the user's data folder, and
what can be made again in the user's cache folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

#: The clone that the package lies in, or None if it is installed.
CLONE = _PACKAGE.parent if (_PACKAGE.parent / "pipeline_configs").is_dir() else None

#: The JSON files of ``pipeline_configs``.
CONFIGURATIONS = (CLONE or _PACKAGE) / "pipeline_configs"

#: The data sets that ship with the kit.
SHIPPED_DATA = CLONE / "data" if CLONE else _PACKAGE / "shipped_data"


def data_folder() -> Path:
    """Return the folder of what the kit keeps: ``ALHELPERS_DATA``, a clone's ``data``, or the user's data folder."""
    if folder := os.environ.get("ALHELPERS_DATA"):
        return Path(folder)
    return CLONE / "data" if CLONE else _user_folder("data")


def cache_folder() -> Path:
    """Return the folder of what can be made again: ``cache`` in the data folder, or the user's cache folder."""
    if CLONE or os.environ.get("ALHELPERS_DATA"):
        return data_folder() / "cache"
    return _user_folder("cache")


def platform_folder() -> Path:
    """Return the default state folder of the offline platform."""
    # Beside the cache in a clone, where it has always been.
    kept = cache_folder() if CLONE or os.environ.get("ALHELPERS_DATA") else data_folder()
    return kept / "platform"


def _user_folder(kind: str) -> Path:
    import platformdirs

    return Path(getattr(platformdirs, f"user_{kind}_dir")("alhelpers", appauthor=False))


@contextmanager
def replacing(target: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield the path of an empty file to be written, and move it to its place when all of it is on the disk.

    The folder is made if missing; on any exception the file that is there stays. The new file has the usual mode of new
    files, or the given one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask() if mode is None else mode)
        os.replace(part, target)
    except BaseException:
        part.unlink()
        raise


def write_text(target: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8")


def _umask() -> int:
    """Return the mask of new files' modes, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
