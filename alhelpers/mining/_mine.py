"""One strategy on one pool."""

from __future__ import annotations

from typing import Any

import numpy as np

from alhelpers.mining._registry import STRATEGIES, find
from alhelpers.mining._selection import MiningError, PoolExhausted, Selection, best_places
from alhelpers.mining._strategy import Part, Picked, Strategy
from alhelpers.records import RecordError, Records
from alhelpers.scores import ScoreError


def mine(
    records: Records,
    strategy: str = "entropy",
    size: int = 100,
    *,
    reference: Records | None = None,
    seed: int = 0,
    engine: Any = None,
    **options: Any,
) -> Selection:
    """Choose the records of a pool that are worth a label most.

    The same records, options and seed give the same selection, in whatever order the records come; ties go to
    the smaller id. Nothing that is passed in is changed.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str or pathlib.Path
        The pool: records, or the path or glob of their Parquet files, of which only the fields needed are
        read.
    strategy : str
        How to choose; :func:`strategies` lists them, with their fields and options.
    size : int
        How many records to choose.
    reference : list of dict, pyarrow.Table, str or pathlib.Path, optional
        The labelled records, for the strategies that look at them; the others do not read it.
    seed : int
        Where randomness comes from, for the strategies that have any.
    engine : None
        Where to compute: None is this process, the only engine there is.
    **options
        The strategy's own options.

    Returns
    -------
    Selection
        ``ids`` and ``scores``, best first, and ``meta``.

    Raises
    ------
    UnknownStrategy, UnknownOption, MissingField, PoolExhausted
        MiningErrors that name what is wrong, and what there is instead.
    RecordError
        If the records break their schema, have an id twice, or hold numbers that cannot be scored.
    """
    check_engine(engine)
    chosen = find(strategy)
    resolved = chosen.resolved(options)
    check_size(size)
    check_seed(seed)
    pool = chosen.pool(records, resolved)
    if size > len(pool):
        raise PoolExhausted(f"size={size} records were asked for, but the pool holds {len(pool)}")
    labelled = chosen.labelled(reference, resolved)
    picked = _run(chosen, pool, labelled, int(size), seed, resolved)
    meta = {
        "strategy": strategy,
        "options": resolved,
        "size": int(size),
        "pool": len(pool),
        "reference": None if labelled is None else len(labelled),
        "seed": int(seed),
        **picked.notes,
    }
    ids = pool.table["id"].take(picked.places).to_pylist()
    return Selection(ids, picked.scores, meta)


def strategies() -> dict[str, dict[str, Any]]:
    """List the strategies.

    Returns
    -------
    dict
        For each name: ``summary``; ``fields``, the needs with default options, each a list of fields of which
        one must be there; ``reference``, whether it looks at labelled records (none, optional, required);
        ``options`` with their defaults.
    """
    return {
        name: {
            "summary": strategy.summary,
            "fields": [list(need) for need in strategy.needs(strategy.options)],
            "reference": strategy.reference,
            "options": strategy.options,
        }
        for name, strategy in STRATEGIES.items()
    }


def _run(
    strategy: Strategy, pool: Part, reference: Part | None, size: int, seed: int, options: dict[str, Any]
) -> Picked:
    """Run a strategy and order what it gives, best first."""
    try:
        if strategy.picks:
            result = strategy.run(pool, reference, size, np.random.default_rng(seed), **options)
            order = np.argsort(-result.scores, kind="stable")
            return Picked(result.places[order], result.scores[order], result.notes)
        scored = strategy.run(pool, reference, **options)
    except ScoreError as error:
        if error.row is None:
            raise
        id = pool.table["id"][error.row].as_py()
        raise RecordError(f"record {id!r} cannot be scored by {strategy.name!r}: {error}", id) from error
    places = best_places(scored.scores, pool.table["id"].combine_chunks(), size)
    return Picked(places, scored.scores[places], scored.notes)


def check_engine(engine: Any) -> None:
    """Raise unless the engine exists."""
    if engine is not None:
        raise MiningError(f"engine {engine!r} is unknown; the engines that exist are: None (this process)")


def check_size(size: Any) -> None:
    """Raise unless the size is a whole number of at least 1."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise MiningError(f"size must be a whole number of at least 1, got {size!r}")


def check_seed(seed: Any) -> None:
    """Raise unless the seed is a whole number that is not negative."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise MiningError(f"seed must be a whole number of at least 0, got {seed!r}")
