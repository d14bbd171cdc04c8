"""Views of projects, datasets and items: plain data for the templates.

Each view runs on the state thread, in one transaction that only reads a bounded number of documents.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from ..api import Call
from ..errors import bad_request, not_found
from ..query import matching, plan_for
from ..services.items.files import locate
from ..services.items.images import MAX_PIXELS
from ..services.items.models import guess_type
from ..services.recipes import models as recipes
from ..store import Row
from . import drawing

PAGE = 48
LISTED = 100
MAX_FOLDERS = 300
# The last page of a filtered list: finding it reads all pages before it.
MAX_FILTERED = 200
MAX_SHAPES, MAX_RECIPES = 300, 5
THUMBNAIL_SHAPES = 24
# EXIF orientations of pictures taken with the camera on its side.
LYING = (5, 6, 7, 8)
# Types that browsers show as images, never as documents.
PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif"})
# The items that a dataset's page shows.
FILES = {"type": "file", "hidden": False}
Crumb = tuple[str, str]


def projects(call: Call) -> dict[str, Any]:
    paging, rows = listing(call, "projects", "name")
    return {"paging": paging, "projects": [_project_card(call, row) for row in rows]}


def _project_card(call: Call, row: Row) -> dict[str, Any]:
    project = call.store.parsed(row)
    kinds = ("datasets", "models", "pipelines", "tasks", "executions")
    return {
        "id": row.id,
        "name": project["name"],
        "created": project.get("createdAt"),
        "counts": {kind: call.store.count(kind, **_in_project(kind, row.id)) for kind in kinds},
    }


def _in_project(kind: str, project_id: str) -> dict[str, Any]:
    if kind == "datasets":  # the system's own dataset, with artifacts, is not shown
        return {"projects": project_id, "readableType__ne": "system"}
    return {"projectId": project_id}


def project(call: Call) -> dict[str, Any]:
    row = call.store.row("projects", call.params["project_id"])
    shown: dict[str, Any] = {"project": call.store.parsed(row), "crumbs": []}
    for kind in ("datasets", "models", "pipelines", "tasks", "executions", "apps", "services"):
        inside = _in_project(kind, row.id)
        limit = 10 if kind == "executions" else LISTED
        shown[kind] = call.store.find_all(kind, order="-id", limit=limit, **inside)
        shown[f"{kind}_total"] = call.store.count(kind, **inside)
    shown["datasets"] = [one | _dataset_counts(call, one["id"]) for one in shown["datasets"]]
    return shown


def _dataset_counts(call: Call, dataset_id: str) -> dict[str, int]:
    return {
        "itemsCount": call.store.count("items", datasetId=dataset_id, **FILES),
        "annotationsCount": call.store.count("annotations", datasetId=dataset_id),
    }


# ----------------------------------------------------------------------------------------------------- datasets


def dataset(call: Call) -> dict[str, Any]:
    row = call.store.row("datasets", call.params["dataset_id"])
    shown = call.store.parsed(row)
    filters = {name: call.query.get(name, "").strip() for name in ("folder", "tag", "label", "name")}
    paging, rows = _items(call, row.id, filters)
    colours = label_colours(call, row.id)
    folders = call.store.find_all("items", datasetId=row.id, type="dir", hidden=False, limit=MAX_FOLDERS)
    cards = [card(call, one, colours) for one in rows]
    tags = {tag for one in cards for tag in one["tags"]} | {"train", "validation", "test"}
    return {
        "dataset": shown,
        "counts": _dataset_counts(call, row.id),
        "crumbs": project_crumbs(call, row.scope),
        "filters": filters,
        "filtered": any(filters.values()),
        "folders": ["/", *sorted(one["filename"] for one in folders)],
        "tags": sorted(tags),
        "labels": sorted(colours),
        "items": cards,
        "paging": paging,
    }


def _items(call: Call, dataset_id: str, filters: dict[str, str]) -> tuple[dict[str, Any], list[Row]]:
    """Return one page of items; filtered items are not counted, as that would read all of them."""
    if not any(filters.values()):
        paging, rows = listing(call, "items", "id", datasetId=dataset_id, **FILES)
        return paging, list(rows)
    number = page_number(call)
    if number > MAX_FILTERED:
        raise bad_request(f"'page' must be at most {MAX_FILTERED} with a filter, got {number}: filter more")
    plan = plan_for(call.store, "items", _items_query(filters), datasetId=dataset_id, **_narrowed(filters))
    begin = (number - 1) * PAGE
    found = list(islice(matching(call.store, plan), begin, begin + PAGE + 1))
    total = begin + len(found) if len(found) <= PAGE and (found or number == 1) else None
    paging = pages(call, number, begin + len(found))
    return paging | {"total": total, "last": None}, found[:PAGE]


def _narrowed(filters: dict[str, str]) -> dict[str, Any]:
    """Return conditions on columns: files only, the folder with its subfolders, a part of the path."""
    narrowed: dict[str, Any] = dict(FILES)
    if filters["folder"] not in ("", "/"):
        narrowed["dir__below"] = "/" + filters["folder"].strip("/")
    if filters["name"]:
        narrowed["filename__like"] = f"*{filters['name']}*"
    return narrowed


def _items_query(filters: dict[str, str]) -> dict[str, Any]:
    query: dict[str, Any] = {"filter": {}}
    if filters["tag"]:
        query["filter"] = {"metadata": {"system": {"tags": {filters["tag"]: True}}}}
    if filters["label"]:
        query["join"] = {
            "on": {"resource": "annotations", "local": "itemId", "forigen": "id"},
            "filter": {"$and": [{"label": filters["label"]}]},
        }
    return query


def card(call: Call, row: Row, colours: dict[str, str]) -> dict[str, Any]:
    item = call.store.parsed(row)
    found = call.store.find_all("annotations", itemId=row.id, limit=THUMBNAIL_SHAPES)
    drawn = picture(item, 150, found, colours)
    return {
        "id": row.id,
        "name": item["name"],
        "filename": item["filename"],
        "tags": tags_of(item),
        "labels": sorted({str(annotation.get("label")) for annotation in found}),
        "annotations": item.get("annotationsCount", 0),
        # Thumbnails of larger images would take too much memory.
        "picture": drawn if drawn and drawn["width"] * drawn["height"] <= MAX_PIXELS else None,
        "suffix": item["name"].rpartition(".")[2][:5] if "." in item["name"] else "file",
    }


# -------------------------------------------------------------------------------------------------------- items


def item(call: Call) -> dict[str, Any]:
    row = call.store.row("items", call.params["item_id"])
    shown = call.store.parsed(row)
    dataset_row = call.store.row("datasets", shown["datasetId"])
    colours = label_colours(call, dataset_row.id)
    found = call.store.find_all("annotations", itemId=row.id, limit=MAX_SHAPES)
    name = call.store.parsed(dataset_row)["name"]
    return {
        "item": shown,
        "crumbs": [*project_crumbs(call, dataset_row.scope), (name, f"/datasets/{dataset_row.id}")],
        "picture": picture(shown, 720, found, colours),
        "annotations": [_annotation(one, colours) for one in found],
        "annotations_total": call.store.count("annotations", itemId=row.id),
        "tags": tags_of(shown),
        "system": system_of(shown),
        "previous": _neighbour(call, row, order="-id", id__lt=row.id),
        "next": _neighbour(call, row, order="id", id__gt=row.id),
        "is_file": row.blob is not None,
    }


def _neighbour(call: Call, row: Row, **where: Any) -> str | None:
    found = call.store.first("items", datasetId=row.scope, **FILES, **where)
    return found.id if found else None


def _annotation(annotation: dict[str, Any], colours: dict[str, str]) -> dict[str, Any]:
    return {
        "id": annotation["id"],
        **{key: annotation.get(key) for key in ("type", "label", "creator", "description")},
        "colour": label_colour(annotation.get("label"), colours),
        "confidence": model_of(annotation).get("confidence"),
        "model": model_of(annotation).get("name"),
        "attributes": system_of(annotation).get("attributes") or annotation.get("attributes"),
        "status": system_of(annotation).get("status"),
        "drawn": drawing.shape(annotation) is not None,
        "messages": drawing.messages(annotation),
    }


def model_of(annotation: dict[str, Any]) -> dict[str, Any]:
    """Return the model that an annotation names; people's name none."""
    metadata = as_dict(annotation.get("metadata"))
    named = [as_dict(as_dict(metadata.get(part)).get("model")) for part in ("system", "user")]
    return next((each for each in named if each.get("model_id") or each.get("name")), {})


