"""Several strategies on one pool: side by side, or one behind the other."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers import records as rec
from alhelpers.mining._engine import Engine, engine_of
from alhelpers.mining._mine import check_seed, check_size, mined, scored
from alhelpers.mining._pool import Best, Pool, Progress, best_of, check_enough
from alhelpers.mining._registry import STRATEGIES, find
from alhelpers.mining._selection import MiningError, Selection
from alhelpers.mining._strategy import Part, Picked, Strategy
from alhelpers.records import Records

Plan = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def combine(
    records: Records,
    plan: Plan,
    size: int,
    *,
    reference: Records | None = None,
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

    ``keep`` is a number of records, or a multiple of the budget; where the pool is smaller, all of it. A
    cascade may be a part: ``{"cascade": [...], "share": 0.5}``.

    With weights, the scores of several strategies are made ranks, from 0 to 1 for the highest (equals share the
    mean of theirs), and the weighted mean of the ranks decides::

        {"weights": [{"strategy": "margin", "weight": 2}, {"strategy": "embedding_distance", "weight": 1}]}

    Weights may be a part, or a stage of a cascade in place of a strategy.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The pool, as for :func:`mine`. Of files each stage reads only its own fields, and after the first stage of
        a cascade those of the kept records alone stay in memory.
    plan : dict or list of dict
        One part, or several. A part has a ``strategy`` (with ``options``), a ``cascade`` or ``weights``, and,
        where there are several, a ``share`` of the budget or a ``size``.
    size : int
        How many records to choose in all.
    reference : list of dict, pyarrow.Table, str, pathlib.Path or Query, optional
        The labelled records, given to every strategy that looks at them.
    seed : int
        Given to every strategy.
    engine, progress
        As for :func:`mine`; every strategy reports for itself.

    Returns
    -------
    Selection
        Part after part, each best first; scores of different strategies do not compare.
        ``meta["strategies"]`` says for each id which strategy chose it (a cascade's are joined by ``>``, those
        that were weighed by ``+``), ``meta["parts"]`` how.

    Raises
    ------
    MiningError
        If the plan is not one, its sizes do not add up, or a strategy cannot be run.
    RecordError
        If the records break their schema, or there are none.
    """
    where = engine_of(engine)
    check_size(size)
    check_seed(seed)
    parts = _parts(plan, int(size))
    stages = [stage for part in parts for stage in part.stages]
    for term in (term for stage in stages for term in stage.terms):  # before anything is read
        term.strategy.columns_of(records, term.options)
        term.strategy.reference_columns(reference, term.options)
    pool = _in_reach(records, {name for stage in stages for name in stage.columns})
    labelled = _read_once(reference, stages)
    count = rec.count(pool)
    if not count:
        raise rec.RecordError("records hold no record")
    check_enough(size, count)
    chosen: list[Selection] = []
    for part in parts:
        taken = [id for selection in chosen for id in selection.ids]
        left = rec.query(pool, [{"left": "id", "op": "not in", "right": taken}]) if taken else pool
        run = _Run(labelled, int(seed), where, progress)
        chosen.append(_cascade(left, count - len(taken), part, run))
    ids = [id for selection in chosen for id in selection.ids]
    by = [part.name for part, selection in zip(parts, chosen, strict=True) for _ in selection.ids]
    meta = {
        "strategy": "combine",
        "plan": copy.deepcopy(plan),
        "size": int(size),
        "seed": int(seed),
        "strategies": dict(zip(ids, by, strict=True)),
        "parts": [selection.meta for selection in chosen],
    }
    return Selection(ids, np.concatenate([selection.scores for selection in chosen]), meta)


@dataclass(frozen=True)
class _Term:
    """One strategy, and how much its scores weigh beside those of others."""

    strategy: Strategy
    options: Mapping[str, Any]
    weight: float = 1.0


@dataclass(frozen=True)
class _Stage:
    """A stage of a cascade: one strategy, or several that are weighed, and how many records it hands on."""

    terms: tuple[_Term, ...]
    keep: int

    @property
    def name(self) -> str:
        return " + ".join(term.strategy.name for term in self.terms)

    @property
    def columns(self) -> set[str]:
        """All fields that it may read, of the pool and of the reference."""
        return {name for term in self.terms for name in term.strategy.columns(term.options)}


@dataclass(frozen=True)
class _PlanPart:
    """A cascade of one or more stages, the last of which keeps the part's budget."""

    stages: tuple[_Stage, ...]

    @property
    def name(self) -> str:
        return " > ".join(stage.name for stage in self.stages)


# ------------------------------------------------------------------------------
# running
# ------------------------------------------------------------------------------


class _Run(NamedTuple):
    """What all stages share."""

    reference: Records | None
    seed: int
    engine: Engine
    progress: Progress | None


