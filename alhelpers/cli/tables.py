"""CSV files with a row a picture, as the commands read and write them."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from alhelpers.files import replacing

#: The column that names the picture, or any other record.
KEY = "path"

# Of the names of a table, as many characters are shown.
_SHOWN = 200


def check_no_json(path: Path, *needed: str) -> None:
    """Raise a ValueError if a file holds JSON, as COCO's does, where a table is read."""
    if path.is_file() and _start(path).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        raise ValueError(
            f"{path} is JSON, which is not read here: name a CSV file with the columns {' and '.join((KEY, *needed))};"
            " files of COCO's are read in Python, with alhelpers.data.coco"
        )


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64)


def read_table(path: Path, *needed: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file with a column ``path``, each of whose values is there once.

    Spaces around names and values, except paths, are removed. A ValueError names the file, and the line or the column
    that is wrong.
    """
    if not path.exists() or path.is_dir():  # a pipe is a file, too
        raise ValueError(
            f"{path} is not there: name a CSV file with the column{'s' * bool(needed)} {' and '.join((KEY, *needed))}"
        )
    check_no_json(path, *needed)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            numbered = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    missing = [name for name in (KEY, *needed) if name not in header]
    if missing:
        there = ", ".join(header) or "nothing"
        raise ValueError(
            f"{path} has no column {missing[0]!r}: its first line must name it, and names"
            f" {there if len(there) <= _SHOWN else f'{there[:_SHOWN]}...'}"
            + ("; write commas between the columns, not semicolons" if ";" in "".join(header) else "")
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{path} has the column {twice!r} twice: rename or remove one")
    seen: set[str] = set()
    for line, row in numbered:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line} has {len(row)} values, and the first line {len(header)} names"
            )
        key = row[header.index(KEY)]
        if not key or key in seen:
            wrong = f"has {key!r} a second time" if key else f"has no {KEY}"
            raise ValueError(f"{path}, line {line} {wrong}: keep one row for each {KEY}")
        seen.add(key)
    return [
        {name: value if name == KEY else value.strip() for name, value in zip(header, row, strict=True)}
        for _, row in numbered
    ]


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all."""
    with replacing(path) as part:
        write_rows(part, header, rows)


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in (header, *rows):
            returns = any(
                "\r" in str(value) for value in row
            )  # the writer quotes these only in newer Pythons
            (quoted if returns else writer).writerow(row)
