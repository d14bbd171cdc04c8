"""One strategy on one pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers import records as rec
from alhelpers.mining._budget import check_max_boxes, within_boxes
from alhelpers.mining._engine import Engine, engine_of
from alhelpers.mining._pool import Best, Pool, Progress, Readable, best_of, check_enough
from alhelpers.mining._registry import STRATEGIES, find
from alhelpers.mining._selection import Selection, check_whole
from alhelpers.mining._strategy import Part, Picked, Scored, Strategy, naming_record
from alhelpers.records import Records


def mine(
    records: Records,
    strategy: str | Callable[..., Any] = "entropy",
    size: int = 100,
    *,
    reference: Records | None = None,
    max_boxes: float | None = None,
    seed: int = 0,
    engine: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> Selection:
    """Choose the records of a pool that are most worth labelling.

    The same records, options and seed give the same selection, whatever the order of the records, the number of
    their files and the engine; ties go to the smaller id. No argument is changed.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path, Files or Query
        The pool: records, the path, glob, folder or URL of their Parquet files, or a query. Only the fields needed are
        read, a part of about 100,000 records at a time, so that a pool may be larger than the memory.
    strategy : str or callable
        The strategy; :func:`strategies` lists them, with their fields and options. Or a score of one's own, higher
        first: the name of a number that each record has, such as ``"metadata.blur"``, or a function that returns the
        scores of some records, (n,). It gets the fields that its parameters name as arrays, or those that its
        attribute ``columns`` lists; parameters with a default are its options. It sees a part of the records at a
        time, so a score must depend on the record's own fields alone.
    size : int
        How many records to choose.
    reference : list of dict, pyarrow.Table, str, pathlib.Path or Query, optional
        The labelled records, for the strategies that use them; the others do not read it.
    max_boxes : float, optional
        A budget in boxes, which are what detectors' labels cost: the selection ends before the record with which more
        are expected, though never before the first; `size` is then the most records. Expected of a record is the sum
        of its predicted boxes' confidences, or their number if they have none.
    seed : int
        The seed of strategies that use random numbers.
    engine : None, concurrent.futures.Executor or dask.distributed.Client
        Where to compute: in this process, in the workers of a pool, or on a cluster. Workers read the files
        themselves, so they must see them under the same path, or by URL.
    progress : callable, optional
        Called in this process with the number done and the total: of scored records, or of chosen ones for
        strategies that choose records together.
    **options
        The strategy's own options.

    Returns
    -------
    Selection
        ``ids`` and ``scores``, best first, and ``meta``, with a budget in boxes also ``expected_boxes``.

    Raises
    ------
    UnknownStrategy, UnknownOption, MissingField, PoolExhausted
        MiningErrors that name the mistake and list the valid values.
    MiningError
        If the engine is unknown, or size, max_boxes or seed is not a valid number.
    RecordError
        If the records break their schema, have an id twice, or hold numbers that cannot be scored.

    Examples
    --------
    >>> from alhelpers import records
    >>> rows = [{"id": "a", "confidences": [0.9, 0.4]}, {"id": "b", "confidences": [0.8, 0.9]}]
    >>> def labels_expected(confidences):
    ...     return confidences.sum(axis=1)
    >>> mine(rows, labels_expected, 1).ids
    ['b']
    """
    where = engine_of(engine)
    chosen = find(strategy)
    resolved = chosen.resolved(options)
    check_whole("size", size, 1)
    check_whole("seed", seed, 0)
    check_max_boxes(max_boxes)
    if max_boxes is not None:
        size = min(size, max(1, rec.count(records)))
    selection = run_strategy(chosen, resolved, records, int(size), Run(reference, int(seed), where, progress))
    return within_boxes(selection, records, max_boxes)


def strategies() -> dict[str, dict[str, Any]]:
    """List the strategies.

    Returns
    -------
    dict
        For each name: ``summary``; ``fields``, the needs with default options, each a list of fields of which
        one must exist (``detections.confidences`` is a field of boxes); ``reference``, whether it uses
        labelled records (none, optional, required); ``options`` with their defaults;
        ``choices``, the valid values of those options that have a few.
    """
    return {
        name: {
            "summary": strategy.summary,
            "fields": [list(need) for need in strategy.needs(strategy.options)],
            "reference": strategy.reference,
            "options": strategy.options,
            "choices": {option: list(values) for option, values in strategy.choices.items()},
        }
        for name, strategy in STRATEGIES.items()
    }


class Run(NamedTuple):
    """What all strategies of a plan share."""

    reference: Records | None
    seed: int
    engine: Engine
    progress: Progress | None


def run_strategy(
    strategy: Strategy, options: Mapping[str, Any], records: Records, size: int, run: Run
) -> Selection:
    """Run a strategy with all its options."""
    pool = Pool(records, strategy.columns_of(records, options), run.engine, run.progress)
    labelled = strategy.labelled(run.reference, options)
    picked = _pick(strategy, pool, labelled, size, run.seed, options)
    order = np.argsort(-picked.scores, kind="stable")
    meta = {
        "strategy": strategy.name,
        "options": dict(options),
        "size": size,
        "pool": picked.pool,
        "reference": None if labelled is None else len(labelled),
        "seed": run.seed,
        **picked.notes,
    }
    return Selection([picked.ids[place] for place in order], picked.scores[order], meta)


def _pick(
    strategy: Strategy, pool: Pool, reference: Part | None, size: int, seed: int, options: Mapping[str, Any]
) -> Picked:
    if strategy.kind == "together":
        return strategy.run(pool, reference, size, seed, **options)
    if strategy.kind == "all":
        scored = strategy.run(pool, reference, **options)
        return pick_best([Best(pool.all_ids(), scored.scores)], size, len(scored.scores), scored.notes)
    context, notes = strategy.prepare(pool, reference, seed, **options)
    found = list(_score_parts(strategy, pool, context, options, size))
    count = sum(map(len, pool.check_ids([ids for ids, _ in found])))
    return pick_best([best for _, best in found], size, count, notes)


def pick_best(parts: Sequence[Best], size: int, count: int, notes: Mapping[str, Any]) -> Picked:
    """Pick the best records of the best ones of all parts, which have `count` records."""
    check_enough(size, count)
    best = best_of(parts, size)
    return Picked(best.ids.to_pylist(), best.scores.astype(np.float32), count, notes)


def score_pool(
    strategy: Strategy, pool: Pool, reference: Part | None, seed: int, options: Mapping[str, Any]
) -> Scored:
    """Score every record of the pool, in the order of its parts."""
    if strategy.kind == "all":
        return strategy.run(pool, reference, **options)
    context, notes = strategy.prepare(pool, reference, seed, **options)
    parts = [best.scores for _, best in _score_parts(strategy, pool, context, options, None)]
    return Scored(np.concatenate(parts), notes)


def _score_parts(
    strategy: Strategy, pool: Pool, context: Any, options: Mapping[str, Any], size: int | None
) -> Iterator[tuple[pa.Array, Best]]:
    """Yield all ids and the best records of each part; with size None the scores of all, in their order."""
    scoring = strategy.name, partial(strategy.run, context=context, **options), size
    done = 0
    for part, found in zip(pool.parts, pool.map(_score_part, scoring), strict=True):
        done += part.rows
        pool.report(done, pool.max_records)
        yield found


def _score_part(
    part: Readable, scoring: tuple[str, Callable[[Part], np.ndarray], int | None]
) -> tuple[pa.Array, Best]:
    name, score, size = scoring
    records = Part.of(part)
    ids = records.ids
    values = np.empty(0, dtype=np.float32)
    if len(records):
        with naming_record(ids, name):
            values = score(records)
    best = Best(ids, values)
    return ids, best if size is None else best_of([best], size)
