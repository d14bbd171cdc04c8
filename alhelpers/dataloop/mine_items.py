"""The pipeline node "Mine Items": which of the waiting items are labelled next; the others wait for another round.

Each execution is one round. The chosen items keep the round and the reason in their metadata, so no item is chosen
twice. The platform loads this file by its path; the modules that it imports are in the app's codebase, which
`alhelpers.dataloop.app.write_codebase` writes.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers import mining
from alhelpers.dataloop import reading
from alhelpers.dataloop.miner_config import NodeConfig, parse_config
from alhelpers.dataloop.mining_pool import (
    MARK_KEY,
    needs_predictions,
    pool_query,
    read_pool,
    read_reference,
    remove_other_predictions,
)

logger = logging.getLogger(__name__)

MINED = "mined"
WAIT = "wait"
_PARALLEL_UPDATES = 8


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
        the pool and time. It keeps the item out of later rounds; the others wait. An interrupted execution
        that is run again under its id completes its own round: the items that it had marked come first, and no
        more are chosen than it would have chosen. Without an execution (in a notebook) each call is a new round.

        Items that the model has not predicted, as after an update of the model, are predicted first. Other
        models' predictions are removed from these, and from the chosen items with a prediction of the model: a
        review makes all predictions on an item ground truth. Ground truth is never removed, nor anything on
        labelled items.

        Parameters
        ----------
        dataset : dl.Dataset
            The raw data.
        model : dl.Model
            The model whose predictions count, by its id.
        pool_filter : dl.Filters or dict, optional
            Which items may be chosen, in the form of ``train_subset_filter.json``; all files by default. Items
            that were chosen before are left out.
        miner_configuration : dict, optional
            As `parse_config` takes it; it is not changed.
        reference_dataset : dl.Dataset, optional
            The labelled items, for strategies that use them.
        progress : dl.Progress, optional
            Gets the action, ``"mined"`` or ``"wait"``, and a message.
        context : dl.Context, optional
            Holds the execution's id.

        Returns
        -------
        list of dl.Item
            The chosen items, best first, as the platform stores them now; none with the action ``"wait"``.

        Raises
        ------
        ValueError
            If the configuration, filter or reference is not valid, or predictions or fields are missing; no item
            is marked then.
        RuntimeError
            If the model fails to predict; no item is marked then.

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


# ------------------------------------------------------------------------------
# the choice
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The choice of a round, best first: items, their finite scores and strategies, and the size of the pool."""

    ids: list[str]
    scores: list[float]
    strategies: list[str]
    pool: int


def choose(
    records: Sequence[Mapping[str, Any]],
    miner: mining.MinerConfig,
    reference: Sequence[Mapping[str, Any]] | None = None,
) -> Choice:
    """Choose as `alhelpers.mining.run` does, or nothing if no record fits the configuration."""
    if reference is None:  # the labelled items are never among the waiting ones
        miner = miner.model_copy(update={"select_reference": type(miner.select_reference)()})
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
    """Return the other items of a choice and their ranks, so that with the `taken` ones there are `size` in all."""
    free = (rank for rank in range(1, size + 1) if rank not in taken.values())
    remaining = [id for id in choice.ids if id not in taken][: max(0, size - len(taken))]
    return dict(zip(remaining, free, strict=False))


