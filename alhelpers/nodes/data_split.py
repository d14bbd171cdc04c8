"""The pipeline node "Model Data Split": every item belongs to one subset, always the same one.

The group of an item follows from a hash of the seed and the item's id, so a retry, a second pipeline run and
another machine agree: an item that was trained on can never turn up in the test subset later.
"""

import bisect
import copy
import hashlib
import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import dtlpy as dl

logger = logging.getLogger(__name__)

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
_IDS_PER_QUERY = 500
_PARALLEL_UPDATES = 8


@dataclass(frozen=True)
class Group:
    """One group of the split.

    Parameters
    ----------
    name : str
        The group's name: the node's action and the tag that the item gets.
    weight : float
        Its share of the items, relative to the other groups.
    """

    name: str
    weight: float


@dataclass
class SplitResult:
    """What `split_dataset` did.

    Parameters
    ----------
    counts : dict of str to int
        Items of each group, the ones that had the tag already included.
    assigned : int
        Items that were tagged now.
    kept : int
        Items that had their tag already and kept it.
    skipped : int
        Items that are no images and were left alone.
    warnings : list of str
        What the caller should know.
    """

    counts: dict[str, int]
    assigned: int = 0
    kept: int = 0
    skipped: int = 0
    warnings: list[str] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------


def parse_weight(name: str, value: Any) -> float:
    """Read one group's distribution.

    Parameters
    ----------
    name : str
        The group's name, for the error.
    value : float, int or str
        A number, or a text such as ``"33.3"`` or ``"80%"``.

    Returns
    -------
    float
        The weight, 0 or more.

    Raises
    ------
    ValueError
        When it is missing, no number, negative, or not finite.
    """
    text = value.strip().removesuffix("%").strip() if isinstance(value, str) else value
    try:
        # bool is an int in Python, but `true` is no share of anything.
        weight = math.nan if isinstance(text, bool) or text is None else float(text)
    except (TypeError, ValueError):
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise ValueError(
            f"group {name!r}: distribution {value!r} must be a number of 0 or more, such as 80 or '33.3%'"
        )
    return weight


def parse_groups(
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]], distribute_equally: bool = False
) -> tuple[Group, ...]:
    """Check the groups of a split.

    Parameters
    ----------
    groups : mapping of name to distribution, or iterable of Group or of ``{"name", "distribution"}``
        The groups as the node's configuration holds them, or as a notebook writes them: ``{"train": 80,
        "test": 20}``.
    distribute_equally : bool
        Give every group the same share and ignore the distributions.

    Returns
    -------
    tuple of Group
        The groups, in the given order.

    Raises
    ------
    ValueError
        For no groups, an empty, duplicate or untaggable name, an unreadable distribution, or a total of 0.
    """
    parsed = []
    for name, distribution in _name_and_distribution(groups):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"group name {name!r} is empty: every group of the split needs a name")
        # A dot or a dollar would make the filter on the tag look elsewhere and find nothing.
        if "." in name or "$" in name:
            raise ValueError(f"group name {name!r} may not hold '.' or '$': it becomes a metadata key")
        parsed.append(Group(name, 1.0 if distribute_equally else parse_weight(name, distribution)))
    names = [group.name.strip() for group in parsed]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"group name {duplicates[0]!r} is used more than once: rename one of the groups")
    if not parsed:
        raise ValueError("the split has no groups: give at least one name with a distribution")
    if sum(group.weight for group in parsed) <= 0:
        raise ValueError(f"the distributions of {names} add up to 0: give at least one group a share")
    return tuple(parsed)


def _name_and_distribution(
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]],
) -> list[tuple[Any, Any]]:
    if isinstance(groups, Mapping):
        return list(groups.items())
    pairs: list[tuple[Any, Any]] = []
    for group in groups:
        if isinstance(group, Group):
            pairs.append((group.name, group.weight))
        elif isinstance(group, Mapping):
            pairs.append((group.get("name"), group.get("distribution")))
        else:
            raise ValueError(f"group {group!r} must be an object with 'name' and 'distribution'")
    return pairs