def _cascade(pool: Records, count: int, part: _PlanPart, run: _Run) -> Selection:
    """Run the stages of a part, each on what the one before it kept."""
    metas = []
    for place, stage in enumerate(part.stages):
        last = place == len(part.stages) - 1
        selection = _staged(pool, stage, stage.keep if last else min(stage.keep, count), run)
        metas.append(selection.meta)
        if not last:
            pool = _only(pool, selection.ids, part.stages[place + 1 :], run.engine)
    return Selection(selection.ids, selection.scores, metas[0] if len(metas) == 1 else {"cascade": metas})


def _staged(pool: Records, stage: _Stage, keep: int, run: _Run) -> Selection:
    """Run one stage."""
    pools = [
        Pool(pool, term.strategy.columns_of(pool, term.options), run.engine, run.progress)
        for term in stage.terms
    ]
    references = [term.strategy.labelled(run.reference, term.options) for term in stage.terms]
    terms = list(zip(stage.terms, pools, references, strict=True))
    if len(terms) == 1:
        picked = [mined(term.strategy, one, base, keep, run.seed, term.options) for term, one, base in terms][
            0
        ]
    else:
        picked = _weighed(terms, keep, run.seed)
    meta = {"size": keep, "pool": picked.pool, "seed": run.seed}
    described = [
        {
            "strategy": term.strategy.name,
            "options": dict(term.options),
            "reference": None if base is None else len(base),
        }
        for term, _, base in terms
    ]
    if len(terms) == 1:
        return Selection(list(picked.ids), picked.scores, described[0] | meta | dict(picked.notes))
    weights = [
        each | {"weight": term.weight} | dict(notes)
        for each, (term, _, _), notes in zip(described, terms, picked.notes["weights"], strict=True)
    ]
    return Selection(list(picked.ids), picked.scores, {"weights": weights} | meta)


def _weighed(terms: Sequence[tuple[_Term, Pool, Part | None]], keep: int, seed: int) -> Picked:
    """Choose by the weighted mean of the ranks that several strategies give."""
    total, notes = np.zeros(1), []
    for term, pool, reference in terms:
        found = scored(term.strategy, pool, reference, seed, term.options)
        total = total + term.weight * _ranks(found.scores)
        notes.append(found.notes)
    ids = pa.concat_arrays(terms[0][1].ids())
    check_enough(keep, len(ids))
    best = best_of([Best(ids, total / sum(term.weight for term, _, _ in terms))], keep)
    return Picked(best.ids.to_pylist(), best.scores.astype(np.float32), len(ids), {"weights": notes})


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value as a share of all, (N,) float64 up to 1 for the highest; equals share theirs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return ranks / len(values)


def _in_reach(source: Records, columns: set[str]) -> Records:
    """Turn rows into a table once for all stages; files are read by each stage, and only its columns."""
    if isinstance(source, (*rec.PATHS, rec.Query, pa.Table)):
        return source
    return rec.as_table(source, sorted(columns))


def _read_once(reference: Records | None, stages: Sequence[_Stage]) -> Records | None:
    """Read the reference once for all stages, with the fields that any of them may need."""
    looking = [stage for stage in stages if any(term.strategy.reference != "none" for term in stage.terms)]
    if reference is None or not looking:
        return None
    there = rec.field_names(reference)
    columns = {name for stage in looking for name in stage.columns if name in there}
    return rec.as_table(reference, sorted(columns), "reference") if there else reference


def _only(pool: Records, ids: Sequence[Any], stages: Sequence[_Stage], engine: Engine) -> Records:
    """Return the records with these ids: where they are as few as a part, in memory with what later stages need."""
    kept = rec.query(pool, [{"left": "id", "op": "in", "right": list(ids)}])
    if len(ids) > rec.PART_ROWS:
        return kept
    columns = {name for stage in stages for name in stage.columns}
    return pa.concat_tables(engine.map(_loaded, rec.parts(kept, sorted(columns)), None))


def _loaded(part: rec.RecordPart, context: None) -> pa.Table:
    return part.load(distinct=False)  # the stage that chose them has checked the ids


# ------------------------------------------------------------------------------
# plans
# ------------------------------------------------------------------------------


# What a part of a plan is, one of these.
_FORMS = ("strategy", "cascade", "weights")


def _parts(plan: Plan, size: int) -> list[_PlanPart]:
    """Check a plan, and settle how many records each part chooses."""
    given = [plan] if isinstance(plan, Mapping) else plan
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise MiningError(
            "a plan is a dict or a list of dicts with a 'strategy', a 'cascade' or 'weights', got "
            + repr(plan)
        )
    for part in given:
        _check_keys(part, {*_FORMS, "options", "share", "size"}, "a part of the plan")
        if sum(form in part for form in _FORMS) != 1:
            raise MiningError(
                f"a part of the plan has either a 'strategy' or a 'cascade' or 'weights', got {dict(part)!r}"
            )
        if "strategy" not in part and "options" in part:
            where = (
                "a cascade has its options in its stages"
                if "cascade" in part
                else "weights have their options"
            )
            raise MiningError(f"{where}, each beside its 'strategy'")
    budgets = _budgets(given, size)
    return [_PlanPart(_stages(part, budget)) for part, budget in zip(given, budgets, strict=True) if budget]


