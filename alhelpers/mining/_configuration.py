"""Miner configurations: which strategy, on which records, as a JSON object."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from alhelpers import records as rec
from alhelpers.configurations import Configuration, Integer, Text, described, json_schema, read
from alhelpers.mining._combine import run_cascades
from alhelpers.mining._engine import engine_of
from alhelpers.mining._mine import Run
from alhelpers.mining._neighbours import METRICS
from alhelpers.mining._own import plain
from alhelpers.mining._plan import (
    STRATEGY,
    GoalsNode,
    Needed,
    PlanPart,
    StrategyName,
    as_given,
    needed_by,
    resolve,
    steps_of,
)
from alhelpers.mining._pool import Progress
from alhelpers.mining._registry import find
from alhelpers.mining._selection import MiningError, MissingField, PoolExhausted, Selection, UnknownOption
from alhelpers.records import RecordError, Records

#: The field with the name of the model that predicted a record.
MODEL_FIELD = "metadata.model_name"
#: The miner that runs without a configuration.
DEFAULT_CONFIG: dict[str, Any] = {"strategy": "margin", "size": 20}


class Condition(Configuration):
    """A condition on one field of a record."""

    model_config = described("an object such as {'left': 'confidence', 'op': '<', 'right': 0.9}")

    left: Text = Field(description="the name of a field, such as 'split' or 'tags.run_id'")
    op: Literal[*rec.OPERATORS] = Field(description=f"one of {', '.join(rec.OPERATORS)}")
    right: Any = Field(description="the value that the field is compared with, or for 'in' a list")


class Select(Configuration):
    """A choice of records by their fields: the arguments of :func:`alhelpers.records.query`."""

    model_config = described("an object with 'filters', 'limit', 'order_by' and 'desc'")

    filters: list[Condition] = Field(
        default_factory=list, description="a list of conditions, all of which must hold"
    )
    limit: Integer | None = Field(None, description="a whole number of at least 1: the most records", ge=1)
    order_by: Text = Field("id", description="the name of the field by which records are ordered")
    desc: bool = Field(False, description="true (from the largest down) or false")

    def arguments(self) -> dict[str, Any]:
        """Return the given ones as the arguments of :func:`alhelpers.records.query`."""
        return self.model_dump(exclude_unset=True)


def _as_list(plan: Any) -> Any:
    return [plan] if isinstance(plan, Mapping) else plan


class MinerConfig(Configuration):
    """A miner configuration; :func:`parse_config` reads and checks one.

    Once checked, ``plan`` is a list of parts that holds all strategies with their options, also of a configuration
    that has a ``strategy``; ``strategy``, ``options``, ``embeddings_field`` and ``metric`` are part of it.
    """

    model_config = described(f"an object such as {DEFAULT_CONFIG}")

    strategy: StrategyName | None = Field(None, description=STRATEGY)
    options: dict[str, Any] | None = Field(None, description="an object with the strategy's options")
    plan: (
        Annotated[list[PlanPart], BeforeValidator(_as_list, json_schema_input_type=list[PlanPart] | PlanPart)]
        | None
    ) = Field(
        None,
        description="what alhelpers.mining.combine takes: a list of parts, a 'cascade', 'weights' or 'goals'",
        min_length=1,
    )
    size: Integer = Field(
        DEFAULT_CONFIG["size"], description="a whole number of records a round, at least 1", ge=1
    )
    max_boxes: Annotated[int | float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="a number above 0: the most boxes that are expected on the records of a round"
    )
    seed: Integer = Field(0, description="a whole number of at least 0", ge=0)
    select: Select = Field(
        default_factory=Select,
        description="an object with 'filters', 'limit', 'order_by' and 'desc', which choose the records of the pool",
    )
    select_reference: Select = Field(
        default_factory=Select,
        description="an object with 'filters', 'limit', 'order_by' and 'desc', which choose the labelled records",
    )
    embeddings_field: str | None = Field(
        None,
        description="'embeddings', or 'embeddings:' and the name of a layer",
        pattern="^embeddings(:.+)?$",
    )
    metric: Literal[*METRICS] | None = Field(None, description=f"one of {', '.join(METRICS)}")
    model_name: Text | None = Field(
        None, description=f"the name of a model, as {MODEL_FIELD} of a record holds it"
    )

    @property
    def stages(self) -> list[tuple[StrategyName, dict[str, Any]]]:
        """All strategies of the plan with their options, in its order."""
        steps = [step for part in self.plan or () for step in steps_of(part)]
        goals = [getattr(step, "goals", None) for step in steps]
        each = [
            inner for step, of in zip(steps, goals, strict=True) for inner in (of.scores if of else [step])
        ]
        return [(step.strategy, dict(step.options)) for step in each]

    @property
    def needed(self) -> list[Needed]:
        """What each strategy of the plan needs, in its order; as :func:`needed_fields` returns it."""
        return needed_by(self.plan or ())

    @property
    def strategies(self) -> tuple[str, ...]:
        """The names of all strategies in use, each once."""
        return tuple(dict.fromkeys(each.strategy for each in self.needed))

    @property
    def digest(self) -> str:
        """A hash that two configurations share only if they mean the same; 16 hexadecimal digits.

        Of a function its name counts.
        """
        meaning = {
            "plan": plain(list(map(as_given, self.plan or ()))),
            "size": self.size,
            "seed": self.seed,
            "select": self.select.arguments(),
            "select_reference": self.select_reference.arguments(),
            "model_name": self.model_name,
        }
        if self.max_boxes is not None:  # configurations without it keep their digest
            meaning["max_boxes"] = self.max_boxes
        try:
            text = json.dumps(
                meaning, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain_value
            )
        except (TypeError, ValueError) as error:
            raise MiningError(f"miner_configuration holds a value that JSON cannot: {error}") from error
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def checked(self) -> Self:
        """Return the configuration with a plan that holds all strategies and their options, after checking them."""
        parts = _parts(self)
        resolve(parts, self.size)
        layer = (self.embeddings_field or "").partition(":")[2] or None
        for key, option, value in (("embeddings_field", "layer", layer), ("metric", "metric", self.metric)):
            if (given := getattr(self, key)) is not None:
                parts = _with_option(parts, option, value, f"{key} {given!r}")
        in_plan = dict.fromkeys(("strategy", "options", "embeddings_field", "metric"))
        checked = self.model_copy(update={"plan": parts, **in_plan})
        _ = checked.digest  # refuses what JSON cannot hold
        return checked


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is not a number, text, list or object")


@functools.cache
def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a miner configuration; the node Mine Items adds keys of its own."""
    return json_schema(MinerConfig, "miner configuration")


