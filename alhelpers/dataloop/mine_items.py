"""The pipeline node "Mine Items": which of the waiting items are labelled next; the rest wait for another round.

Each execution is one round. What it chose is written on the items, with the reason, so no item is chosen twice.
"""

import copy
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers import configurations, mining
from alhelpers.dataloop import reading

logger = logging.getLogger(__name__)

MINED = "mined"
WAIT = "wait"
#: The key of an item's user metadata that says in which round it was chosen, and why.
MARK_KEY = "mining"
#: A node's output list becomes one execution an item, and the platform makes at most so many.
LARGEST_SIZE = 1000
REFERENCE_FILTER: dict[str, Any] = {
    "filter": {
        "$and": [{"hidden": False}, {"type": "file"}, {"metadata": {"system": {"tags": {"train": True}}}}]
    }
}
#: The keys of the node beside those of any miner configuration.
_OWN_KEYS: dict[str, Any] = {
    "wait_for": {
        "description": "a whole number of at least 1: how many items must wait before any is chosen",
        "type": "integer",
        "minimum": 1,
    },
    "predict_missing": {
        "description": "true (the model predicts what it has not yet) or false (such items are left out)",
        "type": "boolean",
    },
    "feature_set": {
        "description": "the name of a feature set whose vectors are the embeddings",
        "type": "string",
        "minLength": 1,
    },
    "reference_filter": {
        "description": "a query like that of train_subset_filter.json",
        "type": "object",
        "required": ["filter"],
        "properties": {"filter": {"description": "an object", "type": "object"}},
    },
}
CONFIG_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    **mining.CONFIG_SCHEMA,
    "properties": {
        **mining.CONFIG_SCHEMA["properties"],
        "size": {
            "description": f"a whole number of items a round, from 1 to {LARGEST_SIZE}",
            "type": "integer",
            "minimum": 1,
            "maximum": LARGEST_SIZE,
        },
        **_OWN_KEYS,
    },
}

_ITEMS_PER_PREDICTION = 200
_PARALLEL_UPDATES = 8
_LONGEST_PAUSE = 5.0  # seconds between two looks at a prediction that runs
#: A strategy's name and options.
Stage = tuple[str, dict[str, Any]]


# ----------------------------------------------------------------------------- the configuration


@dataclass(frozen=True)
class NodeConfig:
    """A checked configuration of the node.

    Parameters
    ----------
    miner : mining.MinerConfig
        What is chosen.
    wait_for : int
        How many items must wait before any is chosen.
    predict_missing : bool
        Whether the model predicts the items that it has not predicted.
    feature_set : str or None
        Where the embeddings of the default layer come from, in place of the predictions.
    reference_filter : dict
        A query for the labelled items.
    """

    miner: mining.MinerConfig
    wait_for: int = 1
    predict_missing: bool = True
    feature_set: str | None = None
    reference_filter: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(REFERENCE_FILTER))

    @property
    def needs_predictions(self) -> bool:
        """Whether anything of the waiting items is looked at that only predictions hold."""
        return bool(_fields_of(self.miner.select)) or any(map(self._needs_predictions, self.miner.stages))

    @property
    def needs_vectors(self) -> bool:
        """Whether any strategy looks at the feature set's vectors of the waiting items."""
        return any(map(self._needs_vectors, self.miner.stages))

    @property
    def with_reference(self) -> tuple[str, ...]:
        """The strategies that look at labelled items where there are any."""
        return tuple(name for name in self.miner.strategies if _known(name)["reference"] != "none")

    @property
    def needing_reference(self) -> tuple[str, ...]:
        """The strategies that cannot do without labelled items."""
        return tuple(name for name in self.miner.strategies if _known(name)["reference"] == "required")

    @property
    def reference_predictions(self) -> bool:
        """Whether anything of the labelled items is looked at that only predictions hold."""
        chosen_by = _fields_of(self.miner.select_reference) - {"groundtruth"}
        embedded = [stage for stage in self._reference_stages if _uses_embeddings(stage)]
        return bool(chosen_by) or any(not self._needs_vectors(stage) for stage in embedded)

    @property
    def reference_vectors(self) -> bool:
        """Whether any strategy looks at the feature set's vectors of the labelled items."""
        return any(map(self._needs_vectors, self._reference_stages))

    @property
    def reference_labels(self) -> bool:
        """Whether the labels of labelled items are looked at."""
        by_label = any(not _uses_embeddings(stage) for stage in self._reference_stages)
        return by_label or "groundtruth" in _fields_of(self.miner.select_reference)

    @property
    def _reference_stages(self) -> list[Stage]:
        return [stage for stage in self.miner.stages if stage[0] in self.with_reference]

    def _needs_predictions(self, stage: Stage) -> bool:
        vectors = self._needs_vectors(stage)
        return any(not vectors or "embeddings" not in need for need in _known(stage[0])["fields"])

    def _needs_vectors(self, stage: Stage) -> bool:
        default_layer = stage[1].get("layer") is None
        return self.feature_set is not None and default_layer and _uses_embeddings(stage)


