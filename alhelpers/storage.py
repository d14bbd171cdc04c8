"""Files in object storage by URL, such as ``s3://bucket/pool.parquet``, through fsspec.

fsspec is imported only where there is a URL; the package of a storage (s3fs, gcsfs, adlfs) is the user's to install.
The options of a storage may hold secrets: they are pickled for the workers, and never shown, logged or written.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: The bytes at the end of a file that are read first: most footers of Parquet are shorter.
_TAIL = 1 << 16
# Ranges with a smaller gap are read as one; a longer range is read in pieces, side by side.
_GAP, _PIECE = 1 << 16, 1 << 23

# Storages that replace an object whole; elsewhere a file is written under another name and moved.
_OBJECT_STORES = set("abfs abfss adl az gcs gs http https memory oci oss s3 s3a".split())

Options = Mapping[str, Any]


class StorageError(OSError):
    """A URL cannot be read or written; the message names it and what is wrong, without any secret."""


def is_url(path: Any) -> bool:
    """Return whether a path is a URL."""
    return isinstance(path, str) and names_storage(path) and path.partition(":")[2].startswith("//")


def is_glob(url: str) -> bool:
    """Return whether a URL stands for all files that match it."""
    return re.search(r"[*[]", url.partition("://")[2].partition("/")[2] or url) is not None


def names_storage(path: str) -> bool:
    """Return whether a path begins as a URL does, also if a slash of it was lost; one letter is a drive of Windows."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path) is not None


def shown(url: str) -> str:
    """Return a URL, or a text with URLs in it, without passwords and queries, which may hold signatures."""
    text = re.sub(r"://[^/\s@]*@", "://***@", url)
    return re.sub(r"(https?://[^\s'\"?]+)\?[^\s'\"]*", r"\1?***", text)


