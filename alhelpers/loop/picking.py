"""From a model and a data set to the records to label next, read and predicted part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers import mining, records
from alhelpers.data.arrays import bytes_of
from alhelpers.loop._fields import Fields, named_plan, task_of
from alhelpers.loop._references import reference_records
from alhelpers.mining._budget import check_max_boxes, expected_boxes
from alhelpers.mining._selection import check_whole
from alhelpers.protocols import Dataset, Learner
from alhelpers.uncertainty._torch import derived_seed

Progress = Callable[[int, int], None]

# Rows that are read and predicted at once: fewer if the inputs of so many take more bytes.
_ROWS, _BYTES = 1024, 2**27

# Bytes of records that stay in memory before they are written to a temporary file.
_IN_MEMORY = 2**26

# Of tasks whose learners predict no confidences of classes a record.
_DEFAULTS = {"regression": "spread", "detection": "box_uncertainty", "segmentation": "metadata.bald"}


def default_strategy(task: str) -> str:
    """Return the strategy of :func:`pick` for learners of a task, if none is passed."""
    return _DEFAULTS.get(task, "entropy")


def pick(
    learner: Learner,
    dataset: Dataset,
    size: int,
    *,
    strategy: str | Callable[..., Any] | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    reference: Dataset | None = None,
    max_boxes: float | None = None,
    metadata: Mapping[str, Sequence[Any]] | None = None,
    passes: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> mining.Selection:
    """Pick the records of a data set that are most worth labelling next.

    The learner predicts the pool part by part, and only what the strategy needs; the predictions are mined as
    :func:`alhelpers.mining.mine` does. So a folder of images may be larger than the memory.

    Parameters
    ----------
    learner : Learner
        A fitted or ready-made model, such as :class:`alhelpers.learners.TorchClassifier`, or a
        :class:`alhelpers.uncertainty.Committee` of them.
    dataset : Dataset
        The pool. Of one that has labels for some rows, such as :func:`alhelpers.data.folder`, only rows without a label
        are picked. What it cannot read, and what is there twice, is left out, also a copy of a labelled file.
    size : int
        How many to pick; all that can be read, if these are fewer.
    strategy : str, callable, or mapping or list of mapping, optional
        A strategy of :func:`alhelpers.mining.mine`, a score of one's own, or a plan of
        :func:`alhelpers.mining.combine`. None: ``"entropy"``, of a regression ``"spread"``, of a detector
        ``"box_uncertainty"``, and of a segmenter ``"metadata.bald"``.
    reference : Dataset, optional
        The labelled rows, for strategies that compare with them. The default is ``dataset.labelled``, if there is one.
    max_boxes : float, optional
        Of a detector: a budget in boxes, as for :func:`alhelpers.mining.mine`; `size` is then the most images.
    metadata : mapping of str to sequence of length N, optional
        What else is known, for a score such as ``"metadata.blur"`` or a balance of goals: under each name, here
        ``blur``, one value for each row of ``dataset``, labelled or not, in the order of its ``ids``. A DataFrame has
        this form.
    passes : int
        MC-dropout passes, where the strategy needs them.
    seed : int
        Of the passes and the strategy.
    progress : callable, optional
        Called with the number of rows read and the total, and then as :func:`alhelpers.mining.mine` calls it.
    **options
        The strategy's own options.

    Returns
    -------
    Selection
        ``ids`` and ``scores``, best first. ``meta["problems"]`` lists what was left out: ``id``, ``kind`` and
        ``reason``.

    Raises
    ------
    PoolExhausted
        If there is no row without a label, or none can be read.
    MiningError, ValueError
        If the strategy or an option is not valid, the learner does not predict what it needs, there is no reference
        although it needs one, metadata is missing or has another length, or a prediction is not finite: the message
        names the record.

    Examples
    --------
    >>> photos = data.folder("photos/", size=64)  # doctest: +SKIP
    >>> chosen = pick(learner, photos, 50, strategy="margin")  # doctest: +SKIP
    """
    check_whole("size", size, 1)
    check_whole("seed", seed, 0)
    if not callable(getattr(dataset, "inputs", None)):
        raise mining.MiningError(
            f"dataset is a {type(dataset).__name__}: pass a data set, such as data.folder(path) or data.arrays(inputs)"
        )
    task = task_of(learner, dataset)
    strategy = default_strategy(task) if strategy is None else strategy
    is_plan = not (isinstance(strategy, str) or callable(strategy))
    if is_plan and options:
        raise mining.UnknownOption(
            f"option {min(options)!r} is for a single strategy: write it into the plan"
        )
    check_max_boxes(max_boxes)
    if max_boxes is not None and task != "detection":
        raise mining.MiningError(
            f"max_boxes={max_boxes!r} counts predicted boxes, and the learner is of a {task}: leave it out"
        )
    fields = Fields(
        named_plan(strategy, options),
        [learner],
        passes,
        metadata=() if metadata is None else [*metadata],
        task=task,
        beside=() if max_boxes is None else ("detections",),
    )
    pool = getattr(dataset, "unlabelled", dataset)
    if not len(pool):
        raise mining.PoolExhausted(_nothing_in(dataset))
    known_of = _Metadata(metadata if "metadata" in fields.needed else None, dataset)
    labelled = _labelled(fields, dataset, reference)
    total = len(pool) + (0 if labelled is None else len(labelled))
    problems: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="alhelpers-pick-") as folder:
        done = _Counter(progress, total)
        known = None
        if labelled is not None:
            known = _Found(Path(folder) / "reference")
            for chunk in _chunks(labelled, problems, done):
                known.add(reference_records(fields, chunk, chunk.ids, [seed]))
        found = _Found(Path(folder) / "pool")
        for number, chunk in enumerate(_chunks(pool, problems, done)):
            part = fields.records(chunk, chunk.ids, [derived_seed(seed, number) if number else seed])
            found.add(known_of.added_to(part))
        if not found.count:
            raise mining.PoolExhausted(_none_of(len(pool), problems[0]))
        labels = None if known is None or not known.count else known.source
        common = {"reference": labels, "seed": int(seed), "max_boxes": max_boxes}
        count = min(int(size), found.count)
        if is_plan:
            selection = mining.combine(found.source, strategy, count, progress=progress, **common)
        else:
            selection = mining.mine(found.source, strategy, count, progress=progress, **common, **options)
        meta = {**selection.meta, "problems": problems}
        if "detections" in records.field_names(found.source):
            meta["expected_boxes"] = float(expected_boxes(found.source, selection.ids).sum())
    return mining.Selection(selection.ids, selection.scores, meta)


def _labelled(fields: Fields, dataset: Dataset, reference: Dataset | None) -> Dataset | None:
    """Return the labelled rows, if a strategy compares with them and there are any."""
    if not fields.compares:
        return None
    labelled = getattr(dataset, "labelled", None) if reference is None else reference
    if labelled is not None and len(labelled):
        return labelled
    if fields.requires:
        raise mining.MissingField(
            f"strategy {fields.requires!r} compares with labelled records, and there are none: label a few, or pass"
            " them as reference=..."
        )
    return None


class _Metadata:
    """The metadata of a data set's rows, found by their ids."""

    def __init__(self, metadata: Mapping[str, Sequence[Any]] | None, dataset: Dataset) -> None:
        self._values: dict[str, pa.Array] = {}
        for name, values in ({} if metadata is None else metadata).items():
            if len(values) != len(dataset):
                raise mining.MiningError(
                    f"metadata {name!r} has {len(values)} values for {len(dataset)} rows of the data set: pass one for"
                    " each row, in the order of its ids"
                )
            self._values[str(name)] = _array(name, values)
        self._rows = (
            {id: row for row, id in enumerate(np.asarray(dataset.ids).tolist())} if self._values else {}
        )

    def added_to(self, table: pa.Table) -> pa.Table:
        """Return records with the metadata of their rows."""
        if not self._values:
            return table
        rows = pa.array([self._rows[id] for id in table["id"].to_pylist()], pa.int64())
        fields = {name: values.take(rows) for name, values in self._values.items()}
        if "metadata" in table.column_names:  # the values of a regression
            predicted = table["metadata"].combine_chunks()
            fields = {
                **dict(zip([field.name for field in predicted.type], predicted.flatten(), strict=True)),
                **fields,
            }
            table = table.drop_columns(["metadata"])
        return table.append_column("metadata", pa.StructArray.from_arrays([*fields.values()], [*fields]))


