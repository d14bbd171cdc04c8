"""A labelling task of the platform: its open items, what a model suggests, and writing what a person answers."""

from __future__ import annotations

import enum
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import dtlpy as dl
from PIL import Image

from alhelpers.dataloop import truth
from alhelpers.dataloop.images import open_image
from alhelpers.dataloop.item_metadata import size_of
from alhelpers.dataloop.reading import (
    confidence_of,
    ground_truth_of,
    is_ground_truth,
    labels_of,
    pages,
    sides_of,
)

#: The type of annotation that each kind of task collects.
KINDS = {"classification": "class", "detection": "box"}

#: Side in pixels up to which small images are enlarged.
_SIDE = 320


class Discard(enum.Enum):
    """The answer that an item is of no use; it leaves the task without a label."""

    DISCARD = "discard"


class Box(NamedTuple):
    """A box in pixels of the image, from its left upper corner."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


Answer = str | Sequence[Box | Mapping[str, Any]] | Discard


class TaskError(RuntimeError):
    """The platform could not be reached, or refused to read or write an item of the task."""


@dataclass(frozen=True)
class Picture:
    """An item as a person sees it: a PNG, large enough, of an image of this size, and what a model says of it."""

    name: str
    png: bytes
    size: tuple[int, int]
    suggestion: str
    boxes: list[Box]


@dataclass(frozen=True)
class Receipt:
    """What an answer wrote, so that it can be taken back: its annotations, and those that were there before."""

    status: str
    written: frozenset[str]
    before: frozenset[str]


class LabellingTask:
    """Read and write the items of a task.

    Parameters
    ----------
    task : dtlpy.Task
        Whose items are labelled.
    kind : {"classification", "detection"}
        Whether an answer is a class, or boxes with a class each.
    annotator : str, optional
        Only the items that are assigned to this annotator; the default is all items.

    Raises
    ------
    ValueError
        If the kind or the annotator is unknown, or the dataset has no labels.
    """

    def __init__(self, task: dl.Task, kind: str = "classification", annotator: str | None = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}: it must be {' or '.join(KINDS)}")
        self.task, self.kind = task, kind
        self.dataset = dl.datasets.get(dataset_id=task.dataset_id)
        #: The classes with their colours, in the forms of CSS or None.
        self.colours = {label.tag: label.color for label in self.dataset.labels}
        self.class_names = list(self.colours)
        if not self.class_names:
            raise ValueError(
                f"dataset {self.dataset.name!r} has no labels to choose from: add them with dataset.add_labels(...)"
            )
        self._group = task if annotator is None else _assignment(task, annotator)
        self._place = {"task_id": task.id} if annotator is None else {"assignment_id": self._group.id}

    def items(self) -> list[dl.Item]:
        """Return the items, sorted by the names of their files."""
        return sorted(pages(self._group.get_items()), key=lambda item: (item.filename, item.id))

    def is_open(self, item: dl.Item) -> bool:
        """Return whether an item has no status, as :meth:`items` has read it."""
        return item.status(**self._place) is None

    def still_open(self, item_id: str) -> bool:
        """Read from the platform whether an item is there and nobody has answered it."""
        with _as_task_errors():
            try:
                return self.is_open(self.dataset.items.get(item_id=item_id))
            except dl.exceptions.NotFound:
                return False

    def write(self, item_id: str, answer: Answer) -> Receipt:
        """Add the annotations of an answer, then set the item's status; annotations of others are kept.

        Parameters
        ----------
        item_id : str
            The item.
        answer : str, sequence of Box, or Discard.DISCARD
            A class, boxes, or neither. A box may also be a dict of its fields, as :func:`write_labels` takes it.

        Returns
        -------
        Receipt
            What :meth:`erase` takes back.

        Raises
        ------
        ValueError
            If the answer is not one of the task's kind and classes, or a box has no area or is outside of the image;
            nothing is written then.
        TaskError
            If the platform does not take it.
        """
        given = self._checked(answer)
        status = "discard" if answer is Discard.DISCARD else "completed"
        written: list[str] = []
        with _as_task_errors():
            item = self.dataset.items.get(item_id=item_id)
            definitions = [_definition(each, item) for each in given]
            before = self._ground_truth(item_id)
            try:
                if definitions:
                    made = [dl.Annotation.new(item=item, annotation_definition=each) for each in definitions]
                    written = [annotation.id for annotation in item.annotations.upload(made)]
                item.update_status(status, **self._place)
            except (dl.exceptions.ExceptionMain, OSError):
                self._delete(written)  # or the next try would write them twice
                raise
        return Receipt(status, frozenset(written), before)

    def erase(self, item_id: str, receipt: Receipt) -> None:
        """Take an answer back; the item stays answered if another person has annotated it since."""
        with _as_task_errors(), suppress(dl.exceptions.NotFound):  # deleted elsewhere
            there = self._ground_truth(item_id)
            self._delete(receipt.written & there)
            if not there - receipt.written - receipt.before:
                item = self.dataset.items.get(item_id=item_id)
                item.update_status(receipt.status, clear=True, **self._place)

    def look(self, item_id: str) -> Picture:
        """Read an item's image and the predictions on it."""
        with _as_task_errors():
            item = self.dataset.items.get(item_id=item_id)
            source = item.download(save_locally=False)
            annotations = [each for each in item.annotations.list() if each.type == KINDS[self.kind]]
        image = open_image(source, item.filename, "RGB")
        scale = max(1, _SIDE // max(image.size))
        enlarged = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
        buffer = io.BytesIO()
        enlarged.save(buffer, "PNG")
        predictions = [each for each in annotations if not is_ground_truth(each)]
        boxes = [Box(each.label, **sides_of(each)) for each in predictions if each.type == "box"]
        said = _suggestion(predictions, kept=len(annotations) - len(predictions))
        return Picture(item.name, buffer.getvalue(), image.size, said, boxes)

    def _checked(self, answer: Answer) -> list[str | Box]:
        """Return the classes or boxes of an answer; refuse one that the task doesn't offer."""
        if answer is Discard.DISCARD:
            return []
        boxes = self.kind == "detection"
        if isinstance(answer, str) == boxes:
            expected = "a list of Box" if boxes else "a class"
            raise ValueError(f"the answer is {answer!r}: in a task of {self.kind} it must be {expected}")
        found: list[str | Box] = [_as_box(each) for each in answer] if boxes else [answer]
        for each in found:
            label = each if isinstance(each, str) else each.label
            if label not in self.class_names:
                raise ValueError(f"the label is {label!r}: it must be one of {', '.join(self.class_names)}")
        return found

    def _delete(self, annotation_ids: Iterable[str]) -> None:
        for annotation_id in annotation_ids:
            self.dataset.annotations.delete(annotation_id=annotation_id)

    def _ground_truth(self, item_id: str) -> frozenset[str]:
        found = ground_truth_of(self.dataset, [item_id], KINDS[self.kind])
        return frozenset(annotation.id for annotation in found)


def _as_box(given: Any) -> Box:
    """Return a box, or a dict of its fields as write_labels takes it, as a box."""
    if isinstance(given, Box):
        return given
    if not isinstance(given, Mapping) or not all(name in given for name in Box._fields):
        raise ValueError(
            f"a box of the answer is {given!r}: it must be a Box, or a dict with {', '.join(Box._fields)}"
        )
    return Box(**{name: given[name] for name in Box._fields})


def _definition(given: str | Box, item: dl.Item) -> Any:
    """Return the annotation of a class, or of a box that is checked as :func:`write_labels` checks it."""
    if isinstance(given, str):
        return dl.Classification(label=given)
    where = f"the box {given.label!r} of item {item.filename!r}"
    left, top, right, bottom = truth.checked_box(given[1:], size_of(item), where)
    return dl.Box(label=given.label, left=left, top=top, right=right, bottom=bottom)


def read_answers(task: dl.Task, kind: str = "classification") -> dict[str, list[Any]]:
    """Read what a task holds so far: the labels or boxes of each item that is answered and not discarded.

    Parameters
    ----------
    task : dtlpy.Task
        The task.
    kind : {"classification", "detection"}
        Whether to read classes or boxes.

    Returns
    -------
    dict of str to list
        By the item's id its classes, each once, or its boxes; more than one class if people disagree.

    Raises
    ------
    ValueError
        If the kind is unknown, or the answers are boxes and classes are read.
    """
    labelling = LabellingTask(task, kind)
    statuses = {item.id: item.status(task_id=task.id) for item in labelling.items()}
    done = [item_id for item_id, status in statuses.items() if status not in (None, "discard")]
    if kind == "classification":
        classes = labels_of(labelling.dataset, done)
        if not classes and any(True for _ in ground_truth_of(labelling.dataset, done, "box")):
            raise ValueError(
                f"the answers of task {task.name!r} are boxes, not classes: pass kind='detection'"
            )
        return classes
    answers: dict[str, list[Any]] = {item_id: [] for item_id in done}
    for annotation in ground_truth_of(labelling.dataset, done, "box"):
        answers[annotation.item_id].append(Box(annotation.label, **sides_of(annotation)))
    return answers


def _assignment(task: dl.Task, annotator: str) -> dl.Assignment:
    assignments = {each.annotator: each for each in task.assignments.list()}
    if annotator not in assignments:
        raise ValueError(
            f"annotator {annotator!r} has no items in task {task.name!r}: it must be one of {', '.join(assignments)}"
        )
    return assignments[annotator]


def _suggestion(predictions: Sequence[dl.Annotation], kept: int) -> str:
    """Say what the model predicts, and how many labels of people are there."""
    there = f"{kept} label{'s' * (kept > 1)} of people {'are' if kept > 1 else 'is'} there already and kept"
    return "; ".join([*filter(None, [_predicted(predictions)]), *([there] if kept else [])])


def _predicted(predictions: Sequence[dl.Annotation]) -> str:
    """Say the most confident class, or how many boxes."""
    if not predictions:
        return ""
    if predictions[0].type == "box":
        count = len(predictions)
        return f"the model suggests {count} box{'es' * (count > 1)}"
    best = max(predictions, key=lambda each: confidence_of(each.metadata) or 0)
    confidence = confidence_of(best.metadata)
    return f"the model suggests {best.label}" + ("" if confidence is None else f" ({confidence:.0%})")


@contextmanager
def _as_task_errors() -> Iterator[None]:
    try:
        yield
    except (dl.exceptions.ExceptionMain, OSError) as error:
        raise TaskError(f"the platform did not do it: {getattr(error, 'message', error)}") from error
