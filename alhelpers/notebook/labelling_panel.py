"""The panel that shows a labelling queue in JupyterLab: image, suggestion, buttons with keys, and progress."""

from __future__ import annotations

import base64
import string
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from alhelpers.dataloop.labelling import Box, Discard, LabellingTask, Picture, TaskError
from alhelpers.notebook.labelling_queue import LabellingQueue

#: Keys that are no class: undo, skip, discard.
ACTIONS = {"undo": "u", "skip": "s", "discard": "d"}
_HINT = "Click into the panel, then press the keys on the buttons."
_BOX_HINT = (
    "Draw a box with the mouse; drag it to move it, × deletes it. Digits choose the class of the next one; a click on"
    " a box's class sets it to the chosen one. Enter saves."
)
_KEYS = "1234567890" + "".join(sorted(set(string.ascii_lowercase) - set(ACTIONS.values())))


def keys_of(class_names: Sequence[str]) -> list[str]:
    """Return a key for each class: its name if all are single characters, else 1 to 9, 0 and letters, else none."""
    if all(len(name) == 1 for name in class_names) and not set(class_names) & set(ACTIONS.values()):
        return list(class_names)
    return [*_KEYS[: len(class_names)], *[""] * (len(class_names) - len(_KEYS))]


class _Buttons(anywidget.AnyWidget):
    """The panel in the browser. It sends what was pressed with the item that it showed then."""

    _esm = Path(__file__).with_name("labelling_panel.js")
    #: For each button what it does, its text and its key.
    buttons = traitlets.List().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    #: All that changes with an item, in one message: nobody labels an image by the key meant for the one before.
    state = traitlets.Dict().tag(sync=True)
    #: The widget of the boxes. What it shows travels with the key: its own messages wait for the kernel.
    boxes = traitlets.Any(allow_none=True).tag(sync=True, **ipywidgets.widget_serialization)


class LabellingPanel:
    """Show a queue, and answer its items by button or key.

    Parameters
    ----------
    queue : LabellingQueue
        What is to be labelled.
    task : LabellingTask
        Where images and suggestions are read.

    Attributes
    ----------
    widget : ipywidgets.DOMWidget
        What to display.
    """

    def __init__(self, queue: LabellingQueue, task: LabellingTask) -> None:
        self._queue, self._task = queue, task
        self._scale = 1
        self._boxes = _box_widget(task.class_names) if task.kind == "detection" else None
        self._panel = _Buttons(
            buttons=_buttons(task), hint=_HINT if self._boxes is None else _BOX_HINT, boxes=self._boxes
        )
        self._panel.on_msg(self._pressed)
        self.widget = ipywidgets.VBox([self._panel] if self._boxes is None else [self._panel, self._boxes])
        self.widget.add_class("alhelpers-labelling")
        self._show("")

    def _pressed(self, _: Any, content: dict[str, Any], __: Any) -> None:
        message = ""
        try:
            # Pressed twice, it was meant for the item before, and the current one is only shown.
            if content.get("item") == self._queue.current:
                message = self._do(content)
            self._show(message)
        except TaskError as error:
            self._panel.state = self._panel.state | {"message": f"{error}. Press again."}

    def _do(self, pressed: dict[str, Any]) -> str:
        """Do what a button says; return a message if it went otherwise than expected."""
        action = pressed["do"]
        if action == "undo":
            return "" if self._queue.undo() else "There is nothing to undo."
        if self._queue.current is None:
            return ""
        if action == "skip":
            self._queue.skip()
            return "" if self._queue.waiting > 1 else "Only skipped items are left."
        if action == "save":
            answer = self._in_pixels(pressed["boxes"])
        else:
            answer = {"discard": Discard.DISCARD, "label": pressed.get("label")}[action]
        return "" if self._queue.answer(answer) else "The item was answered elsewhere; that answer is kept."

    def _show(self, message: str) -> None:
        """Show the current item."""
        item_id = self._queue.current
        picture = None
        if item_id is not None:
            try:
                picture = self._task.look(item_id)
            except ValueError as error:  # not an image: it can be discarded
                picture, message = Picture("", b"", 1, "", []), str(error)
        elif not message:
            message = "All done. Undo takes back the last answer."
        image = _data_url(picture.png) if picture else ""
        if self._boxes is not None:
            self._show_boxes(picture, image)
            image = ""
        self._panel.state = {
            "item": item_id,
            "name": picture.name if picture else "",
            "image": image,
            "suggestion": picture.suggestion if picture else "",
            "progress": f"{self._queue.done} of {self._queue.total}",
            "message": message,
        }

    # ------------------------------------------------------------------------------ boxes

    def _show_boxes(self, picture: Picture | None, image: str) -> None:
        """Show the image with the boxes that the model suggests, to be moved, deleted and added to."""
        self._boxes.layout.display = "none" if picture is None else None
        if picture is None:
            return
        self._scale = picture.scale
        self._boxes.bboxes = []
        # Given as bytes, the widget may withdraw the image's address while the browser still loads it.
        self._boxes.image_url = image
        self._boxes.bboxes = [
            {
                "x": box.left * picture.scale,
                "y": box.top * picture.scale,
                "width": (box.right - box.left) * picture.scale,
                "height": (box.bottom - box.top) * picture.scale,
                "label": box.label,
            }
            for box in picture.boxes
        ]

    def _in_pixels(self, shown: list[dict[str, Any]]) -> list[Box]:
        """Return the boxes in pixels of the image; those without an area are slips of the mouse."""
        boxes = []
        for drawn in shown:
            x, y, width, height = (drawn[side] / self._scale for side in ("x", "y", "width", "height"))
            if width > 0 and height > 0:
                boxes.append(Box(drawn["label"], x, y, x + width, y + height))
        return boxes


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else ""


def _buttons(task: LabellingTask) -> list[dict[str, str]]:
    if task.kind == "detection":  # the widget of the boxes has buttons and keys for the classes
        answers = [{"do": "save", "text": "save boxes", "key": "Enter"}]
    else:
        answers = [
            {"do": "label", "text": name, "label": name, "key": key}
            for name, key in zip(task.class_names, keys_of(task.class_names), strict=True)
        ]
    return [*answers, *({"do": name, "text": name, "key": key} for name, key in ACTIONS.items())]


def _box_widget(class_names: Sequence[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its traits are declared in an old way
        from jupyter_bbox_widget import BBoxWidget

    return BBoxWidget(classes=list(class_names), hide_buttons=True)
