"""The panel that shows a labelling queue in JupyterLab: image, suggestion, buttons with keys, and progress."""

from __future__ import annotations

import base64
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from alhelpers.dataloop.labelling import Box, Discard, LabellingTask, Picture, TaskError
from alhelpers.notebook.labelling_queue import LabellingQueue

#: Keys that are no class: undo, skip, discard.
ACTIONS = {"undo": "u", "skip": "s", "discard": "d"}
_HINT = "Click into the panel, then press the keys on the buttons."
_BOX_HINT = (
    "Drag to draw a box; drag a box to move it, and its sides to resize it. With Shift you draw inside another box;"
    " arrow keys move the selected one. A class is for the selected box, or else for the next one. Dashed boxes are"
    " suggestions; Enter saves all that you see."
)
_KEYS = "1234567890" + "".join(sorted(set(string.ascii_lowercase) - set(ACTIONS.values())))


def keys_of(class_names: Sequence[str]) -> list[str]:
    """Return a key for each class: its name if all are single characters, else 1 to 9, 0 and letters, else none."""
    if all(len(name) == 1 for name in class_names) and not set(class_names) & set(ACTIONS.values()):
        return list(class_names)
    return [*_KEYS[: len(class_names)], *[""] * (len(class_names) - len(_KEYS))]


_NO_IMAGE = "This item is not an image that can be read: discard it, or skip it."


class _Panel(anywidget.AnyWidget):
    """The panel in the browser. It sends what was pressed with the item that it showed then."""

    _esm = "\n".join(
        (Path(__file__).parents[1] / name).read_text(encoding="utf-8")
        for name in ("platform/page/boxes.js", "notebook/labelling_panel.js")
    )
    #: For each button what it does, its text and its key.
    buttons = traitlets.List().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    #: All that changes with an item, in one message: nobody labels an image by the key meant for the one before.
    state = traitlets.Dict().tag(sync=True)


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
    widget : anywidget.AnyWidget
        What to display.
    """

    def __init__(self, queue: LabellingQueue, task: LabellingTask) -> None:
        self._queue, self._task = queue, task
        self._presses, self._is_image = 0, False
        hint = _BOX_HINT if task.kind == "detection" else _HINT
        self.widget = _Panel(buttons=_buttons(task), hint=hint)
        self.widget.on_msg(self._pressed)
        self._show("")

    def _pressed(self, _: Any, content: dict[str, Any], __: Any) -> None:
        message, self._presses = "", self._presses + 1
        try:
            # Pressed twice, it was meant for the item before, and the current one is only shown.
            if content.get("item") == self._queue.current:
                message = self._do(content)
            self._show(message)
        except (TaskError, ValueError) as error:
            way_out = "Press again." if isinstance(error, TaskError) else "Nothing was saved."
            self.widget.state = self.widget.state | {
                "message": f"{error}. {way_out}",
                "presses": self._presses,
            }

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
        if action != "discard" and not self._is_image:
            return _NO_IMAGE
        if action == "save":
            answer = [Box(each["label"], *each["box"]) for each in pressed["boxes"]]
        else:
            answer = {"discard": Discard.DISCARD, "label": pressed.get("label")}[action]
        return "" if self._queue.answer(answer) else "The item was answered elsewhere; that answer is kept."

    def _show(self, message: str) -> None:
        """Show the current item."""
        item_id = self._queue.current
        picture, self._is_image = Picture("", b"", (1, 1), "", []), False
        if item_id is not None:
            try:
                picture, self._is_image = self._task.look(item_id), True
            except ValueError:
                message = _NO_IMAGE
        elif not message:
            message = "All done. Undo takes back the last answer."
        self.widget.state = {
            "item": item_id,
            "name": picture.name,
            "image": _data_url(picture.png),
            "size": picture.size,
            "boxes": [{"label": label, "box": sides, "suggested": True} for label, *sides in picture.boxes],
            "suggestion": picture.suggestion,
            "progress": f"{self._queue.done} of {self._queue.total}",
            "message": message,
            "presses": self._presses,
        }


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else ""


def _buttons(task: LabellingTask) -> list[dict[str, str | None]]:
    boxes = task.kind == "detection"
    answers = [
        {"do": "class" if boxes else "label", "text": name, "label": name, "key": key}
        | ({"colour": colour} if boxes else {})
        for (name, colour), key in zip(task.colours.items(), keys_of(task.class_names), strict=True)
    ]
    if boxes:
        answers += [
            {"do": "save", "text": "save boxes", "key": "Enter"},
            {"do": "delete", "text": "× box", "key": "Delete"},
        ]
    return [*answers, *({"do": name, "text": name, "key": key} for name, key in ACTIONS.items())]
