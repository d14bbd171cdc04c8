"""What a strategy is, and how it sees the records."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers import records as rec
from alhelpers import scores
from alhelpers.mining._selection import MissingField, UnknownOption

# One need is met by any of its fields, the first that is there; a strategy has one or more needs.
Needs = tuple[tuple[str, ...], ...]


class Scored(NamedTuple):
    """What a scoring strategy returns: a score for each record of the pool, (N,) float32, and notes for the meta."""

    scores: np.ndarray
    notes: Mapping[str, Any] = MappingProxyType({})


class Picked(NamedTuple):
    """What a picking strategy returns: places in the pool, their scores, and notes for the meta."""

    places: np.ndarray
    scores: np.ndarray
    notes: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Part:
    """Checked records, as a strategy sees them.

    Parameters
    ----------
    table : pyarrow.Table
        ``id`` and the fields that the strategy declared.
    """

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def has(self, name: str) -> bool:
        """Tell whether a field is there."""
        return name in self.table.column_names

    def numbers(self, name: str) -> np.ndarray:
        """Return a field of numbers, vectors or samples."""
        return rec.column(self.table, name)

    def confidences(self) -> np.ndarray:
        """Return confidences, (N, C): the field, or else the softmax of the logits."""
        if self.has("confidences"):
            return self.numbers("confidences")
        return scores.confidences_from_logits(self.numbers("logits"))

    def embeddings(self, layer: str | None, metric: str = "euclidean") -> np.ndarray:
        """Return a layer's embeddings, (N, D); for the cosine of unit length."""
        name = embeddings_field(layer)
        vectors = self.numbers(name)
        if metric != "cosine":
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not norms.all():
            id = self.table["id"][int(np.flatnonzero(norms[:, 0] == 0)[0])].as_py()
            message = f'record {id!r}: {name} is a zero vector, which has no cosine; use metric="euclidean"'
            raise rec.RecordError(message, id, name)
        return vectors / norms


@dataclass(frozen=True)
class Strategy:
    """A way to mine.

    Parameters
    ----------
    name : str
        What :func:`mine` calls it.
    run : callable
        ``(pool, reference, **options) -> Scored``, or, with ``picks``,
        ``(pool, reference, size, rng, **options) -> Picked``. Its keyword-only parameters are the options.
    needs : callable
        From the options to the fields that the pool must have.
    reference : {"none", "optional", "required"}
        Whether the strategy looks at the labelled records.
    reference_needs : callable, optional
        From the options to the fields that the reference must have.
    extras : tuple of str
        Fields of the pool and the reference that are used where they are there.
    picks : bool
        The strategy chooses the records together, as their worth depends on each other.
    elementwise : bool
        A record's score depends on its own row alone, bit for bit, so that the order of the rows cannot show.
    """

    name: str
    run: Callable[..., Scored | Picked]
    needs: Callable[[Mapping[str, Any]], Needs]
    reference: Literal["none", "optional", "required"] = "none"
    reference_needs: Callable[[Mapping[str, Any]], Needs] = field(default=lambda options: ())
    extras: tuple[str, ...] = ()
    picks: bool = False
    elementwise: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The options, with their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """The first line of the strategy's docstring."""
        return (inspect.getdoc(self.run) or "").splitlines()[0]

    def resolved(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options, the given ones in place of their defaults."""
        unknown = set(options) - set(self.options)
        if unknown:
            there = ", ".join(self.options) or "none"
            raise UnknownOption(
                f"strategy {self.name!r} has no option {min(unknown)!r}; its options are: {there}"
            )
        return self.options | dict(options)

    def columns(self, options: Mapping[str, Any]) -> set[str]:
        """Return all fields that the strategy may read, of the pool and of the reference."""
        needs = (*self.needs(options), *self.reference_needs(options))
        return {name for need in needs for name in need} | set(self.extras)

    def pool(self, records: rec.Records, options: Mapping[str, Any]) -> Part:
        """Load and check the pool."""
        return self._load(records, self.needs(options), "records", options)

    def labelled(self, reference: rec.Records | None, options: Mapping[str, Any]) -> Part | None:
        """Load and check the reference; None for a strategy that does not look at it."""
        if reference is None and self.reference == "required":
            raise MissingField(
                f"strategy {self.name!r} needs a reference: pass the labelled records as reference=..."
            )
        if reference is None or self.reference == "none":
            return None
        return self._load(reference, self.reference_needs(options), "reference", options)

    def _load(self, source: rec.Records, needs: Needs, name: str, options: Mapping[str, Any]) -> Part:
        """Read the fields that meet the needs, and check no others."""
        if isinstance(source, rec.PATHS):
            source = rec.read(source, sorted(self.columns(options)))
        there = _field_names(source)
        wanted = set(self.extras)
        for need in needs if there else ():
            found = next((field for field in need if field in there), None)
            if found is None:
                raise MissingField(
                    f"strategy {self.name!r} needs {' or '.join(need)} in the {name}, which have: "
                    f"{', '.join(there)}"
                )
            wanted.add(found)
        table = rec.as_table(source, sorted(wanted), name)
        # In one order, whatever order they came in: sums of floats and random draws depend on it.
        return Part(table if self.elementwise else table.sort_by("id"))


def _field_names(source: Any) -> list[str]:
    """Return the fields of records in any form; none for what are no records, which as_table will name."""
    if isinstance(source, pa.Table):
        return source.column_names
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        return list(dict.fromkeys(key for row in source for key in row))
    return []


def embeddings_field(layer: str | None) -> str:
    """Return the field of a layer's embeddings; the default layer's for None."""
    return "embeddings" if layer is None else f"embeddings:{layer}"


def needs_embeddings(options: Mapping[str, Any]) -> Needs:
    """Declare the embeddings of the layer that the options name."""
    return ((embeddings_field(options["layer"]),),)


def needs_confidences(options: Mapping[str, Any]) -> Needs:
    """Declare confidences, or logits to make them from."""
    return (("confidences", "logits"),)


def check_choice(strategy: str, option: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise unless an option has one of its values."""
    if value not in choices:
        there = ", ".join(map(repr, choices))
        raise UnknownOption(f"option {option} of strategy {strategy!r} must be one of {there}, got {value!r}")


def check_count(strategy: str, option: str, value: Any, least: int = 1) -> None:
    """Raise unless an option is a whole number that is large enough."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UnknownOption(
            f"option {option} of strategy {strategy!r} must be a whole number of at least {least}, got {value!r}"
        )
