"""An item in a task as it is labelled: what the page shows of it, what is saved, and how that is undone.

Annotations and statuses change through the functions of the API's routes, so events, triggers and pipelines follow as
they do after the SDK. A save and an undo name the state that they were based on, and are refused if it has changed.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from ..api import Call
from ..errors import ApiError, bad_request, not_found
from ..services.annotations import routes as annotations
from ..services.items import models as items
from ..services.recipes import models as recipes
from ..services.tasks import counters, members, statuses
from ..store import Document
from ..validation import strict_json
from . import drawing, labelling, views

DISCARD = "discard"
# Keys of labels; the page's commands have others: a, b, d, s and u.
KEYS = "1234567890cefghijklmnopqrtvwxyz"
NAMED = 30  # labels in a message


@dataclass(frozen=True)
class Work:
    """An item in a task, its place there, and who labels it; `call` is that person's."""

    call: Call
    task: Document
    item: Document
    place: members.Member
    shared: bool
    groups: list[str]
    found: dict[str, Document]
    seen: str

    @classmethod
    def of(cls, call: Call) -> "Work":
        task = call.store.get("tasks", call.params["task_id"])
        item = call.store.get("items", call.params["item_id"])
        wanted = _given(call).get("assignment") or None
        places = members.of_item(call.store, item["id"], task["id"])
        mine = [place for place in places if wanted in (None, place["assignmentId"])]
        if not mine:
            where = f"assignment {wanted}" if wanted else f"task {task['name']!r}"
            raise not_found(f"item in {where}", item["id"])
        place = next((each for each in mine if not each["status"]), mine[0])
        assignment = call.store.find_one("assignments", id=place["assignmentId"] or "")
        person = assignment["annotator"] if assignment else call.user
        rows = list(call.store.find("annotations", itemId=item["id"]))
        state = [row.doc for row in rows] + [str(each["status"]) for each in places]
        return cls(
            call=replace(call, user=person),
            task=task,
            item=item,
            place=place,
            shared=len(places) > 1,
            groups=[wanted] if wanted else _groups(call, task["id"]),
            found={row.id: json.loads(row.doc) for row in rows},
            seen=hashlib.sha256(json.dumps(state).encode()).hexdigest(),
        )

    @property
    def address(self) -> str:
        return f"/tasks/{self.task['id']}/items/{self.item['id']}{_query(self.call)}"

    @property
    def finished(self) -> bool:
        return self.task["status"] == counters.COMPLETED

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the task's recipe, with their colours."""
        system = {"recipes": [self.task["recipeId"]] if self.task.get("recipeId") else []}
        found = recipes.labels_of(self.call.store, {"metadata": {"system": system}}, views.MAX_RECIPES)
        return {tag: drawing.colour(label.get("color"), recipes.colour_of(tag)) for tag, label in found}

    def suggestions(self, kind: str) -> list[Document]:
        """List what models suggest, the most confident first."""
        found = [each for each in self.found.values() if each["type"] == kind and _is_suggestion(each)]
        return sorted(found, key=lambda each: -_confidence(each))

    def suggested_shapes(self) -> list[Document]:
        """List the boxes and masks that models suggest."""
        boxes = [box for box in self.boxes().values() if _is_suggestion(box)]
        return [*boxes, *self.suggestions("binary")]

    def own(self, kind: str) -> list[Document]:
        """List the annotations that this person may change: where several label an item, only their own."""
        return [
            each
            for each in self.found.values()
            if each["type"] == kind
            and not _is_suggestion(each)
            and (not self.shared or each["creator"] == self.call.user)
        ]

    def boxes(self) -> dict[str, Document]:
        """Return the boxes that can be changed, by id; a turned one, or one that cannot be drawn, stays as it is."""
        found = {each["id"]: each for each in (*self.own("box"), *self.suggestions("box"))}
        shapes = {each: drawing.shape(box) for each, box in found.items()}
        return {each: box for each, box in found.items() if (shapes[each] or {"turn": True})["turn"] is None}

    def next_place(self) -> Document | None:
        """Return the next open place of the task, after this one or from the beginning."""
        for after in ({"id__gt": self.place["id"]}, {"id__lt": self.place["id"]}):
            row = self.call.store.first("task_items", group=self.groups, status__missing=True, **after)
            if row is not None:
                return self.call.store.parsed(row)
        return None

    def next_address(self) -> str:
        return _address(self.call, self.task["id"], self.next_place())

    def add(self, kind: str, label: str, **fields: Any) -> None:
        body = {"type": kind, "label": label, "source": "ui", "creator": self.call.user}
        annotations.create(replace(self.call, body=body | fields), self.item)

    def change(self, annotation: Document, **fields: Any) -> None:
        if any(annotation.get(name) != value for name, value in fields.items()):
            annotations.update(replace(self.call, params={"annotation_id": annotation["id"]}, body=fields))

    def remove(self, found: Iterable[Document]) -> None:
        for each in found:
            annotations.delete(replace(self.call, params={"annotation_id": each["id"]}))


