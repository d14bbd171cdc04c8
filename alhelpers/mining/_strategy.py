"""The description of a strategy, and the records as a strategy uses them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers import records as rec
from alhelpers import scores
from alhelpers.mining._pool import Part, embeddings_field
from alhelpers.mining._selection import MiningError, MissingField, UnknownOption, check_whole

# A need is met by any of its fields, the first that exists; a strategy has one or more needs.
Needs = tuple[tuple[str, ...], ...]

NO_NOTES: Mapping[str, Any] = MappingProxyType({})


class Prepared(NamedTuple):
    """What a strategy computes before it scores parts: their common context, and notes for the meta data."""

    context: Any
    notes: Mapping[str, Any] = NO_NOTES


class Scored(NamedTuple):
    """The scores of the whole pool, in the order of its parts, (N,), and notes for the meta data."""

    scores: np.ndarray
    notes: Mapping[str, Any] = NO_NOTES


class Picked(NamedTuple):
    """Ids that were chosen together, their scores, the size of the pool, and notes for the meta data."""

    ids: Sequence[Any]
    scores: np.ndarray
    pool: int
    notes: Mapping[str, Any] = NO_NOTES


@dataclass(frozen=True)
class Strategy:
    """A strategy: its function, its fields and its options, which are the keyword-only parameters of the function."""

    # By kind. "each": ``(part, context, **options)`` returns the scores (n,) of a part; a record's score depends on its
    # own row alone, bit for bit. "all": ``(pool, reference, **options) -> Scored``; a score depends on other records
    # too. "together": ``(pool, reference, size, seed, **options) -> Picked``; records are chosen as a batch.
    run: Callable[..., Any]
    # The fields that the pool must have, for the options.
    needs: Callable[[Mapping[str, Any]], Needs]
    kind: Literal["each", "all", "together"] = "each"
    # ``(pool, reference, seed, **options) -> Prepared``, the context of kind "each".
    prepare: Callable[..., Prepared] = lambda *_, **options: Prepared(None)
    reference: Literal["none", "optional", "required"] = "none"
    # The fields that the reference must have; by default those of the pool.
    reference_needs: Callable[[Mapping[str, Any]], Needs] | None = None
    # Fields that are used if they exist.
    extras: tuple[str, ...] = ()
    reference_extras: tuple[str, ...] = ()
    # What is read under metadata and tags.
    documents: tuple[str, ...] = ()
    # The valid values of options, the options that are whole numbers of at least 1, and any other check of the options.
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    check: Callable[[str, Mapping[str, Any]], None] | None = None
    # How to get the fields that it needs, for the error that one is missing.
    hint: str = ""

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def options(self) -> dict[str, Any]:
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """The first line of the strategy's docstring."""
        return (inspect.getdoc(self.run) or "").splitlines()[0]

    def resolved(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options, checked, with defaults for those that are not given."""
        unknown = set(options) - set(self.options)
        if unknown:
            known = ", ".join(self.options) or "none"
            raise UnknownOption(
                f"strategy {self.name!r} has no option {min(unknown)!r}; its options are: {known}"
            )
        plain = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()
        }
        resolved = self.options | plain
        for option, choices in self.choices.items():
            if resolved[option] not in choices:
                there = ", ".join(map(repr, choices))
                raise UnknownOption(
                    f"option {option} of strategy {self.name!r} must be one of {there}, got {resolved[option]!r}"
                )
        for option in self.counts:
            if resolved[option] is not None or self.options[option] is not None:
                check_count(self.name, option, resolved[option])
        if self.check is not None:
            self.check(self.name, resolved)
        return resolved

    def columns(self, options: Mapping[str, Any]) -> set[str]:
        """Return all fields that the strategy may read, of the pool and of the reference."""
        needs = (*self.needs(options), *self.needs_of_reference(options))
        named = {_DETECTIONS if _is_of_boxes(name) else name for need in needs for name in need}
        return named | set(self.extras) | set(self.reference_extras)

    def needs_of_reference(self, options: Mapping[str, Any]) -> Needs:
        """Return the fields that the reference must have."""
        if self.reference == "none":
            return ()
        return (self.reference_needs or self.needs)(options)

    def columns_of(self, records: rec.Records, options: Mapping[str, Any]) -> list[str]:
        """Return the fields of the pool to read: those that meet the needs, and the extras."""
        return self._found(records, self.needs(options), self.extras, "records")

    def reference_columns(
        self, reference: rec.Records | None, options: Mapping[str, Any]
    ) -> list[str] | None:
        """Return the fields of the reference to read, or None if the strategy does not use it."""
        if reference is None and self.reference == "required":
            raise MissingField(
                f"strategy {self.name!r} needs a reference: pass the labelled records as reference=..."
            )
        if reference is None or self.reference == "none":
            return None
        return self._found(reference, self.needs_of_reference(options), self.reference_extras, "reference")

    def labelled(self, reference: rec.Records | None, options: Mapping[str, Any]) -> Part | None:
        """Load and check the reference, or return None if the strategy does not use it."""
        columns = self.reference_columns(reference, options)
        if columns is None:
            return None
        # ties go by the order of the ids, whatever order they came in
        return Part(rec.as_table(reference, columns, "reference").sort_by("id").combine_chunks())

    def _found(self, source: rec.Records, needs: Needs, extras: Sequence[str], of: str) -> list[str]:
        """Return the fields that meet the needs, the first existing one of each, and the extras."""
        existing = rec.field_names(source)
        wanted = set(extras)
        for need in needs if existing else ():  # without any field, reading raises the right error
            is_of_boxes = _DETECTIONS in existing and any(map(_is_of_boxes, need))
            of_boxes = _box_fields(source) if is_of_boxes else []
            found = next((name for name in need if name in (*existing, *of_boxes)), None)
            if found is None and is_of_boxes and not _has_boxes(source):
                found = need[-1]  # no box lacks the field
                if of == "records":
                    warnings.warn(
                        f"no record has a box, so that strategy {self.name!r} scores all of them 0: label some at"
                        " random first, or predict with a lower threshold",
                        stacklevel=2,
                    )
            if found is None:
                raise MissingField(
                    f"strategy {self.name!r} needs {' or '.join(need)} in the {of}, which have: "
                    f"{', '.join((*existing, *of_boxes))}{self.hint and f'; {self.hint}'}"
                )
            wanted.add(_DETECTIONS if _is_of_boxes(found) else found)
        return sorted(wanted)


_DETECTIONS = "detections"


def _is_of_boxes(name: str) -> bool:
    return name.startswith(f"{_DETECTIONS}.")


def _box_fields(source: rec.Records) -> list[str]:
    """Return the fields of boxes, such as ``detections.confidence``, without reading any from files."""
    if isinstance(source, list | tuple):
        boxes = (box for row in source for box in row.get(_DETECTIONS) or () if isinstance(box, Mapping))
        names = list(dict.fromkeys(name for box in boxes for name, value in box.items() if value is not None))
    else:
        kind = rec.parts(source, [_DETECTIONS])[0].layout.schema.field(_DETECTIONS).type
        inner = getattr(kind, "value_type", None)
        names = [each.name for each in inner] if inner is not None and pa.types.is_struct(inner) else []
    return [f"{_DETECTIONS}.{name}" for name in names]


def _has_boxes(source: rec.Records) -> bool:
    """Return whether any record has a box; it is read for, as a model may have found nothing."""
    return any(len(rec.boxes(part.load())) for part in rec.parts(source, [_DETECTIONS]))


def needs_embeddings(options: Mapping[str, Any]) -> Needs:
    return ((embeddings_field(options["layer"]),),)


def needs_confidences(options: Mapping[str, Any]) -> Needs:
    return (("confidences", "logits"),)


def check_count(strategy: str, option: str, value: Any) -> None:
    """Raise unless an option is a whole number of at least 1."""
    check_whole(f"option {option} of strategy {strategy!r}", value, 1, UnknownOption)


def check_same_size(strategy: str, vectors: np.ndarray, base: np.ndarray) -> None:
    """Raise unless the embeddings of the pool and of the reference have the same size."""
    if vectors.shape[1] != base.shape[1]:
        raise MiningError(
            f"strategy {strategy!r}: the records' embeddings have {vectors.shape[1]} numbers, the reference's "
            f"{base.shape[1]}; take both from one layer of one model"
        )


@contextmanager
def naming_record(ids: pa.Array, strategy: str) -> Iterator[None]:
    """Convert a ScoreError into an error that names the strategy, and the record if it is about one."""
    try:
        yield
    except scores.ScoreError as error:
        if error.row is None:
            raise MiningError(f"strategy {strategy!r}: {error}") from error
        id = ids[error.row].as_py()
        raise rec.RecordError(f"record {id!r} cannot be scored by {strategy!r}: {error}", id) from error