def check_total(groups: Sequence[Group]) -> str | None:
    """Say when the distributions are neither fractions nor percentages of a whole.

    Parameters
    ----------
    groups : sequence of Group
        The groups.

    Returns
    -------
    str or None
        The warning, or None when they add up to 1 or to 100 (three thirds written as 33.3 do).
    """
    total = sum(group.weight for group in groups)
    # The tolerance of the fractions is the one of the percentages, a hundredth of it.
    if abs(total - 100) <= 0.1 + 1e-9 or abs(total - 1) <= 0.001 + 1e-9:
        return None
    shares = ", ".join(f"{group.name} {100 * group.weight / total:.1f} %" for group in groups)
    return f"the distributions add up to {total:g}, neither 1 nor 100; they are used as shares: {shares}"


def assign_group(
    item_id: str, groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]], seed: int | str = 0
) -> str:
    """Choose an item's group from its id alone.

    Parameters
    ----------
    item_id : str
        The item's id.
    groups : mapping or iterable
        The groups, as `parse_groups` takes or returns them.
    seed : int or str
        Another seed, another split.

    Returns
    -------
    str
        The group's name. The same arguments give the same name in every process and at every time.

    Raises
    ------
    ValueError
        As `parse_groups`.

    Examples
    --------
    >>> assign_group("65f1", {"train": 80, "validation": 10, "test": 10}, seed=0)
    'train'
    """
    drawable = [group for group in parse_groups(groups) if group.weight > 0]
    digest = hashlib.sha256(f"{seed}:{item_id}".encode()).digest()
    # 53 bits are what a float holds exactly: more could round up to 1.0, outside every group.
    position = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    edges = list(itertools.accumulate(group.weight for group in drawable))
    index = bisect.bisect_right(edges, position * edges[-1])
    return drawable[min(index, len(drawable) - 1)].name


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


# ------------------------------------------------------------------------------------------------- p


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
    seed: int = 0,
    filters: dl.Filters | None = None,
    *,
    images_only: bool = True,
    clear_models: bool = False,
) -> SplitResult:
    """Split a whole dataset as the node would, item by item, but in a handful of calls.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    groups : mapping or iterable
        As `parse_groups` takes them, e.g. ``{"train": 80, "validation": 10, "test": 10}``.
    seed : int
        As in `assign_group`.
    filters : dl.Filters, optional
        Which items to split; all files by default.
    images_only : bool
        Leave items of other types alone, and say so.
    clear_models : bool
        Turn predictions on the items into ground truth, as the node does. Off here, because a whole dataset
        may hold predictions that nobody has reviewed.

    Returns
    -------
    SplitResult
        The counts. Running it again changes nothing.

    Raises
    ------
    ValueError
        When there is nothing to split, for unusable groups, or when an item has two of the groups' tags.
    RuntimeError
        When the platform holds other tags afterwards than were written; running again is safe.

    Examples
    --------
    >>> result = split_dataset(dataset, {"train": 80, "validation": 10, "test": 10})  # doctest: +SKIP
    >>> result.counts  # doctest: +SKIP
    {'train': 482, 'validation': 57, 'test': 61}
    """
    parsed = parse_groups(groups)
    items, skipped = _items_to_split(dataset, filters, images_only)
    result = SplitResult(counts=dict.fromkeys((group.name for group in parsed), 0), skipped=skipped)
    result.warnings += [warning for warning in [check_total(parsed)] if warning]
    if skipped:
        result.warnings.append(
            f"{skipped} items of dataset {dataset.name!r} are no images and were not split"
        )
    if clear_models:
        with ThreadPoolExecutor(_PARALLEL_UPDATES) as pool:
            list(
                pool.map(
                    clear_model_info, [item for item in items if item.annotated or item.annotations_count]
                )
            )
    new: dict[str, list[dl.Item]] = {group.name: [] for group in parsed}
    for item in items:
        kept = current_group(item.metadata, parsed, item.id)
        name = kept or assign_group(item.id, parsed, seed)
        result.counts[name] += 1
        if kept is None:
            new[name].append(item)
    result.assigned = sum(map(len, new.values()))
    result.kept = len(items) - result.assigned
    _tag_all(dataset, new)
    _verify_tags(dataset, new)
    for warning in result.warnings:
        logger.warning(warning)
    return result