# ------------------------------------------------------------------------------------------------------- showing


def start(call: Call) -> dict[str, Any]:
    """Return the address of the first open item of a task, or of the task if there is none."""
    task = call.store.row("tasks", call.params["task_id"])
    wanted = call.query.get("assignment")
    groups = [wanted] if wanted else _groups(call, task.id)
    row = call.store.first("task_items", group=groups, status__missing=True)
    return {"next": _address(call, task.id, call.store.parsed(row) if row else None)}


def show(call: Call) -> dict[str, Any]:
    work = Work.of(call)
    task, item, labels, place = work.task, work.item, work.labels, work.next_place()
    shown = list(work.found.values())[: views.MAX_SHAPES]
    boxes = work.boxes()
    chosen = {each["label"] for each in work.own("class")}
    picture = views.picture(item, 900, shown, labels)
    following = call.store.find_one("items", id=place["itemId"]) if place else None
    return {
        "task": task,
        "item": item,
        "crumbs": [*views.project_crumbs(call, task["projectId"]), (task["name"], f"/tasks/{task['id']}")],
        "picture": picture,
        "labels": [one | {"chosen": one["label"] in chosen} for one in _with_keys(labels)],
        "others": sorted(chosen - set(labels)),
        "suggested": [_described(each) for each in work.suggestions("class")],
        "boxes": [_box(each, labels) for each in boxes.values()],
        "masks": [_described(each) for each in work.suggestions("binary")],
        "actions": labelling.actions_of(task),
        "first": _first_action(task),
        "status": work.place["status"],
        "finished": work.finished,
        "annotator": work.call.user,
        "assignment": call.query.get("assignment", ""),
        "seen": work.seen,
        "tool": _given(call).get("tool") or ("boxes" if boxes else ""),
        "next": work.next_address(),
        "next_picture": f"/items/{following['id']}/content" if following else None,
    }


def _with_keys(labels: dict[str, str]) -> list[dict[str, str]]:
    """Give each label a key while there are any; a label of one letter or digit has its own."""
    free = [key for key in KEYS if key not in labels]
    return [
        {"label": tag, "colour": colour, "key": tag if tag in set(KEYS) else free.pop(0) if free else ""}
        for tag, colour in labels.items()
    ]


def _box(annotation: Document, labels: dict[str, str]) -> dict[str, Any]:
    colour = views.label_colour(annotation["label"], labels)
    return _described(annotation) | {"id": annotation["id"], "box": _sides(annotation), "colour": colour}


def _sides(box: Document) -> list[float]:
    """Return the left, top, right and bottom of a box that can be drawn."""
    shape = drawing.shape(box) or {}
    return [shape["x"], shape["y"], shape["x"] + shape["width"], shape["y"] + shape["height"]]


def _described(annotation: Document) -> dict[str, Any]:
    model = views.model_of(annotation)
    confidence = _confidence(annotation) if _is_suggestion(annotation) else None
    return {"label": annotation["label"], "model": model.get("name"), "confidence": confidence} | {
        "suggested": _is_suggestion(annotation)
    }


def _is_suggestion(annotation: Document) -> bool:
    return bool(views.model_of(annotation))