def parse_config(config: Mapping[str, Any] | MinerConfig | None) -> MinerConfig:
    """Read and check a miner configuration; the given object is not changed.

    Parameters
    ----------
    config : mapping, MinerConfig or None
        What `CONFIG_SCHEMA` describes: a ``strategy`` with its ``options``, or a ``plan``; ``size``, ``seed``
        and ``max_boxes``; ``select`` and ``select_reference`` with ``filters``, ``limit``, ``order_by`` and
        ``desc``; ``embeddings_field`` and ``metric``, which go to every strategy that has the option ``layer`` or
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
        For an unknown strategy or option, or a plan whose parts do not fit the size; it lists the known ones.

    Examples
    --------
    >>> parse_config({"strategy": "coreset", "embeddings_field": "embeddings:early"}).stages
    [('coreset', {'layer': 'early'})]
    """
    return read(MinerConfig, {} if config is None else config, "miner_configuration").checked()


def _parts(config: MinerConfig) -> list[PlanPart]:
    if config.plan is not None and (config.strategy is not None or config.options is not None):
        raise MiningError(
            "miner_configuration has a 'plan' beside a 'strategy' or 'options': leave one out; a plan's parts have "
            "strategies and options of their own"
        )
    if config.options is not None and config.strategy is None:
        raise MiningError("miner_configuration has 'options' without the 'strategy' that they belong to")
    one = {"strategy": config.strategy or DEFAULT_CONFIG["strategy"], "options": config.options or {}}
    return config.plan or [PlanPart(**one)]


