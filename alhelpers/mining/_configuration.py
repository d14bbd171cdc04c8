"""Miner configurations: which strategy, on which records, as a JSON object."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from alhelpers import records as rec
from alhelpers.mining._combine import combine
from alhelpers.mining._mine import mine
from alhelpers.mining._neighbours import METRICS
from alhelpers.mining._pool import Progress
from alhelpers.mining._registry import find
from alhelpers.mining._selection import MiningError, MissingField, PoolExhausted, Selection, UnknownOption
from alhelpers.mining._strategy import embeddings_field
from alhelpers.records import RecordError, Records

#: The field that says which model predicted a record.
MODEL_FIELD = "metadata.model_name"
DEFAULT_CONFIG: dict[str, Any] = {"strategy": "margin", "size": 20}


def _selecting(of: str) -> dict[str, Any]:
    """Describe a choice of records by their fields, as :func:`alhelpers.records.select` makes it."""
    condition = {
        "description": "an object such as {'left': 'confidence', 'op': '<', 'right': 0.9}",
        "type": "object",
        "additionalProperties": False,
        "required": ["left", "op", "right"],
        "properties": {
            "left": {
                "description": "the name of a field, such as 'split' or 'tags.run_id'",
                "type": "string",
                "minLength": 1,
            },
            "op": {"description": f"one of {', '.join(rec.OPERATORS)}", "enum": list(rec.OPERATORS)},
            "right": {"description": "what the field is compared with: a value, or for 'in' a list"},
        },
    }
    return {
        "description": f"an object with 'filters', 'limit', 'order_by' and 'desc', which choose the {of}",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "filters": {
                "description": "a list of conditions, all of which must hold",
                "type": "array",
                "items": condition,
            },
            "limit": {
                "description": "a whole number of at least 1: no more records than this",
                "type": "integer",
                "minimum": 1,
            },
            "order_by": {
                "description": "the name of the field that says which records come first",
                "type": "string",
                "minLength": 1,
            },
            "desc": {"description": "true (from the largest down) or false", "type": "boolean"},
        },
    }


#: The schema of a miner configuration; the node Mine Items adds keys of its own.
CONFIG_SCHEMA: dict[str, Any] = {
    "title": "miner configuration",
    "description": f"an object such as {DEFAULT_CONFIG}",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "strategy": {
            "description": "the name of a strategy of alhelpers.mining, such as 'margin'",
            "type": "string",
            "minLength": 1,
        },
        "options": {"description": "an object with the strategy's options", "type": "object"},
        "plan": {
            "description": "what alhelpers.mining.combine takes: a list of parts, a 'cascade' or 'weights'",
            "type": ["array", "object"],
            "minItems": 1,
        },
        "size": {
            "description": "a whole number of records a round, at least 1",
            "type": "integer",
            "minimum": 1,
        },
        "seed": {"description": "a whole number of at least 0", "type": "integer", "minimum": 0},
        "select": _selecting("records that may be chosen"),
        "select_reference": _selecting("labelled records"),
        "embeddings_field": {
            "description": "'embeddings', or 'embeddings:' and the name of a layer",
            "type": "string",
            "pattern": "^embeddings(:.+)?$",
        },
        "metric": {"description": f"one of {', '.join(METRICS)}", "enum": list(METRICS)},
        "model_name": {
            "description": f"the name of a model, as {MODEL_FIELD} of a record says it",
            "type": "string",
            "minLength": 1,
        },
    },
}


@dataclass(frozen=True)
class MinerConfig:
    """A checked miner configuration.

    Parameters
    ----------
    plan : list of dict
        What :func:`combine` takes; a single strategy is a plan of one part.
    size : int
        How many records a round chooses.
    seed : int
        Where randomness comes from.
    select, select_reference : dict
        Which records may be chosen, and which are the labelled ones: what :func:`alhelpers.records.query`
        takes.
    model_name : str or None
        Whose predictions count.
    """

    plan: list[dict[str, Any]]
    size: int = DEFAULT_CONFIG["size"]
    seed: int = 0
    select: dict[str, Any] = field(default_factory=dict)
    select_reference: dict[str, Any] = field(default_factory=dict)
    model_name: str | None = None

    @property
    def stages(self) -> list[tuple[str, dict[str, Any]]]:
        """All strategies of the plan with their options, in its order."""
        return [(stage["strategy"], dict(stage.get("options", {}))) for stage in _stages(self.plan)]

    @property
    def strategies(self) -> tuple[str, ...]:
        """The names of all strategies in use, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.stages))

    @property
    def digest(self) -> str:
        """A hash that two configurations share only if they mean the same; 16 hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_config(config: Mapping[str, Any] | None) -> MinerConfig:
    """Read and check a miner configuration; the given object is not changed.

    Parameters
    ----------
    config : mapping or None
        What `CONFIG_SCHEMA` describes: a ``strategy`` with its ``options``, or a ``plan``; ``size`` and
        ``seed``; ``select`` and ``select_reference`` with ``filters``, ``limit``, ``order_by`` and ``desc``;
        ``embeddings_field`` and ``metric``, which go to every strategy that has the option ``layer`` or
        ``metric`` and does not set it itself; ``model_name``. None and ``{}`` mean `DEFAULT_CONFIG`.

    Returns
    -------
    MinerConfig
        The configuration.

    Raises
    ------
    ValueError
        For an unknown key or a value that cannot be used; it names the place.
    MiningError
        For an unknown strategy or option, or a plan whose parts do not fit the size; it lists the known.

    Examples
    --------
    >>> parse_config({"strategy": "coreset", "embeddings_field": "embeddings:early"}).plan
    [{'strategy': 'coreset', 'options': {'layer': 'early'}}]
    """
    # Imported here, as it takes a second or more that mining without a configuration need not wait.
    from alhelpers import configurations

    given = copy.deepcopy({} if config is None else config)
    configurations.check(given, CONFIG_SCHEMA, "miner_configuration")
    plan = _plan(given)
    size = int(given.get("size", DEFAULT_CONFIG["size"]))
    _check_plan(plan, size)
    if "embeddings_field" in given:
        layer = given["embeddings_field"].partition(":")[2] or None
        _give(plan, "layer", layer, "embeddings_field", given["embeddings_field"])
    if "metric" in given:
        _give(plan, "metric", given["metric"], "metric", given["metric"])
    for stage in _stages(plan):
        _check_options(stage["strategy"], stage.get("options", {}))
    return MinerConfig(
        plan,
        size,
        int(given.get("seed", 0)),
        _query_options(given.get("select", {})),
        _query_options(given.get("select_reference", {})),
        given.get("model_name"),
    )


def run(
    config: Mapping[str, Any] | MinerConfig | None,
    records: Records,
    reference: Records | None = None,
    *,
    engine: Any = None,
    picked: Collection[Any] = (),
    progress: Progress | None = None,
) -> Selection:
    """Run a miner configuration: one round of it.

    Parameters
    ----------
    config : mapping, MinerConfig or None
        As :func:`parse_config` takes or gives it.
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        Where the pool is. ``select`` chooses it, among the records that were not picked, so ``limit`` counts
        those that are left.
    reference : list of dict, pyarrow.Table, str, pathlib.Path or Query, optional
        The labelled records, of which ``select_reference`` chooses. Without it, ``select_reference`` chooses
        from `records`; where it chooses none, strategies that can do without a reference do.
    engine : None, concurrent.futures.Executor or dask.distributed.Client
        Where to compute, as for :func:`mine`.
    picked : collection of str or int
        The ids that earlier rounds chose; they are not chosen again.
    progress : callable, optional
        Called with how much is done and how much there is, as by :func:`mine`.

    Returns
    -------
    Selection
        As many records as ``size`` says, or all that are left where these are fewer; parts of a plan shrink in
        proportion. ``meta`` is that of :func:`combine`, and ``meta["configuration"]`` the configuration's
        digest, ``meta["pool"]`` how many records there were to choose from.

    Raises
    ------
    PoolExhausted
        If no record is left to choose.
    MiningError, RecordError
        If the configuration is none, the records lack what it asks for, or break their schema.
    """
    miner = config if isinstance(config, MinerConfig) else parse_config(config)
    digest = miner.digest
    pool = _of_model(records, miner.model_name, "records")
    if picked:
        pool = _without(pool, list(picked))
    if miner.select:
        pool = rec.query(pool, **miner.select)
    left = rec.count(pool)
    if not left:
        raise PoolExhausted(_nothing_left(records, miner, len(picked)))
    size = min(miner.size, left)
    selection = combine(
        pool,
        _for_size(miner.plan, miner.size, size),
        size,
        reference=_reference(records, reference, miner),
        seed=miner.seed,
        engine=engine,
        progress=progress,
    )
    meta = {**selection.meta, "configuration": digest, "pool": left}
    return Selection(selection.ids, selection.scores, meta)


# ------------------------------------------------------------------------------
# records
# ------------------------------------------------------------------------------


def _of_model(source: Records, model_name: str | None, name: str) -> Records:
    """Return the records that a model predicted; all of them where no model is named."""
    if model_name is None:
        return source
    try:
        return rec.query(source, [{"left": MODEL_FIELD, "op": "=", "right": model_name}])
    except RecordError as error:
        if error.column != MODEL_FIELD:
            raise
        raise MissingField(
            f"model_name {model_name!r} asks for the records of one model, but the {name} have no {MODEL_FIELD}; "
            "leave model_name out, or write the model's name there"
        ) from error


def _without(source: Records, picked: list[Any]) -> Records:
    """Return the records that were not picked."""
    kind = rec.parts(source, ())[0].load()["id"].type
    if any(pa.types.is_string(kind) != isinstance(id, str) for id in picked):
        raise MiningError(
            f"the picked ids are no ids of these records: {picked[0]!r} is among them, and the records' ids are "
            f"of the type {kind}; are the picks those of other records?"
        )
    return rec.query(source, [{"left": "id", "op": "not in", "right": picked}])


def _reference(records: Records, reference: Records | None, miner: MinerConfig) -> Records | None:
    """Return the labelled records; None where there are none, and no strategy needs any."""
    if reference is None and not miner.select_reference:
        return None
    labelled = _of_model(records if reference is None else reference, miner.model_name, "reference")
    if not miner.select_reference:
        return labelled
    labelled = rec.query(labelled, **miner.select_reference)
    if rec.count(labelled):
        return labelled
    needing = next((name for name in miner.strategies if find(name).reference == "required"), None)
    if needing is None:
        return None
    raise MissingField(
        f"strategy {needing!r} needs labelled records to compare with, but select_reference chooses none: "
        f"{miner.select_reference}"
    )


def _nothing_left(records: Records, miner: MinerConfig, picked: int) -> str:
    """Say why there is nothing to choose."""
    conditions = {"select": miner.select, "model_name": miner.model_name}
    narrowed = " and ".join(f"{key} {value!r}" for key, value in conditions.items() if value)
    total = rec.count(records)
    if not picked:
        return f"there is nothing to choose: none of {total} records fits {narrowed or 'the configuration'}"
    fitting = f"every record that fits {narrowed}" if narrowed else "every record"
    return f"nothing is left to choose: {fitting} was picked before ({picked} picks, {total} records)"


def _query_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice of records as the arguments of :func:`alhelpers.records.query`."""
    return {key: int(value) if key == "limit" else value for key, value in given.items()}