def _known(strategy: str) -> dict[str, Any]:
    return mining.strategies()[strategy]


def _uses_embeddings(stage: Stage) -> bool:
    return any("embeddings" in need for need in _known(stage[0])["fields"])


def _fields_of(select: Mapping[str, Any]) -> set[str]:
    """Name what a choice of records looks at, beside the id, which is always known."""
    lefts = {condition["left"] for condition in select.get("filters", [])}
    return (lefts | {select.get("order_by", "id")}) - {"id"}


def parse_config(config: Mapping[str, Any] | None) -> NodeConfig:
    """Read and check a configuration; the given object is not changed.

    Parameters
    ----------
    config : mapping or None
        What `alhelpers.mining.parse_config` takes, and beside it ``wait_for``, ``predict_missing``,
        ``feature_set`` and ``reference_filter``. None and ``{}`` mean `alhelpers.mining.DEFAULT_CONFIG`.

    Returns
    -------
    NodeConfig
        The configuration.

    Raises
    ------
    ValueError
        For an unknown key or a value that cannot be used; it names the place. An unknown strategy or option,
        and a plan whose parts do not fit the size, are `alhelpers.mining.MiningError`s that list the known.

    Examples
    --------
    >>> parse_config({"strategy": "entropy", "size": 50, "wait_for": 100}).wait_for
    100
    """
    given = copy.deepcopy({} if config is None else config)
    configurations.check(given, CONFIG_SCHEMA, "miner_configuration")
    own = {key: given.pop(key) for key in _OWN_KEYS if key in given}
    if "wait_for" in own:
        own["wait_for"] = int(own["wait_for"])
    return NodeConfig(mining.parse_config(given), **own)


# ----------------------------------------------------------------------------- the choice


@dataclass(frozen=True)
class Choice:
    """What a round chooses, best first.

    Parameters
    ----------
    ids : list of str
        The items.
    scores : list of float
        The score of each, finite.
    strategies : list of str
        Which strategy chose each.
    pool : int
        Among how many items they were chosen.
    """

    ids: list[str]
    scores: list[float]
    strategies: list[str]
    pool: int


def choose(
    records: Sequence[Mapping[str, Any]],
    miner: mining.MinerConfig,
    reference: Sequence[Mapping[str, Any]] | None = None,
) -> Choice:
    """Choose what `alhelpers.mining.run` chooses, or nothing where no record fits the configuration.

    Parameters
    ----------
    records : sequence of mapping
        The waiting items.
    miner : mining.MinerConfig
        How to choose.
    reference : sequence of mapping, optional
        The labelled items.

    Returns
    -------
    Choice
        The items, best first.

    Raises
    ------
    ValueError
        What mining raises: a missing field, no reference, numbers that cannot be scored.
    """
    if reference is None:  # the labelled items are never among the waiting ones
        miner = replace(miner, select_reference={})
    try:
        selection = mining.run(miner, records, reference)
    except mining.PoolExhausted:
        return Choice([], [], [], 0)
    return Choice(
        ids=list(selection.ids),
        scores=[float(np.nan_to_num(score)) for score in selection.scores],
        strategies=[selection.meta["strategies"][id] for id in selection.ids],
        pool=selection.meta["pool"],
    )