@dataclass(frozen=True)
class StoredFile:
    """A file in object storage: its URL, size and options.

    ``tail`` is how many bytes at its end are to be read first, ``ahead`` what is to be read together with them.
    """

    url: str
    size: int
    options: Options = field(default_factory=dict)
    tail: int = _TAIL
    ahead: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return shown(self.url)

    def __repr__(self) -> str:
        return f"<{self}, {self.size} bytes>"

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read some ranges of bytes at once, side by side where the storage can."""
        return _read([(self, *each) for each in ranges])


def tails(files: Sequence[StoredFile]) -> list[bytes]:
    """Read the ends of files at once."""
    return _read([(file, max(0, file.size - file.tail), file.size) for file in files])


def read_all(files: Sequence[StoredFile]) -> list[bytes]:
    """Read whole files at once."""
    return _read([(file, 0, file.size) for file in files])


def _read(ranges: Sequence[tuple[StoredFile, int, int]]) -> list[bytes]:
    if not ranges:
        return []
    first = ranges[0][0]
    with named_errors(first.url, first.options, "read"):
        system, _ = _system(first.url, first.options)
        paths = [system._strip_protocol(file.url) for file, _, _ in ranges]
        starts, ends = [start for _, start, _ in ranges], [end for _, _, end in ranges]
        # each failure is returned, so that the file's own name can be told
        found = system.cat_ranges(paths, starts, ends, on_error="return")
    for (file, start, end), content in zip(ranges, found, strict=True):
        with named_errors(file.url, file.options, "read"):
            if isinstance(content, Exception):
                raise content
        if len(content) != end - start:
            raise StorageError(
                f"{file} cannot be read: {len(content)} bytes came where {end - start} were asked for; it was "
                "changed meanwhile, or its server does not send ranges of bytes"
            )
    return found


class Ranges(io.RawIOBase):
    """A file of which some ranges are in memory; others are read when asked for."""

    def __init__(self, file: StoredFile) -> None:
        super().__init__()
        self._file, self._place = file, 0
        self._pieces: dict[int, bytes] = {}

    def fetch_end(self) -> bytes:
        """Fetch what is to be read ahead, all at once, and return the end of the file."""
        start = max(0, self._file.size - self._file.tail)
        self.fetch([*self._file.ahead, (start, self._file.size)])
        self.seek(start)
        return bytes(self.read())

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges into memory: neighbours as one, long ones in pieces, all side by side."""
        joined: list[list[int]] = []
        for start, end in sorted(ranges):
            if joined and start - joined[-1][1] < _GAP:
                joined[-1][1] = max(end, joined[-1][1])
            else:
                joined.append([start, end])
        cut = [
            (place, min(place + _PIECE, end)) for start, end in joined for place in range(start, end, _PIECE)
        ]
        for (start, _), content in zip(cut, self._file.read(cut), strict=True):
            self._pieces[start] = content

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        end = self._file.size if size is None or size < 0 else min(self._file.size, self._place + size)
        found, place = [], self._place
        for start in sorted(self._pieces):
            content = self._pieces[start]
            if start <= place < min(end, start + len(content)):
                found.append(memoryview(content)[place - start : end - start])
                place += len(found[-1])
        if place < end:  # not fetched before
            found = self._file.read([(self._place, end)])
        self._place = end
        return found[0] if len(found) == 1 else b"".join(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._place = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}[whence]
        )
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that one can go to any place."""
        return True


def find(url: str, options: Options, suffix: str = ".parquet") -> list[StoredFile]:
    """Return the files of a URL, a glob, or a folder (those with the suffix), in sorted order; possibly none."""
    with named_errors(url, options, "read"):
        system, path = _system(url, options)
        system.invalidate_cache()  # what came or went since the last look counts
        found = _stored(system, _listed(system, path, suffix), options)
    return [found[name] for name in sorted(found)]


def tree(url: str, options: Options) -> dict[str, StoredFile]:
    """Return all files below a URL by their path from there; possibly none."""
    with named_errors(url, options, "read"):
        system, path = _system(url, options)
        system.invalidate_cache()
        path = path.rstrip("/")
        try:
            found = system.find(path, detail=True)
        except FileNotFoundError:
            return {}
        infos = {name: each["size"] for name, each in found.items() if name.startswith(f"{path}/")}
        return {name[len(path) + 1 :]: file for name, file in sorted(_stored(system, infos, options).items())}


def _stored(system: Any, infos: dict[str, int | None], options: Options) -> dict[str, StoredFile]:
    """Return files by their names in the system."""
    # a server of web pages lists no sizes
    missing = [name for name, size in infos.items() if size is None]
    infos |= dict(zip(missing, system.sizes(missing), strict=True)) if missing else {}
    unknown = next((name for name, size in infos.items() if size is None), None)
    if unknown is not None:
        raise StorageError(f"{shown(unknown)} cannot be read: its server does not tell its size")
    return {
        name: StoredFile(system.unstrip_protocol(name), size, dict(options)) for name, size in infos.items()
    }


def _listed(system: Any, path: str, suffix: str) -> dict[str, int | None]:
    """Return the names of files with their sizes."""
    if is_glob(path):
        found = system.glob(path, detail=True).values()
    else:
        try:
            one = system.info(path)
        except FileNotFoundError as error:
            # over HTTP, no permission and no connection come as this, too
            if "http" in system.protocol and getattr(error.__cause__, "status", None) != 404:
                raise (error.__cause__ or error) from None
            return {}
        if one["type"] == "file" and not path.endswith("/"):
            return {one["name"]: one["size"]}
        found = [each for each in system.ls(path, detail=True) if each["name"].endswith(suffix)]
    return {each["name"]: each["size"] for each in found if each["type"] == "file"}


def read_bytes(url: str, options: Options) -> bytes | None:
    """Return the content of a file, or None if it does not exist."""
    with named_errors(url, options, "read"):
        system, path = _system(url, options)
        try:
            return system.cat_file(path)
        except FileNotFoundError:
            return None


def upload(file: Path, url: str, options: Options) -> None:
    """Put a local file to a URL: whole, or the object that is there stays."""
    with named_errors(url, options, "written"):
        system, path = _system(url, options)
        if url.partition("://")[0].lower() in _OBJECT_STORES:
            system.put_file(str(file), path)
            return
        parent, _, name = path.rpartition("/")
        if parent:
            system.makedirs(parent, exist_ok=True)
        part = f"{parent}/.{name}.{uuid.uuid4().hex}.part"
        try:
            system.put_file(str(file), part)
            system.mv(part, path)
        except BaseException:
            if system.exists(part):
                system.rm_file(part)
            raise


def remove(url: str, options: Options) -> None:
    """Remove a file, if it exists."""
    with named_errors(url, options, "removed"):
        system, path = _system(url, options)
        system.invalidate_cache()
        if system.exists(path):
            system.rm_file(path)


@contextmanager
def uploading(url: str, options: Options) -> Iterator[Path]:
    """Yield the path of a local file to be written, and put it to a URL at the end, unless there is an exception."""
    with tempfile.TemporaryDirectory(prefix="alhelpers-") as folder:
        part = Path(folder) / "part"
        yield part
        upload(part, url, options)


def _system(url: str, options: Options) -> tuple[Any, str]:
    """Return the file system of fsspec, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise StorageError(
            f'{shown(url)} needs fsspec, here and on every worker: pip install "alhelpers[dask]"'
        ) from error
    try:
        return url_to_fs(url, **options)
    except ImportError as error:  # names the package
        raise StorageError(
            f"{shown(url)} needs a package that is missing, here or on a worker: {error}"
        ) from None


@contextmanager
def named_errors(url: str, options: Options, what: str) -> Iterator[None]:
    """Turn what a storage raises, each its own classes, into one that names the URL, and shows no secret."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - each storage raises classes of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, FileNotFoundError | PermissionError) and error.errno is not None:
            reason = os.strerror(error.errno)
        elif isinstance(error, FileNotFoundError):
            reason = "No such file, or its bucket does not exist"
        elif getattr(error, "status", None) in (401, 403):
            reason = f"no permission ({reason})"
        elif getattr(error, "status", None) == 416 or "range is not satisfiable" in reason:
            reason = "it was changed meanwhile, and is shorter now: start again"
        for secret in _texts(options):
            reason = reason.replace(secret, "***")
        # the error itself, which may show secrets, is not passed on
        raise StorageError(f"{shown(url)} cannot be {what}: {shown(reason)}") from None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in options that are long enough for a secret, the longest first."""
    if isinstance(value, str):
        yield from [value] * (len(value) > 3)
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, bytes):
        inner = value.values() if isinstance(value, Mapping) else value
        yield from sorted((text for each in inner for text in _texts(each)), key=len, reverse=True)
