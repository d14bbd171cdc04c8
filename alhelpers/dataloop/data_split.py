"""The pipeline node "Model Data Split": every item belongs to one subset, always the same one.

The node sees one item at a time: its group follows from a hash of the seed and the item's id (or of what the
item comes from), so a retry, a second pipeline run and another machine agree, and an item that was trained on
can never turn up in the test subset later. `split_dataset` sees all items at once, so it can do better than
chance: exact totals, the same mix of labels in every subset, and no source in two of them.
"""

import copy
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import dtlpy as dl

from alhelpers import configurations
from alhelpers.data.splitting import (
    Group,
    assign_group,
    check_total,
    exact_shares,
    none_first,
    parse_groups,
    plan_split,
    whole_counts,
)
from alhelpers.dataloop import reading

logger = logging.getLogger(__name__)

_GROUP_NAME = {
    "description": "a text with neither '.' nor '$': it becomes the key of a tag",
    "type": "string",
    "pattern": r"^[^.$]*[^.$\s][^.$]*$",
}
_DISTRIBUTION = {
    "description": "a number of 0 or more, such as 80 or '33.3%'",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*%?\s*$"},
    ],
}
#: What the pipeline's editor writes, and what is ours: seed, groupBy, clearModelInfo.
CONFIG_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    "title": "Model Data Split",
    "description": "an object with the groups of the split",
    "type": "object",
    "properties": {
        "name": {"description": "the node's name", "type": "string"},
        "distributeEqually": {
            "description": "true, for the same share for every group, or false",
            "type": "boolean",
        },
        "groups": {
            "description": "a list of at least one group with a name and a distribution, or {name: distribution}",
            "type": ["array", "object"],
            "minItems": 1,
            "minProperties": 1,
            "propertyNames": _GROUP_NAME,
            "items": {
                "description": "an object with 'name' and 'distribution'",
                "type": "object",
                "properties": {
                    "id": {"description": "a text or a number", "type": ["string", "number"]},
                    "name": _GROUP_NAME,
                    "distribution": {"description": "read unless 'distributeEqually' is true"},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        },
        "itemMetadata": {
            "description": "true, to tag the items with their group, or false",
            "type": "boolean",
        },
        "validation": {"description": "what the pipeline's editor found"},
        "ports": {"description": "a list of the node's ports", "type": ["array", "null"]},
        "seed": {
            "description": "a whole number or a text: another seed, another split",
            "type": ["integer", "string"],
        },
        "groupBy": {
            "description": "a dotted path into the item, such as 'metadata.user.source' or 'dir'",
            "type": "string",
            "pattern": r"^[^.\s]+(\.[^.]+)*$",
        },
        "clearModelInfo": {
            "description": "true, to make reviewed predictions ground truth, or false",
            "type": "boolean",
        },
    },
    "required": ["groups"],
    "additionalProperties": False,
    "if": {"properties": {"distributeEqually": {"const": True}}, "required": ["distributeEqually"]},
    "else": {
        "properties": {
            "groups": {
                "items": {"properties": {"distribution": _DISTRIBUTION}, "required": ["distribution"]},
                "additionalProperties": _DISTRIBUTION,
            }
        }
    },
}

DEFAULT_CONFIG: dict[str, Any] = {
    "name": "Model Data Split",
    "distributeEqually": False,
    "groups": [
        {"id": "train", "name": "train", "distribution": 80},
        {"id": "validation", "name": "validation", "distribution": 10},
        {"id": "test", "name": "test", "distribution": 10},
    ],
    "itemMetadata": True,
}
# Keys under which a prediction says which model made it; `prediction` is where this kit's adapters keep the
# full confidence vector.
_MODEL_INFO_KEYS = (("system", "model"), ("user", "model"), ("user", "prediction"))
_PARALLEL_UPDATES = 8


@dataclass
class SplitResult:
    """What `split_dataset` did.

    Parameters
    ----------
    counts : dict of str to int
        Items of each group now, the ones that had the tag already included.
    wanted : dict of str to int
        Items that each group should have by its share of the items that were listed.
    assigned : int
        Items that were tagged now.
    kept : int
        Items that had their tag already and kept it.
    skipped : int
        Items that are no images and were left alone.
    deleted : int
        Items that were deleted while the split ran.
    strata : list of dict
        For a stratified split a row for every stratum and group: ``stratum`` (None: without a label),
        ``group``, ``wanted`` (the exact share, a float) and ``reached``.
    warnings : list of str
        What the caller should know.
    """

    counts: dict[str, int]
    wanted: dict[str, int] = field(default_factory=dict)
    assigned: int = 0
    kept: int = 0
    skipped: int = 0
    deleted: int = 0
    strata: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------


def value_at(item: dl.Item, path: str) -> str | None:
    """Read a value of an item as text.

    Parameters
    ----------
    item : dl.Item
        The item.
    path : str
        A dotted path into the item's JSON, such as ``"metadata.user.source"`` or ``"dir"``.

    Returns
    -------
    str or None
        The value; a number or a truth value as JSON writes it. None when it is missing or empty.

    Raises
    ------
    ValueError
        When the value is an object or a list.
    """
    first, *rest = path.split(".")
    # Most paths lead into the metadata, and the whole item takes long to write as JSON.
    value = item.metadata if first == "metadata" else item.to_json().get(first)
    for key in rest:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value == "":
        return None
    if isinstance(value, Mapping | list):
        raise ValueError(f"item {item.filename!r} ({item.id}): {path!r} {value!r} must be a text or a number")
    return value if isinstance(value, str) else json.dumps(value)


def source_of(item: dl.Item, path: str) -> str:
    """Read what an item comes from.

    Parameters
    ----------
    item : dl.Item
        The item.
    path : str
        As in `value_at`.

    Returns
    -------
    str
        The source; items of one source belong in one subset.

    Raises
    ------
    ValueError
        When the item does not name its source.
    """
    source = value_at(item, path)
    if source is None:
        raise ValueError(
            f"item {item.filename!r} ({item.id}) has no {path!r}, so the items of its source cannot be kept "
            "together: write it into the item, or group by something that every item has"
        )
    return source


def current_group(
    metadata: Mapping[str, Any] | None, groups: Sequence[Group], item_id: str = "?"
) -> str | None:
    """Read which of the groups an item is tagged with.

    Parameters
    ----------
    metadata : mapping or None
        The item's metadata. Tags that are no groups of this split, and groups that are not `True`, do not
        count.
    groups : sequence of Group
        The groups of this split.
    item_id : str
        For the error.

    Returns
    -------
    str or None
        The group's name, or None when the item has none yet.

    Raises
    ------
    ValueError
        When the item is tagged with two of the groups: only its owner knows which one is right.
    """
    tags = ((metadata or {}).get("system") or {}).get("tags") or {}
    found = [group.name for group in groups if tags.get(group.name) is True]
    if len(found) > 1:
        raise ValueError(
            f"item {item_id} is tagged with several groups of the split, {found}: it would be trained and "
            "tested on. Remove all but one of them from metadata.system.tags"
        )
    return found[0] if found else None


def without_model_info(metadata: Mapping[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """Copy an annotation's metadata without the marks of the model that predicted it.

    Parameters
    ----------
    metadata : mapping or None
        The annotation's metadata; it is not changed.

    Returns
    -------
    cleaned : dict
        The metadata without model info.
    changed : bool
        Whether there was any.
    """
    cleaned = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in (metadata or {}).items()
    }
    changed = False
    for section, key in _MODEL_INFO_KEYS:
        part = cleaned.get(section)
        if isinstance(part, dict) and part.get(key) is not None:
            del part[key]
            changed = True
    return cleaned, changed


# -------------------------------------------------------------------------------------------- on the platform


def clear_model_info(item: dl.Item) -> int:
    """Make an item's annotations ground truth.

    An adapter's training download leaves out every annotation that still names a model
    (`metadata.system.model.name`), so a reviewed prediction counts only once its model info is gone.

    Parameters
    ----------
    item : dl.Item
        The item.

    Returns
    -------
    int
        How many annotations were changed.

    Raises
    ------
    RuntimeError
        When the platform did not take some of the changes; calling again is safe.
    """
    stale = []
    for annotation in item.annotations.list():
        cleaned, changed = without_model_info(annotation.metadata)
        if changed:
            annotation.metadata = cleaned
            stale.append(annotation)
    if not stale:
        return 0
    # The SDK logs failed updates and returns the others, so the count is the only sign of a failure.
    updated = item.annotations.update(stale, system_metadata=True)
    if len(updated) != len(stale) or any(without_model_info(one.metadata)[1] for one in updated):
        raise RuntimeError(
            f"item {item.id}: the model info of some of its {len(stale)} predicted annotations could not be "
            "cleared; they would be left out of training. Run the split again"
        )
    return len(stale)


def tag_item(item: dl.Item, group: str) -> dl.Item:
    """Write an item's group into its system tags and keep every other tag.

    Parameters
    ----------
    item : dl.Item
        The item, freshly read.
    group : str
        The group's name.

    Returns
    -------
    dl.Item
        The item as the platform holds it now.
    """
    item.metadata = item.metadata or {}
    for key in ("system", "tags"):
        parent = item.metadata if key == "system" else item.metadata["system"]
        parent[key] = parent.get(key) or {}
    item.metadata["system"]["tags"][group] = True
    return item.update(system_metadata=True)


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

    Items that have the tag of a group keep it, and count. An item that waits goes where the node would put it,
    unless the exact totals need it elsewhere.

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
        Keep items of one source in one group: the dotted path to what names the source, such as
        ``"metadata.user.source"`` or ``"dir"``. The totals are then as near as the sources' sizes allow.
    images_only : bool
        Leave items of other types alone, and say so.
    clear_models : bool
        Turn predictions on the items into ground truth, as the node does. Off here, because a whole dataset
        may hold predictions that nobody has reviewed.

    Returns
    -------
    SplitResult
        What was wanted and what was reached. Running it again changes nothing, and finishes a run that was cut
        off as that would have ended. Items that are deleted meanwhile are left out and counted.

    Raises
    ------
    ValueError
        When there is nothing to split, for unusable groups, when an item has two of the groups' tags or does
        not name its source, or when a source is divided already.
    RuntimeError
        When the platform holds other tags afterwards than were written; running again is safe.

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
    result = _result(parsed, plan, kept, now)
    result.skipped = skipped
    if strata is not None:
        level_of = dict(zip(had, strata, strict=True))
        result.strata = _strata_table(parsed, level_of, now)
    result.warnings = _warnings(dataset, parsed, result, added)
    for warning in result.warnings:
        logger.warning(warning)
    return result


def _items_to_split(
    dataset: dl.Dataset, filters: dl.Filters | None, images_only: bool
) -> tuple[list[dl.Item], int]:
    """List the files to split, and count the ones that are left out."""
    listed = _list_files(dataset, filters)
    chosen = [item for item in listed.values() if not images_only or _is_image(item)]
    if not chosen:
        where = "" if filters is None else f" that match {filters.prepare().get('filter')}"
        hint = "; none of the files there is an image (images_only=False splits them all)" if listed else ""
        raise ValueError(f"dataset {dataset.name!r} has no items to split{where}{hint}: upload some first")
    return chosen, len(listed) - len(chosen)


def _list_files(dataset: dl.Dataset, filters: dl.Filters | None) -> dict[str, dl.Item]:
    # The SDK writes the page into the filters it is given. A list that changes meanwhile may name an item twice.
    listed = reading.pages(dataset.items.list(filters=copy.deepcopy(filters)))
    return {item.id: item for item in listed if item.type != "dir"}


def _is_image(item: dl.Item) -> bool:
    return (item.mimetype or "").startswith("image")


def _strata(dataset: dl.Dataset, items: Sequence[dl.Item], stratify: str) -> list[str | None]:
    if stratify != "label":
        return [value_at(item, stratify) for item in items]
    labels = reading.labels_of(dataset, [item.id for item in items])
    return [", ".join(labels[item.id]) if item.id in labels else None for item in items]


def _clear_models(items: Sequence[dl.Item]) -> None:
    annotated = [item for item in items if item.annotated or item.annotations_count]
    with ThreadPoolExecutor(_PARALLEL_UPDATES) as pool:
        list(pool.map(_unless_deleted(clear_model_info), annotated))


def _unless_deleted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call pass by an item that is not there any more; reading back counts it."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except dl.exceptions.NotFound:
            return None

    return call


def _tag_all(
    dataset: dl.Dataset, items: Sequence[dl.Item], plan: Mapping[str, str], groups: Sequence[Group]
) -> None:
    """Tag items without any tag in bulk, and the others one by one: a bulk update could drop their own tags."""
    for group in groups:
        bare = [item.id for item in items if plan[item.id] == group.name and not _tags(item)]
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

    with ThreadPoolExecutor(_PARALLEL_UPDATES) as pool:
        list(pool.map(_unless_deleted(tag_one), [item for item in items if _tags(item)]))


def _read_back(
    dataset: dl.Dataset,
    filters: dl.Filters | None,
    images_only: bool,
    items: Sequence[dl.Item],
    groups: Sequence[Group],
) -> tuple[dict[str, str], int]:
    """Read the items' groups from the platform, because a bulk update reports no failures of single items.

    Returns
    -------
    now : dict of str to str
        The group of each item that is still there.
    added : int
        Items that came after the list was made, and have no group.
    """
    listed = _list_files(dataset, filters)
    known = {item.id for item in items}
    added = [
        item
        for item in listed.values()
        if item.id not in known
        and (_is_image(item) or not images_only)
        and current_group(item.metadata, groups, item.id) is None
    ]
    # Not listed any more: deleted, or only no match for the filter.
    for ids in reading.chunks([item.id for item in items if item.id not in listed]):
        listed |= _list_files(dataset, reading.by_ids(ids))
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


def _result(
    groups: Sequence[Group], plan: Mapping[str, str], kept: Mapping[str, str], now: Mapping[str, str]
) -> SplitResult:
    names = [group.name for group in groups]
    counts = Counter(now.values())
    assigned = sum(item_id not in kept and plan[item_id] == name for item_id, name in now.items())
    return SplitResult(
        counts={name: counts[name] for name in names},
        wanted=dict(zip(names, whole_counts(len(plan), [group.weight for group in groups]), strict=True)),
        assigned=assigned,
        kept=len(now) - assigned,
        deleted=len(plan) - len(now),
    )


def _strata_table(
    groups: Sequence[Group], level_of: Mapping[str, str | None], now: Mapping[str, str]
) -> list[dict[str, Any]]:
    sizes = Counter(level_of.values())
    reached = Counter((level_of[item_id], name) for item_id, name in now.items())
    table = []
    for level in sorted(sizes, key=none_first):
        exact = exact_shares(sizes[level], [group.weight for group in groups])
        table += [
            {
                "stratum": level,
                "group": group.name,
                "wanted": float(share),
                "reached": reached[level, group.name],
            }
            for group, share in zip(groups, exact, strict=True)
        ]
    return table


def _warnings(dataset: dl.Dataset, groups: Sequence[Group], result: SplitResult, added: int) -> list[str]:
    where = f"of dataset {dataset.name!r}"
    total = check_total(groups)
    warnings = [] if total is None else [total]
    if result.skipped:
        warnings.append(f"{result.skipped} items {where} are no images and were not split")
    if result.deleted:
        warnings.append(
            f"{result.deleted} items {where} were deleted while it was split; the groups lack them"
        )
    if added:
        warnings.append(
            f"{added} items {where} came while it was split and have no group: run the split again"
        )
    if not result.deleted and result.counts != result.wanted:
        warnings.append(
            f"the groups have {result.counts} items and not {result.wanted}: items that had a tag keep it, and "
            "sources are not divided"
        )
    empty = [group.name for group in groups if group.weight > 0 and not result.counts[group.name]]
    if empty:
        count = sum(result.counts.values())
        warnings.append(
            f"no item is in {', '.join(map(repr, empty))}: {count} are too few, or of too few sources"
        )
    return warnings


def _tags(item: dl.Item) -> Mapping[str, Any]:
    return ((item.metadata or {}).get("system") or {}).get("tags") or {}


# --------------------------------------------------------------------------------------------------


class DataSplitter(dl.BaseServiceRunner):
    """The service behind the node "Model Data Split"."""

    @staticmethod
    def data_split(
        item: dl.Item, progress: dl.Progress | None = None, context: dl.Context | None = None
    ) -> dl.Item:
        """Assign an item to one group, and make its annotations ground truth.

        The item is read again first, so an outdated copy cannot add a second tag. Its annotations lose their
        model info before it is tagged, also when it was tagged earlier: an item arrives here reviewed, and
        what still names a model would be left out of training. Set ``"clearModelInfo": false`` in the node's
        configuration (ours) to keep it, where predictions of an evaluation lie on the same items.

        Parameters
        ----------
        item : dl.Item
            The item.
        progress : dl.Progress, optional
            Gets the group's name as the action.
        context : dl.Context, optional
            Its node's ``metadata['customNodeConfig']`` is the configuration, as `CONFIG_SCHEMA` describes it:
            ``{name, distributeEqually, groups: [{id, name, distribution}], itemMetadata}`` and ours, ``seed``,
            ``clearModelInfo`` and ``groupBy``: the dotted path to what names an item's source, whose items
            are kept together. Without a context (in a notebook) the items are split 80/10/10 into train,
            validation and test, and tagged. `alhelpers.dataloop.node_context` makes one.

        Returns
        -------
        dl.Item
            The item as the platform holds it now.

        Raises
        ------
        ValueError
            For an unusable configuration, a folder, an item with two of the groups' tags, or one that does not
            name its source.
        RuntimeError
            When the model info could not be cleared; the item is then not tagged, and a retry is safe.

        Examples
        --------
        >>> item = DataSplitter.data_split(item)  # doctest: +SKIP
        >>> context = node_context(project, {"groups": [{"name": "train", "distribution": 1}]})  # doctest: +SKIP
        >>> item = DataSplitter.data_split(item, progress=dl.Progress(), context=context)  # doctest: +SKIP
        """
        config = DEFAULT_CONFIG if context is None else _node_config(context)
        groups = parse_groups(config["groups"], config.get("distributeEqually", False))
        warning = None if config.get("distributeEqually") else check_total(groups)
        if warning:
            logger.warning(warning)
        item = item.items.get(item_id=item.id, fetch=True)
        if item.type == "dir":
            raise ValueError(f"{item.filename!r} ({item.id}) is a folder: split the files in it")
        kept = current_group(item.metadata, groups, item.id)
        path = config.get("groupBy")
        key = source_of(item, path) if path else item.id
        group = kept or assign_group(key, groups, config.get("seed", 0))
        if config.get("clearModelInfo", True) and (item.annotated or item.annotations_count):
            clear_model_info(item)
        if kept is None and config.get("itemMetadata"):
            item = tag_item(item, group)
        if progress is not None:
            progress.update(action=group, message=f"{item.filename} belongs to {group!r}")
        return item


def _node_config(context: dl.Context) -> Mapping[str, Any]:
    """Read a node's configuration.

    Raises
    ------
    ValueError
        When the context is of no pipeline node, or the node has no configuration.
    """
    if context.node is None:
        raise ValueError(
            "the context has no pipeline node; pass context=None, or one from alhelpers.dataloop.node_context"
        )
    config = context.node.metadata.get("customNodeConfig")
    if not isinstance(config, Mapping):
        raise ValueError(
            f"node {context.node.name!r} has no metadata.customNodeConfig with its groups: configure the node"
        )
    groups = config.get("groups")
    if isinstance(groups, list | Mapping):
        # Before the schema, because these errors name the group.
        parse_groups(groups, config.get("distributeEqually") is True)
    configurations.check(config, CONFIG_SCHEMA, "customNodeConfig")
    return config