def _with_option(parts: list[PlanPart], option: str, value: Any, given: str) -> list[PlanPart]:
    """Set an option of all strategies and goals that have it and do not set it themselves."""
    used = False

    def changed(step: Any) -> Any:
        nonlocal used
        update = {
            name: [changed(inner) for inner in getattr(step, name)]
            for name in ("cascade", "weights", "scores")
            if getattr(step, name, None)
        }
        if isinstance(step, GoalsNode):
            used |= step.compares
            if step.compares and option not in step.model_fields_set:
                update[option] = value
        elif getattr(step, "goals", None) is not None:
            update["goals"] = changed(step.goals)
        elif step.strategy is not None and option in find(step.strategy).options:
            used = True
            update["options"] = {option: value} | step.options
        return step.model_copy(update=update)

    found = [changed(part) for part in parts]
    if not used:
        names = dict.fromkeys(each.strategy for each in needed_by(parts))
        raise UnknownOption(
            f"{given} is for strategies with an option {option!r}, which {', '.join(names)} lack; leave it out"
        )
    return found


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
        As :func:`parse_config` takes or returns it.
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The pool. ``select`` chooses among the records that were not picked, so that ``limit`` counts those left.
    reference : list of dict, pyarrow.Table, str, pathlib.Path or Query, optional
        The labelled records, from which ``select_reference`` chooses. Without it, ``select_reference`` chooses
        from `records`; if it chooses none, strategies for which a reference is optional run without one.
    picked : collection of str or int
        The ids that earlier rounds chose; they are not chosen again.
    engine, progress
        As for :func:`mine`.

    Returns
    -------
    Selection
        ``size`` records, or all that are left if these are fewer; parts of a plan shrink in proportion. With
        ``max_boxes`` fewer, as :func:`mine` has it. ``meta`` is
        that of :func:`combine`, with ``configuration``, its digest, and ``pool``, the number of records to choose from.

    Raises
    ------
    PoolExhausted
        If no record is left to choose.
    MiningError, RecordError
        If the configuration is not valid, or the records lack a field that it needs, or break their schema.
    """
    miner = parse_config(config)
    digest = miner.digest
    pool = _of_model(records, miner.model_name, "records")
    if picked:
        pool = _without(pool, list(picked))
    if select := miner.select.arguments():
        pool = rec.query(pool, **select)
    left = rec.count(pool)
    if not left:
        raise PoolExhausted(_nothing_left(records, miner, len(picked)))
    selection = run_cascades(
        pool,
        resolve(miner.plan, miner.size, min(miner.size, left)),
        plain(list(map(as_given, miner.plan))),
        Run(_reference(records, reference, miner), miner.seed, engine_of(engine), progress),
        miner.max_boxes,
    )
    meta = {**selection.meta, "configuration": digest, "pool": left}
    return Selection(selection.ids, selection.scores, meta)


def _of_model(source: Records, model_name: str | None, name: str) -> Records:
    """Return the records that a model predicted, or all of them if no model is named."""
    if model_name is None:
        return source
    try:
        return rec.query(source, [{"left": MODEL_FIELD, "op": "=", "right": model_name}])
    except RecordError as error:
        if error.column != MODEL_FIELD:
            raise
        raise MissingField(
            f"model_name {model_name!r} selects the records of one model, but the {name} have no {MODEL_FIELD}; "
            "leave model_name out, or write the model's name there"
        ) from error


def _without(source: Records, picked: list[Any]) -> Records:
    kind = rec.parts(source, ())[0].load()["id"].type
    others = [id for id in picked if pa.types.is_string(kind) != isinstance(id, str)]
    if others:
        raise MiningError(
            f"the picked ids are not ids of these records: {others[0]!r} is among them, and the records' ids are "
            f"of the type {kind}; are the picks those of other records?"
        )
    return rec.query(source, [{"left": "id", "op": "not in", "right": picked}])


def _reference(records: Records, reference: Records | None, miner: MinerConfig) -> Records | None:
    """Return the labelled records, or None if there are none and no strategy needs any."""
    select = miner.select_reference.arguments()
    if reference is None and not select:
        return None
    labelled = _of_model(records if reference is None else reference, miner.model_name, "reference")
    if not select:
        return labelled
    labelled = rec.query(labelled, **select)
    if rec.count(labelled):
        return labelled
    needing = next((each.strategy for each in miner.needed if each.reference == "required"), None)
    if needing is None:
        return None
    raise MissingField(
        f"strategy {needing!r} needs labelled records to compare with, but select_reference chooses none: "
        f"{select}"
    )


def _nothing_left(records: Records, miner: MinerConfig, picked: int) -> str:
    conditions = {"select": miner.select.arguments(), "model_name": miner.model_name}
    narrowed = " and ".join(f"{key} {value!r}" for key, value in conditions.items() if value)
    total = rec.count(records)
    if not picked:
        return f"there is nothing to choose: none of {total} records fits {narrowed or 'the configuration'}"
    fitting = f"every record that fits {narrowed}" if narrowed else "every record"
    return f"nothing is left to choose: {fitting} was picked before ({picked} picks, {total} records)"