def _budgets(parts: Sequence[Mapping[str, Any]], size: int) -> list[int]:
    """Return how many records each part chooses; they add up to the size."""
    if len(parts) == 1 and not {"share", "size"} & set(parts[0]):
        return [size]
    for part in parts:
        if ("share" in part) == ("size" in part):
            raise MiningError(f"a part beside others has either a 'share' or a 'size', got {dict(part)!r}")
        value = part["share"] if "share" in part else part["size"]
        whole = "share" in part or isinstance(value, int | np.integer)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.number)
            or not value > 0
            or not whole
        ):
            raise MiningError(f"'share' is a number above 0 and 'size' a whole one, got {value!r}")
    exact = [part["share"] * size if "share" in part else float(part["size"]) for part in parts]
    if not math.isclose(sum(exact), size, rel_tol=1e-6):
        raise MiningError(f"the parts of the plan ask for {sum(exact):g} records in all, but size={size}")
    # whole numbers with the same sum: those that lose most by rounding down are rounded up, the first of equals first
    budgets = [math.floor(value + 1e-6) for value in exact]
    by_loss = sorted(range(len(exact)), key=lambda place: (budgets[place] - exact[place], place))
    for place in by_loss[: size - sum(budgets)]:
        budgets[place] += 1
    return budgets


def _stages(part: Mapping[str, Any], budget: int) -> tuple[_Stage, ...]:
    """Return the checked stages of a part."""
    one = {key: part[key] for key in ("strategy", "options", "weights") if key in part}
    given = part["cascade"] if "cascade" in part else [one]
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise MiningError(f"a cascade is a list of stages, got {given!r}")
    stages = []
    for place, stage in enumerate(given):
        _check_keys(stage, {"strategy", "options", "weights", "keep"}, "a stage of a cascade")
        last = place == len(given) - 1
        if ("keep" in stage) == last or ("strategy" in stage) == ("weights" in stage):
            raise MiningError(
                "a stage has a 'strategy' (or 'weights'), and every stage but the last a 'keep'; got "
                f"{dict(stage)!r} as stage {place + 1} of {len(given)}"
            )
        terms = _terms(stage["weights"]) if "weights" in stage else (_term(stage),)
        stages.append(_Stage(terms, budget if last else _keep(stage["keep"], budget)))
    return tuple(stages)


def _terms(given: Any) -> tuple[_Term, ...]:
    """Return the checked strategies that are weighed."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) < 2:
        raise MiningError(
            "'weights' is a list of at least two dicts with a 'strategy' and a 'weight', got " + repr(given)
        )
    for term in given:
        _check_keys(term, {"strategy", "options", "weight"}, "a part of 'weights'")
        weight = term.get("weight")
        number = isinstance(weight, int | float | np.number) and not isinstance(weight, bool)
        if "strategy" not in term or not number or not 0 < weight < math.inf:
            raise MiningError(
                f"each of 'weights' has a 'strategy' and a 'weight' above 0, got {dict(term)!r}"
            )
    terms = tuple(_term(term) for term in given)
    for term in terms:
        if term.strategy.kind == "together":
            those = ", ".join(name for name, each in STRATEGIES.items() if each.kind != "together")
            raise MiningError(
                f"strategy {term.strategy.name!r} chooses records together and has no score of each, which 'weights' "
                f"need; put it behind them in a cascade, or take one of: {those}"
            )
    return terms


def _term(given: Mapping[str, Any]) -> _Term:
    """Return a checked strategy with all its options."""
    options = given.get("options", {})
    if not isinstance(options, Mapping):
        raise MiningError(f"'options' is a dict, got {options!r}")
    strategy = find(given["strategy"])
    return _Term(strategy, strategy.resolved(options), float(given.get("weight", 1)))


def _keep(keep: Any, budget: int) -> int:
    """Return how many records a stage hands on."""
    multiple = re.fullmatch(r"(\d+(?:\.\d+)?)x", keep) if isinstance(keep, str) else None
    if multiple:
        count = math.ceil(float(multiple[1]) * budget)
    elif isinstance(keep, int | np.integer) and not isinstance(keep, bool):
        count = int(keep)
    else:
        raise MiningError(
            f"'keep' is a number of records, or a multiple of the budget such as '10x'; got {keep!r}"
        )
    if count < budget:
        raise MiningError(
            f"'keep' {keep!r} hands on {count} records, fewer than the {budget} that are to be chosen"
        )
    return count


def _check_keys(given: Any, known: set[str], what: str) -> None:
    """Raise unless something is a dict with known keys only."""
    if not isinstance(given, Mapping):
        raise MiningError(f"{what} is a dict, got {given!r}")
    unknown = set(given) - known
    if unknown:
        raise MiningError(
            f"{what} has no key {min(map(str, unknown))!r}; its keys are: {', '.join(sorted(known))}"
        )