def _items_to_split(
    dataset: dl.Dataset, filters: dl.Filters | None, images_only: bool
) -> tuple[list[dl.Item], int]:
    """List the files to split, oldest first, and count the ones that are left out."""
    # The SDK writes the page into the filters it is given.
    listed = [item for item in dataset.items.list(filters=copy.deepcopy(filters)).all() if item.type != "dir"]
    chosen = [item for item in listed if not images_only or (item.mimetype or "").startswith("image")]
    if not chosen:
        where = "" if filters is None else f" that match {filters.prepare().get('filter')}"
        hint = "; none of the files there is an image (images_only=False splits them all)" if listed else ""
        raise ValueError(f"dataset {dataset.name!r} has no items to split{where}{hint}: upload some first")
    return chosen, len(listed) - len(chosen)


def _tag_all(dataset: dl.Dataset, new: Mapping[str, Sequence[dl.Item]]) -> None:
    """Tag items without any tag in bulk, and the others one by one: a bulk update could drop their own tags."""
    single: list[tuple[dl.Item, str]] = []
    for name, items in new.items():
        bare = [item.id for item in items if not _tags(item)]
        single += [(item, name) for item in items if _tags(item)]
        for ids in _chunks(bare):
            dataset.items.update(
                filters=_by_ids(ids), system_update_values={"tags": {name: True}}, system_metadata=True
            )
    with ThreadPoolExecutor(_PARALLEL_UPDATES) as pool:
        list(pool.map(lambda pair: tag_item(*pair), single))


def _verify_tags(dataset: dl.Dataset, new: Mapping[str, Sequence[dl.Item]]) -> None:
    """Count what was written, because a bulk update reports no failures of single items."""
    for name, items in new.items():
        missing = 0
        for ids in _chunks([item.id for item in items]):
            query = _by_ids(ids)
            query.add(field=f"metadata.system.tags.{name}", values=True)
            missing += len(ids) - dataset.items.list(filters=query, page_size=1).items_count
        if missing:
            raise RuntimeError(
                f"{missing} of {len(items)} items of dataset {dataset.name!r} did not get the tag {name!r}; run "
                "the split again: items that have a tag keep it"
            )


def _tags(item: dl.Item) -> Mapping[str, Any]:
    return ((item.metadata or {}).get("system") or {}).get("tags") or {}


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _IDS_PER_QUERY] for start in range(0, len(ids), _IDS_PER_QUERY)]


def _by_ids(ids: Sequence[str]) -> dl.Filters:
    filters = dl.Filters(use_defaults=False)
    filters.add(field="id", values=list(ids), operator=dl.FiltersOperations.IN)
    return filters


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
            Its node's ``metadata['customNodeConfig']`` is the configuration: ``{name, distributeEqually,
            groups: [{id, name, distribution}], itemMetadata}`` and optionally ``seed``. Without a context (in
            a notebook) the items are split 80/10/10 into train, validation and test, and tagged.
            `alhelpers.nodes.node_context` makes one.

        Returns
        -------
        dl.Item
            The item as the platform holds it now.

        Raises
        ------
        ValueError
            For an unusable configuration, a folder, or an item with two of the groups' tags.
        RuntimeError
            When the model info could not be cleared; the item is then not tagged, and a retry is safe.

        Examples
        --------
        >>> item = DataSplitter.data_split(item)  # doctest: +SKIP
        >>> context = node_context(project, {"groups": [{"name": "train", "distribution": 1}]})  # doctest: +SKIP
        >>> item = DataSplitter.data_split(item, progress=dl.Progress(), context=context)  # doctest: +SKIP
        """
        config = DEFAULT_CONFIG if context is None else _node_config(context)
        groups = parse_groups(config.get("groups") or [], bool(config.get("distributeEqually")))
        warning = None if config.get("distributeEqually") else check_total(groups)
        if warning:
            logger.warning(warning)
        item = item.items.get(item_id=item.id, fetch=True)
        if item.type == "dir":
            raise ValueError(f"{item.filename!r} ({item.id}) is a folder: split the files in it")
        kept = current_group(item.metadata, groups, item.id)
        group = kept or assign_group(item.id, groups, config.get("seed") or 0)
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
            "the context has no pipeline node; pass context=None, or one from alhelpers.nodes.node_context"
        )
    config = context.node.metadata.get("customNodeConfig")
    if not isinstance(config, Mapping):
        raise ValueError(
            f"node {context.node.name!r} has no metadata.customNodeConfig with its groups: configure the node"
        )
    return config
