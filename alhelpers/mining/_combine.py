"""Several strategies on one pool: side by side, or one behind the other."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import records as rec
from alhelpers.mining._mine import check_engine, check_seed, check_size, mine
from alhelpers.mining._registry import find
from alhelpers.mining._selection import MiningError, PoolExhausted, Selection
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

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str or pathlib.Path
        The pool, as for :func:`mine`.
    plan : dict or list of dict
        One part, or several. A part has a ``strategy`` (with ``options``) or a ``cascade``, and, where there
        are several, a ``share`` of the budget or a ``size``.
    size : int
        How many records to choose in all.
    reference : list of dict, pyarrow.Table, str or pathlib.Path, optional
        The labelled records, given to every strategy that looks at them.
    seed : int
        Given to every strategy.
    engine : None
        Where to compute: None is this process, the only engine there is.

    Returns
    -------
    Selection
        Part after part, each best first; scores of different strategies do not compare.
        ``meta["strategies"]`` says for each id which strategy chose it (a cascade's are joined by ``>``),
        ``meta["parts"]`` how.

    Raises
    ------
    MiningError
        If the plan is not one, its sizes do not add up, or a strategy cannot be run.
    """
    check_engine(engine)
    check_size(size)
    check_seed(seed)
    parts = _parts(plan, int(size))
    stages = [stage for part in parts for stage in part.stages]
    pool, labelled = (_read_once(source, stages) for source in (records, reference))
    if 0 < len(pool) < size:  # of no records at all, mining says what is wrong
        raise PoolExhausted(f"size={size} records were asked for, but the pool holds {len(pool)}")
    chosen: list[Selection] = []
    for part in parts:
        taken = [id for selection in chosen for id in selection.ids]
        left = _without(pool, taken) if taken else pool
        chosen.append(_cascade(left, part, labelled, seed))
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
class _Stage:
    """One strategy in a cascade, and how many records it hands on."""

    strategy: str
    options: Mapping[str, Any]
    keep: int


@dataclass(frozen=True)
class _PlanPart:
    """A cascade of one or more stages, the last of which keeps the part's budget."""

    stages: tuple[_Stage, ...]

    @property
    def name(self) -> str:
        return " > ".join(stage.strategy for stage in self.stages)


# ------------------------------------------------------------------------------
# running
# ------------------------------------------------------------------------------


def _cascade(pool: Records, part: _PlanPart, reference: Records | None, seed: int) -> Selection:
    """Run the stages of a part, each on what the one before it kept."""
    metas = []
    for place, stage in enumerate(part.stages):
        last = place == len(part.stages) - 1
        keep = stage.keep if last else min(stage.keep, len(pool))
        selection = mine(pool, stage.strategy, keep, reference=reference, seed=seed, **stage.options)
        metas.append(selection.meta)
        pool = pool if last else _only(pool, selection.ids)
    return Selection(selection.ids, selection.scores, metas[0] if len(metas) == 1 else {"cascade": metas})


def _read_once(source: Records | None, stages: Sequence[_Stage]) -> Any:
    """Read files once for all stages, with the fields that any of them may need."""
    if source is None or isinstance(source, pa.Table | Sequence) and not isinstance(source, rec.PATHS):
        return source
    strategies = [(find(stage.strategy), stage.options) for stage in stages]
    columns = {
        name for strategy, options in strategies for name in strategy.columns(strategy.resolved(options))
    }
    return rec.read(source, sorted(columns)) if isinstance(source, rec.PATHS) else rec.as_table(source)


def _only(pool: Any, ids: Sequence[Any]) -> Any:
    """Return the records with these ids."""
    if isinstance(pool, pa.Table):
        return pool.filter(pc.is_in(pool["id"], value_set=pa.array(ids, type=pool["id"].type)))
    kept = set(ids)
    return [row for row in pool if row["id"] in kept]


def _without(pool: Any, ids: Sequence[Any]) -> Any:
    """Return the records with other ids."""
    if isinstance(pool, pa.Table):
        return pool.filter(pc.invert(pc.is_in(pool["id"], value_set=pa.array(ids, type=pool["id"].type))))
    taken = set(ids)
    return [row for row in pool if row["id"] not in taken]


# ------------------------------------------------------------------------------
# plans
# ------------------------------------------------------------------------------


def _parts(plan: Plan, size: int) -> list[_PlanPart]:
    """Check a plan, and settle how many records each part chooses."""
    given = [plan] if isinstance(plan, Mapping) else plan
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise MiningError(
            f"a plan is a dict or a list of dicts with a 'strategy' or a 'cascade', got {plan!r}"
        )
    for part in given:
        _check_keys(part, {"strategy", "cascade", "options", "share", "size"}, "a part of the plan")
        if ("strategy" in part) == ("cascade" in part):
            raise MiningError(
                f"a part of the plan has either a 'strategy' or a 'cascade', got {dict(part)!r}"
            )
        if "cascade" in part and "options" in part:
            raise MiningError("a cascade has its options in its stages, each beside its 'strategy'")
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
    given = (
        part["cascade"] if "cascade" in part else [{k: part[k] for k in ("strategy", "options") if k in part}]
    )
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise MiningError(f"a cascade is a list of stages, got {given!r}")
    stages = []
    for place, stage in enumerate(given):
        _check_keys(stage, {"strategy", "options", "keep"}, "a stage of a cascade")
        last = place == len(given) - 1
        if ("keep" in stage) == last or "strategy" not in stage:
            raise MiningError(
                f"a stage has a 'strategy', and every stage but the last a 'keep'; got {dict(stage)!r} as "
                f"stage {place + 1} of {len(given)}"
            )
        options = stage.get("options", {})
        if not isinstance(options, Mapping):
            raise MiningError(f"'options' is a dict, got {options!r}")
        find(stage["strategy"]).resolved(options)
        stages.append(_Stage(stage["strategy"], options, budget if last else _keep(stage["keep"], budget)))
    return tuple(stages)


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
