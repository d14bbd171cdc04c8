"""A folder of images: classes by subfolder, or by a table of labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from alhelpers.data.image_files import FolderDataset, Problem
from alhelpers.data.images import SUFFIXES

#: Subfolders whose images have no label.
POOL_FOLDERS = ("unlabelled", "unlabeled")

#: The status, in a table of labels, of an image that a person has put aside.
DISCARDED = "discarded"

# Between the labels of an image, in a table for multilabel.
_SEPARATOR = ";"


def folder(
    path: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    *,
    size: int | Sequence[int] | None = None,
    mode: Literal["RGB", "L"] = "RGB",
    task: Literal["classification", "multilabel"] = "classification",
    class_names: Sequence[str] | None = None,
) -> FolderDataset:
    """Read a folder of images: of any size, colour and turn, with labels or without.

    Each subfolder is a class, and its images, also those in folders below, are labelled with it; images beside the
    subfolders, and in one that is called ``unlabelled``, are the pool. With ``labels``, a table names the labels
    instead, and images that it does not name are the pool. Hidden files and folders, and files whose ending is not an
    image's, are left out.

    Parameters
    ----------
    path : path
        The folder.
    labels : path, optional
        A CSV file with the columns ``path`` (in the folder, with ``/``) and ``label``; an empty label is none. For
        multilabel, ``;`` stands between labels, and alone for "none of them". Images whose ``status``, if there is
        such a column, is ``discarded``, as ``alhelpers label`` writes for what is put aside, are left out.
    size : int or (int, int), optional
        Height and width in pixels to which images are resized. None: they must all be of one size.
    mode : {"RGB", "L"}
        Colours or grey levels.
    task : {"classification", "multilabel"}
        One label an image, or several; the latter needs a table.
    class_names : sequence of str, optional
        The classes in the order of a model's outputs, for a model that was trained elsewhere. The default is those
        of the labelled images, sorted.

    Returns
    -------
    FolderDataset
        Its ``labelled`` and ``unlabelled`` images, and ``problems``: the files that cannot be used.

    Raises
    ------
    FileNotFoundError
        If the folder or the table is missing.
    ValueError
        If there is no image, a subfolder has none, or the table has a path that is not there, twice with different
        labels, or outside the folder, or a label is not among ``class_names``.

    Examples
    --------
    >>> photos = folder("photos", size=64)  # doctest: +SKIP
    >>> pool, labelled = photos.unlabelled, photos.labelled  # doctest: +SKIP
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: pass the folder that holds the images")
    if task not in ("classification", "multilabel"):
        raise ValueError(f"task is {task!r}: images in a folder are for 'classification' or 'multilabel'")
    if labels is None and task == "multilabel":
        raise ValueError("an image in a subfolder has one label: pass labels=, a CSV file, for multilabel")
    found = sorted(_images_below(root))
    ids = [name for name, _ in found]
    if not ids:
        raise ValueError(
            f"{root} holds no image: pass a folder with files that end in {', '.join(sorted(SUFFIXES))}"
        )
    if labels is None:
        named = _by_subfolder(root, ids)
    else:
        label_of, discarded = _by_table(Path(labels), root, ids)
        found = [(name, bytes_) for name, bytes_ in found if name not in discarded]
        ids = [name for name, _ in found]
        named = [label_of.get(name) or None for name in ids]
    empty = [Problem(name, "empty", "the file has no content") for name, bytes_ in found if bytes_ == 0]
    values, is_labelled, class_names = _encoded(named, task, class_names, ids)
    return FolderDataset(
        root, ids, values, is_labelled, class_names, task=task, size=size, mode=mode, problems=empty
    )


def _images_below(root: Path, inside: str = "", above: tuple = ()) -> Iterator[tuple[str, int]]:
    """Yield path and bytes of each image; links are followed, but not into a folder that they are in."""
    here = os.stat(root)
    above = (*above, (here.st_dev, here.st_ino))
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = inside + entry.name
            if entry.is_dir():
                there = os.stat(entry.path)
                if (there.st_dev, there.st_ino) not in above:
                    yield from _images_below(Path(entry.path), f"{name}/", above)
            elif is_image(entry.name):
                if not _is_text(name):
                    raise ValueError(
                        f"the name of {os.fsencode(name)!r} in {root} is not text in UTF-8: rename the file"
                    )
                if entry.is_file():
                    yield name, entry.stat().st_size
                elif entry.is_symlink():  # to a file that is missing: listed when it is read
                    yield name, -1


