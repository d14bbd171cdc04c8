"""Several strategies on one pool: side by side, one behind the other, with weights, or as goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alhelpers import records as rec
from alhelpers.mining._budget import check_max_boxes, within_boxes
from alhelpers.mining._engine import Engine, engine_of
from alhelpers.mining._mine import Run, pick_best, run_strategy, score_pool
from alhelpers.mining._own import plain
from alhelpers.mining._plan import Cascade, PlannedStage, PlannedTerm, read_plan, resolve
from alhelpers.mining._pool import Best, Pool, Progress, check_enough
from alhelpers.mining._ranks import as_whole, ranks
from alhelpers.mining._selection import Selection, check_whole
from alhelpers.records import Records

Plan = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def combine(
    records: Records,
    plan: Plan,
    size: int,
    *,
    reference: Records | None = None,
    max_boxes: float | None = None,
    seed: int = 0,
    engine: Any = None,
    progress: Progress | None = None,
) -> Selection:
    """Choose records by several strategies, never one record twice.

    A plan is plain data. Side by side, parts share the budget, each choosing from what the parts before it
    left::

        [{"strategy": "margin", "share": 0.7}, {"strategy": "random", "share": 0.3}]
        [{"strategy": "mc_dropout", "options": {"score": "bald"}, "size": 80}, {"strategy": "coreset", "size":
        20}]

    In a cascade, each stage chooses among what the stage before it kept, and the last fills the budget::

        {"cascade": [{"strategy": "margin", "keep": "10x"}, {"strategy": "coreset"}]}

    ``keep`` is a number of records, or a multiple of the budget; if the pool is smaller, all of it is kept. A
    cascade may be a part: ``{"cascade": [...], "share": 0.5}``.

    With weights, the scores of several strategies become ranks, from 0 to 1 for the highest (equal scores share
    the mean of their ranks), and the weighted mean of the ranks is the score::

        {"weights": [{"strategy": "margin", "weight": 2}, {"strategy": "embedding_distance", "weight": 1}]}

    Weights may be a part, or a stage of a cascade in place of a strategy.

    With goals, each pick is the record that then serves several goals best::

        {"goals": {"scores": [{"strategy": "margin", "weight": 2}], "diversity": 1,
                   "balance": [{"field": "prediction.class_name", "weight": 1},
                               {"field": "metadata.weather", "target": {"sun": 2, "rain": 1}, "weight": 1}],
                   "min_distance": 0.1, "metric": "cosine"}}

    Its score is the weighted mean of what each goal gains, from 0 to 1:

    - of a score, the rank, as above;
    - of ``diversity``, the distance to the nearest pick or labelled record, divided by the largest such distance at the
      start (from the first pick, if there are no labelled records; before it all gain 1);
    - of a ``balance``, the share of the value's quota that is still to be filled, ``max(0, 1 - picked / quota)``. The
      ``target``, by default equal shares of all values that occur, divides the budget into quotas; a value without a
      share gains 0. The field ``prediction.class_name`` is the predicted class, its number if there are no names.

    No gain ever grows, and ties go to the smaller id. Records nearer than ``min_distance`` to a pick or a labelled
    record are never picked; if that leaves too few, fewer are chosen, with a warning. Diversity and ``min_distance``
    need ``embeddings``, or those of a ``layer``, and keep them all in memory. An outlier far away makes all other
    distances small. Goals may be a part or a stage, too.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The pool, as for :func:`mine`. Of files each stage reads only its own fields, and after the first stage of
        a cascade only those of the kept records stay in memory.
    plan : dict or list of dict
        One part, or several. A part has a ``strategy`` (with ``options``), a ``cascade``, ``weights`` or ``goals``,
        and, if there are several, a ``share`` of the budget or a ``size``.
    size : int
        How many records to choose in all.
    reference : list of dict, pyarrow.Table, str, pathlib.Path or Query, optional
        The labelled records, passed to every strategy that uses them.
    max_boxes : float, optional
        A budget in boxes, as for :func:`mine`; parts divide it as they divide the records.
    seed : int
        Passed to every strategy.
    engine, progress
        As for :func:`mine`; every strategy reports its own progress.

    Returns
    -------
    Selection
        Part after part, each best first; scores of different strategies do not compare.
        ``meta["strategies"]`` holds for each id the strategy that chose it (those of a cascade are joined by
        ``>``, those with weights and goals by ``+``), ``meta["parts"]`` the details.

    Raises
    ------
    MiningError
        If the plan is not valid, its sizes do not add up, or a strategy cannot be run.
    RecordError
        If the records break their schema, or there are none.
    """
    parts = read_plan(plan)
    check_whole("size", size, 1)
    check_whole("seed", seed, 0)
    check_max_boxes(max_boxes)
    run = Run(reference, int(seed), engine_of(engine), progress)
    left = None if max_boxes is None else min(int(size), max(1, rec.count(records)))
    return run_cascades(records, resolve(parts, int(size), left), plan, run, max_boxes)


def run_cascades(
    records: Records, cascades: Sequence[Cascade], plan: Plan, run: Run, max_boxes: float | None = None
) -> Selection:
    """Run the parts of a plan, which is in the meta data as it is."""
    size = sum(cascade[-1].keep for cascade in cascades)
    stages = [stage for cascade in cascades for stage in cascade]
    for term in (term for stage in stages for term in stage.terms):  # before anything is read
        term.strategy.columns_of(records, term.options)
        term.strategy.reference_columns(run.reference, term.options)
    pool = _as_table_once(records, stages, "records")
    using = [stage for stage in stages if any(term.strategy.reference != "none" for term in stage.terms)]
    if run.reference is not None:
        run = run._replace(reference=_as_table_once(run.reference, using, "reference") if using else None)
    count = rec.count(pool)
    if not count:
        raise rec.RecordError("records hold no record")
    check_enough(size, count)
    chosen: list[Selection] = []
    for cascade in cascades:
        taken = [id for selection in chosen for id in selection.ids]
        left = rec.query(pool, [{"left": "id", "op": "not in", "right": taken}]) if taken else pool
        selection = _run_cascade(left, count - len(taken), cascade, run)
        share = None if max_boxes is None else max_boxes * cascade[-1].keep / size
        chosen.append(within_boxes(selection, records, share))
    ids = [id for selection in chosen for id in selection.ids]
    names = [
        " > ".join(stage.name for stage in cascade)
        for cascade, selection in zip(cascades, chosen, strict=True)
        for _ in selection.ids
    ]
    meta = {
        "strategy": "combine",
        "plan": plain(plan),
        "size": size,
        "seed": run.seed,
        "strategies": dict(zip(ids, names, strict=True)),
        "parts": [selection.meta for selection in chosen],
    }
    if max_boxes is not None:
        expected = sum(selection.meta["expected_boxes"] for selection in chosen)
        meta |= {"max_boxes": float(max_boxes), "expected_boxes": expected}
    return Selection(ids, np.concatenate([selection.scores for selection in chosen]), meta)


def _run_cascade(pool: Records, count: int, cascade: Cascade, run: Run) -> Selection:
    metas = []
    for place, stage in enumerate(cascade):
        last = place == len(cascade) - 1
        selection = _run_stage(pool, stage, stage.keep if last else min(stage.keep, count), run)
        metas.append(selection.meta)
        if not last:
            pool = _only(pool, selection.ids, cascade[place + 1 :], run.engine)
    return Selection(selection.ids, selection.scores, metas[0] if len(metas) == 1 else {"cascade": metas})


def _run_stage(pool: Records, stage: PlannedStage, keep: int, run: Run) -> Selection:
    if len(stage.terms) > 1:
        return _select_by_ranks(pool, stage.terms, keep, run)
    (term,) = stage.terms
    return run_strategy(term.strategy, term.options, pool, keep, run)


def _select_by_ranks(records: Records, terms: Sequence[PlannedTerm], keep: int, run: Run) -> Selection:
    """Select by the weighted mean of the ranks under several strategies."""
    total, weights = np.zeros(1), []
    parts = as_whole([term.weight for term in terms])
    for (strategy, options, weight), part in zip(terms, parts, strict=True):
        pool = Pool(records, strategy.columns_of(records, options), run.engine, run.progress)
        reference = strategy.labelled(run.reference, options)
        found = score_pool(strategy, pool, reference, run.seed, options)
        total = total + part * ranks(found.scores)
        used = None if reference is None else len(reference)
        weights.append(
            {"strategy": strategy.name, "options": dict(options), "reference": used, "weight": weight}
            | dict(found.notes)
        )
    best = Best(pool.all_ids(), total / (sum(parts) * len(total)))
    picked = pick_best([best], keep, len(best.ids), {})
    meta = {"weights": weights, "size": keep, "pool": picked.pool, "seed": run.seed}
    return Selection(list(picked.ids), picked.scores, meta)


def _as_table_once(source: Records, stages: Sequence[PlannedStage], name: str) -> Records:
    """Convert rows into a table once for all stages; of files each stage reads only its own columns."""
    if isinstance(source, (*rec.PATHS, rec.Query, pa.Table)):
        return source
    return rec.as_table(source, sorted({name for stage in stages for name in stage.columns}), name)


def _only(pool: Records, ids: Sequence[Any], stages: Sequence[PlannedStage], engine: Engine) -> Records:
    """Return the records with these ids; at most a part of them in memory, with the columns of later stages."""
    kept = rec.query(pool, [{"left": "id", "op": "in", "right": list(ids)}])
    if len(ids) > rec.PART_ROWS:
        return kept
    columns = {name for stage in stages for name in stage.columns}
    return pa.concat_tables(engine(_load, rec.parts(kept, sorted(columns)), None))


def _load(part: rec.RecordPart, context: None) -> pa.Table:
    return part.load(distinct=False)  # the stage that chose them has checked the ids