def complete(choice: Choice, taken: Mapping[str, int], size: int) -> dict[str, int]:
    """Say which items of a choice are still to be taken, when a run that died has taken some of them.

    Parameters
    ----------
    choice : Choice
        The choice, made once more; of the same items it is the same.
    taken : mapping of str to int
        The items that were taken, and their ranks.
    size : int
        How many items the run that died had chosen.

    Returns
    -------
    dict of str to int
        The other items and their ranks, from 1, so many that there are ``size`` in all.
    """
    free = (rank for rank in range(1, size + 1) if rank not in taken.values())
    rest = [id for id in choice.ids if id not in taken][: max(0, size - len(taken))]
    return dict(zip(rest, free, strict=False))


# ----------------------------------------------------------------------------- reading the platform


@dataclass
class Pool:
    """The waiting items and what is known of them.

    Parameters
    ----------
    records : list of dict
        A record an item.
    notes : list of str
        What the reader of the result should know.
    """

    records: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def pool_query(pool_filter: dl.Filters | Mapping[str, Any] | None) -> dict[str, Any]:
    """Narrow a filter to the files that no round has chosen.

    Parameters
    ----------
    pool_filter : dl.Filters, mapping or None
        A filter of items, or a query in the form of ``train_subset_filter.json``; it is not changed. None and
        ``{}`` mean all files.

    Returns
    -------
    dict
        The query.

    Raises
    ------
    ValueError
        When it is no filter of items.
    """
    given = copy.deepcopy(pool_filter)
    if isinstance(given, dl.Filters):
        given = given.prepare()
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"pool_filter {pool_filter!r} must be a query like that of train_subset_filter.json")
    query = dict(given or {})
    if query.get("resource", "items") != "items":
        raise ValueError(f"pool_filter asks for {query['resource']}: it must be a filter of items")
    for key in ("page", "pageSize", "resource"):
        query.pop(key, None)
    if query and "filter" not in query:  # the SDK takes conditions alone as well
        query = {"filter": query}
    conditions = [query["filter"]] if query.get("filter") else []
    query["filter"] = {
        "$and": [
            *conditions,
            {"hidden": False},
            {"type": "file"},
            {f"metadata.user.{MARK_KEY}": {"$exists": False}},
        ]
    }
    return query


def _mark(item: dl.Item) -> Mapping[str, Any] | None:
    return ((item.metadata or {}).get("user") or {}).get(MARK_KEY)


def _last_round(dataset: dl.Dataset) -> int:
    filters = dl.Filters(
        field=f"metadata.user.{MARK_KEY}.round", values=0, operator=dl.FiltersOperations.GREATER_THAN
    )
    filters.sort_by(field=f"metadata.user.{MARK_KEY}.round", value=dl.FiltersOrderByDirection.DESCENDING)
    latest = dataset.items.list(filters=filters, page_size=1).items
    return int(_mark(latest[0])["round"]) if latest else 0


def _own_items(dataset: dl.Dataset, execution_id: str | None) -> list[dl.Item]:
    """Find what this same execution chose before it died; best first."""
    if execution_id is None:
        return []
    filters = dl.Filters(field=f"metadata.user.{MARK_KEY}.execution_id", values=execution_id)
    return sorted(reading.pages(dataset.items.list(filters=filters)), key=lambda item: _mark(item)["rank"])


