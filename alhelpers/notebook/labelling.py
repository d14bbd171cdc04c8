"""Label the items of a task by hand in JupyterLab, or by an oracle where nobody is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from alhelpers.notebook.labelling_queue import LabellingQueue

if TYPE_CHECKING:
    from alhelpers.dataloop.labelling import Answer


def label_task(
    task: Any,
    *,
    kind: str = "classification",
    annotator: str | None = None,
    oracle: Callable[[Any], Answer | None] | None = None,
) -> LabellingQueue:
    """Label the open items of a task of the platform: in a panel, or by a function.

    Each answer is written to the task at once, as an annotation of the user who is logged in and the item's status
    ``completed`` or ``discard``; predictions on the item are kept. Calling the function again continues with the
    items that are still open, also after the browser or the kernel was closed.

    Parameters
    ----------
    task : dtlpy.Task
        Whose items are labelled, in the order of their names.
    kind : {"classification", "detection"}
        Whether an answer is a class, or boxes with a class each. The classes are the labels of the dataset.
    annotator : str, optional
        Only the items that are assigned to this annotator, so that several people share a task; the default is all.
    oracle : callable, optional
        Takes a ``dtlpy.Item`` and returns its class, its boxes (``Box`` of ``alhelpers.dataloop.labelling``:
        a label and the left, top, right and bottom side in pixels; or dicts of these, as ``write_labels`` takes them),
        ``Discard.DISCARD``, or None to skip it. No panel is shown: all open items are labelled before the function
        returns. The default shows the panel and returns at once.

    Returns
    -------
    LabellingQueue
        How far the labelling is: ``done`` of ``total``.

    Raises
    ------
    ValueError
        If the kind or the annotator is unknown, the dataset has no labels, or the oracle's answer is not one of them
        or a box that is outside of its image.
    ModuleNotFoundError
        If the packages of the panel are missing: ``pip install 'alhelpers[notebooks]'``.
    """
    # Importing the SDK before connect() would make it read the user's own settings.
    from alhelpers.dataloop.labelling import LabellingTask

    store = LabellingTask(task, kind, annotator)
    items = store.items()
    waiting = {item.id: item for item in items if store.is_open(item)}
    queue = LabellingQueue(store, waiting, len(items))
    if oracle is None:
        _show_panel(queue, store)
        return queue
    for _ in range(queue.waiting):
        if queue.current is None:  # others were faster
            break
        answer = oracle(waiting[queue.current])
        if answer is None:
            queue.skip()
        else:
            queue.answer(answer)
    return queue


def _show_panel(queue: LabellingQueue, store: Any) -> None:
    from IPython.display import display

    try:
        from alhelpers.notebook.labelling_panel import LabellingPanel
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the labelling panel needs {error.name}: install it with pip install 'alhelpers[notebooks]',"
            " or pass oracle=...",
            name=error.name,
        ) from error
    display(LabellingPanel(queue, store).widget)