# ------------------------------------------------------------------------------
# plans
# ------------------------------------------------------------------------------


def _plan(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the plan of a configuration, also of one that names a single strategy."""
    if "plan" in given and ("strategy" in given or "options" in given):
        raise MiningError(
            "miner_configuration has a 'plan' beside a 'strategy' or 'options': leave one out; a plan's parts have "
            "strategies and options of their own"
        )
    if "options" in given and "strategy" not in given:
        raise MiningError("miner_configuration has 'options' without the 'strategy' that they belong to")
    one = {"strategy": given.get("strategy", DEFAULT_CONFIG["strategy"]), "options": given.get("options", {})}
    plan = given.get("plan", one)
    return [plan] if isinstance(plan, Mapping) else list(plan)


def _check_plan(plan: list[dict[str, Any]], size: int) -> None:
    """Raise unless :func:`combine` takes a plan: of a record without fields it misses nothing but these."""
    try:
        combine([{"id": "none"}], plan, size)
    except (MissingField, PoolExhausted):
        return


def _check_options(strategy: str, options: Mapping[str, Any]) -> None:
    """Raise if a strategy does not take the value of an option: try it on records that have every field."""
    rows = [
        {
            "id": number,
            "groundtruth": "a",
            **dict.fromkeys(("confidences", "logits"), [0.5, 0.5]),
            **dict.fromkeys(("mc_dropout", "query_by_committee"), [[0.5, 0.5]] * 2),
            **dict.fromkeys(("embeddings", embeddings_field(options.get("layer"))), [1.0, float(number)]),
        }
        for number in range(10)
    ]
    try:
        mine(rows[5:], strategy, 1, reference=rows[:5], **options)
    except UnknownOption:
        raise
    except (MiningError, RecordError):  # of these records, not of the options
        return


def _stages(parts: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Yield all that have a strategy, in the order of the plan."""
    for part in parts:
        if "strategy" in part:
            yield part
        for value in part.values():
            if isinstance(value, list | tuple):
                yield from _stages(value)


def _give(plan: list[dict[str, Any]], option: str, value: Any, key: str, given: Any) -> None:
    """Set an option of all strategies that have it and do not set it themselves."""
    having = [stage for stage in _stages(plan) if option in find(stage["strategy"]).options]
    if not having:
        names = ", ".join(dict.fromkeys(stage["strategy"] for stage in _stages(plan)))
        raise UnknownOption(
            f"{key} {given!r} is for strategies with an option {option!r}, which {names} lack; leave it out"
        )
    for stage in having:
        stage["options"] = {option: value} | dict(stage.get("options", {}))


def _for_size(plan: list[dict[str, Any]], planned: int, size: int) -> list[dict[str, Any]]:
    """Make the sizes in a plan shares, where there are fewer records than it was made for."""
    if size == planned:
        return plan
    return [
        {key: value for key, value in part.items() if key != "size"} | {"share": part["size"] / planned}
        if "size" in part
        else part
        for part in plan
    ]