def read_pool(
    dataset: dl.Dataset,
    model: dl.Model,
    item_ids: Sequence[str],
    config: NodeConfig,
    *,
    reference: bool = False,
) -> Pool:
    """Read the records of waiting items, or of labelled ones; the model predicts what it has not yet.

    Parameters
    ----------
    dataset : dl.Dataset
        Where the items are.
    model : dl.Model
        Whose predictions count.
    item_ids : sequence of str
        The items.
    config : NodeConfig
        Which fields are needed, and whether missing predictions are made.
    reference : bool
        Whether the items are labelled ones: other models' predictions are left on these, as they are compared
        there, and the labels are read.

    Returns
    -------
    Pool
        The records of all items of which everything needed is known.

    Raises
    ------
    ValueError
        When nothing is known of any item.
    RuntimeError
        When the model fails to predict.
    """
    predicted = config.reference_predictions if reference else config.needs_predictions
    embedded = config.reference_vectors if reference else config.needs_vectors
    records: dict[str, dict[str, Any]] = {item_id: {"id": item_id} for item_id in item_ids}
    notes: list[str] = []
    if predicted:
        records = _read_predictions(dataset, model, item_ids, config, notes, clean=not reference)
    if embedded:
        records = _with_vectors(dataset, config.feature_set, records, notes)
    if reference and config.reference_labels:
        labels = reading.labels_of(dataset, list(records))
        one = {item_id: found[0] for item_id, found in labels.items() if len(found) == 1}
        records = {item_id: row | {"groundtruth": one.get(item_id)} for item_id, row in records.items()}
    return Pool(list(records.values()), notes)


def _read_predictions(
    dataset: dl.Dataset,
    model: dl.Model,
    item_ids: Sequence[str],
    config: NodeConfig,
    notes: list[str],
    *,
    clean: bool,
) -> dict[str, dict[str, Any]]:
    records = reading.predictions_of(dataset, item_ids, model.id)
    missing = [item_id for item_id in item_ids if item_id not in records]
    if missing and config.predict_missing:
        ready = _deployed(model, len(missing), dataset)
        if clean:
            remove_other_predictions(dataset, missing, model.id)
        predict(ready, missing)
        records |= reading.predictions_of(dataset, missing, model.id)
        notes.append(f"{len(missing)} items of dataset {dataset.name!r} were predicted first")
        missing = [item_id for item_id in missing if item_id not in records]
    if not records:
        raise ValueError(
            f"none of {len(item_ids)} items of dataset {dataset.name!r} has a class or box prediction of model "
            f"{model.name!r} ({model.id}): deploy the model and predict them, or leave predict_missing on"
        )
    if missing:
        notes.append(
            f"{len(missing)} items of dataset {dataset.name!r} without a prediction of {model.name!r} were left out"
        )
    return records


def _with_vectors(
    dataset: dl.Dataset, feature_set: str, records: Mapping[str, dict[str, Any]], notes: list[str]
) -> dict[str, dict[str, Any]]:
    vectors = reading.vectors_of(dataset.project, feature_set, list(records))
    known = {
        item_id: row | {"embeddings": vectors[item_id]}
        for item_id, row in records.items()
        if item_id in vectors
    }
    if not known:
        raise ValueError(
            f"none of {len(records)} items of dataset {dataset.name!r} has a vector in feature set {feature_set!r}: "
            "embed them first"
        )
    if len(known) < len(records):
        notes.append(
            f"{len(records) - len(known)} items of dataset {dataset.name!r} without a vector in {feature_set!r} "
            "were left out"
        )
    return known


def read_reference(dataset: dl.Dataset | None, model: dl.Model, config: NodeConfig) -> Pool | None:
    """Read the labelled items, if any strategy looks at them.

    Parameters
    ----------
    dataset : dl.Dataset or None
        Where they are.
    model : dl.Model
        Whose predictions count.
    config : NodeConfig
        Which of the items, and what of them is needed.

    Returns
    -------
    Pool or None
        The labelled items; None where there are none, and none are needed.

    Raises
    ------
    ValueError
        When a strategy needs labelled items and the filter selects none; it names the strategy.
    """
    if dataset is None or not config.with_reference:
        return None
    items = [item.id for item in reading.find_items(dataset, config.reference_filter)]
    if items:
        return read_pool(dataset, model, items, config, reference=True)
    if config.needing_reference:
        raise ValueError(
            f"strategy {config.needing_reference[0]!r} needs labelled items to compare with, but the "
            f"reference_filter selects no item of dataset {dataset.name!r}: {config.reference_filter}"
        )
    return Pool([], [f"dataset {dataset.name!r} holds no labelled items yet"])