def _words(annotation: dict[str, Any]) -> str:
    """Return the label of a shape, and for a prediction a question mark and its confidence, as boxes.js does."""
    label, model = str(annotation.get("label")), model_of(annotation)
    confidence = model.get("confidence")
    sure = f" {confidence:.0%}" if _is_number(confidence) else ""
    return f"{label}?{sure}" if model else label


def picture(
    item: dict[str, Any], size: int, annotations: list[dict[str, Any]], colours: dict[str, str]
) -> dict[str, Any] | None:
    """Describe an image with shapes, shown about `size` pixels wide, or return None for other files."""
    system = system_of(item)
    width, height = system.get("width"), system.get("height")
    if guess_type(item["name"]) not in PICTURES or not _size(width) or not _size(height):
        return None
    if as_dict(system.get("exif")).get("Orientation") in LYING:
        width, height = height, width  # shown upright, which is how it is annotated
    shapes = []
    for annotation in annotations:
        if (drawn := drawing.shape(annotation)) is not None:
            label = str(annotation.get("label"))
            words = {"label": label, "words": _words(annotation), "predicted": bool(model_of(annotation))}
            shapes.append(drawn | words | {"id": annotation["id"], "colour": label_colour(label, colours)})
    return {
        "id": item["id"],
        "width": width,
        "height": height,
        # About how many image pixels are one screen pixel, so that texts and points keep their size.
        "unit": max(width / size, height / (size * 0.85)),
        "coarse": max(width, height) < size / 2,
        "shapes": shapes,
        "alt": _alternative(item, annotations),
    }