def _array(name: str, values: Sequence[Any]) -> pa.Array:
    """Return values as Arrow has them, with NaN of a DataFrame as missing."""
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise mining.MiningError(
            f"metadata {name!r} cannot be stored: {error}; pass values of one kind, such as numbers or texts"
        ) from error
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    if pa.types.is_dictionary(found.type):
        found = found.dictionary_decode()
    return found.cast(pa.string()) if pa.types.is_large_string(found.type) else found


class _Counter:
    """Reports how many rows are read of all."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(self._done, self._total)


class _Found:
    """Records that are found part by part: in memory while they are few, then in files of a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._tables, self.count = folder, list[pa.Table](), 0
        self._files = 0

    def add(self, table: pa.Table) -> None:
        self._tables.append(table)
        self.count += len(table)
        if sum(each.nbytes for each in self._tables) > _IN_MEMORY:
            self._write()

    @property
    def source(self) -> records.Records:
        """The records as mining takes them."""
        if not self._files:
            return pa.concat_tables(self._tables)
        if self._tables:
            self._write()
        return str(self._folder / "*.parquet")

    def _write(self) -> None:
        records.write(self._folder / f"{self._files:06d}.parquet", pa.concat_tables(self._tables))
        self._files += 1
        self._tables = []


def _chunks(dataset: Dataset, problems: list[dict[str, str]], done: _Counter) -> Iterator[Dataset]:
    """Yield a data set in parts without what cannot be used, which goes to the problems."""
    rows = _rows_at_once(dataset)
    if hasattr(dataset, "chunks"):
        for chunk, found in dataset.chunks(rows):
            problems += [dict(zip(("id", "kind", "reason"), problem, strict=True)) for problem in found]
            if len(chunk):
                yield chunk
            done.add(len(chunk) + len(found))
        return
    for start in range(0, len(dataset), rows):
        chunk = dataset.take(np.arange(start, min(start + rows, len(dataset))))
        yield chunk
        done.add(len(chunk))


def _rows_at_once(dataset: Dataset) -> int:
    """Return how many rows to read at once, by the size of the first that can be read."""
    for row in range(min(len(dataset), 10)):
        try:
            inputs = dataset.take(np.array([row])).inputs(np.arange(1))
        except ValueError:  # listed as a problem when its turn comes
            continue
        return max(1, min(_ROWS, _BYTES // max(bytes_of(inputs), 1)))
    return min(_ROWS, 32)


def _none_of(count: int, first: Mapping[str, str]) -> str:
    return (
        f"none of {count} records can be used, the first is {first['id']!r} ({first['kind']}: {first['reason']}):"
        " replace them, or add others"
    )


def _nothing_in(dataset: Dataset) -> str:
    if not len(dataset):
        return "the pool is empty: pass a data set with at least one row"
    return f"nothing is left to pick: all {len(dataset)} records have a label; add some without"