# ----------------------------------------------------------------------------- changing the platform


def _deployed(model: dl.Model, missing: int, dataset: dl.Dataset) -> dl.Model:
    """Read the model again, and refuse one that cannot predict before anything is removed."""
    fresh = model.models.get(model_id=model.id)
    services = (((fresh.metadata or {}).get("system") or {}).get("deploy") or {}).get("services")
    if not services:
        raise ValueError(
            f"{missing} items of dataset {dataset.name!r} have no prediction of model {model.name!r}, which is not "
            'deployed: run model.deploy(), or leave these items out with "predict_missing": false'
        )
    return fresh


def remove_other_predictions(dataset: dl.Dataset, item_ids: Sequence[str], model_id: str) -> int:
    """Remove what other models predicted on items: after a review all of it would be ground truth.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    item_ids : sequence of str
        The items.
    model_id : str
        The model whose predictions stay. Annotations that name no model always stay.

    Returns
    -------
    int
        How many annotations were removed.
    """

    def narrow(filters: dl.Filters) -> None:
        for section in ("system", "user"):
            for key in ("model_id", "name"):
                filters.add(
                    f"metadata.{section}.model.{key}",
                    True,
                    dl.FiltersOperations.EXISTS,
                    method=dl.FiltersMethod.OR,
                )

    stale = [
        annotation.id
        for annotation in reading.annotations_of(dataset, item_ids, narrow)
        if not reading.is_ground_truth(annotation) and reading.made_by(annotation.metadata)[0] != model_id
    ]
    for chunk in reading.chunks(stale):
        dataset.annotations.delete(annotation_id=chunk)
    return len(stale)


def predict(model: dl.Model, item_ids: Sequence[str]) -> None:
    """Have a deployed model predict items, and wait for it.

    Parameters
    ----------
    model : dl.Model
        The model.
    item_ids : sequence of str
        The items.

    Raises
    ------
    RuntimeError
        When it fails, with the execution's message.
    """
    executions = [model.predict(item_ids=chunk) for chunk in reading.chunks(item_ids, _ITEMS_PER_PREDICTION)]
    for execution in executions:
        status = _ended(execution).latest_status
        if status["status"] != "success":
            raise RuntimeError(
                f"model {model.name!r} could not predict {len(item_ids)} items, execution {execution.id} is "
                f"{status['status']!r}: {status.get('message') or status.get('error')}. Nothing was chosen"
            )


def _ended(execution: dl.Execution) -> dl.Execution:
    pause = 0.1
    while execution.in_progress():
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
        execution = execution.executions.get(execution_id=execution.id)
    return execution


def write_mark(item: dl.Item, mark: Mapping[str, Any]) -> dl.Item:
    """Write on an item in which round it was chosen, and why, beside the rest of its metadata.

    Parameters
    ----------
    item : dl.Item
        The item, freshly read.
    mark : mapping
        Plain data.

    Returns
    -------
    dl.Item
        The item as the platform holds it now.
    """
    item.metadata = item.metadata or {}
    item.metadata["user"] = (item.metadata.get("user") or {}) | {MARK_KEY: dict(mark)}
    return item.update()


def _mark_all(dataset: dl.Dataset, marks: Mapping[str, Mapping[str, Any]]) -> tuple[list[dl.Item], list[str]]:
    """Mark items in parallel; give them, and the reasons why some were dropped."""
    fresh = reading.items_of(dataset, list(marks))
    free = [item for item in fresh.values() if _mark(item) is None]
    warnings = []
    if len(free) < len(fresh):
        warnings.append(f"{len(fresh) - len(free)} chosen items were taken by another round meanwhile")

    def attempt(item: dl.Item) -> dl.Item | None:
        try:
            return write_mark(item, marks[item.id])
        except dl.exceptions.NotFound:
            return None

    try:
        with ThreadPoolExecutor(_PARALLEL_UPDATES) as workers:
            marked = [item for item in workers.map(attempt, free) if item is not None]
    except (dl.exceptions.ExceptionMain, OSError) as error:
        raise RuntimeError(
            f"some of {len(free)} chosen items of dataset {dataset.name!r} could not be marked: run this same "
            "execution again, which takes up its round"
        ) from error
    deleted = len(marks) - len(fresh) + len(free) - len(marked)
    if deleted:
        warnings.append(f"{deleted} chosen items were deleted meanwhile")
    return marked, warnings


