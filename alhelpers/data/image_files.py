"""Images in files, decoded when they are asked for, with what cannot be read listed."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from alhelpers.data.arrays import ImageSet, PartlyLabelled, Rows, rows_of, to_planes
from alhelpers.data.images import UnreadableImage, read_image, size_pair
from alhelpers.protocols import Task

# Files that a thread reads before it hands over: fewer cost more in exchange than they save.
_BLOCK = 32

_MODES = {"RGB": 3, "L": 1}


class Problem(NamedTuple):
    """A file that cannot be used as an image, or whose content another file has.

    Attributes
    ----------
    id : str
        The id of the image.
    kind : {"empty", "unreadable", "duplicate"}
    reason : str
        What is wrong, for people.
    """

    id: str
    kind: Literal["empty", "unreadable", "duplicate"]
    reason: str


class _Read(NamedTuple):
    """A file that was read: its row, and the image and the digest of its content, or the problem."""

    row: int
    image: np.ndarray | None
    digest: bytes | None
    problem: Problem | None


def _digest(content: bytes) -> bytes:
    """Return the number of bytes, in 8 bytes, and a hash."""
    return len(content).to_bytes(8) + hashlib.blake2b(content, digest_size=16).digest()


class _Contents:
    """The contents of files, of which those alone are read that have as many bytes as one that is looked for."""

    def __init__(self, ids: Sequence[str], files: Sequence[Path]) -> None:
        self._ids, self._files = ids, files
        self._by_bytes: dict[int, list[int]] | None = None
        self._digests: dict[int, dict[bytes, str]] = {}

    def find(self, digest: bytes) -> str | None:
        """Return the id of the file whose content has a digest, or None."""
        if self._by_bytes is None:
            self._by_bytes = {}
            for place, own in enumerate(self._files):
                with suppress(OSError):  # listed when it is read
                    self._by_bytes.setdefault(own.stat().st_size, []).append(place)
        count = int.from_bytes(digest[:8])
        if count not in self._digests:
            found = self._digests[count] = {}
            for place in self._by_bytes.get(count, ()):
                with suppress(OSError):
                    found.setdefault(_digest(self._files[place].read_bytes()), self._ids[place])
        return self._digests[count].get(digest)


class FolderDataset(PartlyLabelled):
    """Images in the files of a folder; a :class:`~alhelpers.protocols.Dataset` that :func:`folder` makes.

    Files are decoded when :meth:`inputs` or :meth:`chunks` asks for them: upright, as 8 bits, in one mode and at one
    size. In memory are the ids and labels alone.

    Attributes
    ----------
    ids : numpy.ndarray of shape (N,)
        Distinct texts: paths in the folder with ``/`` between their parts, sorted.
    class_names : tuple of str or None
        The classes of all labelled files, sorted; of parts of a data set those of the whole.
    task : {"classification", "multilabel", "detection"}
    root : pathlib.Path
        The folder; ``root / id`` is the file of an image.
    """

    def __init__(
        self,
        root: Path,
        ids: Sequence[str],
        labels: np.ndarray,
        is_labelled: np.ndarray,
        class_names: Sequence[str] | None,
        *,
        task: Task = "classification",
        size: int | Sequence[int] | None = None,
        mode: str = "RGB",
        files: Sequence[str] | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode is {mode!r}: it must be 'RGB' (colours) or 'L' (grey levels)")
        self.root, self.task, self.mode = root, task, mode
        self.size = None if size is None else size_pair(size)
        self.ids = np.asarray(ids, dtype=str)
        self.class_names = None if class_names is None else tuple(class_names)
        self._files = self.ids if files is None else np.asarray(files, dtype=str)
        self._labels, self._is_labelled = labels, is_labelled
        self._problems = {problem.id: problem for problem in problems}
        # Of a pool: the labelled images, of which no copy is used.
        self._others: _Contents | None = None
        # Without a size: the size of the first image that was read, and its id; shared by the parts of a data set.
        self._first: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        labelled = int(self._is_labelled.sum())
        return f"<{type(self).__name__} {str(self.root)!r}: {len(self)} images, {labelled} labelled>"

    def inputs(self, rows: Rows = None) -> np.ndarray:
        """Return images as networks take them, (B, C, H, W) float32 from 0 to 1.

        Raises
        ------
        ValueError
            If a file cannot be read, or the images differ in size and no ``size`` was passed; the message names them.
        """
        images = []
        for block in self._read_blocks(rows_of(np.arange(len(self)), rows)):
            for read in block:
                if read.problem is not None:
                    raise ValueError(
                        f"{self._path(read.row)} is not an image that can be read ({read.problem.reason}): leave such"
                        " files out with .readable(), or replace it"
                    )
                images.append(read.image)
        return to_planes(np.stack(images) if images else self._no_images())

    def labels(self, rows: Rows = None) -> np.ndarray:
        """Return the labels of the rows: class indices (B,), or for multilabel 0 or 1 a class (B, C).

        Raises
        ------
        ValueError
            If one of them has no label.
        """
        name = self._first_without_label(rows)
        if name is not None:
            raise ValueError(f"{name!r} has no label: take the labelled images alone, with .labelled")
        return rows_of(self._labels, rows)

    def take(self, rows: Rows) -> Self:
        """Return the data set of the given rows, in the given order."""
        taken = copy.copy(self)
        for name in ("ids", "_files", "_labels", "_is_labelled"):
            setattr(taken, name, rows_of(getattr(self, name), rows))
        if self._files is self.ids:
            taken._files = taken.ids
        # Of what file another one is a duplicate depends on which are there.
        kept = {id: problem for id, problem in self._problems.items() if problem.kind != "duplicate"}
        kept = {id: kept[id] for id in taken.ids[np.isin(taken.ids, [*kept])].tolist()} if kept else {}
        taken._problems = kept
        return taken

    @property
    def unlabelled(self) -> Self:
        """The data set of the images without labels: the pool. Copies of labelled files are problems of it."""
        pool = super().unlabelled
        labelled = np.flatnonzero(self._is_labelled)
        if len(labelled):
            files = [self._path(row) for row in labelled.tolist()]
            pool._others = _Contents(rows_of(self.ids, labelled).tolist(), files)
        return pool

    @property
    def problems(self) -> list[Problem]:
        """What is known so far: empty files at once, others when :meth:`chunks` or :meth:`readable` has read them."""
        return [*self._problems.values()]

    def chunks(self, size: int = 1024) -> Iterator[tuple[ImageSet, list[Problem]]]:
        """Read the images in parts, each file once, with decoding in threads; what cannot be used is listed.

        Files with the same content are duplicates: the first stays, the others are problems; in a pool, so are copies
        of labelled files. At most three parts are in memory.

        Parameters
        ----------
        size : int
            Images in a part; the last one has fewer.

        Yields
        ------
        images : ImageSet
            What can be read, with labels if each of these images has one. It is empty, at the end, only if problems are
            left to list.
        problems : list of Problem
            Of the files that were read for this part.

        Raises
        ------
        ValueError
            If images differ in size and no ``size`` was passed to :func:`folder`.
        """
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"size is {size!r}: it must be a whole number of at least 1")
        rows, images, problems = [], [], []
        for read in self._read_once(np.arange(len(self)), ahead=size):
            if read.problem is not None:
                problems.append(read.problem)
                continue
            rows.append(read.row)
            images.append(read.image)
            if len(rows) == size:
                yield self._image_set(rows, np.stack(images)), problems
                rows, images, problems = [], [], []
        if rows or problems:
            yield self._image_set(rows, np.stack(images) if images else self._no_images()), problems

    def load(self) -> ImageSet:
        """Return what can be read, in memory; :attr:`problems` lists the rest.

        Raises
        ------
        ValueError
            If some images have labels and some have not, or none can be read.

        Warns
        -----
        UserWarning
            If a file is left out.
        """
        if len(self) and 0 < self._is_labelled.sum() < len(self):
            raise ValueError(
                f"{self.root} has images with labels and without: load one of them, with .labelled.load() or"
                " .unlabelled.load()"
            )
        images, rows = None, []
        for read in self._read_once(np.arange(len(self)), ahead=_BLOCK):
            if read.problem is None:
                if images is None:
                    images = np.empty((len(self), *read.image.shape), dtype=np.uint8)
                images[len(rows)] = read.image
                rows.append(read.row)
        self._check_left(np.array(rows, dtype=np.intp))
        if len(rows) < len(self):
            first = self.problems[0]
            warnings.warn(
                f"{len(self) - len(rows)} of {len(self)} files in {self.root} are left out, the first is {first.id!r}"
                f" ({first.kind}: {first.reason}): .problems lists all",
                stacklevel=2,
            )
        return self._image_set(rows, images[: len(rows)])

    def readable(self, *, refuse: bool = False) -> Self:
        """Read all files once, and return the data set without those that cannot be used.

        Of files with the same content one with a label stays, and of these the first.

        Parameters
        ----------
        refuse : bool
            Whether to raise an error instead if there is such a file.

        Raises
        ------
        ValueError
            If none is left, or none of a class, and with ``refuse``; the message names files.
        """
        first = np.argsort(~self._is_labelled, kind="stable")
        kept = [read.row for read in self._read_once(first, ahead=_BLOCK) if read.problem is None]
        if refuse and len(kept) < len(self):
            problem = self.problems[0]
            raise ValueError(
                f"{len(self) - len(kept)} of {len(self)} files in {self.root} cannot be used, the first is"
                f" {problem.id!r} ({problem.kind}: {problem.reason}): remove or replace those that .problems lists"
            )
        rows = np.sort(np.array(kept, dtype=np.intp))
        self._check_left(rows)
        return self.take(rows)

    def _check_left(self, rows: np.ndarray) -> None:
        """Raise a ValueError if the rows that can be read are none, or none of a class that has labels."""
        if not len(self):
            raise ValueError(
                f"none of the images in {self.root} is in this data set: for .labelled, put some into a subfolder for"
                " each class or name their labels in a table; for .unlabelled, add some without a label"
            )
        if not len(rows):
            reason = f": {self.problems[0].id!r} is {self.problems[0].kind}" if self._problems else ""
            raise ValueError(f"no image of {len(self)} in {self.root} can be used{reason}: add images")
        if self.task == "classification":
            lost = np.setdiff1d(self._labels[self._is_labelled], self._labels[rows])
            if len(lost):
                raise ValueError(
                    f"no image of class {self.class_names[lost[0]]!r} in {self.root} can be used: a class needs an"
                    " example; add one, or remove the class"
                )

    def _image_set(self, rows: list[int], images: np.ndarray) -> ImageSet:
        labels = self._labels[rows] if self._is_labelled[rows].all() else None
        return ImageSet(self.root.name, images, labels, self.class_names, task=self.task, ids=self.ids[rows])

    def _no_images(self) -> np.ndarray:
        height, width = self.size or self._first.get("size", (1, 1))
        return np.zeros((0, height, width, 3)[: 3 + (self.mode == "RGB")], dtype=np.uint8)

    def _path(self, row: int) -> Path:
        return self.root / str(self._files[row])

    # ---------------------------------------------------------------- reading

    def _read_once(self, rows: np.ndarray, ahead: int) -> Iterator[_Read]:
        """Read files in the order of rows, and keep their problems; duplicates have one, too."""
        found: dict[bytes, int] = {}
        self._problems = {}
        for block in self._read_blocks(rows, ahead):
            for read in block:
                twin = None if read.digest is None else found.setdefault(read.digest, read.row)
                if twin not in (None, read.row):
                    reason = f"it has the same content as {str(self.ids[twin])!r}"
                    if self._labels_differ(twin, read.row):
                        reason += ", and another label"
                elif (other := self._labelled_twin(read.digest)) is not None:
                    reason = f"it has the same content as {other!r}, which has a label"
                else:
                    reason = None
                if reason is not None:
                    read = _Read(read.row, None, None, Problem(str(self.ids[read.row]), "duplicate", reason))
                if read.problem is not None:
                    self._problems[read.problem.id] = read.problem
                yield read

    def _labelled_twin(self, digest: bytes | None) -> str | None:
        """Return the id of the labelled image with the same content, or None."""
        return None if self._others is None or digest is None else self._others.find(digest)

    def _labels_differ(self, first: int, second: int) -> bool:
        both = self._is_labelled[first] and self._is_labelled[second]
        return bool(both and np.any(self._labels[first] != self._labels[second]))

    def _read_blocks(self, rows: np.ndarray, ahead: int = 1024) -> Iterator[list[_Read]]:
        """Read files in threads, about `ahead` more than were asked for, and yield them in the order of rows."""
        blocks = np.split(rows, range(_BLOCK, len(rows), _BLOCK)) if len(rows) else []
        threads = min(len(blocks), _cores())
        if threads < 2:
            yield from (self._checked(self._read_block(block)) for block in blocks)
            return
        waiting: deque[Any] = deque()
        pool = ThreadPoolExecutor(threads)
        try:
            for block in blocks:
                waiting.append(pool.submit(self._read_block, block))
                if len(waiting) > max(ahead // _BLOCK, threads):
                    yield self._checked(waiting.popleft().result())
            while waiting:
                yield self._checked(waiting.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_block(self, rows: np.ndarray) -> list[_Read]:
        return [self._read(row) for row in rows.tolist()]

    def _read(self, row: int) -> _Read:
        name = str(self.ids[row])
        try:
            with open(os.path.join(self.root, self._files[row]), "rb") as file:
                content = file.read()
            if not content:
                return _Read(row, None, None, Problem(name, "empty", "the file has no content"))
            image = self._decode(content, row)
        except OSError as error:
            return _Read(row, None, None, Problem(name, "unreadable", error.strerror or str(error)))
        except UnreadableImage as error:
            return _Read(row, None, None, Problem(name, "unreadable", str(error)))
        return _Read(row, image, _digest(content), None)

    def _decode(self, content: bytes, row: int) -> np.ndarray:
        return read_image(io.BytesIO(content), self.size, self.mode)

    def _checked(self, block: list[_Read]) -> list[_Read]:
        """Return a block, or raise a ValueError if an image has not the size of the first one."""
        for read in block if self.size is None else ():
            if read.image is None:
                continue
            size, first = read.image.shape[:2], self._first
            if not first:
                first |= {"size": size, "id": str(self.ids[read.row])}
            elif size != first["size"]:
                (height, width), (h, w) = first["size"], size
                raise ValueError(
                    f"{first['id']!r} has {height} x {width} pixels and {str(self.ids[read.row])!r} {h} x {w} (height x"
                    " width): pass size=, such as size=64, to make all images of one size"
                )
        return block


def _cores() -> int:
    """Return how many threads can decode at once."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), 8)
    return min(os.cpu_count() or 1, 8)