def _confidence(annotation: Document) -> float:
    value = views.model_of(annotation).get("confidence")
    return float(value) if isinstance(value, int | float) else 0.0


# -------------------------------------------------------------------------------------------------------- saving


def save(call: Call) -> dict[str, Any]:
    """Save the label, the boxes and the status of a form; return the next address, and what `undo` needs.

    ``status`` is one of the task (by default its first), or empty to clear it; ``label`` is the class of the image,
    and ``accept`` takes what the models suggest. ``boxes`` is JSON: ``{"changed": [{"id", "label", "box"}], "deleted":
    [id]}``, where a new box has no id. With a status other than 'discard', suggestions that were not taken are deleted.
    """
    work, form = Work.of(call), _given(call)
    _check_seen(work, form.get("seen"))
    status = form.get("status", _first_action(work.task)) or None
    if work.finished and status:
        raise bad_request(
            f"task {work.task['name']!r} is finished: clear the status of an item to label it again"
        )
    _save_boxes(work, form.get("boxes") or "{}")
    left = _of_item(work)
    if form.get("accept"):
        _accept(left)
    if form.get("label"):
        _label_image(left, form["label"])
    if status not in (None, DISCARD):
        _drop_suggestions(_of_item(work))
    where = {"assignment_id": work.place["assignmentId"]}
    statuses.change(call.store, work.task, [work.item["id"]], status, work.call.user, **where)
    return {"next": work.next_address() if status else work.address, "undo": _undo_of(work)}


def _check_seen(work: Work, seen: str | None) -> None:
    if seen != work.seen:
        name = work.item["name"]
        raise ApiError(
            409, f"{name!r} was changed elsewhere meanwhile, so nothing was changed here: load it again"
        )


def _of_item(work: Work) -> Work:
    """Read the item again, after a change."""
    return Work.of(work.call)


def _save_boxes(work: Work, text: str) -> None:
    try:
        given = strict_json(text)
        changed = [(each.get("id"), each["label"], each["box"]) for each in given.get("changed", [])]
        deleted = [*given.get("deleted", [])]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise bad_request(f"'boxes' must be JSON of changed and deleted boxes, got {text[:80]!r}") from error
    known = work.boxes()
    work.remove(_known_box(work, known, each) for each in deleted)
    for box_id, label, box in changed:
        before = None if box_id is None else _known_box(work, known, box_id)
        if before is None or label != before["label"]:
            _check_label(work, label)
        # A model's box may reach out of the image; only a place that is new is checked.
        same = before is not None and box == _sides(before)
        corners = before["coordinates"] if same else _corners(work, box)
        if before is not None and not _is_suggestion(before):
            work.change(before, label=label, coordinates=corners)
            continue
        work.add("box", label, coordinates=corners, **_kept(before))
        if before is not None:
            work.remove([before])


def _known_box(work: Work, known: dict[str, Document], box_id: Any) -> Document:
    if not isinstance(box_id, str) or box_id not in known:
        raise bad_request(f"item {work.item['name']!r} has no box {box_id!r} that can be changed here")
    return known[box_id]


def _check_label(work: Work, label: Any) -> None:
    labels = list(work.labels)
    if label not in labels:
        some = ", ".join(map(repr, labels[:NAMED])) or "none"
        more = ", ..." if len(labels) > NAMED else ""
        raise bad_request(f"label {label!r} is not in the recipe of task {work.task['name']!r}: {some}{more}")


def _corners(work: Work, box: Any) -> list[dict[str, float]]:
    """Return the coordinates of a new box in the image."""
    picture = views.picture(work.item, 900, [], {})
    if picture is None:
        raise bad_request(f"a box needs an image of known size, and {work.item['name']!r} is none")
    width, height = picture["width"], picture["height"]
    if not isinstance(box, list) or [type(each) in (int, float) for each in box] != [True] * 4:
        raise bad_request(f"a box must be [left, top, right, bottom], got {box!r}")
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise bad_request(
            f"box {box} must lie in the image of {width} x {height} pixels, with left < right and top < bottom"
        )
    return [{"x": left, "y": top, "z": 0}, {"x": right, "y": bottom, "z": 0}]