def is_image(name: str) -> bool:
    """Return whether a file is taken for an image, by its ending."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _by_subfolder(root: Path, ids: list[str]) -> list[str | None]:
    """Return the first folder of each path as its label, or None; raise a ValueError if one has no image."""
    firsts = [name.partition("/")[0] if "/" in name else None for name in ids]
    there = set(firsts)
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        ignored = entry.name.startswith(".") or entry.name in POOL_FOLDERS or not entry.is_dir()
        if not ignored and entry.name not in there:
            raise ValueError(
                f"folder {entry.path!r} holds no image, but a class needs an example: add one, or remove the folder"
            )
    return [None if first in POOL_FOLDERS else first for first in firsts]


def _by_table(table: Path, root: Path, ids: list[str]) -> tuple[dict[str, str], set[str]]:
    """Return the label that a table has for each path it names, and which paths a person has put aside."""
    known = dict.fromkeys(ids)
    discarded = set()
    named: dict[str, str] = {}
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there: pass a CSV file with the columns path and label")
    for line, path, label, status in _rows(table):
        name = PurePosixPath(path)
        if not path or name.is_absolute() or ".." in name.parts:
            raise ValueError(
                f"line {line} of {table} has the path {path!r}: it must be one inside of {root}, such as {ids[0]!r}"
            )
        if str(name) not in known:
            kind = "is not an image, by its ending" if (root / name).is_file() else "is not there"
            raise ValueError(
                f"line {line} of {table} has the path {path!r}, which {kind} in {root}: correct it, or remove the line"
            )
        if named.setdefault(str(name), label) != label:
            raise ValueError(
                f"line {line} of {table} has {path!r} again, with label {label!r} after {named[str(name)]!r}: keep one"
            )
        if status == DISCARDED:
            discarded.add(str(name))
    return named, discarded


def _rows(table: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield line, path, label and status, if there is one, of a CSV file."""
    with open(table, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="")
        try:
            columns = list(reader.fieldnames or [])
            missing = [name for name in ("path", "label") if name not in columns]
            if missing:
                raise ValueError(
                    f"{table} has no column {missing[0]!r}: its first line must name path and label, it has {columns}"
                )
            for row in reader:
                if "" in row and "" not in columns:
                    raise ValueError(
                        f"line {reader.line_num} of {table} has more values than the first line: quote those with a"
                        " comma"
                    )
                values = ((row.get(name) or "").strip() for name in ("path", "label", "status"))
                yield reader.line_num, *values
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{table} is not a CSV file in UTF-8: {error}") from error


def _encoded(
    named: list[str | None], task: str, class_names: Sequence[str] | None, ids: list[str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Return labels as numbers, which rows have one, and the class names, sorted unless they are known."""
    is_labelled = np.array([label is not None for label in named], dtype=bool)
    if task == "multilabel":
        sets = [[part.strip() for part in (label or "").split(_SEPARATOR)] for label in named]
        names = _names(
            [(id, part) for id, parts in zip(ids, sets, strict=True) for part in parts], class_names
        )
        place = {name: column for column, name in enumerate(names or ())}
        values = np.zeros((len(named), len(place)), dtype=np.int8)
        for row, parts in enumerate(sets):
            values[row, [place[part] for part in parts if part]] = 1
        return values, is_labelled, names
    names = _names(list(zip(ids, named, strict=True)), class_names)
    place = {name: row for row, name in enumerate(names or ())}
    values = np.array([-1 if label is None else place[label] for label in named], dtype=np.int64)
    return values, is_labelled, names


def _names(found: list[tuple[str, str | None]], class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the class names: those that are known, or all labels sorted; None if there are none."""
    if class_names is None:
        return tuple(sorted({label for _, label in found if label})) or None
    names = tuple(map(str, class_names))
    if len(set(names)) < len(names):
        raise ValueError(f"the class names {', '.join(names)} must be distinct: name each class once")
    for id, label in found:
        if label and label not in names:
            raise ValueError(
                f"{id!r} has the label {label!r}, which is not among the class names {', '.join(names)}: add it to"
                " them, or correct the label"
            )
    return names