# ----------------------------------------------------------------------------- the round


@dataclass(frozen=True)
class Round:
    """What one execution did.

    Parameters
    ----------
    items : list of dl.Item
        The chosen items, best first, as the platform holds them now.
    message : str
        What was done, in one sentence.
    """

    items: list[dl.Item]
    message: str

    @property
    def action(self) -> str:
        """The node's action: ``"mined"`` or ``"wait"``."""
        return MINED if self.items else WAIT


def run_round(
    dataset: dl.Dataset,
    model: dl.Model,
    pool_filter: dl.Filters | Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    reference_dataset: dl.Dataset | None = None,
    execution_id: str | None = None,
) -> Round:
    """Choose the next items of a dataset and mark them.

    Parameters
    ----------
    dataset, model, pool_filter, config, reference_dataset
        As `ItemMiner.mine_items` takes them.
    execution_id : str, optional
        Who chooses: the same one again takes up its own round.

    Returns
    -------
    Round
        The items.

    Raises
    ------
    ValueError, RuntimeError
        As `ItemMiner.mine_items`.
    """
    parsed = parse_config(config)
    query = pool_query(pool_filter)
    _check_inputs(parsed, model, reference_dataset)
    own = _own_items(dataset, execution_id)
    size = min(parsed.miner.size, _mark(own[0])["pool"]) if own else parsed.miner.size
    if own and len(own) >= size:
        return Round(own, f"{len(own)} items had been chosen by this execution already")
    waiting = reading.find_items(dataset, query)
    if not own and len(waiting) < parsed.wait_for:
        return Round([], _waiting_message(dataset, len(waiting), parsed.wait_for))
    ids = [item.id for item in (*own, *waiting)]
    labelled = read_reference(reference_dataset, model, parsed)
    pool = read_pool(dataset, model, ids, parsed)
    miner = replace(parsed.miner, model_name=None)  # only the model's own predictions are read
    choice = choose(pool.records, miner, labelled.records or None if labelled else None)
    ranks = complete(choice, {item.id: _mark(item)["rank"] for item in own}, min(size, choice.pool))
    predicted = ranks if parsed.needs_predictions else reading.predictions_of(dataset, list(ranks), model.id)
    remove_other_predictions(dataset, list(predicted), model.id)
    shared = {
        "round": _mark(own[0])["round"] if own else _last_round(dataset) + 1,
        "model_id": model.id,
        "model_name": model.name,
        "pool": _mark(own[0])["pool"] if own else choice.pool,
        "mined_at": datetime.now(UTC).isoformat(),
    }
    if execution_id is not None:
        shared["execution_id"] = execution_id
    marked, warnings = _mark_all(dataset, _marks(choice, ranks, shared))
    items = sorted((*own, *marked), key=lambda item: _mark(item)["rank"])
    notes = [*pool.notes, *(labelled.notes if labelled else []), *warnings]
    if not choice.ids:
        notes.append(f"none fits miner_configuration.select {parsed.miner.select}")
    for note in notes:
        logger.warning(note)
    return Round(items, _mined_message(items, len(ids), notes))


def _check_inputs(config: NodeConfig, model: dl.Model, reference_dataset: dl.Dataset | None) -> None:
    """Raise unless the node was given what the configuration asks for."""
    if reference_dataset is None and config.needing_reference:
        raise ValueError(
            f"strategy {config.needing_reference[0]!r} needs labelled items to compare with: give the node a "
            "reference_dataset, or choose another strategy"
        )
    if reference_dataset is None and config.miner.select_reference:
        raise ValueError(
            "miner_configuration has a 'select_reference', which chooses among labelled items: give the node a "
            "reference_dataset, or leave it out"
        )
    if config.miner.model_name not in (None, model.name):
        raise ValueError(
            f"miner_configuration.model_name is {config.miner.model_name!r}, but the node mines by the predictions "
            f"of its model, {model.name!r}: leave model_name out, or give the node that model"
        )


