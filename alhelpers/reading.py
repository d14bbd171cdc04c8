"""Read from the platform in few requests: every page once, some hundred items a query, and whose annotation it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dtlpy as dl

#: Ids in one query: more would make it longer than servers like.
IDS_PER_QUERY = 500


def pages(listing: dl.entities.PagedEntities) -> Iterator[Any]:
    """Yield what is on all pages of a listing, asking for each page once.

    The SDK's own ``all()`` asks for the first page twice, and takes a query that the platform refuses for an
    empty one.

    Parameters
    ----------
    listing : dl.entities.PagedEntities
        What ``items.list()``, ``annotations.list()`` and their like return.

    Yields
    ------
    object
        The entities, in the platform's order.

    Raises
    ------
    dl.exceptions.PlatformException
        When the platform refuses the query.
    """
    # An empty first page may be a query that was refused, which the SDK only logs; asked for alone, it raises.
    yield from listing.items or listing.return_page()
    while listing.has_next_page:
        listing.next_page()
        if not listing.items:
            return
        yield from listing.items


def chunks(values: Sequence[Any], size: int | None = None) -> list[list[Any]]:
    """Cut values into lists of at most `size`, by default as many as the ids in one query."""
    size = IDS_PER_QUERY if size is None else size
    return [list(values[start : start + size]) for start in range(0, len(values), size)]


def by_ids(ids: Sequence[str]) -> dl.Filters:
    """Make a filter of items with some ids, hidden ones and folders too."""
    filters = dl.Filters(use_defaults=False)
    filters.add(field="id", values=list(ids), operator=dl.FiltersOperations.IN)
    return filters


def items_of(dataset: dl.Dataset, ids: Sequence[str]) -> dict[str, dl.Item]:
    """Read items by their ids; those that are not there any more are left out.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    ids : sequence of str
        The items.

    Returns
    -------
    dict of str to dl.Item
        The items by id.
    """
    return {
        item.id: item for chunk in chunks(ids) for item in pages(dataset.items.list(filters=by_ids(chunk)))
    }


def annotations_of(
    dataset: dl.Dataset, item_ids: Sequence[str], narrow: Callable[[dl.Filters], Any] | None = None
) -> Iterator[dl.Annotation]:
    """Yield the annotations of items.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    item_ids : sequence of str
        The items.
    narrow : callable, optional
        Adds conditions to the filter of each query.

    Yields
    ------
    dl.Annotation
        The annotations.
    """
    for chunk in chunks(item_ids):
        filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
        filters.add(field="itemId", values=chunk, operator=dl.FiltersOperations.IN)
        if narrow is not None:
            narrow(filters)
        yield from pages(dataset.annotations.list(filters=filters))


def made_by(metadata: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Read which model made an annotation.

    Parameters
    ----------
    metadata : mapping or None
        The annotation's metadata.

    Returns
    -------
    (str or None, str or None)
        The model's id and name, from the system metadata or, failing that, from the user metadata; both None
        when the annotation is ground truth, made by people.
    """
    for section in ("system", "user"):
        info = ((metadata or {}).get(section) or {}).get("model") or {}
        if info.get("model_id") or info.get("name"):
            return info.get("model_id"), info.get("name")
    return None, None


def is_ground_truth(annotation: dl.Annotation) -> bool:
    """Say whether people made an annotation, and no model."""
    return made_by(annotation.metadata) == (None, None)


# ------------------------------------------------------------------------------
# ground truth
# ------------------------------------------------------------------------------


def labels_of(dataset: dl.Dataset, item_ids: Sequence[str]) -> dict[str, list[str]]:
    """Read the ground-truth classes of items.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    item_ids : sequence of str
        The items.

    Returns
    -------
    dict of str to list of str
        For each item that has any, its classes in order, each once.
    """

    def narrow(filters: dl.Filters) -> None:
        filters.add(field="type", values="class")
        filters.add(field="metadata.system.model.name", values=False, operator=dl.FiltersOperations.EXISTS)

    labels: dict[str, set[str]] = {}
    for annotation in annotations_of(dataset, item_ids, narrow):
        if is_ground_truth(annotation):
            labels.setdefault(annotation.item_id, set()).add(annotation.label)
    return {item_id: sorted(found) for item_id, found in labels.items()}
