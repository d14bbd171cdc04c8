"""The pipeline node "Model Data Split": every item belongs to one subset, always the same one.

The node sees one item at a time: its group follows from a hash of the seed and the item's id (or of its source), so
a retry, a second pipeline run and another machine agree, and an item that was used for training can never be in the
test subset later. `split_dataset` sees all items at once and can do better than chance: exact totals, the same mix
of labels in every subset, and no source in two of them.

The platform loads this file by its path; the modules that it imports are in the app's codebase, which
`alhelpers.dataloop.app.write_codebase` writes.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dtlpy as dl

from alhelpers import configurations
from alhelpers.data.splitting import (
    DEFAULT_CONFIG,
    Group,
    SplitConfiguration,
    SplitResult,
    assign_group,
    check_total,
    parse_groups,
    plan_split,
    report,
)
from alhelpers.dataloop import reading
from alhelpers.dataloop.item_metadata import (
    clear_model_info,
    current_group,
    is_answered,
    is_marked_empty,
    mark_empty,
    source_of,
    tag_item,
    tags_of,
    value_at,
)

__all__ = ["DEFAULT_CONFIG", "DataSplitter", "SplitResult", "split_dataset"]

logger = logging.getLogger(__name__)

_PARALLEL_UPDATES = 8


class DataSplitter(dl.BaseServiceRunner):
    """The service behind the node "Model Data Split"."""

    @staticmethod
    def data_split(
        item: dl.Item, progress: dl.Progress | None = None, context: dl.Context | None = None
    ) -> dl.Item:
        """Assign an item to one group, and make its annotations ground truth.

        The item is read again first, so an outdated copy cannot add a second tag. Its annotations lose their
        model info before it is tagged, also if it was tagged earlier: an item arrives here reviewed, and
        annotations that still name a model would be left out of training. Set ``"clearModelInfo": false`` in the
        node's configuration (ours) to keep it, where predictions of an evaluation are on the same items. An item that
        was answered in a task without any annotation is marked as one without objects: detectors learn from it.

        Parameters
        ----------
        item : dl.Item
            The item.
        progress : dl.Progress, optional
            Gets the group's name as the action.
        context : dl.Context, optional
            Its node's ``metadata['customNodeConfig']`` is the configuration, a `SplitConfiguration`:
            ``{name, distributeEqually, groups: [{id, name, distribution}], itemMetadata}`` and ours, ``seed``,
            ``clearModelInfo`` and ``groupBy``: the dotted path to the name of an item's source, whose items
            are kept together, or ``"filename"``, for the same groups wherever the same files are uploaded.
            Without a context (in a notebook) the items are split 80/10/10 into train,
            validation and test, and tagged. `alhelpers.dataloop.node_context` makes one.

        Returns
        -------
        dl.Item
            The item as the platform stores it now.

        Raises
        ------
        ValueError
            If the configuration is not valid, or for a folder, an item with two of the groups' tags, or one that
            does not name its source.
        RuntimeError
            If the model info could not be cleared; the item is then not tagged, and a retry is safe.

        Examples
        --------
        >>> item = DataSplitter.data_split(item)  # doctest: +SKIP
        >>> context = node_context(project, {"groups": [{"name": "train", "distribution": 1}]})  # doctest: +SKIP
        >>> item = DataSplitter.data_split(item, progress=dl.Progress(), context=context)  # doctest: +SKIP
        """
        config = configurations.read(
            SplitConfiguration,
            DEFAULT_CONFIG if context is None else _node_config(context),
            "customNodeConfig",
        )
        groups = config.parsed_groups()
        warning = None if config.distributeEqually else check_total(groups)
        if warning:
            logger.warning(warning)
        item = item.items.get(item_id=item.id, fetch=True)
        if item.type == "dir":
            raise ValueError(f"{item.filename!r} ({item.id}) is a folder: split the files in it")
        kept = current_group(item.metadata, groups, item.id)
        key = source_of(item, config.groupBy) if config.groupBy else item.id
        group = kept or assign_group(key, groups, config.seed)
        if config.clearModelInfo and (item.annotated or item.annotations_count):
            clear_model_info(item)
        # The status in a task is not copied with the item, and without it an empty image would count as unlabelled.
        is_empty = not item.annotations_count and is_answered(item) and not is_marked_empty(item)
        if is_empty:
            mark_empty(item)
        if kept is None and config.itemMetadata:
            item = tag_item(item, group)
        elif is_empty:
            item = item.update()
        if progress is not None:
            progress.update(action=group, message=f"{item.filename} belongs to {group!r}")
        return item


def _node_config(context: dl.Context) -> Any:
    if context.node is None:
        raise ValueError(
            "the context has no pipeline node; pass context=None, or one from alhelpers.dataloop.node_context"
        )
    config = context.node.metadata.get("customNodeConfig")
    if not isinstance(config, Mapping):
        raise ValueError(
            f"node {context.node.name!r} has no metadata.customNodeConfig with its groups: configure the node"
        )
    return config


# ------------------------------------------------------------------------------
# a whole dataset
# ------------------------------------------------------------------------------


def split_dataset(
    dataset: dl.Dataset,
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]],
    seed: int | str = 0,
    filters: dl.Filters | None = None,
    *,
    stratify: str | None = None,
    group_by: str | None = None,
    images_only: bool = True,
    clear_models: bool = False,
) -> SplitResult:
    """Split a whole dataset in exact proportions, in a handful of calls.

    Items that have the tag of a group keep it, and count. Each other item gets the group that the node would
    choose, unless the exact totals need it elsewhere.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    groups : mapping or iterable
        As `parse_groups` takes them, e.g. ``{"train": 80, "validation": 10, "test": 10}``.
    seed : int or str
        As in `assign_group`.
    filters : dl.Filters, optional
        Which items to split; all files by default.
    stratify : str, optional
        Give every group its share of each stratum too: ``"label"`` for the items' ground-truth classification,
        or a dotted path into the item, such as ``"metadata.user.camera"``. Items without it are a stratum of
        their own.
    group_by : str, optional
        Keep items of one source in one group: the dotted path to the name of the source, such as
        ``"metadata.user.source"`` or ``"dir"``. The totals are then as near as the sources' sizes allow.
        ``"filename"``, the item's path, hashes the path in place of the id: the same seed then gives the same
        subsets wherever the same files are uploaded. The default stays the id: an item that is moved keeps it.
    images_only : bool
        Leave items of other types alone, with a warning.
    clear_models : bool
        Turn predictions on the items into ground truth, as the node does. Off here, because a whole dataset
        may hold predictions that nobody has reviewed.

    Returns
    -------
    SplitResult
        What was wanted and what was reached. Running it again changes nothing, and finishes an interrupted run
        as that would have ended. Items that are deleted meanwhile are left out and counted.

    Raises
    ------
    ValueError
        If there is nothing to split, the groups are not valid, an item has two of the groups' tags or does not
        name its source, or a source is divided already.
    RuntimeError
        If the tags on the platform afterwards are not those that were written; running again is safe.

    Examples
    --------
    >>> groups = {"train": 80, "validation": 10, "test": 10}
    >>> result = split_dataset(dataset, groups, stratify="label", group_by="metadata.user.writer")  # doctest: +SKIP
    >>> result.counts  # doctest: +SKIP
    {'train': 480, 'validation': 60, 'test': 60}
    """
    parsed = parse_groups(groups)
    items, skipped = _items_to_split(dataset, filters, images_only)
    had = {item.id: current_group(item.metadata, parsed, item.id) for item in items}
    kept = {item_id: name for item_id, name in had.items() if name is not None}
    strata = None if stratify is None else _strata(dataset, items, stratify)
    plan = plan_split(
        list(had),
        parsed,
        seed,
        strata=strata,
        sources=None if group_by is None else [source_of(item, group_by) for item in items],
        kept=kept,
    )
    if clear_models:
        _clear_models(items)
    _tag_all(dataset, [item for item in items if item.id not in kept], plan, parsed)
    now, added = _read_back(dataset, filters, images_only, items, parsed)
    result = report(
        parsed,
        plan,
        kept,
        now,
        strata=None if strata is None else dict(zip(had, strata, strict=True)),
        skipped=skipped,
        added=added,
        where=f"of dataset {dataset.name!r}",
    )
    for warning in result.warnings:
        logger.warning(warning)
    return result


def _items_to_split(
    dataset: dl.Dataset, filters: dl.Filters | None, images_only: bool
) -> tuple[list[dl.Item], int]:
    """List the files to split, and count those that are left out."""
    listed = reading.find_items(dataset, filters)
    chosen = [item for item in listed if not images_only or _is_image(item)]
    if not chosen:
        where = "" if filters is None else f" that match {filters.prepare().get('filter')}"
        hint = "; none of the files there is an image (images_only=False splits them all)" if listed else ""
        raise ValueError(f"dataset {dataset.name!r} has no items to split{where}{hint}: upload some first")
    return chosen, len(listed) - len(chosen)


def _is_image(item: dl.Item) -> bool:
    return (item.mimetype or "").startswith("image")


def _strata(dataset: dl.Dataset, items: Sequence[dl.Item], stratify: str) -> list[str | None]:
    if stratify != "label":
        return [value_at(item, stratify) for item in items]
    labels = reading.labels_of(dataset, [item.id for item in items])
    return [", ".join(labels[item.id]) if item.id in labels else None for item in items]


def _clear_models(items: Sequence[dl.Item]) -> None:
    annotated = [item for item in items if item.annotated or item.annotations_count]
    _for_each(clear_model_info, annotated)


def _for_each(function: Callable[[dl.Item], Any], items: Iterable[dl.Item]) -> None:
    """Call a function for items in parallel; those that were deleted meanwhile are counted when they are read back."""

    def call(item: dl.Item) -> None:
        with contextlib.suppress(dl.exceptions.NotFound):
            function(item)

    with ThreadPoolExecutor(_PARALLEL_UPDATES) as pool:
        list(pool.map(call, items))


def _tag_all(
    dataset: dl.Dataset, items: Sequence[dl.Item], plan: Mapping[str, str], groups: Sequence[Group]
) -> None:
    """Tag items without any tag in bulk, and the others one by one: a bulk update could drop their tags."""
    for group in groups:
        bare = [item.id for item in items if plan[item.id] == group.name and not tags_of(item.metadata)]
        for ids in reading.chunks(bare):
            query = reading.by_ids(ids)
            # An item that a pipeline has tagged meanwhile keeps that group.
            for other in groups:
                query.add(f"metadata.system.tags.{other.name}", True, dl.FiltersOperations.NOT_EQUAL)
            dataset.items.update(
                filters=query, system_update_values={"tags": {group.name: True}}, system_metadata=True
            )

    def tag_one(item: dl.Item) -> None:
        fresh = dataset.items.get(item_id=item.id)
        if current_group(fresh.metadata, groups, fresh.id) is None:
            tag_item(fresh, plan[item.id])

    _for_each(tag_one, [item for item in items if tags_of(item.metadata)])


def _read_back(
    dataset: dl.Dataset,
    filters: dl.Filters | None,
    images_only: bool,
    items: Sequence[dl.Item],
    groups: Sequence[Group],
) -> tuple[dict[str, str], int]:
    """Return the group of each item that still exists, and how many items without a group were added meanwhile.

    A bulk update does not report that it failed for some items, hence the groups are read back.
    """
    listed = {item.id: item for item in reading.find_items(dataset, filters)}
    known = {item.id for item in items}
    added = [
        item
        for item in listed.values()
        if item.id not in known
        and (_is_image(item) or not images_only)
        and current_group(item.metadata, groups, item.id) is None
    ]
    # Not listed any more: deleted, or the filter does not match any more.
    listed |= reading.items_of(dataset, [item.id for item in items if item.id not in listed])
    now = {
        item.id: current_group(listed[item.id].metadata, groups, item.id)
        for item in items
        if item.id in listed
    }
    missing = sum(name is None for name in now.values())
    if missing:
        raise RuntimeError(
            f"{missing} of {len(now)} items of dataset {dataset.name!r} did not get the tag of their group; run "
            "the split again: items that have a tag keep it"
        )
    return {item_id: name for item_id, name in now.items() if name is not None}, len(added)