# ------------------------------------------------------------------------------
# the round
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """The chosen items of one execution, best first, as the platform stores them now, and a sentence about it."""

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
    """Choose the next items of a dataset and mark them; the same execution again completes its own round."""
    parsed = parse_config(config)
    query = pool_query(pool_filter)
    _check_inputs(parsed, model, reference_dataset)
    own = _own_items(dataset, execution_id)
    size = min(parsed.size, _mark(own[0])["pool"]) if own else parsed.size
    if own and len(own) >= size:
        return Round(own, f"{len(own)} items had been chosen by this execution already")
    waiting = reading.find_items(dataset, query)
    if not own and len(waiting) < parsed.wait_for:
        return Round([], _waiting_message(dataset, len(waiting), parsed.wait_for))
    ids = [item.id for item in (*own, *waiting)]
    labelled = read_reference(reference_dataset, model, parsed)
    pool = read_pool(dataset, model, ids, parsed)
    miner = parsed.model_copy(update={"model_name": None})  # only the model's own predictions are read
    choice = choose(pool.records, miner, labelled.records or None if labelled else None)
    ranks = complete(choice, {item.id: _mark(item)["rank"] for item in own}, min(size, choice.pool))
    predicted = (
        ranks if needs_predictions(parsed, model) else reading.predictions_of(dataset, list(ranks), model.id)
    )
    remove_other_predictions(dataset, list(predicted), model.id)
    shared = {
        "round": _mark(own[0])["round"] if own else last_round(dataset) + 1,
        "model_id": model.id,
        "model_name": model.name,
        "pool": _mark(own[0])["pool"] if own else choice.pool,
        "mined_at": datetime.now(UTC).isoformat(),
    }
    if execution_id is not None:
        shared["execution_id"] = execution_id
    marked, warnings = mark_all(dataset, _marks(choice, ranks, shared))
    items = sorted((*own, *marked), key=lambda item: _mark(item)["rank"])
    notes = [*pool.notes, *(labelled.notes if labelled else []), *warnings]
    if not choice.ids:
        notes.append(f"none fits miner_configuration.select {parsed.select.arguments()}")
    for note in notes:
        logger.warning(note)
    return Round(items, _mined_message(items, len(ids), notes))


def _check_inputs(config: NodeConfig, model: dl.Model, reference_dataset: dl.Dataset | None) -> None:
    """Raise unless the node has the inputs that the configuration needs."""
    if reference_dataset is None and config.needing_reference:
        raise ValueError(
            f"strategy {config.needing_reference[0]!r} needs labelled items to compare with: give the node a "
            "reference_dataset, or choose another strategy"
        )
    if reference_dataset is None and config.select_reference.arguments():
        raise ValueError(
            "miner_configuration has a 'select_reference', which chooses among labelled items: give the node a "
            "reference_dataset, or leave it out"
        )
    if config.model_name not in (None, model.name):
        raise ValueError(
            f"miner_configuration.model_name is {config.model_name!r}, but the node mines by the predictions "
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


# ------------------------------------------------------------------------------
# marks
# ------------------------------------------------------------------------------


def _mark(item: dl.Item) -> Mapping[str, Any] | None:
    return ((item.metadata or {}).get("user") or {}).get(MARK_KEY)


def last_round(dataset: dl.Dataset) -> int:
    """Return the highest round in which items of a dataset were chosen, 0 if there was none."""
    filters = dl.Filters(
        field=f"metadata.user.{MARK_KEY}.round", values=0, operator=dl.FiltersOperations.GREATER_THAN
    )
    filters.sort_by(field=f"metadata.user.{MARK_KEY}.round", value=dl.FiltersOrderByDirection.DESCENDING)
    latest = dataset.items.list(filters=filters, page_size=1).items
    return int(_mark(latest[0])["round"]) if latest else 0


def _own_items(dataset: dl.Dataset, execution_id: str | None) -> list[dl.Item]:
    """Return the items that this execution chose before it was interrupted, best first."""
    if execution_id is None:
        return []
    filters = dl.Filters(field=f"metadata.user.{MARK_KEY}.execution_id", values=execution_id)
    return sorted(reading.pages(dataset.items.list(filters=filters)), key=lambda item: _mark(item)["rank"])


def write_mark(item: dl.Item, mark: Mapping[str, Any]) -> dl.Item:
    """Write the round in which an item was chosen, and the reason, into its metadata."""
    item.metadata = item.metadata or {}
    item.metadata["user"] = (item.metadata.get("user") or {}) | {MARK_KEY: dict(mark)}
    return item.update()


def mark_all(dataset: dl.Dataset, marks: Mapping[str, Mapping[str, Any]]) -> tuple[list[dl.Item], list[str]]:
    """Mark items in parallel; return them, and the reasons why some were dropped."""
    fresh = reading.items_of(dataset, list(marks))
    # best first, so that these are marked where a round dies
    free = [fresh[item_id] for item_id in marks if item_id in fresh and _mark(fresh[item_id]) is None]
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
            "execution again, which completes its round"
        ) from error
    deleted = len(marks) - len(fresh) + len(free) - len(marked)
    if deleted:
        warnings.append(f"{deleted} chosen items were deleted meanwhile")
    return marked, warnings