def _marks(choice: Choice, ranks: Mapping[str, int], shared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        item_id: {**shared, "rank": ranks[item_id], "score": score, "strategy": strategy}
        for item_id, score, strategy in zip(choice.ids, choice.scores, choice.strategies, strict=True)
        if item_id in ranks
    }


def _waiting_message(dataset: dl.Dataset, waiting: int, needed: int) -> str:
    if not waiting:
        return f"no item of dataset {dataset.name!r} waits: nothing was chosen"
    return f"{waiting} items of dataset {dataset.name!r} wait, {needed} are needed (wait_for): nothing was chosen"


def _mined_message(items: Sequence[dl.Item], waiting: int, notes: Iterable[str]) -> str:
    marks = [_mark(item) for item in items]
    by = Counter(mark["strategy"] for mark in marks)
    parts = []
    for strategy, count in by.items():
        scores = [mark["score"] for mark in marks if mark["strategy"] == strategy]
        parts.append(f"{count} by {strategy} with scores from {max(scores):.4g} to {min(scores):.4g}")
    chosen = f": {', '.join(parts)}" if parts else ""
    return "; ".join([f"{len(items)} of {waiting} waiting items were chosen{chosen}", *notes])


class ItemMiner(dl.BaseServiceRunner):
    """The service behind the node "Mine Items"."""

    @staticmethod
    def mine_items(
        dataset: dl.Dataset,
        model: dl.Model,
        pool_filter: dl.Filters | dict | None = None,
        miner_configuration: dict | None = None,
        reference_dataset: dl.Dataset | None = None,
        progress: dl.Progress | None = None,
        context: dl.Context | None = None,
    ) -> list[dl.Item]:
        """Choose which of the waiting items are labelled next.

        Each chosen item gets ``metadata.user.mining``: round, rank, score, strategy, model, execution, size of
        the pool and time. It keeps the item out of later rounds; the others wait. An execution that died and
        is run again under its id takes up its own round: what it had marked comes first, and no more is
        chosen than it would have been. Without an execution (in a notebook) each call is a new round.

        Items that the model has not predicted, as after an update of the model, are predicted first. Other
        models' predictions are removed from these, and from the chosen items that carry the model's: a review
        makes ground truth of all that is there. Ground truth is never removed, nor anything on labelled items.

        Parameters
        ----------
        dataset : dl.Dataset
            The raw data.
        model : dl.Model
            Whose predictions count, told apart by the model's id.
        pool_filter : dl.Filters or dict, optional
            Which items may be chosen, in the form of ``train_subset_filter.json``; all files by default. Items
            that were chosen before are never among them.
        miner_configuration : dict, optional
            As `parse_config` takes it; it is not changed.
        reference_dataset : dl.Dataset, optional
            The labelled items, for strategies that look at them.
        progress : dl.Progress, optional
            Gets the action, ``"mined"`` or ``"wait"``, and what was done as the message.
        context : dl.Context, optional
            Tells the execution's id.

        Returns
        -------
        list of dl.Item
            The chosen items, best first, as the platform holds them now; none with the action ``"wait"``.

        Raises
        ------
        ValueError
            For an unusable configuration, filter or reference, and for missing predictions or fields; no item
            is marked then.
        RuntimeError
            When the model fails to predict; no item is marked then.

        Examples
        --------
        >>> config = {"strategy": "margin", "size": 20}  # doctest: +SKIP
        >>> items = ItemMiner.mine_items(raw, model, miner_configuration=config)  # doctest: +SKIP
        """
        for name, value in (("dataset", dataset), ("model", model)):
            if value is None:
                raise ValueError(f"{name} is missing: connect it to the node, or set its variable")
        execution_id = None if context is None else context.execution_id
        done = run_round(dataset, model, pool_filter, miner_configuration, reference_dataset, execution_id)
        if progress is not None:
            progress.update(progress=100, action=done.action, message=done.message)
        return done.items