def _kept(suggestion: Document | None) -> Document:
    """Return what an accepted suggestion keeps beside its label and its place."""
    return {name: (suggestion or {}).get(name) for name in ("attributes", "description")}


def _accept(work: Work) -> None:
    classes, shapes = work.suggestions("class"), work.suggested_shapes()
    if not classes and not shapes:
        raise bad_request(f"no model suggests anything on item {work.item['name']!r}")
    for each in shapes:
        work.add(each["type"], each["label"], coordinates=each["coordinates"], **_kept(each))
    if classes:
        _set_class(work, classes[0]["label"], **_kept(classes[0]))
    work.remove(shapes)


def _label_image(work: Work, label: str) -> None:
    if label not in [each["label"] for each in work.own("class")]:
        _check_label(work, label)
    _set_class(work, label)


def _set_class(work: Work, label: str, **fields: Any) -> None:
    """Make a label the only class that this person has put on the image."""
    own = work.own("class")
    kept = next((each for each in own if each["label"] == label), own[0] if own else None)
    if kept is None:
        work.add("class", label, **fields)
    else:
        work.change(kept, label=label)
    work.remove(each for each in own if each is not kept)


def _drop_suggestions(work: Work) -> None:
    left = [*work.suggestions("class"), *work.suggested_shapes()]
    if left and not any(map(work.own, ("class", "box", "binary"))):
        raise bad_request(
            f"item {work.item['name']!r} has no label yet, and {len(left)} suggestion{'s' * (len(left) > 1)} of a"
            " model: accept or delete what it suggests, choose another label, or discard the item"
        )
    work.remove(left)


# ------------------------------------------------------------------------------------------------------- undoing


def _undo_of(work: Work) -> dict[str, Any]:
    """Describe how to bring back an item as it was in `work`: the annotations that changed, and the status."""
    after = _of_item(work)
    return {
        "task": work.task["id"],
        "item": work.item["id"],
        "assignment": work.place["assignmentId"],
        "status": work.place["status"],
        "put": [each for each in work.found.values() if after.found.get(each["id"]) != each],
        "remove": [each for each in after.found if each not in work.found],
        "seen": after.seen,
        "address": work.address,
    }


def undo(call: Call) -> dict[str, Any]:
    """Bring an item back to where it was before a save, whose `undo` is the call's body; return its address."""
    done = call.body
    place = {"task_id": done["task"], "item_id": done["item"]}
    work = Work.of(replace(call, params=place, body={"assignment": done["assignment"]}))
    _check_seen(work, done["seen"])
    work.remove(work.found[each] for each in done["remove"])
    call.store.put_all("annotations", done["put"])
    items.count_annotations(call.store, {work.item["id"]})
    for each in done["put"]:
        action = "Updated" if each["id"] in work.found else "Created"
        about = {"item": each["itemId"], "dataset": each["datasetId"]}
        call.store.emit("Annotation", action, each["id"], **about)
    where = {"assignment_id": done["assignment"]}
    statuses.change(call.store, work.task, [work.item["id"]], done["status"], work.call.user, **where)
    return {"next": done["address"]}


# -------------------------------------------------------------------------------------------------------- shared


def _given(call: Call) -> dict[str, str]:
    """Return the fields of a form, or of the query string of a page."""
    return dict(call.query) if call.body is None else call.body


def _groups(call: Call, task_id: str) -> list[str]:
    return [task_id, *(row.id for row in call.store.find("assignments", taskId=task_id))]


def _first_action(task: Document) -> str:
    """Return the status of an item that is done."""
    actions = [one["action"] for one in labelling.actions_of(task)]
    return next((action for action in actions if action != DISCARD), counters.COMPLETED)


def _query(call: Call) -> str:
    """Return the query string that goes with the labeller from item to item."""
    given = _given(call)
    kept = {name: given[name] for name in ("assignment", "tool") if given.get(name)}
    return "?" + urlencode(kept, errors="replace") if kept else ""


def _address(call: Call, task_id: str, place: Document | None) -> str:
    return f"/tasks/{task_id}/items/{place['itemId']}{_query(call)}" if place else f"/tasks/{task_id}"