def _alternative(item: dict[str, Any], annotations: list[dict[str, Any]]) -> str:
    labels = [f"{one.get('label')} ({one.get('type')})" for one in annotations[:8]]
    if not labels:
        return f"{item['name']}, no annotations"
    more = f" and {len(annotations) - 8} more" if len(annotations) > 8 else ""
    return f"{item['name']}, annotated: {', '.join(labels)}{more}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _size(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1e6


def content(call: Call) -> dict[str, Any]:
    """Return the path of an item's bytes, and their type if a browser may show them."""
    found = locate(call)
    return found | {"mimetype": found["mimetype"] if found["mimetype"] in PICTURES else None}


def mask(call: Call) -> dict[str, Any]:
    annotation = call.store.get("annotations", call.params["annotation_id"])
    if annotation.get("type") != "binary" or drawing.mask_png(annotation) is None:
        raise not_found("mask of annotation", annotation["id"])
    return annotation


# ------------------------------------------------------------------------------------------------------- shared


def listing(call: Call, kind: str, order: str = "-id", **fields: Any) -> tuple[dict[str, Any], Iterator[Row]]:
    number = page_number(call)
    total = call.store.count(kind, **fields)
    rows = call.store.find(kind, order=order, limit=PAGE, offset=(number - 1) * PAGE, **fields)
    return pages(call, number, total), rows


def page_number(call: Call) -> int:
    text = call.query.get("page") or "1"
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) <= 10**9:
        raise bad_request(f"'page' must be a whole number from 1, got {text!r}")
    return int(text)


def pages(call: Call, number: int, total: int, size: int = PAGE) -> dict[str, Any]:
    """Describe the position of a page in a list, with the addresses of its neighbours."""
    last = max(1, -(-total // size))
    query = {name: value for name, value in call.query.items() if name != "page" and value}

    def address(page: int) -> str | None:
        # Past the end, the previous page is the last one.
        return "?" + urlencode(query | {"page": page}, errors="replace") if 1 <= page <= last else None

    return {
        "number": number,
        "last": last,
        "total": total,
        "previous": address(min(number - 1, last)),
        "next": address(number + 1),
    }


def project_crumbs(call: Call, project_id: str | None) -> list[Crumb]:
    return [(row["name"], f"/projects/{row['id']}") for row in call.store.find_all("projects", id=project_id)]


def name_of(call: Call, kind: str, document_id: Any) -> str | None:
    found = call.store.find_one(kind, id=document_id) if isinstance(document_id, str) else None
    return str(found.get("name") or found["id"]) if found else None


def label_colours(call: Call, dataset_id: str) -> dict[str, str]:
    """Return the colours of a dataset's labels; names of nested labels are joined by dots."""
    labels = recipes.labels_of(call.store, call.store.get("datasets", dataset_id), MAX_RECIPES)
    return {tag: drawing.colour(label.get("color"), recipes.colour_of(tag)) for tag, label in labels}


def label_colour(label: Any, colours: dict[str, str]) -> str:
    """Return the colour of a label, in the recipe or not."""
    return colours.get(str(label)) or recipes.colour_of(str(label))


def tags_of(item: dict[str, Any]) -> list[str]:
    return sorted(str(tag) for tag, value in as_dict(system_of(item).get("tags")).items() if value)


def system_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document's system metadata, or {} if it is not an object."""
    return as_dict(as_dict(document.get("metadata")).get("system"))


def pretty(value: Any, limit: int = 20_000) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}\n... and {len(text) - limit} characters more"


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
